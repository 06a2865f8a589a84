package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"sojourn/domain"
)

// Problem is one thing that is wrong with a policy, and where.
type Problem struct {
	// Path leads to it: keys, and indices of lists in decimal, such as
	// ["events", "3", "meaning"].
	Path    []string
	Message string
}

// PathString is the path as people write it: "events[3].meaning".
func (p Problem) PathString() string {
	var b strings.Builder
	for i, part := range p.Path {
		switch {
		case part != "" && strings.Trim(part, "0123456789") == "":
			b.WriteString("[" + part + "]")
		case i > 0:
			b.WriteString("." + part)
		default:
			b.WriteString(part)
		}
	}
	return b.String()
}

// Error is the path and the message.
func (p Problem) Error() string {
	if len(p.Path) == 0 {
		return p.Message
	}
	return p.PathString() + ": " + p.Message
}

// Problems are all that is wrong with a policy, in the order of the document's
// keys. Find them in an error with errors.As.
type Problems []Problem

// Error has a line for each problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

type validator struct{ problems Problems }

func (v *validator) add(path []string, format string, args ...any) {
	v.problems = append(v.problems, Problem{slices.Clone(path), fmt.Sprintf(format, args...)})
}

// maxDays and maxLoyalPurchases bound the numbers of a policy: a century, and
// what the fold looks back over at each purchase.
const (
	maxDays           = 36_500
	maxLoyalPurchases = 1_000
)

// Validate returns nil or Problems: everything that is wrong.
func (p Policy) Validate() error {
	v := &validator{}
	validCurrency(v, []string{"currency"}, p.Currency)
	p.Lifecycle.validate(v)
	p.Identity.validate(v)
	currency := p.Currency
	if len(v.problems) > 0 {
		currency = Default().Currency // what is wrong is said once
	}
	loyalty := p.Loyalty.complete(currency)
	loyalty.validate(v)
	p.Satisfaction.validate(v, loyalty.tierNames())
	seen := map[[3]string]string{}
	for i, m := range p.Events {
		m.validate(v, i, seen)
	}
	for i, r := range p.Channels {
		r.validate(v, i)
	}
	validateMappings(v, p.Mappings)
	if len(v.problems) == 0 {
		return nil
	}
	return v.problems
}

func validCurrency(v *validator, path []string, currency string) {
	if len(currency) != 3 || strings.Trim(currency, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		v.add(path, "%q is no currency: write its three letters in upper case, such as USD", currency)
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func (l Lifecycle) validate(v *validator) {
	at := func(key string) []string { return []string{"lifecycle", key} }
	for _, f := range [...]struct {
		key   string
		value int
	}{
		{"at_risk_days", l.AtRiskDays},
		{"churned_days", l.ChurnedDays},
		{"lost_days", l.LostDays},
		{"won_back_days", l.WonBackDays},
		{"loyal_days", l.LoyalDays},
	} {
		if f.value < 1 || f.value > maxDays {
			v.add(at(f.key), "%d is not between 1 and %d days", f.value, maxDays)
		}
	}
	if l.LoyalPurchases < 2 || l.LoyalPurchases > maxLoyalPurchases {
		v.add(at("loyal_purchases"), "%d is not between 2 and %d purchases", l.LoyalPurchases, maxLoyalPurchases)
	}
	if l.ChurnedDays <= l.AtRiskDays {
		v.add(at("churned_days"), "%d must be more than at_risk_days, which is %d", l.ChurnedDays, l.AtRiskDays)
	}
	if l.LostDays <= l.ChurnedDays {
		v.add(at("lost_days"), "%d must be more than churned_days, which is %d", l.LostDays, l.ChurnedDays)
	}
}

func (i Identities) validate(v *validator) {
	at := func(keys ...string) []string { return append([]string{"identity"}, keys...) }
	kind := func(path []string, name string) bool {
		k, ok := domain.ParseSubjectKind(name)
		switch {
		case !ok:
			v.add(path, "%q is no kind of subject: use user, anon, email, phone, device or the type of an external id", name)
		case string(k) != name:
			v.add(path, "%q is no kind of subject: write it in lower case, %s", name, k)
		default:
			return true
		}
		return false
	}
	for n, name := range i.Join {
		if path := at("join", fmt.Sprint(n)); kind(path, name) && slices.Index(i.Join, name) < n {
			v.add(path, "%q is listed already", name)
		}
	}
	for _, name := range sortedKeys(i.Limits) {
		path := at("limits", name)
		if kind(path, name) && i.Limits[name] < 0 {
			v.add(path, "%d is below zero: write 0 for any number", i.Limits[name])
		}
	}
	for n, value := range i.Nobody {
		if strings.TrimSpace(value) == "" {
			v.add(at("nobody", fmt.Sprint(n)), "is empty, which names nobody anyway")
		}
	}
}

func (m Mapping) validate(v *validator, index int, seen map[[3]string]string) {
	at := func(keys ...string) []string { return append([]string{"events", fmt.Sprint(index)}, keys...) }
	kind := m.Type
	if kind == "" {
		kind = domain.Track.String()
	} else if _, ok := domain.ParseKind(kind); !ok {
		v.add(at("type"), "%q is no type of message%s", kind, oneOf(kind, kindNames()))
	}
	switch {
	case m.Meaning == "":
		v.add(at("meaning"), "is missing%s", oneOf("", words(Meanings)))
	case !slices.Contains(Meanings, m.Meaning):
		v.add(at("meaning"), "%q is no meaning%s", m.Meaning, oneOf(string(m.Meaning), words(Meanings)))
	}
	if m.As != "" && !slices.Contains(Acts, m.As) {
		v.add(at("as"), "%q is no event of satisfaction%s", m.As, oneOf(string(m.As), words(Acts)))
	}
	if m.Channel != "" && !slices.Contains(Channels, m.Channel) {
		v.add(at("channel"), "%q is no channel%s", m.Channel, oneOf(m.Channel, Channels))
	}
	if m.Name == "" && len(m.Names) == 0 && m.Type == "" && m.Source == "" {
		v.add(at(), "fits every message: give it a name, names, a type or a source")
	}
	path := at("name")
	check := func(name string) {
		key := [3]string{kind, m.Source, name}
		here := Problem{Path: path}.PathString()
		if before, ok := seen[key]; ok {
			v.add(path, "%q is mapped already by %s", name, before)
			return
		}
		seen[key] = here
	}
	if m.Name != "" {
		check(m.Name)
	}
	for i, name := range m.Names {
		path = at("names", fmt.Sprint(i))
		if name == "" {
			v.add(path, "is empty")
			continue
		}
		check(name)
	}
	if m.Name == "" && len(m.Names) == 0 {
		path = at()
		key := [3]string{kind, m.Source, ""}
		if before, ok := seen[key]; ok {
			v.add(path, "the same messages are mapped already by %s", before)
		}
		seen[key] = Problem{Path: path}.PathString()
	}
}

func (r ChannelRule) validate(v *validator, index int) {
	at := func(key string) []string { return []string{"channels", fmt.Sprint(index), key} }
	if r.Type != "" {
		if _, ok := domain.ParseKind(r.Type); !ok {
			v.add(at("type"), "%q is no type of message%s", r.Type, oneOf(r.Type, kindNames()))
		}
	}
	switch {
	case r.Channel == "":
		v.add(at("channel"), "is missing%s", oneOf("", Channels))
	case !slices.Contains(Channels, r.Channel):
		v.add(at("channel"), "%q is no channel%s", r.Channel, oneOf(r.Channel, Channels))
	}
}

func kindNames() []string {
	var names []string
	for k := domain.Track; k <= domain.Alias; k++ {
		names = append(names, k.String())
	}
	return names
}

// words are the texts of a list of names.
func words[T ~string](list []T) []string {
	names := make([]string, len(list))
	for i, m := range list {
		names[i] = string(m)
	}
	return names
}

// oneOf ends a message: the nearest of the known words, else all of them.
func oneOf(word string, known []string) string {
	if near, ok := Nearest(word, known); ok {
		return fmt.Sprintf(": did you mean %s?", near)
	}
	return ": use " + strings.Join(known[:len(known)-1], ", ") + " or " + known[len(known)-1]
}

// Nearest is the known word that a mistyped one most likely meant: the first of
// those at the smallest edit distance, if that is at most a third of its length
// and one.
func Nearest(word string, known []string) (string, bool) {
	best, bestDistance := "", len(word)/3+2
	if word == "" {
		return "", false
	}
	for _, k := range known {
		if d := editDistance(strings.ToLower(word), k); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best, best != ""
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

// Keys are the keys that a path of the document may go on with, in the order of
// the document; none where it holds no object, or one with any keys. An index of a
// list may be any number, a key of such an object any text. A loader of another syntax finds unknown keys with it.
func Keys(path ...string) []string {
	t := reflect.TypeFor[Policy]()
	for _, part := range path {
		switch t.Kind() {
		case reflect.Slice, reflect.Map:
			t = t.Elem()
		case reflect.Struct:
			found := false
			for i := range t.NumField() {
				if jsonKey(t.Field(i)) == part {
					t, found = t.Field(i).Type, true
					break
				}
			}
			if !found {
				return nil
			}
		default:
			return nil
		}
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	keys := make([]string, t.NumField())
	for i := range keys {
		keys[i] = jsonKey(t.Field(i))
	}
	return keys
}

func jsonKey(f reflect.StructField) string {
	key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return key
}

// unknownKeys walks a JSON document for keys that a policy does not have. It
// leaves what is no JSON to the decoder.
func unknownKeys(data []byte) Problems {
	v := &validator{}
	v.walk(nil, data)
	return v.problems
}

func (v *validator) walk(path []string, data []byte) {
	var object map[string]json.RawMessage
	if json.Unmarshal(data, &object) == nil {
		keys := Keys(path...)
		for _, name := range sortedKeys(object) {
			child := append(slices.Clone(path), name)
			if keys != nil && !slices.Contains(keys, name) {
				v.problems = append(v.problems, UnknownKey(child))
				continue
			}
			v.walk(child, object[name])
		}
		return
	}
	var list []json.RawMessage
	if json.Unmarshal(data, &list) == nil {
		for i, item := range list {
			v.walk(append(slices.Clone(path), fmt.Sprint(i)), item)
		}
	}
}

// UnknownKey is the problem of a key that a policy does not have; it names the
// nearest one.
func UnknownKey(path []string) Problem {
	name := path[len(path)-1]
	return Problem{path, fmt.Sprintf("%q is no key of a policy%s", name, oneOf(name, Keys(path[:len(path)-1]...)))}
}
