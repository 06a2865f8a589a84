package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"time"

	"sojourn/api"
)

func triggerPath(id string) string { return "/api/v1/triggers/" + url.PathEscape(id) }

// Triggers lists the triggers.
func (c *Client) Triggers(ctx context.Context) ([]api.TriggerBody, error) {
	var l struct {
		Triggers []api.TriggerBody `json:"triggers"`
	}
	err := c.call(ctx, http.MethodGet, "/api/v1/triggers", nil, &l)
	return l.Triggers, err
}

// Trigger is a trigger with its history.
func (c *Client) Trigger(ctx context.Context, id string) (api.TriggerBody, error) {
	var t api.TriggerBody
	err := c.call(ctx, http.MethodGet, triggerPath(id), nil, &t)
	return t, err
}

// ValidateTrigger is what is wrong with a trigger file by the server's words.
func (c *Client) ValidateTrigger(ctx context.Context, source string) ([]api.PolicyProblem, error) {
	var v struct{ Problems []api.PolicyProblem }
	err := c.call(ctx, http.MethodPost, "/api/v1/triggers/validate", map[string]string{"source": source}, &v)
	return v.Problems, err
}

// ApplyTrigger puts a trigger in force.
func (c *Client) ApplyTrigger(ctx context.Context, t api.TriggerSource) (api.TriggerApplied, error) {
	var a api.TriggerApplied
	err := c.call(ctx, http.MethodPost, "/api/v1/triggers", t, &a)
	return a, err
}

// PauseTrigger stops a trigger, or lets it go on again.
func (c *Client) PauseTrigger(ctx context.Context, id string, paused bool, author, reason string) (api.TriggerBody, error) {
	what := "/resume"
	if paused {
		what = "/pause"
	}
	var t api.TriggerBody
	err := c.call(ctx, http.MethodPost, triggerPath(id)+what, map[string]string{"author": author, "reason": reason}, &t)
	return t, err
}

// TestTrigger tries a trigger on a customer; the answer is JSON.
func (c *Client) TestTrigger(ctx context.Context, id, customer string, out any) error {
	return c.call(ctx, http.MethodPost, triggerPath(id)+"/test", map[string]string{"customer": customer}, out)
}

// Deliveries is a page of what automation did.
func (c *Client) Deliveries(ctx context.Context, q url.Values) (all []api.DeliveryBody, next string, err error) {
	var l struct {
		Deliveries []api.DeliveryBody `json:"deliveries"`
		NextCursor string             `json:"next_cursor"`
	}
	err = c.call(ctx, http.MethodGet, "/api/v1/deliveries?"+q.Encode(), nil, &l)
	return l.Deliveries, l.NextCursor, err
}

// SendAgain sends a delivery by hand.
func (c *Client) SendAgain(ctx context.Context, id, author string) (api.DeliveryBody, error) {
	var d api.DeliveryBody
	err := c.call(ctx, http.MethodPost, "/api/v1/deliveries/"+url.PathEscape(id)+"/send", map[string]string{"author": author}, &d)
	return d, err
}

// SendAllAgain sends by hand all dead letters, or all that was stale, of a trigger or
// a destination.
func (c *Client) SendAllAgain(ctx context.Context, state, trigger, destination, author string) (planned, suppressed int, err error) {
	var n struct{ Planned, Suppressed int }
	err = c.call(ctx, http.MethodPost, "/api/v1/deliveries/send", map[string]string{
		"state": state, "trigger": trigger, "destination": destination, "author": author,
	}, &n)
	return n.Planned, n.Suppressed, err
}

// DryRun asks what a trigger would have done over a past period. as is occurred or
// known; a zero to is now.
func (c *Client) DryRun(ctx context.Context, id string, from, to time.Time, as string) iter.Seq2[api.DryRunLine, error] {
	body := map[string]any{"from": from, "as": as}
	if !to.IsZero() {
		body["to"] = to
	}
	return stream[api.DryRunLine](ctx, c, http.MethodPost, triggerPath(id)+"/dry-run", body)
}
