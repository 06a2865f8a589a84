package projections

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/customer"
	"sojourn/domain/lifecycle"
	"sojourn/eventstore"
	"sojourn/warehouse"
)

// SegmentMember is a customer in a segment.
type SegmentMember struct {
	Customer uuid.UUID
	Since    time.Time
	Cause    string
}

// SegmentQuestion asks for members of a segment.
type SegmentQuestion struct {
	Name string
	// AsOf is the time asked about; zero means now.
	AsOf  time.Time
	Limit int
	// Sample asks for Limit members, the same at each question but in no order; else the
	// members come by their ids, those behind Cursor.
	Sample bool
	Cursor string
}

// ErrSegmentNotBuilt is returned while the views are being built with a new or changed
// segment: who is in it is not known yet.
var ErrSegmentNotBuilt = errors.New("the segment is being computed; try again when the views hold it")

// builtSegment is a segment whose members the views that answer hold.
func (v *Views) builtSegment(name string) error {
	s, err := v.Segment(name)
	if err == nil && !s.Built {
		err = ErrSegmentNotBuilt
	}
	return err
}

// SegmentMembers is a page, or a sample, of the members of a segment at a time. The next
// cursor is empty on the last page. ErrNoSegment, ErrSegmentNotBuilt.
func (v *Views) SegmentMembers(ctx context.Context, q SegmentQuestion) ([]SegmentMember, string, error) {
	var after uuid.UUID
	if q.Cursor != "" {
		var err error
		if after, err = uuid.Parse(q.Cursor); err != nil {
			return nil, "", ErrBadCursor
		}
	}
	if err := v.builtSegment(q.Name); err != nil {
		return nil, "", err
	}
	limit := q.Limit
	if !q.Sample {
		limit++
	}
	all, err := v.members(ctx, q, after, limit)
	if err != nil || q.Sample || len(all) <= q.Limit {
		return all, "", err
	}
	all = all[:q.Limit]
	return all, all[q.Limit-1].Customer.String(), nil
}

// memberPage is how many members are asked for at once where all are.
const memberPage = 50_000

// EachSegmentMember goes through all members of a segment at a time, by their ids. The
// zero time is now; that of a segment's last change is Segment.AppliedAt.
func (v *Views) EachSegmentMember(ctx context.Context, name string, asOf time.Time, do func(SegmentMember) error) error {
	if err := v.builtSegment(name); err != nil {
		return err
	}
	var after uuid.UUID
	for {
		page, err := v.members(ctx, SegmentQuestion{Name: name, AsOf: asOf}, after, memberPage)
		if err != nil {
			return err
		}
		for _, m := range page {
			if err := do(m); err != nil {
				return err
			}
		}
		if len(page) < memberPage {
			return nil
		}
		after = page[len(page)-1].Customer
	}
}

func (v *Views) members(ctx context.Context, q SegmentQuestion, after uuid.UUID, limit int) ([]SegmentMember, error) {
	where, args := "left_at IS NULL", []any{warehouse.Named("segment", q.Name), warehouse.Named("after", after.String())}
	if !q.AsOf.IsZero() {
		where = "entered_at <= fromUnixTimestamp64Milli({asof:Int64}) AND (left_at IS NULL OR left_at > fromUnixTimestamp64Milli({asof:Int64}))"
		args = append(args, warehouse.Named("asof", q.AsOf.UnixMilli()))
	}
	order := "customer_id"
	if q.Sample {
		order = "cityHash64(customer_id)"
	}
	rows, err := v.cfg.DB.Query(ctx, `SELECT customer_id, entered_at, entered_cause FROM segment_stays
WHERE segment = {segment:String} AND customer_id > toUUID({after:String}) AND `+where+fmt.Sprintf(" ORDER BY %s LIMIT %d", order, limit), args...)
	if err != nil {
		return nil, fmt.Errorf("list the members of a segment: %w", err)
	}
	defer func() { _ = rows.Close() }()
	all := []SegmentMember{}
	for rows.Next() {
		var m SegmentMember
		if err := rows.Scan(&m.Customer, &m.Since, &m.Cause); err != nil {
			return nil, fmt.Errorf("list the members of a segment: %w", err)
		}
		all = append(all, m)
	}
	return all, rows.Err()
}

// SegmentSize is the size of a segment on a day (UTC): how many were in it at its end,
// and how many times customers came and went on it.
type SegmentSize struct {
	Day                    time.Time
	Members, Entered, Left uint64
}

// SegmentSizes are the sizes of a segment on the days on which it changed, the last days
// of them at most. ErrNoSegment, ErrSegmentNotBuilt.
func (v *Views) SegmentSizes(ctx context.Context, name string, days int) ([]SegmentSize, error) {
	if err := v.builtSegment(name); err != nil {
		return nil, err
	}
	rows, err := v.cfg.DB.Query(ctx, fmt.Sprintf(`SELECT toDateTime(day, 'UTC'), members, entries, exits FROM segment_sizes
WHERE segment = {segment:String} ORDER BY day DESC LIMIT %d`, days), warehouse.Named("segment", name))
	if err != nil {
		return nil, fmt.Errorf("read the sizes of a segment: %w", err)
	}
	defer func() { _ = rows.Close() }()
	all := []SegmentSize{}
	for rows.Next() {
		var s SegmentSize
		if err := rows.Scan(&s.Day, &s.Members, &s.Entered, &s.Left); err != nil {
			return nil, fmt.Errorf("read the sizes of a segment: %w", err)
		}
		all = append(all, s)
	}
	slices.Reverse(all)
	return all, rows.Err()
}

// CountSegments counts the members of each segment that has any.
func (v *Views) CountSegments(ctx context.Context) (map[string]uint64, error) {
	rows, err := v.cfg.DB.Query(ctx, "SELECT toString(segment), count() FROM segment_members GROUP BY segment")
	if err != nil {
		return nil, fmt.Errorf("count the members of segments: %w", err)
	}
	defer func() { _ = rows.Close() }()
	all := map[string]uint64{}
	for rows.Next() {
		var name string
		var n uint64
		if err := rows.Scan(&name, &n); err != nil {
			return nil, fmt.Errorf("count the members of segments: %w", err)
		}
		all[name] = n
	}
	return all, rows.Err()
}

// covers reports whether the facts that a set keeps are all that another asks for.
func (s *segmentSet) covers(o *segmentSet) bool {
	for name := range o.byName {
		if _, ok := s.byName[name]; !ok {
			return false
		}
	}
	for meaning := range o.byMeaning {
		if _, ok := s.byMeaning[meaning]; !ok {
			return false
		}
	}
	for key := range o.traits {
		if !s.traits[key] {
			return false
		}
	}
	return s.needs.Accounts || !o.needs.Accounts
}

// readSegments reads from the log what a set keeps of the touchpoints of some subjects.
func (q *question) readSegments(ctx context.Context, members []*subject, set *segmentSet) (*segmentFacts, error) {
	facts := &segmentFacts{}
	if len(set.needs.Touchpoints)+len(set.traits) == 0 && !set.needs.Accounts {
		return facts, nil
	}
	for _, m := range members {
		for e, err := range q.store.ReadStream(ctx, m.stream, 0, eventstore.Forwards) {
			if errors.Is(err, eventstore.ErrStreamNotFound) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("read the touchpoints of a customer: %w", err)
			}
			if !q.knows(&e) {
				break
			}
			if e.Repeat || e.Type != domain.TypeTouchpoint && e.Type != domain.TypeJoin {
				continue
			}
			h, err := domain.ParseHeader(string(e.Metadata))
			if err != nil {
				continue
			}
			ref := lifecycle.Ref{At: h.OccurredAt, ID: e.ID}
			rule := q.rules.compiled.Classify(h.Kind, h.Source, h.Name)
			var touch customer.Touch
			_, named := set.byName[h.Name]
			if _, means := set.byMeaning[string(rule.Meaning)]; named || means || h.Kind == domain.Identify {
				touch = q.rules.touch(&h, ref, rule, e.Data)
			}
			group := ""
			if h.Kind == domain.Group && set.needs.Accounts {
				group = readGrouping(e.Data, ref, q.fold.keyer).groupID
			}
			if t := set.touch(q.rules, &h, rule, &touch, group); t != nil {
				facts.add(ref, t, set)
			}
		}
	}
	return facts, nil
}
