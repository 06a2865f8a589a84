package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"sojourn/api"
)

const (
	// previewRate is the load in events a second, in calls of previewBatch.
	previewRate  = 1_000
	previewBatch = 10
	// previewAlone is how long the same load is put on the server without a preview,
	// previewMost how long it goes on at most beside one.
	previewAlone = 15 * time.Second
	previewMost  = 2 * time.Minute
	// previewLook is the time between two looks at how far a preview is.
	previewLook = 50 * time.Millisecond
)

// previewed is the candidate of figure 13. It differs from the policy in force in
// each of its parts, so everything is folded anew.
const previewed = `lifecycle: {loyal_purchases: 4, at_risk_days: 45}
identity: {join: [user, anon]}
loyalty:
  programmes:
    - id: default
      retroactive: true
      earning: {per_unit: 2}
satisfaction: {half_life_days: 60}
`

// preview takes figure 13: how long a server takes for a preview of a million events
// of a hundred thousand customers while a thousand events a second come in, and how
// long these wait for their 200.
func (b *bench) preview(ctx context.Context) (err error) {
	d := &data{dir: filepath.Join(b.dir, "preview"), messages: newMessages(b.shop)}
	defer d.messages.stop()
	if err := d.open(ctx); err != nil {
		return err
	}
	err = b.fill(ctx, d, b.Events)
	if err = errors.Join(err, d.close()); err != nil {
		return err
	}
	s, err := b.startServer(ctx, d.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.caughtUp(ctx, func(lag uint64) { b.say("the server builds its views: %d events to go", lag) }); err != nil {
		return err
	}
	took := Line{Figure: "13", Name: "preview under load", Unit: "s", YardstickName: "s target", Yardstick: 10, Floor: 1, Most: true}
	answers := Line{Figure: "13", Name: "the 200 beside it, p99", Unit: "ms", YardstickName: "ms without it", Floor: 1.5, Most: true}
	middle := Line{Figure: "13", Name: "the 200 beside it, p50", Unit: "ms", YardstickName: "ms without it"}
	alone := previewAlone
	if b.Quick {
		alone = time.Second
	}
	for round := range b.Rounds {
		without, err := b.beside(ctx, d, s, func(ctx context.Context) error { return pauseFor(ctx, alone) })
		if err != nil {
			return fmt.Errorf("figure 13: %w", err)
		}
		begun := time.Now()
		with, err := b.beside(ctx, d, s, s.preview)
		if err != nil {
			return fmt.Errorf("figure 13: %w: %s", err, s.log)
		}
		seconds := time.Since(begun).Seconds()
		took.OursRounds = append(took.OursRounds, seconds)
		answers.OursRounds = append(answers.OursRounds, percentile(with, 0.99))
		answers.YardstickRounds = append(answers.YardstickRounds, percentile(without, 0.99))
		middle.OursRounds = append(middle.OursRounds, percentile(with, 0.5))
		middle.YardstickRounds = append(middle.YardstickRounds, percentile(without, 0.5))
		b.say("figure 13: round %d of %d: %.1f s; the 200 after %.1f ms (p50), %.1f ms (p99), without it %.1f and %.1f ms", round+1, b.Rounds,
			seconds, percentile(with, 0.5), percentile(with, 0.99), percentile(without, 0.5), percentile(without, 0.99))
		if err := s.caughtUp(ctx, nil); err != nil {
			return err
		}
	}
	b.report.add(took)
	b.report.add(answers)
	b.report.add(middle)
	return nil
}

// preview has a candidate previewed, and returns at its end.
func (s *server) preview(ctx context.Context) error {
	p, err := s.client.StartPreview(ctx, previewed, "")
	for err == nil && p.State == "running" {
		if err = pauseFor(ctx, previewLook); err == nil {
			p, err = s.client.Preview(ctx, p.ID, 0)
		}
	}
	if err != nil {
		return err
	}
	if p.State != "done" {
		return fmt.Errorf("the preview is %s: %s", p.State, p.Error)
	}
	return whole(p.Report)
}

// whole refuses the report of a preview that has found nothing.
func whole(r *api.PreviewReport) error {
	if r == nil || r.Position == 0 || len(r.Lifecycle.Matrix) == 0 {
		return errors.New("the preview has no report")
	}
	return nil
}

// beside puts the load of figure 13 on a server for as long as something takes, and
// returns how long each call that was answered meanwhile waited, in milliseconds.
func (b *bench) beside(ctx context.Context, d *data, s *server, something func(context.Context) error) (waited []float64, err error) {
	most := previewMost
	if b.Quick {
		most /= 2
	}
	calls := make([]call, 0, int(most.Seconds()*previewRate/previewBatch))
	for range cap(calls) {
		calls = append(calls, newCall(d.key, d.messages.take(previewBatch)))
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	loading, enough := context.WithCancel(ctx)
	var mu sync.Mutex
	var failed error
	var load sync.WaitGroup
	load.Go(func() {
		_, failed = pace(loading, s.addr, liveConnections, calls, previewRate, func(a answered) {
			mu.Lock()
			defer mu.Unlock()
			waited = append(waited, a.took)
		})
	})
	err = something(ctx)
	over := loading.Err() != nil || ctx.Err() != nil
	enough()
	load.Wait()
	if over || failed != nil && !errors.Is(failed, context.Canceled) {
		return nil, errors.Join(err, failed)
	}
	return waited, err
}
