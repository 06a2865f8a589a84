package satisfaction_test

import (
	"testing"
	"time"

	"sojourn/domain"
	"sojourn/domain/policy"
	"sojourn/domain/satisfaction"
)

type satisfactionTouch = satisfaction.Touch

const (
	opened    = policy.ActTicketOpened
	replied   = policy.ActTicketReplied
	resolved  = policy.ActTicketResolved
	reopened  = policy.ActTicketReopened
	escalated = policy.ActTicketEscalated
	closed    = policy.ActTicketClosed
)

// office is nine to five in Berlin, Monday to Friday; day 0 is a Monday at 13:00
// there.
func office(s *policy.Satisfaction) {
	s.Hours = policy.Hours{
		Zone:     "Europe/Berlin",
		Week:     []policy.Span{{Days: []string{"mon", "tue", "wed", "thu", "fri"}, From: "09:00", To: "17:00"}},
		Holidays: []string{"12-25", "2024-01-03"},
	}
	s.Clocks.FirstResponse, s.Clocks.Resolution = policy.Business, policy.Business
	s.Targets = []policy.Target{{Case: "ticket", FirstResponseMinutes: 5 * 60, ResolutionMinutes: 16 * 60}}
}

func TestTickets(t *testing.T) {
	run(t, []spec{
		{
			name:  "answered and resolved in time",
			given: all(ticket(day(0), opened, ""), ticket(day(0, 2*hour), replied, ""), ticket(day(1), resolved, "")),
			cases: []string{"ticket t; first response 2h met; resolution 24h met"},
		},
		{
			name:  "not yet due is neither met nor breached",
			given: all(ticket(day(0), opened, "")),
			until: day(0, hour),
			cases: []string{"ticket t open; first response …1h pending due 0d+8h; resolution …1h pending due 3d"},
		},
		{
			name:  "a breach from the instant of the target",
			given: all(ticket(day(0), opened, "")),
			until: day(0, 8*hour),
			cases: []string{"ticket t open; first response …8h breached due 0d+8h; resolution …8h pending due 3d"},
		},
		{
			name:  "not a millisecond before",
			given: all(ticket(day(0), opened, "")),
			until: day(0, 8*hour, -ms),
			cases: []string{"ticket t open; first response …28799999ms pending due 0d+8h; resolution …28799999ms pending due 3d"},
		},
		{
			name:  "done at that very instant is in time",
			given: all(ticket(day(0), opened, ""), ticket(day(0, 8*hour), replied, ""), ticket(day(3), resolved, "")),
			cases: []string{"ticket t; first response 8h met; resolution 72h met"},
		},
		{
			name:  "what was late stays late",
			given: all(ticket(day(0), opened, ""), ticket(day(0, 8*hour, ms), replied, ""), ticket(day(3, ms), resolved, "")),
			cases: []string{"ticket t; first response 28800001ms breached due 0d+8h; resolution 259200001ms breached due 3d"},
		},
		{
			name:  "only an agent's reply is a response",
			given: all(ticket(day(0), opened, ""), ticket(day(0, hour), replied, "by=customer"), ticket(day(0, 2*hour), replied, "by=bot"), ticket(day(0, 3*hour), replied, "by=agent")),
			cases: []string{"ticket t open; first response 3h met; resolution …3h pending due 3d"},
		},
		{
			name:  "the first of several",
			given: all(ticket(day(0), opened, ""), ticket(day(0, hour), replied, ""), ticket(day(0, 9*hour), replied, "")),
			cases: []string{"ticket t open; first response 1h met; resolution …9h pending due 3d"},
		},
		{
			name:  "resolved without a reply there is no first response",
			given: all(ticket(day(0), opened, ""), ticket(day(0, hour), resolved, "")),
			until: day(9),
			cases: []string{"ticket t; first response …1h; resolution 1h met"},
		},
		{
			name:  "but one that was due before is a breach",
			given: all(ticket(day(0), opened, ""), ticket(day(1), resolved, "")),
			cases: []string{"ticket t; first response …24h breached due 0d+8h; resolution 24h met"},
		},
		{
			name: "the time between a Resolved and its Reopened does not count",
			given: all(ticket(day(0), opened, ""), ticket(day(0, hour), replied, ""), ticket(day(1), resolved, ""),
				ticket(day(6), reopened, ""), ticket(day(7), resolved, "")),
			cases: []string{"ticket t reopened×1; first response 1h met; resolution 48h met"},
		},
		{
			name: "resolved in time, reopened, overdue",
			given: all(ticket(day(0), opened, ""), ticket(day(0, hour), replied, ""), ticket(day(1), resolved, ""),
				ticket(day(6), reopened, "")),
			until: day(8),
			cases: []string{"ticket t open reopened×1; first response 1h met; resolution …72h breached due 8d"},
		},
		{
			name:  "the last Resolved ends it",
			given: all(ticket(day(0), opened, ""), ticket(day(0, hour), replied, ""), ticket(day(1), resolved, ""), ticket(day(2), resolved, "")),
			cases: []string{"ticket t; first response 1h met; resolution 48h met"},
		},
		{
			name:  "a Closed resolves what is not resolved, and only that",
			given: all(ticket(day(0), opened, ""), ticket(day(1), closed, ""), ticket(day(2), closed, "")),
			cases: []string{"ticket t; first response …24h breached due 0d+8h; resolution 24h met"},
		},
		{
			name:  "a Reopened of what is open is nothing, and so is a second Opened",
			given: all(ticket(day(0), opened, ""), ticket(day(0, hour), reopened, ""), ticket(day(0, 2*hour), opened, "")),
			cases: []string{"ticket t open; first response …2h pending due 0d+8h; resolution …2h pending due 3d"},
		},
		{
			name:  "an urgent one has less time, from when it is urgent",
			given: all(ticket(day(0), opened, "priority=Normal"), ticket(day(0, 30*minute), escalated, "priority=Urgent")),
			until: day(0, hour),
			cases: []string{"ticket t open escalated urgent; first response …1h breached due 0d+1h; resolution …1h pending due 1d"},
		},
		{
			name:  "what came before the Opened takes effect at its instant",
			given: all(ticket(day(0), replied, ""), ticket(day(1), opened, "")),
			until: day(2),
			cases: []string{"ticket t open; first response 0h met; resolution …24h pending due 4d"},
		},
		{
			name:  "waiting for the customer counts",
			given: all(ticket(day(0), opened, ""), ticket(day(1), replied, ""), ticket(day(3), replied, "by=customer"), ticket(day(4), resolved, "")),
			cases: []string{"ticket t; first response 24h breached due 0d+8h; resolution 96h breached due 3d"},
		},
		{
			name:  "unless the policy pauses it",
			rules: func(s *policy.Satisfaction) { s.Clocks.PauseWaiting = true },
			given: all(ticket(day(0), opened, ""), ticket(day(1), replied, ""), ticket(day(3), replied, "by=customer"), ticket(day(4), resolved, "")),
			cases: []string{"ticket t; first response 24h breached due 0d+8h; resolution 48h met"},
		},
		{
			name:  "while it is paused nothing falls due",
			rules: func(s *policy.Satisfaction) { s.Clocks.PauseWaiting = true },
			given: all(ticket(day(0), opened, ""), ticket(day(0, hour), replied, "")),
			until: day(99),
			cases: []string{"ticket t open; first response 1h met; resolution …1h pending"},
		},
		{
			name:  "a reply that says so waits for nobody else",
			rules: func(s *policy.Satisfaction) { s.Clocks.PauseWaiting = true },
			given: all(ticket(day(0), opened, ""), ticket(day(0, hour), replied, "waiting_for=agent")),
			until: day(1),
			cases: []string{"ticket t open; first response 1h met; resolution …24h pending due 3d"},
		},
		{
			name: "who chats waits for nobody, and says nothing of the priority",
			rules: func(s *policy.Satisfaction) {
				s.Clocks.PauseWaiting = true
				s.Targets = []policy.Target{{Case: "chat", ResolutionMinutes: 60}}
			},
			given: all(on(day(0), policy.ActChatStarted, "conversation_id=1, priority=low"),
				on(day(0, minute), policy.ActChatMessageReceived, "conversation_id=1, waiting_for=customer, priority=high")),
			until: day(0, 2*hour),
			cases: []string{"chat 1 open low; first response 1m; resolution …2h breached due 0d+1h"},
		},
		{
			name: "chats and calls",
			given: all(on(day(0), policy.ActChatStarted, "conversation_id=1"),
				on(day(0, minute), policy.ActChatMessageReceived, "conversation_id=1, by=bot"),
				on(day(0, 3*minute), policy.ActChatMessageReceived, "conversation_id=1"),
				on(day(0, 4*minute), policy.ActChatMessageReceived, "conversation_id=1"),
				on(day(0, 9*minute), policy.ActChatEnded, "conversation_id=1"),
				on(day(1), policy.ActCallStarted, "call_id=2"), on(day(1, minute), policy.ActCallAnswered, "call_id=2"), on(day(1, hour), policy.ActCallEnded, "call_id=2"),
				on(day(2), policy.ActCallStarted, "call_id=3"), on(day(2, 2*minute), policy.ActCallMissed, "call_id=3")),
			cases: []string{
				"chat 1; first response 3m breached due 0d+2m; resolution 9m",
				"call 2; first response 1m met; resolution 1h",
				"call 3; first response …2m breached due 2d+1m; resolution 2m",
			},
		},
	})
}

func TestBusinessHours(t *testing.T) {
	run(t, []spec{
		{
			name:  "the night does not count",
			rules: office,
			given: all(ticket(day(0), opened, ""), ticket(day(0, 20*hour), replied, "")), // Tuesday 09:00
			cases: []string{"ticket t open; first response 4h met; resolution …4h pending due 3d"},
		},
		{
			name:  "nor does a holiday",
			rules: office,
			given: all(ticket(day(0), opened, "")),
			until: day(3), // Thursday 13:00, Wednesday was closed
			cases: []string{"ticket t open; first response …16h breached due 0d+21h; resolution …16h breached due 3d"},
		},
		{
			name:  "nor does a week-end: opened on a Saturday it begins on Monday",
			rules: office,
			given: all(ticket(day(5), opened, "")),
			until: day(7),
			cases: []string{"ticket t open; first response …4h pending due 7d+1h; resolution …4h pending due 8d+4h"},
		},
		{
			name:  "the target that ends with the day is due then, not the next morning",
			rules: office,
			given: all(ticket(day(0, -hour), opened, "")),
			until: day(0, 4*hour),
			cases: []string{"ticket t open; first response …5h breached due 0d+4h; resolution …5h pending due 2d+23h"},
		},
	})
}

func millis(text string) domain.Millis {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return domain.MillisOf(at)
}

func TestCalendar(t *testing.T) {
	berlin := satisfaction.NewCalendar(policy.Hours{Zone: "Europe/Berlin", Week: []policy.Span{
		{Days: []string{"sun", "mon"}, From: "00:00", To: "24:00"},
	}})
	lunch := satisfaction.NewCalendar(policy.Hours{Zone: "Asia/Shanghai", Week: []policy.Span{
		{Days: policy.Weekdays, From: "13:00", To: "18:00"},
		{Days: policy.Weekdays, From: "09:00", To: "12:00"},
		{Days: []string{"fri"}, From: "11:00", To: "14:00"}, // overlaps both
	}})
	samoa := satisfaction.NewCalendar(policy.Hours{Zone: "Pacific/Apia", Week: []policy.Span{{Days: policy.Weekdays, From: "00:00", To: "24:00"}}})
	for _, c := range []struct {
		name     string
		cal      *satisfaction.Calendar
		from, to string
		want     domain.Millis
	}{
		{"a day of 23 hours", berlin, "2024-03-30T23:00:00Z", "2024-04-01T00:00:00+02:00", 23 * hour},
		{"a day of 25 hours", berlin, "2024-10-27T00:00:00+02:00", "2024-10-28T00:00:00+01:00", 25 * hour},
		{"spans in any order, overlaps once", lunch, "2024-01-01T00:00:00+08:00", "2024-01-08T00:00:00+08:00", 7*8*hour + hour},
		{"a day that the zone leaves out", samoa, "2011-12-29T00:00:00-10:00", "2012-01-01T00:00:00+14:00", 2 * 24 * hour},
		{"a holiday of every year and one of a year", satisfaction.NewCalendar(policy.Hours{
			Zone: "UTC", Week: []policy.Span{{Days: policy.Weekdays, From: "10:00", To: "11:00"}}, Holidays: []string{"12-25", "2024-12-24"},
		}), "2023-12-23T00:00:00Z", "2024-12-27T00:00:00Z", (370 - 3) * hour},
		{"backwards", lunch, "2024-01-02T00:00:00Z", "2024-01-01T00:00:00Z", 0},
		{"round the clock", &satisfaction.Calendar{}, "2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z", 24 * hour},
	} {
		from, to := millis(c.from), millis(c.to)
		if got := c.cal.Between(from, to); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, length(got), length(c.want))
		}
		if c.want == 0 {
			continue
		}
		// After is the least instant by which so much has counted.
		for _, part := range []domain.Millis{1, c.want / 3, c.want} {
			at := c.cal.After(from, part)
			if got := c.cal.Between(from, at); got != part {
				t.Errorf("%s: %d have counted after %d", c.name, got, part)
			}
			if got := c.cal.Between(from, at-1); got != part-1 {
				t.Errorf("%s: %d have counted a millisecond before %d", c.name, got, part)
			}
		}
	}
	closed := satisfaction.NewCalendar(policy.Hours{Zone: "UTC", Week: []policy.Span{{Days: []string{"mon"}, From: "09:00", To: "10:00"}}})
	if got := closed.After(day0, 2000*hour); got != domain.MaxTime {
		t.Errorf("what takes longer than twenty years is due at %s", got)
	}
}
