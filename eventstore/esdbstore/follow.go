package esdbstore

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"

	"sojourn/eventstore"
)

// step is something a subscription tells: an event, or how far the server is.
type step struct {
	event eventstore.Recorded // without its content; Position is 0 for none
	to    eventstore.Position
}

// Steps that are taken in together, and those that may wait for it.
const (
	stepsTogether = 4096
	stepsAhead    = 8192
)

// followLog keeps the index at the end of the log, until the store is closed. A
// subscription that drops is opened again behind what the index covers.
func (s *Store) followLog() {
	err := s.do(s.closing, "follow the log", true, func(ctx context.Context, n *node) (progress bool, err error) {
		return s.follow(ctx, n)
	})
	if s.closing.Err() == nil {
		s.log.Error("the log is not followed any more", "error", err)
		s.index.fail(fmt.Errorf("%w: %w", eventstore.ErrUnavailable, err))
	}
}

// follow takes in what one subscription tells, until it drops.
func (s *Store) follow(ctx context.Context, n *node) (progress bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	steps, dropped := make(chan step, stepsAhead), make(chan error, 1)
	after := eventstore.Position(s.index.covered.Load())
	go func() {
		defer close(steps)
		dropped <- s.receive(ctx, n, followRequest(after), func(m *streams.ReadResp) error {
			var st step
			switch c := m.GetContent().(type) {
			case *streams.ReadResp_Event:
				e, err := fromServer(c.Event)
				if err != nil {
					return err
				}
				e.Metadata, e.Data = nil, nil
				st = step{event: e, to: e.Position}
			case *streams.ReadResp_Checkpoint_:
				st.to = eventstore.Position(c.Checkpoint.GetCommitPosition())
			default:
				return nil
			}
			if st.to <= after { // told already
				return nil
			}
			after = st.to
			select {
			case steps <- st:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	defer func() {
		cancel()
		for range steps { // until the goroutine has ended
		}
	}()
	var events []eventstore.Recorded
	for st := range steps {
		events = events[:0]
		to := st.to
		for taken, ok := 1, true; ok; taken++ {
			if to = st.to; st.event.Position > 0 {
				events = append(events, st.event)
			}
			if taken == stepsTogether {
				break
			}
			select {
			case st, ok = <-steps:
			default:
				ok = false
			}
		}
		if err := s.index.add(events, to); err != nil {
			return progress, fmt.Errorf("keep the index of event ids: %w", err)
		}
		progress = true
		s.catching.told(s.log, to)
	}
	if err := <-dropped; err != nil {
		return progress, err
	}
	return progress, &again{kind: ErrUnreachable, cause: errDropped}
}

var errDropped = fmt.Errorf("the subscription ended")

// catching is the way of the index to where the log ended at the start. No id is looked
// up before it has come there, which takes minutes where it is made anew.
type catching struct {
	from, to eventstore.Position // to is 0 once it has come there
	began    time.Time
	said     time.Time // when it was told last how far it is, zero for never
}

// tellEvery is how often it is told.
const tellEvery = 5 * time.Second

// told logs how far the index is, where that takes a while.
func (c *catching) told(log *slog.Logger, at eventstore.Position) {
	switch {
	case c.to == 0:
	case at >= c.to:
		if !c.said.IsZero() {
			log.Info("the index of event ids holds the whole log", "took", time.Since(c.began).Round(time.Second))
		}
		c.to = 0
	case time.Since(c.began) >= tellEvery && time.Since(c.said) >= tellEvery:
		c.said = time.Now()
		log.Info("reading the log for the index of event ids; look-ups wait for it", "done", fmt.Sprintf("%d%%", 100*(at-c.from)/(c.to-c.from)))
	}
}
