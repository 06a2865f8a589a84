package loyalty

import (
	"reflect"
	"slices"

	"sojourn/domain"
	"sojourn/domain/policy"
)

// InForce is what a programme's rules are at an instant. The From of a section is
// filled in with the instant from which it holds, RFC 3339, and is empty where it
// has no beginning. A section is nil before it begins, earning also once the
// programme has ended.
type InForce struct {
	Currency, TimeZone string
	Earning            *policy.Earning
	Expiry             *policy.Expiry
	Value              *policy.PointValue
	Tiers              *policy.Tiers
}

// InForce is what the programme's rules are at an instant. At policy.Never they are
// those of the last policy, or of the last that had the programme.
func (p *Programme) InForce(t domain.Millis) InForce {
	var r InForce
	if s, from := inForce[policy.Earning](p.earning, t); s != nil {
		s.From = from
		r.Earning = s
	}
	if s, from := inForce[policy.Expiry](p.expiry, t); s != nil {
		s.From = from
		r.Expiry = s
	}
	if s, from := inForce[policy.PointValue](p.value, t); s != nil {
		s.From = from
		r.Value = s
	}
	if s, from := inForce[policy.Tiers](p.tiers, t); s != nil {
		s.From = from
		r.Tiers = s
	}
	if i := p.tiers.index(t); i >= 0 {
		if source, ok := p.tiers[i].source.([3]any); ok {
			r.Currency, _ = source[0].(string)
			r.TimeZone, _ = source[1].(string)
		}
	}
	return r
}

// inForce is the section that holds at an instant, and from when on.
func inForce[S, T any](l timeline[T], t domain.Millis) (*S, string) {
	i := l.index(t)
	if i < 0 {
		return nil, ""
	}
	source, ok := l[i].source.([3]any)
	if !ok {
		return nil, ""
	}
	s, ok := source[2].(S)
	if !ok {
		return nil, ""
	}
	from := ""
	if l[i].from != policy.Always {
		from = l[i].from.String()
	}
	return &s, from
}

// Same reports whether two programmes, either of which may be nil, give the same
// ledger for the same facts at any time.
func (p *Programme) Same(o *Programme) bool {
	if p == nil || o == nil {
		return p == o
	}
	return p.ID == o.ID && p.From == o.From && p.Running == o.Running && p.fallback == o.fallback &&
		same(p.earning, o.earning) && same(p.expiry, o.expiry) && same(p.value, o.value) && same(p.tiers, o.tiers)
}

func same[T any](a, b timeline[T]) bool {
	return slices.EqualFunc(a, b, func(x, y version[T]) bool { return x.from == y.from && reflect.DeepEqual(x.source, y.source) })
}
