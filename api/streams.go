package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"sojourn/eventstore"
	"sojourn/projections"
	"sojourn/warehouse"
)

// The streams are newline-delimited JSON.
const ndjson = "application/x-ndjson"

// ArrivalLine is a line of GET /tail.
type ArrivalLine struct {
	Kind       string    `json:"kind" enum:"touchpoint,reject,refusal"`
	Position   uint64    `json:"position"`
	RecordedAt time.Time `json:"recorded_at"`
	OccurredAt time.Time `json:"occurred_at,omitzero"`
	EventID    string    `json:"event_id"`
	Source     string    `json:"source"`
	Type       string    `json:"type,omitempty"`
	Name       string    `json:"name,omitempty"`
	Subject    string    `json:"subject,omitempty"`
	Meaning    string    `json:"meaning,omitempty"`
	Channel    string    `json:"channel,omitempty"`
	Reason     string    `json:"reason,omitempty"`
	Message    jsonValue `json:"message,omitempty" doc:"As it was sent; a JSON string where it was no JSON."`
	Error      string    `json:"error,omitempty" doc:"On the last line, where the stream broke."`
}

// JobLine is a line of POST /rebuild and POST /verify. The last one has Result.
type JobLine struct {
	Done       uint64 `json:"done" doc:"Events read."`
	Total      uint64 `json:"total" doc:"Events to read."`
	Difference string `json:"difference,omitempty" doc:"A difference between a view and the log, in words."`
	// Result is "ok", "different" or "error".
	Result   string    `json:"result,omitempty" enum:"ok,different,error" doc:"On the last line."`
	Verified *Verified `json:"verified,omitempty" doc:"On the last line of verify."`
	Error    string    `json:"error,omitempty"`
}

func (a *API) streamOperations() {
	tail := a.streamOperation("tail", http.MethodGet, "/tail", "What arrives",
		"Touchpoints and rejects as they come", "A line for each, until the client leaves or the server stops. "+
			"Without after it begins with what comes next; after=0 begins with the first.", reflect.TypeFor[ArrivalLine]())
	huma.Register(a.huma, tail, func(ctx context.Context, in *struct {
		After  string `query:"after" pattern:"^[0-9]{1,19}$" doc:"Begin behind this position of the log; 0 for all of it."`
		Source string `query:"source" maxLength:"128" doc:"Only of this source."`
		Type   string `query:"type" enum:"track,identify,page,screen,group,alias,touchpoint,reject" doc:"Only touchpoints of this type, all touchpoints, or all rejects."`
	},
	) (*huma.StreamResponse, error) {
		var pos eventstore.Position
		if in.After != "" {
			n, err := strconv.ParseUint(in.After, 10, 64)
			if err != nil {
				return nil, huma.Error422UnprocessableEntity("after is no position: " + in.After)
			}
			pos = eventstore.Position(n)
		} else {
			head, err := a.cfg.Arrivals.Head(ctx)
			if err != nil {
				return nil, a.internal("find the end of the log", err)
			}
			pos = head
		}
		return a.stream(func(ctx context.Context, send func(any) error) {
			for v, err := range a.cfg.Arrivals.Arrivals(ctx, pos) {
				if err != nil {
					if ctx.Err() == nil {
						a.cfg.Log.Error("api: follow the log", "error", err)
						_ = send(ArrivalLine{Kind: "error", Error: "could not follow the log; the server's log says why"})
					}
					return
				}
				if in.Source != "" && v.Source != in.Source || !ofType(v, in.Type) {
					continue
				}
				if send(arrivalLine(v)) != nil {
					return
				}
			}
		}), nil
	})

	job := func(op huma.Operation, run func(ctx context.Context, send func(JobLine)) (JobLine, error)) {
		huma.Register(a.huma, op, func(context.Context, *struct{}) (*huma.StreamResponse, error) {
			if !a.job.TryLock() {
				return nil, huma.Error409Conflict("a rebuild or verify is running already")
			}
			return a.stream(func(ctx context.Context, send func(any) error) {
				defer a.job.Unlock()
				var done, total uint64
				last, err := run(ctx, func(l JobLine) {
					if l.Total > 0 {
						done, total = l.Done, l.Total
					}
					// A client that has gone ends ctx.
					_ = send(l)
				})
				if err != nil {
					a.cfg.Log.Error("api: job broke off", "job", op.OperationID, "error", err)
					last = JobLine{Result: "error", Error: err.Error()}
				}
				last.Done, last.Total = done, total
				_ = send(last)
			}), nil
		})
	}
	progress := func(send func(JobLine)) projections.Progress {
		return func(done, total uint64) { send(JobLine{Done: done, Total: total}) }
	}
	job(a.streamOperation("rebuild", http.MethodPost, "/rebuild", "Maintenance",
		"Rebuild the views", "Fills new tables from the log beside those in use, and switches to them. "+
			"A line of progress now and then; the last has the result. It is given up where the client leaves.",
		reflect.TypeFor[JobLine](), 409),
		func(ctx context.Context, send func(JobLine)) (JobLine, error) {
			return JobLine{Result: "ok"}, a.cfg.Maintenance.Rebuild(ctx, progress(send))
		})
	job(a.streamOperation("verify", http.MethodPost, "/verify", "Maintenance",
		"Verify the views", "Computes every view again from the log and compares. A line for each difference and of progress now and then; the last has the result.",
		reflect.TypeFor[JobLine](), 409),
		func(ctx context.Context, send func(JobLine)) (JobLine, error) {
			v, err := a.cfg.Maintenance.Verify(ctx, MaxDifferences, progress(send))
			if err != nil {
				return JobLine{}, err
			}
			for _, d := range v.Differences {
				send(JobLine{Difference: DifferenceText(d)})
			}
			return VerifiedLine(v), nil
		})
}

// MaxDifferences is how many of each table verify lists; all are counted.
const MaxDifferences = 1000

// Verified is what a verify compared.
type Verified struct {
	Position      uint64            `json:"position"`
	Clock         time.Time         `json:"clock"`
	PolicyVersion int               `json:"policy_version"`
	Rows          map[string]uint64 `json:"rows" doc:"Rows compared, by table."`
	Different     map[string]uint64 `json:"different" doc:"Rows that differ, by table."`
}

// VerifiedLine is the last line of a verify that came to its end.
func VerifiedLine(v *projections.Verification) JobLine {
	l := JobLine{Result: "ok", Verified: &Verified{uint64(v.Position), v.Clock.UTC(), v.Policy, v.Rows, v.Different}}
	if !v.Equal() {
		l.Result = "different"
	}
	return l
}

// DifferenceText says in a line how a view differs from what the log gives.
func DifferenceText(d warehouse.Difference) string {
	side := func(row string) string {
		if row == "" {
			return "no row"
		}
		return strings.ReplaceAll(row, "\n", " and ")
	}
	return fmt.Sprintf("%s %s: the view has %s, the log gives %s", d.Table, d.Key, side(d.A), side(d.B))
}

func ofType(v Arrival, want string) bool {
	switch want {
	case "":
		return true
	case kindTouchpoint:
		return v.Kind == kindTouchpoint
	case kindReject:
		return v.Kind != kindTouchpoint
	}
	return v.Kind == kindTouchpoint && v.Type == want
}

func arrivalLine(v Arrival) ArrivalLine {
	l := ArrivalLine{
		Kind: v.Kind, Position: uint64(v.Position), RecordedAt: v.RecordedAt.UTC(), EventID: v.EventID.String(),
		Source: v.Source, Type: v.Type, Name: v.Name, Subject: v.Subject, Meaning: v.Meaning, Channel: v.Channel,
		Reason: v.Reason, Message: v.Message,
	}
	if !v.OccurredAt.IsZero() {
		l.OccurredAt = v.OccurredAt.UTC()
	}
	if len(v.Message) == 0 {
		l.Message = nil
	} else if !json.Valid(v.Message) {
		// Marshalling a string cannot fail.
		l.Message, _ = json.Marshal(string(v.Message))
	}
	return l
}

func (a *API) streamOperation(id, method, path, tag, summary, description string, line reflect.Type, codes ...int) huma.Operation {
	op := operation(id, method, path, tag, summary, description, codes...)
	op.Metadata = map[string]any{unbounded: true}
	op.Responses = map[string]*huma.Response{"200": {
		Description: "Newline-delimited JSON, one object a line",
		Content: map[string]*huma.MediaType{ndjson: {
			Schema: a.huma.OpenAPI().Components.Schemas.Schema(line, true, ""),
		}},
	}}
	return op
}

// stream answers with one JSON value a line, for as long as the client stays and
// the server runs.
func (a *API) stream(body func(ctx context.Context, send func(any) error)) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		_, w := humago.Unwrap(hctx)
		ctx, cancel := context.WithCancel(hctx.Context())
		defer cancel()
		defer context.AfterFunc(a.streams, cancel)()
		rc := http.NewResponseController(w)
		hctx.SetHeader("Content-Type", ndjson)
		hctx.SetHeader("Cache-Control", "no-store")
		hctx.SetStatus(http.StatusOK)
		_ = rc.Flush()
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		var mu sync.Mutex
		body(ctx, func(line any) error {
			mu.Lock()
			defer mu.Unlock()
			err := enc.Encode(line)
			if err == nil {
				err = rc.Flush()
			}
			if err != nil {
				cancel()
			}
			return err
		})
	}}
}
