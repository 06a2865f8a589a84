package client

import (
	"context"
	"errors"
	"net/http"
	"time"
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
