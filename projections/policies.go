package projections

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"sojourn/domain"
	"sojourn/domain/policy"
	"sojourn/eventstore"
)

// appliedPolicy is the data of a policy.applied.v1 event.
type appliedPolicy struct {
	// Policy is the policy in its canonical form, Source the text it was written
	// in, empty for the default.
	Policy json.RawMessage `json:"policy"`
	Source string          `json:"source,omitempty"`
}

// ErrNoPolicy is returned where no policy was ever applied.
var ErrNoPolicy = errors.New("no policy has been applied")

// ApplyPolicy appends a policy to the log where it differs from the one in force,
// and returns its version: 1 for the first, one more for each that follows.
// source is the text it was read from. It is durable on return; the views are
// built under it at their next start.
func ApplyPolicy(ctx context.Context, store eventstore.Store, p policy.Policy, source string) (version int, applied bool, err error) {
	canonical, err := p.MarshalCanonical()
	if err != nil {
		return 0, false, fmt.Errorf("apply policy: %w", err)
	}
	// An event holds it with &, < and > escaped.
	recorded, err := json.Marshal(json.RawMessage(canonical))
	if err != nil {
		return 0, false, fmt.Errorf("apply policy: %w", err)
	}
	for {
		expected := eventstore.Expected(eventstore.NoStream{})
		version = 1
		for e, err := range store.ReadStream(ctx, domain.StreamPolicy, eventstore.End, eventstore.Backwards) {
			if errors.Is(err, eventstore.ErrStreamNotFound) {
				break
			}
			if err != nil {
				return 0, false, fmt.Errorf("read the policy in force: %w", err)
			}
			var last appliedPolicy
			if err := json.Unmarshal(e.Data, &last); err != nil {
				return 0, false, fmt.Errorf("read policy version %d: %w", e.Revision+1, err)
			}
			if bytes.Equal(last.Policy, recorded) {
				return int(e.Revision) + 1, false, nil
			}
			version = int(e.Revision) + 2
			expected = eventstore.Revision(e.Revision)
			break
		}
		data, err := json.Marshal(appliedPolicy{canonical, source})
		if err != nil {
			return 0, false, fmt.Errorf("apply policy: %w", err)
		}
		id := domain.StatementID(domain.StreamPolicy, uint64(version-1), canonical)
		_, err = store.Append(ctx, domain.StreamPolicy, expected, eventstore.NewEvent{ID: id, Type: domain.TypePolicyApplied, Data: data})
		if errors.Is(err, eventstore.ErrWrongRevision) {
			continue // another server has applied one; compare again
		}
		if err != nil {
			return 0, false, fmt.Errorf("apply policy: %w", err)
		}
		return version, true, nil
	}
}

// appliedRules is a policy of the log and when it was recorded.
type appliedRules struct {
	*Rules
	recordedAt domain.Millis
}

// readPolicies reads all policies of the log, oldest first.
func readPolicies(ctx context.Context, store eventstore.Store) ([]appliedRules, error) {
	var all []appliedRules
	for e, err := range store.ReadStream(ctx, domain.StreamPolicy, 0, eventstore.Forwards) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the policies: %w", err)
		}
		var a appliedPolicy
		if err := json.Unmarshal(e.Data, &a); err != nil {
			return nil, fmt.Errorf("read policy version %d: %w", e.Revision+1, err)
		}
		p, err := policy.Decode(a.Policy)
		if err != nil {
			return nil, fmt.Errorf("read policy version %d: %w", e.Revision+1, err)
		}
		all = append(all, appliedRules{NewRules(int(e.Revision)+1, p), domain.MillisOf(e.RecordedAt)})
	}
	if len(all) == 0 {
		return nil, ErrNoPolicy
	}
	return all, nil
}
