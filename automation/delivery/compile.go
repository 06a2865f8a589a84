package delivery

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"
	"time"
)

// Limits of a template.
const (
	maxTemplate = 128 << 10 // bytes
	maxSteps    = 100_000   // of its loops, all together
	maxValue    = MaxBody   // bytes of one value that a function makes
	stepName    = "_step"
	showName    = "_show"
)

// compile makes one part. Every loop and every template counts a step, because a
// template that runs cannot be stopped otherwise.
func compile(name, text string) (*part, error) {
	if len(text) > maxTemplate {
		return nil, &TemplateError{Part: name, Problem: fmt.Sprintf("it has more than %d bytes", maxTemplate)}
	}
	t, err := template.New(name).Funcs(functions).Parse(text)
	if err != nil {
		return nil, asTemplateError(name, err)
	}
	p := &part{name: name, text: t}
	if name == "html" {
		p.text = nil
		if p.html, err = htmltemplate.New(name).Funcs(functions).Parse(text); err != nil {
			return nil, asTemplateError(name, err)
		}
	}
	for _, each := range t.Templates() {
		if each.Tree == nil {
			continue
		}
		s := scope{part: name, tree: each.Tree, dot: each.Name() == name, open: &p.open}
		if err := s.list(each.Tree.Root); err != nil {
			return nil, err
		}
	}
	if p.html != nil {
		for _, each := range p.html.Templates() {
			if each.Tree != nil {
				rewrite(each.Tree.Root, true, false)
			}
		}
		return p, nil
	}
	for _, each := range t.Templates() {
		if each.Tree != nil {
			rewrite(each.Tree.Root, true, true)
		}
	}
	return p, nil
}

// rewrite puts a step at the beginning of a list that is repeated, and of those
// within. An assignment prints nothing, so no escaper sees it. show makes of what
// is absent an empty text (html/template does by itself).
func rewrite(l *parse.ListNode, repeated, show bool) {
	if l == nil {
		return
	}
	for _, n := range l.Nodes {
		switch n := n.(type) {
		case *parse.RangeNode:
			rewrite(n.List, true, show)
			rewrite(n.ElseList, false, show)
		case *parse.IfNode:
			rewrite(n.List, false, show)
			rewrite(n.ElseList, false, show)
		case *parse.WithNode:
			rewrite(n.List, false, show)
			rewrite(n.ElseList, false, show)
		case *parse.ActionNode:
			if show && len(n.Pipe.Decl) == 0 {
				n.Pipe.Cmds = append(n.Pipe.Cmds, showNode.Pipe.Cmds[1].Copy().(*parse.CommandNode))
			}
		}
	}
	if repeated {
		l.Nodes = slices.Insert(l.Nodes, 0, stepNode.Copy())
	}
}

// parsed is the one node of a template.
func parsed(text string) *parse.ActionNode {
	t := template.Must(template.New("").Funcs(functions).Parse(text))
	return t.Root.Nodes[0].(*parse.ActionNode)
}

var stepNode, showNode = parsed("{{$" + stepName + " := " + stepName + "}}"), parsed(`{{"" | ` + showName + `}}`)

// names are what a template sees; nil stands for what is the sender's own.
var names = map[string]any{
	"delivery": "", "type": "", "at": "", "reason": "", "unsubscribe_url": "",
	"trigger":  map[string]any{"id": "", "name": "", "version": ""},
	"event":    map[string]any{"id": "", "name": "", "meaning": "", "occurred_at": "", "properties": nil, "context": nil},
	"customer": map[string]any{"id": "", "stage": "", "since": "", "traits": nil, "tiers": nil, "points": nil, "status": "", "segments": nil, "accounts": nil, "timezone": ""},
	"before":   nil, "after": nil,
}

// scope checks the names of a template. dot tells whether . is the data as a
// whole; within range and with it is something else, and unknown.
type scope struct {
	part string
	tree *parse.Tree
	dot  bool
	open *bool // set where it depends on what is the sender's own
}

func (s scope) list(l *parse.ListNode) error {
	if l == nil {
		return nil
	}
	for _, n := range l.Nodes {
		if err := s.node(n); err != nil {
			return err
		}
	}
	return nil
}

func (s scope) branch(b *parse.BranchNode, moves bool) error {
	if err := s.pipe(b.Pipe); err != nil {
		return err
	}
	within := s
	within.dot = s.dot && !moves
	return errors.Join(within.list(b.List), s.list(b.ElseList))
}

func (s scope) node(n parse.Node) error {
	switch n := n.(type) {
	case *parse.ActionNode:
		return s.pipe(n.Pipe)
	case *parse.IfNode:
		return s.branch(&n.BranchNode, false)
	case *parse.WithNode:
		return s.branch(&n.BranchNode, true)
	case *parse.RangeNode:
		return s.branch(&n.BranchNode, true)
	case *parse.TemplateNode:
		return s.pipe(n.Pipe)
	case *parse.ListNode:
		return s.list(n)
	}
	return nil
}

func (s scope) pipe(p *parse.PipeNode) error {
	if p == nil {
		return nil
	}
	for _, c := range p.Cmds {
		for _, arg := range c.Args {
			var err error
			switch a := arg.(type) {
			case *parse.FieldNode:
				if s.dot {
					err = s.field(a, a.Ident)
				}
			case *parse.VariableNode:
				// $ is the data in the template itself, the argument in one that it calls.
				if a.Ident[0] == "$" && s.tree.Name == s.part {
					err = s.field(a, a.Ident[1:])
				}
			case *parse.PipeNode:
				err = s.pipe(a)
			case *parse.ChainNode:
				if inner, ok := a.Node.(*parse.PipeNode); ok {
					err = s.pipe(inner)
				}
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// field checks a path from the data as a whole.
func (s scope) field(n parse.Node, path []string) error {
	at := any(names)
	for i, name := range path {
		known, ok := at.(map[string]any)
		if !ok {
			if at == nil {
				return nil
			}
			return s.err(n, fmt.Sprintf(".%s has nothing within", strings.Join(path[:i], ".")))
		}
		at, ok = known[name]
		*s.open = *s.open || ok && at == nil
		if !ok {
			all := make([]string, 0, len(known))
			for k := range known {
				all = append(all, k)
			}
			slices.Sort(all)
			return s.err(n, fmt.Sprintf("there is no .%s; there are %s", strings.Join(path[:i+1], "."), strings.Join(all, ", ")))
		}
	}
	return nil
}

func (s scope) err(n parse.Node, problem string) error {
	location, _ := s.tree.ErrorContext(n)
	e := &TemplateError{Part: s.part, Problem: problem}
	e.Line, e.Column = place(location)
	// The parser places a path at its second name.
	switch n := n.(type) {
	case *parse.FieldNode:
		if len(n.Ident) > 1 {
			e.Column -= len("." + n.Ident[0])
		}
	case *parse.VariableNode:
		if len(n.Ident) > 1 {
			e.Column -= len(n.Ident[0])
		}
	}
	return e
}

var placePattern = regexp.MustCompile(`:(\d+)(?::(\d+))?`)

// place reads line and column of text/template's "name:line:column"; columns there
// start at 0.
func place(text string) (line, column int) {
	m := placePattern.FindStringSubmatch(text)
	if m == nil {
		return 0, 0
	}
	line, _ = strconv.Atoi(m[1])
	if m[2] != "" {
		column, _ = strconv.Atoi(m[2])
		column++
	}
	return line, column
}

var locationPattern = regexp.MustCompile(`^(?:html/)?template: ?(?:\S+?:\d+(?::\d+)?: ?)?(?:executing "[^"]*" at )?`)

// asTemplateError takes the place and the words out of an error of text/template.
func asTemplateError(name string, err error) *TemplateError {
	var own *TemplateError
	if errors.As(err, &own) {
		return own
	}
	text := err.Error()
	e := &TemplateError{Part: name}
	if at := locationPattern.FindString(text); at != "" {
		e.Line, e.Column = place(at)
		text = text[len(at):]
	}
	e.Problem = strings.TrimSpace(text)
	return e
}

// functions are what templates can call beside Go's own. Those of Go's that make
// text out of text are bounded, so that none doubles it for ever; call is of no
// use, as there is nothing to call.
var functions = map[string]any{
	stepName: func() (string, error) { return "", nil },
	showName: func(v any) any {
		if v == nil {
			return ""
		}
		return v
	},
	"json":     toJSON,
	"default":  func(fallback, value any) any { return orElse(value, fallback) },
	"date":     formatDate,
	"upper":    func(v any) (string, error) { return bounded(strings.ToUpper(text(v))) },
	"lower":    func(v any) (string, error) { return bounded(strings.ToLower(text(v))) },
	"join":     join,
	"print":    func(args ...any) (string, error) { return bounded(fmt.Sprint(args...)) },
	"println":  func(args ...any) (string, error) { return bounded(fmt.Sprintln(args...)) },
	"printf":   printf,
	"html":     func(args ...any) (string, error) { return bounded(template.HTMLEscaper(args...)) },
	"js":       func(args ...any) (string, error) { return bounded(template.JSEscaper(args...)) },
	"urlquery": func(args ...any) (string, error) { return bounded(template.URLQueryEscaper(args...)) },
}

func bounded(s string) (string, error) {
	if len(s) > maxValue {
		return "", fmt.Errorf("a value has more than %d bytes", maxValue)
	}
	return s, nil
}

func text(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

func orElse(v, fallback any) any {
	if truth, ok := template.IsTrue(v); !ok || !truth {
		return fallback
	}
	return v
}

func toJSON(v any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "", err
	}
	return bounded(strings.TrimSuffix(b.String(), "\n"))
}

func join(separator string, values any) (string, error) {
	list, ok := values.([]any)
	if !ok {
		return text(values), nil
	}
	var parts []string
	n := 0
	for _, v := range list {
		s := text(v)
		if n += len(s) + len(separator); n > maxValue {
			return "", fmt.Errorf("a value has more than %d bytes", maxValue)
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, separator), nil
}

var widthPattern = regexp.MustCompile(`%[^a-zA-Z%]*(\*|\d{4,})`)

func printf(format string, args ...any) (string, error) {
	if widthPattern.MatchString(format) {
		return "", errors.New("printf: a width or precision has at most three digits here")
	}
	return bounded(fmt.Sprintf(format, args...))
}

// formatDate writes a time by Go's layout, in a time zone or else in UTC:
// {{date "2 January 2006" .at .customer.timezone}}.
func formatDate(layout string, value any, zone ...any) (string, error) {
	at, err := time.Parse(time.RFC3339Nano, text(value))
	if err != nil {
		return "", fmt.Errorf("date: %q is no time", text(value))
	}
	where := time.UTC
	if len(zone) > 0 && text(zone[0]) != "" {
		if where, err = time.LoadLocation(text(zone[0])); err != nil {
			return "", fmt.Errorf("date: %q is no time zone", text(zone[0]))
		}
	}
	return bounded(at.In(where).Format(layout))
}

func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// values is the data as templates see it: what its JSON holds, as maps, lists,
// texts, whole numbers where they are whole, and decimal ones. null is absent.
func (d *Data) values() (map[string]any, error) {
	b, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var m map[string]any
	if err := dec.Decode(&m); err != nil {
		return nil, err
	}
	return decoded(m).(map[string]any), nil
}

func decoded(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			if x == nil {
				delete(v, k) // absent, so that a path through it is absent, too
				continue
			}
			v[k] = decoded(x)
		}
	case []any:
		for i, x := range v {
			v[i] = decoded(x)
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		if f, err := v.Float64(); err == nil && !math.IsInf(f, 0) {
			return f
		}
		return v.String()
	}
	return v
}
