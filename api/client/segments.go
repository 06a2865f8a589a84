package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"sojourn/api"
)

// Segments lists the segments in force, by name.
func (c *Client) Segments(ctx context.Context) ([]api.SegmentBody, error) {
	var out struct {
		Segments []api.SegmentBody `json:"segments"`
	}
	err := c.call(ctx, http.MethodGet, "/api/v1/segments", nil, &out)
	return out.Segments, err
}

// Segment is a segment in force.
func (c *Client) Segment(ctx context.Context, name string) (api.SegmentBody, error) {
	var s api.SegmentBody
	err := c.call(ctx, http.MethodGet, segmentPath(name, ""), nil, &s)
	return s, err
}

// ApplySegment makes or changes a segment; Applied is false where it was so already.
func (c *Client) ApplySegment(ctx context.Context, name string, d api.SegmentDocument, said api.SegmentSaid) (api.SegmentApplied, error) {
	var s api.SegmentApplied
	err := c.call(ctx, http.MethodPut, segmentPath(name, ""), struct {
		api.SegmentDocument
		api.SegmentSaid
	}{d, said}, &s)
	return s, err
}

// DeleteSegment deletes a segment.
func (c *Client) DeleteSegment(ctx context.Context, name string, said api.SegmentSaid) error {
	q := url.Values{"author": {said.Author}, "reason": {said.Reason}}
	return c.call(ctx, http.MethodDelete, segmentPath(name, "")+"?"+q.Encode(), nil, nil)
}

// ValidateSegment says what is wrong with a segment, or its SQL.
func (c *Client) ValidateSegment(ctx context.Context, name string, d api.SegmentDocument) (api.SegmentChecked, error) {
	var out api.SegmentChecked
	err := c.call(ctx, http.MethodPost, "/api/v1/segments/validate", struct {
		Name string `json:"name"`
		api.SegmentDocument
	}{name, d}, &out)
	return out, err
}

// SegmentMembers is a sample of the members of a segment, now where asOf is empty.
func (c *Client) SegmentMembers(ctx context.Context, name, asOf string, limit int) ([]api.SegmentMember, error) {
	q := url.Values{"sample": {"true"}, "limit": {strconv.Itoa(limit)}}
	if asOf != "" {
		q.Set("as_of", asOf)
	}
	var out struct {
		Members []api.SegmentMember `json:"members"`
	}
	err := c.call(ctx, http.MethodGet, segmentPath(name, "/members")+"?"+q.Encode(), nil, &out)
	return out.Members, err
}

// ExportSegment writes all members of a segment as CSV, those of now where asOf is
// empty. What was written is not all of them where it fails.
func (c *Client) ExportSegment(ctx context.Context, name, asOf string, w io.Writer) error {
	path := segmentPath(name, "/members.csv")
	if asOf != "" {
		path += "?" + url.Values{"as_of": {asOf}}.Encode()
	}
	res, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	_, err = io.Copy(w, res.Body)
	return err
}

func segmentPath(name, rest string) string { return "/api/v1/segments/" + url.PathEscape(name) + rest }
