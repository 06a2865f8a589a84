// Package client speaks to a Sojourn server: its API, and the tracking API for
// those who send many messages.
package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sojourn/api"
	"sojourn/eventstore"
)

// Client asks the API of one server. Its methods may be called concurrently.
type Client struct {
	server string
	token  string
	http   *http.Client
}

// New makes a client for a server such as http://127.0.0.1:8080.
func New(server, token string) (*Client, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is no address of a server: write it as http://127.0.0.1:8080", server)
	}
	return &Client{server: strings.TrimSuffix(server, "/"), token: token, http: &http.Client{
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			MaxIdleConnsPerHost: 64,
			IdleConnTimeout:     90 * time.Second,
		},
	}}, nil
}

// Server is the server's address, without a slash at the end.
func (c *Client) Server() string { return c.server }

// StatusError is an answer other than success.
type StatusError struct {
	Status     int
	Detail     string
	RetryAfter time.Duration // 0 where the server names none
	// Problems are what is wrong with the request, part by part; Detail has them, too.
	Problems []Problem
}

// Problem is one thing that is wrong with a request.
type Problem struct {
	Message string
	// Location is the part, such as body.name; where that is the text of a file, with
	// the line and the column in it, both from 1: body.source:3:25.
	Location string
}

func (e *StatusError) Error() string {
	if e.Detail == "" {
		return fmt.Sprintf("the server answered %d %s", e.Status, http.StatusText(e.Status))
	}
	return e.Detail
}

// ErrNoServer says that nothing listens at the server's address.
var ErrNoServer = errors.New("no server answers")

// do sends a request. The caller closes the body of an answer.
func (c *Client) do(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.server+path, r)
	if err != nil {
		return nil, err
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(err)
	}
	if res.StatusCode >= 300 {
		defer func() { _ = res.Body.Close() }()
		return nil, statusError(res)
	}
	return res, nil
}

// explain says in one line what a failed connection means.
func (c *Client) explain(err error) error {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%w at %s; start one with: sojourn serve", ErrNoServer, c.server)
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	return fmt.Errorf("ask %s: %w", c.server, err)
}

func statusError(res *http.Response) error {
	e := &StatusError{Status: res.StatusCode}
	var p struct {
		Detail, Message string
		Errors          []Problem
	}
	if b, err := io.ReadAll(io.LimitReader(res.Body, 1<<16)); err == nil && json.Unmarshal(b, &p) == nil {
		if e.Detail = p.Detail; e.Detail == "" {
			e.Detail = p.Message
		}
		e.Problems = p.Errors
		for _, x := range p.Errors {
			e.Detail += "; " + x.Location + ": " + x.Message
		}
	}
	if s, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && s >= 0 {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	return e
}

// call sends a request and reads the JSON of the answer into out.
func (c *Client) call(ctx context.Context, method, path string, body, out any) error {
	res, err := c.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(res.Body).Decode(out); err != nil {
		return fmt.Errorf("read the answer of %s: %w", c.server, err)
	}
	return nil
}

// WriteKey is a write key as the API lists it.
type WriteKey struct {
	ID        string     `json:"id"`
	Source    string     `json:"source"`
	WriteKey  string     `json:"write_key"` // only where it was made now
	CreatedAt time.Time  `json:"created_at"`
	RevokedAt *time.Time `json:"revoked_at"`
}

// CreateWriteKey makes a write key for a source.
func (c *Client) CreateWriteKey(ctx context.Context, source string) (WriteKey, error) {
	var k WriteKey
	err := c.call(ctx, http.MethodPost, "/api/v1/write-keys", map[string]string{"source": source}, &k)
	return k, err
}

// WriteKeys lists the write keys.
func (c *Client) WriteKeys(ctx context.Context) ([]WriteKey, error) {
	var l struct {
		WriteKeys []WriteKey `json:"write_keys"`
	}
	err := c.call(ctx, http.MethodGet, "/api/v1/write-keys", nil, &l)
	return l.WriteKeys, err
}

// RevokeWriteKey puts a write key, or all of a source, out of force.
func (c *Client) RevokeWriteKey(ctx context.Context, ref string) error {
	return c.call(ctx, http.MethodDelete, "/api/v1/write-keys/"+url.PathEscape(ref), nil, nil)
}

// Ready is what /readyz answers.
type Ready struct {
	Ready     bool                `json:"ready"`
	LagEvents uint64              `json:"lag_events"`
	Position  eventstore.Position `json:"position"`
	Error     string              `json:"error"`
}

// Ready asks whether the views answer, and how far they are.
func (c *Client) Ready(ctx context.Context) (Ready, error) {
	var r Ready
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server+"/readyz", nil)
	if err != nil {
		return r, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return r, c.explain(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusServiceUnavailable {
		return r, statusError(res)
	}
	if err := json.NewDecoder(res.Body).Decode(&r); err != nil {
		return r, fmt.Errorf("read the answer of %s: %w", c.server, err)
	}
	return r, nil
}

// WaitFor returns when the views hold a position. lag is told now and then how
// many positions they have yet to read.
func (c *Client) WaitFor(ctx context.Context, pos eventstore.Position, lag func(uint64)) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err := c.Ready(ctx)
		if err != nil {
			return err
		}
		if r.Position >= pos && r.Ready {
			return nil
		}
		if lag != nil && pos > r.Position {
			lag(uint64(pos - r.Position))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// stream yields the lines of an NDJSON answer.
func stream[T any](ctx context.Context, c *Client, method, path string, body ...any) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var line T
		var b any
		if len(body) > 0 {
			b = body[0]
		}
		res, err := c.do(ctx, method, path, b)
		if err != nil {
			yield(line, err)
			return
		}
		defer func() { _ = res.Body.Close() }()
		d := json.NewDecoder(bufio.NewReaderSize(res.Body, 1<<16))
		for {
			var line T
			err := d.Decode(&line)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				if ctx.Err() == nil {
					err = fmt.Errorf("the connection to %s broke: %w", c.server, err)
				}
				yield(line, err)
				return
			}
			if !yield(line, nil) {
				return
			}
		}
	}
}

// Tail yields touchpoints and rejects as they come. Empty filters let everything
// pass.
func (c *Client) Tail(ctx context.Context, source, typ string, after *eventstore.Position) iter.Seq2[api.ArrivalLine, error] {
	q := url.Values{}
	if source != "" {
		q.Set("source", source)
	}
	if typ != "" {
		q.Set("type", typ)
	}
	if after != nil {
		q.Set("after", strconv.FormatUint(uint64(*after), 10))
	}
	path := "/api/v1/tail"
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return stream[api.ArrivalLine](ctx, c, http.MethodGet, path)
}

// Rebuild has the server build its views anew.
func (c *Client) Rebuild(ctx context.Context) iter.Seq2[api.JobLine, error] {
	return stream[api.JobLine](ctx, c, http.MethodPost, "/api/v1/rebuild")
}

// Verify has the server compare its views with the log.
func (c *Client) Verify(ctx context.Context) iter.Seq2[api.JobLine, error] {
	return stream[api.JobLine](ctx, c, http.MethodPost, "/api/v1/verify")
}

// Backup opens a backup of the server's log, a tar file, with the key of the
// secrets of destinations where that is asked for. The caller closes it.
func (c *Client) Backup(ctx context.Context, withSecretKey bool) (io.ReadCloser, error) {
	path := "/api/v1/backup"
	if withSecretKey {
		path += "?with_secret_key=true"
	}
	res, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	return res.Body, nil
}
