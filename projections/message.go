package projections

import (
	"unsafe"

	"github.com/tidwall/gjson"

	"sojourn/domain"
	"sojourn/domain/commerce"
	"sojourn/domain/customer"
	"sojourn/domain/lifecycle"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
	"sojourn/domain/satisfaction"
)

// message gives the parts of a message that a projection needs, as raw JSON. It
// is read only where the policy or a table asks for it.
type message struct {
	properties, traits, context string
}

// propertiesOf is what the tables show as properties: of an identify or a group,
// the traits.
func (m *message) propertiesOf(k domain.Kind) string {
	if k == domain.Identify || k == domain.Group {
		return m.traits
	}
	return m.properties
}

// view shares the bytes of b as a string; the caller keeps b unchanged for as
// long as the string is in use.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// readMessage finds the parts of a message in one pass. The strings share data.
func readMessage(data []byte) message {
	var m message
	gjson.Parse(view(data)).ForEach(func(key, value gjson.Result) bool {
		if !value.IsObject() {
			return true
		}
		switch key.Str {
		case "properties":
			m.properties = value.Raw
		case "traits":
			m.traits = value.Raw
		case "context":
			m.context = value.Raw
		}
		return true
	})
	return m
}

// touch reads what the folds need of a touchpoint. Nothing but the name shares
// memory with the message or the header.
func (r *Rules) touch(h *domain.Header, ref lifecycle.Ref, rule policy.Rule, data []byte) customer.Touch {
	t := customer.Touch{Touch: lifecycle.Touch{
		Ref:       ref,
		Meaning:   rule.Meaning,
		UnderUser: h.UserID != "",
		Name:      h.Name,
	}}
	hasOrder := commerce.HasOrder(rule.Meaning)
	gives := h.Kind == domain.Track && r.book.WantsEvent(h.Name)
	if !hasOrder && !gives && rule.Act == "" && h.Kind != domain.Identify {
		return t
	}
	m := readMessage(data)
	prop := property(m.propertiesOf(h.Kind))
	if hasOrder {
		t.Order = commerce.Read(rule.Meaning, prop)
	}
	switch {
	case hasOrder || gives:
		t.Loyalty = &loyalty.Touch{Ref: ref, Meaning: rule.Meaning, Channel: r.channel(rule, h, mergedContext(h.BatchContext, m.context)), Order: t.Order}
		if h.Kind == domain.Track {
			t.Loyalty.Name = h.Name
		}
		if t.Loyalty.Lines = loyalty.ReadLines(prop("products")); t.Loyalty.Lines == nil && !hasOrder {
			t.Loyalty.Lines = loyalty.ReadLine(prop)
		}
	case h.Kind == domain.Identify:
		t.Traits = readTraits(m.traits, ref)
		for _, tr := range t.Traits {
			switch {
			case tr.Key == "email" && len(tr.Value) > len(`""`) && tr.Value[0] == '"':
				t.HasEmail = true
			case tr.Key == "birthday":
				if b := loyalty.ReadBirthday(tr.Value); b.Told {
					t.Loyalty = &loyalty.Touch{Ref: ref, Meaning: rule.Meaning, Birthday: b}
				}
			}
		}
	}
	if rule.Act != "" {
		e := satisfaction.Read(rule.Act, prop)
		t.Satisfaction = &e
	}
	return t
}

// property finds the properties of a message, as raw JSON, nil where it has none of
// that name. An object is small; one pass over it for each of the few properties
// asked for costs less than building a map.
func property(properties string) func(key string) []byte {
	parsed := gjson.Parse(properties)
	return func(key string) []byte {
		var raw string
		parsed.ForEach(func(k, v gjson.Result) bool {
			if k.Str == key {
				raw = v.Raw
				return false
			}
			return true
		})
		if raw == "" {
			return nil
		}
		return []byte(raw)
	}
}

func readTraits(traits string, ref lifecycle.Ref) []customer.Trait {
	if traits == "" {
		return nil
	}
	var all []customer.Trait
	gjson.Parse(traits).ForEach(func(k, v gjson.Result) bool {
		all = append(all, customer.Trait{Key: string([]byte(k.Str)), Value: []byte(v.Raw), Ref: ref})
		return true
	})
	return all
}

// mergedContext is the message's context laid over the batch's, key by key.
func mergedContext(batch, own string) string {
	switch {
	case batch == "":
		return own
	case own == "":
		return batch
	}
	out := []byte{'{'}
	seen := map[string]bool{}
	add := func(k, v gjson.Result) bool {
		if seen[k.Str] {
			return true
		}
		seen[k.Str] = true
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, k.Raw...)
		out = append(out, ':')
		out = append(out, v.Raw...)
		return true
	}
	gjson.Parse(own).ForEach(add)
	gjson.Parse(batch).ForEach(add)
	return string(append(out, '}'))
}

// flags names what was found odd about a touchpoint, with commas between.
func flags(h *domain.Header, o *commerce.Order) string {
	s := ""
	if h.Flags&domain.FlagFuture != 0 {
		s = "future"
	}
	if o != nil && o.State == commerce.AmountUnreadable {
		if s != "" {
			s += ","
		}
		s += "amount_unreadable"
	}
	return s
}
