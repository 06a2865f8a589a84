package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"sojourn/eventstore"
	"sojourn/projections"
)

// Points decides commands about points; *projections.Views does.
type Points interface {
	// Command decides and records a command. What it refuses: *projections.CommandError,
	// *projections.KeyError, *projections.ShortError, projections.ErrNotFound and
	// projections.ErrNoProgramme.
	Command(ctx context.Context, r projections.CommandRequest) (projections.CommandResult, error)
	// OpenBalance records an opening balance; known is set where its row was before.
	OpenBalance(ctx context.Context, programme string, b projections.OpeningBalance) (known bool, err error)
}

type balanceBody struct {
	Available int64 `json:"available" doc:"Points that can be spent."`
	Pending   int64 `json:"pending" doc:"Points that cannot be spent yet."`
	Debt      int64 `json:"debt" doc:"Points owed; the next that become available pay them."`
}

type commandBody struct {
	EventID   uuid.UUID   `json:"event_id" doc:"The event that records the command; of a redemption it is what a cancel names."`
	Customer  uuid.UUID   `json:"customer_id" doc:"The customer as it was when the command was decided."`
	Programme string      `json:"programme"`
	Command   string      `json:"command" enum:"redeem,cancel,adjust,transfer,enroll"`
	At        time.Time   `json:"at" doc:"The instant from which it counts."`
	Points    int64       `json:"points,omitempty"`
	Value     string      `json:"value,omitempty" doc:"What redeemed points are worth."`
	Currency  string      `json:"currency,omitempty"`
	Balance   balanceBody `json:"balance" doc:"The balance behind the command, when it was decided."`
}

// shortProblem is a 409 with the balance.
type shortProblem struct {
	*huma.ErrorModel
	Asked   int64       `json:"asked" doc:"How many points were asked for."`
	Balance balanceBody `json:"balance"`
}

type commandOutput struct {
	Position string `header:"Sojourn-Position" doc:"The position of the command; pass it as after to see its effect in the views."`
	Repeated string `header:"Idempotency-Replayed" doc:"true where the key had been used for the same before."`
	Body     commandBody
}

// CommandInput is what all commands have.
type CommandInput struct {
	CustomerRef
	Key string `header:"Idempotency-Key" maxLength:"255" doc:"Names this command, in the whole deployment: the same key again gives the same answer and does nothing. Required."`
}

// CommandBase is what every body may have.
type CommandBase struct {
	Programme string `json:"programme,omitempty" doc:"The loyalty programme; the policy's first where it is missing."`
	Reason    string `json:"reason,omitempty" maxLength:"2000" doc:"Why; the ledger shows it."`
	Author    string `json:"author,omitempty" maxLength:"2000" doc:"Who does it."`
}

func (a *API) loyaltyCommands() {
	const tag = "Loyalty"
	op := func(name, summary, description string) huma.Operation {
		return operation(name+"-points", http.MethodPost, "/customers/{id}/loyalty/"+name, tag, summary, description+
			" It is decided against everything the log holds, so no two commands of a customer spend the same points. The answer comes once it is on disk.",
			404, 409, 503)
	}
	do := func(ctx context.Context, in *CommandInput, base CommandBase, r projections.CommandRequest) (*commandOutput, error) {
		if err := checkRef("path.id", in.ID); err != nil {
			return nil, err
		}
		r.Customer, r.Key, r.Programme, r.Reason, r.Author = in.ID, in.Key, base.Programme, base.Reason, base.Author
		c, err := a.cfg.Points.Command(ctx, r)
		if err != nil {
			return nil, a.commandError(err)
		}
		out := &commandOutput{Position: strconv.FormatUint(uint64(c.Position), 10), Body: commandBody{
			EventID: c.Event, Customer: c.Customer, Programme: c.Programme, Command: c.Command, At: c.At.UTC(), Points: c.Points,
			Value: c.Value, Currency: c.Currency, Balance: balanceBody(c.Balance),
		}}
		if c.Repeated {
			out.Repeated = "true"
		}
		return out, nil
	}
	huma.Register(a.huma, op("redeem", "Redeem points", "Spends available points, those that expire first before the others."), func(ctx context.Context, in *struct {
		CommandInput
		Body struct {
			CommandBase
			Points int64 `json:"points" minimum:"1" doc:"How many."`
		}
	},
	) (*commandOutput, error) {
		return do(ctx, &in.CommandInput, in.Body.CommandBase, projections.CommandRequest{Command: "redeem", Points: in.Body.Points})
	})
	huma.Register(a.huma, op("cancel", "Cancel a redemption", "Gives the points of a redemption back to where they came from; those that have expired meanwhile live for the policy's grace time."), func(ctx context.Context, in *struct {
		CommandInput
		Body struct {
			CommandBase
			Redemption uuid.UUID `json:"redemption" doc:"event_id of the redemption."`
		}
	},
	) (*commandOutput, error) {
		return do(ctx, &in.CommandInput, in.Body.CommandBase, projections.CommandRequest{Command: "cancel", Redemption: in.Body.Redemption})
	})
	huma.Register(a.huma, op("adjust", "Adjust the balance", "Gives points by hand, or takes available ones."), func(ctx context.Context, in *struct {
		CommandInput
		Body struct {
			CommandBase
			Points        int64 `json:"points" doc:"How many are given; below zero, taken."`
			CountsForTier bool  `json:"counts_for_tier,omitempty" doc:"Whether they count for tiers."`
		}
	},
	) (*commandOutput, error) {
		return do(ctx, &in.CommandInput, in.Body.CommandBase, projections.CommandRequest{
			Command: "adjust", Points: in.Body.Points, CountsForTier: in.Body.CountsForTier,
		})
	})
	huma.Register(a.huma, op("transfer", "Transfer points", "Moves available points to another customer, with their expiry."), func(ctx context.Context, in *struct {
		CommandInput
		Body struct {
			CommandBase
			Points int64  `json:"points" minimum:"1" doc:"How many."`
			To     string `json:"to" minLength:"1" doc:"Who gets them: a customer's id or a subject such as user:42."`
		}
	},
	) (*commandOutput, error) {
		if err := checkRef("body.to", in.Body.To); err != nil {
			return nil, err
		}
		return do(ctx, &in.CommandInput, in.Body.CommandBase, projections.CommandRequest{Command: "transfer", Points: in.Body.Points, To: in.Body.To})
	})
	huma.Register(a.huma, op("enroll", "Enroll", "Takes the customer into a programme whose enrolment is explicit; it earns from that instant on."), func(ctx context.Context, in *struct {
		CommandInput
		Body struct{ CommandBase }
	},
	) (*commandOutput, error) {
		return do(ctx, &in.CommandInput, in.Body.CommandBase, projections.CommandRequest{Command: "enroll"})
	})
	a.openingBalances()
}

// commandError is the answer to a command that was not done, or of which it is not
// known.
func (a *API) commandError(err error) error {
	var bad *projections.CommandError
	var key *projections.KeyError
	var short *projections.ShortError
	switch {
	case errors.As(err, &bad):
		return huma.Error422UnprocessableEntity(bad.Message)
	case errors.As(err, &key):
		return huma.Error422UnprocessableEntity(key.Message)
	case errors.As(err, &short):
		return &shortProblem{
			&huma.ErrorModel{Title: http.StatusText(http.StatusConflict), Status: http.StatusConflict, Detail: short.Error()},
			short.Asked, balanceBody(short.Balance),
		}
	case errors.Is(err, projections.ErrNoProgramme):
		return huma.Error404NotFound(err.Error())
	case errors.Is(err, projections.ErrNotFound):
		return huma.Error404NotFound(strings.TrimPrefix(err.Error(), ": "))
	case errors.Is(err, eventstore.ErrOverloaded), errors.Is(err, eventstore.ErrUnavailable), errors.Is(err, projections.ErrContended):
		return huma.Error503ServiceUnavailable(err.Error() + "; the same request with the same key may be sent again")
	}
	return a.internal("decide about points", err)
}

type openingBody struct {
	Row     string `json:"row" minLength:"1" maxLength:"255" doc:"Names the balance: the same row again is known."`
	Subject string `json:"subject" minLength:"1" doc:"Whose it is, such as user:42. It is a customer once it has a touchpoint."`
	Parts   []struct {
		Points  int64     `json:"points" minimum:"1"`
		Expires time.Time `json:"expires,omitzero" doc:"When they expire; missing for never."`
	} `json:"parts" maxItems:"1000"`
	Tier      string    `json:"tier,omitempty"`
	TierUntil time.Time `json:"tier_until,omitzero" doc:"The end of the tier's hold."`
}

type openingError struct {
	Row     string `json:"row"`
	Message string `json:"message"`
}

func (a *API) openingBalances() {
	type output struct {
		Body struct {
			Accepted int            `json:"accepted" doc:"How many were recorded."`
			Known    int            `json:"known" doc:"How many had been before."`
			Errors   []openingError `json:"errors" doc:"Those that were not, and why."`
		}
	}
	huma.Register(a.huma, operation("opening-balances", http.MethodPost, "/loyalty/opening-balances", "Loyalty",
		"Import opening balances", "Points and tiers from another loyalty engine, dated at the programme's from. Rows that are known are left out, so a repetition is safe.", 404, 503),
		func(ctx context.Context, in *struct {
			Body struct {
				Programme string        `json:"programme,omitempty" doc:"The policy's first where it is missing."`
				Balances  []openingBody `json:"balances" minItems:"1" maxItems:"1000"`
			}
		},
		) (*output, error) {
			out := &output{}
			out.Body.Errors = []openingError{}
			type done struct {
				known bool
				err   error
			}
			results := make([]chan done, len(in.Body.Balances))
			for i, b := range in.Body.Balances {
				o := projections.OpeningBalance{Row: b.Row, Subject: b.Subject, Tier: b.Tier, TierUntil: b.TierUntil}
				for _, p := range b.Parts {
					o.Parts = append(o.Parts, projections.OpeningPart{Points: p.Points, Expires: p.Expires})
				}
				// All at once, so that they are appended together.
				results[i] = make(chan done, 1)
				go func() {
					known, err := a.cfg.Points.OpenBalance(ctx, in.Body.Programme, o)
					results[i] <- done{known, err}
				}()
			}
			var failed error
			for i, b := range in.Body.Balances {
				r := <-results[i]
				var bad *projections.CommandError
				switch {
				case errors.As(r.err, &bad):
					out.Body.Errors = append(out.Body.Errors, openingError{b.Row, bad.Message})
				case r.err != nil:
					failed = r.err
				case r.known:
					out.Body.Known++
				default:
					out.Body.Accepted++
				}
			}
			if failed != nil {
				return nil, a.commandError(failed)
			}
			return out, nil
		})
}
