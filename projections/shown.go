package projections

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"

	"sojourn/domain"
	"sojourn/domain/customer"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
	"sojourn/domain/satisfaction"
	"sojourn/warehouse"
)

// shown is what the tables have of a customer's points and satisfaction: of tables
// with one row a customer whether there is one, of the others the hashes of the rows
// by seq, so that only what has changed is written.
type shown struct {
	satisfaction             bool
	statuses, cases, surveys []uint64
	programmes               []shownProgramme // by id
	segments                 []shownSegment   // by name
}

type shownProgramme struct {
	id            string
	status        bool
	ledger, tiers []uint64
}

func (s *shown) empty() bool {
	return !s.satisfaction && len(s.statuses)+len(s.cases)+len(s.surveys)+len(s.programmes)+len(s.segments) == 0
}

// programme is what is shown of a programme; it is valid until the next call.
func (s *shown) programme(id string) *shownProgramme {
	i, ok := slices.BinarySearchFunc(s.programmes, id, func(p shownProgramme, id string) int { return cmp.Compare(p.id, id) })
	if !ok {
		s.programmes = slices.Insert(s.programmes, i, shownProgramme{id: id})
	}
	return &s.programmes[i]
}

func appendHashes(buf []byte, all []uint64) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(all)))
	for _, h := range all {
		buf = binary.BigEndian.AppendUint64(buf, h)
	}
	return buf
}

func (r *reader) hashes() (all []uint64) {
	for n := r.count(); n > 0; n-- {
		all = append(all, r.hash())
	}
	return all
}

func (s *shown) append(buf []byte) []byte {
	buf = append(buf, stateVersion, flagByte(s.satisfaction))
	for _, all := range [...][]uint64{s.statuses, s.cases, s.surveys} {
		buf = appendHashes(buf, all)
	}
	buf = binary.AppendUvarint(buf, uint64(len(s.programmes)))
	for _, p := range s.programmes {
		buf = append(appendString(buf, p.id), flagByte(p.status))
		buf = appendHashes(appendHashes(buf, p.ledger), p.tiers)
	}
	buf = binary.AppendUvarint(buf, uint64(len(s.segments)))
	for _, in := range s.segments {
		buf = appendHashes(appendString(buf, in.name), in.stays)
	}
	return buf
}

func parseShown(b []byte) (*shown, error) {
	r := reader{b: b}
	r.version()
	s := &shown{satisfaction: r.byte() == 1, statuses: r.hashes(), cases: r.hashes(), surveys: r.hashes()}
	for n := r.count(); n > 0; n-- {
		s.programmes = append(s.programmes, shownProgramme{id: r.string(), status: r.byte() == 1, ledger: r.hashes(), tiers: r.hashes()})
	}
	for n := r.count(); n > 0; n-- {
		s.segments = append(s.segments, shownSegment{name: r.string(), stays: r.hashes()})
	}
	return s, r.done()
}

func flagByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func shownKey(id [16]byte) []byte { return append([]byte{'v'}, id[:]...) }

// loadShown loads what the tables have of the customers to be flushed, where that
// will be compared.
func (f *fold) loadShown() error {
	if f.plain {
		return nil
	}
	for _, c := range f.changed {
		if c.foreign || c.shown != nil || c.due == 0 && len(c.members) > 0 {
			continue
		}
		b, err := c.packed, error(nil)
		if c.apart {
			if b, err = f.state.load(shownKey(c.id)); b == nil && err == nil {
				err = errState
			}
		}
		if c.shown = (&shown{}); err == nil && len(b) > 0 {
			c.shown, err = parseShown(b)
		}
		if err != nil {
			return fmt.Errorf("state of customer %s: %w", c.id, err)
		}
	}
	return nil
}

// differ writes the rows of a numbered list of which the tables show others, and
// those above its end, which row makes as removed.
func differ[R any](rows *[]R, was, is []uint64, row func(i int) R) []uint64 {
	for i := range max(len(was), len(is)) {
		if i >= len(is) || i >= len(was) || was[i] != is[i] {
			*rows = append(*rows, row(i))
		}
	}
	return is
}

// nth is nil behind the end of a list.
func nth[T any](list []T, i int) *T {
	if i < len(list) {
		return &list[i]
	}
	return nil
}

// hasher hashes the content of a row.
type hasher struct{ buf []byte }

func (h *hasher) reset() *hasher { h.buf = h.buf[:0]; return h }

func (h *hasher) str(all ...string) *hasher {
	for _, s := range all {
		h.buf = append(binary.AppendUvarint(h.buf, uint64(len(s))), s...)
	}
	return h
}

func (h *hasher) int(all ...int64) *hasher {
	for _, n := range all {
		h.buf = binary.AppendVarint(h.buf, n)
	}
	return h
}

func (h *hasher) sum() uint64 { return xxhash.Sum64(h.buf) }

// flushLines takes out a customer's points and satisfaction: their rows, and what is
// to be said of them into the speech.
func (f *fold) flushLines(c *cust, version warehouse.Version, p *piece, sp *speech) error {
	if f.plain {
		c.due = 0
		return nil
	}
	clock := domain.Millis(version.Clock)
	if len(c.members) == 0 {
		f.unshow(c, version, p)
		c.nextLoyalty, c.nextStatus, c.nextSegment = 0, 0, 0
	} else {
		if c.due == 0 {
			return nil
		}
		facts := c.facts()
		if c.due&customer.Satisfaction != 0 {
			f.showSatisfaction(c, &facts.Satisfaction, version, p)
		}
		if c.due&customer.Loyalty != 0 {
			f.showLoyalty(c, &facts.Loyalty, version, p)
		}
		if c.due&changedSegments != 0 {
			f.showSegments(c, version, p)
		}
	}
	if !f.silent {
		f.speak(c, clock, sp)
	}
	c.due, c.base, c.steps, c.lines = 0, nil, nil, nil
	c.pack(p)
	return nil
}

// maxPacked is how many bytes of what is shown are kept in the customer's record.
const maxPacked = 512

// pack encodes what is shown, into the customer's record where it is short.
func (c *cust) pack(p *piece) {
	c.packed = c.packed[:0]
	if !c.shown.empty() {
		c.packed = c.shown.append(c.packed)
	}
	c.shown = nil // the record takes less room
	if len(c.packed) > maxPacked {
		c.apart = true
		p.state.set(shownKey(c.id), c.packed)
		c.packed = nil
		return
	}
	if c.apart {
		c.apart = false
		p.state.delete(shownKey(c.id))
	}
}

// speak puts what is to be said of a customer's lines into a speech, where that is
// something else than what is said.
func (f *fold) speak(c *cust, clock domain.Millis, sp *speech) {
	var is []line
	if len(c.members) > 0 {
		is = c.flushed
	}
	c.flushed = nil
	for _, about := range [...]struct {
		what about
		due  customer.Changes
	}{{aboutTier, customer.Loyalty}, {aboutStatus, customer.Satisfaction}, {aboutSegment, changedSegments}} {
		if len(c.members) > 0 && c.due&about.due == 0 || c.saysLine(about.what, is) {
			continue
		}
		desired := []sentence{}
		if len(c.members) > 0 {
			f.settle(c)
			f.pass(c, c.basis(f.rules), clock)
			for i := range c.lines {
				l := &c.lines[i]
				if l.what != about.what {
					continue
				}
				for j := range l.all {
					desired = append(desired, l.sentenceOf(j))
				}
			}
		}
		sp.desired[about.what] = &desired
	}
}

// saysLine reports whether the statements about something are the changes of lines.
func (c *cust) saysLine(what about, is []line) bool {
	var hashes []uint64
	for i := range is {
		if is[i].what == what {
			for j := range is[i].all {
				hashes = append(hashes, is[i].all[j].hash(is[i].programme))
			}
		}
	}
	return c.said.says(what, len(hashes), func(i int) uint64 { return hashes[i] })
}

func (c *cust) saysLines(is []line) bool {
	return c.saysLine(aboutTier, is) && c.saysLine(aboutStatus, is) && c.saysLine(aboutSegment, is)
}

// unshow removes the rows of a customer that is no more.
func (f *fold) unshow(c *cust, version warehouse.Version, out *piece) {
	s := c.shown
	if s.satisfaction {
		out.rows.Satisfaction = append(out.rows.Satisfaction, warehouse.Satisfaction{CustomerID: c.id, Version: version, Removed: true})
	}
	differ(&out.rows.StatusChanges, s.statuses, nil, func(i int) warehouse.StatusChange { return f.statusRow(c, nil, i, version) })
	differ(&out.rows.Cases, s.cases, nil, func(i int) warehouse.Case { return caseRow(c, nil, i, version) })
	differ(&out.rows.Surveys, s.surveys, nil, func(i int) warehouse.Survey { return surveyRow(c, nil, i, version) })
	for i := range s.programmes {
		p := &s.programmes[i]
		if p.status {
			out.rows.LoyaltyStatus = append(out.rows.LoyaltyStatus, warehouse.LoyaltyStatus{CustomerID: c.id, Programme: p.id, Version: version, Removed: true})
		}
		differ(&out.rows.LoyaltyLedger, p.ledger, nil, func(i int) warehouse.LoyaltyMovement { return movementRow(c, p.id, &loyalty.Ledger{}, i, version) })
		differ(&out.rows.TierChanges, p.tiers, nil, func(i int) warehouse.TierChange { return f.tierRow(c, p.id, nil, i, version) })
	}
	for _, in := range s.segments {
		differ(&out.rows.SegmentStays, in.stays, nil, func(i int) warehouse.SegmentStay { return stayRow(c.id, in.name, nil, i, version) })
	}
	c.shown = &shown{}
}

func (f *fold) showLoyalty(c *cust, facts *loyalty.Facts, version warehouse.Version, p *piece) {
	clock := domain.Millis(version.Clock)
	var h hasher
	c.nextLoyalty = 0
	if next := facts.After(clock); next != policy.Never {
		c.nextLoyalty = next
	}
	c.flushed = slices.DeleteFunc(c.flushed, func(l line) bool { return l.what == aboutTier })
	for _, pr := range f.rules.book.Programmes() {
		l := p.folder.Fold(facts, pr, clock)
		if l.Next != policy.Never && (c.nextLoyalty == 0 || l.Next < c.nextLoyalty) {
			c.nextLoyalty = l.Next
		}
		changes := tierChanges(l.Transitions)
		if !f.silent {
			c.flushed = append(c.flushed, line{what: aboutTier, programme: pr.ID, all: changes})
		}
		in := l.Enrolled != policy.Never || len(l.Movements) > 0
		if !in && !slices.ContainsFunc(c.shown.programmes, func(s shownProgramme) bool { return s.id == pr.ID }) {
			continue
		}
		s := c.shown.programme(pr.ID)
		if in || s.status {
			row := loyaltyRow(c, pr, l, version)
			row.Removed = !in
			p.rows.LoyaltyStatus = append(p.rows.LoyaltyStatus, row)
		}
		s.status = in
		hashes := make([]uint64, len(l.Movements))
		for i := range l.Movements {
			m := &l.Movements[i]
			hashes[i] = h.reset().int(int64(m.At), m.Points, m.Available, m.Pending, m.Debt, int64(m.Lot), lotExpires(l, m), int64(m.Value),
				m.Balance.Available, m.Balance.Pending, m.Balance.Debt).str(string(m.Kind), m.Order, m.Currency, m.Cause.Rule, m.Note, string(m.Cause.Touchpoint[:])).sum()
		}
		s.ledger = differ(&p.rows.LoyaltyLedger, s.ledger, hashes, func(i int) warehouse.LoyaltyMovement { return movementRow(c, pr.ID, l, i, version) })
		hashes = make([]uint64, len(changes))
		for i := range changes {
			hashes[i] = changes[i].hash(pr.ID)
		}
		s.tiers = differ(&p.rows.TierChanges, s.tiers, hashes, func(i int) warehouse.TierChange { return f.tierRow(c, pr.ID, nth(changes, i), i, version) })
		if !in && len(s.ledger)+len(s.tiers) == 0 {
			c.shown.programmes = slices.DeleteFunc(c.shown.programmes, func(s shownProgramme) bool { return s.id == pr.ID })
		}
	}
}

// orNever is a time of a row: 0 for never.
func orNever(t domain.Millis) int64 {
	if t == policy.Never {
		return 0
	}
	return int64(t)
}

func loyaltyRow(c *cust, p *loyalty.Programme, l *loyalty.Ledger, version warehouse.Version) warehouse.LoyaltyStatus {
	t := &l.Totals
	clock := domain.Millis(version.Clock)
	return warehouse.LoyaltyStatus{
		CustomerID: c.id, Programme: p.ID, Enrolled: orNever(l.Enrolled),
		Tier: l.Tier.Name, TierSince: int64(l.Tier.Since), TierUntil: orNever(l.Tier.Until),
		TierTotal: l.Tier.Total, TierBySpend: l.Tier.Spend, NextTier: l.Tier.Next, TierMissing: l.Tier.Missing,
		Available: t.Available, Pending: t.Pending, Debt: t.Debt,
		Earned: t.Earned, AdjustedIn: t.AdjustedIn, TransferredIn: t.TransferredIn,
		Redeemed: t.Redeemed, Expired: t.Expired, Reversed: t.Reversed, AdjustedOut: t.AdjustedOut, TransferredOut: t.TransferredOut,
		ExpiringAt: orNever(l.ExpiringAt), Expiring: l.Expiring,
		PointValue: int64(p.ValueAt(clock)), Currency: p.CurrencyAt(clock), Version: version,
	}
}

// lotExpires is when the points that a line moves expire: 0 for never, and for none.
func lotExpires(l *loyalty.Ledger, m *loyalty.Movement) int64 {
	if m.Lot == loyalty.NoLot {
		return 0
	}
	return orNever(l.Lots[m.Lot].Expires)
}

// movementRow is line i of a ledger; a removed one behind its end.
func movementRow(c *cust, programme string, l *loyalty.Ledger, i int, version warehouse.Version) warehouse.LoyaltyMovement {
	m := nth(l.Movements, i)
	r := warehouse.LoyaltyMovement{CustomerID: c.id, Programme: programme, Seq: uint32(i + 1), Version: version, Removed: m == nil}
	if m != nil {
		r.At, r.Kind, r.Points = int64(m.At), string(m.Kind), m.Points
		r.Available, r.Pending, r.Debt = m.Available, m.Pending, m.Debt
		r.BalanceAvailable, r.BalancePending, r.BalanceDebt = m.Balance.Available, m.Balance.Pending, m.Balance.Debt
		r.Lot, r.ExpiresAt, r.OrderID, r.Value, r.Currency = int32(m.Lot), lotExpires(l, m), m.Order, int64(m.Value), m.Currency
		r.Cause, r.Note = m.Cause.String(), m.Note
	}
	return r
}

func (f *fold) tierRow(c *cust, programme string, t *change, i int, version warehouse.Version) warehouse.TierChange {
	r := warehouse.TierChange{
		CustomerID: c.id, Programme: programme, Seq: uint32(i + 1), PolicyVersion: uint32(f.rules.Version), Version: version, Removed: t == nil,
	}
	if t != nil {
		r.From, r.To, r.At, r.Until, r.Reason, r.Cause = t.from, t.to, int64(t.at), int64(t.until), t.reason, t.cause()
	}
	return r
}

func (f *fold) statusRow(c *cust, t *change, i int, version warehouse.Version) warehouse.StatusChange {
	r := warehouse.StatusChange{
		CustomerID: c.id, Seq: uint32(i + 1), PolicyVersion: uint32(f.rules.Version), Version: version, Removed: t == nil,
	}
	if t != nil {
		r.From, r.To, r.At, r.Index, r.Reason, r.Cause = t.from, t.to, int64(t.at), t.index, t.reason, t.cause()
	}
	return r
}

func (f *fold) showSatisfaction(c *cust, facts *satisfaction.Facts, version warehouse.Version, p *piece) {
	clock := domain.Millis(version.Clock)
	c.nextStatus = 0
	c.flushed = slices.DeleteFunc(c.flushed, func(l line) bool { return l.what == aboutStatus })
	if facts.Empty() && c.shown.empty() {
		return
	}
	v, past, future := facts.View(clock, f.rules.satisfaction)
	changes, _ := statusChanges(past, clock)
	if !f.silent {
		c.flushed = append(c.flushed, line{what: aboutStatus, all: changes})
	}
	next := func(t domain.Millis) {
		if t > clock && (c.nextStatus == 0 || t < c.nextStatus) {
			c.nextStatus = t
		}
	}
	if len(future) > 0 {
		next(future[0].At)
	}
	for i := range v.Cases {
		for _, t := range [...]*satisfaction.Timing{&v.Cases[i].FirstResponse, &v.Cases[i].Resolution} {
			if t.Verdict == satisfaction.VerdictPending {
				next(t.Due)
			}
		}
	}
	s := c.shown
	if !facts.Empty() || s.satisfaction {
		row := satisfactionRow(c, &v, version)
		row.Removed = facts.Empty()
		p.rows.Satisfaction = append(p.rows.Satisfaction, row)
	}
	s.satisfaction = !facts.Empty()

	var h hasher
	hashes := make([]uint64, len(changes))
	for i := range changes {
		hashes[i] = changes[i].hash("")
	}
	s.statuses = differ(&p.rows.StatusChanges, s.statuses, hashes, func(i int) warehouse.StatusChange { return f.statusRow(c, nth(changes, i), i, version) })
	hashes = make([]uint64, len(v.Cases))
	for i := range v.Cases {
		k := &v.Cases[i]
		h.reset().str(k.Kind.String(), k.ID, k.Priority, string(k.Opened.ID[:])).
			int(int64(k.Opened.At), int64(k.Reopened), int64(flagByte(k.Open)), int64(flagByte(k.Escalated)), int64(flagByte(k.HasOpened)))
		for _, t := range [...]*satisfaction.Timing{&k.FirstResponse, &k.Resolution} {
			h.str(t.Verdict.String()).int(int64(flagByte(t.Done)), int64(t.Ref.At), int64(t.Target), int64(t.Due))
			if t.Done {
				h.int(int64(t.Took))
			}
		}
		hashes[i] = h.sum()
	}
	s.cases = differ(&p.rows.Cases, s.cases, hashes, func(i int) warehouse.Case { return caseRow(c, nth(v.Cases, i), i, version) })
	hashes = make([]uint64, len(v.Surveys))
	for i := range v.Surveys {
		k := &v.Surveys[i]
		hashes[i] = h.reset().str(k.Kind.String(), k.Survey, k.Campaign, string(k.Sent.ID[:]), string(k.Answer.ID[:])).
			int(int64(k.Sent.At), int64(flagByte(k.Answered)), int64(k.Answer.At)).sum()
	}
	s.surveys = differ(&p.rows.Surveys, s.surveys, hashes, func(i int) warehouse.Survey { return surveyRow(c, nth(v.Surveys, i), i, version) })
}

func satisfactionRow(c *cust, v *satisfaction.View, version warehouse.Version) warehouse.Satisfaction {
	r := warehouse.Satisfaction{
		CustomerID: c.id, Status: string(v.Status), Since: int64(v.Since), Known: v.Known, Signals: uint32(v.Signals),
		NPS: measureRow(&v.NPS), CSAT: measureRow(&v.CSAT), CES: measureRow(&v.CES), Review: measureRow(&v.Review),
		Flagged: uint32(v.Flagged), OpenComplaints: uint32(v.OpenComplaints), OpenTickets: uint32(v.OpenTickets), Version: version,
	}
	if v.Known {
		r.Index, r.Uncapped, r.UnknownFrom = v.Index, v.Uncapped, int64(v.UnknownFrom)
	}
	return r
}

func measureRow(m *satisfaction.Measure) warehouse.Measure {
	if m.Count == 0 {
		return warehouse.Measure{}
	}
	return warehouse.Measure{Count: uint32(m.Count), Score: int64(m.Last.Value), At: int64(m.At.At), Change: m.Change, HasChange: m.HasChange}
}

func caseRow(c *cust, k *satisfaction.Case, i int, version warehouse.Version) warehouse.Case {
	r := warehouse.Case{CustomerID: c.id, Seq: uint32(i + 1), Version: version, Removed: k == nil}
	if k == nil {
		return r
	}
	r.Kind, r.ID, r.Open, r.Escalated, r.Reopened, r.Priority = k.Kind.String(), k.ID, k.Open, k.Escalated, uint32(k.Reopened), k.Priority
	if k.HasOpened {
		r.Opened, r.Event = int64(k.Opened.At), k.Opened.ID
	}
	r.Response, r.Resolution = timingRow(&k.FirstResponse), timingRow(&k.Resolution)
	return r
}

func timingRow(t *satisfaction.Timing) warehouse.Timing {
	r := warehouse.Timing{Done: t.Done, Took: int64(t.Took), Target: int64(t.Target), Due: int64(t.Due), Verdict: t.Verdict.String()}
	if t.Done {
		r.At = int64(t.Ref.At)
	}
	return r
}

func surveyRow(c *cust, k *satisfaction.Survey, i int, version warehouse.Version) warehouse.Survey {
	r := warehouse.Survey{CustomerID: c.id, Seq: uint32(i + 1), Version: version, Removed: k == nil}
	if k == nil {
		return r
	}
	r.Event, r.SentAt, r.Kind, r.Survey, r.Campaign = k.Sent.ID, int64(k.Sent.At), k.Kind.String(), k.Survey, k.Campaign
	if k.Answered {
		r.Answer, r.AnsweredAt = k.Answer.ID, int64(k.Answer.At)
	}
	return r
}
