package satisfaction

import (
	"fmt"
	"slices"
	"strconv"

	"sojourn/domain"
)

// Flag is a mark that people put on a customer, such as red_list.
type Flag struct {
	Name   string
	Reason string
	// Until is when it ends, itself excluded; 0 is never.
	Until domain.Millis
}

// Profile is what the level of service is decided by.
type Profile struct {
	Tiers []string // the loyalty tiers that the customer holds, in its programmes
	// Value is purchases less refunds by currency.
	Value                       map[string]domain.Decimal
	OpenComplaints, OpenTickets int
	Status                      Status
	Flags                       []Flag
}

// Service is how a customer is to be treated.
type Service struct {
	Level string
	// Reasons say in plain words why, one for each condition; that of a flag holds
	// what people wrote. Nil for the default level.
	Reasons []string
	// Until is the instant at which the answer changes because a flag ends, if
	// nothing else happens; 0 where none does.
	Until domain.Millis
}

// Service is the level of service of a customer at a clock: the first level of the
// policy whose conditions all hold.
func (r *Rules) Service(p Profile, clock domain.Millis) Service {
	s := r.serviceAt(p, clock)
	// What changes it is the end of a flag: the first that makes a difference.
	var ends []domain.Millis
	for _, f := range p.Flags {
		if f.Until > clock {
			ends = append(ends, f.Until)
		}
	}
	slices.Sort(ends)
	for _, at := range slices.Compact(ends) {
		if next := r.serviceAt(p, at); next.Level != s.Level || !slices.Equal(next.Reasons, s.Reasons) {
			s.Until = at
			break
		}
	}
	return s
}

func (r *Rules) serviceAt(p Profile, clock domain.Millis) Service {
	for i := range r.service.Levels {
		if reasons, ok := r.serves(i, p, clock); ok {
			return Service{Level: r.service.Levels[i].Level, Reasons: reasons}
		}
	}
	return Service{Level: r.service.Default}
}

// serves reports whether all conditions of a level hold, and why.
func (r *Rules) serves(i int, p Profile, clock domain.Millis) (reasons []string, ok bool) {
	l := &r.service.Levels[i]
	if len(l.Flags) > 0 {
		f, ok := bearing(p.Flags, l.Flags, clock)
		if !ok {
			return nil, false
		}
		reason := f.Name
		if f.Until != 0 {
			reason += " until " + f.Until.String()
		}
		if f.Reason != "" {
			reason += ": " + f.Reason
		}
		reasons = append(reasons, reason)
	}
	if len(l.Tiers) > 0 {
		at := slices.IndexFunc(l.Tiers, func(t string) bool { return slices.Contains(p.Tiers, t) })
		if at < 0 {
			return nil, false
		}
		reasons = append(reasons, "tier "+l.Tiers[at])
	}
	if l.Value != "" {
		value := p.Value[r.currency]
		if value < r.values[i] {
			return nil, false
		}
		reasons = append(reasons, fmt.Sprintf("value %s %s, at least %s", value, r.currency, r.values[i]))
	}
	for _, c := range [...]struct {
		have, want int
		what       string
	}{{p.OpenComplaints, l.OpenComplaints, "open complaint"}, {p.OpenTickets, l.OpenTickets, "open ticket"}} {
		if c.have < c.want {
			return nil, false
		}
		if c.want > 0 {
			reasons = append(reasons, plural(c.have, c.what))
		}
	}
	if len(l.Statuses) > 0 {
		if !slices.Contains(l.Statuses, string(p.Status)) {
			return nil, false
		}
		reasons = append(reasons, "satisfaction "+string(p.Status))
	}
	return reasons, true
}

// bearing is the flag, of those that a level names and that have not ended, which
// the level names first; of several of that name the one that lasts longest, and of
// those the first by its reason.
func bearing(flags []Flag, names []string, clock domain.Millis) (Flag, bool) {
	best, rank := Flag{}, len(names)
	for _, f := range flags {
		n := slices.Index(names, f.Name)
		if n < 0 || f.Until != 0 && f.Until <= clock {
			continue
		}
		if n < rank || n == rank && (lasts(f) > lasts(best) || lasts(f) == lasts(best) && f.Reason < best.Reason) {
			best, rank = f, n
		}
	}
	return best, rank < len(names)
}

func lasts(f Flag) domain.Millis {
	if f.Until == 0 {
		return forever
	}
	return f.Until
}

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return strconv.Itoa(n) + " " + what
}
