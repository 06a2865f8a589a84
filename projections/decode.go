package projections

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/customer"
	"sojourn/domain/lifecycle"
	"sojourn/domain/policy"
	"sojourn/eventstore"
	"sojourn/warehouse"
)

// arrival is an event of the log as the fold takes it: decoded as far as that
// can be done without knowing any other event.
type arrival struct {
	kind       arrivalKind
	position   eventstore.Position
	recordedAt domain.Millis
	stream     string
	key        streamKey

	// Of a touchpoint.
	value string // of its subject
	// subject is its id, where the fold is of a part of the customers; initial says that
	// it is the first event of its stream.
	subject uuid.UUID
	initial bool
	ref     lifecycle.Ref
	touch   customer.Touch
	// feedback is its row in the table, nil where it is not about satisfaction or no
	// rows are made.
	feedback *warehouse.Feedback
	// named are the other subjects that an identify or an alias names.
	named []named

	group    grouping      // of a group call
	segments *segmentTouch // nil where no segment takes anything of it

	// Of a statement.
	statement eventstore.Recorded
	// Of a decision about identity.
	decision *decision
	// Of a command about points.
	command *command
	// Of what a person did about an entry of feedback.
	handling *warehouse.Handling
	delivery *warehouse.DeliveryFact
}

// named is a subject that a message names beside its own.
type named struct {
	stream, value string
	// alias is set where it may be the previousId of an alias, and twin is then the
	// stream of the user that the id may be instead, or is.
	alias bool
	twin  string
}

type arrivalKind uint8

const (
	other arrivalKind = iota
	touchpoint
	statement
	decisionMade
	commanded
	handled
	automated
)

// chunk is a run of arrivals that goes from the goroutine that decodes to the
// one that folds.
type chunk struct {
	arrivals []arrival
}

const (
	chunkEvents = 2048
	chunksAhead = 2
)

// decoder reads the log ahead of the fold. Rows of touchpoints need nothing but
// the event, so it makes them as well.
type decoder struct {
	rules  *Rules
	keyer  domain.Keyer
	logger *slog.Logger
	// statements says whether the fold wants to hear of statements.
	statements bool
	// hurry says whether a batch ends by time, too, once the batch before is written:
	// until then its rows could not be written anyway.
	hurry   bool
	written func() bool
	rows    *warehouse.TouchpointBlock
	shard   Shard // of the rows
	text    []byte
	// enough is set by the fold to end the batch here.
	enough atomic.Bool
}

// read sends the events after a position, up to another and at most limit of
// them (0: all), until that many or so many bytes of rows are there or the time
// of a batch is over.
func (d *decoder) read(ctx context.Context, store eventstore.Store, after, to eventstore.Position, limit int, send func(*chunk) bool, next func() *chunk) error {
	start := time.Now()
	c := next()
	n := 0
	for e, err := range store.ReadAll(ctx, after) {
		if err != nil {
			return fmt.Errorf("read the log after position %d: %w", after, err)
		}
		if e.Position > to {
			break
		}
		after = e.Position
		c.arrivals = append(c.arrivals, arrival{})
		d.decode(&e, &c.arrivals[len(c.arrivals)-1])
		n++
		full := limit > 0 && (n >= limit || n%256 == 0 && d.rows != nil && d.rows.Bytes() >= maxBatchBytes ||
			d.hurry && n%1024 == 0 && time.Since(start) >= maxBatchTime && d.written())
		if full {
			break
		}
		if len(c.arrivals) == chunkEvents {
			if !send(c) {
				return context.Cause(ctx)
			}
			if d.enough.Load() {
				return nil
			}
			c, d.text = next(), nil
		}
	}
	if !send(c) {
		// Its rows are made already: a batch that ends here is never flushed.
		return context.Cause(ctx)
	}
	return nil
}

// keep copies bytes that are about to go away.
func (d *decoder) keep(s string) string {
	if cap(d.text)-len(d.text) < len(s) {
		d.text = make([]byte, 0, max(64<<10, len(s)))
	}
	n := len(d.text)
	d.text = append(d.text, s...)
	return view(d.text[n:])
}

func (d *decoder) decode(e *eventstore.Recorded, a *arrival) {
	a.position, a.recordedAt = e.Position, domain.MillisOf(e.RecordedAt)
	if !domain.Ours(e.Stream, e.Type) {
		return
	}
	switch e.Type {
	case domain.TypeTouchpoint, domain.TypeJoin:
		if !e.Repeat {
			d.touchpoint(e, a)
		}
	case domain.TypeIdentityMerged, domain.TypeIdentitySplit:
		made, err := decisionOf(e)
		if err != nil {
			d.logger.Error("decision left out of the views", "error", err)
			return
		}
		a.kind, a.decision = decisionMade, made
	case domain.TypeLoyaltyCommand:
		made, err := commandOf(e)
		if err != nil {
			d.logger.Error("command about points left out of the views", "error", err)
			return
		}
		if !e.Repeat {
			a.kind, a.command = commanded, made
		}
	case domain.TypeFeedbackHandled:
		made, err := handlingOf(e)
		if err != nil {
			d.logger.Error("handling of feedback left out of the views", "error", err)
			return
		}
		a.kind, a.handling = handled, made
	default:
		if isStatement(e.Type) {
			if d.statements {
				a.kind, a.statement = statement, e.Clone()
			}
			return
		}
		made, err := deliveryFactOf(e)
		if err != nil {
			d.logger.Error("fact of automation left out of the views", "position", e.Position, "error", err)
			return
		}
		if made != nil {
			a.kind, a.delivery = automated, made
		}
	}
}

func (d *decoder) touchpoint(e *eventstore.Recorded, a *arrival) {
	h, err := domain.ParseHeader(view(e.Metadata))
	if err != nil {
		// The log's checksum holds, so this was written wrong; the log goes on.
		d.logger.Error("touchpoint left out of the views", "position", e.Position, "error", err)
		return
	}
	a.kind = touchpoint
	a.stream, a.key = d.keep(e.Stream), keyOf(e.Stream)
	a.value = d.keep(h.Subject().Value)
	a.ref = lifecycle.Ref{At: h.OccurredAt, ID: e.ID}
	rule := d.rules.compiled.Classify(h.Kind, h.Source, h.Name)
	a.touch = d.rules.touch(&h, a.ref, rule, e.Data)
	a.touch.Name = d.keep(h.Name)
	if a.touch.Loyalty != nil && a.touch.Loyalty.Name != "" {
		a.touch.Loyalty.Name = a.touch.Name
	}
	a.feedback = nil
	a.named = a.named[:0]
	if h.Kind == domain.Identify || h.Kind == domain.Alias {
		a.named = namedBy(&h, e.Data, d.keyer)
	}
	if a.group = (grouping{}); h.Kind == domain.Group {
		a.group = readGrouping(e.Data, a.ref, d.keyer)
	}
	if a.segments = nil; d.rules.segments != nil {
		a.segments = d.rules.segments.touch(d.rules, &h, rule, &a.touch, a.group.groupID)
	}
	if d.rows == nil && d.shard.whole() {
		return
	}
	a.subject, a.initial = domain.SubjectID(e.Stream), e.Revision == 0
	if d.rows != nil && d.shard.holds(a.subject) {
		d.row(e, &h, a.subject, rule, &a.touch.Touch)
		if a.touch.Satisfaction != nil {
			a.feedback = d.rules.feedbackRow(e, &h, a.subject, rule, a.touch.Satisfaction)
		}
	}
}

// row adds a touchpoint to the rows, which copy what they take.
func (d *decoder) row(e *eventstore.Recorded, h *domain.Header, subject uuid.UUID, rule policy.Rule, t *lifecycle.Touch) {
	m := readMessage(e.Data)
	context := mergedContext(h.BatchContext, m.context)
	d.rows.Append(&warehouse.Touchpoint{
		EventID: e.ID, SubjectID: subject, Subject: h.Subject().String(),
		UserID: h.UserID, AnonymousID: h.AnonymousID,
		Source: h.Source, Type: h.Kind.String(), Name: h.Name,
		Meaning: string(rule.Meaning), Channel: d.rules.channel(rule, h, context),
		OccurredAt: int64(h.OccurredAt), ReceivedAt: int64(h.ReceivedAt), RecordedAt: e.RecordedAt.UnixMilli(),
		Position: uint64(e.Position),
		Amount:   int64(t.Order.Amount), HasAmount: hasAmount(t),
		Currency: d.rules.currency(t), OrderID: t.Order.ID,
		Flags:      flags(h, &t.Order),
		Properties: bytesOf(m.propertiesOf(h.Kind)), Context: bytesOf(context),
	})
}
