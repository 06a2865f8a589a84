package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/policy"
	"sojourn/projections"
)

// Policies keeps the policies and tries them out; *projections.Views does.
type Policies interface {
	// Policies are the versions that were applied, the first first; the last is in
	// force.
	Policies() []projections.PolicyVersion
	// Apply and Rollback put a policy in force. projections.ErrPolicyMoved where
	// another version is in force than the one expected, ErrNoPolicyVersion where
	// there is nothing to go back to, policy.Problems where a policy would change what
	// is past without saying so.
	Apply(ctx context.Context, r projections.Proposal) (version projections.PolicyVersion, applied bool, err error)
	Rollback(ctx context.Context, to int, r projections.Proposal) (version projections.PolicyVersion, applied bool, err error)
	// CheckPolicy is policy.Problems or nil: what keeps a valid policy from being
	// applied now, or from being taken for applied at an earlier time.
	CheckPolicy(p policy.Policy, since time.Time) error
	// StartPreview fails with *projections.PreviewRunningError or
	// projections.ErrBuilding, the others with projections.ErrNoPreview.
	StartPreview(p policy.Policy, since time.Time) (projections.Preview, error)
	Previews() []projections.Preview
	Preview(id uuid.UUID) (projections.Preview, error)
	CancelPreview(id uuid.UUID) (projections.Preview, error)
}

// PolicyProblem is one thing that is wrong with a policy file, and where.
type PolicyProblem struct {
	Line    int    `json:"line" doc:"From 1."`
	Column  int    `json:"column" doc:"From 1."`
	Message string `json:"message"`
}

// PolicyVersion is a policy that was applied.
type PolicyVersion struct {
	Version    int       `json:"version" doc:"1 for the first, one more for each that follows."`
	AppliedAt  time.Time `json:"applied_at"`
	Author     string    `json:"author,omitempty"`
	Reason     string    `json:"reason,omitempty"`
	RollbackTo int       `json:"rollback_to,omitempty" doc:"The version that it repeats, where it was a rollback."`
	Source     string    `json:"source" doc:"The text of the file, as it was given; empty for the default policy."`
}

// PolicyInForce is the answer about the policy in force, or about one version.
type PolicyInForce struct {
	PolicyVersion
	Policy       jsonValue   `json:"policy" doc:"What it says, with every key and the standard names written out."`
	HoldsFrom    []HoldsFrom `json:"holds_from" doc:"From when on its rules about points hold, by programme: a section that says no from holds from the moment of its apply. A later version may put others in their place."`
	ViewsVersion int         `json:"views_version" doc:"The version that the views which answer are built under."`
}

// HoldsFrom says from when on the sections of a programme hold.
type HoldsFrom struct {
	Programme string     `json:"programme"`
	From      *time.Time `json:"from,omitempty" doc:"Before it nothing earns; missing for no beginning, as with the others."`
	Earning   *time.Time `json:"earning,omitempty"`
	Expiry    *time.Time `json:"expiry,omitempty"`
	Value     *time.Time `json:"value,omitempty"`
	Tiers     *time.Time `json:"tiers,omitempty"`
}

// PolicyApplied is the answer to an apply or a rollback.
type PolicyApplied struct {
	PolicyVersion
	Applied bool `json:"applied" doc:"False where this policy was in force already."`
}

// PolicyChange is one key by which two policies differ.
type PolicyChange struct {
	Key  string `json:"key" doc:"Leads to what differs, such as lifecycle.at_risk_days; of a mapping it names the messages."`
	From string `json:"from,omitempty" doc:"The value as JSON, of a mapping its meaning and channel; missing where there is none."`
	To   string `json:"to,omitempty"`
}

// Preview is how far a preview is.
type Preview struct {
	ID        uuid.UUID      `json:"id"`
	State     string         `json:"state" enum:"running,done,cancelled,failed"`
	StartedAt time.Time      `json:"started_at"`
	EndedAt   *time.Time     `json:"ended_at,omitempty"`
	Done      uint64         `json:"done" doc:"Events read."`
	Total     uint64         `json:"total" doc:"Events to read; 0 until that is known."`
	Error     string         `json:"error,omitempty"`
	Report    *PreviewReport `json:"report,omitempty" doc:"Where it is done."`
}

// PreviewReport is what a preview has found.
type PreviewReport struct {
	Position      uint64             `json:"position" doc:"Both policies have read the log up to here …"`
	Clock         time.Time          `json:"clock" doc:"… and are as of this instant."`
	PolicyVersion int                `json:"policy_version" doc:"The old policy, which is in force."`
	Since         *time.Time         `json:"since,omitempty" doc:"The instant as of which the candidate's rules about points were taken for applied; missing where that is the clock."`
	LeftOut       []int              `json:"left_out,omitempty" doc:"The versions of the policy that were applied after since: the candidate's side has nothing of their rules about points. Missing for none."`
	Changes       []PolicyChange     `json:"changes" doc:"By what the candidate differs from it."`
	Lifecycle     PreviewComparison  `json:"lifecycle" doc:"Where customers stand in the lifecycle."`
	Loyalty       []PreviewProgramme `json:"loyalty" doc:"Points and tiers in each programme that either of them has, or one before."`
}

// PreviewProgramme is one programme under both policies.
type PreviewProgramme struct {
	Programme string         `json:"programme"`
	Old       *PreviewPoints `json:"old,omitempty" doc:"Under the policy in force; missing where it does not have the programme."`
	New       *PreviewPoints `json:"new,omitempty" doc:"Under the candidate; missing likewise."`
	Changed   uint64         `json:"changed" doc:"Customers that both know, with other points."`
	Tiers     PreviewTiers   `json:"tiers" doc:"Where customers stand in its tiers."`
}

// PreviewPoints is what all customers of a programme have together.
type PreviewPoints struct {
	Members    uint64 `json:"members" doc:"Customers who are enrolled."`
	Available  int64  `json:"available"`
	Pending    int64  `json:"pending"`
	Debt       int64  `json:"debt" doc:"Points that customers owe."`
	PointValue string `json:"point_value" doc:"What a point is worth, decimal text."`
	Liability  string `json:"liability" doc:"What all available and pending points are worth, decimal text."`
	Currency   string `json:"currency"`
	Earned     int64  `json:"earned" doc:"Ever, like the next ones."`
	Redeemed   int64  `json:"redeemed" doc:"Less what was cancelled."`
	Expired    int64  `json:"expired"`
	Reversed   int64  `json:"reversed" doc:"Taken back for refunds."`
}

// PreviewTiers is where customers stand in the tiers of a programme.
type PreviewTiers struct {
	Old    []PreviewTierCount `json:"old" doc:"Customers in each tier under the policy in force."`
	New    []PreviewTierCount `json:"new" doc:"Customers in each tier under the candidate."`
	Matrix []PreviewTierCell  `json:"matrix" doc:"Customers by both; pairs with nobody in them are left out."`
	Weeks  []PreviewWeek      `json:"weeks" doc:"The weeks in which tiers changed differently, by the tier that the change led to."`
}

// PreviewTierCount counts the customers in a tier.
type PreviewTierCount struct {
	Tier      string `json:"tier"`
	Customers uint64 `json:"customers"`
}

// PreviewTierCell is a pair of tiers.
type PreviewTierCell struct {
	From      string               `json:"from" doc:"The tier under the policy in force; none where the customer is not in the programme, or its subjects are part of another customer there."`
	To        string               `json:"to" doc:"The tier under the candidate; none likewise."`
	Customers uint64               `json:"customers"`
	Examples  []PreviewTierExample `json:"examples" doc:"Some of them, the same at each run."`
}

// PreviewTierExample is one customer of a cell.
type PreviewTierExample struct {
	ID      uuid.UUID            `json:"id"`
	Subject string               `json:"subject" doc:"The one that gives the customer its id."`
	Old     *PreviewTierStanding `json:"old,omitempty" doc:"Missing where the subject is nobody's there, or not in the programme."`
	New     *PreviewTierStanding `json:"new,omitempty" doc:"Missing likewise."`
}

// PreviewTierStanding is the tier of a customer, why, and its points.
type PreviewTierStanding struct {
	ID        uuid.UUID `json:"id" doc:"Another than the example's where its subject is part of this customer."`
	Tier      string    `json:"tier"`
	Since     time.Time `json:"since"`
	Reason    string    `json:"reason"`
	Cause     string    `json:"cause"`
	Subjects  int       `json:"subjects" doc:"How many the customer has."`
	Available int64     `json:"available"`
	Pending   int64     `json:"pending"`
	Debt      int64     `json:"debt"`
}

// PreviewComparison is where customers stand under both policies.
type PreviewComparison struct {
	Old    []PreviewCount `json:"old" doc:"Customers in each stage under the policy in force."`
	New    []PreviewCount `json:"new" doc:"Customers in each stage under the candidate."`
	Matrix []PreviewCell  `json:"matrix" doc:"Customers by both; pairs with nobody in them are left out. Customers are matched by the subject that gives them their id."`
	Weeks  []PreviewWeek  `json:"weeks" doc:"The weeks in which stages changed differently, by when that happened."`
}

// PreviewCount counts the customers in a stage.
type PreviewCount struct {
	Stage     string `json:"stage"`
	Customers uint64 `json:"customers"`
}

// NoStage stands in a matrix for a customer that only one of two policies knows, or
// that is in a programme under one of them only.
const NoStage = "none"

// PreviewCell is a pair of stages.
type PreviewCell struct {
	From      string           `json:"from" doc:"The stage under the policy in force; none where the subjects are part of another customer there."`
	To        string           `json:"to" doc:"The stage under the candidate; none likewise."`
	Customers uint64           `json:"customers"`
	Examples  []PreviewExample `json:"examples" doc:"Some of them, the same at each run."`
}

// PreviewExample is one customer of a cell.
type PreviewExample struct {
	ID      uuid.UUID        `json:"id"`
	Subject string           `json:"subject" doc:"The one that gives the customer its id."`
	Old     *PreviewStanding `json:"old,omitempty" doc:"Missing where the subject is nobody's there."`
	New     *PreviewStanding `json:"new,omitempty" doc:"Missing where the subject is nobody's there."`
}

// PreviewStanding is where a customer stands, and why.
type PreviewStanding struct {
	ID       uuid.UUID `json:"id" doc:"Another than the example's where its subject is part of this customer."`
	Stage    string    `json:"stage"`
	Since    time.Time `json:"since"`
	Reason   string    `json:"reason"`
	Cause    string    `json:"cause"`
	Subjects int       `json:"subjects" doc:"How many the customer has."`
}

// PreviewWeek counts changes in a week by the stage or tier they lead to.
type PreviewWeek struct {
	Week   string            `json:"week" format:"date" doc:"Its Monday, in UTC."`
	Gained map[string]uint64 `json:"gained" doc:"Those that only the candidate knows."`
	Lost   map[string]uint64 `json:"lost" doc:"Those that only the policy in force knows."`
}

// MaxExamples is how many customers a preview keeps of each cell.
const MaxExamples = 100

func versionOf(v projections.PolicyVersion) PolicyVersion {
	return PolicyVersion{v.Version, v.AppliedAt.UTC(), v.Author, v.Reason, v.RollbackTo, v.Source}
}

func holdsFromOf(all []projections.HoldsFrom) []HoldsFrom {
	out := make([]HoldsFrom, len(all))
	for i, h := range all {
		out[i] = HoldsFrom{h.Programme, instantOf(h.From), instantOf(h.Earning), instantOf(h.Expiry), instantOf(h.Value), instantOf(h.Tiers)}
	}
	return out
}

// instantOf is an instant of a rule as JSON, nil for the empty text.
func instantOf(text string) *time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return nil
	}
	return &t
}

func changesOf(all []policy.Change) []PolicyChange {
	out := make([]PolicyChange, len(all))
	for i, c := range all {
		out[i] = PolicyChange(c)
	}
	return out
}

func previewOf(p projections.Preview, examples int) Preview {
	out := Preview{ID: p.ID, State: p.State, StartedAt: p.StartedAt.UTC(), Done: p.Done, Total: p.Total, Error: p.Err}
	if !p.EndedAt.IsZero() {
		t := p.EndedAt.UTC()
		out.EndedAt = &t
	}
	if r := p.Report; r != nil {
		out.Report = &PreviewReport{
			Position: uint64(r.Position), Clock: r.Clock.UTC(), PolicyVersion: r.Policy,
			LeftOut: r.LeftOut, Changes: changesOf(r.Changes), Lifecycle: comparisonOf(&r.Lifecycle, examples), Loyalty: []PreviewProgramme{},
		}
		if !r.Since.IsZero() {
			t := r.Since.UTC()
			out.Report.Since = &t
		}
		for i := range r.Loyalty {
			out.Report.Loyalty = append(out.Report.Loyalty, programmeOf(&r.Loyalty[i], examples))
		}
	}
	return out
}

func orNone(s string) string {
	if s == "" {
		return NoStage
	}
	return s
}

func comparisonOf(c *projections.Comparison, examples int) PreviewComparison {
	counts := func(all []projections.PreviewCount) []PreviewCount {
		out := make([]PreviewCount, len(all))
		for i, s := range all {
			out[i] = PreviewCount{s.Name, s.Customers}
		}
		return out
	}
	standing := func(s *projections.PreviewStanding) *PreviewStanding {
		if s == nil {
			return nil
		}
		return &PreviewStanding{s.Customer, s.Name, s.Since.UTC(), s.Reason, s.Cause, s.Subjects}
	}
	out := PreviewComparison{Old: counts(c.Old), New: counts(c.New), Matrix: []PreviewCell{}, Weeks: weeksOf(c.Weeks)}
	for _, p := range c.Cells {
		cell := PreviewCell{From: orNone(p.From), To: orNone(p.To), Customers: p.Customers, Examples: []PreviewExample{}}
		for _, e := range p.Examples[:min(examples, len(p.Examples))] {
			cell.Examples = append(cell.Examples, PreviewExample{e.Customer, e.Subject, standing(e.Old), standing(e.New)})
		}
		out.Matrix = append(out.Matrix, cell)
	}
	return out
}

func weeksOf(all []projections.PreviewWeek) []PreviewWeek {
	out := make([]PreviewWeek, len(all))
	for i, w := range all {
		out[i] = PreviewWeek{w.Start.Format(time.DateOnly), w.Gained, w.Lost}
	}
	return out
}

func programmeOf(c *projections.LoyaltyComparison, examples int) PreviewProgramme {
	side := func(s *projections.LoyaltySide) *PreviewPoints {
		if s == nil {
			return nil
		}
		t := &s.Totals
		return &PreviewPoints{
			Members: s.Members, Available: t.Available, Pending: t.Pending, Debt: t.Debt,
			PointValue: s.PointValue.String(), Liability: s.Liability.String(), Currency: s.Currency,
			Earned: t.Earned, Redeemed: t.Redeemed, Expired: t.Expired, Reversed: t.Reversed,
		}
	}
	counts := func(all []projections.PreviewCount) []PreviewTierCount {
		out := make([]PreviewTierCount, len(all))
		for i, s := range all {
			out[i] = PreviewTierCount{s.Name, s.Customers}
		}
		return out
	}
	standing := func(s *projections.PreviewStanding) *PreviewTierStanding {
		if s == nil {
			return nil
		}
		return &PreviewTierStanding{s.Customer, s.Name, s.Since.UTC(), s.Reason, s.Cause, s.Subjects, s.Balance.Available, s.Balance.Pending, s.Balance.Debt}
	}
	out := PreviewProgramme{
		Programme: c.Programme, Old: side(c.Old), New: side(c.New), Changed: c.Changed,
		Tiers: PreviewTiers{Old: counts(c.Tiers.Old), New: counts(c.Tiers.New), Matrix: []PreviewTierCell{}, Weeks: weeksOf(c.Tiers.Weeks)},
	}
	for _, p := range c.Tiers.Cells {
		cell := PreviewTierCell{From: orNone(p.From), To: orNone(p.To), Customers: p.Customers, Examples: []PreviewTierExample{}}
		for _, e := range p.Examples[:min(examples, len(p.Examples))] {
			cell.Examples = append(cell.Examples, PreviewTierExample{e.Customer, e.Subject, standing(e.Old), standing(e.New)})
		}
		out.Tiers.Matrix = append(out.Tiers.Matrix, cell)
	}
	return out
}

// CandidateBody is the policy of a request.
type CandidateBody struct {
	Source string `json:"source" doc:"The policy file's text, YAML. What it does not say stays as it is in the default."`
}

// SaidBody is who applies a policy, and why.
type SaidBody struct {
	Author          string `json:"author,omitempty" maxLength:"200" doc:"Who decides."`
	Reason          string `json:"reason,omitempty" maxLength:"2000" doc:"Why, in your own words."`
	ExpectedVersion int    `json:"expected_version,omitempty" minimum:"0" doc:"Apply only where this version is in force, else 409; so a repetition that comes late undoes nothing."`
}

func (a *API) policyOperations() {
	const tag = "Policies"
	versions := func() []projections.PolicyVersion { return a.cfg.Policies.Policies() }
	find := func(n int) (projections.PolicyVersion, error) {
		all := versions()
		if n < 1 || n > len(all) {
			return projections.PolicyVersion{}, huma.Error404NotFound(fmt.Sprintf("there is no policy version %d; the last is %d", n, len(all)))
		}
		return all[n-1], nil
	}

	type policyOutput struct{ Body PolicyInForce }
	whole := func(v projections.PolicyVersion) (*policyOutput, error) {
		canonical, err := v.Policy.MarshalCanonical()
		if err != nil {
			return nil, a.internal("write the policy", err)
		}
		return &policyOutput{PolicyInForce{versionOf(v), canonical, holdsFromOf(v.HoldsFrom), a.cfg.Views.Status().PolicyVersion}}, nil
	}
	huma.Register(a.huma, operation("get-policy", http.MethodGet, "/policies/current", tag,
		"The policy in force", "The policy that was applied last. The views answer by views_version until those under it are built.", 503),
		func(ctx context.Context, in *struct{ AfterParam }) (*policyOutput, error) {
			if err := a.reach(ctx, in.AfterParam); err != nil {
				return nil, err
			}
			all := versions()
			return whole(all[len(all)-1])
		})
	huma.Register(a.huma, operation("get-policy-version", http.MethodGet, "/policies/{version}", tag,
		"A version of the policy", "A policy that was applied, with the text of its file.", 404, 503),
		func(ctx context.Context, in *struct {
			Version int `path:"version" minimum:"1" doc:"The version."`
			AfterParam
		},
		) (*policyOutput, error) {
			if err := a.reach(ctx, in.AfterParam); err != nil {
				return nil, err
			}
			v, err := find(in.Version)
			if err != nil {
				return nil, err
			}
			return whole(v)
		})

	type historyOutput struct {
		Body struct {
			Policies   []PolicyVersion `json:"policies" doc:"The last first."`
			NextCursor string          `json:"next_cursor,omitempty" doc:"Missing on the last page."`
		}
	}
	huma.Register(a.huma, operation("list-policies", http.MethodGet, "/policies", tag,
		"The history of the policy", "All versions that were applied, the last first, with the texts of their files.", 503),
		func(ctx context.Context, in *struct {
			Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"50" doc:"How many at most."`
			Cursor string `query:"cursor" maxLength:"20" doc:"next_cursor of the page before."`
			AfterParam
		},
		) (*historyOutput, error) {
			if err := a.reach(ctx, in.AfterParam); err != nil {
				return nil, err
			}
			all := versions()
			end := len(all)
			if in.Cursor != "" {
				n, err := strconv.Atoi(in.Cursor)
				if err != nil || n < 1 || n > len(all) {
					return nil, huma.Error422UnprocessableEntity("that is no cursor of this list")
				}
				end = n
			}
			out := &historyOutput{}
			out.Body.Policies = []PolicyVersion{}
			for ; end > 0 && len(out.Body.Policies) < in.Limit; end-- {
				out.Body.Policies = append(out.Body.Policies, versionOf(all[end-1]))
			}
			if end > 0 {
				out.Body.NextCursor = strconv.Itoa(end)
			}
			return out, nil
		})

	type validOutput struct {
		Body struct {
			Valid    bool            `json:"valid"`
			Problems []PolicyProblem `json:"problems" doc:"Everything that is wrong with it."`
		}
	}
	huma.Register(a.huma, operation("validate-policy", http.MethodPost, "/policies/validate", tag,
		"Check a policy", "Says what is wrong with a policy file, if anything, and what keeps it from being applied now. Nothing is applied."),
		func(_ context.Context, in *struct{ Body CandidateBody }) (*validOutput, error) {
			_, problems := a.cfg.ParsePolicy(in.Body.Source, a.checkNow)
			out := &validOutput{}
			out.Body.Valid, out.Body.Problems = len(problems) == 0, append([]PolicyProblem{}, problems...)
			return out, nil
		})

	type diffOutput struct {
		Body struct {
			From    int            `json:"from" doc:"The version that is compared."`
			Changes []PolicyChange `json:"changes" doc:"In the order of the document; empty where both say the same."`
		}
	}
	huma.Register(a.huma, operation("diff-policies", http.MethodPost, "/policies/diff", tag,
		"Compare two policies", "What a version, or a policy file, says otherwise than another version, key by key.", 404),
		func(_ context.Context, in *struct {
			Body struct {
				From   int    `json:"from,omitempty" minimum:"0" doc:"A version; without it the one in force."`
				To     int    `json:"to,omitempty" minimum:"0" doc:"The version it is compared with; without it, source is."`
				Source string `json:"source,omitempty" doc:"The text of a policy file."`
			}
		},
		) (*diffOutput, error) {
			if in.Body.To != 0 && in.Body.Source != "" {
				return nil, huma.Error422UnprocessableEntity("give either to or source")
			}
			if in.Body.From == 0 {
				in.Body.From = len(versions())
			}
			from, err := find(in.Body.From)
			if err != nil {
				return nil, err
			}
			var to policy.Policy
			if in.Body.To != 0 {
				v, err := find(in.Body.To)
				if err != nil {
					return nil, err
				}
				to = v.Policy
			} else if to, err = a.candidate(in.Body.Source, nil); err != nil {
				return nil, err
			}
			changes, err := policy.Diff(from.Policy, to)
			if err != nil {
				return nil, a.internal("compare the policies", err)
			}
			out := &diffOutput{}
			out.Body.From, out.Body.Changes = from.Version, changesOf(changes)
			return out, nil
		})

	type appliedOutput struct{ Body PolicyApplied }
	answer := func(v projections.PolicyVersion, applied bool, err error) (*appliedOutput, error) {
		var problems policy.Problems
		switch {
		case errors.As(err, &problems):
			// Another policy was applied since this one was checked.
			details := make([]error, len(problems))
			for i, p := range problems {
				details[i] = &huma.ErrorDetail{Message: p.Message, Location: p.PathString()}
			}
			return nil, huma.Error422UnprocessableEntity("the policy cannot be applied; nothing was", details...)
		case errors.Is(err, projections.ErrPolicyMoved):
			return nil, huma.Error409Conflict(err.Error())
		case errors.Is(err, projections.ErrNoPolicyVersion):
			return nil, huma.Error404NotFound(err.Error())
		case err != nil:
			return nil, a.internal("apply the policy", err)
		}
		return &appliedOutput{PolicyApplied{versionOf(v), applied}}, nil
	}
	huma.Register(a.huma, operation("apply-policy", http.MethodPost, "/policies", tag,
		"Apply a policy", "Puts a policy in force, where it differs from the one that is. Views are built under it beside those that answer, and switched to when they are done; "+
			"values that are nobody's hold for the intake at once. It can be repeated safely.", 409, 429, 503),
		func(ctx context.Context, in *struct {
			Body struct {
				CandidateBody
				SaidBody
			}
		},
		) (*appliedOutput, error) {
			p, err := a.candidate(in.Body.Source, a.checkNow)
			if err != nil {
				return nil, err
			}
			return answer(a.cfg.Policies.Apply(ctx, projections.Proposal{
				Policy: p, Source: in.Body.Source, Author: in.Body.Author, Reason: in.Body.Reason, Expected: in.Body.ExpectedVersion,
			}))
		})
	huma.Register(a.huma, operation("rollback-policy", http.MethodPost, "/policies/rollback", tag,
		"Go back to a version", "Applies a version of the policy again, as a version of its own.", 404, 409, 429, 503),
		func(ctx context.Context, in *struct {
			Body struct {
				Version int `json:"version" minimum:"1" doc:"The version to go back to."`
				SaidBody
			}
		},
		) (*appliedOutput, error) {
			return answer(a.cfg.Policies.Rollback(ctx, in.Body.Version, projections.Proposal{
				Author: in.Body.Author, Reason: in.Body.Reason, Expected: in.Body.ExpectedVersion,
			}))
		})

	type schemaOutput struct {
		ContentType string `header:"Content-Type"`
		Body        []byte
	}
	schema := operation("get-policy-schema", http.MethodGet, "/policies/schema", tag,
		"The schema of a policy", "JSON Schema (2020-12) of a policy file, for editors.")
	schema.Responses = map[string]*huma.Response{"200": {
		Description: "JSON Schema",
		Content:     map[string]*huma.MediaType{"application/schema+json": {Schema: &huma.Schema{Type: huma.TypeObject}}},
	}}
	huma.Register(a.huma, schema, func(context.Context, *struct{}) (*schemaOutput, error) {
		b, err := policy.Schema()
		if err != nil {
			return nil, a.internal("write the schema", err)
		}
		return &schemaOutput{"application/schema+json", b}, nil
	})
	a.previewOperations(tag)
}

// checkNow is what keeps a policy from being applied now.
func (a *API) checkNow(p policy.Policy) error { return a.cfg.Policies.CheckPolicy(p, time.Time{}) }

// candidate reads a policy and checks it; 422 with each problem and its place.
func (a *API) candidate(source string, check func(policy.Policy) error) (policy.Policy, error) {
	p, problems := a.cfg.ParsePolicy(source, check)
	if len(problems) == 0 {
		return p, nil
	}
	return p, huma.Error422UnprocessableEntity("the policy has mistakes; nothing was applied", mistakes(problems)...)
}

// mistakes are those of a file, each with its place.
func mistakes(problems []PolicyProblem) []error {
	details := make([]error, len(problems))
	for i, p := range problems {
		details[i] = &huma.ErrorDetail{Message: p.Message, Location: fmt.Sprintf("body.source:%d:%d", p.Line, p.Column)}
	}
	return details
}

// pastInstant reads the since of a request, the zero time where there is none.
func pastInstant(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	at, ok := policy.Instant(text, time.UTC)
	if ok && at <= domain.MillisOf(time.Now()) {
		return at.Time(), nil
	}
	message := "write a date such as 2026-01-31 or RFC 3339 such as 2026-01-31T12:00:00Z"
	if ok {
		message = "it lies in the future"
	}
	return time.Time{}, huma.Error422UnprocessableEntity("since is no time in the past",
		&huma.ErrorDetail{Location: "body.since", Message: message, Value: domain.Excerpt(text)})
}

func (a *API) previewOperations(tag string) {
	type previewOutput struct {
		Location string `header:"Location" doc:"Where to ask how far it is."`
		Body     Preview
	}
	start := operation("start-preview", http.MethodPost, "/policies/previews", tag,
		"Preview a policy", "Folds a policy over the log in the background, into nothing that anyone reads, to find out what it would change. "+
			"One runs at a time; its result is kept for an hour.", 409, 503)
	start.DefaultStatus = http.StatusAccepted
	huma.Register(a.huma, start, func(_ context.Context, in *struct {
		Body struct {
			CandidateBody
			Since string `json:"since,omitempty" maxLength:"64" example:"2026-01-01" doc:"Take its rules about points for applied at this time, and what was applied later for not: what would they have done since then? RFC 3339, or a date, which means its first millisecond (UTC)."`
		}
	},
	) (*previewOutput, error) {
		since, err := pastInstant(in.Body.Since)
		if err != nil {
			return nil, err
		}
		p, err := a.candidate(in.Body.Source, func(p policy.Policy) error { return a.cfg.Policies.CheckPolicy(p, since) })
		if err != nil {
			return nil, err
		}
		run, err := a.cfg.Policies.StartPreview(p, since)
		var running *projections.PreviewRunningError
		switch {
		case errors.As(err, &running):
			return nil, huma.Error409Conflict(running.Error())
		case errors.Is(err, projections.ErrBuilding):
			return nil, unavailable(err.Error())
		case err != nil:
			return nil, a.internal("begin the preview", err)
		}
		return &previewOutput{"/api/v1/policies/previews/" + run.ID.String(), previewOf(run, 0)}, nil
	})

	type previewsOutput struct {
		Body struct {
			Previews []Preview `json:"previews" doc:"The one that began last first; without their reports."`
		}
	}
	huma.Register(a.huma, operation("list-previews", http.MethodGet, "/policies/previews", tag,
		"List previews", "The preview that runs and those of the last hour, the last 20 at most."),
		func(context.Context, *struct{}) (*previewsOutput, error) {
			out := &previewsOutput{}
			out.Body.Previews = []Preview{}
			for _, p := range a.cfg.Policies.Previews() {
				out.Body.Previews = append(out.Body.Previews, previewOf(p, 0))
			}
			return out, nil
		})

	type onePreviewOutput struct{ Body Preview }
	one := func(p projections.Preview, err error, examples int) (*onePreviewOutput, error) {
		if errors.Is(err, projections.ErrNoPreview) {
			return nil, huma.Error404NotFound("there is no such preview; a result is kept for an hour")
		}
		if err != nil {
			return nil, a.internal("read the preview", err)
		}
		return &onePreviewOutput{previewOf(p, examples)}, nil
	}
	huma.Register(a.huma, operation("get-preview", http.MethodGet, "/policies/previews/{id}", tag,
		"How far a preview is", "Its progress, and once it is done its report.", 404),
		func(_ context.Context, in *struct {
			ID       uuid.UUID `path:"id" format:"uuid" doc:"The id of the preview."`
			Examples int       `query:"examples" minimum:"0" maximum:"100" default:"100" doc:"Customers of each cell at most."`
		},
		) (*onePreviewOutput, error) {
			p, err := a.cfg.Policies.Preview(in.ID)
			return one(p, err, in.Examples)
		})
	huma.Register(a.huma, operation("cancel-preview", http.MethodDelete, "/policies/previews/{id}", tag,
		"Cancel a preview", "Gives up a preview that runs; one that has ended stays as it is.", 404),
		func(_ context.Context, in *struct {
			ID uuid.UUID `path:"id" format:"uuid" doc:"The id of the preview."`
		},
		) (*onePreviewOutput, error) {
			p, err := a.cfg.Policies.CancelPreview(in.ID)
			return one(p, err, 0)
		})
}

// ParsePolicy reads a policy file's text onto the default policy; with problems the
// policy means nothing. Where check is not nil it is asked about a policy that is
// valid, and its policy.Problems are given their places.
type ParsePolicy func(source string, check func(policy.Policy) error) (policy.Policy, []PolicyProblem)
