package delivery

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestScheduleIsTheSpecs(t *testing.T) {
	s := DefaultSchedule()
	failed := Outcome{Retry: true}
	var at time.Duration
	// Standard Webhooks, "Deliverability and reliability": time since the start.
	for i, want := range []string{"5s", "5m5s", "35m5s", "2h35m5s", "7h35m5s", "17h35m5s", "31h35m5s", "51h35m5s", "75h35m5s"} {
		wait, ok := s.Next(i+1, failed, 0)
		at += wait
		if w, _ := time.ParseDuration(want); !ok || at != w {
			t.Errorf("attempt %d is after %v, %v; want %s", i+2, at, ok, want)
		}
	}
	if _, ok := s.Next(10, failed, 0); ok {
		t.Error("there is an eleventh attempt")
	}
	if got := s.GiveUp(time.Unix(0, 0)).Sub(time.Unix(0, 0)); got < at {
		t.Errorf("given up after %v, before the last attempt", got)
	}
}

func TestScheduleNext(t *testing.T) {
	s := DefaultSchedule()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(-1, 12).Draw(t, "n")
		o := Outcome{
			Retry: rapid.Bool().Draw(t, "retry"), Delivered: rapid.Bool().Draw(t, "delivered"),
			RetryAfter: time.Duration(rapid.Int64Range(0, int64(100*time.Hour)).Draw(t, "after")),
		}
		random := rapid.Float64Range(0, 0.999).Draw(t, "random")
		wait, ok := s.Next(n, o, random)
		if ok != (o.Retry && !o.Delivered && n >= 1 && n <= 9) {
			t.Fatalf("ok is %v", ok)
		}
		if !ok {
			return
		}
		base := s.Waits[n-1]
		asked := min(o.RetryAfter, MaxRetryAfter)
		if wait < base || wait < asked || wait > max(base+base/10, asked) {
			t.Fatalf("waits %v", wait)
		}
	})
}
