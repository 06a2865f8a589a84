package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"sojourn/api"
)

// Figure 12 is at actingRate events a second, of which every tenth is the first
// purchase of somebody new, with so many triggers and as many segments.
const (
	actingRate  = 1_000
	actingBatch = 10
	actors      = 20
	actingFor   = 15 * time.Second
	actedWithin = 30 * time.Second
)

// acting takes figure 12: how long it takes from the 200 of a purchase to the first
// byte of the webhook that its change of stage leads to.
func (b *bench) acting(ctx context.Context) (err error) {
	s, err := b.startServer(ctx, filepath.Join(b.dir, "acting"), "SOJOURN_AUTOMATION_ALLOW=127.0.0.0/8")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	r, err := newReceiver(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.server.Close()) }()
	key, err := b.automate(ctx, s, r.url)
	if err != nil {
		return fmt.Errorf("figure 12: %w", err)
	}
	line := Line{
		Figure: "12", Name: "from the 200 to the webhook of a new stage, p99", Unit: "ms", YardstickName: "ms target",
		Yardstick: 250, Floor: 1, Most: true,
	}
	length := actingFor
	if b.Quick {
		length = time.Second
	}
	var middle []float64
	for round := range b.Rounds {
		took, err := b.buyers(ctx, s, r, key, fmt.Sprint("round", round), int(length.Seconds()*actingRate/actingBatch))
		if err != nil {
			return fmt.Errorf("figure 12: %w: %s", err, s.log)
		}
		line.OursRounds = append(line.OursRounds, percentile(took, 0.99))
		middle = append(middle, percentile(took, 0.5))
		b.say("figure 12: round %d of %d: %.0f ms (p50), %.0f ms (p99)", round+1, b.Rounds, percentile(took, 0.5), percentile(took, 0.99))
	}
	b.report.add(line)
	b.report.note("Figure 12: the median webhook came after %.0f ms.", median(middle))
	return nil
}

// automate gives a server a destination, triggers and segments, and returns a write
// key.
func (b *bench) automate(ctx context.Context, s *server, url string) (key string, err error) {
	if _, err := s.client.SaveDestination(ctx, "bench", &api.DestinationBody{Kind: "webhook", URL: url, Concurrency: 32}); err != nil {
		return "", err
	}
	for i := range actors {
		// One of the triggers is about the change that comes; the others look at it.
		stage := "first_purchase"
		if i > 0 {
			stage = "loyal"
		}
		source := fmt.Sprintf("id: t%d\nname: T%d\non:\n  transition: {to: [%s]}\nwhere: event.properties.total >= %d\nlimits:\n  once: true\ndo:\n  webhook: {destination: bench}\n", i, i, stage, i)
		if _, err := s.client.ApplyTrigger(ctx, api.TriggerSource{Source: source}); err != nil {
			return "", err
		}
		doc := api.SegmentDocument{Condition: fmt.Sprintf("count(meaning(\"purchase\"), duration(\"%dd\")) >= 1", i+1)}
		if _, err := s.client.ApplySegment(ctx, fmt.Sprintf("s%d", i), doc, api.SegmentSaid{}); err != nil {
			return "", err
		}
	}
	for {
		all, err := s.client.Segments(ctx)
		if err != nil {
			return "", err
		}
		built := 0
		for _, one := range all {
			if one.Built {
				built++
			}
		}
		if built == actors {
			break
		}
		if err := pauseFor(ctx, 50*time.Millisecond); err != nil {
			return "", err
		}
	}
	made, err := s.client.CreateWriteKey(ctx, "bench")
	return made.WriteKey, err
}

func pauseFor(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// buyers sends so many calls, each with the first purchase of somebody new, and
// returns how long each took to be acted on, in milliseconds.
func (b *bench) buyers(ctx context.Context, s *server, r *receiver, key, round string, calls int) ([]float64, error) {
	var sending sync.WaitGroup
	var mu sync.Mutex
	var failed error
	acked := map[string]time.Time{}
	began := time.Now()
	for n := range calls {
		if err := pauseFor(ctx, time.Until(began.Add(time.Duration(n)*time.Second*actingBatch/actingRate))); err != nil {
			return nil, err
		}
		user := fmt.Sprintf("buyer-%s-%d.", round, n)
		var body bytes.Buffer
		fmt.Fprintf(&body, `{"batch":[{"type":"track","event":"Order Completed","userId":%q,"messageId":%q,"properties":{"order_id":%q,"total":20,"currency":"USD"}}`, user, user, user)
		for i := range actingBatch - 1 {
			fmt.Fprintf(&body, `,{"type":"track","event":"Product Viewed","userId":"visitor-%d","messageId":"%s%d","properties":{"product_id":"p%d","price":19.5}}`, (n*actingBatch+i)*7919%20_000, user, i, i)
		}
		body.WriteString(`]}`)
		sending.Go(func() {
			err := s.track(ctx, key, &body)
			mu.Lock()
			defer mu.Unlock()
			acked[user], failed = time.Now(), errors.Join(failed, err)
		})
	}
	sending.Wait()
	if failed != nil {
		return nil, failed
	}
	return r.waited(ctx, acked)
}

// track sends a batch of tracking messages.
func (s *server) track(ctx context.Context, key string, body io.Reader) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/batch", body)
	if err != nil {
		return err
	}
	req.SetBasicAuth(key, "")
	resp, err := s.http.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("a tracking call was answered %s", resp.Status)
	}
	return err
}

// receiver takes webhooks and remembers when the first about each buyer came.
type receiver struct {
	url    string
	server *http.Server
	mu     sync.Mutex
	came   map[string]time.Time
}

func newReceiver(ctx context.Context) (*receiver, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &receiver{url: "http://" + l.Addr().String(), came: map[string]time.Time{}}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}
	go func() { _ = r.server.Serve(l) }() // until Close
	return r, nil
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	now := time.Now()
	body, _ := io.ReadAll(req.Body) // one that is cut off names nobody
	if i := bytes.Index(body, []byte("buyer-")); i >= 0 {
		if n := bytes.IndexByte(body[i:], '.'); n >= 0 {
			r.mu.Lock()
			if user := string(body[i : i+n+1]); r.came[user].IsZero() {
				r.came[user] = now
			}
			r.mu.Unlock()
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// waited is how long after each time the webhook came, in milliseconds.
func (r *receiver) waited(ctx context.Context, since map[string]time.Time) (took []float64, err error) {
	for until := time.Now().Add(actedWithin); ; {
		took = took[:0]
		r.mu.Lock()
		for user, at := range since {
			if came := r.came[user]; !came.IsZero() {
				took = append(took, max(ms(came.Sub(at)), 0.001)) // it may come before the 200 is read
			}
		}
		r.mu.Unlock()
		if len(took) == len(since) {
			return took, nil
		}
		if time.Now().After(until) {
			return nil, fmt.Errorf("%d of %d webhooks came within %v", len(took), len(since), actedWithin)
		}
		if err := pauseFor(ctx, 20*time.Millisecond); err != nil {
			return nil, err
		}
	}
}
