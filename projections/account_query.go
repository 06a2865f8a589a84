package projections

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/customer"
	"sojourn/domain/lifecycle"
	"sojourn/eventstore"
)

// Account answers where an account stands. ref is an account's id or
// "account:<groupId>". Its members are the customers attached to it by the time
// asked about; its stage follows from all that these and the members to come have
// done until then. ErrNoAccount where that is nothing.
func (v *Views) Account(ctx context.Context, ref string, at At) (Account, error) {
	a, err := v.account(ctx, ref, at, nil)
	if err != nil {
		return Account{}, err
	}
	return a.account(), nil
}

// AccountMembers is a page of an account's members at a time, by their ids; the
// errors are those of Account, and ErrBadCursor.
func (v *Views) AccountMembers(ctx context.Context, ref string, at At, cursor string, limit int) ([]AccountMember, string, error) {
	after, err := parseIDCursor(cursor)
	if err != nil {
		return nil, "", err
	}
	a, err := v.account(ctx, ref, at, nil)
	if err != nil {
		return nil, "", err
	}
	all := []AccountMember{}
	for _, m := range a.members {
		if m.since.At <= a.q.asOf && (cursor == "" || bytes.Compare(m.id[:], after[:]) > 0) {
			all = append(all, AccountMember{m.id, m.since.At.Time()})
		}
	}
	if len(all) <= limit {
		return all, "", nil
	}
	return all[:limit], all[limit-1].Customer.String(), nil
}

// AccountTimeline is a page of the touchpoints of an account's members and of its
// own changes of stage, in the order of time as in Timeline. The errors are those
// of Account, and ErrBadCursor.
func (v *Views) AccountTimeline(ctx context.Context, ref string, at At, cursor string, limit int) ([]Entry, string, error) {
	after, err := parseTimelineCursor(cursor)
	if err != nil {
		return nil, "", err
	}
	p := &page{after: after, limit: limit + 1}
	a, err := v.account(ctx, ref, at, p)
	if err != nil {
		return nil, "", err
	}
	return p.finish(a.past, limit)
}

// Accounts is a page of the accounts there were at a time, each as it was then, in
// an order that is the same at all times. The next cursor is empty on the last
// page. With KnownAt see Stages.
func (v *Views) Accounts(ctx context.Context, limit int, cursor string, at At) ([]Account, string, error) {
	after, err := parseIDCursor(cursor)
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := v.untilStop(ctx)
	defer cancel()
	p, release, err := v.known(ctx, at.KnownAt)
	if err != nil {
		return nil, "", err
	}
	defer release()
	at = At{AsOf: at.asOf()}
	all := []Account{}
	for {
		ids, err := v.accountIDs(p, after, limit+1)
		if err != nil {
			return nil, "", err
		}
		for _, id := range ids {
			var a *accountAnswer
			if p != nil {
				q, done := v.ask(p.g, at)
				a, err = v.accountFrom(ctx, p.g, q, id.String(), nil)
				done()
			} else {
				a, err = v.account(ctx, id.String(), at, nil)
			}
			switch {
			case errors.Is(err, ErrNoAccount):
				continue
			case err != nil:
				return nil, "", err
			}
			if len(all) == limit {
				return all, all[limit-1].ID.String(), nil
			}
			all = append(all, a.account())
		}
		if len(ids) <= limit {
			return all, "", nil
		}
		after = ids[limit]
	}
}

// accountIDs are the ids of up to limit accounts after one, in order, from the
// state of a past or, where that is nil, of the active views.
func (v *Views) accountIDs(p *past, behind uuid.UUID, limit int) (ids []uuid.UUID, err error) {
	collect := func(db loader) error {
		from := accountKey(behind)
		if behind != uuid.Nil {
			from = append(from, 0)
		}
		err := db.scan(from, []byte{'a' + 1}, func(key, _ []byte) error {
			if ids = append(ids, uuid.UUID(key[1:])); len(ids) == limit {
				return errStop
			}
			return nil
		})
		if errors.Is(err, errStop) {
			err = nil
		}
		return err
	}
	if p == nil {
		return ids, v.question(At{}, func(_ *generation, q *question) error { return collect(q.fold.state) })
	}
	if p.g == nil {
		return nil, nil
	}
	return ids, collect(snapshot{p.g.state.db})
}

func parseIDCursor(cursor string) (id uuid.UUID, err error) {
	if cursor == "" {
		return id, nil
	}
	if id, err = uuid.Parse(cursor); err != nil {
		return id, ErrBadCursor
	}
	return id, nil
}

// accountAnswer is what a question about an account found.
type accountAnswer struct {
	q       *question
	acc     *account
	members []accountMember // by id, those to come as well
	calls   customer.Facts  // of its group calls up to the time asked about
	facts   customer.Facts  // of its members, up to then as far as a view looks at them
	past    []lifecycle.Transition
}

// accountMember is a customer that is a member of an account.
type accountMember struct {
	id       uuid.UUID
	since    lifecycle.Ref
	subjects []*subject
}

// account finds where an account stands and, where page is not nil, the
// touchpoints of that page of its timeline.
func (v *Views) account(ctx context.Context, ref string, at At, page *page) (a *accountAnswer, err error) {
	err = v.question(at, func(g *generation, q *question) error {
		a, err = v.accountFrom(ctx, g, q, ref, page)
		return err
	})
	return a, err
}

func (v *Views) accountFrom(ctx context.Context, g *generation, q *question, ref string, page *page) (*accountAnswer, error) {
	a := &accountAnswer{q: q}
	callers, err := a.find(ref)
	if err != nil {
		return nil, err
	}
	a.calls = a.acc.calls
	if q.history && (q.known < domain.MaxTime || q.asOf < a.calls.LastSeen) {
		if a.calls, err = q.groupCalls(ctx, a.acc, callers); err != nil {
			return nil, err
		}
	}
	// first is when the account came to be.
	first, exists := a.calls.FirstSeen, a.calls.Touchpoints > 0
	staged := q.rules.Policy.Lifecycle.Accounts
	if staged || page != nil {
		if err := a.read(ctx, v, g, page); err != nil {
			return nil, err
		}
	}
	if staged {
		if a.facts.Touchpoints > 0 && (!exists || a.facts.FirstSeen < first) {
			first, exists = a.facts.FirstSeen, true
		}
		all := q.rules.transitions(&a.facts)
		a.past = all[:due(all, q.asOf)]
	}
	if !exists || first > q.asOf {
		return nil, ErrNoAccount
	}
	return a, nil
}

// find resolves what is asked about to an account and its members; callers are the
// subjects of its group calls. The caller has the lock of the state.
func (a *accountAnswer) find(ref string) (callers []*subject, err error) {
	f := a.q.fold
	id, err := uuid.Parse(ref)
	if err != nil {
		groupID, err := domain.ParseAccount(ref)
		if err != nil {
			return nil, err
		}
		id = f.keyer.AccountID(groupID)
	}
	if a.acc = f.account(id); f.err != nil {
		return nil, f.err
	}
	if a.acc.groupID == "" || a.acc.nobody {
		return nil, ErrNoAccount
	}
	of := map[*subject]int{} // the member that a subject belongs to
	for _, m := range f.membershipsOf(a.acc) {
		since, ok := m.since(a.q.known)
		s := f.find(m.stream)
		if f.err != nil {
			return nil, f.err
		}
		if !ok || s == nil {
			continue
		}
		callers = append(callers, s)
		i, seen := of[s]
		if !seen {
			subjects, err := a.q.membersOf(s)
			if err != nil {
				return nil, err
			}
			if len(subjects) == 0 {
				continue // nobody
			}
			i = len(a.members)
			a.members = append(a.members, accountMember{subjects[0].id, since, subjects})
			for _, o := range subjects {
				of[o] = i
			}
		}
		if since.Compare(a.members[i].since) < 0 {
			a.members[i].since = since
		}
	}
	slices.SortFunc(a.members, func(x, y accountMember) int { return bytes.Compare(x.id[:], y.id[:]) })
	return callers, f.err
}

// groupCalls folds the group calls of an account from the streams of the subjects
// that made them.
func (q *question) groupCalls(ctx context.Context, acc *account, callers []*subject) (calls customer.Facts, err error) {
	for _, s := range callers {
		for e, err := range q.store.ReadStream(ctx, s.stream, 0, eventstore.Forwards) {
			if err != nil {
				return calls, fmt.Errorf("read the group calls of an account: %w", err)
			}
			if !q.knows(&e) {
				break
			}
			if e.Repeat || e.Type != domain.TypeTouchpoint {
				continue
			}
			h, err := domain.ParseHeader(view(e.Metadata))
			if err != nil || h.Kind != domain.Group || h.OccurredAt > q.asOf {
				continue
			}
			ref := lifecycle.Ref{At: h.OccurredAt, ID: e.ID}
			if g := readGrouping(e.Data, ref, q.fold.keyer); g.account == acc.id {
				calls.Add(&customer.Touch{Touch: lifecycle.Touch{Ref: ref}, Traits: g.traits}, q.rules.book)
			}
		}
	}
	return calls, nil
}

// subjectsPerQuery bounds how many subjects one query names.
const subjectsPerQuery = 1000

// read finds the facts of all members and, where page is not nil, the touchpoints
// on it: from the state where that tells, else from ClickHouse or the streams.
func (a *accountAnswer) read(ctx context.Context, v *Views, g *generation, page *page) error {
	q := a.q
	var subjects []*subject
	for _, m := range a.members {
		subjects = append(subjects, m.subjects...)
	}
	if q.known < domain.MaxTime {
		_, err := q.read(ctx, subjects, &a.facts, page)
		return err
	}
	for _, s := range subjects {
		mergeStage(&a.facts, &s.facts)
	}
	before := q.history && q.asOf < a.facts.LastSeen
	switch {
	case !before && page == nil:
	case g.number != 0 && v.cfg.DB != nil && a.facts.Touchpoints > v.heavy:
		// What the facts say of an instant does not depend on what came after it,
		// but for the last touchpoint.
		if before && a.facts.FirstSeen > q.asOf {
			a.facts = customer.Facts{}
			return nil
		}
		last := a.facts.FirstSeen
		for some := range slices.Chunk(subjects, subjectsPerQuery) {
			t := touchpointTable{v.cfg.DB, g.number, q, some}
			if before {
				at, err := t.lastSeen(ctx)
				if err != nil {
					return err
				}
				last = max(last, at)
			}
			if page == nil {
				continue
			}
			if err := t.read(ctx, page); err != nil {
				return err
			}
		}
		if before {
			a.facts.LastSeen = last
		}
	default:
		a.facts = customer.Facts{}
		_, err := q.read(ctx, subjects, &a.facts, page)
		return err
	}
	return nil
}

// account is the answer about the account itself.
func (a *accountAnswer) account() Account {
	seen := a.calls
	out := Account{
		ID: a.acc.id, GroupID: a.acc.groupID, Revenue: map[string]string{}, Traits: map[string]json.RawMessage{}, AsOf: a.q.asOf.Time(),
	}
	if rules := a.q.rules; rules.Policy.Lifecycle.Accounts {
		mergeStage(&seen, &a.facts)
		totals := lifecycle.TotalsAt(&a.facts.Lifecycle, a.q.asOf, rules.Policy.Currency)
		out.Purchases, out.Refunds = totals.Purchases, totals.Refunds
		for cur, amount := range totals.Revenue {
			out.Revenue[cur] = amount.String()
		}
		if n := len(a.past); n > 0 {
			t := &a.past[n-1]
			out.Stage, out.StageSince, out.Reason, out.Cause = string(t.To), t.At.Time(), t.Reason, t.Cause.String()
		}
	}
	out.FirstSeen, out.LastSeen = seen.FirstSeen.Time(), seen.LastSeen.Time()
	for _, t := range a.calls.LiveTraits() {
		out.Traits[t.Key] = json.RawMessage(t.Value)
	}
	for _, m := range a.members {
		if m.since.At <= a.q.asOf {
			out.Members++
		}
	}
	return out
}

// lastSeen is the last touchpoint up to the time asked about, MinTime where there is
// none.
func (t *touchpointTable) lastSeen(ctx context.Context) (last domain.Millis, err error) {
	last = domain.MinTime
	err = t.each(ctx, func(scan func(...any) error) error {
		var at time.Time
		var n uint64
		err := scan(&at, &n)
		if n > 0 {
			last = domain.MillisOf(at)
		}
		return err
	}, "max(occurred_at), count()", "")
	return last, err
}
