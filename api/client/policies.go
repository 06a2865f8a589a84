package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/google/uuid"

	"sojourn/api"
)

// ApplyRequest is a policy to put in force: the text of a file, or a version to go
// back to where Rollback is not 0.
type ApplyRequest struct {
	Source   string
	Rollback int
	Author   string
	Reason   string
	Expected int // the version that must be in force; 0 for any
}

// ApplyPolicy puts a policy in force.
func (c *Client) ApplyPolicy(ctx context.Context, r ApplyRequest) (api.PolicyApplied, error) {
	said := api.SaidBody{Author: r.Author, Reason: r.Reason, ExpectedVersion: r.Expected}
	path, body := "/api/v1/policies", any(struct {
		api.CandidateBody
		api.SaidBody
	}{api.CandidateBody{Source: r.Source}, said})
	if r.Rollback != 0 {
		path, body = "/api/v1/policies/rollback", struct {
			Version int `json:"version"`
			api.SaidBody
		}{r.Rollback, said}
	}
	var v api.PolicyApplied
	err := c.call(ctx, http.MethodPost, path, body, &v)
	return v, err
}

// Policies lists the versions of the policy, the last first.
func (c *Client) Policies(ctx context.Context) ([]api.PolicyVersion, error) {
	var all []api.PolicyVersion
	for cursor := ""; ; {
		var page struct {
			Policies   []api.PolicyVersion `json:"policies"`
			NextCursor string              `json:"next_cursor"`
		}
		if err := c.call(ctx, http.MethodGet, "/api/v1/policies?cursor="+url.QueryEscape(cursor), nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Policies...)
		if cursor = page.NextCursor; cursor == "" {
			return all, nil
		}
	}
}

// Policy is a version of the policy; 0 stands for the one in force.
func (c *Client) Policy(ctx context.Context, version int) (api.PolicyInForce, error) {
	var v api.PolicyInForce
	which := "current"
	if version != 0 {
		which = fmt.Sprint(version)
	}
	err := c.call(ctx, http.MethodGet, "/api/v1/policies/"+which, nil, &v)
	return v, err
}

// DiffPolicies says what another version (to), or where that is 0 the text of a
// file, says otherwise than a version (from; 0 for the one in force).
func (c *Client) DiffPolicies(ctx context.Context, from, to int, source string) ([]api.PolicyChange, error) {
	var out struct {
		Changes []api.PolicyChange `json:"changes"`
	}
	body := map[string]any{"from": from, "to": to, "source": source}
	err := c.call(ctx, http.MethodPost, "/api/v1/policies/diff", body, &out)
	return out.Changes, err
}

// ValidatePolicy says what is wrong with the text of a policy file, and what keeps it
// from being applied now; nothing where it could be.
func (c *Client) ValidatePolicy(ctx context.Context, source string) ([]api.PolicyProblem, error) {
	var out struct {
		Problems []api.PolicyProblem `json:"problems"`
	}
	err := c.call(ctx, http.MethodPost, "/api/v1/policies/validate", api.CandidateBody{Source: source}, &out)
	return out.Problems, err
}

// StartPreview begins to preview the text of a policy file, its rules about points
// as if applied at a time such as 2026-01-31, now where since is empty.
func (c *Client) StartPreview(ctx context.Context, source, since string) (api.Preview, error) {
	var p api.Preview
	err := c.call(ctx, http.MethodPost, "/api/v1/policies/previews", struct {
		api.CandidateBody
		Since string `json:"since,omitempty"`
	}{api.CandidateBody{Source: source}, since}, &p)
	return p, err
}

// Preview asks how far a preview is.
func (c *Client) Preview(ctx context.Context, id uuid.UUID, examples int) (api.Preview, error) {
	var p api.Preview
	err := c.call(ctx, http.MethodGet, fmt.Sprintf("/api/v1/policies/previews/%s?examples=%d", id, examples), nil, &p)
	return p, err
}

// CancelPreview gives up a preview.
func (c *Client) CancelPreview(ctx context.Context, id uuid.UUID) error {
	return c.call(ctx, http.MethodDelete, "/api/v1/policies/previews/"+id.String(), nil, nil)
}
