package projections

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/eventstore"
	"sojourn/warehouse"
)

// utterEvery is how long a statement waits at least for others that are said with
// it. It does not wait for the rows of a flush: who acts on it is in a hurry.
const utterEvery = 25 * time.Millisecond

// maxUttered is of how many customers something is said between two flushes at most;
// of more it is said with the flush, which costs less.
const maxUttered = 2000

// utter makes what is to be said of customers that have changed since they were spoken
// of last, as of the last event. It is what a flush would say, only earlier. Of nil are
// all of them.
func (f *fold) utter(of map[uuid.UUID]bool) (speeches []speech) {
	clock := f.step
	version := warehouse.Version{Position: uint64(f.position), Clock: int64(clock)}
	all, left := f.unsaid, f.unsaid[:0]
	for _, c := range all {
		if of != nil && !of[c.id] {
			left = append(left, c)
			continue
		}
		c.unsaid = false
		if len(c.members) > 0 {
			c.advance(clock)
		}
		sp := speech{customer: c.id, before: c.said}
		f.speakOfStage(c, &sp)
		if len(c.members) == 0 || c.due != 0 {
			if len(c.members) > 0 {
				c.flushed = f.rules.linesAt(c.basis(f.rules), clock)
			}
			f.speak(c, clock, &sp)
		}
		if f.say(c, &sp, version) {
			speeches = append(speeches, sp)
		}
	}
	clear(all[len(left):])
	f.unsaid = left
	return speeches
}

// hushed empties the list of customers of whom there may be something to say.
func (f *fold) hushed() {
	for _, c := range f.unsaid {
		c.unsaid = false
	}
	clear(f.unsaid)
	f.unsaid = f.unsaid[:0]
}

// speakOfStage puts what is to be said of a customer's stage into a speech, where that
// is something else than what is said.
func (f *fold) speakOfStage(c *cust, sp *speech) {
	if f.silent || c.saysWhatStands() {
		return
	}
	desired := make([]sentence, c.n)
	for i := range desired {
		t := &c.all[i]
		desired[i] = sentence{transitionHash(t), Statement{
			From: string(t.From), To: string(t.To), At: t.At.String(), Reason: t.Reason, Cause: t.Cause.String(), News: c.news[i],
		}}
	}
	sp.desired[aboutStage] = &desired
}

// say makes the events of a speech. It reports whether there are any.
func (f *fold) say(c *cust, sp *speech, version warehouse.Version) bool {
	if sp.desired == [abouts]*[]sentence{} {
		return false
	}
	sp.events, c.said = c.said.say(sp, version, f.rules.Version)
	return len(sp.events) > 0
}

// utterance is an instant at which something was said: as of a position and a clock.
type utterance struct {
	at    eventstore.Position
	clock domain.Millis
}

// spoken is an utterance that is in the log, with the customers it is about.
type spoken struct {
	utterance
	of map[uuid.UUID]bool
}

// utterances are those behind a position of the log, in order.
func (g *generation) utterances(ctx context.Context, after eventstore.Position) (all []spoken, err error) {
	head, err := g.store.Head(ctx)
	if err != nil {
		return nil, err
	}
	places := map[utterance]int{}
	for e, err := range g.store.ReadAll(ctx, after) {
		if err != nil {
			return nil, fmt.Errorf("read what was said after position %d: %w", after, err)
		}
		if e.Position > head {
			break // others write: their end is not waited for
		}
		id, ok := domain.StatementCustomer(e.Stream)
		if !ok || !g.shard.holds(id) {
			continue
		}
		u, ok, err := utteredAt(&e)
		if err != nil {
			return nil, err
		}
		if !ok || u.at <= after {
			continue
		}
		i, known := places[u]
		if !known {
			i = len(all)
			places[u], all = i, append(all, spoken{u, map[uuid.UUID]bool{}})
		}
		all[i].of[id] = true
	}
	return all, nil
}

// utteredAt is the instant as of which a statement was said; ok is false for other
// events.
func utteredAt(e *eventstore.Recorded) (u utterance, ok bool, err error) {
	if !isStatement(e.Type) {
		return u, false, nil
	}
	var said Withdrawal // what it has in common with a Statement
	if err := json.Unmarshal(e.Data, &said); err != nil {
		return u, false, fmt.Errorf("statement at position %d: %w", e.Position, err)
	}
	clock, err := time.Parse(time.RFC3339Nano, said.Clock)
	if err != nil {
		return u, false, fmt.Errorf("statement at position %d: %w", e.Position, err)
	}
	return utterance{said.Position, domain.MillisOf(clock)}, true, nil
}

// catchUp goes to where something was said before a crash and says it once more, so
// that the fold knows of it. Of customers of whom nothing was said then, nothing is now:
// time may have found something since that was said later.
func (g *generation) catchUp(ctx context.Context, u spoken) error {
	if g.fold.position < u.at {
		if err := g.read(ctx, u.at, 0); err != nil {
			return err
		}
	}
	g.fold.step = max(g.fold.step, u.clock)
	return g.speakAhead(ctx, u.of)
}

// utter appends what is to be said by now, ahead of the flush that writes the rows.
func (g *generation) utter(ctx context.Context) error {
	g.utteredAt = time.Now()
	if f := g.fold; f.silent || len(f.unsaid) == 0 || len(f.unsaid) > maxUttered {
		return nil
	}
	if g.writing != nil {
		<-g.spoken // statements of the flush under way come first
	}
	return g.speakAhead(ctx, nil)
}

func (g *generation) speakAhead(ctx context.Context, of map[uuid.UUID]bool) error {
	f := g.fold
	speeches := f.utter(of)
	if len(speeches) == 0 {
		return nil
	}
	g.uttered = true
	corrections, err := g.speak(ctx, speeches, warehouse.Version{Position: uint64(f.position), Clock: int64(f.step)})
	if err != nil {
		g.broken = true
		return err
	}
	for id, s := range corrections {
		if c := f.customers[id]; c != nil {
			c.said = s
		}
	}
	return nil
}

// rest brings the views to a checkpoint that holds all that was said, for a stop.
func (g *generation) rest(ctx context.Context) error {
	if g.uttered && !g.broken && g.fold.err == nil {
		if err := g.flush(ctx, g.fold.step, true); err != nil {
			return err
		}
	}
	return g.settle()
}
