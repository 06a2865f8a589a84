package chdb

import "strings"

// insertHead is an INSERT that carries data: the statement without FORMAT or
// VALUES, the format, and what of the data stands in the same text.
type insertHead struct {
	text, format, inline string
}

// isInsert tells an INSERT by its first word.
func isInsert(query string) bool {
	l := lexer{text: query}
	t, ok, err := l.next()
	return err == nil && ok && t.is("INSERT")
}

// splitInsert finds where an INSERT's data begin. ok is false where it has none:
// INSERT … SELECT. The lexer stops at the data, which may be any bytes.
func splitInsert(query string) (head insertHead, ok bool) {
	l := lexer{text: query}
	depth := 0
	for {
		t, more, err := l.next()
		if err != nil {
			return head, false
		}
		if !more {
			// No FORMAT and no VALUES: ClickHouse reads Values.
			return insertHead{text: query, format: "Values"}, true
		}
		switch {
		case t.punct("("):
			depth++
		case t.punct(")"):
			depth--
		case depth > 0:
		case t.is("SELECT", "WITH", "WATCH"):
			return head, false
		case t.is("VALUES"):
			return insertHead{query[:t.start], "Values", query[t.end:]}, true
		case t.is("FORMAT"):
			name, more, err := l.next()
			if err != nil || !more || !name.name() {
				return head, false
			}
			inline := query[name.end:]
			// The data begin after one line break, or after spaces where there is none.
			trimmed := strings.TrimLeft(inline, " \t\r")
			inline = strings.TrimPrefix(trimmed, "\n")
			return insertHead{query[:t.start], name.text, strings.TrimPrefix(inline, ";")}, true
		}
	}
}
