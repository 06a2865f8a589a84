package projections

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/tidwall/gjson"

	"sojourn/domain"
	"sojourn/domain/customer"
	"sojourn/domain/lifecycle"
	"sojourn/warehouse"
)

// account is what a projection keeps of an account: the facts of its group calls
// and, in records of their own, which subjects they attach to it. Who its members
// are and where it stands is computed from the customers of those subjects, so
// that a merge or a split of customers changes nothing that is kept.
type account struct {
	id      uuid.UUID
	groupID string
	// nobody is set where the groupId is no identity: nothing is said of it.
	nobody bool
	// calls are the facts of its group calls: their traits are the account's.
	calls customer.Facts
	// memberships are those in memory, by the subject's stream: all of them where
	// whole is set.
	memberships map[string]*membership
	whole       bool
	hasRow      bool // in accounts
	// deadline is the instant under which the account stands in the index of
	// deadlines, 0 where it does not.
	deadline domain.Millis

	changed bool          // in the fold's list of accounts to flush
	fresh   []*membership // to be written with it
}

// membership is a subject that group calls attach to an account.
type membership struct {
	stream string // of the subject
	// calls are the group calls that were the earliest when they were recorded, in
	// that order; no question can tell the others.
	calls []groupCall
	fresh bool
}

type groupCall struct {
	ref        lifecycle.Ref
	recordedAt domain.Millis
}

// since is the earliest call recorded at or before a time.
func (m *membership) since(known domain.Millis) (ref lifecycle.Ref, ok bool) {
	for _, c := range m.calls {
		if c.recordedAt <= known && (!ok || c.ref.Compare(ref) < 0) {
			ref, ok = c.ref, true
		}
	}
	return ref, ok
}

// grouping is what a group call says: the account and its traits.
type grouping struct {
	groupID string
	account uuid.UUID
	traits  []customer.Trait
}

// readGrouping reads a group call; it shares no memory with the message. groupID
// is empty where it names no account.
func readGrouping(data []byte, ref lifecycle.Ref, keyer domain.Keyer) grouping {
	id := text(gjson.Parse(view(data)), "groupId")
	if domain.NoIdentity(id) {
		return grouping{}
	}
	return grouping{strings.Clone(id), keyer.AccountID(id), readTraits(readMessage(data).traits, ref)}
}

// group takes a group call of a subject.
func (f *fold) group(a *arrival, s *subject) {
	acc := f.account(a.group.account)
	if f.err != nil {
		return
	}
	acc.groupID = a.group.groupID
	f.judge(acc)
	acc.calls.Add(&customer.Touch{Touch: lifecycle.Touch{Ref: a.ref}, Traits: a.group.traits}, f.rules.book)
	f.changeAccount(acc)
	m := f.membership(acc, s)
	if f.err != nil {
		return
	}
	if first, ok := m.since(domain.MaxTime); ok && first.Compare(a.ref) <= 0 {
		return
	}
	m.calls = append(m.calls, groupCall{a.ref, a.recordedAt})
	if !m.fresh {
		m.fresh = true
		acc.fresh = append(acc.fresh, m)
	}
}

// account is the account of an id, new where it is not known yet: then it has no
// groupId.
func (f *fold) account(id uuid.UUID) *account {
	if a := f.accounts[id]; a != nil || f.err != nil {
		return a
	}
	a := &account{id: id, memberships: map[string]*membership{}}
	b, err := f.state.load(accountKey(id))
	if err == nil && b != nil {
		err = a.parse(b)
	}
	if err != nil {
		f.err = fmt.Errorf("state of account %s: %w", id, err)
		return nil
	}
	a.whole = b == nil
	f.judge(a)
	f.accounts[id] = a
	return a
}

func (f *fold) judge(a *account) { a.nobody = f.rules.compiled.Identity().Nobody(a.groupID) }

func (f *fold) changeAccount(a *account) {
	if !a.changed {
		a.changed = true
		f.changedAccounts = append(f.changedAccounts, a)
	}
}

// membership is that of a subject in an account, new where there was none.
func (f *fold) membership(a *account, s *subject) *membership {
	if m := a.memberships[s.stream]; m != nil {
		return m
	}
	m := &membership{stream: s.stream}
	if !a.whole {
		b, err := f.state.load(membershipKey(a.id, s.stream))
		if err == nil && b != nil {
			err = m.parse(b)
		}
		if err != nil {
			f.err = fmt.Errorf("state of account %s: %w", a.id, err)
			return nil
		}
	}
	a.memberships[s.stream] = m
	if accounts := f.accountsOf(s); len(m.calls) == 0 {
		s.accounts, s.grouped = append(accounts, a.id), true
		f.dirty(s)
	}
	return m
}

// accountsOf are the accounts that group calls of a subject name.
func (f *fold) accountsOf(s *subject) []uuid.UUID {
	if s.accounts != nil || !s.grouped || f.err != nil {
		return s.accounts
	}
	from := groupedKey(s.stream, uuid.Nil)
	f.err = f.state.scan(from, after(from[:len(from)-16]), func(key, _ []byte) error {
		s.accounts = append(s.accounts, uuid.UUID(key[len(key)-16:]))
		return nil
	})
	return s.accounts
}

// membershipsOf are all memberships of an account, by the subjects' streams.
func (f *fold) membershipsOf(a *account) map[string]*membership {
	if !a.whole && f.err == nil {
		from := membershipKey(a.id, "")
		f.err = f.state.scan(from, after(from), func(key, value []byte) error {
			m := &membership{stream: string(key[len(from):])}
			if a.memberships[m.stream] != nil {
				return nil // what is in memory is newer
			}
			a.memberships[m.stream] = m
			return m.parse(value)
		})
		a.whole = f.err == nil
	}
	return a.memberships
}

// touchAccounts has the accounts flushed that customers which have changed are
// members of.
func (f *fold) touchAccounts() {
	if !f.rules.Policy.Lifecycle.Accounts {
		return // what is said of an account is in its group calls
	}
	for _, c := range f.changed {
		for _, m := range c.members {
			for _, id := range f.accountsOf(m) {
				if !f.shard.holds(id) {
					continue
				}
				if a := f.account(id); a != nil {
					f.changeAccount(a)
				}
			}
		}
	}
	if f.shard.whole() {
		return
	}
	// The facts of members are kept before the subjects are taken out.
	for _, a := range f.changedAccounts {
		if f.shard.holds(a.id) && !a.nobody {
			f.eachMember(a, f.keep)
		}
	}
}

// wakeAccounts finds the accounts whose deadline has come by a clock.
func (f *fold) wakeAccounts(s *state, clock domain.Millis) error {
	ids, err := s.due(accountDeadlines, clock)
	for _, id := range ids {
		if a := f.account(id); a != nil && a.deadline != 0 && a.deadline <= clock {
			f.changeAccount(a)
		}
	}
	return cmp.Or(err, f.err)
}

// memberFacts are what an account's stage follows from: the facts of all its member
// customers, without their traits.
func (f *fold) memberFacts(a *account) *customer.Facts {
	var facts customer.Facts
	f.eachMember(a, func(m *subject) {
		f.keep(m)
		mergeStage(&facts, &m.facts)
	})
	return &facts
}

// eachMember goes through the subjects of all member customers of an account.
func (f *fold) eachMember(a *account, do func(*subject)) {
	seen := map[*subject]bool{} // heads
	for _, m := range f.membershipsOf(a) {
		s := f.find(m.stream)
		if f.err != nil || s == nil || s.nobody {
			continue
		}
		head := f.rootOf(s)
		if f.err != nil || seen[head] {
			continue
		}
		seen[head] = true
		for _, m := range f.members(head) {
			do(m)
		}
	}
}

// mergeStage adds what the stage follows from, and not the traits, points and
// opinions.
func mergeStage(to, from *customer.Facts) {
	to.Merge(&customer.Facts{FirstSeen: from.FirstSeen, LastSeen: from.LastSeen, Touchpoints: from.Touchpoints, Lifecycle: from.Lifecycle})
}

// flushAccounts takes out the accounts that have changed: their rows and records.
func (f *fold) flushAccounts(out *piece, version warehouse.Version) error {
	slices.SortFunc(f.changedAccounts, func(a, b *account) int { return slices.Compare(a.id[:], b.id[:]) })
	for _, a := range f.changedAccounts {
		f.flushAccount(a, version, out)
	}
	clear(f.changedAccounts)
	f.changedAccounts = f.changedAccounts[:0]
	return f.err
}

func (f *fold) flushAccount(a *account, version warehouse.Version, out *piece) {
	a.changed = false
	mine := f.shard.holds(a.id)
	for _, m := range a.fresh {
		m.fresh = false
		out.state.set(membershipKey(a.id, m.stream), m.append(nil))
		out.state.set(groupedKey(m.stream, a.id), nil)
		if first, _ := m.since(domain.MaxTime); !a.nobody && mine {
			out.rows.AccountMembers = append(out.rows.AccountMembers, warehouse.AccountMember{
				AccountID: a.id, SubjectID: domain.SubjectID(m.stream), Since: int64(first.At), Version: version,
			})
		}
	}
	a.fresh = nil
	if !mine {
		out.state.set(accountKey(a.id), a.append(nil))
		return
	}

	row := warehouse.Account{AccountID: a.id, GroupID: a.groupID, Traits: traitsJSON(&a.calls), Version: version, Removed: true}
	var deadline domain.Millis
	if !a.nobody {
		clock := domain.Millis(version.Clock)
		seen := a.calls
		if f.rules.Policy.Lifecycle.Accounts {
			facts := f.memberFacts(a)
			all := f.rules.transitions(facts)
			stands := due(all, clock)
			if stands > 0 {
				row.Stage, row.StageSince = string(all[stands-1].To), int64(all[stands-1].At)
			}
			if stands < len(all) {
				deadline = all[stands].At
			}
			totals := lifecycle.TotalsAt(&facts.Lifecycle, clock, f.rules.Policy.Currency)
			row.Purchases, row.Refunds, row.Revenue = uint32(totals.Purchases), uint32(totals.Refunds), moneyOf(totals)
			row.Outlook = outlookOf(all[stands:])
			mergeStage(&seen, facts)
		}
		row.FirstSeen, row.LastSeen = int64(seen.FirstSeen), int64(seen.LastSeen)
		row.Removed = seen.FirstSeen > clock
		// A touchpoint that the clock has not reached counts when it does.
		if next := clock + 1; seen.LastSeen >= next && (deadline == 0 || next < deadline) {
			deadline = next
		}
	}
	if !row.Removed || a.hasRow {
		out.rows.Accounts = append(out.rows.Accounts, row)
	}
	a.hasRow = !row.Removed
	moveDeadline(&out.state, accountDeadlines, a.id, &a.deadline, deadline)
	out.state.set(accountKey(a.id), a.append(nil))
}

// append encodes the account for the state, without its memberships.
func (a *account) append(buf []byte) []byte {
	buf = append(buf, stateVersion)
	buf = appendString(buf, a.groupID)
	row := byte(0)
	if a.hasRow {
		row = 1
	}
	buf = append(buf, row)
	buf = binary.AppendVarint(buf, int64(a.deadline))
	return a.calls.Append(buf)
}

func (a *account) parse(b []byte) error {
	r := reader{b: b}
	r.version()
	a.groupID = r.string()
	a.hasRow = r.byte() == 1
	a.deadline = domain.Millis(r.varint())
	if r.err != nil {
		return r.err
	}
	return a.calls.Parse(r.b)
}

func (m *membership) append(buf []byte) []byte {
	buf = append(buf, stateVersion)
	buf = binary.AppendUvarint(buf, uint64(len(m.calls)))
	for _, c := range m.calls {
		buf = binary.AppendVarint(buf, int64(c.ref.At))
		buf = append(buf, c.ref.ID[:]...)
		buf = binary.AppendVarint(buf, int64(c.recordedAt))
	}
	return buf
}

func (m *membership) parse(b []byte) error {
	r := reader{b: b}
	r.version()
	for n := r.count(); n > 0; n-- {
		m.calls = append(m.calls, groupCall{lifecycle.Ref{At: domain.Millis(r.varint()), ID: r.uuid()}, domain.Millis(r.varint())})
	}
	return r.done()
}

// The keys of accounts, and of the memberships by account and by subject.
func accountKey(id uuid.UUID) []byte { return append([]byte{'a'}, id[:]...) }

func membershipKey(id uuid.UUID, stream string) []byte {
	return append(append([]byte{'b'}, id[:]...), stream...)
}

func groupedKey(stream string, id uuid.UUID) []byte {
	return append(append([]byte{'g'}, stream...), id[:]...)
}

// after is the first key behind all that begin with a prefix, whose first byte is
// a letter.
func after(prefix []byte) []byte {
	b := bytes.TrimRight(prefix, "\xff")
	b = slices.Clone(b)
	b[len(b)-1]++
	return b
}
