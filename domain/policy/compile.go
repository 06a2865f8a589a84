package policy

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"sojourn/domain"
)

// Compiled is a policy made ready to classify messages. It is immutable and safe
// for concurrent use.
type Compiled struct {
	policy   Policy // expanded
	kinds    [int(domain.Alias) + 1]kindTable
	channels []ChannelRule
	identity IdentityRules
}

type kindTable struct {
	table
	sources map[string]*table
}

// table holds the rules for the messages of one type, of one source or of any.
type table struct {
	exact  map[string]Rule
	folded map[string]Rule
	any    Rule
	hasAny bool
	// fallback is the rule of what no mapping knows.
	fallback Rule
}

// Compile makes the policy ready to classify. It takes the policy as it is:
// mappings that Validate would refuse fit nothing or what they can.
func (p Policy) Compile() *Compiled {
	p = p.Expanded()
	c := &Compiled{policy: p, channels: p.Channels, identity: p.Identity.compile()}
	for k := domain.Track; k <= domain.Alias; k++ {
		t := &c.kinds[k]
		t.fallback = unmapped(k, c.Channel(k, "", ""))
		for _, r := range c.channels {
			if r.Source != "" && (r.Type == "" || r.Type == k.String()) {
				t.source(r.Source).fallback = unmapped(k, c.Channel(k, r.Source, ""))
			}
		}
	}
	for _, m := range p.Events {
		kind := domain.Track
		if m.Type != "" {
			var ok bool
			if kind, ok = domain.ParseKind(m.Type); !ok {
				continue
			}
		}
		kt := &c.kinds[kind]
		t := &kt.table
		if m.Source != "" {
			t = kt.source(m.Source)
			t.fallback = unmapped(kind, c.Channel(kind, m.Source, ""))
		}
		rule := Rule{Meaning: m.Meaning, Channel: m.Channel, Act: m.As}
		if rule.Channel == "" {
			rule.Channel, rule.ByRule = t.fallback.Channel, true
		}
		t.add(m.allNames(), rule)
	}
	// A source with rules of its own sees the general mappings through its own
	// channel, so that a lookup is one table and not a walk.
	for k := range c.kinds {
		for _, t := range c.kinds[k].sources {
			t.inherit(&c.kinds[k].table)
		}
	}
	return c
}

func (t *kindTable) source(name string) *table {
	if t.sources == nil {
		t.sources = map[string]*table{}
	}
	s := t.sources[name]
	if s == nil {
		s = &table{}
		t.sources[name] = s
	}
	return s
}

func (t *table) add(names []string, r Rule) {
	if len(names) == 0 {
		if !t.hasAny {
			t.any, t.hasAny = r, true
		}
		return
	}
	if t.exact == nil {
		t.exact, t.folded = map[string]Rule{}, map[string]Rule{}
	}
	for _, name := range names {
		if _, ok := t.exact[name]; !ok {
			t.exact[name] = r
		}
		var buf [foldSize]byte
		f := fold(buf[:0], name)
		if _, ok := t.folded[string(f)]; !ok {
			t.folded[string(f)] = r
		}
	}
}

// inherit adds the general rules that the source's own leave room for.
func (t *table) inherit(general *table) {
	if t.hasAny {
		return // what has its source and no name goes before a name without source
	}
	if t.exact == nil {
		t.exact, t.folded = map[string]Rule{}, map[string]Rule{}
	}
	ownFolds := t.folded
	t.folded = make(map[string]Rule, len(ownFolds)+len(general.folded))
	for f, r := range general.folded {
		t.folded[f] = t.through(r)
	}
	for f, r := range ownFolds {
		t.folded[f] = r
	}
	for name, r := range general.exact {
		var buf [foldSize]byte
		if _, own := ownFolds[string(fold(buf[:0], name))]; own {
			continue
		}
		t.exact[name] = t.through(r)
	}
	if general.hasAny {
		t.any, t.hasAny = t.through(general.any), true
	}
}

func (t *table) through(r Rule) Rule {
	if r.ByRule {
		r.Channel = t.fallback.Channel
	}
	return r
}

// unmapped is the rule of messages that no mapping knows.
func unmapped(k domain.Kind, channel string) Rule {
	r := Rule{Meaning: Unmapped, Channel: channel, ByRule: true}
	switch k {
	case domain.Page, domain.Screen:
		r.Meaning = Engagement
	case domain.Identify, domain.Group, domain.Alias:
		r.Meaning = Identity
	}
	return r
}

// Classify says what a message means and through which channel it came. name is
// the event of a track and the name of a page or screen. It costs a map lookup,
// two where the name is spelt in another way, and allocates nothing.
func (c *Compiled) Classify(kind domain.Kind, source, name string) Rule {
	if int(kind) >= len(c.kinds) {
		return Rule{Meaning: Unmapped, Channel: Server, ByRule: true}
	}
	kt := &c.kinds[kind]
	t := &kt.table
	if len(kt.sources) > 0 {
		if s, ok := kt.sources[source]; ok {
			t = s
		}
	}
	if len(t.exact) > 0 && name != "" {
		if r, ok := t.exact[name]; ok {
			return r
		}
		var buf [foldSize]byte
		if r, ok := t.folded[string(fold(buf[:0], name))]; ok {
			return r
		}
	}
	if t.hasAny {
		return t.any
	}
	return t.fallback
}

// Channel is what the channel rules say of a message of a type, source and
// library (context.library.name; empty where it is not known). The first rule
// that fits decides; a message that fits none came from a server.
func (c *Compiled) Channel(kind domain.Kind, source, library string) string {
	for _, r := range c.channels {
		if (r.Type == "" || r.Type == kind.String()) &&
			(r.Source == "" || r.Source == source) &&
			(r.Library == "" || strings.HasPrefix(library, r.Library)) {
			return r.Channel
		}
	}
	return Server
}

// Policy is the policy in force with all its mappings written out. It must not
// be changed.
func (c *Compiled) Policy() *Policy { return &c.policy }

// Lifecycle holds the numbers of the stage table.
func (c *Compiled) Lifecycle() Lifecycle { return c.policy.Lifecycle }

// Identity says who is one customer.
func (c *Compiled) Identity() *IdentityRules { return &c.identity }

// Satisfaction says how opinions and service are judged, with its lists written
// out.
func (c *Compiled) Satisfaction() *Satisfaction { return &c.policy.Satisfaction }

// Currency is the one of a purchase that names none.
func (c *Compiled) Currency() string { return c.policy.Currency }

// foldSize is the length of a folded name that needs no allocation.
const foldSize = 128

// fold appends name in lower case without spaces, underscores and hyphens, so
// that "Order Completed", "order_completed" and "orderCompleted" are one name.
func fold(buf []byte, name string) []byte {
	for i := 0; i < len(name); {
		c := name[i]
		if c < utf8.RuneSelf {
			i++
			switch {
			case c == ' ' || c == '_' || c == '-':
			case c >= 'A' && c <= 'Z':
				buf = append(buf, c+'a'-'A')
			default:
				buf = append(buf, c)
			}
			continue
		}
		r, size := utf8.DecodeRuneInString(name[i:])
		i += size
		buf = utf8.AppendRune(buf, unicode.ToLower(r))
	}
	return buf
}

func (m Mapping) allNames() []string {
	if m.Name == "" {
		return m.Names
	}
	return append([]string{m.Name}, m.Names...)
}
