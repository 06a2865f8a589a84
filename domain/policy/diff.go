package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Change is one key by which two policies differ.
type Change struct {
	// Key leads to it, such as "lifecycle.at_risk_days"; of a mapping it names the
	// messages: events[track "Invoice Paid" from erp].
	Key string
	// From and To are the values as JSON; empty where one of the policies does not
	// have it. Of a mapping they are the meaning and the channel.
	From, To string
}

// Diff lists by what a policy differs from another, in the order of the document.
// Both are compared with the standard names written out, so it is empty exactly
// where applying one after the other would change nothing but the order of
// mappings, which means nothing.
func Diff(from, to Policy) ([]Change, error) {
	a, err := flatten(from)
	if err != nil {
		return nil, err
	}
	b, err := flatten(to)
	if err != nil {
		return nil, err
	}
	var changes []Change
	// A key of one of them alone stands behind the one it follows there.
	order := slices.Clone(b.keys)
	for i, key := range a.keys {
		if _, ok := b.values[key]; ok {
			continue
		}
		at := 0
		if i > 0 {
			at = slices.Index(order, a.keys[i-1]) + 1
		}
		order = slices.Insert(order, at, key)
	}
	for _, key := range order {
		if f, t := a.values[key], b.values[key]; f != t {
			changes = append(changes, Change{key, f, t})
		}
	}
	for _, path := range b.lists {
		if c, ok := turned(path, a, b); ok {
			changes = append(changes, c)
		}
	}
	return changes, nil
}

// turned finds the first two entries of a list that stand the other way round.
func turned(path string, a, b *flat) (Change, bool) {
	was, is := a.entries[path], b.entries[path]
	was = slices.DeleteFunc(slices.Clone(was), func(e string) bool { return !slices.Contains(is, e) })
	is = slices.DeleteFunc(slices.Clone(is), func(e string) bool { return !slices.Contains(was, e) })
	for i := range min(len(was), len(is)) {
		if was[i] != is[i] {
			return Change{path, was[i] + " before " + is[i], is[i] + " before " + was[i]}, true
		}
	}
	return Change{}, false
}

// flat is a policy as values by key, in the order of the document.
type flat struct {
	keys   []string
	values map[string]string
	// lists are the paths of lists of objects, entries what stands in each.
	lists   []string
	entries map[string][]string
}

func (f *flat) set(key, value string) {
	// Where a list says the same thing more than once.
	for n, base := 2, key; ; n++ {
		if _, ok := f.values[key]; !ok {
			break
		}
		key = base + " #" + strconv.Itoa(n)
	}
	f.keys = append(f.keys, key)
	f.values[key] = value
}

func flatten(p Policy) (*flat, error) {
	p = p.Expanded()
	f := &flat{values: map[string]string{}, entries: map[string][]string{}}
	events := p.Events
	p.Events = nil
	b, err := p.MarshalCanonical()
	if err != nil {
		return nil, err
	}
	err = f.object("", b, func(key string) bool {
		if key != "events" {
			return false
		}
		for _, m := range events {
			f.mapping(m)
		}
		return true
	})
	return f, err
}

// mapping sets what each of its names means.
func (f *flat) mapping(m Mapping) {
	kind := m.Type
	if kind == "" {
		kind = "track"
	}
	from, value := "", string(m.Meaning)
	if m.Source != "" {
		from = " from " + m.Source
	}
	if m.Channel != "" {
		value += " by " + m.Channel
	}
	names := m.allNames()
	if len(names) == 0 {
		f.set("events["+kind+from+"]", value)
	}
	for _, name := range names {
		f.set("events["+kind+" "+strconv.Quote(name)+from+"]", value)
	}
}

// object sets the values of a JSON object; own takes the keys that it sets itself.
func (f *flat) object(path string, data []byte, own func(key string) bool) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("compare policies: %w", err)
	}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return fmt.Errorf("compare policies: %w", err)
		}
		key, _ := token.(string)
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return fmt.Errorf("compare policies: %w", err)
		}
		key = join(path, key)
		if own != nil && own(key) {
			continue
		}
		if err := f.value(key, value); err != nil {
			return err
		}
	}
	return nil
}

func (f *flat) value(path string, value json.RawMessage) error {
	var list []json.RawMessage
	switch {
	case string(value) == "{}" && strings.HasPrefix(path, "mappings."):
		// What a mapping has for a value.
	case value[0] == '{':
		return f.object(path, value, nil)
	case value[0] == '[' && json.Unmarshal(value, &list) == nil && len(list) > 0 && list[0][0] == '{':
		return f.list(path, list)
	}
	f.set(path, string(value))
	return nil
}

// list sets the values of a list of objects: each by its name where all have one of
// their own; else each is a value by itself. Their order is compared apart, so that
// what is put in between moves nothing else.
func (f *flat) list(path string, list []json.RawMessage) error {
	names := make([]string, len(list))
	for i, item := range list {
		var named struct{ Name, ID, Key string }
		if err := json.Unmarshal(item, &named); err != nil {
			break // one of them is no text
		}
		for _, name := range []string{named.Name, named.ID, named.Key} {
			if names[i] == "" && !slices.Contains(names, name) {
				names[i] = name
			}
		}
	}
	named := !slices.Contains(names, "")
	f.lists = append(f.lists, path)
	for i, item := range list {
		if named {
			f.entries[path] = append(f.entries[path], names[i])
			if err := f.value(path+"["+names[i]+"]", item); err != nil {
				return err
			}
			continue
		}
		f.entries[path] = append(f.entries[path], string(item))
		f.set(path+strings.ReplaceAll(string(item), `"`, ""), string(item))
	}
	return nil
}
