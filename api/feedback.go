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

	"sojourn/projections"
)

// FeedbackViews are the inbox: what customers say, and what people do about it.
type FeedbackViews interface {
	// Feedback is a page of entries, the newest first.
	Feedback(ctx context.Context, q projections.FeedbackQuery, limit int, cursor string) ([]projections.FeedbackEntry, string, error)
	// HandleFeedback records what a person does about an entry.
	// projections.ErrNoFeedback where there is none, *projections.HandlingConflictError
	// where it is at another revision than the one expected.
	HandleFeedback(ctx context.Context, r projections.HandlingRequest) (projections.Handled, error)
	// FeedbackTopics is how each topic moves. *projections.QuestionError for what
	// makes no sense.
	FeedbackTopics(ctx context.Context, p projections.Periods) ([]projections.TopicPeriod, error)
}

type feedbackBody struct {
	EventID    uuid.UUID  `json:"event_id" doc:"The touchpoint."`
	CustomerID *uuid.UUID `json:"customer_id,omitempty" doc:"Missing where its subject is nobody's."`
	Subject    string     `json:"subject"`
	At         time.Time  `json:"at"`
	Act        string     `json:"act" doc:"What it is, such as survey_answered or complaint_opened."`
	Kind       string     `json:"kind,omitempty" doc:"Of a score: nps, csat, ces, custom or review."`
	Channel    string     `json:"channel,omitempty"`
	Source     string     `json:"source,omitempty"`
	Score      string     `json:"score,omitempty" doc:"As given, decimal text."`
	ScaleLow   int        `json:"scale_low,omitempty"`
	ScaleHigh  int        `json:"scale_high,omitempty"`
	Flag       string     `json:"flag,omitempty" doc:"Why the score counts nowhere."`
	Question   string     `json:"question,omitempty"`
	Comment    string     `json:"comment,omitempty"`
	Survey     string     `json:"survey_id,omitempty"`
	Campaign   string     `json:"campaign,omitempty"`
	Case       string     `json:"case_id,omitempty"`
	Product    string     `json:"product_id,omitempty"`
	Status     string     `json:"status" enum:"open,assigned,closed"`
	Assignee   string     `json:"assignee,omitempty"`
	Sorted     bool       `json:"sorted" doc:"Whether topics, need and priority are a person's and not the policy's."`
	Topics     []string   `json:"topics"`
	Need       string     `json:"need,omitempty" enum:"functional,emotional,social"`
	Priority   string     `json:"priority,omitempty" enum:"high,medium,low"`
	Answer     string     `json:"answer,omitempty" doc:"What it was closed with."`
	HandledBy  string     `json:"handled_by,omitempty"`
	HandledAt  *time.Time `json:"handled_at,omitempty"`
	Revision   uint64     `json:"revision" doc:"How often it was handled; expected of a request names it."`
}

func feedbackOf(e *projections.FeedbackEntry) feedbackBody {
	b := feedbackBody{
		EventID: e.Event, Subject: e.Subject, At: e.At.UTC(), Act: e.Act, Kind: e.Kind, Channel: e.Channel, Source: e.Source,
		Score: e.Score, ScaleLow: e.ScaleLow, ScaleHigh: e.ScaleHigh, Flag: e.Flag, Question: e.Question, Comment: e.Comment,
		Survey: e.Survey, Campaign: e.Campaign, Case: e.Case, Product: e.Product, Status: e.Status, Assignee: e.Assignee, Sorted: e.Sorted,
		Topics: append([]string{}, e.Topics...), Need: e.Need, Priority: e.Priority, Answer: e.Answer, HandledBy: e.HandledBy,
		HandledAt: orOpen(e.HandledAt), Revision: e.Revision,
	}
	if e.Customer != uuid.Nil {
		b.CustomerID = &e.Customer
	}
	return b
}

type handledBody struct {
	EventID   uuid.UUID `json:"event_id" doc:"The touchpoint."`
	Revision  uint64    `json:"revision" doc:"How often it was handled."`
	Status    string    `json:"status" enum:"open,assigned,closed"`
	Assignee  string    `json:"assignee,omitempty"`
	Sorted    bool      `json:"sorted" doc:"Whether topics, need and priority are a person's and not the policy's."`
	Topics    []string  `json:"topics"`
	Need      string    `json:"need,omitempty"`
	Priority  string    `json:"priority,omitempty"`
	Answer    string    `json:"answer,omitempty"`
	HandledBy string    `json:"handled_by,omitempty"`
	HandledAt string    `json:"handled_at,omitempty" format:"date-time"`
}

func handledOf(h *projections.Handled) handledBody {
	return handledBody{
		EventID: h.Event, Revision: h.Revision, Status: h.Status, Assignee: h.Assignee, Sorted: h.Sorted,
		Topics: append([]string{}, h.Topics...), Need: h.Need, Priority: h.Priority, Answer: h.Answer, HandledBy: h.Author, HandledAt: h.At,
	}
}

// handlingProblem is a 409 with the state that won the race.
type handlingProblem struct {
	*huma.ErrorModel
	Present handledBody `json:"present" doc:"The entry as it is."`
}

// FeedbackRef names an entry of feedback.
type FeedbackRef struct {
	Event uuid.UUID `path:"event" doc:"The event id of the touchpoint."`
}

// HandlingBase is what every body about an entry of feedback has.
type HandlingBase struct {
	Author   string  `json:"author" minLength:"1" maxLength:"200" doc:"Who does it."`
	Expected *uint64 `json:"expected,omitempty" doc:"The revision that the entry must be at, else 409 with what it is; so nobody's work is undone unseen."`
}

type topicPeriodBody struct {
	From     time.Time   `json:"from" doc:"Included."`
	To       time.Time   `json:"to" doc:"Not included."`
	Comments int         `json:"comments"`
	Topics   []topicBody `json:"topics" doc:"The most frequent first. A comment about two topics counts in both."`
}

type topicBody struct {
	Topic    string `json:"topic" doc:"Empty for comments about none."`
	Comments int    `json:"comments"`
	High     int    `json:"high" doc:"Those of high priority."`
	Change   *int   `json:"change,omitempty" doc:"How many more than in the part before; missing in the first part of the answer."`
}

func (a *API) feedbackOperations() {
	const tag = "Feedback"

	type feedbackOutput struct {
		Body struct {
			Feedback   []feedbackBody `json:"feedback"`
			NextCursor string         `json:"next_cursor,omitempty" doc:"Missing on the last page."`
		}
	}
	huma.Register(a.huma, operation("list-feedback", http.MethodGet, "/feedback", tag,
		"The inbox", "What customers say in surveys and reviews and about their complaints, and every complaint and ticket, the newest first, and what people have done about it.", 503),
		func(ctx context.Context, in *struct {
			Page
			AfterParam
			Status   []string `query:"status" enum:"open,assigned,closed" doc:"One or several, parted by commas. open: nobody has taken it, and it is not closed."`
			Topic    string   `query:"topic" maxLength:"200" doc:"Only what is about this topic."`
			Need     string   `query:"need" enum:"functional,emotional,social"`
			Priority string   `query:"priority" enum:"high,medium,low"`
			Assignee string   `query:"assignee" maxLength:"200"`
		},
		) (*feedbackOutput, error) {
			if err := a.await(ctx, in.AfterParam); err != nil {
				return nil, err
			}
			all, next, err := a.cfg.Views.Feedback(ctx, projections.FeedbackQuery{
				Status: strings.Join(in.Status, ","), Topic: in.Topic, Need: in.Need, Priority: in.Priority, Assignee: in.Assignee,
			}, in.Limit, in.Cursor)
			if err != nil {
				return nil, a.viewError("list the feedback", projections.At{}, err, nil)
			}
			out := &feedbackOutput{}
			out.Body.Feedback, out.Body.NextCursor = make([]feedbackBody, 0, len(all)), next
			for i := range all {
				out.Body.Feedback = append(out.Body.Feedback, feedbackOf(&all[i]))
			}
			return out, nil
		})

	type handledOutput struct {
		Position string `header:"Sojourn-Position" doc:"The position of the event; pass it as after to see its effect in the views."`
		Body     handledBody
	}
	do := func(ctx context.Context, after AfterParam, base HandlingBase, r projections.HandlingRequest) (*handledOutput, error) {
		if err := a.await(ctx, after); err != nil {
			return nil, err
		}
		r.Author, r.Expected = base.Author, base.Expected
		h, err := a.cfg.Views.HandleFeedback(ctx, r)
		var lost *projections.HandlingConflictError
		switch {
		case errors.Is(err, projections.ErrNoFeedback):
			return nil, huma.Error404NotFound(err.Error())
		case errors.As(err, &lost):
			return nil, &handlingProblem{
				&huma.ErrorModel{Title: http.StatusText(http.StatusConflict), Status: http.StatusConflict, Detail: lost.Error()}, handledOf(&lost.Present),
			}
		case err != nil:
			return nil, a.viewError("record what was done", projections.At{}, err, nil)
		}
		return &handledOutput{strconv.FormatUint(uint64(h.Position), 10), handledOf(&h)}, nil
	}
	op := func(name, summary, description string) huma.Operation {
		o := operation(name+"-feedback", http.MethodPost, "/feedback/{event}/"+name, tag, summary, description+
			" The same request again, with nothing between, is the same and gets the same answer; with expected, also later.", 404, 429, 503)
		o.Responses = map[string]*huma.Response{"409": {
			Description: "The entry is at another revision than the one expected.",
			Content: map[string]*huma.MediaType{"application/problem+json": {
				Schema: &huma.Schema{AllOf: []*huma.Schema{
					{Ref: "#/components/schemas/ErrorModel"},
					{Type: huma.TypeObject, Properties: map[string]*huma.Schema{"present": {Ref: "#/components/schemas/HandledBody"}}},
				}},
			}},
		}}
		return o
	}
	huma.Register(a.huma, op("assign", "Give an entry to somebody", "Somebody has it from now on, a closed one as well; with an empty assignee nobody, and it is open."),
		func(ctx context.Context, in *struct {
			FeedbackRef
			AfterParam
			Body struct {
				HandlingBase
				Assignee string `json:"assignee" maxLength:"200" doc:"Who has it from now on."`
			}
		},
		) (*handledOutput, error) {
			return do(ctx, in.AfterParam, in.Body.HandlingBase, projections.HandlingRequest{Event: in.Event, Do: projections.FeedbackAssign, Assignee: in.Body.Assignee})
		})
	huma.Register(a.huma, op("sort", "Say what an entry is about", "Stands in place of what the policy's rules say, whatever they say later. What is left out stays as it is."),
		func(ctx context.Context, in *struct {
			FeedbackRef
			AfterParam
			Body struct {
				HandlingBase
				Topics   *[]string `json:"topics,omitempty" maxItems:"50" doc:"All topics that it is about; none, too."`
				Need     *string   `json:"need,omitempty" enum:"functional,emotional,social"`
				Priority *string   `json:"priority,omitempty" enum:"high,medium,low"`
			}
		},
		) (*handledOutput, error) {
			b := &in.Body
			if b.Topics == nil && b.Need == nil && b.Priority == nil {
				return nil, huma.Error422UnprocessableEntity("name topics, need or priority")
			}
			if b.Topics != nil {
				for i, topic := range *b.Topics {
					if topic == "" || len(topic) > 200 {
						return nil, huma.Error422UnprocessableEntity("a topic has 1 to 200 bytes", &huma.ErrorDetail{Location: "body.topics[" + strconv.Itoa(i) + "]", Message: "a topic has 1 to 200 bytes"})
					}
				}
			}
			return do(ctx, in.AfterParam, b.HandlingBase, projections.HandlingRequest{
				Event: in.Event, Do: projections.FeedbackSort, Topics: b.Topics, Need: b.Need, Priority: b.Priority,
			})
		})
	huma.Register(a.huma, op("close", "Close an entry", "It is done, with an answer. Assigning it opens it again."),
		func(ctx context.Context, in *struct {
			FeedbackRef
			AfterParam
			Body struct {
				HandlingBase
				Answer string `json:"answer" minLength:"1" maxLength:"10000" doc:"What the customer was told, or why nothing was."`
			}
		},
		) (*handledOutput, error) {
			return do(ctx, in.AfterParam, in.Body.HandlingBase, projections.HandlingRequest{Event: in.Event, Do: projections.FeedbackClose, Answer: in.Body.Answer})
		})

	type topicsOutput struct {
		Body struct {
			Periods []topicPeriodBody `json:"periods" doc:"The parts in which there are comments, in order."`
		}
	}
	huma.Register(a.huma, operation("get-feedback-topics", http.MethodGet, "/feedback/topics", tag,
		"How topics move", "What comments are about, by days, weeks or months, and how much more often than before. What people have sorted counts as they did.", 503),
		func(ctx context.Context, in *struct {
			PeriodParams
			AfterParam
			By string `query:"by" enum:"day,week,month" default:"week" doc:"Days, weeks (from Monday) or months, at most 1,000 of them."`
		},
		) (*topicsOutput, error) {
			p, err := in.periods(in.By)
			if err != nil {
				return nil, err
			}
			if err := a.await(ctx, in.AfterParam); err != nil {
				return nil, err
			}
			all, err := a.cfg.Views.FeedbackTopics(ctx, p)
			if err != nil {
				return nil, a.questionError("count the topics", err)
			}
			out := &topicsOutput{}
			out.Body.Periods = make([]topicPeriodBody, len(all))
			for i, t := range all {
				b := topicPeriodBody{t.From.UTC(), t.To.UTC(), t.Comments, []topicBody{}}
				for _, c := range t.Topics {
					o := topicBody{Topic: c.Topic, Comments: c.Comments, High: c.High}
					if c.Known {
						o.Change = &c.Change
					}
					b.Topics = append(b.Topics, o)
				}
				out.Body.Periods[i] = b
			}
			return out, nil
		})
}
