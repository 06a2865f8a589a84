package projections

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
	"sojourn/domain/satisfaction"
	"sojourn/warehouse"
)

// memoryLines are the tables of points and satisfaction.
type memoryLines struct {
	loyalty  map[string]warehouse.LoyaltyStatus // by customer and programme
	ledger   map[string]warehouse.LoyaltyMovement
	tiers    map[string]warehouse.TierChange
	opinions map[uuid.UUID]warehouse.Satisfaction
	statuses map[string]warehouse.StatusChange
	cases    map[string]warehouse.Case
	surveys  map[string]warehouse.Survey
	feedback map[uuid.UUID]warehouse.Feedback
	handled  map[uuid.UUID]warehouse.Handling
	stays    map[string]warehouse.SegmentStay
}

func newMemoryLines() memoryLines {
	return memoryLines{
		loyalty: map[string]warehouse.LoyaltyStatus{}, ledger: map[string]warehouse.LoyaltyMovement{}, tiers: map[string]warehouse.TierChange{},
		opinions: map[uuid.UUID]warehouse.Satisfaction{}, statuses: map[string]warehouse.StatusChange{},
		cases: map[string]warehouse.Case{}, surveys: map[string]warehouse.Survey{}, feedback: map[uuid.UUID]warehouse.Feedback{},
		handled: map[uuid.UUID]warehouse.Handling{}, stays: map[string]warehouse.SegmentStay{},
	}
}

// keepNewest keeps of several rows with one key the newest.
func keepNewest[K comparable, R any](into map[K]R, rows []R, key func(*R) K, version func(*R) warehouse.Version) {
	for i := range rows {
		r := &rows[i]
		if old, ok := into[key(r)]; !ok || newer(version(r), version(&old)) {
			into[key(r)] = *r
		}
	}
}

func seqKey(id uuid.UUID, more string, seq uint32) string {
	return fmt.Sprintf("%s/%s/%06d", id, more, seq)
}

// write complains of points that came from nowhere.
func (m *memoryLines) write(r *TableRows) error {
	for i := range r.LoyaltyStatus {
		if s := &r.LoyaltyStatus[i]; !conserved(s) {
			return fmt.Errorf("points are not conserved: %+v", *s)
		}
	}
	keepNewest(m.loyalty, r.LoyaltyStatus, func(r *warehouse.LoyaltyStatus) string { return seqKey(r.CustomerID, r.Programme, 0) },
		func(r *warehouse.LoyaltyStatus) warehouse.Version { return r.Version })
	keepNewest(m.ledger, r.LoyaltyLedger, func(r *warehouse.LoyaltyMovement) string { return seqKey(r.CustomerID, r.Programme, r.Seq) },
		func(r *warehouse.LoyaltyMovement) warehouse.Version { return r.Version })
	keepNewest(m.tiers, r.TierChanges, func(r *warehouse.TierChange) string { return seqKey(r.CustomerID, r.Programme, r.Seq) },
		func(r *warehouse.TierChange) warehouse.Version { return r.Version })
	keepNewest(m.opinions, r.Satisfaction, func(r *warehouse.Satisfaction) uuid.UUID { return r.CustomerID },
		func(r *warehouse.Satisfaction) warehouse.Version { return r.Version })
	keepNewest(m.statuses, r.StatusChanges, func(r *warehouse.StatusChange) string { return seqKey(r.CustomerID, "", r.Seq) },
		func(r *warehouse.StatusChange) warehouse.Version { return r.Version })
	keepNewest(m.cases, r.Cases, func(r *warehouse.Case) string { return seqKey(r.CustomerID, "", r.Seq) },
		func(r *warehouse.Case) warehouse.Version { return r.Version })
	keepNewest(m.surveys, r.Surveys, func(r *warehouse.Survey) string { return seqKey(r.CustomerID, "", r.Seq) },
		func(r *warehouse.Survey) warehouse.Version { return r.Version })
	keepNewest(m.feedback, r.Feedback, func(r *warehouse.Feedback) uuid.UUID { return r.EventID },
		func(r *warehouse.Feedback) warehouse.Version { return warehouse.Version{} })
	keepNewest(m.handled, r.Handlings, func(r *warehouse.Handling) uuid.UUID { return r.EventID },
		func(r *warehouse.Handling) warehouse.Version { return warehouse.Version{Position: r.Revision} })
	keepNewest(m.stays, r.SegmentStays, func(r *warehouse.SegmentStay) string { return seqKey(r.CustomerID, r.Segment, r.Seq) },
		func(r *warehouse.SegmentStay) warehouse.Version { return r.Version })
	return nil
}

// conserved: what came is what is there and what went.
func conserved(s *warehouse.LoyaltyStatus) bool {
	return s.Earned+s.AdjustedIn+s.TransferredIn+s.Debt ==
		s.Available+s.Pending+s.Redeemed+s.Expired+s.Reversed+s.AdjustedOut+s.TransferredOut
}

// inWords is a row without what is empty in all of them.
func inWords(row any) string {
	return strings.NewReplacer("CustomerID:"+uuid.Nil.String()+" ", "", " Version:{Position:0 Clock:0}", "", " Removed:false", "", " PolicyVersion:0", "").Replace(fmt.Sprintf("%+v", row))
}

func inOrder(seq uint32, row any) string { return fmt.Sprintf(" %04d %s", seq, inWords(row)) }

// portraitLines are the rows of points and satisfaction in words.
type portraitLines struct {
	Loyalty, Ledger, Tiers                 string
	Satisfaction, Statuses, Cases, Surveys string
	Feedback, Segments                     string
}

// portrayed are the customers that have any row of points or satisfaction.
func (m *memoryLines) portrayed() map[uuid.UUID]bool {
	all := map[uuid.UUID]bool{}
	for _, r := range m.loyalty {
		all[r.CustomerID] = all[r.CustomerID] || !r.Removed
	}
	for _, r := range m.ledger {
		all[r.CustomerID] = all[r.CustomerID] || !r.Removed
	}
	for _, r := range m.tiers {
		all[r.CustomerID] = all[r.CustomerID] || !r.Removed
	}
	for _, r := range m.opinions {
		all[r.CustomerID] = all[r.CustomerID] || !r.Removed
	}
	for _, r := range m.statuses {
		all[r.CustomerID] = all[r.CustomerID] || !r.Removed
	}
	for _, r := range m.cases {
		all[r.CustomerID] = all[r.CustomerID] || !r.Removed
	}
	for _, r := range m.surveys {
		all[r.CustomerID] = all[r.CustomerID] || !r.Removed
	}
	for _, r := range m.stays {
		all[r.CustomerID] = all[r.CustomerID] || !r.Removed
	}
	for id, has := range all {
		if !has {
			delete(all, id)
		}
	}
	return all
}

// lines are the rows of a customer in words.
func (m *memory) lines(t tb, id uuid.UUID) (p portraitLines) {
	t.Helper()
	none, version := uuid.Nil, warehouse.Version{}
	var words []string
	end := func(into *string) {
		slices.Sort(words)
		*into, words = strings.Join(words, "\n"), nil
	}
	last := map[string]int{} // seq by programme
	numbered := func(programme string, seq uint32) {
		last[programme] = max(last[programme], int(seq))
		last[programme+" n"]++
	}
	whole := func(table string) {
		for programme, n := range last {
			if !strings.HasSuffix(programme, " n") && last[programme+" n"] != n {
				t.Fatalf("%s of %s %s: %d rows, the last is %d", table, id, programme, last[programme+" n"], n)
			}
		}
		clear(last)
	}
	for _, r := range m.loyalty {
		if r.CustomerID == id && !r.Removed {
			r.CustomerID, r.Version = none, version
			words = append(words, inWords(r))
		}
	}
	end(&p.Loyalty)
	for _, r := range m.ledger {
		if r.CustomerID == id && !r.Removed {
			numbered(r.Programme, r.Seq)
			r.CustomerID, r.Version = none, version
			words = append(words, r.Programme+inOrder(r.Seq, r))
		}
	}
	whole("loyalty_ledger")
	m.balances(t, id)
	end(&p.Ledger)
	for _, r := range m.tiers {
		if r.CustomerID == id && !r.Removed {
			numbered(r.Programme, r.Seq)
			r.CustomerID, r.Version, r.PolicyVersion = none, version, 0
			words = append(words, r.Programme+inOrder(r.Seq, r))
		}
	}
	whole("tier_transitions")
	end(&p.Tiers)
	for _, r := range m.opinions {
		if r.CustomerID == id && !r.Removed {
			r.CustomerID, r.Version = none, version
			words = append(words, inWords(r))
		}
	}
	end(&p.Satisfaction)
	for _, r := range m.statuses {
		if r.CustomerID == id && !r.Removed {
			numbered("", r.Seq)
			r.CustomerID, r.Version, r.PolicyVersion = none, version, 0
			words = append(words, inOrder(r.Seq, r))
		}
	}
	whole("satisfaction_transitions")
	end(&p.Statuses)
	for _, r := range m.cases {
		if r.CustomerID == id && !r.Removed {
			numbered("", r.Seq)
			r.CustomerID, r.Version = none, version
			if !r.Response.Done {
				r.Response.Took = 0 // it runs
			}
			if !r.Resolution.Done {
				r.Resolution.Took = 0
			}
			words = append(words, inOrder(r.Seq, r))
		}
	}
	whole("cases")
	end(&p.Cases)
	for _, r := range m.surveys {
		if r.CustomerID == id && !r.Removed {
			numbered("", r.Seq)
			r.CustomerID, r.Version = none, version
			words = append(words, inOrder(r.Seq, r))
		}
	}
	whole("surveys")
	end(&p.Surveys)
	for _, r := range m.feedback {
		customer := r.SubjectID
		if s, ok := m.subjects[customer]; ok {
			customer = s.CustomerID
		}
		if customer == id {
			r.Position = 0
			words = append(words, fmt.Sprint(r.OccurredAt, " ", r.EventID, " ", inWords(r)))
		}
	}
	end(&p.Feedback)
	for _, r := range m.stays {
		if r.CustomerID == id && !r.Removed {
			numbered(r.Segment, r.Seq)
		}
	}
	whole("segment_stays")
	words = m.staysOf(func(r *warehouse.SegmentStay) bool { return r.CustomerID == id }, false)
	end(&p.Segments)
	return p
}

// balances complains where the lines of a ledger do not add up to the balance after
// each of them, and to that of the status.
func (m *memory) balances(t tb, id uuid.UUID) {
	t.Helper()
	type balance [3]int64
	var lines []warehouse.LoyaltyMovement
	for _, r := range m.ledger {
		if r.CustomerID == id && !r.Removed {
			lines = append(lines, r)
		}
	}
	slices.SortFunc(lines, func(a, b warehouse.LoyaltyMovement) int { return cmp.Compare(a.Seq, b.Seq) })
	sums := map[string]balance{}
	for _, r := range lines {
		b := sums[r.Programme]
		b = balance{b[0] + r.Available, b[1] + r.Pending, b[2] + r.Debt}
		if b != (balance{r.BalanceAvailable, r.BalancePending, r.BalanceDebt}) {
			t.Fatalf("the lines up to %+v come to %v", r, b)
		}
		sums[r.Programme] = b
	}
	for _, r := range m.loyalty {
		if r.CustomerID == id && !r.Removed && sums[r.Programme] != (balance{r.Available, r.Pending, r.Debt}) {
			t.Fatalf("the ledger of %+v comes to %v", r, sums[r.Programme])
		}
	}
}

// factsOf are the facts of messages and commands, made anew.
func factsOf(messages, commands []sent, rules *Rules) (*loyalty.Facts, *satisfaction.Facts) {
	var l loyalty.Facts
	var s satisfaction.Facts
	for _, m := range messages {
		h := m.header()
		rule := rules.compiled.Classify(h.Kind, h.Source, h.Name)
		t := rules.touch(&h, refOf(m), rule, m.data())
		l.See(t.Ref)
		if t.Loyalty != nil {
			l.Add(*t.Loyalty, rules.book)
		}
		if t.Satisfaction != nil {
			s.Add(satisfaction.Touch{Ref: t.Ref, Event: *t.Satisfaction})
		}
	}
	for _, m := range commands {
		l.AddCommand(m.command.command(m))
	}
	return &l, &s
}

// linesOf are the rows of points and satisfaction that follow from the messages of a
// customer and the commands of its subjects, in the plainest way.
func linesOf(messages, commands []sent, rules *Rules, now domain.Millis) (p portraitLines) {
	points, opinions := factsOf(messages, commands, rules)
	p = standings(points, opinions, rules, now)
	words := feedbackOf(messages, rules)
	slices.Sort(words)
	p.Feedback = strings.Join(words, "\n")
	p.Segments = staysInWords(turnsOf(messages, commands, rules, now))
	return p
}

// standings are the rows that follow from facts, but for those of feedback.
func standings(points *loyalty.Facts, opinions *satisfaction.Facts, rules *Rules, now domain.Millis) (p portraitLines) {
	var status, ledger, tiers []string
	for _, pr := range rules.book.Programmes() {
		l := loyalty.Fold(points, pr, now)
		never := func(t domain.Millis) int64 {
			if t == policy.Never {
				return 0
			}
			return int64(t)
		}
		if l.Enrolled == policy.Never && len(l.Movements) == 0 {
			continue
		}
		t := l.Totals
		status = append(status, inWords(warehouse.LoyaltyStatus{
			Programme: pr.ID, Enrolled: never(l.Enrolled), Tier: l.Tier.Name, TierSince: int64(l.Tier.Since), TierUntil: never(l.Tier.Until),
			TierTotal: l.Tier.Total, TierBySpend: l.Tier.Spend, NextTier: l.Tier.Next, TierMissing: l.Tier.Missing,
			Available: t.Available, Pending: t.Pending, Debt: t.Debt, Earned: t.Earned, AdjustedIn: t.AdjustedIn, TransferredIn: t.TransferredIn,
			Redeemed: t.Redeemed, Expired: t.Expired, Reversed: t.Reversed, AdjustedOut: t.AdjustedOut, TransferredOut: t.TransferredOut,
			ExpiringAt: never(l.ExpiringAt), Expiring: l.Expiring, PointValue: int64(pr.ValueAt(now)), Currency: pr.CurrencyAt(now),
		}))
		for i, m := range l.Movements {
			r := warehouse.LoyaltyMovement{
				Programme: pr.ID, Seq: uint32(i + 1), At: int64(m.At), Kind: string(m.Kind), Points: m.Points,
				Available: m.Available, Pending: m.Pending, Debt: m.Debt,
				BalanceAvailable: m.Balance.Available, BalancePending: m.Balance.Pending, BalanceDebt: m.Balance.Debt,
				Lot: int32(m.Lot), OrderID: m.Order, Value: int64(m.Value), Currency: m.Currency, Cause: m.Cause.String(), Note: m.Note,
			}
			if m.Lot != loyalty.NoLot {
				r.ExpiresAt = never(l.Lots[m.Lot].Expires)
			}
			ledger = append(ledger, pr.ID+inOrder(r.Seq, r))
		}
		for i, c := range l.Transitions {
			r := warehouse.TierChange{
				Programme: pr.ID, Seq: uint32(i + 1), From: c.From, To: c.To, At: int64(c.At), Until: never(c.Until), Reason: c.Reason, Cause: c.Cause.String(),
			}
			tiers = append(tiers, pr.ID+inOrder(r.Seq, r))
		}
	}
	join := func(words []string) string {
		slices.Sort(words)
		return strings.Join(words, "\n")
	}
	p.Loyalty, p.Ledger, p.Tiers = join(status), join(ledger), join(tiers)
	if opinions.Empty() {
		return p
	}
	v, past, _ := opinions.View(now, rules.satisfaction)
	measure := func(m satisfaction.Measure) warehouse.Measure {
		if m.Count == 0 {
			return warehouse.Measure{}
		}
		return warehouse.Measure{Count: uint32(m.Count), Score: int64(m.Last.Value), At: int64(m.At.At), Change: m.Change, HasChange: m.HasChange}
	}
	row := warehouse.Satisfaction{
		Status: string(v.Status), Since: int64(v.Since), Known: v.Known, Signals: uint32(v.Signals),
		NPS: measure(v.NPS), CSAT: measure(v.CSAT), CES: measure(v.CES), Review: measure(v.Review),
		Flagged: uint32(v.Flagged), OpenComplaints: uint32(v.OpenComplaints), OpenTickets: uint32(v.OpenTickets),
	}
	if v.Known {
		row.Index, row.Uncapped, row.UnknownFrom = v.Index, v.Uncapped, int64(v.UnknownFrom)
	}
	p.Satisfaction = inWords(row)
	var statuses, cases, surveys []string
	for i, t := range past {
		statuses = append(statuses, inOrder(uint32(i+1), warehouse.StatusChange{
			Seq: uint32(i + 1), From: string(t.From), To: string(t.To), At: int64(t.At), Index: t.Index, Reason: t.Reason, Cause: t.Cause.String(),
		}))
	}
	timing := func(t satisfaction.Timing) warehouse.Timing {
		r := warehouse.Timing{Done: t.Done, Target: int64(t.Target), Due: int64(t.Due), Verdict: t.Verdict.String()}
		if t.Done {
			r.At, r.Took = int64(t.Ref.At), int64(t.Took)
		}
		return r
	}
	for i, k := range satisfaction.Cases(opinions, rules.satisfaction, now) {
		r := warehouse.Case{
			Seq: uint32(i + 1), Kind: k.Kind.String(), ID: k.ID, Open: k.Open, Escalated: k.Escalated, Reopened: uint32(k.Reopened),
			Priority: k.Priority, Response: timing(k.FirstResponse), Resolution: timing(k.Resolution),
		}
		if k.HasOpened {
			r.Opened, r.Event = int64(k.Opened.At), k.Opened.ID
		}
		cases = append(cases, inOrder(r.Seq, r))
	}
	for i, k := range v.Surveys {
		r := warehouse.Survey{Seq: uint32(i + 1), Event: k.Sent.ID, SentAt: int64(k.Sent.At), Kind: k.Kind.String(), Survey: k.Survey, Campaign: k.Campaign}
		if k.Answered {
			r.Answer, r.AnsweredAt = k.Answer.ID, int64(k.Answer.At)
		}
		surveys = append(surveys, inOrder(r.Seq, r))
	}
	p.Statuses, p.Cases, p.Surveys = join(statuses), join(cases), join(surveys)
	return p
}

// feedbackOf are the rows of feedback of some messages.
func feedbackOf(messages []sent, rules *Rules) (words []string) {
	for _, m := range messages {
		h := m.header()
		rule := rules.compiled.Classify(h.Kind, h.Source, h.Name)
		if rule.Act == "" {
			continue
		}
		e := satisfaction.Read(rule.Act, property(m.properties))
		sorted := rules.satisfaction.Sort(e.Comment)
		r := warehouse.Feedback{
			EventID: refOf(m).ID, SubjectID: domain.SubjectID(testKeyer.Stream(h.Subject())), Subject: h.Subject().String(), OccurredAt: int64(m.at),
			Act: string(rule.Act), Kind: e.Kind.String(), Channel: cmp.Or(e.Channel, rule.Channel), Source: "test",
			Question: e.Question, Comment: e.Comment, Survey: e.Survey, Campaign: e.Campaign, Case: e.Case, Product: e.Product,
			Topics: sorted.Topics, Need: sorted.Need, Priority: sorted.Priority,
		}
		if e.Kind != satisfaction.KindNone && rule.Act != policy.ActSurveySent {
			s := rules.satisfaction.Judge(e)
			r.Score, r.HasScore, r.Flag, r.Points = int64(s.Value), e.State == satisfaction.ScoreRead, s.Flag, s.Points
			r.ScaleLow, r.ScaleHigh, r.Good, r.Bad, r.Ease = int32(s.Scale.Low), int32(s.Scale.High), s.Good, s.Bad, uint8(s.Ease)
		}
		words = append(words, fmt.Sprint(r.OccurredAt, " ", r.EventID, " ", inWords(r)))
	}
	return words
}
