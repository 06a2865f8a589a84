package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sojourn/api/client"
	"sojourn/eventstore"
)

// flushInterval is that of a server by default.
const flushInterval = 500 * time.Millisecond

const (
	liveConnections = 32
	liveFor         = 10 * time.Second
	liveForQuick    = time.Second
	fsyncs          = 1_000
	// How often it is looked how long a message takes to be seen.
	apiEvery, rowEvery = 50 * time.Millisecond, 250 * time.Millisecond
	// rowPoll is the time between two questions for a row, and so how exact its
	// time is.
	rowPoll = 20 * time.Millisecond
	// seenWithin bounds the wait for one message.
	seenWithin = time.Minute
)

// live takes figures 5 and 6: a server under half the load of figure 2.
func (b *bench) live(ctx context.Context, d *data, s *server) error {
	rate := b.rate / 2
	if b.Quick {
		rate = min(rate, 5_000)
	}
	api := Line{
		Figure: "5", Name: "from the 200 to GET /customers/{id}, p99", Unit: "ms", YardstickName: "ms flush interval",
		Yardstick: ms(flushInterval), Floor: 2, Most: true,
	}
	row := api
	row.Name = "from the 200 to the ClickHouse row, p99"
	answer := Line{Figure: "6", Name: "the 200 at half load, p99", Unit: "ms", YardstickName: "ms bare fsync p99", Floor: 5, Most: true}
	middle := Line{Figure: "6", Name: "the 200 at half load, p50", Unit: "ms", YardstickName: "ms bare fsync p50"}
	var lags []float64
	for round := range b.Rounds {
		sync, err := b.bareFsync(d)
		if err != nil {
			return err
		}
		l, err := b.load(ctx, d, s, rate)
		if err != nil {
			return fmt.Errorf("figures 5 and 6: %w", err)
		}
		lags = append(lags, l.lag)
		api.OursRounds = append(api.OursRounds, percentile(l.api, 0.99))
		row.OursRounds = append(row.OursRounds, percentile(l.row, 0.99))
		answer.OursRounds = append(answer.OursRounds, percentile(l.answers, 0.99))
		middle.OursRounds = append(middle.OursRounds, percentile(l.answers, 0.50))
		answer.YardstickRounds = append(answer.YardstickRounds, percentile(sync, 0.99))
		middle.YardstickRounds = append(middle.YardstickRounds, percentile(sync, 0.50))
		b.say("figures 5 and 6: round %d of %d at %s events/s: %s; fsync %.1f ms (p99)",
			round+1, b.Rounds, number(rate), l, percentile(sync, 0.99))
	}
	if b.wants(5) {
		b.report.add(api)
		b.report.add(row)
	}
	if b.wants(6) {
		b.report.add(answer)
		b.report.add(middle)
	}
	b.report.note("Figures 5 and 6 at %s events/s; at the end of a round the views were %s events behind (median).",
		number(rate), number(median(lags)))
	if behind := median(lags); behind > rate {
		// Figure 5 is then the length of a queue. What it is without one is worth
		// knowing, too.
		kept := rate - behind/liveFor.Seconds()
		l, err := b.load(ctx, d, s, kept/2)
		if err != nil {
			return fmt.Errorf("figures 5 and 6: %w", err)
		}
		b.report.note("The views kept up with %s events/s of them. At half of that: %s.", number(kept), l)
	}
	return nil
}

// loaded is what was seen of a server under load, in milliseconds.
type loaded struct {
	answers, api, row []float64
	lag               float64 // events that the views were behind at its end
}

func (l *loaded) String() string {
	return fmt.Sprintf("seen by the API after %.0f ms, by SQL after %.0f ms, 200 after %.1f ms (p99), the views %s events behind at the end",
		percentile(l.api, 0.99), percentile(l.row, 0.99), percentile(l.answers, 0.99), number(l.lag))
}

// load puts a server under a load for a while, and waits until it has worked it
// off.
func (b *bench) load(ctx context.Context, d *data, s *server, rate float64) (*loaded, error) {
	length := liveFor
	if b.Quick {
		length = liveForQuick
	}
	calls := d.calls(int(rate*length.Seconds()) / batchSize * batchSize)
	seen := newSightings(s)
	l := &loaded{}
	var err error
	l.answers, err = pace(ctx, s.addr, liveConnections, calls, rate, func(a answered) { seen.answered(ctx, a) })
	if err == nil {
		var ready client.Ready
		ready, err = s.client.Ready(ctx)
		l.lag = float64(ready.LagEvents)
	}
	if err = errors.Join(err, seen.wait()); err != nil {
		return nil, err
	}
	l.api, l.row = seen.api, seen.row
	return l, s.caughtUp(ctx, nil)
}

// bareFsync appends as many bytes as a call has to a file and syncs it, again
// and again, beside the log.
func (b *bench) bareFsync(d *data) (took []float64, err error) {
	path := filepath.Join(d.dir, "fsync")
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(path)) }()
	block := make([]byte, batchSize*400)
	for range b.size(fsyncs, 50) {
		if _, err := f.Write(block); err != nil {
			return nil, err
		}
		begun := time.Now()
		if err := f.Sync(); err != nil {
			return nil, err
		}
		took = append(took, ms(time.Since(begun)))
	}
	return took, nil
}

// sightings measure how long it takes from the answer to a message until it is
// seen, of a message now and then.
type sightings struct {
	server *server
	wg     sync.WaitGroup

	mu               sync.Mutex
	nextAPI, nextRow time.Time
	api, row         []float64 // milliseconds
	err              error
}

func newSightings(s *server) *sightings { return &sightings{server: s} }

// answered begins to look for a call's last message, where it is time again.
func (s *sightings) answered(ctx context.Context, a answered) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.at.After(s.nextAPI) {
		s.nextAPI = a.at.Add(apiEvery)
		s.look(&s.api, a, func() error { return s.inAPI(ctx, a) })
	}
	if a.at.After(s.nextRow) {
		s.nextRow = a.at.Add(rowEvery)
		s.look(&s.row, a, func() error { return s.inTable(ctx, a) })
	}
}

func (s *sightings) look(into *[]float64, a answered, until func() error) {
	s.wg.Go(func() {
		err := until()
		if errors.Is(err, context.DeadlineExceeded) {
			err = nil // it counts as seen at the bound, which is bad enough
		}
		took := ms(time.Since(a.at))
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.err == nil {
			s.err = err
		}
		*into = append(*into, took)
	})
}

// inAPI returns when the customer's answer has the message.
func (s *sightings) inAPI(ctx context.Context, a answered) error {
	ctx, cancel := context.WithTimeout(ctx, seenWithin)
	defer cancel()
	path := "/api/v1/customers/" + url.PathEscape(a.subject) + "?after=" + position(eventstore.Position(a.position))
	for {
		status, body, err := s.server.get(ctx, path)
		if err != nil {
			return fmt.Errorf("wait for a message to be seen: %w", err)
		}
		switch status {
		case http.StatusOK:
			return nil
		case http.StatusServiceUnavailable: // not within 10 s
		default:
			return fmt.Errorf("GET %s answered %d: %s", path, status, body)
		}
	}
}

// inTable returns when the message's row stands in ClickHouse.
func (s *sightings) inTable(ctx context.Context, a answered) error {
	ctx, cancel := context.WithTimeout(ctx, seenWithin)
	defer cancel()
	params := url.Values{"param_subject": {a.subject}, "param_event": {a.event.String()}}
	for {
		n, err := s.server.query(ctx, "SELECT count() FROM touchpoints WHERE subject = {subject:String} AND event_id = {event:UUID}", params)
		if err != nil {
			return fmt.Errorf("wait for a message's row: %w", err)
		}
		if n == "1" {
			return nil
		}
		if n != "0" {
			return fmt.Errorf("a message has %s rows", n)
		}
		select {
		case <-time.After(rowPoll):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// wait returns when everything looked for is found.
func (s *sightings) wait() error {
	s.wg.Wait()
	return s.err
}
