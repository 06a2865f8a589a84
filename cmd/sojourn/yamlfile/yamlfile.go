// Package yamlfile reads the YAML files that people write (configuration, policy,
// import mapping) so strictly that a mistake is found where it was made: every
// error names file, line and column, and an unknown key the one it was most
// likely meant to be.
package yamlfile

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"sojourn/domain/policy"
)

// Error is a mistake in a file, and where.
type Error struct {
	File         string
	Line, Column int // from 1
	Message      string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

// Document is a file that was parsed. An empty file is a document without keys.
type Document struct {
	name string
	root ast.Node // nil where the file is empty
}

// Open reads and parses a file.
func Open(path string) (*Document, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, data)
}

// Parse parses data; name is what errors call it.
func Parse(name string, data []byte) (*Document, error) {
	d := &Document{name: name}
	f, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, d.wrap(err)
	}
	for _, doc := range f.Docs {
		if doc.Body == nil {
			continue
		}
		if d.root != nil {
			return nil, d.at(doc.Body, "a second document begins here; a file holds one")
		}
		d.root = doc.Body
	}
	return d, nil
}

// Decode reads the document into v, a pointer to a struct, by its yaml or json
// tags. What the document does not name stays as it is in v. Errors are *Error,
// several of them joined.
func (d *Document) Decode(v any) error {
	if d.root == nil {
		return nil
	}
	if err := errors.Join(d.check(d.root, reflect.TypeOf(v).Elem(), "")...); err != nil {
		return err
	}
	if err := yaml.NodeToValue(d.root, v); err != nil {
		return d.wrap(err)
	}
	return nil
}

// Errorf is an error at a path of the document: keys, and decimal indices of
// lists. Where the path leads further than the document, the error stands at the
// last part that is there.
func (d *Document) Errorf(path []string, format string, args ...any) error {
	return d.at(d.find(path), fmt.Sprintf(format, args...))
}

// JSON is the document as JSON, numbers as they are written.
func (d *Document) JSON() ([]byte, error) {
	if d.root == nil {
		return []byte("{}"), nil
	}
	var buf bytes.Buffer
	if err := d.json(&buf, d.root); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func (d *Document) at(n ast.Node, message string) *Error {
	e := &Error{File: d.name, Line: 1, Column: 1, Message: message}
	if ps := pairs(n); len(ps) > 0 {
		n = ps[0].Key // the mapping's own token is its first colon
	}
	if n != nil {
		e.place(n.GetToken())
	}
	return e
}

func (e *Error) place(t *token.Token) {
	if t != nil && t.Position != nil {
		e.Line, e.Column = t.Position.Line, t.Position.Column
	}
}

// wrap gives an error of the YAML package its place in one line.
func (d *Document) wrap(err error) error {
	var ye yaml.Error
	if !errors.As(err, &ye) {
		return &Error{File: d.name, Line: 1, Column: 1, Message: err.Error()}
	}
	message, _, _ := strings.Cut(ye.GetMessage(), "\n")
	var te *yaml.TypeError
	if errors.As(err, &te) {
		message = fmt.Sprintf("this should be %s", kindWords(te.DstType))
	}
	var ne *yaml.UnexpectedNodeTypeError
	if errors.As(err, &ne) {
		switch ne.Expected {
		case ast.SequenceType:
			message = "this should be a list"
		case ast.MappingType:
			message = "this should be keys with values"
		}
	}
	e := &Error{File: d.name, Line: 1, Column: 1, Message: message}
	e.place(ye.GetToken())
	if path := d.pathTo(d.root, ye.GetToken(), ""); path != "" {
		e.Message = path + ": " + message
	}
	return e
}

// pathTo is the path of the value at or under n that stands at a place; empty where
// none does.
func (d *Document) pathTo(n ast.Node, t *token.Token, path string) string {
	if n == nil || t == nil || t.Position == nil {
		return ""
	}
	n = plain(n)
	if p := n.GetToken().Position; path != "" && p != nil && p.Line == t.Position.Line && p.Column == t.Position.Column {
		return path
	}
	if s, ok := n.(*ast.SequenceNode); ok {
		for i, v := range s.Values {
			if found := d.pathTo(v, t, fmt.Sprintf("%s[%d]", path, i)); found != "" {
				return found
			}
		}
	}
	for _, p := range pairs(n) {
		if found := d.pathTo(p.Value, t, strings.TrimPrefix(path+"."+keyOf(p), ".")); found != "" {
			return found
		}
	}
	return ""
}

func kindWords(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "keys with values"
	case reflect.Float32, reflect.Float64:
		return "a number"
	}
	return "a whole number"
}

// check finds the keys that a type has no field for, and times and whole numbers
// that are none.
func (d *Document) check(n ast.Node, t reflect.Type, path string) []error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	n = plain(n)
	var errs []error
	switch {
	case t == reflect.TypeFor[time.Duration]():
		// The decoder would not say where.
		if s, ok := n.(*ast.StringNode); ok {
			if _, err := time.ParseDuration(s.Value); err == nil {
				return nil
			}
		}
		return []error{d.at(n, path+": this should be a time such as 500ms")}
	case reflect.PointerTo(t).Implements(reflect.TypeFor[yaml.BytesUnmarshaler]()):
		// It reads its value itself.
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64:
		// The decoder would cut 1.5 to 1.
		if !whole(n) {
			return []error{d.at(n, path+": this should be "+kindWords(t))}
		}
	case t.Kind() == reflect.Struct && pairs(n) != nil:
		fields := fieldsOf(t)
		for _, p := range pairs(n) {
			key := keyOf(p)
			f, ok := fields.types[key]
			if !ok {
				where := ""
				if path != "" {
					where = " under " + path
				}
				message := fmt.Sprintf("unknown key %q%s", key, where)
				if near, ok := policy.Nearest(key, fields.names); ok {
					message += fmt.Sprintf("; did you mean %q?", near)
				} else {
					message += "; known keys: " + strings.Join(fields.names, ", ")
				}
				errs = append(errs, d.at(p.Key, message))
				continue
			}
			errs = append(errs, d.check(p.Value, f, strings.TrimPrefix(path+"."+key, "."))...)
		}
	case t.Kind() == reflect.Map:
		for _, p := range pairs(n) {
			errs = append(errs, d.check(p.Value, t.Elem(), strings.TrimPrefix(path+"."+keyOf(p), "."))...)
		}
	case t.Kind() == reflect.Slice:
		if s, ok := n.(*ast.SequenceNode); ok {
			for i, v := range s.Values {
				errs = append(errs, d.check(v, t.Elem(), fmt.Sprintf("%s[%d]", path, i))...)
			}
		}
	}
	return errs
}

// whole is false for a number with a fraction or an exponent, and for text that
// is no whole number. What else is none the decoder finds.
func whole(n ast.Node) bool {
	switch v := n.(type) {
	case *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return false
	case *ast.StringNode:
		_, err := strconv.ParseInt(v.Value, 10, 64)
		return err == nil
	}
	return true
}

type fields struct {
	names []string
	types map[string]reflect.Type
}

func fieldsOf(t reflect.Type) fields {
	f := fields{types: map[string]reflect.Type{}}
	for i := range t.NumField() {
		sf := t.Field(i)
		tag := sf.Tag.Get("yaml")
		if tag == "" {
			tag = sf.Tag.Get("json")
		}
		name, options, _ := strings.Cut(tag, ",")
		if name == "-" || !sf.IsExported() {
			continue
		}
		if options == "inline" {
			inner := fieldsOf(sf.Type)
			f.names = append(f.names, inner.names...)
			maps.Copy(f.types, inner.types)
			continue
		}
		if name == "" {
			name = strings.ToLower(sf.Name)
		}
		f.names = append(f.names, name)
		f.types[name] = sf.Type
	}
	return f
}

// find walks a path as far as the document goes with it.
func (d *Document) find(path []string) ast.Node {
	n, last := d.root, d.root
	for _, part := range path {
		var next ast.Node
		switch v := plain(n).(type) {
		case *ast.SequenceNode:
			if i, err := strconv.Atoi(part); err == nil && i >= 0 && i < len(v.Values) {
				next = v.Values[i]
				last = next
			}
		default:
			for _, p := range pairs(v) {
				if keyOf(p) == part {
					next, last = p.Value, p.Key
				}
			}
		}
		if next == nil {
			return last
		}
		n = next
	}
	if n != nil && scalar(n) {
		return n
	}
	return last
}

func scalar(n ast.Node) bool {
	_, ok := n.(ast.ScalarNode)
	return ok
}

// plain takes off what may stand around a value.
func plain(n ast.Node) ast.Node {
	for {
		switch v := n.(type) {
		case *ast.AnchorNode:
			n = v.Value
		case *ast.TagNode:
			n = v.Value
		default:
			return n
		}
	}
}

// pairs are the keys and values of a mapping; nil where n is none.
func pairs(n ast.Node) []*ast.MappingValueNode {
	switch v := n.(type) {
	case *ast.MappingNode:
		return v.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{v}
	}
	return nil
}

func keyOf(p *ast.MappingValueNode) string {
	if s, ok := p.Key.(*ast.StringNode); ok {
		return s.Value
	}
	return p.Key.GetToken().Value
}
