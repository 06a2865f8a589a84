package delivery

import (
	"container/heap"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// lane is the queue of one destination and what it knows of it.
type lane struct {
	d    *Dispatcher
	name string
	wake chan struct{} // holds one

	mu       sync.Mutex
	queue    jobHeap
	known    map[jobKey]struct{} // in the queue or under way
	inFlight int
	breaker  breaker
	limiter  *rate.Limiter // nil for no limit
	scan     time.Time     // when a blocked queue is next searched for what to give up
	last     Status        // counts and the last outcome
}

// scanEvery is how exact GiveUp is for what waits behind a blocked destination.
const scanEvery = time.Minute

func newLane(d *Dispatcher, name string) *lane {
	return &lane{d: d, name: name, wake: make(chan struct{}, 1), known: make(map[jobKey]struct{})}
}

func (l *lane) awake() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *lane) submit(j Job) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.known[j.key()]; ok {
		return
	}
	l.known[j.key()] = struct{}{}
	heap.Push(&l.queue, j)
	l.awake()
}

// putBack returns a job that could not be prepared.
func (l *lane) putBack(j Job) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inFlight--
	j.Due = time.Now().Add(again)
	heap.Push(&l.queue, j)
	l.awake()
}

// observe takes an outcome in before the engine has recorded it: what follows
// from it for the destination holds at once.
func (l *lane) observe(o Outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.breaker.observe(o, now)
	l.last.Attempts++
	if o.Delivered {
		l.last.Delivered++
	}
	l.last.LastAttempt, l.last.LastStatus, l.last.LastError = now, o.Status, o.Error
}

// finished ends a job's attempt.
func (l *lane) finished(j Job) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inFlight--
	delete(l.known, j.key())
	l.awake()
}

func (l *lane) changed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.breaker = breaker{}
	l.awake()
}

// run starts attempts until the dispatcher stops. What is under way runs beside it.
func (l *lane) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait := l.start()
		if wait >= 0 {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
		select {
		case <-l.d.ctx.Done():
			return
		case <-timer.C:
		case <-l.wake:
		}
	}
}

// start begins what can begin now. It returns how long there is nothing to begin,
// below 0 for until something happens.
func (l *lane) start() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if l.queue.Len() == 0 || l.d.ctx.Err() != nil {
			return -1
		}
		now := time.Now()
		dest, ok := l.d.cfg.Destination(l.name)
		if !ok {
			return l.blocked(now, "there is no destination of that name")
		}
		if !dest.Enabled {
			return l.blocked(now, "the destination is disabled")
		}
		most := dest.Concurrency
		if most == 0 {
			most = DefaultConcurrency
		}
		ready, most := l.breaker.ready(most)
		if ready.After(now) {
			return min(ready.Sub(now), l.blocked(now, "the destination is down: "+l.last.LastError))
		}
		if wait := l.queue[0].Due.Sub(now); wait > 0 {
			return wait
		}
		if l.inFlight >= most {
			return -1
		}
		if wait := l.token(now, dest.Rate); wait > 0 {
			return wait
		}
		j := heap.Pop(&l.queue).(Job)
		l.inFlight++
		l.d.tasks.Go(func() { l.d.attempt(l, j, dest) })
	}
}

// token takes one attempt from the rate, or tells when there will be one.
func (l *lane) token(now time.Time, perSecond float64) time.Duration {
	if perSecond == 0 {
		l.limiter = nil
		return 0
	}
	if l.limiter == nil {
		l.limiter = rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond)))
	} else if l.limiter.Limit() != rate.Limit(perSecond) {
		l.limiter.SetLimitAt(now, rate.Limit(perSecond))
		l.limiter.SetBurstAt(now, max(1, int(perSecond)))
	}
	r := l.limiter.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// blocked gives up what has waited long enough and tells when to look again.
func (l *lane) blocked(now time.Time, why string) time.Duration {
	if wait := l.scan.Sub(now); wait > 0 {
		return wait
	}
	l.scan = now.Add(scanEvery)
	kept := l.queue[:0]
	var given []Job
	for _, j := range l.queue {
		if j.Due.After(now) || j.GiveUp.IsZero() || j.GiveUp.After(now) {
			kept = append(kept, j)
		} else {
			given = append(given, j)
		}
	}
	if len(given) == 0 {
		return scanEvery
	}
	clear(l.queue[len(kept):])
	l.queue = kept
	heap.Init(&l.queue)
	l.inFlight += len(given)
	l.d.tasks.Go(func() {
		for _, j := range given {
			if l.d.ctx.Err() == nil {
				l.d.done(j, nil, Outcome{Error: fmt.Sprintf("given up while it waited: %s", why)})
			}
			l.finished(j)
		}
	})
	return scanEvery
}

func (l *lane) status() Status {
	dest, ok := l.d.cfg.Destination(l.name)
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.last
	s.Name, s.Waiting, s.InFlight, s.Failures = l.name, l.queue.Len(), l.inFlight, l.breaker.failures
	if len(l.queue) > 0 {
		s.Due = l.queue[0].Due
	}
	waits := l.breaker.until.After(time.Now())
	if waits {
		s.Until = l.breaker.until
	}
	switch {
	case !ok:
		s.State = StateMissing
	case !dest.Enabled:
		s.State = StateDisabled
	case waits && l.breaker.open > 0:
		s.State = StateOpen
	case waits:
		s.State = StatePaused
	case l.breaker.open > 0:
		s.State = StateTesting
	default:
		s.State = StateReady
	}
	return s
}

// jobHeap has the job that is due first at its head; of those due together, in no
// order that means anything but the same each time.
type jobHeap []Job

func (h jobHeap) Len() int { return len(h) }

func (h jobHeap) Less(i, j int) bool {
	if !h[i].Due.Equal(h[j].Due) {
		return h[i].Due.Before(h[j].Due)
	}
	return string(h[i].ID[:]) < string(h[j].ID[:])
}

func (h jobHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

func (h *jobHeap) Push(x any) { *h = append(*h, x.(Job)) }

func (h *jobHeap) Pop() any {
	old := *h
	j := old[len(old)-1]
	*h = old[:len(old)-1]
	return j
}
