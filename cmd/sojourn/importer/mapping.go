// Package importer turns files of rows (CSV, JSON lines) into messages of the
// tracking API by a mapping that the user writes. A row gives the same message
// id each time it is read, so that a file imported twice is found once.
package importer

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"sojourn/cmd/sojourn/yamlfile"
	"sojourn/domain"
)

// Mapping says what the rows of a file mean. Columns are named as in the header
// or by their number, from 1; in JSON lines they are keys, with dots for keys
// within objects.
type Mapping struct {
	// Source is the app or system that the messages count to. With the message id
	// it makes the event's id.
	Source string `yaml:"source"`
	// Separator between the columns of a CSV file: one character, "tab", or
	// "spaces" for runs of spaces and tabs. A comma where it is empty.
	Separator string `yaml:"separator"`
	// Header says that a CSV file's first row names its columns.
	Header bool `yaml:"header"`
	// Type of the messages: track where it is empty.
	Type string `yaml:"type"`
	// User and Anonymous are the columns of the ids; one is needed.
	User      string `yaml:"user"`
	Anonymous string `yaml:"anonymous"`
	Time      Time   `yaml:"time"`
	// Event is the name: of the event for track, of the page for page and screen.
	Event Field `yaml:"event"`
	// Properties of track, page and screen; Traits of identify and group.
	Properties Fields `yaml:"properties"`
	Traits     Fields `yaml:"traits"`
	Context    Fields `yaml:"context"`
	// Identity are the columns that name a row for ever, such as an order number:
	// they become the message id. Without them it is a hash of the row and of how
	// many equal rows stand before it in the file.
	Identity []string `yaml:"identity"`
	// IdentityPrefix stands before the message id, to keep the rows of several
	// files of one source apart.
	IdentityPrefix string `yaml:"identity_prefix"`
}

// Time is the column of the time and how it is written.
type Time struct {
	Column string `yaml:"column"`
	// Format is a pattern of YYYY MM DD hh mm ss SSS, a layout of Go's package
	// time, or one of rfc3339, unix (seconds) and unix_ms. rfc3339 where it is
	// empty.
	Format string `yaml:"format"`
	// Zone is the time zone of times that name none, such as Europe/Paris; UTC
	// where it is empty.
	Zone string `yaml:"zone"`
}

// Field is a value: of a column, or the same for all rows.
type Field struct {
	Column string `yaml:"column"`
	Value  any    `yaml:"value"`
	// Kind is string, number, boolean or json. Where it is empty, a CSV column is
	// a string and a JSON value stays what it is.
	Kind string `yaml:"kind"`
}

// Fields are values by their names.
type Fields map[string]Field

// LoadMapping reads and checks a mapping file. Errors name line and column.
func LoadMapping(path string) (*Mapping, error) {
	d, err := yamlfile.Open(path)
	if err != nil {
		return nil, err
	}
	m := &Mapping{}
	if err := d.Decode(m); err != nil {
		return nil, err
	}
	var errs []error
	for _, p := range m.problems() {
		errs = append(errs, d.Errorf(p.path, "%s", p.message))
	}
	return m, errors.Join(errs...)
}

// Validate checks the mapping.
func (m *Mapping) Validate() error {
	var errs []error
	for _, p := range m.problems() {
		errs = append(errs, errors.New(strings.Join(p.path, ".")+": "+p.message))
	}
	return errors.Join(errs...)
}

type problem struct {
	path    []string
	message string
}

var sourceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

func (m *Mapping) problems() (ps []problem) {
	bad := func(message string, path ...string) { ps = append(ps, problem{path, message}) }
	if !sourceName.MatchString(m.Source) {
		bad("source is needed: letters, digits, dots, dashes and underscores", "source")
	}
	if _, err := separator(m.Separator); err != nil {
		bad(err.Error(), "separator")
	}
	k, ok := domain.ParseKind(m.kind())
	if !ok {
		bad(fmt.Sprintf("%q is no type: use track, identify, page, screen, group or alias", m.Type), "type")
	}
	if m.User == "" && m.Anonymous == "" {
		bad("name the column of the user (user) or of the visitor (anonymous)", "user")
	}
	if m.Time.Column == "" {
		bad("name the column of the time", "time", "column")
	}
	if _, err := m.Time.parser(); err != nil {
		bad(err.Error(), "time", "format")
	}
	if _, err := time.LoadLocation(m.Time.Zone); err != nil {
		bad(fmt.Sprintf("%q is no time zone: write one such as Europe/Paris", m.Time.Zone), "time", "zone")
	}
	if ok && k == domain.Track && m.Event.Column == "" && m.Event.Value == nil {
		bad("a track message needs a name: event: {value: Order Completed} or event: {column: name}", "event")
	}
	check := func(f Field, path ...string) {
		if f.Column != "" && f.Value != nil {
			bad("write column or value, not both", path...)
		}
		if f.Column == "" && f.Value == nil && path[0] != "event" {
			bad("write column: or value:", path...)
		}
		if !slices.Contains([]string{"", "string", "number", "boolean", "json"}, f.Kind) {
			bad(fmt.Sprintf("%q is no kind: use string, number, boolean or json", f.Kind), append(path, "kind")...)
		}
	}
	check(m.Event, "event")
	if m.Event.Value != nil {
		if s, isText := m.Event.Value.(string); !isText || s == "" {
			bad("the name must be text", "event", "value")
		}
	}
	for key, fs := range map[string]Fields{"properties": m.Properties, "traits": m.Traits, "context": m.Context} {
		for _, name := range fs.names() {
			check(fs[name], key, name)
		}
	}
	for i, c := range m.Identity {
		if c == "" {
			bad("an empty column name", "identity", strconv.Itoa(i))
		}
	}
	slices.SortStableFunc(ps, func(a, b problem) int { return strings.Compare(a.path[0], b.path[0]) })
	return ps
}

func (m *Mapping) kind() string {
	if m.Type == "" {
		return "track"
	}
	return m.Type
}

// names are the keys in order, so that a row gives the same bytes each time.
func (fs Fields) names() []string {
	names := make([]string, 0, len(fs))
	for n := range fs {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// spaces is the separator that stands for runs of white space.
const spaces = ' '

func separator(s string) (rune, error) {
	switch s {
	case "", ",":
		return ',', nil
	case "tab", `\t`, "\t":
		return '\t', nil
	case "spaces":
		return spaces, nil
	}
	r := []rune(s)
	if len(r) != 1 || strings.ContainsAny(s, "\"\r\n\uFFFD ") {
		return 0, fmt.Errorf("%q is no separator: use one character, tab or spaces", s)
	}
	return r[0], nil
}

var pattern = strings.NewReplacer("YYYY", "2006", "YY", "06", "MM", "01", "DD", "02", "hh", "15", "HH", "15", "mm", "04", "ss", "05", "SSS", "000")

// parser returns the function that reads the column's text.
func (t Time) parser() (func(string) (time.Time, error), error) {
	loc, err := time.LoadLocation(t.Zone)
	if err != nil {
		loc = time.UTC
	}
	unix := func(unit int64) func(string) (time.Time, error) {
		return func(s string) (time.Time, error) {
			if n, err := strconv.ParseInt(s, 10, 64); err == nil {
				if n > 1e15 || n < -1e15 {
					return time.Time{}, fmt.Errorf("%q is out of range", s)
				}
				return time.UnixMilli(n * unit).UTC(), nil
			}
			f, err := strconv.ParseFloat(s, 64)
			if err != nil {
				return time.Time{}, fmt.Errorf("%q is no number", s)
			}
			if f *= float64(unit); !(math.Abs(f) <= 1e15) {
				return time.Time{}, fmt.Errorf("%q is out of range", s)
			}
			return time.UnixMilli(int64(math.Round(f))).UTC(), nil
		}
	}
	switch t.Format {
	case "unix":
		return unix(1000), nil
	case "unix_ms":
		return unix(1), nil
	}
	layout := t.layout()
	// A layout without a single element reads nothing but itself.
	if time.Date(2001, 12, 29, 13, 14, 15, 0, time.UTC).Format(layout) == layout {
		return nil, fmt.Errorf("%q is no format: use rfc3339, unix, unix_ms, a pattern such as YYYY-MM-DD hh:mm:ss, or a Go layout", t.Format)
	}
	return func(s string) (time.Time, error) { return time.ParseInLocation(layout, s, loc) }, nil
}

// layout is the Go layout of a format that has one.
func (t Time) layout() string {
	switch {
	case t.Format == "" || t.Format == "rfc3339":
		return time.RFC3339
	case strings.Contains(t.Format, "YY"):
		return pattern.Replace(t.Format)
	}
	return t.Format
}
