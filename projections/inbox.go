package projections

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/eventstore"
	"sojourn/warehouse"
)

// ErrNoFeedback is answered for an entry of feedback that the views do not hold.
var ErrNoFeedback = errors.New("no such entry of feedback")

// FeedbackEntry is a touchpoint of satisfaction and what people have done about it.
type FeedbackEntry struct {
	Event    uuid.UUID
	Customer uuid.UUID // Nil where its subject is nobody's
	Subject  string
	At       time.Time // occurred_at
	Act      string    // such as survey_answered, complaint_opened
	Kind     string    // of a score: nps, csat, ces, custom, review
	Channel  string
	Source   string
	// Score is decimal text, empty where there is none; Flag says why it counts
	// nowhere. Both ends of the scale are 0 where it has none.
	Score               string
	ScaleLow, ScaleHigh int
	Flag                string
	Question, Comment   string
	Survey, Campaign    string
	Case, Product       string
	// Status is open, assigned or closed; empty where there is nothing to do.
	Status, Assignee string
	// Sorted says that Topics, Need and Priority are a person's.
	Sorted         bool
	Topics         []string
	Need, Priority string
	Answer         string
	HandledBy      string
	HandledAt      time.Time // zero where nobody has
	// Revision is how often it was handled.
	Revision uint64
}

// FeedbackQuery asks for entries of feedback. What is empty chooses any that there
// is or was something to do about. Status may name several, parted by commas.
type FeedbackQuery struct {
	Status, Topic, Need, Priority, Assignee string
}

// Feedback is a page of entries, the newest first. The next cursor is empty on the
// last page; ErrBadCursor for one that no page has given.
func (v *Views) Feedback(ctx context.Context, q FeedbackQuery, limit int, cursor string) ([]FeedbackEntry, string, error) {
	where, args := "status != ''", []any{}
	for _, c := range [...]struct{ name, value, is string }{
		{"status", q.Status, "has(splitByChar(',', {status:String}), status)"},
		{"topic", q.Topic, "has(topics, {topic:String})"},
		{"need", q.Need, "need = {need:String}"},
		{"priority", q.Priority, "priority = {priority:String}"},
		{"assignee", q.Assignee, "assignee = {assignee:String}"},
	} {
		if c.value != "" {
			where += " AND " + c.is
			args = append(args, warehouse.Named(c.name, c.value))
		}
	}
	clock, err := v.clock()
	if err != nil {
		return nil, "", err
	}
	newest := clock.UnixMilli()
	if cursor != "" {
		after, err := parseTimelineCursor(cursor)
		if err != nil {
			return nil, "", err
		}
		newest = after.At
		where += " AND occurred_at <= fromUnixTimestamp64Milli({at:Int64}) AND (occurred_at, toString(event_id)) < (fromUnixTimestamp64Milli({at:Int64}), {event:String})"
		args = append(args, warehouse.Named("at", tableTime(after.At)), warehouse.Named("event", after.ID.String()))
	}
	var all []FeedbackEntry
	err = v.question(At{}, func(g *generation, _ *question) error {
		// The table is in order of months: what fills a page is most often found in the
		// last of them.
		for _, days := range [...]int64{31, 124, 496, math.MaxInt32} {
			all = all[:0]
			since := tableTime(newest - days*int64(domain.Day))
			if err := v.entries(ctx, &all, where+fmt.Sprintf(" AND occurred_at >= fromUnixTimestamp64Milli({since:Int64}) ORDER BY occurred_at DESC, toString(event_id) DESC LIMIT %d", limit+1),
				append(args[:len(args):len(args)], warehouse.Named("since", since))...); err != nil {
				return err
			}
			if len(all) > limit {
				break
			}
		}
		return v.revisions(ctx, g, all)
	})
	if err != nil {
		return nil, "", fmt.Errorf("list the feedback: %w", err)
	}
	if len(all) <= limit {
		return all, "", nil
	}
	last := all[limit-1]
	b, err := json.Marshal(place{At: last.At.UnixMilli(), ID: last.Event})
	return all[:limit], base64.RawURLEncoding.EncodeToString(b), err
}

// entries reads entries of feedback, but for how often they were handled.
func (v *Views) entries(ctx context.Context, all *[]FeedbackEntry, where string, args ...any) error {
	return v.each(ctx, func(scan func(...any) error) error {
		var e FeedbackEntry
		var low, high int32
		var handled *time.Time
		err := scan(&e.Event, &e.Customer, &e.Subject, &e.At, &e.Act, &e.Kind, &e.Channel, &e.Source, &e.Score, &low, &high, &e.Flag,
			&e.Question, &e.Comment, &e.Survey, &e.Campaign, &e.Case, &e.Product,
			&e.Status, &e.Assignee, &e.Sorted, &e.Topics, &e.Need, &e.Priority, &e.Answer, &e.HandledBy, &handled)
		if e.ScaleLow, e.ScaleHigh = int(low), int(high); handled != nil {
			e.HandledAt = *handled
		}
		if e.Customer == warehouse.Nobody {
			e.Customer = uuid.Nil
		}
		*all = append(*all, e)
		return err
	}, `SELECT event_id, customer_id, subject, occurred_at, act, kind, channel, source, ifNull(toString(score), ''), scale_low, scale_high, flag,
    question, comment, survey, campaign, case_id, product, status, assignee, sorted, topics, need, priority, answer, handled_by, handled_at
FROM feedback WHERE `+where, args...)
}

// revisions fills in how often entries were handled.
func (v *Views) revisions(ctx context.Context, g *generation, all []FeedbackEntry) error {
	at := map[uuid.UUID]int{}
	var ids []string
	for i, e := range all {
		if !e.HandledAt.IsZero() {
			at[e.Event] = i
			ids = append(ids, e.Event.String())
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return v.each(ctx, func(scan func(...any) error) error {
		var id uuid.UUID
		var revision uint64
		err := scan(&id, &revision)
		all[at[id]].Revision = revision
		return err
	}, "SELECT event_id, max(revision) FROM feedback_handling_"+g.number.String()+
		" WHERE event_id IN (SELECT toUUID(arrayJoin({ids:Array(String)}))) GROUP BY event_id", warehouse.Named("ids", ids))
}

// The commands of the inbox.
const (
	FeedbackAssign = "assign"
	FeedbackSort   = "sort"
	FeedbackClose  = "close"
)

// HandlingRequest asks for an entry of feedback to be handled.
type HandlingRequest struct {
	Event  uuid.UUID
	Do     string // assign, sort or close
	Author string
	// Assignee is who has it from now on, a closed one as well; nobody where empty.
	Assignee string
	// Sorting: what is nil stays as it is.
	Topics         *[]string
	Need, Priority *string
	// Answer is what it is closed with.
	Answer string
	// Expected, where not nil, is the revision that the entry must be at.
	Expected *uint64
}

// Handled is an entry of feedback after it was handled.
type Handled struct {
	Handling
	// Revision is how often it was handled, Position that of the event, 0 at
	// revision 0. What nobody has sorted bears what the policy says.
	Revision uint64
	Position eventstore.Position
}

// HandlingConflictError is answered where an entry is at another revision than the
// one expected.
type HandlingConflictError struct{ Present Handled }

func (e *HandlingConflictError) Error() string {
	return fmt.Sprintf("the entry is at revision %d by now", e.Present.Revision)
}

// HandleFeedback records what a person does about an entry of feedback. It is durable
// on return; the views show it once they hold its position. Whoever comes second
// handles what the first has made of it, unless the request names the revision it
// expects: then *HandlingConflictError. A request repeated right behind the first, or
// with the same expected revision, is the same and gets the same answer.
// ErrNoFeedback for an entry that the views do not hold.
func (v *Views) HandleFeedback(ctx context.Context, r HandlingRequest) (Handled, error) {
	var byPolicy Handling
	err := v.question(At{}, func(g *generation, _ *question) error {
		return v.cfg.DB.QueryRow(ctx, "SELECT topics, need, priority FROM feedback_"+g.number.String()+" WHERE event_id = toUUID({event:String}) ORDER BY position DESC LIMIT 1",
			warehouse.Named("event", r.Event.String())).Scan(&byPolicy.Topics, &byPolicy.Need, &byPolicy.Priority)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return Handled{}, ErrNoFeedback
	}
	if err != nil {
		return Handled{}, fmt.Errorf("find an entry of feedback: %w", err)
	}
	for {
		h, err := v.tryHandle(ctx, &r, &byPolicy)
		if errors.Is(err, eventstore.ErrWrongRevision) {
			continue // another came between
		}
		if err != nil {
			return Handled{}, err
		}
		h.sorted(&byPolicy)
		return h, nil
	}
}

func (v *Views) tryHandle(ctx context.Context, r *HandlingRequest, byPolicy *Handling) (Handled, error) {
	history, err := v.handlings(ctx, r.Event)
	if err != nil {
		return Handled{}, err
	}
	n := uint64(len(history) - 1)
	if r.Expected != nil && *r.Expected != n {
		if was := *r.Expected; was < n && history[was+1].says(r.on(history[was].Handling, byPolicy)) {
			return history[was+1], nil
		}
		present := history[n]
		present.sorted(byPolicy)
		return Handled{}, &HandlingConflictError{present}
	}
	wanted := r.on(history[n].Handling, byPolicy)
	if n > 0 && history[n].says(wanted) {
		return history[n], nil
	}
	wanted.At = domain.MillisOf(v.cfg.Now()).String()
	data, err := json.Marshal(wanted)
	if err != nil {
		return Handled{}, err
	}
	stream := domain.FeedbackStream(r.Event)
	expected := eventstore.Expected(eventstore.NoStream{})
	if n > 0 {
		expected = eventstore.Revision(n - 1)
	}
	_, err = v.cfg.Store.Append(ctx, stream, expected, eventstore.NewEvent{
		ID: domain.StatementID(stream, n, data), Type: domain.TypeFeedbackHandled, Data: data,
	})
	if err != nil {
		return Handled{}, fmt.Errorf("record the handling: %w", err)
	}
	if history, err = v.handlings(ctx, r.Event); err != nil {
		return Handled{}, err
	}
	return history[n+1], nil
}

// handlings is what became of an entry, by revision: at first nobody has handled it.
func (v *Views) handlings(ctx context.Context, event uuid.UUID) ([]Handled, error) {
	history := []Handled{{Handling: Handling{Event: event, Status: "open"}}}
	for e, err := range v.cfg.Store.ReadStream(ctx, domain.FeedbackStream(event), 0, eventstore.Forwards) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			break
		}
		h := Handled{Revision: e.Revision + 1, Position: e.Position}
		if err == nil {
			err = json.Unmarshal(e.Data, &h.Handling)
		}
		if err != nil {
			return nil, fmt.Errorf("read the handling of feedback: %w", err)
		}
		history = append(history, h)
	}
	return history, nil
}

// sorted gives an entry that no person has sorted what the policy says.
func (h *Handling) sorted(byPolicy *Handling) {
	if !h.Sorted {
		h.Topics, h.Need, h.Priority = byPolicy.Topics, byPolicy.Need, byPolicy.Priority
	}
}

// on is what the request makes of an entry, but for the time.
func (r *HandlingRequest) on(h Handling, byPolicy *Handling) Handling {
	h.Author, h.At = r.Author, ""
	switch r.Do {
	case FeedbackAssign:
		h.Assignee, h.Status = r.Assignee, "assigned"
		if r.Assignee == "" {
			h.Status = "open"
		}
	case FeedbackSort:
		h.sorted(byPolicy)
		h.Sorted = true
		if r.Topics != nil {
			h.Topics = *r.Topics
		}
		if r.Need != nil {
			h.Need = *r.Need
		}
		if r.Priority != nil {
			h.Priority = *r.Priority
		}
	case FeedbackClose:
		h.Status, h.Answer = "closed", r.Answer
	}
	return h
}

// says reports whether two handlings differ in nothing but the time.
func (h *Handled) says(o Handling) bool {
	a := h.Handling
	a.At, o.At = "", ""
	if len(a.Topics) == 0 && len(o.Topics) == 0 {
		a.Topics, o.Topics = nil, nil
	}
	return reflect.DeepEqual(a, o)
}

// TopicPeriod is what the comments of a time are about.
type TopicPeriod struct {
	From, To time.Time
	Comments int
	// Topics has the most frequent first; one that the part before had and this one
	// does not is there with none.
	Topics []TopicCount
}

// TopicCount is how a topic moves.
type TopicCount struct {
	Topic    string // empty for comments about none
	Comments int
	High     int // those of high priority
	// Change is how many more there are than in the part before; not Known for the
	// first part of the answer.
	Change int
	Known  bool
}

// FeedbackTopics is what the comments of the inbox are about, in each part of the time
// asked about that has any, in order. A comment about two topics counts in both; what people
// have sorted counts as they did.
func (v *Views) FeedbackTopics(ctx context.Context, p Periods) ([]TopicPeriod, error) {
	ctx, cancel := v.untilStop(ctx)
	defer cancel()
	if err := v.knowZone(ctx, &p); err != nil {
		return nil, err
	}
	var days []time.Time
	parts := map[time.Time]*TopicPeriod{}
	from := " FROM feedback WHERE status != '' AND comment != '' AND " + p.within("occurred_at")
	err := v.each(ctx, func(scan func(...any) error) error {
		var day time.Time
		var n uint64
		err := scan(&day, &n)
		t := &TopicPeriod{Comments: int(n)}
		t.From, t.To = p.part(day)
		days, parts[day] = append(days, day), t
		return err
	}, fmt.Sprintf("SELECT %s AS part, count()%s GROUP BY part ORDER BY part LIMIT %d", p.first("occurred_at"), from, MaxPeriods+1), p.args()...)
	if err == nil && len(days) > MaxPeriods {
		return nil, badQuestion("that is more than %d parts: ask for a shorter time or longer parts", MaxPeriods)
	}
	if err == nil {
		err = v.each(ctx, func(scan func(...any) error) error {
			var day time.Time
			var t TopicCount
			var n, high uint64
			err := scan(&day, &t.Topic, &n, &high)
			if part := parts[day]; part != nil {
				t.Comments, t.High = int(n), int(high)
				part.Topics = append(part.Topics, t)
			}
			return err
		}, "SELECT "+p.first("at")+" AS part, topic, count() AS n, countIf(priority = 'high') FROM (SELECT occurred_at AS at, arrayJoin(if(empty(topics), [''], topics)) AS topic, priority"+from+
			") GROUP BY part, topic ORDER BY part, n DESC, topic", p.args()...)
	}
	if err != nil {
		return nil, fmt.Errorf("count the topics: %w", err)
	}
	all := make([]TopicPeriod, 0, len(days))
	for i, day := range days {
		t := parts[day]
		if i > 0 {
			t.move(parts[p.next(day, -1)])
		}
		all = append(all, *t)
	}
	return all, nil
}

// move compares with the part before, nil where that has no comments.
func (t *TopicPeriod) move(before *TopicPeriod) {
	was := map[string]int{}
	if before != nil {
		for _, o := range before.Topics {
			if o.Comments > 0 {
				was[o.Topic] = o.Comments
			}
		}
	}
	for i := range t.Topics {
		c := &t.Topics[i]
		c.Change, c.Known = c.Comments-was[c.Topic], true
		delete(was, c.Topic)
	}
	var gone []TopicCount
	for topic, n := range was {
		gone = append(gone, TopicCount{Topic: topic, Change: -n, Known: true})
	}
	slices.SortFunc(gone, func(a, b TopicCount) int {
		if a.Topic < b.Topic {
			return -1
		}
		return 1
	})
	t.Topics = append(t.Topics, gone...)
}
