package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/projections"
)

// AccountRef names an account in a path.
type AccountRef struct {
	ID string `path:"id" maxLength:"32768" doc:"An account id, or account: and the groupId of its group calls." example:"account:acme"`
}

type accountBody struct {
	ID         uuid.UUID            `json:"id"`
	GroupID    string               `json:"group_id" doc:"The groupId of its group calls."`
	Stage      string               `json:"stage,omitempty" doc:"As of a customer; missing, as are since, reason and cause, where the policy gives accounts no stage (lifecycle.accounts), or nobody is a member."`
	StageSince *time.Time           `json:"stage_since,omitempty"`
	Reason     string               `json:"reason,omitempty" doc:"Why the account is in the stage, in words."`
	Cause      string               `json:"cause,omitempty" doc:"What caused the last transition: touchpoint:<event id> or deadline:<rule>:<event id it counts from>."`
	Purchases  int                  `json:"purchases" doc:"Purchases of its members that are not fully refunded; 0 where accounts have no stage."`
	Refunds    int                  `json:"refunds" doc:"Refund events."`
	Revenue    map[string]string    `json:"revenue" doc:"Orders less refunds, by currency, as decimal text."`
	FirstSeen  time.Time            `json:"first_seen" doc:"Earliest of its members' touchpoints; of its group calls where accounts have no stage."`
	LastSeen   time.Time            `json:"last_seen"`
	Traits     map[string]jsonValue `json:"traits" doc:"Of each key the latest value that a group call gave."`
	Members    int                  `json:"members" doc:"How many customers are members."`
	AsOf       time.Time            `json:"as_of" doc:"The time the answer is about."`
}

func accountOf(a projections.Account) accountBody {
	b := accountBody{
		ID: a.ID, GroupID: a.GroupID, Stage: a.Stage, Reason: a.Reason, Cause: a.Cause,
		Purchases: a.Purchases, Refunds: a.Refunds, Revenue: a.Revenue,
		FirstSeen: a.FirstSeen.UTC(), LastSeen: a.LastSeen.UTC(), Traits: a.Traits, Members: a.Members, AsOf: a.AsOf.UTC(),
	}
	if a.Stage != "" {
		since := a.StageSince.UTC()
		b.StageSince = &since
	}
	if b.Revenue == nil {
		b.Revenue = map[string]string{}
	}
	if b.Traits == nil {
		b.Traits = map[string]jsonValue{}
	}
	return b
}

type memberBody struct {
	CustomerID uuid.UUID `json:"customer_id"`
	Since      time.Time `json:"since" doc:"The occurred_at of the first group call that attaches the customer."`
}

func (a *API) accountOperations() {
	const tag = "Accounts"

	type accountsOutput struct {
		Body struct {
			Accounts   []accountBody `json:"accounts"`
			NextCursor string        `json:"next_cursor,omitempty" doc:"Missing on the last page."`
		}
	}
	huma.Register(a.huma, operation("list-accounts", http.MethodGet, "/accounts", tag,
		"List accounts", "All accounts, now or at another time; each as it was then. "+
			"With known_at the log is read up to there first, which takes a while where nobody has asked about that time lately.", 503),
		func(ctx context.Context, in *struct {
			Asked
			Page
			AfterParam
		},
		) (*accountsOutput, error) {
			if err := a.await(ctx, in.AfterParam); err != nil {
				return nil, err
			}
			all, next, err := a.cfg.Views.Accounts(ctx, in.Limit, in.Cursor, in.at())
			if err != nil {
				return nil, a.viewError("list accounts", in.at(), err, nil)
			}
			out := &accountsOutput{}
			out.Body.Accounts = make([]accountBody, 0, len(all))
			for _, x := range all {
				out.Body.Accounts = append(out.Body.Accounts, accountOf(x))
			}
			out.Body.NextCursor = next
			return out, nil
		})

	type accountOutput struct{ Body accountBody }
	huma.Register(a.huma, operation("get-account", http.MethodGet, "/accounts/{id}", tag,
		"Where an account stands", "The traits, the totals and the stage of an account now or at another time.", 404, 503),
		func(ctx context.Context, in *struct {
			AccountRef
			Asked
			AfterParam
		},
		) (*accountOutput, error) {
			if err := a.accountAskable(ctx, in.ID, in.AfterParam); err != nil {
				return nil, err
			}
			x, err := a.cfg.Views.Account(ctx, in.ID, in.at())
			if err != nil {
				return nil, a.viewError("read the account", in.at(), err, nil)
			}
			return &accountOutput{accountOf(x)}, nil
		})

	type membersOutput struct {
		Body struct {
			Members    []memberBody `json:"members"`
			NextCursor string       `json:"next_cursor,omitempty" doc:"Missing on the last page."`
		}
	}
	huma.Register(a.huma, operation("list-account-members", http.MethodGet, "/accounts/{id}/members", tag,
		"An account's members", "The customers that group calls attach to an account, now or at another time, by their ids.", 404, 503),
		func(ctx context.Context, in *struct {
			AccountRef
			Asked
			Page
			AfterParam
		},
		) (*membersOutput, error) {
			if err := a.accountAskable(ctx, in.ID, in.AfterParam); err != nil {
				return nil, err
			}
			all, next, err := a.cfg.Views.AccountMembers(ctx, in.ID, in.at(), in.Cursor, in.Limit)
			if err != nil {
				return nil, a.viewError("list the members", in.at(), err, nil)
			}
			out := &membersOutput{}
			out.Body.Members = make([]memberBody, 0, len(all))
			for _, m := range all {
				out.Body.Members = append(out.Body.Members, memberBody{m.Customer, m.Since.UTC()})
			}
			out.Body.NextCursor = next
			return out, nil
		})

	huma.Register(a.huma, operation("get-account-timeline", http.MethodGet, "/accounts/{id}/timeline", tag,
		"An account's timeline", "The touchpoints of the account's members and the account's own changes of stage, one list in the order of time.", 404, 503),
		func(ctx context.Context, in *struct {
			AccountRef
			Asked
			Page
			AfterParam
		},
		) (*timelineOutput, error) {
			if err := a.accountAskable(ctx, in.ID, in.AfterParam); err != nil {
				return nil, err
			}
			es, next, err := a.cfg.Views.AccountTimeline(ctx, in.ID, in.at(), in.Cursor, in.Limit)
			if err != nil {
				return nil, a.viewError("read the timeline", in.at(), err, nil)
			}
			return timelineOf(es, next), nil
		})
}

// accountAskable checks an account's reference before anything waits for it.
func (a *API) accountAskable(ctx context.Context, ref string, p AfterParam) error {
	if _, err := uuid.Parse(ref); err != nil || len(ref) != 36 {
		if _, err := domain.ParseAccount(ref); err != nil {
			return huma.Error422UnprocessableEntity("ask for an account id or account:<groupId>",
				&huma.ErrorDetail{Location: "path.id", Message: err.Error(), Value: domain.Excerpt(ref)})
		}
	}
	return a.await(ctx, p)
}
