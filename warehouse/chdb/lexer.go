package chdb

import (
	"fmt"
	"strings"
)

// tokenKind is what a token of ClickHouse's SQL is to the guard.
type tokenKind uint8

const (
	word   tokenKind = iota // a bare word or number: letters, digits, underscores
	quoted                  // an identifier in "…" or `…`; text is its inside
	str                     // a string literal; text is as written, quotes and all
	punct                   // any other single character
)

type token struct {
	kind       tokenKind
	text       string
	start, end int // bytes of the query
}

// is compares a bare word without regard to case.
func (t token) is(words ...string) bool {
	if t.kind != word {
		return false
	}
	for _, w := range words {
		if strings.EqualFold(t.text, w) {
			return true
		}
	}
	return false
}

// name is true for what may name a thing: a bare word or a quoted identifier.
func (t token) name() bool { return t.kind == word || t.kind == quoted }

func (t token) punct(c string) bool { return t.kind == punct && t.text == c }

// lexer splits a statement as ClickHouse's own lexer does, and refuses what only
// that could be trusted to read: characters outside ASCII, heredocs and hash
// comments outside quotes, and escapes within identifiers. Comments and white
// space fall away.
type lexer struct {
	text string
	at   int
}

// next gives the next token; ok is false at the end.
func (l *lexer) next() (t token, ok bool, err error) {
	for l.at < len(l.text) {
		c := l.text[l.at]
		start := l.at
		switch {
		case isSpace(c):
			l.at++
			continue
		case isWordByte(c):
			for l.at < len(l.text) && isWordByte(l.text[l.at]) {
				l.at++
			}
			return token{word, l.text[start:l.at], start, l.at}, true, nil
		case c == '\'' || c == '"' || c == '`':
			end, err := quotedEnd(l.text, start)
			if err != nil {
				return token{}, false, err
			}
			l.at = end
			if c == '\'' {
				return token{str, l.text[start:end], start, end}, true, nil
			}
			inside := l.text[start+1 : end-1]
			if strings.IndexByte(inside, '\\') >= 0 {
				return token{}, false, refuse("an identifier with a backslash")
			}
			inside = strings.ReplaceAll(inside, string([]byte{c, c}), string(c))
			return token{quoted, inside, start, end}, true, nil
		case c == '-' && strings.HasPrefix(l.text[start:], "--"):
			nl := strings.IndexByte(l.text[start:], '\n')
			if nl < 0 {
				l.at = len(l.text)
				continue
			}
			l.at += nl + 1
			continue
		case c == '/' && strings.HasPrefix(l.text[start:], "/*"):
			end := strings.Index(l.text[start+2:], "*/")
			if end < 0 {
				return token{}, false, refuse("a comment without an end")
			}
			l.at += end + 4
			continue
		case c >= 0x80:
			return token{}, false, refuse("a character outside ASCII that is not within quotes")
		case c == '$':
			return token{}, false, refuse("a dollar sign that is not within quotes")
		case c == '#':
			return token{}, false, refuse("a hash sign that is not within quotes")
		case c < 0x20 || c == 0x7f:
			return token{}, false, refuse("a control character")
		}
		l.at++
		return token{punct, l.text[start:l.at], start, l.at}, true, nil
	}
	return token{}, false, nil
}

// tokenize reads a whole statement.
func tokenize(text string) ([]token, error) {
	l := lexer{text: text}
	var tokens []token
	for {
		t, ok, err := l.next()
		if err != nil || !ok {
			return tokens, err
		}
		tokens = append(tokens, t)
	}
}

func isSpace(c byte) bool {
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v'
}

func isWordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}

// quotedEnd finds the end of what begins with a quote at i: the quote that is
// neither doubled nor behind a backslash.
func quotedEnd(query string, i int) (int, error) {
	quote := query[i]
	for i++; i < len(query); i++ {
		switch query[i] {
		case '\\':
			i++
		case quote:
			if i+1 < len(query) && query[i+1] == quote {
				i++
				continue
			}
			return i + 1, nil
		}
	}
	return 0, refuse("a quote without an end")
}

// accessDenied is ClickHouse's code for it.
const accessDenied = 497

// refuse is the error for what the outside may not do.
func refuse(format string, args ...any) *Exception {
	return &Exception{
		Code:    accessDenied,
		Message: "Sojourn's ClickHouse port only reads: " + fmt.Sprintf(format, args...) + " is refused. (ACCESS_DENIED)",
	}
}
