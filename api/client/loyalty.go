package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"sojourn/eventstore"
	"sojourn/ingest/segmentapi"
)

// OpeningBalance is the balance of a subject in another loyalty engine. Row names
// it for ever.
type OpeningBalance struct {
	Row       string        `json:"row"`
	Subject   string        `json:"subject"`
	Parts     []OpeningPart `json:"parts"`
	Tier      string        `json:"tier,omitempty"`
	TierUntil time.Time     `json:"tier_until,omitzero"`
}

// OpeningPart is a number of points and when they expire, zero for never.
type OpeningPart struct {
	Points  int64     `json:"points"`
	Expires time.Time `json:"expires,omitzero"`
}

// OpeningResult is what became of opening balances.
type OpeningResult struct {
	Accepted int `json:"accepted"`
	Known    int `json:"known"` // their rows had been recorded before
	Errors   []struct {
		Row     string `json:"row"`
		Message string `json:"message"`
	} `json:"errors"`
}

// openingPatience is how long a request is repeated that the server refuses for
// now.
const openingPatience = 2 * time.Minute

// OpenBalances records opening balances, at most 1,000, in a programme. Those
// whose row is known are left out, so that a repetition is safe.
func (c *Client) OpenBalances(ctx context.Context, programme string, balances []OpeningBalance) (OpeningResult, error) {
	body := struct {
		Programme string           `json:"programme,omitempty"`
		Balances  []OpeningBalance `json:"balances"`
	}{programme, balances}
	start := time.Now()
	for pause := 200 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		var out OpeningResult
		err := c.call(ctx, http.MethodPost, "/api/v1/loyalty/opening-balances", body, &out)
		var se *StatusError
		if !errors.As(err, &se) || se.Status != http.StatusTooManyRequests && se.Status < 500 {
			return out, err
		}
		wait := max(pause, se.RetryAfter)
		if time.Since(start)+wait > openingPatience {
			return out, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return out, ctx.Err()
		}
	}
}

// Redeem spends points of a customer, an id or a subject such as user:42, in the
// policy's first programme. The same key does it once, however often it is sent. A
// *StatusError of 409 says that the points are short. The position is that of the
// redemption.
func (c *Client) Redeem(ctx context.Context, customer string, points int64, reason, key string) (eventstore.Position, error) {
	body, err := json.Marshal(struct {
		Points int64  `json:"points"`
		Reason string `json:"reason"`
	}{points, reason})
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.server+"/api/v1/customers/"+url.PathEscape(customer)+"/loyalty/redeem", bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key)
	res, err := c.http.Do(req)
	if err != nil {
		return 0, c.explain(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode >= 300 {
		return 0, statusError(res)
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return 0, fmt.Errorf("read the answer of %s: %w", c.server, err)
	}
	var pos uint64
	if v := res.Header.Get(segmentapi.PositionHeader); v != "" {
		if pos, err = strconv.ParseUint(v, 10, 64); err != nil {
			return 0, fmt.Errorf("the answer's %s is %q", segmentapi.PositionHeader, v)
		}
	}
	return eventstore.Position(pos), nil
}
