package projections

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"sojourn/domain"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
	"sojourn/eventstore"
)

// appliedPolicy is the data of a policy.applied.v1 event.
type appliedPolicy struct {
	// Policy is the policy in its canonical form, Source the text it was written
	// in, empty for the default.
	Policy json.RawMessage `json:"policy"`
	Source string          `json:"source,omitempty"`
	Author string          `json:"author,omitempty"`
	Reason string          `json:"reason,omitempty"`
	// RollbackTo is the version that it repeats, where it was applied as such.
	RollbackTo int `json:"rollback_to,omitempty"`
}

// policyFile is the data of a policy.file_read.v1 event: the text of the file that
// a start has read (empty where there was none), and the version that was in force
// then.
type policyFile struct {
	Source  string `json:"source"`
	Version int    `json:"version"`
}

var (
	// ErrNoPolicy is returned where no policy was ever applied.
	ErrNoPolicy = errors.New("no policy has been applied")
	// ErrNoPolicyVersion is returned for a version that was never applied.
	ErrNoPolicyVersion = errors.New("no such version of the policy")
	// ErrPolicyMoved is returned where another version is in force than the one
	// that was expected.
	ErrPolicyMoved = errors.New("another version of the policy is in force by now")
)

// Proposal is a policy that somebody wants in force. It must be valid; what it may not
// do to rules about points that hold already is checked when it is applied.
type Proposal struct {
	Policy policy.Policy
	// Source is the text it was read from, empty for the default policy. Author and
	// Reason may be empty.
	Source, Author, Reason string
	// Expected, where not 0, is the version that must be in force.
	Expected int

	rollbackTo int
}

// PolicyVersion is a policy that was applied.
type PolicyVersion struct {
	// Version is 1 for the first, one more for each that follows.
	Version   int
	AppliedAt time.Time
	// Source is the text it was read from, empty for the default policy.
	Source, Author, Reason string
	// RollbackTo is the version that it repeats, 0 where it was no rollback.
	RollbackTo int
	// Policy has all standard names written out.
	Policy policy.Policy
	// HoldsFrom says from when on its rules about points hold, by programme in its
	// order.
	HoldsFrom []HoldsFrom
}

// HoldsFrom says from when on the sections of a programme hold, RFC 3339; empty
// where a section has no beginning. They are as that version left them: a later one
// may put others in their place.
type HoldsFrom struct {
	Programme string
	// From is the instant before which nothing earns.
	From                          string
	Earning, Expiry, Value, Tiers string
}

// holdsFrom are the programmes of the last policy of a rulebook.
func holdsFrom(book *loyalty.Rulebook) []HoldsFrom {
	var all []HoldsFrom
	for _, p := range book.Programmes() {
		if !p.Running {
			continue
		}
		r := p.InForce(policy.Never)
		h := HoldsFrom{Programme: p.ID, Earning: r.Earning.From, Expiry: r.Expiry.From, Value: r.Value.From, Tiers: r.Tiers.From}
		if p.From != policy.Always {
			h.From = p.From.String()
		}
		all = append(all, h)
	}
	return all
}

// ApplyPolicy appends a policy to the log where it differs from the one in force,
// and returns its version: 1 for the first, one more for each that follows.
// source is the text it was read from. It is durable on return; the views are
// built under it at their next start. policy.Problems where it would change what is
// past without saying so.
func ApplyPolicy(ctx context.Context, store eventstore.Store, p policy.Policy, source string) (version int, applied bool, err error) {
	return propose(ctx, store, Proposal{Policy: p, Source: source}, time.Now())
}

// propose applies a policy at the present instant.
func propose(ctx context.Context, store eventstore.Store, r Proposal, now time.Time) (version int, applied bool, err error) {
	canonical, err := r.Policy.MarshalCanonical()
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
		var last appliedPolicy
		e, ok, err := lastOf(ctx, store, domain.StreamPolicy, &last)
		if err != nil {
			return 0, false, fmt.Errorf("read the policy in force: %w", err)
		}
		if ok {
			if bytes.Equal(last.Policy, recorded) {
				return int(e.Revision) + 1, false, nil
			}
			version = int(e.Revision) + 2
			expected = eventstore.Revision(e.Revision)
		}
		if r.Expected != 0 && r.Expected != version-1 {
			return 0, false, fmt.Errorf("%w: version %d", ErrPolicyMoved, version-1)
		}
		if ok && r.rollbackTo == 0 {
			history, err := readPolicies(ctx, store)
			if err != nil {
				return 0, false, err
			}
			if err := loyalty.Check(historyOf(history), r.Policy, domain.MillisOf(now)); err != nil {
				return 0, false, err
			}
		}
		data, err := json.Marshal(appliedPolicy{canonical, r.Source, r.Author, r.Reason, r.rollbackTo})
		if err != nil {
			return 0, false, fmt.Errorf("apply policy: %w", err)
		}
		id := domain.StatementID(domain.StreamPolicy, uint64(version-1), data)
		_, err = store.Append(ctx, domain.StreamPolicy, expected, eventstore.NewEvent{ID: id, Type: domain.TypePolicyApplied, Data: data})
		if errors.Is(err, eventstore.ErrWrongRevision) {
			continue // another has applied one; compare again
		}
		if err != nil {
			return 0, false, fmt.Errorf("apply policy: %w", err)
		}
		return version, true, nil
	}
}

// PolicyInForce is the policy that was applied last, and its version; nil where that is
// the version known already. ErrNoPolicy where there is none.
func PolicyInForce(ctx context.Context, store eventstore.Store, known int) (version int, rules *policy.Compiled, err error) {
	var a appliedPolicy
	e, ok, err := lastOf(ctx, store, domain.StreamPolicy, &a)
	if err != nil {
		return 0, nil, fmt.Errorf("read the policy in force: %w", err)
	}
	if !ok {
		return 0, nil, ErrNoPolicy
	}
	if version = int(e.Revision) + 1; version == known {
		return version, nil, nil
	}
	p, err := policy.Decode(a.Policy)
	if err != nil {
		return 0, nil, fmt.Errorf("read policy version %d: %w", version, err)
	}
	return version, p.Compile(), nil
}

// lastOf reads the data of the last event of a stream; ok is false where there is
// none.
func lastOf(ctx context.Context, store eventstore.Store, stream string, data any) (last eventstore.Recorded, ok bool, err error) {
	for e, err := range store.ReadStream(ctx, stream, eventstore.End, eventstore.Backwards) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			break
		}
		if err != nil {
			return last, false, err
		}
		if err := json.Unmarshal(e.Data, data); err != nil {
			return last, false, fmt.Errorf("%s, revision %d: %w", stream, e.Revision, err)
		}
		return e.Clone(), true, nil
	}
	return last, false, nil
}

// ApplyPolicyFile applies the policy of the file that a server reads at its start,
// where the file is another than at the start before, or nothing was applied since:
// so a restart undoes no apply. source is the file's text, empty where there is
// none. The results are those of ApplyPolicy. It is called before Start.
func ApplyPolicyFile(ctx context.Context, store eventstore.Store, p policy.Policy, source string) (version int, applied bool, err error) {
	var before policyFile
	e, read, err := lastOf(ctx, store, domain.StreamPolicyFile, &before)
	if err != nil {
		return 0, false, fmt.Errorf("read which policy file the last start has read: %w", err)
	}
	in, _, err := lastOf(ctx, store, domain.StreamPolicy, &appliedPolicy{})
	if err != nil {
		return 0, false, fmt.Errorf("read the policy in force: %w", err)
	}
	// Where nothing was applied since, a release that knows other standard names
	// reads the same file otherwise.
	if inForce := int(in.Revision) + 1; read && before.Source == source && before.Version != inForce {
		return inForce, false, nil
	}
	if version, applied, err = ApplyPolicy(ctx, store, p, source); err != nil {
		return version, applied, err
	}
	now := policyFile{source, version}
	if read && now == before {
		return version, applied, nil
	}
	// After a crash before this one the start does it all again.
	data, err := json.Marshal(now)
	if err != nil {
		return version, applied, fmt.Errorf("keep which policy file was read: %w", err)
	}
	expected, revision := eventstore.Expected(eventstore.NoStream{}), uint64(0)
	if read {
		expected, revision = eventstore.Revision(e.Revision), e.Revision+1
	}
	_, err = store.Append(ctx, domain.StreamPolicyFile, expected, eventstore.NewEvent{
		ID: domain.StatementID(domain.StreamPolicyFile, revision, data), Type: domain.TypePolicyFileRead, Data: data,
	})
	if err != nil {
		err = fmt.Errorf("keep which policy file was read: %w", err)
	}
	return version, applied, err
}

// appliedRules is a policy of the log and when it was recorded.
type appliedRules struct {
	*Rules
	recordedAt domain.Millis
	said       appliedPolicy
}

func (a *appliedRules) version() PolicyVersion {
	return PolicyVersion{
		Version: a.Version, AppliedAt: a.recordedAt.Time(), Source: a.said.Source,
		Author: a.said.Author, Reason: a.said.Reason, RollbackTo: a.said.RollbackTo, Policy: a.Policy,
		HoldsFrom: holdsFrom(a.book),
	}
}

// readPolicies reads all policies of the log, oldest first.
func readPolicies(ctx context.Context, store eventstore.Store) ([]appliedRules, error) {
	return readPoliciesFrom(ctx, store, nil)
}

// readPoliciesFrom reads the policies that follow those known already.
func readPoliciesFrom(ctx context.Context, store eventstore.Store, all []appliedRules) ([]appliedRules, error) {
	history := historyOf(all)
	for e, err := range store.ReadStream(ctx, domain.StreamPolicy, uint64(len(all)), eventstore.Forwards) {
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
		a.Policy = nil
		at := domain.MillisOf(e.RecordedAt)
		history = append(history, loyalty.AppliedPolicy{Policy: p, At: at, Rollback: a.RollbackTo > 0})
		all = append(all, appliedRules{NewRules(history...), at, a})
	}
	if len(all) == 0 {
		return nil, ErrNoPolicy
	}
	return all, nil
}

// historyOf are policies as the rules about points follow from them.
func historyOf(all []appliedRules) []loyalty.AppliedPolicy {
	history := make([]loyalty.AppliedPolicy, len(all))
	for i, a := range all {
		history[i] = loyalty.AppliedPolicy{Policy: a.Policy, At: a.recordedAt, Rollback: a.said.RollbackTo > 0}
	}
	return history
}

// applied are the policies that were applied, oldest first. The slice is only read.
func (v *Views) applied() []appliedRules {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.policies
}

func (v *Views) latest() *Rules {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.rules
}

// InForce is the policy that was applied last, whatever the views are built under.
// It asks nothing and waits for nobody.
func (v *Views) InForce() *policy.Compiled { return v.inForce.Load().compiled }

// Policies are the versions of the policy, the first first; the last is in force.
func (v *Views) Policies() []PolicyVersion {
	known := v.applied()
	all := make([]PolicyVersion, len(known))
	for i := range known {
		all[i] = known[i].version()
	}
	return all
}

// Apply puts a policy in force where it differs from the one that is: it is durable
// when this returns, and from then on InForce is it. Views are built under it
// beside those that answer, and switched to when they are done; a policy that comes
// meanwhile takes its place. version is the one in force. ErrPolicyMoved where the
// proposal expects another, policy.Problems where it would change what is past without
// saying so.
func (v *Views) Apply(ctx context.Context, r Proposal) (version PolicyVersion, applied bool, err error) {
	v.applying.Lock()
	defer v.applying.Unlock()
	if v.ctx.Err() != nil {
		return version, false, ErrClosed
	}
	n, applied, err := propose(ctx, v.cfg.Store, r, v.cfg.Now())
	if err != nil {
		return version, false, err
	}
	// What is durable is taken up even where the caller has gone.
	if err := v.learnPolicies(context.WithoutCancel(ctx)); err != nil {
		return version, false, err
	}
	all := v.applied()
	if applied {
		v.logger.Info("a policy is in force from now on", "version", n)
	}
	return all[n-1].version(), applied, nil
}

// learnPolicies takes up the policies that were applied since, here or elsewhere.
func (v *Views) learnPolicies(ctx context.Context) error {
	all, err := readPoliciesFrom(ctx, v.cfg.Store, v.applied())
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(all) > len(v.policies) {
		v.policies = all
		v.inForce.Store(all[len(all)-1].Rules)
		v.renew()
	}
	return nil
}

// CheckPolicy says what keeps a valid policy from being applied now, or had kept it
// from that at another time; it returns nil or policy.Problems. The zero time is now.
func (v *Views) CheckPolicy(p policy.Policy, since time.Time) error {
	if since.IsZero() {
		return loyalty.Check(historyOf(v.applied()), p, domain.MillisOf(v.cfg.Now()))
	}
	at := domain.MillisOf(since)
	return loyalty.Check(historyUntil(historyOf(v.applied()), at), p, at)
}

// historyUntil are the policies that had been applied at an instant, as the rules
// about points follow from them. The first is always among them: its rules have no
// beginning.
func historyUntil(all []loyalty.AppliedPolicy, at domain.Millis) []loyalty.AppliedPolicy {
	history := slices.Clone(all)
	history[0].At = min(history[0].At, at)
	n := 1
	for n < len(history) && history[n].At <= at {
		n++
	}
	return history[:n]
}

// Rollback puts a version of the policy in force again, which is another apply: it
// gets a version of its own. The proposal's policy and source are those of that
// version. ErrNoPolicyVersion where there is none.
func (v *Views) Rollback(ctx context.Context, to int, r Proposal) (version PolicyVersion, applied bool, err error) {
	all := v.applied()
	if to < 1 || to > len(all) {
		return version, false, ErrNoPolicyVersion
	}
	r.Policy, r.Source, r.rollbackTo = all[to-1].Policy, all[to-1].said.Source, to
	return v.Apply(ctx, r)
}
