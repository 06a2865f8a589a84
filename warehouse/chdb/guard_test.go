package chdb

import (
	"os"
	"strings"
	"testing"
)

var testDatabases = map[string]bool{"sojourn": true, "system": true, "information_schema": true, "INFORMATION_SCHEMA": true}

func TestTokens(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"SELECT 1", "w:SELECT w:1"},
		{"a.b(c)", "w:a p:. w:b p:( w:c p:)"},
		{"'it''s' 'a\\'b' '\\\\'", `s:'it''s' s:'a\'b' s:'\\'`},
		{`"a""b" ` + "`c``d`", "q:a\"b q:c`d"},
		{"a--b\nc", "w:a w:c"},
		{"a--b", "w:a"},
		{"a/*b*/c", "w:a w:c"},
		{"a/*/b*/c", "w:a w:c"},
		{"a/**/b", "w:a w:b"},
		{"1.5e-3", "w:1 p:. w:5e p:- w:3"},
		{"x->y", "w:x p:- p:> w:y"},
		{"'ü' \"größe\"", "s:'ü' q:größe"},
		{"a - -b", "w:a p:- p:- w:b"},
	} {
		tokens, err := tokenize(c.in)
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		var got []string
		for _, tok := range tokens {
			got = append(got, string("wqsp"[tok.kind])+":"+tok.text)
			if c.in[tok.start:tok.end] == "" {
				t.Errorf("%q: an empty token", c.in)
			}
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%q: %s, want %s", c.in, s, c.want)
		}
	}
	for _, in := range []string{"'a", `"a`, "`a", "/* a", "ü", "a\u00a0b", "$a$b$a$", "# a", "a\x00b", `"a\x62"`, "'a\\'", "‘a’"} {
		if tokens, err := tokenize(in); err == nil {
			t.Errorf("%q was read as %v", in, tokens)
		}
	}
}

// TestTreeRefusesAlone holds the third reading to what it must find without the
// first.
func TestTreeRefusesAlone(t *testing.T) {
	for _, c := range []struct {
		tree string
		ok   bool
	}{
		{"SelectQuery (children 1)\n Function plus (children 1)\n  TableIdentifier touchpoints (alias a)", true},
		{" Function sumIf (children 1)\n TableIdentifier sojourn.touchpoints\n TableIdentifier system.tables", true},
		{" Function file (children 1)", false},
		{" Function FILE (alias x) (children 1)", false},
		{" Function url (children 1)", false},
		{" TableIdentifier system.users", false},
		{" TableIdentifier default./etc/passwd", false},
		{"InsertQuery", false},
		{"DropQuery  x (children 1)", false},
		{" Literal 'Function file (children 1)'", true},
	} {
		if err := guardTree(c.tree, testDatabases); (err == nil) != c.ok {
			t.Errorf("%q: %v", c.tree, err)
		}
	}
}

// TestFunctionLists keeps the lists from contradicting each other.
func TestFunctionLists(t *testing.T) {
	for name := range deniedFunctions {
		if allowedFunctions[name] || allowedTableFunctions[name] || internalFunctions[name] {
			t.Errorf("%s is both denied and allowed", name)
		}
		for _, suffix := range []string{"If", "ForEach", "OrNull", "StateMergeIf"} {
			if callAllowed(name + suffix) {
				t.Errorf("%s%s is allowed", name, suffix)
			}
		}
	}
	for _, name := range strings.Fields("file url remote s3 executable mysql input merge cluster python sqlite eval") {
		if callAllowed(name) || callAllowed(strings.ToUpper(name)) {
			t.Errorf("%s is allowed", name)
		}
	}
	for name := range clientSettings {
		for _, part := range []string{"path", "schema", "readonly", "allow_ddl", "introspection", "s3_", "url", "template", "log_queries_"} {
			if strings.Contains(name, part) {
				t.Errorf("the setting %s can be sent from outside", name)
			}
		}
	}
}

// FuzzGuard checks that the guard never panics, that what it reads stays inside
// the statement, and that its verdict does not hang on what ClickHouse ignores:
// comments, white space and the case of words.
func FuzzGuard(f *testing.F) {
	for _, name := range []string{"refused_test.go", "public_test.go"} {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			if line != "" && line[0] >= 'A' && line[0] <= 'Z' || strings.HasPrefix(line, "(SELECT") {
				f.Add(line)
			}
		}
	}
	f.Add("SELECT file('x')")
	f.Add("SELECT 1 INTO OUTFILE 'x'")
	f.Fuzz(func(t *testing.T, query string) {
		g, err := guard(query, params{}, testDatabases)
		tokens, lexErr := tokenize(query)
		if lexErr != nil {
			if err == nil {
				t.Fatalf("%q passed although it cannot be read", query)
			}
			return
		}
		end := 0
		var spread, upper strings.Builder
		for _, tok := range tokens {
			if tok.start < end || tok.end <= tok.start || tok.end > len(query) {
				t.Fatalf("%q: token %+v", query, tok)
			}
			end = tok.end
			text := query[tok.start:tok.end]
			spread.WriteString(text + " /* ' \" ` */\n--' x\n\t")
			if tok.kind == word {
				text = strings.ToUpper(text)
			}
			upper.WriteString(text + " ")
		}
		for _, same := range []string{spread.String(), upper.String()} {
			if _, err2 := guard(same, params{}, testDatabases); (err == nil) != (err2 == nil) {
				t.Errorf("%q: %v\n%q: %v", query, err, same, err2)
			}
		}
		if err == nil && !strings.HasPrefix(query, g.text) {
			t.Errorf("%q became %q", query, g.text)
		}
	})
}
