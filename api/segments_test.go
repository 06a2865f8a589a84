package api_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"sojourn/condition"
	"sojourn/domain"
	"sojourn/projections"
)

type fakeSegments struct {
	all      []projections.Segment
	proposal projections.SegmentProposal
	asked    projections.SegmentQuestion
	err      error
}

var member = projections.SegmentMember{Customer: uuid.MustParse("58fc8590-68dc-53dd-8f90-ee98ad6c5e98"), Since: time.Unix(1_700_000_000, 0), Cause: "touchpoint:x"}

func (f *fakeSegments) Segments() []projections.Segment { return f.all }
func (f *fakeSegments) Segment(name string) (projections.Segment, error) {
	for _, s := range f.all {
		if s.Name == name {
			return s, nil
		}
	}
	return projections.Segment{}, projections.ErrNoSegment
}

func (f *fakeSegments) CheckSegment(d projections.SegmentDocument) (*condition.Condition, error) {
	if f.err != nil {
		return nil, f.err
	}
	return condition.Compile(d.Condition, condition.Env{})
}

func (f *fakeSegments) ApplySegment(_ context.Context, p projections.SegmentProposal) (projections.Segment, bool, error) {
	f.proposal = p
	return projections.Segment{SegmentDocument: p.SegmentDocument, Author: p.Author}, true, f.err
}

func (f *fakeSegments) DeleteSegment(_ context.Context, p projections.SegmentProposal) error {
	f.proposal = p
	return f.err
}

func (f *fakeSegments) SegmentMembers(_ context.Context, q projections.SegmentQuestion) ([]projections.SegmentMember, string, error) {
	f.asked = q
	return []projections.SegmentMember{member}, "more", f.err
}

func (f *fakeSegments) EachSegmentMember(_ context.Context, _ string, _ time.Time, do func(projections.SegmentMember) error) error {
	return do(member)
}

func (f *fakeSegments) SegmentSizes(context.Context, string, int) ([]projections.SegmentSize, error) {
	return []projections.SegmentSize{{Day: time.Unix(1_700_000_000, 0).UTC(), Members: 2, Entered: 3, Left: 1}}, f.err
}

func (f *fakeSegments) CountSegments(context.Context) (map[string]uint64, error) {
	return map[string]uint64{"vip": 7}, nil
}

func TestSegments(t *testing.T) {
	doc := projections.SegmentDocument{Name: "vip", Description: "the best", Condition: "true"}
	f := &fake{status: projections.Status{Ready: true, Clock: domain.MillisOf(time.Unix(1_700_000_000, 0))}, segments: fakeSegments{all: []projections.Segment{
		{SegmentDocument: doc, Built: true}, {SegmentDocument: projections.SegmentDocument{Name: "new", Condition: "true"}},
	}}}
	s, _ := start(t, f)
	for _, step := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"GET", "/segments", "", 200, `"name":"vip","description":"the best","condition":"true","applied_at":"0001-01-01T00:00:00Z","built":true,"members":7}`},
		{"GET", "/segments", "", 200, `"name":"new","condition":"true","applied_at":"0001-01-01T00:00:00Z","built":false}`},
		{"GET", "/segments/vip", "", 200, `"members":7`},
		{"GET", "/segments/gone", "", 404, "no such segment"},
		{"PUT", "/segments/vip", `{"condition":"stage == \"loyal\"","author":"ann"}`, 200, `"applied":true`},
		{"PUT", "/segments/vip", `{"author":"ann"}`, 422, "condition"},
		{"DELETE", "/segments/vip?author=ann&reason=done", "", 204, ""},
		{"POST", "/segments/validate", `{"name":"vip","condition":"stage == \"loyal\""}`, 200, `"valid":true,"problems":[],"sql":"SELECT c.customer_id`},
		{"GET", "/segments/vip/members?limit=3&cursor=x&sample=true&as_of=2026-01-31", "", 200, `"members":[{"customer_id":"58fc8590-68dc-53dd-8f90-ee98ad6c5e98","since":"2023-11-14T22:13:20Z","cause":"touchpoint:x"}],"next_cursor":"more"`},
		{"GET", "/segments/vip/members.csv", "", 200, "customer_id,since,cause\n58fc8590-68dc-53dd-8f90-ee98ad6c5e98,2023-11-14T22:13:20Z,touchpoint:x\n"},
		{"GET", "/segments/vip/sizes", "", 200, `"sizes":[{"day":"2023-11-14","members":2,"entered":3,"left":1}]`},
	} {
		status, _, body := ask(t, s, step.method, "/api/v1"+step.path, step.body)
		if status != step.status || !strings.Contains(body, step.says) {
			t.Errorf("%s %s: %d %s", step.method, step.path, status, body)
		}
	}
	if q := f.segments.asked; q.Name != "vip" || q.Limit != 1 {
		t.Errorf("asked %+v", q)
	}
	if p := f.segments.proposal; p.Name != "vip" || p.Author != "ann" || p.Reason != "done" || p.Condition != "" {
		t.Errorf("deleted %+v", p)
	}
	for err, status := range map[error]int{
		&projections.SegmentError{Message: "wrong", Line: 2, Column: 3}: 422, projections.ErrNoSegment: 404, projections.ErrSegmentNotBuilt: 503, projections.ErrBadCursor: 422,
	} {
		f.segments.err = err
		if got, _, body := ask(t, s, "GET", "/api/v1/segments/vip/members", ""); got != status {
			t.Errorf("%v: %d %s", err, got, body)
		}
	}
	f.segments.err = &projections.SegmentError{Message: "wrong", Line: 2, Column: 3}
	if _, _, body := ask(t, s, "PUT", "/api/v1/segments/vip", `{"condition":"x"}`); !strings.Contains(body, `{"message":"wrong","location":"body.condition:2:3"}`) {
		t.Errorf("a wrong one that is applied: %s", body)
	}
	if _, _, body := ask(t, s, "POST", "/api/v1/segments/validate", `{"name":"vip","condition":"x"}`); !strings.Contains(body, `"valid":false,"problems":[{"line":2,"column":3,"message":"wrong"}]`) {
		t.Errorf("a wrong one: %s", body)
	}
}
