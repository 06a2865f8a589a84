package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"
)

// questionsARound is how many times a customer is asked for in a round.
const questionsARound = 2_000

// questions takes figure 7: GET /customers/{id}, now and as of a day in the
// past, of customers at random, one question after the other.
func (b *bench) questions(ctx context.Context, _ *data, s *server) error {
	rng := rand.New(rand.NewPCG(7, 7))
	var now50, now99, past50, past99 []float64
	n := b.size(questionsARound, 200)
	ask := func(asOf bool) ([]float64, error) {
		var took []float64
		for len(took) < n {
			path := fmt.Sprintf("/api/v1/customers/user:c%d", 100_000+rng.IntN(customers))
			if asOf {
				day := b.shop.End.AddDate(0, 0, -1-rng.IntN(b.shop.Days))
				path += "?as_of=" + url.QueryEscape(day.Format(time.DateOnly))
			}
			begun := time.Now()
			status, body, err := s.get(ctx, path)
			if err != nil {
				return nil, err
			}
			switch status {
			case http.StatusOK:
				took = append(took, ms(time.Since(begun)))
			case http.StatusNotFound: // who never logs in, or had not come yet
			default:
				return nil, fmt.Errorf("GET %s answered %d: %s", path, status, body)
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
		}
		return took, nil
	}
	for round := range b.Rounds {
		now, err := ask(false)
		if err != nil {
			return fmt.Errorf("figure 7: %w", err)
		}
		past, err := ask(true)
		if err != nil {
			return fmt.Errorf("figure 7: %w", err)
		}
		now50, now99 = append(now50, percentile(now, 0.5)), append(now99, percentile(now, 0.99))
		past50, past99 = append(past50, percentile(past, 0.5)), append(past99, percentile(past, 0.99))
		b.say("figure 7: round %d of %d: now %.2f and %.2f ms, as of a day %.2f and %.2f ms (p50, p99)",
			round+1, b.Rounds, now50[round], now99[round], past50[round], past99[round])
	}
	for _, l := range []Line{
		{Name: "GET /customers/{id}, p50", OursRounds: now50},
		{Name: "GET /customers/{id}, p99", OursRounds: now99},
		{Name: "GET /customers/{id}?as_of=…, p50", OursRounds: past50},
		{Name: "GET /customers/{id}?as_of=…, p99", OursRounds: past99},
	} {
		l.Figure, l.Unit = "7", "ms"
		b.report.add(l)
	}
	return nil
}
