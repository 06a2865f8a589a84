package api

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sojourn/domain"
)

// instant is a time in a question: RFC 3339, or a bare date, which means its
// last millisecond in UTC. The zero value means that none was given.
type instant struct{ time.Time }

// UnmarshalText reads an instant, cut to the millisecond.
func (t *instant) UnmarshalText(b []byte) error {
	v, err := ParseInstant(string(b))
	t.Time = v
	return err
}

// UnmarshalJSON reads an instant in a body; null is none. Without it that of
// time.Time would stand in its place, which knows no dates.
func (t *instant) UnmarshalJSON(b []byte) error {
	var s *string
	if err := json.Unmarshal(b, &s); err != nil || s == nil {
		return err
	}
	return t.UnmarshalText([]byte(*s))
}

// Schema describes an instant in the OpenAPI document.
func (instant) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Examples: []any{"1997-06-30", "2026-03-01T12:00:00Z"}}
}

// ParseInstant reads RFC 3339 or a bare date, which means 23:59:59.999 UTC of
// that day.
func ParseInstant(s string) (time.Time, error) {
	if d, err := time.Parse(time.DateOnly, s); err == nil {
		return d.AddDate(0, 0, 1).Add(-time.Millisecond), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is no time: write a date such as 2026-03-01 or RFC 3339 such as 2026-03-01T12:00:00Z", domain.Excerpt(s))
	}
	return t.UTC().Truncate(time.Millisecond), nil
}
