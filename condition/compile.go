package condition

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"

	"sojourn/domain"
)

// kind is what a node gives.
type kind uint8

const (
	kindBool     kind = iota
	kindText          // UTF-8
	kindNumber        // a decimal with four decimals
	kindFloat         // a double: the satisfaction index, a trait that is a number
	kindInstant       // milliseconds
	kindDuration      // milliseconds
	kindJSON          // of a trait or property: what it is compared with says which of the others
)

type op uint8

const (
	opConst op = iota
	opAnd
	opOr
	opNot
	opCompare
	opIn
	opHas
	opContains
	opStartsWith
	opEndsWith
	opSize
	opAdd
	opSubtract
	opStage
	opStageSince
	opFirstSeen
	opStatus
	opStatusSince
	opIndex
	opComplaints
	opTier
	opTierSince
	opPoints
	opExpiring
	opInAccount
	opInSegment
	opCount
	opSum
	opFirst
	opLast
	opSince
	opJSON // of a trait, or of the event's properties
	opEventField
	opEventAmount
)

// comparison is the operator of an opCompare.
type comparison uint8

const (
	equal comparison = iota
	notEqual
	less
	lessEqual
	greater
	greaterEqual
)

var comparisons = map[string]comparison{
	operators.Equals: equal, operators.NotEquals: notEqual, operators.Less: less,
	operators.LessEquals: lessEqual, operators.Greater: greater, operators.GreaterEquals: greaterEqual,
}

// turned is the comparison with its sides exchanged.
func (c comparison) turned() comparison {
	return [...]comparison{equal: equal, notEqual: notEqual, less: greater, lessEqual: greaterEqual, greater: less, greaterEqual: lessEqual}[c]
}

// holds reports whether the comparison holds of what cmp.Compare gave.
func (c comparison) holds(order int) bool {
	switch c {
	case equal:
		return order == 0
	case notEqual:
		return order != 0
	case less:
		return order < 0
	case lessEqual:
		return order <= 0
	case greater:
		return order > 0
	default:
		return order >= 0
	}
}

// node is a condition, or a part of it.
type node struct {
	op      op
	kind    kind
	compare comparison
	args    []*node
	// Of a constant; also the argument of a function that takes a name.
	truth bool
	text  string
	num   number
	// written is a number as SQL reads it, float what it is as a double.
	written string
	float   float64
	at      domain.Millis // an instant or a duration
	// Of a count, sum, first or last.
	sel    Selector
	window domain.Millis // 0: to the first
	// Of opJSON and opHas: the keys, and whether they are of the event.
	path  []string
	event bool
}

var languages = [2]func() (*cel.Env, error){
	sync.OnceValues(func() (*cel.Env, error) { return celEnv(false) }),
	sync.OnceValues(func() (*cel.Env, error) { return celEnv(true) }),
}

// maxText bounds the text of a condition, in bytes.
const maxText = 8 << 10

// Compile reads a condition. What is wrong with it is an *Error.
func Compile(text string, env Env) (*Condition, error) {
	if len(text) > maxText {
		return nil, &Error{1, 1, fmt.Sprintf("a condition has at most %d bytes; name a part of it as a segment", maxText)}
	}
	if strings.TrimSpace(text) == "" {
		return nil, &Error{1, 1, "a condition is missing"}
	}
	language := languages[0]
	if env.Event {
		language = languages[1]
	}
	e, err := language()
	if err != nil {
		return nil, err
	}
	checked, issues := e.Compile(text)
	if issues.Err() != nil {
		first := slices.MinFunc(issues.Errors(), func(a, b *cel.Error) int {
			return cmp.Or(cmp.Compare(a.Location.Line(), b.Location.Line()), cmp.Compare(a.Location.Column(), b.Location.Column()))
		})
		return nil, &Error{max(first.Location.Line(), 1), max(first.Location.Column()+1, 1), explain(first.Message, env.Event)}
	}
	w := walker{text: []rune(text), info: checked.NativeRep().SourceInfo(), env: env}
	root, err := w.boolean(checked.NativeRep().Expr())
	if err != nil {
		return nil, err
	}
	c := &Condition{text: text, root: root}
	c.needs.gather(root)
	c.needs.tidy()
	return c, nil
}

type walker struct {
	text []rune
	info *ast.SourceInfo
	env  Env
}

func (w *walker) refuse(e ast.Expr, format string, args ...any) error {
	at := w.info.GetStartLocation(e.ID())
	return &Error{max(at.Line(), 1), max(at.Column()+1, 1), fmt.Sprintf(format, args...)}
}

// boolean reads what is true, false or unknown.
func (w *walker) boolean(e ast.Expr) (*node, error) {
	n, err := w.node(e)
	if err != nil {
		return nil, err
	}
	return w.as(e, n, kindBool)
}

// as makes a trait what it is used as.
func (w *walker) as(e ast.Expr, n *node, k kind) (*node, error) {
	if n.kind == kindJSON {
		n.kind = k
	}
	if n.kind != k {
		return nil, w.refuse(e, "%s is wanted here, not %s", kindNames[k], kindNames[n.kind])
	}
	return n, nil
}

var kindNames = [...]string{"true or false", "text", "a number", "a number", "a time", "a duration", "a trait"}

func (w *walker) node(e ast.Expr) (*node, error) {
	switch e.Kind() {
	case ast.LiteralKind:
		return w.literal(e)
	case ast.IdentKind:
		return w.variable(e)
	case ast.SelectKind:
		return w.selected(e)
	case ast.CallKind:
		return w.call(e)
	}
	return nil, w.refuse(e, "this is not part of the language of conditions")
}

func (w *walker) literal(e ast.Expr) (*node, error) {
	switch v := e.AsLiteral().(type) {
	case types.Bool:
		return &node{op: opConst, kind: kindBool, truth: bool(v)}, nil
	case types.String:
		return &node{op: opConst, kind: kindText, text: string(v)}, nil
	case types.Int:
		return &node{op: opConst, kind: kindNumber, num: wholeNumber(int64(v)), written: strconv.FormatInt(int64(v), 10), float: float64(v)}, nil
	case types.Double:
		text := w.written(e)
		d, ok := domain.ParseDecimal(text)
		if _, decimals, _ := strings.Cut(text, "."); !ok || len(decimals) > 4 || strings.ContainsAny(text, "eE") {
			return nil, w.refuse(e, "a number has at most 14 digits before the point and 4 behind it")
		}
		return &node{op: opConst, kind: kindNumber, num: numberOf(d), written: d.String(), float: float64(v)}, nil
	}
	return nil, w.refuse(e, "this is not part of the language of conditions")
}

// written is a number as it stands in the text.
func (w *walker) written(e ast.Expr) string {
	r, _ := w.info.GetOffsetRange(e.ID())
	end := int(r.Start)
	for end < len(w.text) && (strings.ContainsRune("0123456789.eE", w.text[end]) ||
		strings.ContainsRune("+-", w.text[end]) && (end == int(r.Start) || w.text[end-1] == 'e' || w.text[end-1] == 'E')) {
		end++
	}
	return string(w.text[r.Start:end])
}

var variables = map[string]node{
	"stage":              {op: opStage, kind: kindText},
	"stage_since":        {op: opStageSince, kind: kindInstant},
	"first_seen":         {op: opFirstSeen, kind: kindInstant},
	"satisfaction":       {op: opStatus, kind: kindText},
	"satisfaction_since": {op: opStatusSince, kind: kindInstant},
	"satisfaction_index": {op: opIndex, kind: kindFloat},
	"open_complaints":    {op: opComplaints, kind: kindNumber},
	"event.amount":       {op: opEventAmount, kind: kindNumber},
}

func (w *walker) variable(e ast.Expr) (*node, error) {
	name := e.AsIdent()
	if n, ok := variables[name]; ok {
		return &n, nil
	}
	if _, ok := eventFields[name]; ok {
		return &node{op: opEventField, kind: kindText, text: name}, nil
	}
	return nil, w.refuse(e, "name a key, as in %s.plan", name)
}

// path reads the keys behind traits or event.properties.
func (w *walker) path(e ast.Expr) (path []string, event bool, err error) {
	var key string
	var of ast.Expr
	switch e.Kind() {
	case ast.IdentKind:
		return nil, e.AsIdent() == "event.properties", nil
	case ast.SelectKind:
		of, key = e.AsSelect().Operand(), e.AsSelect().FieldName()
	case ast.CallKind:
		c := e.AsCall()
		if c.FunctionName() != operators.Index {
			return nil, false, w.refuse(e, "keys can only be named of traits and event.properties")
		}
		if of = c.Args()[0]; c.Args()[1].Kind() != ast.LiteralKind {
			return nil, false, w.refuse(c.Args()[1], "a key must be written out as text")
		}
		k, ok := c.Args()[1].AsLiteral().(types.String)
		if !ok {
			return nil, false, w.refuse(c.Args()[1], "a key is text")
		}
		key = string(k)
	default:
		return nil, false, w.refuse(e, "keys can only be named of traits and event.properties")
	}
	if path, event, err = w.path(of); err != nil {
		return nil, false, err
	}
	return append(path, key), event, nil
}

func (w *walker) selected(e ast.Expr) (*node, error) {
	path, event, err := w.path(e)
	if err != nil {
		return nil, err
	}
	if e.Kind() == ast.SelectKind && e.AsSelect().IsTestOnly() {
		return &node{op: opHas, kind: kindBool, path: path, event: event}, nil
	}
	return &node{op: opJSON, kind: kindJSON, path: path, event: event}, nil
}

func (w *walker) call(e ast.Expr) (*node, error) {
	c := e.AsCall()
	name, args := c.FunctionName(), c.Args()
	if c.IsMemberFunction() {
		args = append([]ast.Expr{c.Target()}, args...)
	}
	if _, ok := comparisons[name]; ok {
		return w.comparison(e, comparisons[name], args)
	}
	switch name {
	case operators.LogicalAnd:
		return w.all(opAnd, kindBool, kindBool, args)
	case operators.LogicalOr:
		return w.all(opOr, kindBool, kindBool, args)
	case operators.LogicalNot:
		return w.all(opNot, kindBool, kindBool, args)
	case operators.In:
		return w.in(args)
	case operators.Index:
		return w.selected(e)
	case operators.Add:
		return w.sum(opAdd, args)
	case operators.Subtract:
		return w.sum(opSubtract, args)
	case "contains":
		return w.all(opContains, kindBool, kindText, args)
	case "startsWith":
		return w.all(opStartsWith, kindBool, kindText, args)
	case "endsWith":
		return w.all(opEndsWith, kindBool, kindText, args)
	case "size":
		return w.all(opSize, kindNumber, kindText, args)
	case "since":
		n, err := w.all(opSince, kindDuration, kindInstant, args)
		if err == nil && n.args[0].op == opConst {
			return nil, w.refuse(args[0], "since wants a time of the customer's; compare a time that is written out by < and >")
		}
		return n, err
	case "duration":
		return w.duration(args[0])
	case "timestamp":
		return w.instant(args[0])
	case "tier", "tier_since", "points":
		return w.programme(name, args[0])
	case "expiring":
		return w.expiring(args)
	case "in_account":
		return w.named(&node{op: opInAccount, kind: kindBool}, args[0], "account", nil)
	case "in_segment":
		return w.named(&node{op: opInSegment, kind: kindBool}, args[0], "segment", w.env.Segments)
	case "count", "sum", "first", "last":
		return w.touchpoints(name, args)
	case "named", "meaning":
		return nil, w.refuse(e, "%s stands in count, sum, first or last", name)
	}
	return nil, w.refuse(e, "%s is not part of the language of conditions", name)
}

func (w *walker) all(o op, k, of kind, args []ast.Expr) (*node, error) {
	n := &node{op: o, kind: k}
	for _, a := range args {
		arg, err := w.node(a)
		if err == nil {
			arg, err = w.as(a, arg, of)
		}
		if err != nil {
			return nil, err
		}
		n.args = append(n.args, arg)
	}
	return n, nil
}

func (w *walker) sum(o op, args []ast.Expr) (*node, error) {
	n := &node{op: o, kind: kindNumber}
	for _, a := range args {
		arg, err := w.node(a)
		if err != nil {
			return nil, err
		}
		if arg.kind != kindNumber {
			return nil, w.refuse(a, "only counts, sums, points and numbers that are written out can be added; %s compares with a number that is written out", w.calls(arg))
		}
		n.args = append(n.args, arg)
	}
	return n, nil
}

func (w *walker) calls(n *node) string {
	if n.op == opIndex {
		return "satisfaction_index"
	}
	return kindNames[n.kind]
}

func (w *walker) comparison(e ast.Expr, c comparison, args []ast.Expr) (*node, error) {
	left, err := w.node(args[0])
	if err != nil {
		return nil, err
	}
	right, err := w.node(args[1])
	if err != nil {
		return nil, err
	}
	if left.op == opConst {
		left, right, c = right, left, c.turned()
		args = []ast.Expr{args[1], args[0]}
	}
	if left.op == opConst {
		return nil, w.refuse(e, "both sides are written out: one must say something of the customer")
	}
	if err := w.meet(args, left, right); err != nil {
		return nil, err
	}
	if left.kind == kindBool && c != equal && c != notEqual {
		return nil, w.refuse(e, "true and false compare by == and != only")
	}
	return &node{op: opCompare, kind: kindBool, compare: c, args: []*node{left, right}}, nil
}

// meet makes two sides of a comparison one kind, or refuses them.
func (w *walker) meet(args []ast.Expr, left, right *node) error {
	if left.kind == kindJSON && right.kind == kindJSON {
		return w.refuse(args[0], "two values of which nobody says what they are do not compare")
	}
	if left.kind == kindJSON {
		if right.kind == kindNumber {
			left.kind = kindFloat
		} else {
			left.kind = right.kind
		}
	}
	if right.kind == kindJSON {
		if right.kind = left.kind; left.kind == kindNumber {
			right.kind = kindFloat
		}
	}
	if left.kind == kindFloat && right.kind == kindNumber && right.op == opConst {
		right.kind = kindFloat
	}
	for i, n := range []*node{left, right} {
		if n.op == opJSON && (n.kind == kindInstant || n.kind == kindDuration) {
			return w.refuse(args[i], "a trait is text, a number, or true or false; it does not compare with %s", kindNames[n.kind])
		}
	}
	switch {
	case left.kind == kindFloat && (right.kind != kindFloat || right.op != opConst):
		return w.refuse(args[1], "a trait that is a number, and satisfaction_index, compare with a number that is written out")
	case right.kind == kindFloat && left.kind != kindFloat:
		return w.refuse(args[0], "a trait that is a number, and satisfaction_index, compare with a number that is written out")
	case left.kind == kindDuration && right.op != opConst:
		return w.refuse(args[1], "since compares with a duration that is written out, as in duration(\"30d\")")
	case left.kind != right.kind:
		return w.refuse(args[1], "%s does not compare with %s", kindNames[left.kind], kindNames[right.kind])
	case left.kind == kindText && right.op == opConst:
		return w.known(args[1], left, right.text)
	}
	return nil
}

// known refuses a name that what it is compared with never has.
func (w *walker) known(e ast.Expr, n *node, text string) error {
	var names []string
	switch n.op {
	case opStage:
		names = w.env.Stages
	case opStatus:
		names = w.env.Statuses
	case opTier:
		if names = w.env.Programmes[n.text]; w.env.Programmes == nil {
			return nil
		}
	case opEventField:
		if n.text == "event.meaning" {
			names = w.env.Meanings
		}
	}
	if names != nil && !slices.Contains(names, text) {
		return w.refuse(e, "%q is none of %s", text, strings.Join(names, ", "))
	}
	return nil
}

func (w *walker) in(args []ast.Expr) (*node, error) {
	left, err := w.node(args[0])
	if err != nil {
		return nil, err
	}
	if left.op == opConst {
		return nil, w.refuse(args[0], "the value before in must say something of the customer")
	}
	if args[1].Kind() != ast.ListKind || len(args[1].AsList().Elements()) == 0 {
		return nil, w.refuse(args[1], "behind in stands a list that is written out, as in [\"a\", \"b\"]")
	}
	n := &node{op: opIn, kind: kindBool, args: []*node{left}}
	for _, e := range args[1].AsList().Elements() {
		if e.Kind() != ast.LiteralKind {
			return nil, w.refuse(e, "what stands in a list must be written out")
		}
		value, err := w.literal(e)
		if err == nil {
			err = w.meet([]ast.Expr{args[0], e}, left, value)
		}
		if err != nil {
			return nil, err
		}
		n.args = append(n.args, value)
	}
	return n, nil
}

// name is a text that is written out and not empty.
func (w *walker) name(e ast.Expr, what string) (string, error) {
	if e.Kind() == ast.LiteralKind {
		if s, ok := e.AsLiteral().(types.String); ok && s != "" {
			return string(s), nil
		}
	}
	return "", w.refuse(e, "%s must be written out as text", what)
}

func (w *walker) named(n *node, e ast.Expr, what string, names []string) (*node, error) {
	var err error
	if n.text, err = w.name(e, "the "+what); err != nil {
		return nil, err
	}
	if names != nil && !slices.Contains(names, n.text) {
		return nil, w.refuse(e, "there is no %s %q", what, n.text)
	}
	return n, nil
}

func (w *walker) programme(name string, e ast.Expr) (*node, error) {
	n := map[string]node{
		"tier":       {op: opTier, kind: kindText},
		"tier_since": {op: opTierSince, kind: kindInstant},
		"points":     {op: opPoints, kind: kindNumber},
		"expiring":   {op: opExpiring, kind: kindNumber},
	}[name]
	var names []string
	if w.env.Programmes != nil {
		names = []string{}
		for p := range w.env.Programmes {
			names = append(names, p)
		}
	}
	return w.named(&n, e, "programme", names)
}

func (w *walker) expiring(args []ast.Expr) (*node, error) {
	n, err := w.programme("expiring", args[0])
	if err == nil {
		n.window, err = w.length(args[1])
	}
	return n, err
}

// length is a window that is written out.
func (w *walker) length(e ast.Expr) (domain.Millis, error) {
	d, err := w.node(e)
	if err != nil {
		return 0, err
	}
	if d.op != opConst || d.at == 0 {
		return 0, w.refuse(e, "a window must be written out and longer than nothing, as in duration(\"30d\")")
	}
	return d.at, nil
}

func (w *walker) touchpoints(name string, args []ast.Expr) (*node, error) {
	n := map[string]node{
		"count": {op: opCount, kind: kindNumber},
		"sum":   {op: opSum, kind: kindNumber},
		"first": {op: opFirst, kind: kindInstant},
		"last":  {op: opLast, kind: kindInstant},
	}[name]
	chosen := args[0].AsCall()
	of := chosen.Args()[0]
	text, err := w.name(of, "which touchpoints")
	if err != nil {
		return nil, err
	}
	if chosen.FunctionName() == "meaning" {
		if n.sel.Meaning = text; w.env.Meanings != nil && !slices.Contains(w.env.Meanings, text) {
			return nil, w.refuse(of, "%q is none of %s", text, strings.Join(w.env.Meanings, ", "))
		}
	} else {
		n.sel.Name = text
	}
	args = args[1:]
	if n.op == opSum {
		if n.text, err = w.name(args[0], "the currency"); err != nil {
			return nil, err
		}
		if n.text != strings.ToUpper(n.text) {
			return nil, w.refuse(args[0], "currencies are written in upper case: %q", strings.ToUpper(n.text))
		}
		args = args[1:]
	}
	if len(args) > 0 {
		if n.window, err = w.length(args[0]); err != nil {
			return nil, err
		}
	}
	return &n, nil
}

// maxDuration bounds durations that are written out.
const maxDuration = 100 * 365 * domain.Day

func (w *walker) duration(e ast.Expr) (*node, error) {
	text, err := w.name(e, "a duration")
	if err != nil {
		return nil, err
	}
	d, ok := parseDuration(text)
	if !ok {
		return nil, w.refuse(e, "%q is no duration: write days, hours, minutes, seconds or milliseconds, the largest first, as in \"30d\" or \"1h30m\"; a hundred years at most", text)
	}
	return &node{op: opConst, kind: kindDuration, at: d}, nil
}

// parseDuration reads whole numbers with their units, the largest first.
func parseDuration(text string) (domain.Millis, bool) {
	units := []struct {
		name string
		of   domain.Millis
	}{{"d", domain.Day}, {"h", domain.Day / 24}, {"m", 60_000}, {"s", 1000}, {"ms", 1}}
	var sum domain.Millis
	for text != "" {
		digits := len(text) - len(strings.TrimLeft(text, "0123456789"))
		n, err := strconv.ParseInt(text[:digits], 10, 64)
		if err != nil {
			return 0, false
		}
		text = text[digits:]
		name := text[:len(text)-len(strings.TrimLeft(text, "dhms"))]
		i := slices.IndexFunc(units, func(u struct {
			name string
			of   domain.Millis
		},
		) bool {
			return u.name == name
		})
		if i < 0 || n > int64(maxDuration/units[i].of) {
			return 0, false
		}
		if sum += domain.Millis(n) * units[i].of; sum > maxDuration {
			return 0, false
		}
		text, units = text[len(name):], units[i+1:]
	}
	return sum, true
}

func (w *walker) instant(e ast.Expr) (*node, error) {
	text, err := w.name(e, "a time")
	if err != nil {
		return nil, err
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	at := domain.MillisOf(t)
	if err != nil || !at.Time().Equal(t) || at < domain.MinTime || at > domain.MaxTime {
		return nil, w.refuse(e, "%q is no time: write RFC 3339 to the millisecond between 1900 and 2299, as in \"2026-03-01T00:00:00Z\"", text)
	}
	return &node{op: opConst, kind: kindInstant, at: at}, nil
}

// gather collects what a tree asks of a subject.
func (need *Needs) gather(n *node) {
	for _, a := range n.args {
		need.gather(a)
	}
	switch n.op {
	case opStage, opStageSince:
		need.Stage = true
	case opStatus, opStatusSince, opIndex, opComplaints:
		need.Satisfaction = true
	case opTier, opTierSince:
		need.Tiers = append(need.Tiers, n.text)
	case opPoints:
		need.Points = append(need.Points, n.text)
	case opExpiring:
		need.Expiring = append(need.Expiring, Expiring{n.text, n.window})
	case opInAccount:
		need.Accounts = true
	case opInSegment:
		need.Segments = append(need.Segments, n.text)
	case opCount, opSum, opFirst, opLast:
		need.Touchpoints = append(need.Touchpoints, Touchpoints{n.sel, n.window, n.op == opSum})
	case opJSON, opHas:
		if n.event {
			need.Event = true
		} else {
			need.Traits = append(need.Traits, n.path[0])
		}
	case opEventField, opEventAmount:
		need.Event = true
	}
}

// Add adds what other conditions need.
func (need *Needs) Add(o *Needs) {
	need.Stage = need.Stage || o.Stage
	need.Satisfaction = need.Satisfaction || o.Satisfaction
	need.Accounts = need.Accounts || o.Accounts
	need.Event = need.Event || o.Event
	need.Tiers = append(need.Tiers, o.Tiers...)
	need.Points = append(need.Points, o.Points...)
	need.Traits = append(need.Traits, o.Traits...)
	need.Segments = append(need.Segments, o.Segments...)
	need.Touchpoints = append(need.Touchpoints, o.Touchpoints...)
	need.Expiring = append(need.Expiring, o.Expiring...)
	need.tidy()
}

func (need *Needs) tidy() {
	for _, list := range []*[]string{&need.Tiers, &need.Points, &need.Traits, &need.Segments} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	slices.SortFunc(need.Touchpoints, func(a, b Touchpoints) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Meaning, b.Meaning))
	})
	list := need.Touchpoints[:0]
	for _, t := range need.Touchpoints {
		if n := len(list); n > 0 && list[n-1].Selector == t.Selector {
			last := &list[n-1]
			last.Amounts = last.Amounts || t.Amounts
			if last.Window == 0 || t.Window == 0 {
				last.Window = 0
			} else {
				last.Window = max(last.Window, t.Window)
			}
			continue
		}
		list = append(list, t)
	}
	need.Touchpoints = list
	slices.SortFunc(need.Expiring, func(a, b Expiring) int {
		return cmp.Or(strings.Compare(a.Programme, b.Programme), cmp.Compare(a.Within, b.Within))
	})
	need.Expiring = slices.Compact(need.Expiring)
}
