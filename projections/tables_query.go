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
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/customer"
	"sojourn/domain/lifecycle"
	"sojourn/eventstore"
	"sojourn/warehouse"
)

// ErrBadCursor is answered for a cursor that no page has given.
var ErrBadCursor = errors.New("the cursor is not one that an earlier page has given")

// Customers is a page of the customers in a stage at a time, or of all there were
// where stage is empty, each as it was then. The order is the same at all times.
// The next cursor is empty on the last page.
func (v *Views) Customers(ctx context.Context, stage string, limit int, cursor string, at At) ([]Customer, string, error) {
	var after uuid.UUID
	if cursor != "" {
		var err error
		if after, err = uuid.Parse(cursor); err != nil {
			return nil, "", ErrBadCursor
		}
	}
	ctx, cancel := v.untilStop(ctx)
	defer cancel()
	p, release, err := v.known(ctx, at.KnownAt)
	if err != nil {
		return nil, "", err
	}
	defer release()
	at = At{AsOf: at.asOf()}
	var ids []uuid.UUID
	if p != nil {
		ids, err = p.list(ctx, stage, after, limit+1, domain.MillisOf(at.AsOf))
	} else {
		ids, err = v.list(ctx, stage, after, limit+1, at.AsOf)
	}
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(ids) > limit {
		ids = ids[:limit]
		next = ids[limit-1].String()
	}
	all := make([]Customer, 0, len(ids))
	for _, id := range ids {
		var a *answer
		var moved *MovedError
		if p != nil {
			q, done := v.ask(p.g, at)
			a, err = v.answerFrom(ctx, p.g, q, id.String(), nil)
			done()
		} else {
			a, err = v.answer(ctx, id.String(), at, nil)
		}
		switch {
		case errors.Is(err, ErrNotFound), errors.As(err, &moved):
			continue // gone since the page was read
		case err != nil:
			return nil, "", err
		case stage != "" && string(a.view.Stage) != stage:
			continue
		}
		all = append(all, a.customer())
	}
	return all, next, nil
}

// asOf is the time a question is about; zero means now.
func (at At) asOf() time.Time {
	t := at.AsOf
	if t.IsZero() {
		t = at.KnownAt
	}
	if t.IsZero() {
		return t
	}
	return t.UTC().Truncate(time.Millisecond)
}

// Stages counts the customers by stage at a time. One to come is answered as if
// nothing more happened. With KnownAt the log is folded up to there, unless that
// was done lately.
func (v *Views) Stages(ctx context.Context, at At) (Stages, error) {
	ctx, cancel := v.untilStop(ctx)
	defer cancel()
	p, release, err := v.known(ctx, at.KnownAt)
	if err != nil {
		return Stages{}, err
	}
	defer release()
	clock, err := v.clock()
	if err != nil {
		return Stages{}, err
	}
	out := Stages{AsOf: at.asOf()}
	if out.AsOf.IsZero() {
		out.AsOf = clock
	}
	var counts map[string]uint64
	if p != nil {
		counts, err = p.count(ctx, domain.MillisOf(out.AsOf))
	} else {
		counts, err = v.count(ctx, out.AsOf, clock)
	}
	if err != nil {
		return Stages{}, err
	}
	for _, s := range lifecycle.Stages {
		n := counts[string(s)]
		out.Customers += n
		out.Stages = append(out.Stages, StageCount{string(s), n})
	}
	return out, nil
}

// clock is that of the views.
func (v *Views) clock() (time.Time, error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.active == nil {
		return time.Time{}, ErrClosed
	}
	return v.active.state.checkpoint().Clock.Time(), nil
}

// stagesThen is a query for customer_id and stage_then, the stage at {as_of}, of
// the customers after {after}.
func stagesThen(asOf, clock time.Time) string {
	if asOf.Before(clock) {
		return `SELECT customer_id, argMax(to_stage, seq) AS stage_then FROM stage_transitions
    WHERE at <= fromUnixTimestamp64Milli({as_of:Int64}) AND customer_id > toUUID({after:String}) GROUP BY customer_id`
	}
	return `SELECT customer_id, if(empty(due), toString(stage), due[-1].2) AS stage_then FROM (
        SELECT customer_id, stage, arrayFilter(o -> o.1 <= fromUnixTimestamp64Milli({as_of:Int64}), outlook) AS due
        FROM customers WHERE customer_id > toUUID({after:String}))`
}

// count counts the customers by stage from the tables.
func (v *Views) count(ctx context.Context, asOf, clock time.Time) (map[string]uint64, error) {
	counts := map[string]uint64{}
	err := v.each(ctx, func(scan func(...any) error) error {
		var stage string
		var n uint64
		err := scan(&stage, &n)
		counts[stage] = n
		return err
	}, "SELECT stage_then, count() FROM (\n    "+stagesThen(asOf, clock)+"\n) GROUP BY stage_then",
		warehouse.Named("as_of", tableTime(asOf.UnixMilli())), warehouse.Named("after", uuid.Nil.String()))
	if err != nil {
		return nil, fmt.Errorf("count the customers by stage: %w", err)
	}
	return counts, nil
}

// list finds up to limit customers in a stage, or of all where it is empty, after
// another from the tables. The zero time asks about now.
func (v *Views) list(ctx context.Context, stage string, after uuid.UUID, limit int, asOf time.Time) ([]uuid.UUID, error) {
	then := "SELECT customer_id, stage AS stage_then FROM customers WHERE customer_id > toUUID({after:String})"
	if !asOf.IsZero() {
		clock, err := v.clock()
		if err != nil {
			return nil, err
		}
		then = stagesThen(asOf, clock)
	}
	where := ""
	if stage != "" {
		where = " WHERE stage_then = {stage:String}"
	}
	var ids []uuid.UUID
	err := v.each(ctx, func(scan func(...any) error) error {
		var id uuid.UUID
		err := scan(&id)
		ids = append(ids, id)
		return err
	}, fmt.Sprintf("SELECT customer_id FROM (%s)%s ORDER BY customer_id LIMIT %d", then, where, limit),
		warehouse.Named("as_of", tableTime(asOf.UnixMilli())), warehouse.Named("after", after.String()), warehouse.Named("stage", stage))
	if err != nil {
		return nil, fmt.Errorf("list customers: %w", err)
	}
	return ids, nil
}

func (v *Views) each(ctx context.Context, row func(scan func(...any) error) error, query string, args ...any) error {
	return eachRow(ctx, v.cfg.DB, row, query, args...)
}

// eachRow runs a query and hands its rows to a function one after the other.
func eachRow(ctx context.Context, db *warehouse.DB, row func(scan func(...any) error) error, query string, args ...any) (err error) {
	rows, err := db.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// tableTime is the nearest time in milliseconds that a DateTime64 can hold.
func tableTime(at int64) int64 {
	const first, last = -2208988800_000, 10413791999_999 // 1900 to 2299
	return min(max(at, first), last)
}

// Timeline is a page of a customer's touchpoints and transitions, in the order
// of time; at one instant touchpoints come first. The errors are those of
// Customer, and ErrBadCursor.
func (v *Views) Timeline(ctx context.Context, ref string, at At, cursor string, limit int) ([]Entry, string, error) {
	after, err := parseTimelineCursor(cursor)
	if err != nil {
		return nil, "", err
	}
	p := &page{after: after, limit: limit + 1}
	a, err := v.answer(ctx, ref, at, p)
	if err != nil {
		return nil, "", err
	}
	if err := a.q.deliveries(ctx, a.members, p); err != nil {
		return nil, "", err
	}
	return p.finish(a.past, limit)
}

// deliverySeq puts deliveries behind the transitions of their instant.
const deliverySeq = math.MaxInt32

// finish puts the transitions onto a page that has its touchpoints, and returns at
// most limit entries and the cursor of what follows.
func (p *page) finish(past []lifecycle.Transition, limit int) ([]Entry, string, error) {
	for i, t := range past {
		if e := (Entry{At: t.At.Time(), Transition: &TransitionEntry{
			Seq: i + 1, From: string(t.From), To: string(t.To), Reason: t.Reason, Cause: t.Cause.String(),
		}}); p.wants(e.place()) {
			p.add(e)
		}
	}
	p.cut()
	if len(p.entries) <= limit {
		return p.entries, "", nil
	}
	entries := p.entries[:limit]
	b, err := json.Marshal(entries[limit-1].place())
	if err != nil {
		return nil, "", err
	}
	return entries, base64.RawURLEncoding.EncodeToString(b), nil
}

// page gathers the first entries of a timeline after a place, whatever the order
// in which they come, and keeps at most twice the limit of them in memory.
type page struct {
	after   place
	limit   int
	entries []Entry
	last    *place // of the page, once it is full
}

// wants reports whether an entry at a place may stand on the page.
func (p *page) wants(at place) bool {
	return at.compare(p.after) > 0 && (p.last == nil || at.compare(*p.last) < 0)
}

func (p *page) add(e Entry) {
	if p.entries = append(p.entries, e); len(p.entries) >= 2*p.limit {
		p.cut()
	}
}

// cut sorts the page and lets go of what does not stand on it.
func (p *page) cut() {
	slices.SortFunc(p.entries, func(a, b Entry) int { return a.place().compare(b.place()) })
	if len(p.entries) >= p.limit {
		clear(p.entries[p.limit:])
		p.entries = p.entries[:p.limit]
		last := p.entries[p.limit-1].place()
		p.last = &last
	}
}

// place is where an entry stands in its timeline.
type place struct {
	At  int64     `json:"at"`
	Seq int       `json:"seq,omitempty"` // of a transition; 0 for a touchpoint, deliverySeq for a delivery
	ID  uuid.UUID `json:"id"`
}

func (e Entry) place() place {
	if e.Transition != nil {
		return place{At: e.At.UnixMilli(), Seq: e.Transition.Seq}
	}
	if e.Delivery != nil {
		return place{At: e.At.UnixMilli(), Seq: deliverySeq, ID: e.Delivery.First.Delivery}
	}
	return place{At: e.At.UnixMilli(), ID: e.Touchpoint.EventID}
}

func (p place) compare(o place) int {
	return cmp.Or(cmp.Compare(p.At, o.At), cmp.Compare(p.Seq, o.Seq), slices.Compare(p.ID[:], o.ID[:]))
}

// parseTimelineCursor is the place after which a page begins; the empty cursor is
// before all.
func parseTimelineCursor(cursor string) (place, error) {
	if cursor == "" {
		return place{At: math.MinInt64}, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return place{}, ErrBadCursor
	}
	var p place
	if err := json.Unmarshal(b, &p); err != nil {
		return place{}, ErrBadCursor
	}
	return p, nil
}

// touchpointTable is the table of touchpoints as the answer to one question: that
// of its customer, up to the checkpoint and the time asked about. It holds what
// the log does.
type touchpointTable struct {
	db         *warehouse.DB
	generation warehouse.Generation
	q          *question
	members    []*subject
}

func (t *touchpointTable) each(ctx context.Context, row func(scan func(...any) error) error, columns, rest string, args ...any) error {
	subjects := make([]string, 0, len(t.members))
	for _, m := range t.members {
		if m.first > 0 {
			subjects = append(subjects, m.String())
		}
	}
	query := "SELECT " + columns + " FROM touchpoints_" + t.generation.String() + `
WHERE subject IN {subjects:Array(String)} AND position <= {position:UInt64} AND occurred_at <= fromUnixTimestamp64Milli({as_of:Int64})` + rest
	args = append(args, warehouse.Named("subjects", subjects), warehouse.Named("position", uint64(t.q.at.Position)),
		warehouse.Named("as_of", tableTime(int64(t.q.asOf))))
	if err := eachRow(ctx, t.db, row, query, args...); err != nil {
		return fmt.Errorf("read the touchpoints of a customer: %w", err)
	}
	return nil
}

// cut makes the facts of all touchpoints those up to the time asked about, so far
// as a view as of that time looks at them: transitions and totals up to an instant
// do not depend on what came after it.
func (t *touchpointTable) cut(ctx context.Context, facts *customer.Facts) error {
	err := t.each(ctx, func(scan func(...any) error) error {
		var last time.Time
		err := scan(&last)
		facts.LastSeen = domain.MillisOf(last)
		return err
	}, "max(occurred_at)", "")
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(facts.Traits, func(tr customer.Trait) bool { return tr.Ref.At > t.q.asOf }) {
		return nil
	}
	var then customer.Facts
	err = t.each(ctx, func(scan func(...any) error) error {
		var touch customer.Touch
		var at time.Time
		var traits string
		err := scan(&touch.ID, &at, &traits)
		touch.At = domain.MillisOf(at)
		touch.Traits = readTraits(traits, touch.Ref)
		then.Add(&touch, t.q.rules.book)
		return err
	}, "event_id, occurred_at, properties", " AND type = 'identify'")
	facts.Traits = then.Traits
	return err
}

// read puts the touchpoints of a page into it.
func (t *touchpointTable) read(ctx context.Context, p *page) error {
	from, id := p.after, p.after.ID.String()
	if from.Seq > 0 { // behind all touchpoints of its instant
		from.At++
		id = ""
	}
	return t.each(ctx, func(scan func(...any) error) error {
		var e TouchpointEntry
		var at time.Time
		var position uint64
		var amount, properties string
		err := scan(&e.EventID, &e.Subject, &e.Source, &e.Type, &e.Name, &e.Meaning, &e.Channel, &at, &e.ReceivedAt, &e.RecordedAt,
			&position, &amount, &e.Currency, &e.OrderID, &properties)
		if err != nil {
			return err
		}
		e.Position = eventstore.Position(position)
		if properties != "" {
			e.Properties = json.RawMessage(properties)
		}
		if amount != "" {
			d, ok := domain.ParseDecimal(amount)
			if !ok {
				return fmt.Errorf("touchpoint %s: %q is no amount", e.EventID, amount)
			}
			e.Amount = d.String()
		}
		p.add(Entry{At: at, Touchpoint: &e})
		return nil
	}, `event_id, subject, source, type, name, meaning, channel, occurred_at, received_at, recorded_at,
    position, ifNull(toString(amount), ''), currency, order_id, properties`, fmt.Sprintf(`
    AND occurred_at >= fromUnixTimestamp64Milli({from:Int64})
    AND (occurred_at > fromUnixTimestamp64Milli({from:Int64}) OR toString(event_id) > {id:String})
ORDER BY occurred_at, toString(event_id) LIMIT %d`, p.limit),
		warehouse.Named("from", tableTime(from.At)), warehouse.Named("id", id))
}

// EventNames lists every name seen, by source and type, the most frequent first.
func (v *Views) EventNames(ctx context.Context) ([]EventName, error) {
	rows, err := v.cfg.DB.Query(ctx, `SELECT source, type, name, count() AS n, max(occurred_at), anyLast(meaning), anyLast(channel)
FROM touchpoints GROUP BY source, type, name ORDER BY n DESC, source, type, name`)
	if err != nil {
		return nil, fmt.Errorf("list event names: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var all []EventName
	for rows.Next() {
		var e EventName
		if err := rows.Scan(&e.Source, &e.Type, &e.Name, &e.Count, &e.LastAt, &e.Meaning, &e.Channel); err != nil {
			return nil, fmt.Errorf("list event names: %w", err)
		}
		all = append(all, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list event names: %w", err)
	}
	return all, nil
}
