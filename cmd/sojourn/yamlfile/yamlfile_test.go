package yamlfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sojourn/cmd/sojourn/yamlfile"
)

type inner struct {
	Name  string `yaml:"name"`
	Count int    `json:"count"`
}

type outer struct {
	Listen   string           `yaml:"listen"`
	Interval time.Duration    `yaml:"interval"`
	On       bool             `yaml:"on"`
	List     []inner          `yaml:"list"`
	Map      map[string]inner `yaml:"map"`
	Counts   map[string]int   `yaml:"counts"`
	Zebra    string           `yaml:"-"`
}

func decode(text string) (outer, error) {
	v := outer{Listen: "default"}
	d, err := yamlfile.Parse("f.yaml", []byte(text))
	if err != nil {
		return v, err
	}
	return v, d.Decode(&v)
}

func TestDecode(t *testing.T) {
	v, err := decode("# all of it\ninterval: 500ms\non: true\nlist:\n  - name: a\n    count: 3\nmap: {x: {name: y}}\n")
	if err != nil {
		t.Fatal(err)
	}
	if v.Listen != "default" || v.Interval != 500*time.Millisecond || !v.On || len(v.List) != 1 ||
		v.List[0] != (inner{"a", 3}) || v.Map["x"].Name != "y" {
		t.Errorf("%+v", v)
	}
	for _, empty := range []string{"", "\n", "# nothing\n", "---\n"} {
		if v, err := decode(empty); err != nil || v.Listen != "default" {
			t.Errorf("%q: %+v, %v", empty, v, err)
		}
	}
}

func TestMistakesAreFoundWhereTheyAre(t *testing.T) {
	for text, want := range map[string]string{
		"lisen: x\n":                       `f.yaml:1:1: unknown key "lisen"; did you mean "listen"?`,
		"listen: x\n\nlist:\n  - nam: b\n": `f.yaml:4:5: unknown key "nam" under list[0]; did you mean "name"?`,
		"map:\n  x:\n    zzzzzz: 1\n":      `f.yaml:3:5: unknown key "zzzzzz" under map.x; known keys: name, count`,
		"zebra: x\n":                       `f.yaml:1:1: unknown key "zebra"; known keys: listen, interval, on, list, map, counts`,
		"listen: x\non: perhaps\n":         `f.yaml:2:5: on: this should be true or false`,
		"list:\n  - count: many\n":         `f.yaml:2:12: list[0].count: this should be a whole number`,
		"list:\n  - count: 1.5\n":          `f.yaml:2:12: list[0].count: this should be a whole number`,
		"list:\n  - count: 1.0\n":          `f.yaml:2:12: list[0].count: this should be a whole number`,
		"list:\n  - count: \"1.5\"\n":      `f.yaml:2:12: list[0].count: this should be a whole number`,
		"list:\n  - count: 1e3\n":          `f.yaml:2:12: list[0].count: this should be a whole number`,
		"list:\n  - count: .inf\n":         `f.yaml:2:12: list[0].count: this should be a whole number`,
		"list:\n  - count: true\n":         `f.yaml:2:12: list[0].count: this should be a whole number`,
		"counts: {a: 1, b: 1.5}\n":         `f.yaml:1:19: counts.b: this should be a whole number`,
		"interval: soon\n":                 `f.yaml:1:11: interval: this should be a time such as 500ms`,
		"interval: 5\n":                    `f.yaml:1:11: interval: this should be a time such as 500ms`,
		"list: none\n":                     `f.yaml:1:7: list: this should be a list`,
		"map: none\n":                      `f.yaml:1:6: map: this should be keys with values`,
		"listen: [1, 2\n":                  `f.yaml:1:9: `,
		"listen: a\nlisten: b\n":           `f.yaml:2:1: `,
		"listen: a\n---\nlisten: b\n":      `f.yaml:3:1: a second document begins here; a file holds one`,
		"lisen: x\nintervall: 1s\n":        "f.yaml:1:1: unknown key \"lisen\"; did you mean \"listen\"?\nf.yaml:2:1: unknown key \"intervall\"; did you mean \"interval\"?",
	} {
		_, err := decode(text)
		if err == nil || len(err.Error()) < len(want) || err.Error()[:len(want)] != want {
			t.Errorf("%q:\ngot  %v\nwant %s", text, err, want)
		}
	}
}

func TestErrorf(t *testing.T) {
	d, err := yamlfile.Parse("p.yaml", []byte("events:\n  - name: a\n    meaning: x\n  - name: b\nlast: 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path []string
		want string
	}{
		{[]string{"events", "0", "meaning"}, "p.yaml:3:14: bad 7"},
		{[]string{"events", "1"}, "p.yaml:4:5: bad 7"},
		{[]string{"events", "1", "meaning"}, "p.yaml:4:5: bad 7"},
		{[]string{"events"}, "p.yaml:1:1: bad 7"},
		{[]string{"last"}, "p.yaml:5:7: bad 7"},
	} {
		if got := d.Errorf(c.path, "bad %d", 7).Error(); got != c.want {
			t.Errorf("%v: %s, want %s", c.path, got, c.want)
		}
	}
}

func TestJSON(t *testing.T) {
	d, err := yamlfile.Parse("p.yaml", []byte("a: 1\nb: [x, \"2\", true, null, 1.5]\nc:\n  d: |\n    two\n    lines\n"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := d.JSON()
	if want := `{"a":1,"b":["x","2",true,null,1.5],"c":{"d":"two\nlines\n"}}`; err != nil || string(b) != want {
		t.Errorf("%s, %v", b, err)
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	if _, err := yamlfile.Open(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	path := filepath.Join(dir, "x.yaml")
	if err := os.WriteFile(path, []byte("a: b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := yamlfile.Open(path); err != nil {
		t.Error(err)
	}
}
