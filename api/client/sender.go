package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"

	"sojourn/eventstore"
	"sojourn/ingest/segmentapi"
)

// The size of a batch: as many messages as fit, and not so many that a request
// is felt by others.
const (
	batchMessages = 500
	batchBytes    = segmentapi.MaxBody - 64
	inFlight      = 4
)

// ErrTooLarge refuses a message that fits in no batch. The sender goes on.
var ErrTooLarge = fmt.Errorf("a message has %d bytes at most", batchBytes)

// Sent counts what became of the messages of a Sender.
type Sent struct {
	Messages, Rejected, Known uint64
	// Position is the highest that the server has named; a read after it sees
	// everything.
	Position eventstore.Position
}

// Accepted are the messages that are new touchpoints.
func (s Sent) Accepted() uint64 { return s.Messages - s.Rejected - s.Known }

// Sender sends messages in batches to POST /v1/batch, compressed, several
// requests at a time. What was not answered with success is sent again: message
// ids make that harmless. Add and Close are for one goroutine.
type Sender struct {
	c        *Client
	key      string
	patience time.Duration
	ctx      context.Context
	cancel   context.CancelCauseFunc
	progress func(Sent)

	batch bytes.Buffer
	count int
	slots chan struct{}
	wait  sync.WaitGroup

	mu   sync.Mutex
	sent Sent
}

// NewSender makes a sender. progress, which may be nil, is told the sum after
// each request. The context ends the sending.
func (c *Client) NewSender(ctx context.Context, writeKey string, progress func(Sent)) *Sender {
	s := &Sender{c: c, key: writeKey, patience: 2 * time.Minute, progress: progress, slots: make(chan struct{}, inFlight)}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	return s
}

// Add takes a message, a JSON object without sentAt. It is copied. An error is
// that of an earlier request, and final, but for ErrTooLarge.
func (s *Sender) Add(message []byte) error {
	if len(message)+len(`{"batch":[`) > batchBytes {
		return ErrTooLarge
	}
	if s.count == batchMessages || s.count > 0 && s.batch.Len()+len(message)+1 > batchBytes {
		if err := s.flush(); err != nil {
			return err
		}
	}
	if s.count == 0 {
		s.batch.WriteString(`{"batch":[`)
	} else {
		s.batch.WriteByte(',')
	}
	s.batch.Write(message)
	s.count++
	return nil
}

// Close sends what is left and waits for all answers.
func (s *Sender) Close() (Sent, error) {
	var err error
	if s.count > 0 && s.ctx.Err() == nil {
		err = s.flush()
	}
	s.wait.Wait()
	if err == nil && s.ctx.Err() != nil {
		err = context.Cause(s.ctx)
	}
	s.cancel(nil)
	return s.sent, err
}

func (s *Sender) flush() error {
	select {
	case s.slots <- struct{}{}:
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
	s.batch.WriteString(`]}`)
	var body bytes.Buffer
	z := gzips.Get().(*gzip.Writer)
	z.Reset(&body)
	// A buffer takes everything.
	_, _ = z.Write(s.batch.Bytes())
	_ = z.Close()
	gzips.Put(z)
	n := s.count
	s.batch.Reset()
	s.count = 0
	s.wait.Go(func() {
		defer func() { <-s.slots }()
		got, err := s.deliver(body.Bytes())
		if err != nil {
			s.cancel(err)
			return
		}
		s.mu.Lock()
		s.sent.Messages += uint64(n)
		s.sent.Rejected += got.Rejected
		s.sent.Known += got.Known
		s.sent.Position = max(s.sent.Position, got.Position)
		if s.progress != nil {
			s.progress(s.sent)
		}
		s.mu.Unlock()
	})
	return nil
}

var gzips = sync.Pool{New: func() any {
	// The level is valid.
	z, _ := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
	return z
}}

// deliver posts a batch until it is taken, or there is no point in going on.
func (s *Sender) deliver(body []byte) (Sent, error) {
	start := time.Now()
	for pause := 200 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		got, err := s.post(body)
		if err == nil {
			return got, nil
		}
		wait := pause/2 + rand.N(pause)
		var se *StatusError
		switch {
		case s.ctx.Err() != nil:
			return got, context.Cause(s.ctx)
		case errors.As(err, &se):
			if se.Status != http.StatusTooManyRequests && se.Status < 500 {
				if se.Status == http.StatusUnauthorized {
					return got, errors.New("the server does not know this write key; make one with: sojourn keys create SOURCE")
				}
				return got, fmt.Errorf("the server refused a batch: %w", err)
			}
			wait = max(wait, se.RetryAfter)
		}
		if time.Since(start) > s.patience {
			return got, fmt.Errorf("gave up after %v of trying: %w", s.patience, err)
		}
		select {
		case <-time.After(wait):
		case <-s.ctx.Done():
			return got, context.Cause(s.ctx)
		}
	}
}

func (s *Sender) post(body []byte) (Sent, error) {
	ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
	defer cancel()
	var sent Sent
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.c.server+"/v1/batch", bytes.NewReader(body))
	if err != nil {
		return sent, err
	}
	req.SetBasicAuth(s.key, "")
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Content-Encoding", "gzip")
	res, err := s.c.http.Do(req)
	if err != nil {
		return sent, s.c.explain(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return sent, statusError(res)
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return sent, fmt.Errorf("read the answer of %s: %w", s.c.server, err)
	}
	for header, n := range map[string]*uint64{
		segmentapi.PositionHeader:   (*uint64)(&sent.Position),
		segmentapi.RejectedHeader:   &sent.Rejected,
		segmentapi.DuplicatesHeader: &sent.Known,
	} {
		if v := res.Header.Get(header); v != "" {
			if *n, err = strconv.ParseUint(v, 10, 64); err != nil {
				return sent, fmt.Errorf("the answer's %s is %q", header, v)
			}
		}
	}
	return sent, nil
}
