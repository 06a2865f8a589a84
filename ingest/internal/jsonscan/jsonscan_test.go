package jsonscan_test

import (
	"encoding/json"
	"strings"
	"testing"

	"sojourn/ingest/internal/jsonscan"
)

func valid(b []byte) bool {
	i := jsonscan.Space(b, 0)
	end, _, err := jsonscan.Value(b, i)
	return err == nil && jsonscan.Space(b, end) == len(b)
}

var seeds = []string{
	`{}`, `[]`, ` { } `, `[ ]`, `{"a":1}`, `{"a":1,}`, `{"a"}`, `{"a":}`, `[1,]`, `[,1]`, `[1 2]`,
	`"\u12"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\x"`, `"a` + "\n" + `"`, `"unfinished`, `01`, `-`, `-0`, `1.`, `1e`, `1e+5`, `1.5E-3`,
	`true`, `tru`, `nul`, `null`, `false x`, `{"a":[{"b":[]},{}],"c":"d\\"}`, `{]`, `[}`, `{"a":[}`, `[[[[1]]]]`, ``, ` `,
	`{"long string of more than eight bytes":"` + strings.Repeat("x", 100) + `\n"}`, "\"\xff\"", `{"a":1 "b":2}`, `[{"a":1},{"b":[1,2,{"c":null}]}]`,
}

// FuzzValid holds the scanner to what encoding/json calls valid.
func FuzzValid(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		want := json.Valid(b)
		if want && depth(b) > 9000 {
			return // encoding/json gives up at 10,000
		}
		if got := valid(b); got != want && depth(b) < 9000 {
			t.Fatalf("valid(%q) = %v, encoding/json says %v", b, got, want)
		}
	})
}

func depth(b []byte) int { return strings.Count(string(b), "[") + strings.Count(string(b), "{") }

// FuzzUnquote holds the reading of strings to encoding/json's.
func FuzzUnquote(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Add([]byte(`"\ud83d\ud83d\ude00 \/ \b\f\n\r\t \u00e9 é"`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 || b[0] != '"' {
			return
		}
		var want string
		err := json.Unmarshal(b, &want)
		end, _, scanErr := jsonscan.String(b, 0)
		if scanErr != nil || jsonscan.Space(b, end) != len(b) {
			if err == nil {
				t.Fatalf("%q was refused", b)
			}
			return
		}
		if err != nil {
			t.Fatalf("%q was read, encoding/json says %v", b, err)
		}
		if got := string(jsonscan.AppendUnquoted(nil, b[:end])); got != want {
			t.Fatalf("%q became %q, want %q", b, got, want)
		}
	})
}

func TestMembers(t *testing.T) {
	b := []byte(` { "a" : [1, {"x":2}] , "b\u0063": "v" , "d":null } `)
	var got []string
	i := jsonscan.Space(b, 0)
	m, end, more, err := jsonscan.First(b, i)
	for ; more; m, end, more, err = jsonscan.Next(b, end) {
		var e error
		if end, _, e = jsonscan.Value(b, m.Value); e != nil {
			t.Fatal(e)
		}
		got = append(got, string(m.Name)+"="+string(b[m.Value:end]))
	}
	if err != nil || jsonscan.Space(b, end) != len(b) {
		t.Fatalf("ended at %d of %d: %v", end, len(b), err)
	}
	if s := strings.Join(got, ";"); s != `a=[1, {"x":2}];bc="v";d=null` {
		t.Fatal(s)
	}
}

func TestDepth(t *testing.T) {
	for _, tt := range []struct {
		text string
		want int
	}{{`1`, 0}, {`[]`, 1}, {`{"a":[[]]}`, 3}, {strings.Repeat("[", 5000) + strings.Repeat("]", 5000), 5000}} {
		if _, got, err := jsonscan.Value([]byte(tt.text), 0); err != nil || got != tt.want {
			t.Errorf("depth of %.20s is %d, %v, want %d", tt.text, got, err, tt.want)
		}
	}
}
