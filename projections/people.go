package projections

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/identity"
	"sojourn/eventstore"
	"sojourn/warehouse"
)

// Identity is why some subjects are one customer.
type Identity struct {
	Customer uuid.UUID
	// Subjects are the customer's, the one that gives the id first.
	Subjects []IdentitySubject
	// Joins are the messages that name a subject of the customer together with
	// another, in the order in which they are tried, whatever became of them.
	Joins []IdentityJoin
	// Decisions are the merges and splits that name a subject of the customer, in
	// the order of the log.
	Decisions []Decision
}

// IdentitySubject is a subject and the id that it bears for itself.
type IdentitySubject struct {
	Subject string
	ID      uuid.UUID
	// FirstPosition is that of its first touchpoint, 0 where it is only named in
	// messages of others.
	FirstPosition eventstore.Position
}

// IdentityJoin is a pair of subjects that a message names together.
type IdentityJoin struct {
	Event   uuid.UUID
	At      time.Time // occurred_at
	Subject string    // the message's own
	Other   string    // the one it names
	Alias   bool
	// Outcome is "joined", "conflict" (it would break a limit), "kept_apart" (a
	// person has decided so) or "not_tried" (the policy does not join the kind).
	Outcome string

	rank, index int // the order among those of one message
}

// Decision is a merge or a split by a person.
type Decision struct {
	Event      uuid.UUID
	Position   eventstore.Position
	RecordedAt time.Time
	Kind       string // "merge" or "split"
	// Subjects are those named to be merged, or those that leave.
	Subjects []string
	// Others are the members that the merged customers had, or the subjects that
	// stay.
	Others []string
	Reason string
	Author string
}

// Identity answers why a customer is one, by what is known at a time; the errors
// are those of Customer. The time of At.AsOf does not matter: as of any day,
// joins of today count.
func (v *Views) Identity(ctx context.Context, ref string, at At) (Identity, error) {
	var out Identity
	err := v.question(at, func(g *generation, q *question) error {
		who, err := v.answerFrom(ctx, g, q, ref, nil)
		if err != nil {
			return err
		}
		f := q.fold
		c := q.clusterOf(who.members[0])
		if f.err != nil {
			return f.err
		}
		out.Customer = who.id
		mine := map[*subject]bool{}
		for _, m := range who.members {
			mine[m] = true
			out.Subjects = append(out.Subjects, IdentitySubject{Subject: m.String(), ID: m.id, FirstPosition: m.first})
		}
		seen := map[eventstore.Position]bool{}
		for i, j := range c.graph.Joins() {
			hub, other := c.subjects[j.Hub], c.subjects[j.Other]
			if !mine[hub] && !mine[other] {
				continue
			}
			outcome := c.graph.Outcome(i)
			if outcome == identity.NotTried && j.Alias {
				continue // the id is the other one
			}
			out.Joins = append(out.Joins, f.identityJoin(hub, other, j, outcome))
		}
		for _, m := range who.members {
			if f.tiesOf(m) == nil {
				continue
			}
			out.Joins = append(out.Joins, q.untried(m, mine)...)
			for _, p := range m.ties.decisions {
				if d := f.decisionAt(p); d != nil && !seen[p] && d.recordedAt <= q.known {
					seen[p] = true
					out.Decisions = append(out.Decisions, f.decision(d))
				}
			}
		}
		// A message that names a user twice, as previousId too, joins it once.
		twice := map[IdentityJoin]bool{}
		for _, j := range out.Joins {
			if j.Alias {
				twice[IdentityJoin{Event: j.Event, Other: j.Other}] = true
			}
		}
		out.Joins = slices.DeleteFunc(out.Joins, func(j IdentityJoin) bool {
			return !j.Alias && twice[IdentityJoin{Event: j.Event, Other: j.Other}]
		})
		slices.SortFunc(out.Joins, func(a, b IdentityJoin) int {
			return cmp.Or(a.At.Compare(b.At), slices.Compare(a.Event[:], b.Event[:]), cmp.Compare(a.rank, b.rank), cmp.Compare(a.index, b.index))
		})
		slices.SortFunc(out.Decisions, func(a, b Decision) int { return int(int64(a.Position) - int64(b.Position)) })
		return f.err
	})
	return out, err
}

// untried are the joins of a customer's subject with others, of which the policy
// does not join one; those among the customer's own are found at the other.
func (q *question) untried(s *subject, mine map[*subject]bool) []IdentityJoin {
	f := q.fold
	var all []IdentityJoin
	add := func(hub, other *subject, j *join) {
		// A user that the message names as previousId as well is named once.
		if other.first > 0 && slices.ContainsFunc(other.ties.joins, func(o join) bool { return o.alias && o.twin == other.stream && o.ref == j.ref }) {
			return
		}
		if !j.alias && j.recordedAt <= q.known && (!f.joins(hub) || !f.joins(other)) {
			all = append(all, f.identityJoin(hub, other, identity.Join{Ref: j.ref, Index: j.index}, identity.NotTried))
		}
	}
	for i := range s.ties.joins {
		if hub := f.find(s.ties.joins[i].hub); hub != nil {
			add(hub, s, &s.ties.joins[i])
		}
	}
	for _, l := range s.ties.links {
		o := f.find(l)
		if o == nil || mine[o] || f.tiesOf(o) == nil {
			continue
		}
		for i := range o.ties.joins {
			if o.ties.joins[i].hub == s.stream {
				add(s, o, &o.ties.joins[i])
			}
		}
	}
	return all
}

func (f *fold) identityJoin(hub, other *subject, j identity.Join, outcome identity.Outcome) IdentityJoin {
	rank, listed := f.rules.compiled.Identity().Rank(other.kind)
	if !listed {
		rank = math.MaxInt
	}
	return IdentityJoin{
		Event: j.Ref.ID, At: j.Ref.At.Time(), Subject: hub.String(), Other: other.String(), Alias: j.Alias,
		Outcome: outcome.String(), rank: rank, index: j.Index,
	}
}

// decision is a decision as answers give it.
func (f *fold) decision(d *decision) Decision {
	out := Decision{
		Event: d.id, Position: d.position, RecordedAt: d.recordedAt.Time(), Kind: "merge", Reason: d.Reason, Author: d.Author,
		Subjects: f.names(d.Subjects), Others: f.names(d.Others),
	}
	if d.split {
		out.Kind = "split"
	}
	return out
}

func (f *fold) names(streams []string) []string {
	out := []string{}
	for _, s := range streams {
		if sub := f.find(s); sub != nil {
			out = append(out, sub.String())
		}
	}
	return out
}

// ConflictEntry is a message that names two subjects which are not one customer.
type ConflictEntry struct {
	Event          uuid.UUID
	At             time.Time // occurred_at
	Subject, Other string
	// Customer and OtherCustomer are those the two belong to, Nil where a subject
	// has no touchpoint and belongs to nobody.
	Customer, OtherCustomer uuid.UUID
	// Status is "open", or "kept_apart" where a person has decided so.
	Status string
}

// Conflicts is a page of conflicts, of one status or of all where it is empty, by
// occurred_at. The next cursor is empty on the last page.
func (v *Views) Conflicts(ctx context.Context, status string, limit int, cursor string) ([]ConflictEntry, string, error) {
	query := "SELECT event_id, other_id, occurred_at, subject, other, status FROM identity_conflicts WHERE 1"
	var args []any
	if status != "" {
		query += " AND status = {status:String}"
		args = append(args, warehouse.Named("status", status))
	}
	if cursor != "" {
		after, err := parseConflictCursor(cursor)
		if err != nil {
			return nil, "", err
		}
		query += " AND (occurred_at, event_id, other_id) > (fromUnixTimestamp64Milli({at:Int64}), toUUID({event:String}), toUUID({other:String}))"
		args = append(args, warehouse.Named("at", after.At), warehouse.Named("event", after.Event.String()), warehouse.Named("other", after.Other.String()))
	}
	query += fmt.Sprintf(" ORDER BY occurred_at, event_id, other_id LIMIT %d", limit+1)
	rows, err := v.cfg.DB.Query(ctx, query, args...)
	if err != nil {
		return nil, "", fmt.Errorf("list conflicts: %w", err)
	}
	defer func() { _ = rows.Close() }()
	all, places := []ConflictEntry{}, []conflictPlace{}
	for rows.Next() {
		var e ConflictEntry
		var other uuid.UUID
		if err := rows.Scan(&e.Event, &other, &e.At, &e.Subject, &e.Other, &e.Status); err != nil {
			return nil, "", fmt.Errorf("list conflicts: %w", err)
		}
		all, places = append(all, e), append(places, conflictPlace{e.At.UnixMilli(), e.Event, other})
	}
	if err := rows.Err(); err != nil {
		return nil, "", fmt.Errorf("list conflicts: %w", err)
	}
	next := ""
	if len(all) > limit {
		all = all[:limit]
		b, err := json.Marshal(places[limit-1])
		if err != nil {
			return nil, "", err
		}
		next = base64.RawURLEncoding.EncodeToString(b)
	}
	err = v.question(At{}, func(_ *generation, q *question) error {
		for i := range all {
			all[i].Customer, all[i].OtherCustomer = q.customerOf(all[i].Subject), q.customerOf(all[i].Other)
		}
		return q.fold.err
	})
	// The state may be ahead of the rows.
	all = slices.DeleteFunc(all, func(e ConflictEntry) bool { return e.Customer != uuid.Nil && e.Customer == e.OtherCustomer })
	return all, next, err
}

// conflictPlace is where a conflict stands in the list.
type conflictPlace struct {
	At    int64     `json:"at"`
	Event uuid.UUID `json:"event"`
	Other uuid.UUID `json:"other"`
}

func parseConflictCursor(cursor string) (p conflictPlace, err error) {
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || json.Unmarshal(b, &p) != nil {
		return p, ErrBadCursor
	}
	return p, nil
}

// customerOf is the id of the customer of a subject, Nil where it has none.
func (q *question) customerOf(ref string) uuid.UUID {
	members, _, err := q.find(ref)
	if err != nil {
		return uuid.Nil
	}
	return members[0].id
}

// MergeRequest asks for some subjects, or the customers of some ids, to be one
// customer from now on.
type MergeRequest struct {
	Subjects []string // at least two
	Reason   string
	Author   string
}

// SplitRequest asks for some subjects to leave their customer. Where From is set,
// they and everybody they are one customer with are kept apart from From's
// customer instead, whether or not they are one customer with it.
type SplitRequest struct {
	Subjects []string // at least one
	From     string
	Reason   string
	Author   string
}

// MaxDecisionSubjects bounds how many subjects a decision may name.
const MaxDecisionSubjects = 100

// DecisionError says what is wrong with a request for a decision.
type DecisionError struct{ Message string }

func (e *DecisionError) Error() string { return e.Message }

func badDecision(format string, args ...any) error {
	return &DecisionError{fmt.Sprintf(format, args...)}
}

// Merge records that some subjects are one customer. It is durable on return; the
// views show it once they hold the position of the decision. The errors are
// *DecisionError, and ErrNotFound for a subject that nothing is known of. The
// same request again, right behind the first, is the same decision.
func (v *Views) Merge(ctx context.Context, r MergeRequest) (Decision, error) {
	if len(r.Subjects) < 2 {
		return Decision{}, badDecision("name at least two subjects or customers to merge")
	}
	return v.decide(ctx, false, r.Subjects, r.Reason, r.Author, func(q *question, last *decision, named []*subject, customers [][]*subject) ([]*subject, []*subject, error) {
		if len(named) < 2 && last != nil && !last.split && last.Reason == r.Reason && last.Author == r.Author && slices.Contains(last.Others, named[0].stream) {
			// The ids of customers that this very request has made one already.
			return q.fold.subjectsAt(last.Subjects), q.fold.subjectsAt(last.Others), q.fold.err
		}
		if len(named) < 2 {
			return nil, nil, badDecision("name at least two different subjects or customers to merge")
		}
		var members []*subject
		for _, c := range customers {
			for _, m := range c {
				if !slices.Contains(members, m) {
					members = append(members, m)
				}
			}
		}
		sortMembers(members) // so that the same request again is the same
		return named, members, nil
	})
}

// subjectsAt are the subjects of some streams.
func (f *fold) subjectsAt(streams []string) []*subject {
	all := make([]*subject, 0, len(streams))
	for _, stream := range streams {
		if s := f.find(stream); s != nil {
			all = append(all, s)
		}
	}
	return all
}

// Split records that some subjects are not one customer with others; see Merge.
func (v *Views) Split(ctx context.Context, r SplitRequest) (Decision, error) {
	if len(r.Subjects) == 0 {
		return Decision{}, badDecision("name the subjects that are to leave")
	}
	for _, ref := range r.Subjects {
		if _, err := uuid.Parse(ref); err == nil && r.From == "" {
			return Decision{}, badDecision("%s is a customer: name the subjects of it that leave, or with from the customer that it is to be kept apart from", ref)
		}
	}
	return v.decide(ctx, true, r.Subjects, r.Reason, r.Author, func(q *question, last *decision, named []*subject, customers [][]*subject) (leave, stay []*subject, err error) {
		leave, stay = named, customers[0]
		if r.From == "" {
			for i, c := range customers {
				if c[0] != customers[0][0] {
					return nil, nil, badDecision("%s and %s are not one customer: split one customer at a time", named[0], named[i])
				}
			}
		} else {
			if stay, err = q.membersFor(r.From); err != nil {
				return nil, nil, err
			}
			var along []*subject
			for _, c := range customers {
				if c[0] == stay[0] {
					continue // it leaves that customer by itself
				}
				for _, m := range c {
					if !slices.Contains(named, m) && !slices.Contains(along, m) {
						along = append(along, m)
					}
				}
			}
			sortMembers(along)
			leave = append(leave[:len(leave):len(leave)], along...)
		}
		stay = slices.DeleteFunc(slices.Clone(stay), func(s *subject) bool { return slices.Contains(leave, s) })
		if len(stay) == 0 && r.From == "" && last != nil && last.says(true, decided{streamsOf(leave), last.Others, r.Reason, r.Author}) {
			for _, stream := range last.Others {
				stay = append(stay, q.fold.subject(stream))
			}
			return leave, stay, q.fold.err
		}
		if len(stay) == 0 {
			return nil, nil, badDecision("%s would leave nobody behind: name some of the customer's subjects, or with from the customer to keep them apart from", strings.Join(r.Subjects, ", "))
		}
		return leave, stay, nil
	})
}

// membersFor are the subjects of the customer that a reference names; where it is
// a subject of no customer, itself.
func (q *question) membersFor(ref string) ([]*subject, error) {
	s, _, err := q.subject(ref)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	if s.nobody {
		return nil, badDecision("%s names nobody by the policy", ref)
	}
	return q.membersOf(s)
}

// sides are the two sets of subjects that a decision is about, given the last
// decision of the log, nil where there is none, and the subjects that are named
// with the customers they are of.
// standsFor is the subject that a decision names where it was given the id of s: a
// user of its customer, who stays whatever becomes of the devices, or s itself.
func standsFor(s *subject, members []*subject) *subject {
	if s.kind == domain.User {
		return s
	}
	for _, m := range members {
		if m.kind == domain.User {
			return m
		}
	}
	return s
}

type sides func(q *question, last *decision, named []*subject, customers [][]*subject) (these, others []*subject, err error)

func (v *Views) decide(ctx context.Context, split bool, refs []string, reason, author string, of sides) (Decision, error) {
	if len(refs) > MaxDecisionSubjects {
		return Decision{}, badDecision("a decision names at most %d subjects", MaxDecisionSubjects)
	}
	if strings.TrimSpace(reason) == "" || strings.TrimSpace(author) == "" {
		return Decision{}, badDecision("say why (reason) and who decides (author)")
	}
	for {
		d, err := v.tryDecide(ctx, split, refs, reason, author, of)
		if !errors.Is(err, eventstore.ErrWrongRevision) {
			return d, err
		}
		// Another decision came between, which this one is to know of.
	}
}

// behindStrangers is the revision behind all decisions from one on, where none of
// them is about the same subjects; eventstore.ErrWrongRevision where one is.
func (v *Views) behindStrangers(ctx context.Context, from uint64, said *decided) (uint64, error) {
	about := map[string]bool{}
	for _, stream := range append(slices.Clone(said.Subjects), said.Others...) {
		about[stream] = true
	}
	for e, err := range v.cfg.Store.ReadStream(ctx, domain.StreamIdentity, from, eventstore.Forwards) {
		if err != nil {
			return 0, fmt.Errorf("read the decisions: %w", err)
		}
		d, err := decisionOf(&e)
		if err != nil {
			return 0, err
		}
		if slices.ContainsFunc(d.streams(), func(stream string) bool { return about[stream] }) {
			return 0, eventstore.ErrWrongRevision
		}
		from = e.Revision + 1
	}
	return from, nil
}

func (v *Views) tryDecide(ctx context.Context, split bool, refs []string, reason, author string, of sides) (Decision, error) {
	last, expected, revision, err := v.lastDecision(ctx)
	if err != nil {
		return Decision{}, err
	}
	// What was acknowledged before the request is part of what is decided about.
	head, err := v.cfg.Store.Head(ctx)
	if err == nil {
		err = v.WaitFor(ctx, head)
	}
	if err != nil {
		return Decision{}, err
	}
	said := decided{Reason: reason, Author: author}
	out := Decision{Kind: "merge", Reason: reason, Author: author}
	typ := domain.TypeIdentityMerged
	if split {
		out.Kind, typ = "split", domain.TypeIdentitySplit
	}
	err = v.question(At{}, func(_ *generation, q *question) error {
		var named []*subject
		var customers [][]*subject
		for _, ref := range refs {
			s, asked, err := q.subject(ref)
			if err != nil {
				return fmt.Errorf("%s: %w", ref, err)
			}
			members, err := q.membersFor(ref)
			if err != nil {
				return err
			}
			if asked != uuid.Nil {
				s = standsFor(s, members)
			}
			if slices.Contains(named, s) {
				continue
			}
			named, customers = append(named, s), append(customers, members)
		}
		these, others, err := of(q, last, named, customers)
		if err != nil {
			return err
		}
		said.Subjects, said.Others = streamsOf(these), streamsOf(others)
		for _, s := range these {
			out.Subjects = append(out.Subjects, s.String())
		}
		for _, s := range others {
			out.Others = append(out.Others, s.String())
		}
		return nil
	})
	if err != nil {
		return Decision{}, err
	}
	if last == nil || !last.says(split, said) {
		data, err := json.Marshal(said)
		if err != nil {
			return Decision{}, err
		}
		for {
			id := domain.StatementID(domain.StreamIdentity, revision, data)
			_, err := v.cfg.Store.Append(ctx, domain.StreamIdentity, expected, eventstore.NewEvent{ID: id, Type: typ, Data: data})
			if errors.Is(err, eventstore.ErrWrongRevision) {
				if revision, err = v.behindStrangers(ctx, revision, &said); err == nil {
					expected = eventstore.Revision(revision - 1)
					continue
				}
			}
			if errors.Is(err, eventstore.ErrTooLarge) {
				return Decision{}, badDecision("the customers have too many subjects to be decided about at once")
			}
			if err != nil {
				return Decision{}, fmt.Errorf("record the decision: %w", err)
			}
			break
		}
		for e, err := range v.cfg.Store.ReadStream(ctx, domain.StreamIdentity, revision, eventstore.Forwards) {
			if err == nil {
				last, err = decisionOf(&e)
			}
			if err != nil {
				return Decision{}, fmt.Errorf("read the decision: %w", err)
			}
			break
		}
	}
	out.Event, out.Position, out.RecordedAt = last.id, last.position, last.recordedAt.Time()
	return out, nil
}

// lastDecision is the last decision of the log, nil where there is none, what an
// append behind it expects, and the revision that the next one gets.
func (v *Views) lastDecision(ctx context.Context) (last *decision, expected eventstore.Expected, next uint64, err error) {
	for e, err := range v.cfg.Store.ReadStream(ctx, domain.StreamIdentity, eventstore.End, eventstore.Backwards) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			break
		}
		if err == nil {
			last, err = decisionOf(&e)
		}
		if err != nil {
			return nil, nil, 0, fmt.Errorf("read the decisions: %w", err)
		}
		return last, eventstore.Revision(e.Revision), e.Revision + 1, nil
	}
	return nil, eventstore.NoStream{}, 0, nil
}
