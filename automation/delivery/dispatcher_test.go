package delivery

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
)

// engine stands for the engine and the receivers, in simulated time.
type engine struct {
	t *testing.T
	d *Dispatcher

	mu           sync.Mutex
	destinations map[string]*Destination
	answer       map[string]func(*Attempt) Outcome // by destination; nil delivers at once
	takes        map[string]time.Duration          // by destination: how long an attempt takes
	prepare      func(Job) (bool, error)           // nil: everything is sent
	done         func(Job) error
	schedule     *Schedule // where retries are to be submitted
	disabled     []string

	sent    []sending
	results map[uuid.UUID]Outcome // the last one
	now     map[string]int        // attempts under way
	most    map[string]int
}

type sending struct {
	to     string
	id     uuid.UUID
	number int
	at     time.Time
}

func newEngine(t *testing.T, names ...string) *engine {
	e := &engine{
		t: t, destinations: map[string]*Destination{}, answer: map[string]func(*Attempt) Outcome{}, takes: map[string]time.Duration{},
		results: map[uuid.UUID]Outcome{}, now: map[string]int{}, most: map[string]int{},
	}
	for _, name := range names {
		e.destinations[name] = &Destination{Name: name, Kind: Webhook, Enabled: true}
	}
	e.d = NewDispatcher(DispatcherConfig{
		Senders: map[Kind]Sender{Webhook: e}, Deliveries: e,
		Destination: func(name string) (Destination, bool) {
			e.mu.Lock()
			defer e.mu.Unlock()
			if d := e.destinations[name]; d != nil {
				return *d, true
			}
			return Destination{}, false
		},
		Disable: func(_ context.Context, name, _ string) error {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.destinations[name].Enabled = false
			e.disabled = append(e.disabled, name)
			return nil
		},
	})
	return e
}

func (e *engine) Prepare(_ context.Context, j Job, _ *Destination) (*Attempt, error) {
	if e.prepare != nil {
		if ok, err := e.prepare(j); err != nil || !ok {
			return nil, err
		}
	}
	return &Attempt{}, nil
}

func (e *engine) Send(ctx context.Context, a *Attempt) Outcome {
	name := a.Destination.Name
	e.mu.Lock()
	e.sent = append(e.sent, sending{name, a.ID, a.Number, time.Now()})
	e.now[name]++
	e.most[name] = max(e.most[name], e.now[name])
	answer, takes := e.answer[name], e.takes[name]
	e.mu.Unlock()
	o := Outcome{Delivered: true, Status: 200}
	select {
	case <-time.After(takes):
		if answer != nil {
			o = answer(a)
		}
	case <-ctx.Done():
		o = Outcome{Retry: true, Error: "stopped"}
	}
	e.mu.Lock()
	e.now[name]--
	e.mu.Unlock()
	return o
}

func (e *engine) Done(_ context.Context, j Job, a *Attempt, o Outcome) error {
	if e.done != nil {
		if err := e.done(j); err != nil {
			return err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if a == nil && (o.Delivered || o.Retry) {
		e.t.Errorf("without an attempt: %+v", o)
	}
	e.results[j.ID] = o
	if e.schedule != nil {
		if wait, ok := e.schedule.Next(j.Number, o, 0); ok {
			j.Number++
			j.Due = time.Now().Add(wait)
			e.d.Submit(j)
		}
	}
	return nil
}

func (e *engine) count(name string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.sent {
		if s.to == name {
			n++
		}
	}
	return n
}

func (e *engine) set(change func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change()
}

func (e *engine) state(name string) Status {
	for _, s := range e.d.Status() {
		if s.Name == name {
			return s
		}
	}
	return Status{}
}

func id(n int) (u uuid.UUID) {
	binary.BigEndian.PutUint64(u[8:], uint64(n)+1)
	return u
}

func jobs(to string, first, n int) []Job {
	all := make([]Job, n)
	for i := range all {
		all[i] = Job{ID: id(first + i), Number: 1, Destination: to, Due: time.Now()}
	}
	return all
}

// pass lets simulated time pass, of the bubble that the test runs in, and then all
// that it set off.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// in runs a test in simulated time.
func in(t *testing.T, names []string, test func(t *testing.T, e *engine)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(t, names...)
		defer e.d.Stop()
		test(t, e)
	})
}

func down(*Attempt) Outcome { return Outcome{Retry: true, Error: "no answer"} }

func TestDueJobsAreSentInOrder(t *testing.T) {
	in(t, []string{"a"}, func(t *testing.T, e *engine) {
		start := time.Now()
		e.destinations["a"].Concurrency = 1
		e.takes["a"] = time.Millisecond
		for _, s := range []int{3, 1, 2, 0} {
			e.d.Submit(Job{ID: id(s), Number: 1, Destination: "a", Due: start.Add(time.Duration(s) * time.Minute)})
		}
		e.d.Submit(Job{ID: id(3), Number: 1, Destination: "a", Due: start}) // waits already
		synctest.Wait()
		if s := e.state("a"); s.Waiting != 3 || s.InFlight != 1 || s.State != StateReady {
			t.Errorf("%+v", s)
		}
		pass(time.Hour)
		if len(e.sent) != 4 {
			t.Fatalf("%d are sent", len(e.sent))
		}
		for i, s := range e.sent {
			if s.id != id(i) || s.at.Sub(start) != time.Duration(i)*time.Minute {
				t.Errorf("the %d. is %v, after %v", i, s.id, s.at.Sub(start))
			}
		}
		if s := e.state("a"); s.Attempts != 4 || s.Delivered != 4 || s.Waiting != 0 || s.LastStatus != 200 || !s.Due.IsZero() {
			t.Errorf("%+v", s)
		}
	})
}

// One hangs, one is dead, one is gone: the others notice nothing.
func TestNoDestinationDelaysAnother(t *testing.T) {
	in(t, []string{"hangs", "dead", "gone", "well"}, func(t *testing.T, e *engine) {
		e.takes["hangs"] = 15 * time.Second
		e.answer["dead"] = down
		e.answer["gone"] = func(*Attempt) Outcome { return Outcome{Gone: true, Status: 410} }
		start := time.Now()
		for i, name := range []string{"hangs", "dead", "gone", "well"} {
			e.d.Submit(jobs(name, 1000*i, 500)...)
		}
		synctest.Wait()
		if n := e.count("well"); n != 500 || !time.Now().Equal(start) {
			t.Errorf("%d of the healthy one are sent after %v", n, time.Since(start))
		}
		if n := e.most["hangs"]; n != DefaultConcurrency {
			t.Errorf("%d at one time", n)
		}
		if n := e.count("dead"); n > breakerFailures+DefaultConcurrency {
			t.Errorf("%d attempts at the dead one", n)
		}
		if len(e.disabled) == 0 || e.disabled[0] != "gone" || e.count("gone") > DefaultConcurrency {
			t.Errorf("disabled %v after %d attempts", e.disabled, e.count("gone"))
		}
		for name, want := range map[string]State{"hangs": StateReady, "dead": StateOpen, "gone": StateDisabled, "well": StateReady} {
			if s := e.state(name); s.State != want {
				t.Errorf("%s is %+v", name, s)
			}
		}
	})
}

func TestRate(t *testing.T) {
	in(t, []string{"a"}, func(t *testing.T, e *engine) {
		e.destinations["a"].Rate = 10
		e.d.Submit(jobs("a", 0, 110)...)
		synctest.Wait()
		if n := e.count("a"); n != 10 {
			t.Errorf("%d at once", n)
		}
		pass(5*time.Second + time.Millisecond)
		if n := e.count("a"); n != 60 {
			t.Errorf("%d after 5 s", n)
		}
		e.set(func() { e.destinations["a"].Rate = 1 })
		e.d.Changed("a")
		pass(5 * time.Second)
		if n := e.count("a"); n < 64 || n > 67 {
			t.Errorf("%d after 5 s more, at 1 a second", n)
		}
		e.set(func() { e.destinations["a"].Rate = 0 })
		e.d.Changed("a")
		synctest.Wait()
		if n := e.count("a"); n != 110 {
			t.Errorf("%d without a rate", n)
		}
	})
}

func TestCircuitBreaker(t *testing.T) {
	in(t, []string{"a"}, func(t *testing.T, e *engine) {
		start := time.Now()
		e.destinations["a"].Concurrency = 1
		e.answer["a"] = down
		e.d.Submit(jobs("a", 0, 30)...)
		synctest.Wait()
		if n := e.count("a"); n != breakerFailures {
			t.Fatalf("%d attempts", n)
		}
		if s := e.state("a"); s.State != StateOpen || s.Until.Sub(start) != breakerFirst || s.Failures != breakerFailures || s.LastError == "" || s.Waiting != 25 {
			t.Errorf("%+v", s)
		}
		// One after 10 s, then after 20 s, 40 s, …, never longer than 10 min.
		at, wait := start, breakerFirst
		for i := range 10 {
			at = at.Add(wait)
			pass(time.Until(at))
			if n := e.count("a"); n != breakerFailures+i+1 {
				t.Fatalf("%d attempts after %v", n, time.Since(start))
			}
			wait = min(2*wait, breakerLongest)
		}
		e.set(func() { e.answer["a"] = nil })
		pass(breakerLongest)
		if n, s := e.count("a"), e.state("a"); n != 30 || s.State != StateReady || s.Failures != 0 {
			t.Errorf("%d attempts, %+v", n, s)
		}
	})
}

func TestRefusalsOfADeliveryAreNoFailureOfTheDestination(t *testing.T) {
	in(t, []string{"a"}, func(t *testing.T, e *engine) {
		e.answer["a"] = func(*Attempt) Outcome { return Outcome{Retry: true, Status: 400} }
		e.d.Submit(jobs("a", 0, 100)...)
		synctest.Wait()
		if n, s := e.count("a"), e.state("a"); n != 100 || s.State != StateReady {
			t.Errorf("%d attempts, %+v", n, s)
		}
	})
}

func TestRetryAfterHoldsForTheDestination(t *testing.T) {
	in(t, []string{"a"}, func(t *testing.T, e *engine) {
		start := time.Now()
		e.destinations["a"].Concurrency = 1
		e.answer["a"] = func(*Attempt) Outcome { return Outcome{Retry: true, Status: 429, RetryAfter: 90 * time.Second} }
		e.d.Submit(jobs("a", 0, 3)...)
		synctest.Wait()
		if s := e.state("a"); s.State != StatePaused || s.Until.Sub(start) != 90*time.Second || e.count("a") != 1 {
			t.Errorf("%+v", s)
		}
		e.set(func() { e.answer["a"] = nil })
		pass(90*time.Second - 1)
		if n := e.count("a"); n != 1 {
			t.Errorf("%d attempts before that", n)
		}
		pass(1)
		if n := e.count("a"); n != 3 {
			t.Errorf("%d attempts after that", n)
		}
	})
}

// A delivery to a destination that is down for all of three days is attempted ten
// times at most and then fails; one that comes back gets all.
func TestRetriesOverThreeDays(t *testing.T) {
	in(t, []string{"a"}, func(t *testing.T, e *engine) {
		s := DefaultSchedule()
		e.schedule = &s
		e.answer["a"] = func(*Attempt) Outcome { return Outcome{Retry: true, Status: 404} }
		start := time.Now()
		e.d.Submit(jobs("a", 0, 1)...)
		pass(100 * time.Hour)
		if len(e.sent) != 10 || e.sent[9].at.Sub(start) != 75*time.Hour+35*time.Minute+5*time.Second || e.sent[9].number != 10 || e.state("a").Waiting != 0 {
			t.Errorf("%+v", e.sent)
		}
		e.set(func() { e.sent = nil })
		n := 0
		e.set(func() {
			e.answer["a"] = func(*Attempt) Outcome {
				if n++; n < 4 {
					return Outcome{Retry: true, Status: 500}
				}
				return Outcome{Delivered: true}
			}
		})
		e.d.Submit(jobs("a", 5, 1)...)
		pass(100 * time.Hour)
		if len(e.sent) != 4 || !e.results[id(5)].Delivered {
			t.Errorf("%+v", e.sent)
		}
	})
}

func TestGiveUp(t *testing.T) {
	for name, block := range map[string]func(e *engine){
		"disabled": func(e *engine) { e.destinations["a"].Enabled = false },
		"missing":  func(e *engine) { delete(e.destinations, "a") },
		"down":     func(e *engine) { e.answer["a"] = down },
	} {
		t.Run(name, func(t *testing.T) {
			in(t, []string{"a"}, func(t *testing.T, e *engine) {
				block(e)
				all := jobs("a", 0, 300)
				for i := range all {
					all[i].GiveUp = time.Now().Add(time.Hour)
				}
				all[0].GiveUp = time.Time{} // waits for ever
				e.d.Submit(all...)
				pass(time.Hour - time.Second)
				before := 0
				e.set(func() { before = len(e.results) })
				if before > 30 {
					t.Errorf("%d results before the hour", before)
				}
				pass(2 * scanEvery)
				if len(e.results) < len(all)-2 {
					t.Errorf("%d results", len(e.results))
				}
				if name != "down" {
					if s := e.state("a"); s.Waiting != 1 || s.InFlight != 0 || string(s.State) != name {
						t.Errorf("%+v", s)
					}
					if o, ok := e.results[id(0)]; ok {
						t.Errorf("%+v", o)
					}
				}
				o := e.results[id(7)]
				if name == "down" {
					o = e.results[id(299)]
				}
				if o.Error == "" || o.Delivered {
					t.Errorf("%+v", o)
				}
			})
		})
	}
}

func TestDisabledWaitsAndGoesOn(t *testing.T) {
	in(t, []string{"a"}, func(t *testing.T, e *engine) {
		e.destinations["a"].Enabled = false
		e.d.Submit(jobs("a", 0, 100)...)
		pass(10 * time.Hour)
		if n := e.count("a"); n != 0 {
			t.Fatalf("%d are sent", n)
		}
		e.set(func() { e.destinations["a"].Enabled = true })
		e.d.Changed("a")
		synctest.Wait()
		if n := e.count("a"); n != 100 {
			t.Errorf("%d are sent", n)
		}
	})
}

// What the engine cannot do now is asked of it again; what it withdraws is not
// sent.
func TestEngineFails(t *testing.T) {
	in(t, []string{"a"}, func(t *testing.T, e *engine) {
		var asked, told int
		e.prepare = func(j Job) (bool, error) {
			e.mu.Lock()
			defer e.mu.Unlock()
			if j.ID == id(1) {
				return false, nil
			}
			if asked++; asked <= 3 {
				return false, errors.New("the log is away")
			}
			return true, nil
		}
		e.done = func(Job) error {
			e.mu.Lock()
			defer e.mu.Unlock()
			if told++; told <= 3 {
				return errors.New("the log is away")
			}
			return nil
		}
		e.d.Submit(jobs("a", 0, 2)...)
		pass(time.Minute)
		if len(e.sent) != 1 || e.sent[0].id != id(0) || asked != 4 || told != 4 || !e.results[id(0)].Delivered {
			t.Errorf("sent %+v, asked %d, told %d", e.sent, asked, told)
		}
		// Withdrawn, it is no longer known, and can be submitted again.
		e.prepare = nil
		e.d.Submit(jobs("a", 1, 1)...)
		synctest.Wait()
		if n := e.count("a"); n != 2 {
			t.Errorf("%d are sent", n)
		}
	})
}

func TestStop(t *testing.T) {
	in(t, []string{"a"}, func(t *testing.T, e *engine) {
		e.takes["a"] = time.Minute
		e.d.Submit(jobs("a", 0, 20)...)
		synctest.Wait()
		e.d.Stop()
		e.d.Stop()
		if len(e.results) != 0 {
			t.Errorf("%d attempts that were cut short are reported", len(e.results))
		}
		e.d.Submit(jobs("b", 30, 1)...)
		e.d.Changed("a")
		if n := len(e.sent); n != DefaultConcurrency {
			t.Errorf("%d attempts", n)
		}
	})
}

// In real time: with so many timers the race detector of Go 1.26 fails now and
// then in simulated time (golang/go#78156).
func TestManyDestinations(t *testing.T) {
	names := make([]string, 200)
	for i := range names {
		names[i] = fmt.Sprintf("d%03d", i)
	}
	e := newEngine(t, names...)
	defer e.d.Stop()
	const each = 50
	healthy := make(chan struct{}, len(names)*each)
	e.done = func(j Job) error {
		if j.Destination[3]%2 == 1 {
			healthy <- struct{}{}
		}
		return nil
	}
	for i := 0; i < len(names); i += 2 {
		e.answer[names[i]] = down
	}
	for i, name := range names {
		e.d.Submit(jobs(name, 1000*i, each)...)
	}
	for range len(names) / 2 * each {
		select {
		case <-healthy:
		case <-time.After(time.Minute):
			t.Fatal("the healthy ones are not all served within a minute")
		}
	}
	for i, name := range names {
		if n := e.count(name); i%2 == 1 && n != each {
			t.Errorf("%s: %d", name, n)
		}
	}
	all := e.d.Status()
	if len(all) != 200 || all[0].Name != "d000" || all[199].Name != "d199" {
		t.Errorf("%d", len(all))
	}
}
