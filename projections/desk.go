package projections

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
	"sojourn/eventstore"
)

// desk decides commands about points against everything that the log holds when they
// come, whatever the views' lag: it follows the log behind a checkpoint of the views
// in memory. Commands that wait are decided together, one after the other, and
// appended in one call. What two desks on one log decide about a customer at once is
// kept apart by the guard stream: the second finds another revision than it expected
// and decides again. See docs/decisions/0008.
type desk struct {
	views *Views
	wake  chan struct{}

	mu      sync.Mutex
	waiting []*errand
	closed  bool

	// work is held while commands are decided; it guards what follows.
	work sync.Mutex
	tail *tail
	// unfinished are transfers of which only the first half stands, by its id.
	unfinished map[uuid.UUID]*command
	begun      bool // those that the last process left have been looked for
}

// errand is somebody who waits for a command to be decided.
type errand struct {
	ctx    context.Context
	decide func(*tail, *errand) error // puts what is to be appended into parts

	id       uuid.UUID
	parts    []eventstore.Append
	made     *command // what the first part is, taken into the tail already
	result   CommandResult
	tries    int // how often others came before it
	ended    bool
	err      error
	finished chan struct{}
}

// tail is the log behind a checkpoint of the views, folded in memory and thrown away.
type tail struct {
	generation *generation
	snapshot   *pebble.Snapshot
	fold       *fold
	decoder    *decoder
	opened     time.Time
	events     int
	fresh      map[uuid.UUID]string // streams of subjects that the state does not know
	// guards are the ends of guard streams, as far as they have been looked at or
	// come by; a decided command moves its own.
	guards map[uuid.UUID]guard
	taken  map[uuid.UUID]bool // commands decided but not yet appended
	// clearing are the customers whose guard streams this round puts in order.
	clearing map[uuid.UUID]bool
}

// guard is the end of a guard stream.
type guard struct {
	exists   bool
	revision uint64
	subjects string // fingerprint; empty where it was closed
	position eventstore.Position
}

const (
	maxTail     = 200_000 // events
	maxTailAge  = 30 * time.Second
	maxErrands  = 500 // decided together
	maxAttempts = 50  // to decide a command that others come before
	// maxRound is how long commands are decided before what is decided is appended,
	// so that a customer with a long history does not hold up everybody.
	maxRound = 100 * time.Millisecond
)

// errBehind says that the log has grown past what was decided on.
var errBehind = errors.New("the log has grown")

// ErrContended is returned for a command that others came before again and again.
var ErrContended = errors.New("too many commands at once")

// submit has a command decided and waits for it to be durable.
func (d *desk) submit(ctx context.Context, id uuid.UUID, decide func(*tail, *errand) error) (CommandResult, error) {
	e := &errand{ctx: ctx, decide: decide, id: id, finished: make(chan struct{})}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return CommandResult{}, errClosed
	}
	d.waiting = append(d.waiting, e)
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
	select {
	case <-e.finished:
		return e.result, e.err
	case <-ctx.Done():
		// It may yet be decided; the same key tells.
		return CommandResult{}, ctx.Err()
	}
}

// run decides commands until the context ends.
func (d *desk) run(ctx context.Context) {
	defer d.close()
	retry := time.NewTicker(time.Second)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		case <-retry.C:
			d.mu.Lock()
			idle := len(d.waiting) == 0
			d.mu.Unlock()
			if idle {
				d.letGo()
				if d.begun && len(d.unfinished) == 0 {
					continue
				}
			}
		}
		for d.serve(ctx) {
		}
	}
}

// close answers those who wait and lets go of the state.
func (d *desk) close() {
	d.mu.Lock()
	d.closed = true
	all := d.waiting
	d.waiting = nil
	d.mu.Unlock()
	for _, e := range all {
		e.end(errClosed)
	}
	d.work.Lock()
	defer d.work.Unlock()
	d.drop()
}

// serve decides some of what waits, and reports whether anything did.
func (d *desk) serve(ctx context.Context) bool {
	d.mu.Lock()
	n := min(len(d.waiting), maxErrands)
	some := d.waiting[:n:n]
	d.waiting = d.waiting[n:]
	d.mu.Unlock()
	d.work.Lock()
	defer d.work.Unlock()
	if err := d.finish(ctx); err != nil {
		d.views.logger.Warn("transfers of points not finished yet", "error", err)
		d.drop()
	}
	if n == 0 {
		return false
	}
	again := d.decide(ctx, some)
	again = slices.DeleteFunc(again, func(e *errand) bool {
		if e.tries < maxAttempts && ctx.Err() == nil {
			return false
		}
		e.end(fmt.Errorf("decide about points: %w", errors.Join(ctx.Err(), ErrContended)))
		return true
	})
	d.mu.Lock()
	d.waiting = append(again, d.waiting...)
	d.mu.Unlock()
	return true
}

// end answers an errand, once.
func (e *errand) end(err error) {
	if !e.ended {
		e.err, e.ended = err, true
		close(e.finished)
	}
}

// decide decides errands and returns those that are to be decided again.
func (d *desk) decide(ctx context.Context, some []*errand) (again []*errand) {
	if err := d.catchUp(ctx); err != nil {
		d.drop()
		for _, e := range some {
			e.end(err)
		}
		return nil
	}
	parts, of, again := d.decideAll(some)
	if len(parts) == 0 {
		return again
	}
	results, err := d.views.cfg.Store.AppendMany(ctx, parts)
	if err != nil {
		// What became of them is not known; the same keys will tell.
		for _, e := range of {
			e.end(fmt.Errorf("append a command about points: %w", err))
		}
		d.drop()
		return again
	}
	made, lost := d.recorded(of, results)
	again = append(again, lost...)
	if err := d.confirm(ctx, made); err != nil {
		d.drop()
		for _, e := range made {
			e.end(fmt.Errorf("the command stands, but what became of it cannot be told yet: %w", err))
		}
	}
	for _, e := range made {
		if !e.ended {
			again = append(again, e) // another server has had the key for another customer
		}
	}
	return again
}

// decideAll has errands decided one behind the other, for as long as a round may
// take. It returns what is to be appended, of whom each part is, and who is to come
// again.
func (d *desk) decideAll(some []*errand) (parts []eventstore.Append, of, again []*errand) {
	t := d.tail
	began := time.Now()
	for i, e := range some {
		if time.Since(began) > maxRound {
			return parts, of, append(again, some[i:]...)
		}
		if err := e.ctx.Err(); err != nil {
			e.end(err)
			continue
		}
		if t.taken[e.id] {
			again = append(again, e) // the same key once more: the log will tell
			continue
		}
		e.parts, e.made, e.result = nil, nil, CommandResult{}
		err := e.decide(t, e)
		if t.fold.err != nil {
			err = t.fold.err
			d.drop()
			for _, e := range some {
				e.end(err)
			}
			return nil, nil, nil
		}
		switch {
		case errors.Is(err, errBehind):
			e.tries++
			again = append(again, e)
		case err != nil, len(e.parts) == 0:
			e.end(err)
		default:
			for range e.parts {
				of = append(of, e)
			}
			parts = append(parts, e.parts...)
			if e.made != nil {
				t.taken[e.id] = true
			}
		}
	}
	return parts, of, again
}

// recorded goes through the results of an append: made are those whose commands the
// log has taken, lost those that are to be decided again.
func (d *desk) recorded(of []*errand, results []eventstore.Result) (made, lost []*errand) {
	outcome := map[*errand]error{}
	stale := false
	for i, r := range results {
		e := of[i]
		switch {
		case r.Err != nil:
			outcome[e] = cmp.Or(outcome[e], r.Err)
		case r.Appended == 0:
			// The guard stream holds an event of this id: another server was told the
			// same key, and perhaps something else under it.
			outcome[e] = cmp.Or(outcome[e], error(eventstore.ErrWrongRevision))
		}
		e.result.Position = r.Position
	}
	for _, e := range slices.Compact(of) {
		switch err := outcome[e]; {
		case errors.Is(err, eventstore.ErrWrongRevision):
			stale = true
			e.tries++
			lost = append(lost, e)
		case err != nil:
			stale = true
			e.end(fmt.Errorf("append a command about points: %w", err))
		case e.made == nil:
			lost = append(lost, e) // its guard stands now
		default:
			made = append(made, e)
		}
	}
	if stale {
		// The tail holds commands that the log does not.
		d.drop()
	}
	return made, lost
}

// confirm looks after an append which of the commands stand, finishes the transfers
// among them, and answers.
func (d *desk) confirm(ctx context.Context, made []*errand) error {
	if len(made) == 0 {
		return nil
	}
	if err := d.catchUp(ctx); err != nil {
		return err
	}
	var stand []*errand
	for _, e := range made {
		at, err := d.tail.positionOf(e.id)
		if err != nil {
			return err
		}
		if at != e.result.Position {
			e.tries++
			continue
		}
		stand = append(stand, e)
		if e.made.Kind == loyalty.TransferOut {
			e.made.position = at
			d.unfinished[e.id] = e.made
		}
	}
	if err := d.finish(ctx); err != nil {
		return err
	}
	for _, e := range stand {
		e.end(nil)
	}
	return nil
}

// drop forgets the tail.
func (d *desk) drop() {
	if d.tail == nil {
		return
	}
	if err := d.tail.snapshot.Close(); err != nil {
		d.views.logger.Warn("snapshot not closed", "error", err)
	}
	d.tail = nil
}

// letGo forgets a tail that nobody has asked for a while.
func (d *desk) letGo() {
	d.work.Lock()
	defer d.work.Unlock()
	if d.tail != nil && time.Since(d.tail.opened) > maxTailAge {
		d.drop()
	}
}

// release lets go of a generation's state, which is about to be closed.
func (d *desk) release(g *generation) {
	d.work.Lock()
	defer d.work.Unlock()
	if d.tail != nil && d.tail.generation == g {
		d.drop()
	}
}

// catchUp brings the tail to the end of the log as it is now.
func (d *desk) catchUp(ctx context.Context) error {
	v := d.views
	for {
		if err := d.open(); err != nil {
			return err
		}
		t := d.tail
		clear(t.taken)
		clear(t.clearing)
		for e, err := range v.cfg.Store.ReadAll(ctx, t.fold.position) {
			if err != nil {
				return fmt.Errorf("read the log: %w", err)
			}
			if err := t.take(&e); err != nil {
				return err
			}
			if t.events >= maxTail {
				break
			}
		}
		if t.events < maxTail {
			return nil
		}
		// The views come nearer first.
		behind := t.generation.state.checkpoint().Position + 1
		head, err := v.cfg.Store.Head(ctx)
		if err != nil {
			return err
		}
		if head > maxTail/2 {
			behind = max(behind, head-maxTail/2)
		}
		d.drop()
		if err := v.WaitFor(ctx, behind); err != nil {
			return err
		}
	}
}

// open has a tail that begins at a checkpoint of the views that answer.
func (d *desk) open() error {
	v := d.views
	v.readers.RLock()
	defer v.readers.RUnlock()
	v.mu.RLock()
	g := v.active
	v.mu.RUnlock()
	if g == nil {
		return errClosed
	}
	if t := d.tail; t != nil && t.generation == g && t.events < maxTail && time.Since(t.opened) < maxTailAge &&
		g.state.checkpoint().Position <= t.fold.position {
		return nil
	}
	d.drop()
	g.state.mu.RLock()
	db, cp := g.state.db.NewSnapshot(), g.state.at
	g.state.mu.RUnlock()
	t := &tail{
		generation: g, snapshot: db, opened: time.Now(),
		fold:    newFold(g.rules, v.cfg.Keyer, snapshot{db}, v.logger),
		decoder: &decoder{rules: g.rules, keyer: v.cfg.Keyer, logger: v.logger},
		fresh:   map[uuid.UUID]string{}, guards: map[uuid.UUID]guard{}, taken: map[uuid.UUID]bool{}, clearing: map[uuid.UUID]bool{},
	}
	t.fold.silent = true
	t.fold.position, t.fold.clock = cp.Position, cp.Clock
	d.tail = t
	return nil
}

// take folds an event of the log.
func (t *tail) take(e *eventstore.Recorded) error {
	t.events++
	if id, ok := domain.GuardCustomer(e.Stream); ok {
		g, err := guardOf(e)
		if err != nil {
			// As if it were closed: the next command looks anew.
			t.fold.logger.Error("entry of a guard stream cannot be read", "error", err)
		}
		t.guards[id] = g
	}
	var a arrival
	t.decoder.decode(e, &a)
	t.decoder.text = nil
	if a.kind == touchpoint {
		t.fresh[domain.SubjectID(a.stream)] = a.stream
	}
	return t.fold.apply(&a)
}

// guardOf is the end of a guard stream, from its last event.
func guardOf(e *eventstore.Recorded) (guard, error) {
	g := guard{exists: true, revision: e.Revision, position: e.Position}
	var d struct {
		Guard string `json:"guard"`
	}
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return g, fmt.Errorf("stream %s, revision %d: %w", e.Stream, e.Revision, err)
	}
	g.subjects = d.Guard
	return g, nil
}

// guard is the end of a customer's guard stream.
func (t *tail) guard(ctx context.Context, id uuid.UUID) (guard, error) {
	if g, ok := t.guards[id]; ok {
		return g, nil
	}
	var g guard
	for e, err := range t.generation.store.ReadStream(ctx, domain.GuardStream(id), eventstore.End, eventstore.Backwards) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			break
		}
		if err != nil {
			return g, fmt.Errorf("read the commands of a customer: %w", err)
		}
		if g, err = guardOf(&e); err != nil {
			t.fold.logger.Error("entry of a guard stream cannot be read", "error", err)
		}
		break
	}
	if g.position > t.fold.position {
		return g, errBehind
	}
	t.guards[id] = g
	return g, nil
}

func (g guard) expected() eventstore.Expected {
	if !g.exists {
		return eventstore.NoStream{}
	}
	return eventstore.Revision(g.revision)
}

// next is the guard stream's end behind one more entry.
func (g guard) next(subjects string) guard {
	n := guard{exists: true, subjects: subjects, position: g.position}
	if g.exists {
		n.revision = g.revision + 1
	}
	return n
}

// subject is the subject that a reference names: a customer's id, which is that of a
// subject, or "kind:value".
func (t *tail) subject(ref string) (*subject, error) {
	f := t.fold
	var stream string
	if id, err := uuid.Parse(ref); err == nil {
		b, err := f.state.load(idKey(id))
		if err != nil {
			return nil, err
		}
		if stream = string(b); stream == "" {
			stream = t.fresh[id]
		}
	} else {
		s, err := domain.ParseSubject(ref)
		if err != nil {
			return nil, badCommand("%s", err)
		}
		stream = f.keyer.Stream(s)
	}
	if stream == "" {
		return nil, ErrNotFound
	}
	s := f.find(stream)
	if s == nil || s.nobody {
		return nil, errors.Join(f.err, notFoundUnless(f.err))
	}
	return s, nil
}

// holder is the customer that a command is about.
type holder struct {
	subject *subject // that it names
	members []*subject
	id      uuid.UUID
	facts   loyalty.Facts
}

func (t *tail) holder(ref string) (*holder, error) {
	s, err := t.subject(ref)
	if err != nil {
		return nil, err
	}
	f := t.fold
	h := &holder{subject: s, members: f.members(f.rootOf(s))}
	first := firstOf(h.members)
	if f.err != nil || first == nil {
		return nil, errors.Join(f.err, notFoundUnless(f.err))
	}
	h.id = first.id
	for _, m := range h.members {
		h.facts.Merge(&m.facts.Loyalty)
	}
	return h, nil
}

// fingerprint identifies the set of a customer's subjects under a policy, whose
// version it begins with.
func (h *holder) fingerprint(policyVersion int) string {
	streams := streamsOf(h.members)
	slices.Sort(streams)
	sum := sha256.Sum256([]byte(strings.Join(streams, " ")))
	return policyPrefix(policyVersion) + hex.EncodeToString(sum[:16])
}

func policyPrefix(version int) string { return strconv.Itoa(version) + ":" }

// clear makes sure that nobody decides about the customer for other subjects than
// these: where its guard stream was last used for others, it closes those of the
// customers that its subjects belonged to, and has the errand come again. It returns
// the guard stream's end and the fingerprint for its next entry.
func (t *tail) clear(h *holder, e *errand) (g guard, print string, ok bool, err error) {
	print = h.fingerprint(t.fold.rules.Version)
	if t.clearing[h.id] {
		return g, print, false, errBehind // another errand of this round sees to it
	}
	if g, err = t.guard(e.ctx, h.id); err != nil {
		return g, print, false, err
	}
	if g.exists && g.subjects == print {
		return g, print, true, nil
	}
	others, err := t.others(h, g)
	if err != nil {
		return g, print, false, err
	}
	if !g.exists && len(others) == 0 {
		return g, print, true, nil
	}
	for _, id := range others {
		o, err := t.guard(e.ctx, id)
		if err != nil {
			return g, print, false, err
		}
		if o.exists && o.subjects == "" {
			continue // who uses it next opens it first, and then reads the log again
		}
		if err := e.guard(id, eventstore.Any{}, ""); err != nil {
			return g, print, false, err
		}
		delete(t.guards, id) // its end is another now; the log tells which
	}
	if err := e.guard(h.id, g.expected(), print); err != nil {
		return g, print, false, err
	}
	delete(t.guards, h.id)
	t.clearing[h.id] = true
	return g, print, false, nil
}

// guard has an entry appended to a guard stream.
func (e *errand) guard(customer uuid.UUID, expected eventstore.Expected, print string) error {
	data, err := json.Marshal(struct {
		Guard string `json:"guard"`
	}{print})
	if err != nil {
		return err
	}
	e.parts = append(e.parts, eventstore.Append{Stream: domain.GuardStream(customer), Expected: expected, Events: []eventstore.NewEvent{
		{ID: uuid.New(), Type: domain.TypeLoyaltyGuard, Data: data},
	}})
	return nil
}

// maxTied bounds how many subjects are looked at that another policy may have made
// one customer with these.
const maxTied = 1000

// others are the customers that somebody else may take the customer's subjects for:
// those that they have belonged to, and where the guard stream was not used under
// this policy, those of all subjects tied to them, which another policy may join.
func (t *tail) others(h *holder, g guard) ([]uuid.UUID, error) {
	var others []uuid.UUID
	seen := map[uuid.UUID]bool{h.id: true}
	add := func(id uuid.UUID) {
		if !seen[id] {
			seen[id] = true
			others = append(others, id)
		}
	}
	for _, m := range h.members {
		if m.first > 0 {
			add(m.id)
		}
		for _, id := range m.been {
			add(id)
		}
	}
	version := t.fold.rules.Version
	if version == 1 || g.exists && strings.HasPrefix(g.subjects, policyPrefix(version)) {
		return others, nil
	}
	found := slices.Clone(h.members)
	known := map[*subject]bool{}
	for _, m := range found {
		known[m] = true
	}
	for i := 0; i < len(found) && len(found) < maxTied; i++ {
		for _, s := range t.fold.tied(found[i]) {
			if !known[s] {
				known[s] = true
				found = append(found, s)
				if s.first > 0 {
					add(s.id)
				}
			}
		}
	}
	return others, t.fold.err
}

// tied are the subjects that joins and decisions connect with one, whatever the
// policy makes of them.
func (f *fold) tied(s *subject) []*subject {
	ties := f.tiesOf(s)
	if ties == nil {
		return nil
	}
	streams := slices.Clone(ties.links)
	for i := range ties.joins {
		streams = append(streams, ties.joins[i].hub)
	}
	for _, p := range ties.decisions {
		if d := f.decisionAt(p); d != nil {
			streams = append(streams, d.streams()...)
		}
	}
	return f.subjectsAt(streams)
}

// now is the instant of a command: behind every other of the customer, so that their
// order is that in which they were decided.
func (t *tail) now(h *holder, now time.Time) domain.Millis {
	at := domain.MillisOf(now)
	if all := h.facts.Commands(); len(all) > 0 {
		at = max(at, all[len(all)-1].At+1)
	}
	return at
}

// known is the event of a command that was decided before, by its id.
func (t *tail) known(ctx context.Context, id uuid.UUID) (*eventstore.Recorded, error) {
	position, err := t.positionOf(id)
	if err != nil || position == 0 {
		return nil, err
	}
	return eventAt(ctx, t.generation.store, position)
}

// positionOf is where a command stands in the log, 0 where it does not.
func (t *tail) positionOf(id uuid.UUID) (eventstore.Position, error) {
	if c := t.fold.commands[id]; c != nil {
		return c.position, nil
	}
	b, err := t.fold.state.load(commandKey(id))
	if err != nil || b == nil {
		return 0, err
	}
	return eventstore.Position(binary.BigEndian.Uint64(b)), nil
}

func eventAt(ctx context.Context, store eventstore.Store, position eventstore.Position) (*eventstore.Recorded, error) {
	for e, err := range store.ReadAll(ctx, position-1) {
		if err == nil && e.Position != position {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the command at position %d: %w", position, err)
		}
		e = e.Clone()
		return &e, nil
	}
	return nil, fmt.Errorf("the log holds no event at position %d", position)
}

// put has a command appended to the guard stream and takes it into the tail, for
// those that are decided behind it.
func (t *tail) put(e *errand, h *holder, g guard, expected eventstore.Expected, d *commandData) error {
	data, err := json.Marshal(d)
	if err != nil {
		return err
	}
	now := time.Now() // an estimate: the log has the last word
	c, err := commandOf(&eventstore.Recorded{NewEvent: eventstore.NewEvent{ID: e.id, Data: data}, RecordedAt: now})
	if err != nil {
		return err
	}
	e.parts = append(e.parts, eventstore.Append{Stream: domain.GuardStream(h.id), Expected: expected, Events: []eventstore.NewEvent{
		{ID: e.id, Type: domain.TypeLoyaltyCommand, Data: data},
	}})
	e.made = c
	t.guards[h.id] = g.next(d.Guard)
	t.fold.command(c)
	return t.fold.err
}

// finish appends the second halves of transfers of which only the first stands.
func (d *desk) finish(ctx context.Context) error {
	if !d.begun {
		if err := d.unfinishedBefore(ctx); err != nil {
			return err
		}
		d.begun = true
	}
	if len(d.unfinished) == 0 {
		return nil
	}
	if err := d.catchUp(ctx); err != nil {
		return err
	}
	var parts []eventstore.Append
	var ids []uuid.UUID
	for id, out := range d.unfinished {
		switch at, err := d.tail.positionOf(out.Of); {
		case err != nil:
			return err
		case at != 0:
			delete(d.unfinished, id)
			continue
		}
		part, err := d.tail.otherHalf(ctx, out)
		if err != nil {
			return err
		}
		parts, ids = append(parts, part), append(ids, id)
	}
	if len(parts) == 0 {
		return nil
	}
	results, err := d.views.cfg.Store.AppendMany(ctx, parts)
	if err != nil {
		return err
	}
	for i, r := range results {
		if r.Err != nil {
			return r.Err
		}
		delete(d.unfinished, ids[i])
	}
	return nil
}

// unfinishedBefore finds the transfers that a process left half done.
func (d *desk) unfinishedBefore(ctx context.Context) error {
	if err := d.catchUp(ctx); err != nil {
		return err
	}
	f := d.tail.fold
	var positions []eventstore.Position
	err := f.state.scan(transferKey([16]byte{}), []byte{'y' + 1}, func(_, value []byte) error {
		positions = append(positions, eventstore.Position(binary.BigEndian.Uint64(value)))
		return nil
	})
	if err != nil {
		return err
	}
	for _, p := range positions {
		e, err := eventAt(ctx, d.views.cfg.Store, p)
		if err != nil {
			return err
		}
		c, err := commandOf(e)
		if err != nil {
			return err
		}
		if f.commands[c.Of] == nil {
			d.unfinished[c.ID] = c
		}
	}
	for _, c := range f.commands {
		if c.Kind == loyalty.TransferOut && f.commands[c.Of] == nil {
			d.unfinished[c.ID] = c
		}
	}
	return nil
}

// otherHalf is the append of a transfer's second event. It is not decided about, so
// whatever the guard stream holds will do.
func (t *tail) otherHalf(ctx context.Context, out *command) (eventstore.Append, error) {
	e, err := eventAt(ctx, t.generation.store, out.position)
	if err != nil {
		return eventstore.Append{}, err
	}
	var d commandData
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return eventstore.Append{}, err
	}
	to := t.fold.subject(d.Other)
	if t.fold.err != nil {
		return eventstore.Append{}, t.fold.err
	}
	id := to.id
	if first := firstOf(t.fold.members(t.fold.rootOf(to))); first != nil {
		id = first.id
	}
	in := commandData{
		Subject: d.Other, Programme: d.Programme, Command: "transfer_in", At: d.At, Points: d.Points, Of: out.ID,
		Parts: d.Parts, Reason: d.Reason, Author: d.Author, Other: d.Subject,
	}
	data, err := json.Marshal(in) // without a fingerprint, so the next command looks anew
	if err != nil {
		return eventstore.Append{}, err
	}
	return eventstore.Append{Stream: domain.GuardStream(id), Expected: eventstore.Any{}, Events: []eventstore.NewEvent{
		{ID: out.Of, Type: domain.TypeLoyaltyCommand, Data: data},
	}}, t.fold.err
}

// expiresOf is the expiry of points as an event has it.
func expiresOf(at domain.Millis) string {
	if at == policy.Never {
		return ""
	}
	return at.String()
}
