package projections

import (
	"fmt"
	"testing"
	"time"

	"sojourn/domain"
	"sojourn/warehouse"
)

// BenchmarkFigures asks for the figures of a million answers of 100,000 customers
// over a year: of the last answers, by month, and of those who were in a stage.
func BenchmarkFigures(b *testing.B) {
	s := newSite(b)
	ctx := b.Context()
	end := domain.MillisOf(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC))
	s.clock.set(end)
	s.until("the clock", func() bool { return s.views.Status().Clock == end })
	s.views.mu.RLock()
	g := s.views.active.number.String()
	s.views.mu.RUnlock()
	const answers = 1_000_000
	for _, stmt := range []string{
		`INSERT INTO feedback_` + g + ` (event_id, subject_id, subject_no, subject, occurred_at, position, act, kind, channel, source, score, scale_high, flag, points, good, bad, ease, comment, topics, priority)
SELECT generateUUIDv4(number), reinterpretAsUUID(toUInt128(number % 100000 + 1)), number % 100000 + 1, concat('user:', toString(number % 100000)), toDateTime64('2026-01-01 00:00:00', 3, 'UTC') + INTERVAL (cityHash64(number) % 31536000) SECOND,
    number, 'survey_answered', ['nps', 'csat', 'ces'][number % 3 + 1], 'email', 'shop', toDecimal64(number % 10, 4), 10, '', 50, number % 2, number % 5 = 0, if(number % 3 = 2, number % 7 + 1, NULL), 'The parcel arrived late', ['delivery'], 'low'
FROM numbers(` + fmt.Sprint(answers) + `)`,
		`INSERT INTO stage_transitions_` + g + ` (customer_id, seq, from_stage, to_stage, at, reason, cause, policy_version, position, clock, removed)
SELECT reinterpretAsUUID(toUInt128(intDiv(number, 4) + 1)), number % 4 + 1, '', ['lead', 'repeat', 'loyal', 'at_risk'][number % 4 + 1], toDateTime64('2026-01-01 00:00:00', 3, 'UTC') + INTERVAL (number % 4 * 7000000) SECOND, '', '', 1, 1, toDateTime64('2026-01-01 00:00:00', 3, 'UTC'), 0
FROM numbers(400000)`,
	} {
		if err := s.db.Exec(ctx, stmt); err != nil {
			b.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		q    FiguresQuery
	}{
		{"total", FiguresQuery{}},
		{"every", FiguresQuery{Every: true}},
		{"by month", FiguresQuery{Periods: Periods{By: "month", Zone: time.UTC}}},
		{"stage", FiguresQuery{Stage: "loyal"}},
		{"a month", FiguresQuery{Periods: Periods{From: time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC), To: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				total, _, _, err := s.views.SatisfactionFigures(ctx, c.q)
				if err != nil || total.NPS.N == 0 {
					b.Fatal(total, err)
				}
			}
		})
	}
	b.Run("inbox", func(b *testing.B) {
		for b.Loop() {
			page, _, err := s.views.Feedback(ctx, FeedbackQuery{Status: "open"}, 50, "")
			if err != nil || len(page) != 50 || page[0].Customer == warehouse.Nobody {
				b.Fatal(len(page), err)
			}
		}
	})
	b.Run("topics", func(b *testing.B) {
		for b.Loop() {
			if all, err := s.views.FeedbackTopics(ctx, Periods{By: "week"}); err != nil || len(all) != 53 {
				b.Fatal(len(all), err)
			}
		}
	})
}
