package jsonread_test

import (
	"encoding/json"
	"strings"
	"testing"

	"sojourn/ingest/internal/jsonread"
)

func skip(d *jsonread.Decoder) error {
	_, err := d.Value()
	return err
}

func valid(b []byte) bool { return jsonread.Read(b, skip) == nil }

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
		var want, got string
		err := json.Unmarshal(b, &want)
		readErr := jsonread.Read(b, func(d *jsonread.Decoder) error {
			quoted, err := d.Value()
			if err == nil {
				got = string(jsonread.Unquote(quoted))
			}
			return err
		})
		if readErr != nil {
			if err == nil {
				t.Fatalf("%q was refused", b)
			}
			return
		}
		if err != nil {
			t.Fatalf("%q was read, encoding/json says %v", b, err)
		}
		if got != want {
			t.Fatalf("%q became %q, want %q", b, got, want)
		}
	})
}

func TestMembers(t *testing.T) {
	b := []byte(` { "a" : [1, {"x":2}] , "b\u0063": "v" , "d":null } `)
	var got []string
	err := jsonread.Read(b, func(d *jsonread.Decoder) error {
		at, ok, err := d.Enter('{')
		if at != 1 || !ok || err != nil {
			t.Fatal(at, ok, err)
		}
		for {
			if end, err := d.Leave(); end || err != nil {
				if all := string(d.Since(at)); all != strings.TrimSpace(string(b)) {
					t.Fatal(all)
				}
				return err
			}
			name, err := d.Name()
			if err != nil {
				return err
			}
			v, err := d.Value()
			if err != nil {
				return err
			}
			if end := d.Offset(); string(b[end-len(v):end]) != string(v) {
				t.Fatalf("%s does not end at %d", v, end)
			}
			got = append(got, string(name)+"="+string(v))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if s := strings.Join(got, ";"); s != `a=[1, {"x":2}];bc="v";d=null` {
		t.Fatal(s)
	}
}

func TestDepth(t *testing.T) {
	nested := func(n int) string { return strings.Repeat(`[{"[":`, n/2) + "0" + strings.Repeat("}]", n/2) }
	for _, tt := range []struct {
		text string
		want int
	}{
		{`1`, 0},
		{`[]`, 1},
		{`{"a":[[]]}`, 3},
		{`["[[[","\"[[["]`, 1},
		{strings.Repeat("[", 5000) + strings.Repeat("]", 5000), 5000},
		{nested(10_000), 10_000},
		{nested(10_002), 10_002},
		{nested(100_000), 100_000},
	} {
		text := []byte(tt.text)
		if jsonread.Deeper(text, tt.want) || tt.want > 0 && !jsonread.Deeper(text, tt.want-1) {
			t.Errorf("depth of %.20s is not %d", tt.text, tt.want)
		}
	}
}

// TestDeeperThanTheLibrary reads what jsontext gives up on: valid JSON is read
// and handed out as sent, and what is not valid is found however deep it is.
func TestDeeperThanTheLibrary(t *testing.T) {
	deep := func(n int, inner string) string {
		return strings.Repeat("[", n) + inner + strings.Repeat("]", n)
	}
	for _, n := range []int{4999, 5000, 5001, 9999, 10_000, 10_001, 14_999, 15_000, 60_000} {
		for _, inner := range []string{``, `1`, ` {"]":"\"[" } `, `[],[[ ],{}],"x"`} {
			text := `{"a":[` + deep(n, inner) + `,` + deep(n-1, inner) + `],"b":[[2]]}`
			if !valid([]byte(text)) {
				t.Errorf("%d brackets around %s: refused", n, inner)
			}
			err := jsonread.Read([]byte(deep(n, inner)), func(d *jsonread.Decoder) error {
				v, err := d.Value()
				if err == nil && string(v) != deep(n, inner) {
					t.Errorf("%d brackets around %s: not as sent", n, inner)
				}
				return err
			})
			if err != nil {
				t.Errorf("%d brackets around %s: %v", n, inner, err)
			}
		}
		for _, inner := range []string{`1 2`, `,`, `{`, `]`, `}`, `{"a"}`, `"`, `1[2]`, `[}`, `]]]]`, `tru`, "\"\n\""} {
			if valid([]byte(deep(n, inner))) || valid([]byte(`{"a":`+deep(n, inner)+`}`)) {
				t.Errorf("%d brackets around %s: read", n, inner)
			}
		}
		if valid([]byte(deep(n, ``)+`]`)) || valid([]byte(`[`+deep(n, ``))) || valid([]byte(deep(n, ``)+`{}`)) {
			t.Errorf("%d brackets and one more: read", n)
		}
	}
}
