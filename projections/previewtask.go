package projections

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"path/filepath"
	"time"

	"sojourn/domain"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
	"sojourn/eventstore"
)

// PreviewTask is a preview that is to be computed. As JSON it can be handed to another
// process of the same release.
type PreviewTask struct {
	// Dir holds a copy of the state of the views that answer. Whoever does the task
	// works in it, and may put what the task needs beside it; the Views remove it.
	Dir string
	// Position and Clock are what the views had come to, at least, when the copy was
	// made.
	Position eventstore.Position
	Clock    domain.Millis
	// Applied are the policies that the views follow from, Candidate the one that is
	// compared with the last of them, Since as of StartPreview.
	Applied   []loyalty.AppliedPolicy
	Candidate policy.Policy
	Since     time.Time
	// Flushing says when the views that answer begin a flush, true, and when they have
	// done it; of several the last. Whoever does the task elsewhere may stand aside
	// meanwhile: a flush needs all processors for a moment.
	Flushing <-chan bool `json:"-"`
}

// PreviewLog is the log as a preview needs it.
type PreviewLog interface {
	ReadAll(ctx context.Context, after eventstore.Position) iter.Seq2[eventstore.Recorded, error]
}

func (t *PreviewTask) state() string { return filepath.Join(t.Dir, "old") }

// Run does the task, with all processors that it gets. The log must hold all that the
// state does. progress hears how many events are read of those to read.
func (t *PreviewTask) Run(ctx context.Context, log PreviewLog, keyer domain.Keyer, logger *slog.Logger, progress func(done, total uint64)) (*PreviewReport, error) {
	return t.run(ctx, log, keyer, false, logger, progress)
}

// run compares. The old side is the copy, so only the new one is folded, up to where
// the copy is.
func (t *PreviewTask) run(ctx context.Context, log PreviewLog, keyer domain.Keyer, polite bool, logger *slog.Logger, progress func(done, total uint64)) (_ *PreviewReport, err error) {
	before, err := t.openOld(keyer, polite, logger)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, before.state.close()) }()
	at := before.at
	progress(0, uint64(at.Position))
	changes, err := policy.Diff(before.rules.Policy, t.Candidate)
	if err != nil {
		return nil, err
	}
	history := t.Applied
	applied := loyalty.AppliedPolicy{Policy: t.Candidate, At: at.Clock}
	var leftOut []int
	if !t.Since.IsZero() {
		applied.At = domain.MillisOf(t.Since)
		history = historyUntil(history, applied.At)
		for i := len(history); i < len(t.Applied); i++ {
			leftOut = append(leftOut, i+1)
		}
	}
	state, err := openStateForOnce(filepath.Join(t.Dir, "new"), previewStateBytes, logger)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, state.close()) }()
	g := &generation{
		rules: NewRules(append(history[:len(history):len(history)], applied)...),
		store: countedLog{PreviewLog: log, read: func(p eventstore.Position) { progress(uint64(min(p, at.Position)), uint64(at.Position)) }},
		keyer: keyer, sink: NullSink{}, state: state, mute: true, room: previewRoom, now: time.Now, logger: logger, changed: func() {},
	}
	if err := g.recover(ctx); err != nil {
		return nil, err
	}
	g.fold.polite = polite
	preloaded := make(chan error, 1)
	go func() { preloaded <- before.preload(ctx) }()
	err = g.runTo(ctx, at.Position, at.Clock, nil)
	if err = errors.Join(err, <-preloaded); err != nil {
		return nil, errors.Join(err, g.settle())
	}
	progress(uint64(at.Position), uint64(at.Position))
	// What the fold has in memory need not be read again.
	after := &previewSide{rules: g.rules, state: state, fold: g.fold, at: at, cached: previewRoom}
	stages, programmes, err := compareSides(ctx, before, after)
	if err != nil {
		return nil, err
	}
	return &PreviewReport{
		Position: at.Position, Clock: at.Clock.Time(), Policy: before.rules.Version, Changes: changes, Since: t.Since, LeftOut: leftOut,
		Lifecycle: *stages, Loyalty: programmes,
	}, nil
}

// openOld opens the copy of the state.
func (t *PreviewTask) openOld(keyer domain.Keyer, polite bool, logger *slog.Logger) (*previewSide, error) {
	s, err := openStateToRead(t.state(), previewStateBytes, logger)
	if err != nil {
		return nil, err
	}
	at := checkpoint{Position: t.Position, Clock: t.Clock}
	// The state may have been flushed since, or have passed over events and time
	// that changed nothing, which it does not write.
	if c := s.checkpoint(); c.Position > at.Position || c.Clock > at.Clock {
		at = c
	}
	f := newFold(NewRules(t.Applied...), keyer, s, logger)
	f.polite = polite
	f.position, f.clock, f.step = at.Position, at.Clock, at.Clock
	return &previewSide{rules: f.rules, state: s, fold: f, at: at, cached: 20_000}, nil
}

// countedLog is a log that tells, now and then, to which position it is read. A mute
// fold asks nothing else of it.
type countedLog struct {
	eventstore.Store // nil
	PreviewLog
	read func(eventstore.Position)
}

// ReadAll implements eventstore.Store.
func (l countedLog) ReadAll(ctx context.Context, after eventstore.Position) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		n := 0
		for e, err := range l.PreviewLog.ReadAll(ctx, after) {
			if n++; n%1024 == 0 && err == nil {
				l.read(e.Position)
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// preload reads the state in the order in which it stands, which is much faster than
// one record after another as they are asked for; not where it is too large for
// that.
func (p *previewSide) preload(ctx context.Context) error {
	f := p.fold
	var b breath
	records := 0
	each := func(kind byte, take func(key string, value []byte) error) error {
		return p.state.scan([]byte{kind}, []byte{kind + 1}, func(key, value []byte) error {
			if records++; records > 3*previewRoom {
				return errTooMany
			}
			if records%512 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			if f.polite {
				b.take()
			}
			return take(string(key[1:]), value)
		})
	}
	err := each(subjectKey("")[0], func(stream string, value []byte) error {
		s, err := parseSubject(stream, value)
		if err != nil {
			return fmt.Errorf("state of %s: %w", stream, err)
		}
		s.nobody = f.rules.compiled.Identity().Nobody(s.value)
		f.subjects[keyOf(stream)] = s
		return nil
	})
	if err == nil {
		err = each(membersKey("")[0], func(stream string, value []byte) error {
			if s := f.subjects[keyOf(stream)]; s != nil && s.memberCount > 0 {
				r := reader{b: value}
				r.version()
				s.members = r.strings()
				return r.done()
			}
			return nil
		})
	}
	if err == nil {
		err = each(customerKey([16]byte{})[0], func(id string, value []byte) error {
			c := &cust{}
			copy(c.id[:], id)
			f.customers[c.id] = c
			return c.parse(value)
		})
	}
	switch {
	case errors.Is(err, errTooMany):
		clear(f.subjects)
		clear(f.customers)
		return nil
	case err != nil:
		return fmt.Errorf("read the state of the views: %w", err)
	}
	p.cached = previewRoom
	return f.err
}

var errTooMany = errors.New("too many records to be kept in memory")
