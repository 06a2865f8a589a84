package ingest

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/eventstore"
)

// ReplayResult tells what a replay did.
type ReplayResult struct {
	Replayed int // became touchpoints, or stand in the log with the same content
	Failed   int // still cannot be used and stay rejects
	Already  int // had been replayed before
}

const replayChunk = 256

// Replay brings the chosen rejects to the log again, as they would be read
// today: with their first received_at, under the message id they have or were
// given. Each that succeeds is marked by an event of its own, with a
// deterministic id, so that a replay done twice, or broken off and done again,
// adds nothing; one that still fails stays. progress, which may be nil, is told
// the result so far from time to time. Replays follow one another.
func (s *Service) Replay(ctx context.Context, filter ReplayFilter, progress func(ReplayResult)) (ReplayResult, error) {
	s.replaying.Lock()
	defer s.replaying.Unlock()
	if err := s.admission.enter(0, true); err != nil {
		return ReplayResult{}, err
	}
	defer s.admission.leave(0)

	var result ReplayResult
	head, err := s.lastReject(ctx)
	if err != nil {
		return result, err
	}
	for from := uint64(0); from <= head; {
		var rejects []Reject
		rejects, from, err = s.readRejects(ctx, from, head, &filter)
		if err != nil {
			return result, err
		}
		if err := s.replayChunk(ctx, rejects, &result); err != nil {
			return result, err
		}
		if progress != nil {
			progress(result)
		}
	}
	return result, nil
}

// again is the message of a reject, read or made as it would be today.
func (s *Service) again(r *Reject) (m Message) {
	made := false
	if r.From != nil && s.remake != nil {
		m, made = s.remake(r.From, r.Raw)
	}
	if !made {
		var err error
		if m, err = ParseMessage(r.Raw); err != nil {
			m = Unusable(r.Raw, CodeInvalidJSON, "the value is not valid JSON")
		}
		m.Kind, _ = domain.ParseKind(r.Type)
	}
	if m.DefaultID == "" {
		m.DefaultID = r.MessageID
	}
	return m
}

// lastReject is the last revision of the stream of rejects, or one that is
// before any read where there is none.
func (s *Service) lastReject(ctx context.Context) (uint64, error) {
	for e, err := range s.log.ReadStream(ctx, domain.StreamRejects, eventstore.End, eventstore.Backwards) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("read rejects: %w", err)
		}
		return e.Revision, nil
	}
	return 0, nil
}

// readRejects reads the next rejects that match, and returns the revision to go
// on from.
func (s *Service) readRejects(ctx context.Context, from, head uint64, filter *ReplayFilter) ([]Reject, uint64, error) {
	var rejects []Reject
	for e, err := range s.log.ReadStream(ctx, domain.StreamRejects, from, eventstore.Forwards) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			break
		}
		if err != nil {
			return nil, 0, fmt.Errorf("read rejects: %w", err)
		}
		if e.Revision > head {
			break
		}
		if e.Type == domain.TypeReject {
			r, err := ParseReject(e)
			if err != nil {
				return nil, 0, err
			}
			if filter.match(&r) {
				rejects = append(rejects, r)
			}
		}
		if len(rejects) == replayChunk {
			return rejects, e.Revision + 1, nil
		}
	}
	return rejects, math.MaxUint64, nil
}

func (s *Service) replayChunk(ctx context.Context, rejects []Reject, result *ReplayResult) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	marks := make([]uuid.UUID, len(rejects))
	for i := range rejects {
		marks[i] = replayedID(rejects[i].ID)
	}
	done := make([]eventstore.Position, len(marks))
	if err := s.index.Lookup(ctx, marks, done); err != nil {
		return fmt.Errorf("look up replayed rejects: %w", err)
	}
	sc := new(scratch)
	sc.reset(len(rejects))
	var of []int // which reject each item is
	for i := range rejects {
		if done[i] != 0 {
			result.Already++
			continue
		}
		r := &rejects[i]
		m := s.again(r)
		env := &envelope{
			source: r.Source, receivedAt: domain.MillisOf(r.ReceivedAt),
			sentAt: Scalar(r.SentAt), context: []byte(r.Context), integrations: []byte(r.Integrations),
		}
		env.readSentAt()
		if err := s.prepare(sc, env, &m, true); err != nil {
			return err
		}
		sc.items[len(sc.items)-1].replay = true
		of = append(of, i)
	}
	ctx = context.WithoutCancel(ctx)
	if err := s.store(ctx, sc); err != nil {
		return err
	}
	var parts []eventstore.Append
	for j := range sc.items {
		if sc.items[j].state == rejected {
			result.Failed++
			continue
		}
		result.Replayed++
		r := &rejects[of[j]]
		parts = append(parts, eventstore.Append{Stream: domain.StreamRejects, Events: []eventstore.NewEvent{{
			ID: marks[of[j]], Type: domain.TypeRejectReplayed,
			Metadata: fmt.Appendf(nil, `{"v":1,"reject":%q}`, r.ID),
		}}})
	}
	if len(parts) == 0 {
		return nil
	}
	results, err := s.log.AppendMany(ctx, parts)
	if err != nil {
		return fmt.Errorf("mark replayed rejects: %w", err)
	}
	for _, r := range results {
		if r.Err != nil {
			return fmt.Errorf("mark replayed rejects: %w", r.Err)
		}
	}
	s.metrics.replayed.Add(float64(len(parts)))
	return nil
}
