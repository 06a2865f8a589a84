package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
)

// batchSize is how many messages a call has.
const batchSize = 100

// call is a request to POST /v1/batch, ready to be written to a connection.
type call struct {
	text []byte
	body []byte // part of text
	// times are the messages' timestamps, 24 bytes each, part of text.
	times [][]byte
	// subject and event are of the last message.
	subject string
	event   uuid.UUID
}

var (
	timestampField = []byte(`"timestamp":"`)
	messageIDField = []byte(`"messageId":"`)
	userField      = []byte(`"userId":"`)
	anonymousField = []byte(`"anonymousId":"`)
)

// calls makes requests of n messages altogether, batchSize each.
func (d *data) calls(n int) []call {
	out := make([]call, 0, n/batchSize)
	for range n / batchSize {
		out = append(out, newCall(d.key, d.messages.take(batchSize)))
	}
	return out
}

func newCall(key string, texts [][]byte) call {
	size := len(`{"batch":[]}`) + len(texts) - 1
	for _, t := range texts {
		size += len(t)
	}
	c := call{text: make([]byte, 0, size+256)}
	c.text = fmt.Appendf(c.text, "POST /v1/batch HTTP/1.1\r\nHost: sojourn\r\nContent-Type: application/json\r\n"+
		"Authorization: Basic %s\r\nContent-Length: %d\r\n\r\n", basic(key), size)
	from := len(c.text)
	c.text = append(c.text, `{"batch":[`...)
	for i, t := range texts {
		if i > 0 {
			c.text = append(c.text, ',')
		}
		at := len(c.text) + bytes.Index(t, timestampField) + len(timestampField)
		c.text = append(c.text, t...)
		c.times = append(c.times, c.text[at:at+len(timeLayout)])
	}
	c.text = append(c.text, `]}`...)
	c.body = c.text[from:]
	last := texts[len(texts)-1]
	c.event = domain.EventID(source, field(last, messageIDField))
	if user := field(last, userField); user != "" {
		c.subject = "user:" + user
	} else {
		c.subject = "anon:" + field(last, anonymousField)
	}
	return c
}

// field is a string of a message that holds no escapes, "" where it is missing.
func field(message, name []byte) string {
	i := bytes.Index(message, name)
	if i < 0 {
		return ""
	}
	v := message[i+len(name):]
	return string(v[:bytes.IndexByte(v, '"')])
}

const timeLayout = "2006-01-02T15:04:05.000Z"

// stamp gives all messages the time of now, as a shop's are that happen now.
func (c *call) stamp(now time.Time) {
	text := now.UTC().AppendFormat(make([]byte, 0, len(timeLayout)), timeLayout)
	for _, t := range c.times {
		copy(t, text)
	}
}

// conn is a connection that calls are written to, one after the other.
type conn struct {
	net.Conn
	in *bufio.Reader
}

func dial(ctx context.Context, addr string) (*conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		err = c.SetDeadline(deadline)
	}
	return &conn{c, bufio.NewReaderSize(c, 4<<10)}, err
}

var (
	lengthHeader   = []byte("Content-Length: ")
	positionHeader = []byte("Sojourn-Position: ")
)

// do sends a request and reads its answer, which must be 200. It is as little
// work as can be: what the client does, the machine cannot do for the server.
func (c *conn) do(text []byte) (position uint64, err error) {
	if _, err := c.Write(text); err != nil {
		return 0, err
	}
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
		return 0, fmt.Errorf("the server answered %s", bytes.TrimSpace(line))
	}
	length := 0
	for {
		if line, err = c.in.ReadSlice('\n'); err != nil {
			return 0, err
		}
		if line = bytes.TrimRight(line, "\r\n"); len(line) == 0 {
			break
		}
		if v, ok := bytes.CutPrefix(line, lengthHeader); ok {
			length, err = strconv.Atoi(string(v))
		} else if v, ok := bytes.CutPrefix(line, positionHeader); ok {
			position, err = strconv.ParseUint(string(v), 10, 64)
		}
		if err != nil {
			return 0, err
		}
	}
	_, err = c.in.Discard(length)
	return position, err
}

// flood sends calls over connections, each as soon as the one before is
// answered.
func flood(ctx context.Context, addr string, connections int, calls []call) error {
	var next atomic.Int64
	return onConnections(ctx, addr, connections, func(ctx context.Context, _ int, c *conn) error {
		for ctx.Err() == nil {
			i := int(next.Add(1)) - 1
			if i >= len(calls) {
				return nil
			}
			if _, err := c.do(calls[i].text); err != nil {
				return err
			}
		}
		return ctx.Err()
	})
}

// onConnections runs work on many connections side by side; the first error ends
// all of it.
func onConnections(ctx context.Context, addr string, n int, work func(ctx context.Context, i int, c *conn) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for i := range n {
		c, err := dial(ctx, addr)
		if err != nil {
			cancel(err)
			break
		}
		defer context.AfterFunc(ctx, func() { _ = c.Close() })()
		wg.Go(func() {
			defer func() { _ = c.Close() }()
			if err := work(ctx, i, c); err != nil {
				if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
					err = fmt.Errorf("the server closed the connection: %w", err)
				}
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// answered is a call and when it was answered.
type answered struct {
	at       time.Time
	took     float64 // milliseconds
	position uint64
	*call
}

// pace sends calls at a rate of messages a second, whatever the server does, and
// returns how long each took to be answered, in milliseconds. Time that a call
// waits because the connection it was due on is still busy counts. seen, where
// not nil, is told of each answer.
func pace(ctx context.Context, addr string, connections int, calls []call, rate float64, seen func(answered)) ([]float64, error) {
	var mu sync.Mutex
	var took []float64
	if len(calls) == 0 {
		return nil, nil
	}
	period := time.Duration(float64(len(calls[0].times)) / rate * float64(time.Second))
	start := time.Now().Add(10 * time.Millisecond)
	err := onConnections(ctx, addr, connections, func(ctx context.Context, first int, c *conn) error {
		var mine []float64
		for i := first; i < len(calls); i += connections {
			due := start.Add(time.Duration(i) * period)
			begun := due
			if wait := time.Until(due); wait > 0 {
				select {
				case <-time.After(wait):
				case <-ctx.Done():
					return ctx.Err()
				}
				// That a timer is late is no fault of the server.
				begun = time.Now()
			}
			calls[i].stamp(begun)
			position, err := c.do(calls[i].text)
			if err != nil {
				return err
			}
			now := time.Now()
			waited := ms(now.Sub(begun))
			mine = append(mine, waited)
			if seen != nil {
				seen(answered{now, waited, position, &calls[i]})
			}
		}
		mu.Lock()
		took = append(took, mine...)
		mu.Unlock()
		return nil
	})
	return took, err
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }
