package projections

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sojourn/domain"
	"sojourn/domain/policy"
	"sojourn/domain/satisfaction"
	"sojourn/warehouse"
)

// QuestionError says what is wrong with a question.
type QuestionError struct{ Message string }

func (e *QuestionError) Error() string { return e.Message }

func badQuestion(format string, args ...any) error {
	return &QuestionError{fmt.Sprintf(format, args...)}
}

// Periods says which time figures are about, and in which parts they are given.
type Periods struct {
	From, To time.Time // From is included, To is not; zero times are open ends
	// By is "day", "week" (from Monday) or "month"; empty: in no parts.
	By   string
	Zone *time.Location // in which the parts begin; nil is UTC
}

// FiguresQuery asks for the figures of satisfaction. What is empty chooses any.
type FiguresQuery struct {
	Periods
	// Stage and Tier are where the customer stood at the moment of the answer.
	// Programme says whose tier is meant: the policy's first where it is empty; alone
	// it chooses those who held any tier of it.
	Stage, Tier, Programme string
	Channel, Source        string
	// Every counts every answer, not only a customer's last.
	Every bool
}

// MaxPeriods bounds the parts of one answer.
const MaxPeriods = 1000

// Figures are the figures of a time.
type Figures struct {
	From, To time.Time // as in Periods
	satisfaction.Opinions
	Responses  satisfaction.Share // of the surveys sent
	Complaints int                // opened
	Orders     int
	Cases      []CaseFigures // of all kinds
}

// CaseFigures are how the cases of a kind were served.
type CaseFigures struct {
	Kind satisfaction.CaseKind
	satisfaction.ServiceFigures
	Responded int // of those opened; where it is 0 the times of first responses are of nothing
}

// ComplaintRate is how many complaints there were for each thousand orders, with
// Wilson's interval as if each were about another order. known is false where there
// was no order, or fewer than complaints: then low and high mean nothing.
func (f *Figures) ComplaintRate() (value, low, high float64, known bool) {
	value = satisfaction.PerThousand(f.Complaints, f.Orders)
	if f.Orders == 0 || f.Complaints > f.Orders {
		return value, 0, 0, false
	}
	s := satisfaction.ShareOf(f.Complaints, f.Orders)
	return value, 1000 * s.Low, 1000 * s.High, true
}

// SatisfactionFigures are the figures of satisfaction, of all the time asked about
// and of those of its parts in which there is anything, in order. Filters apply
// first; then the last answer of each customer and kind counts, in each part its
// own. A customer's answers stand where the customer stood at that moment, cases
// where it stood when they were opened, surveys when they were sent, and orders at
// their first touchpoint. They are what the tables hold, as of AsOf.
func (v *Views) SatisfactionFigures(ctx context.Context, q FiguresQuery) (total Figures, parts []Figures, asOf time.Time, err error) {
	ctx, cancel := v.untilStop(ctx)
	defer cancel()
	if err := v.completeFigures(ctx, &q); err != nil {
		return total, nil, asOf, err
	}
	if asOf, err = v.clock(); err != nil {
		return total, nil, asOf, err
	}
	whole := q
	whole.By = ""
	all, err := v.figures(ctx, &whole)
	if err != nil {
		return total, nil, asOf, fmt.Errorf("figures of satisfaction: %w", err)
	}
	total = all[0]
	if q.By != "" {
		if parts, err = v.figures(ctx, &q); err != nil {
			err = fmt.Errorf("figures of satisfaction: %w", err)
		}
	}
	return total, parts, asOf, err
}

// completeFigures fills in what the question leaves open, and refuses what the
// tables cannot answer.
func (v *Views) completeFigures(ctx context.Context, q *FiguresQuery) error {
	if err := v.knowZone(ctx, &q.Periods); err != nil {
		return err
	}
	if q.Tier == "" && q.Programme == "" {
		return nil
	}
	v.mu.RLock()
	g := v.active
	v.mu.RUnlock()
	if g == nil {
		return ErrClosed
	}
	var names []string
	for _, p := range g.rules.book.Programmes() {
		names = append(names, p.ID)
	}
	switch {
	case len(names) == 0:
		return badQuestion("the policy has no programme, and so no tiers")
	case q.Programme == "":
		q.Programme = names[0]
	case !slices.Contains(names, q.Programme):
		return badQuestion("there is no programme %s; the policy has %s", domain.Excerpt(q.Programme), strings.Join(names, ", "))
	}
	return nil
}

// knowZone makes sure that the engine knows a zone in which it is to part time.
func (v *Views) knowZone(ctx context.Context, p *Periods) error {
	if p.Zone == nil {
		p.Zone = time.UTC
	}
	if p.By == "" || p.Zone == time.UTC {
		return nil
	}
	var n uint64
	if err := v.cfg.DB.QueryRow(ctx, "SELECT count() FROM system.time_zones WHERE time_zone = {tz:String}", warehouse.Named("tz", p.Zone.String())).Scan(&n); err != nil {
		return fmt.Errorf("look up a time zone: %w", err)
	}
	if n == 0 {
		return badQuestion("ClickHouse does not know the time zone %s", p.Zone)
	}
	return nil
}

// figures reads the figures of each part that has any; without parts, one.
func (v *Views) figures(ctx context.Context, q *FiguresQuery) ([]Figures, error) {
	parts := map[time.Time]*Figures{}
	of := func(day time.Time) *Figures {
		f := parts[day]
		if f == nil {
			f = &Figures{Opinions: satisfaction.OpinionsOf(nil), Responses: satisfaction.ShareOf(0, 0)}
			f.From, f.To = q.part(day)
			for kind := satisfaction.Ticket; kind <= satisfaction.Call; kind++ {
				f.Cases = append(f.Cases, CaseFigures{Kind: kind, ServiceFigures: satisfaction.ServiceOf(nil, kind, satisfaction.Filter{})})
			}
			parts[day] = f
		}
		return f
	}
	if q.By == "" {
		of(noPart)
	}
	args := q.args()
	read := func(query string, row func(scan func(...any) error) error) error {
		if len(parts) > MaxPeriods {
			return badQuestion("that is more than %d parts: ask for a shorter time or longer parts", MaxPeriods)
		}
		return v.each(ctx, row, query, args...)
	}
	err := errors.Join(
		read(q.answers(), func(scan func(...any) error) error {
			var day time.Time
			var nps, promoters, detractors, csat, satisfied, ces, easy, ease, squares uint64
			err := scan(&day, &nps, &promoters, &detractors, &csat, &satisfied, &ces, &easy, &ease, &squares)
			of(day).Opinions = satisfaction.Opinions{
				NPS:  satisfaction.NetPromoterOf(int(promoters), int(nps-promoters-detractors), int(detractors)),
				CSAT: satisfaction.ShareOf(int(satisfied), int(csat)),
				CES:  satisfaction.MeanOf(int(ces), int64(ease), int64(squares)),
				Easy: satisfaction.ShareOf(int(easy), int(ces)),
			}
			return err
		}),
		read(q.sent(), func(scan func(...any) error) error {
			var day time.Time
			var sent, answered uint64
			err := scan(&day, &sent, &answered)
			of(day).Responses = satisfaction.ShareOf(int(answered), int(sent))
			return err
		}),
		read(q.orders(), func(scan func(...any) error) error {
			var day time.Time
			var n uint64
			err := scan(&day, &n)
			of(day).Orders = int(n)
			return err
		}),
		read(q.cases(), func(scan func(...any) error) error {
			var day time.Time
			var kind string
			var opened, responded, resolved uint64
			var times [4]int64
			var verdicts [4]uint64
			err := scan(&day, &kind, &opened, &responded, &resolved, &times[0], &times[1], &times[2], &times[3],
				&verdicts[0], &verdicts[1], &verdicts[2], &verdicts[3])
			k, ok := satisfaction.ParseCaseKind(kind)
			if err != nil || !ok {
				return err
			}
			f := of(day)
			if k == satisfaction.Complaint {
				f.Complaints = int(opened)
			}
			f.Cases[k].Responded = int(responded)
			f.Cases[k].ServiceFigures = satisfaction.ServiceFigures{
				Opened: int(opened), Resolved: int(resolved),
				FirstResponseP50: domain.Millis(times[0]), FirstResponseP90: domain.Millis(times[1]),
				ResolutionP50: domain.Millis(times[2]), ResolutionP90: domain.Millis(times[3]),
				FirstResponseWithin: satisfaction.ShareOf(int(verdicts[0]), int(verdicts[0]+verdicts[1])),
				ResolutionWithin:    satisfaction.ShareOf(int(verdicts[2]), int(verdicts[2]+verdicts[3])),
			}
			return nil
		}),
	)
	if err != nil {
		return nil, err
	}
	all := make([]Figures, 0, len(parts))
	for _, f := range parts {
		all = append(all, *f)
	}
	if len(all) > MaxPeriods {
		return nil, badQuestion("that is more than %d parts: ask for a shorter time or longer parts", MaxPeriods)
	}
	slices.SortFunc(all, func(a, b Figures) int { return a.From.Compare(b.From) })
	return all, nil
}

// noPart is what a query gives as the first day of the part where there are none.
var noPart = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)

// part is the time of the part that begins on a day, within the time asked about.
func (p *Periods) part(day time.Time) (from, to time.Time) {
	if p.By == "" {
		return p.From, p.To
	}
	start := func(d time.Time) time.Time {
		return time.Date(d.Year(), d.Month(), d.Day(), 0, 0, 0, 0, p.Zone).UTC()
	}
	from, to = start(day), start(p.next(day, 1))
	if !p.From.IsZero() && p.From.After(from) {
		from = p.From
	}
	if !p.To.IsZero() && p.To.Before(to) {
		to = p.To
	}
	return from, to
}

// next is the first day of the part that comes n parts after the one of a day.
func (p *Periods) next(day time.Time, n int) time.Time {
	switch p.By {
	case "month":
		return day.AddDate(0, n, 0)
	case "week":
		return day.AddDate(0, 0, 7*n)
	}
	return day.AddDate(0, 0, n)
}

// first is SQL for the first day of the part in which a moment lies.
func (p *Periods) first(at string) string {
	day := "toDate32(toTimeZone(" + at + ", {tz:String}))"
	switch p.By {
	case "month":
		return "addDays(" + day + ", 1 - toDayOfMonth(" + day + "))"
	case "week":
		return "addDays(" + day + ", 1 - toDayOfWeek(" + day + "))"
	case "day":
		return day
	}
	return "toDate32('1970-01-01')"
}

// within is SQL for what lies in the time asked about.
func (p *Periods) within(at string) string {
	is := "true"
	if !p.From.IsZero() {
		is += " AND " + at + " >= fromUnixTimestamp64Milli({from:Int64})"
	}
	if !p.To.IsZero() {
		is += " AND " + at + " < fromUnixTimestamp64Milli({to:Int64})"
	}
	return is
}

func (p *Periods) args() []any {
	return []any{
		warehouse.Named("from", tableTime(p.From.UnixMilli())), warehouse.Named("to", tableTime(p.To.UnixMilli())),
		warehouse.Named("tz", p.Zone.String()),
	}
}

func (q *FiguresQuery) args() []any {
	return append(q.Periods.args(),
		warehouse.Named("stage", q.Stage), warehouse.Named("tier", q.Tier), warehouse.Named("programme", q.Programme),
		warehouse.Named("channel", q.Channel), warehouse.Named("source", q.Source),
		warehouse.Named("nobody", warehouse.Nobody.String()))
}

// fitting chooses the rows that fit of a query with customer_id, at, channel and
// source. Only what was in the time asked about at all needs to be in it.
func (q *FiguresQuery) fitting(rows string) string {
	from, where := " FROM ("+rows+") AS r", "\nWHERE "+q.within("r.at")
	if q.Stage != "" {
		from += `
ASOF JOIN (
    SELECT customer_id, at, argMax(to_stage, seq) AS stage FROM stage_transitions GROUP BY customer_id, at
) AS s ON s.customer_id = r.customer_id AND s.at <= r.at`
		where += " AND s.stage = {stage:String}"
	}
	if q.Programme != "" {
		from += `
ASOF JOIN (
    SELECT customer_id, at, argMax(to_tier, seq) AS tier FROM tier_transitions WHERE programme = {programme:String} GROUP BY customer_id, at
) AS t ON t.customer_id = r.customer_id AND t.at <= r.at`
		where += " AND t.tier != ''"
	}
	if q.Tier != "" {
		where += " AND t.tier = {tier:String}"
	}
	if q.Channel != "" {
		where += " AND r.channel = {channel:String}"
	}
	if q.Source != "" {
		where += " AND r.source = {source:String}"
	}
	return from + where
}

// answers are the part; how many NPS answers there are, and how many of them are
// good and bad; how many CSAT answers, and good ones; how many CES answers and good
// ones, and the sums of their ease and of its squares.
func (q *FiguresQuery) answers() string {
	fit := q.fitting(`
    SELECT customer_id, occurred_at AS at, event_id, channel, source, kind, toUInt8(1 + 2 * good + 4 * bad + 8 * ifNull(ease, 0)) AS said
    FROM feedback
    WHERE kind IN ('nps', 'csat', 'ces') AND flag = '' AND isNotNull(score) AND customer_id != toUUID({nobody:String}) AND ` + q.within("occurred_at") + `
`)
	of, group, kinds := "if(%s, r.said, 0)", "", []string{}
	if !q.Every {
		// Grouped by few keys of fixed length and no kind, which is three times faster.
		of, group = "argMaxIf(r.said, "+momentKey("r.at", "r.event_id")+", %s)", "\nGROUP BY r.customer_id"
		if q.By != "" {
			group += ", part"
		}
	}
	for _, kind := range []satisfaction.Kind{satisfaction.NPS, satisfaction.CSAT, satisfaction.CES} {
		kinds = append(kinds, fmt.Sprintf(of, "r.kind = '"+kind.String()+"'")+" AS "+kind.String())
	}
	first := q.first("r.at")
	return `SELECT part, countIf(nps > 0), countIf(bitTest(nps, 1)), countIf(bitTest(nps, 2)), countIf(csat > 0), countIf(bitTest(csat, 1)),
    countIf(ces > 0), countIf(bitTest(ces, 1)), sum(bitShiftRight(ces, 3) AS ease), sum(toUInt64(ease) * ease)
FROM (SELECT ` + first + " AS part, " + strings.Join(kinds, ", ") + fit + group + ") GROUP BY part"
}

// momentKey is SQL for a number that puts moments in order, those at one instant by the
// text of their ids as everywhere else: as one number it is compared ten times faster
// than as a pair.
func momentKey(at, id string) string {
	// An id is kept with its halves the other way round.
	halves := "reinterpretAsUInt128(" + id + ")"
	return "bitOr(bitShiftLeft(toUInt256(toUnixTimestamp64Milli(" + at + ") + 4611686018427387904), 128), toUInt256(bitOr(bitShiftLeft(" + halves + ", 64), bitShiftRight(" + halves + ", 64))))"
}

// of adds channel and source to rows of a query with customer_id, at and event_id,
// from the feedback of that id, where the question needs them.
func (q *FiguresQuery) of(rows string) string {
	if q.Channel == "" && q.Source == "" {
		return rows
	}
	return "SELECT e.*, f.channel AS channel, f.source AS source FROM (" + rows + ") AS e JOIN (\n" +
		"    SELECT event_id, channel, source FROM feedback WHERE " + q.within("occurred_at") + "\n) AS f ON f.event_id = e.event_id"
}

// sent are the part, the surveys sent and those of them that were answered.
func (q *FiguresQuery) sent() string {
	return "SELECT " + q.first("r.at") + " AS part, count(), countIf(r.answered)" + q.fitting(q.of(
		"SELECT customer_id, sent_at AS at, event_id, isNotNull(answered_at) AS answered FROM surveys WHERE "+q.within("sent_at"))) + "\nGROUP BY part"
}

// orders are the part and the orders placed. An order is a customer's once, by its
// first touchpoint.
func (q *FiguresQuery) orders() string {
	before := ""
	if !q.To.IsZero() {
		before = " AND occurred_at < fromUnixTimestamp64Milli({to:Int64})"
	}
	return "SELECT " + q.first("r.at") + " AS part, count()" + q.fitting(`
    SELECT customer_id, placed.1 AS at, placed.2 AS channel, placed.3 AS source FROM (
        SELECT customer_id, argMin((occurred_at, channel, source), `+momentKey("occurred_at", "event_id")+`) AS placed
        FROM touchpoints WHERE meaning = '`+string(policy.Purchase)+`' AND customer_id != toUUID({nobody:String})`+before+`
        GROUP BY customer_id, if(order_id = '', toString(event_id), order_id))
`) + "\nGROUP BY part"
}

// cases are the part, the kind, the cases opened, those of them answered and resolved; the
// quantiles 50 and 90 of the times to the first response and to the resolution
// (nearest ranks); and of each how many were in time and how many late.
func (q *FiguresQuery) cases() string {
	rank := func(list string, percent int) string {
		return fmt.Sprintf("%s[greatest(1, intDiv(%d * length(%s) + 99, 100))]", list, percent, list)
	}
	return "SELECT part, kind, opened, length(responses), resolved, " + strings.Join([]string{
		rank("responses", 50), rank("responses", 90), rank("resolutions", 50), rank("resolutions", 90),
	}, ", ") + ", verdicts.1, verdicts.2, verdicts.3, verdicts.4 FROM (\nSELECT " + q.first("r.at") + ` AS part, toString(r.kind) AS kind, count() AS opened, countIf(isNotNull(r.resolution_took)) AS resolved,
    arraySort(groupArray(r.response_took)) AS responses, arraySort(groupArray(r.resolution_took)) AS resolutions,
    (countIf(r.response_verdict = 'met'), countIf(r.response_verdict = 'breached'), countIf(r.resolution_verdict = 'met'), countIf(r.resolution_verdict = 'breached')) AS verdicts` +
		q.fitting(q.of(`SELECT customer_id, assumeNotNull(opened_at) AS at, assumeNotNull(event_id) AS event_id, kind, response_took, resolution_took, response_verdict, resolution_verdict
    FROM cases WHERE isNotNull(opened_at) AND `+q.within("opened_at"))) + "\nGROUP BY part, kind)"
}
