// Package fact holds what automation did: planned, attempted, delivered, failed,
// suppressed. Facts are events of the log and never change; late data, merges,
// policies and rebuilds add to them only. Nothing personal stands in one: bodies,
// addresses and answers are in a stream of their own (PayloadStream).
//
// A fact stands in the stream of the subject of its cause, so that it goes with
// that subject where customers merge or split. History folds those of a customer.
package fact

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"sojourn/domain"
)

// Kind is what happened to a delivery.
type Kind uint8

// The kinds of facts.
const (
	// Planned: it is to be attempted at SendAt. Of a delivery that is sent again by
	// hand it begins another round.
	Planned Kind = iota + 1
	// Attempted: an attempt begins. What became of it may never be known.
	Attempted
	// Delivered: the receiver has taken it.
	Delivered
	// Failed: an attempt has failed. With Dead there will be no other by itself.
	Failed
	// Suppressed: nothing is sent, for Reason.
	Suppressed
)

var types = [...]string{
	Planned: "automation.planned.v1", Attempted: "automation.attempted.v1", Delivered: "automation.delivered.v1",
	Failed: "automation.failed.v1", Suppressed: "automation.suppressed.v1",
}

var names = [...]string{
	Planned: "planned", Attempted: "attempted", Delivered: "delivered", Failed: "failed", Suppressed: "suppressed",
}

// Type is the type of the event.
func (k Kind) Type() string { return types[k] }

// String is the kind as people read it.
func (k Kind) String() string {
	if k == 0 || int(k) >= len(names) {
		return "kind(" + strconv.Itoa(int(k)) + ")"
	}
	return names[k]
}

// KindOf reads the type of an event; false where it is no fact.
func KindOf(typ string) (Kind, bool) {
	if !strings.HasPrefix(typ, "automation.") {
		return 0, false
	}
	for k, t := range types {
		if t == typ {
			return Kind(k), true
		}
	}
	return 0, false
}

// Reason is why a delivery is suppressed.
type Reason string

// The reasons, in the order in which the limits are asked, then those that can
// come between the plan and an attempt.
const (
	Paused   Reason = "paused"
	Stale    Reason = "stale"
	Consent  Reason = "consent"
	Holdout  Reason = "holdout"
	Once     Reason = "once"
	AtMost   Reason = "at_most"
	CoolDown Reason = "cool_down"
	Cap      Reason = "cap"
	// GlobalCap is the cap over all triggers.
	GlobalCap Reason = "global_cap"
	Loop      Reason = "loop"
	// Withdrawn: what was said does not hold any more. Moved: the customer has
	// moved on, of a trigger that says while_there. Template: the body cannot be
	// made.
	Withdrawn Reason = "withdrawn"
	Moved     Reason = "moved_on"
	Template  Reason = "template"
)

// Reasons are all of them, in that order.
var Reasons = []Reason{Paused, Stale, Consent, Holdout, Once, AtMost, CoolDown, Cap, GlobalCap, Loop, Withdrawn, Moved, Template}

// Arm is the side of a holdout that a customer is on.
type Arm string

// The arms.
const (
	NoArm   Arm = "" // not decided
	Treated Arm = "treated"
	Held    Arm = "held"
)

// Change is what happened to the customer.
type Change struct {
	// Type is stage.entered, tier.entered, satisfaction.entered, segment.entered,
	// segment.left, touchpoint, schedule or points.expiring.
	Type      string        `json:"type"`
	Programme string        `json:"programme,omitempty"` // of a tier and of points; else the segment
	From      string        `json:"from,omitempty"`
	To        string        `json:"to,omitempty"` // of a touchpoint its name
	At        domain.Millis `json:"at"`
	Reason    string        `json:"reason,omitempty"`
	// Cause is "touchpoint:<event id>", "deadline:<rule>:<event id it counts from>",
	// "tick:<time>", "day:<date>" or "segment:<position of its change>".
	Cause string `json:"cause"`
	// Segment holds whose points expire.
	Segment string `json:"segment,omitempty"`
}

// InSegment is the segment that the customer entered or left, or is one of those in it;
// of other changes it says nothing.
func (c *Change) InSegment() string {
	if c.Segment != "" {
		return c.Segment
	}
	return c.Programme
}

// Touchpoint is the touchpoint behind the change, or that a deadline counts from.
func (c *Change) Touchpoint() (uuid.UUID, bool) {
	i := strings.LastIndexByte(c.Cause, ':')
	if i < 0 || !strings.HasPrefix(c.Cause, "touchpoint:") && !strings.HasPrefix(c.Cause, "deadline:") {
		return uuid.Nil, false
	}
	id, err := uuid.Parse(c.Cause[i+1:])
	return id, err == nil
}

// Shared reports whether many customers have this cause at once: a tick of a
// schedule, a day, or the change of a segment. Then the customer belongs to what it is.
func (c *Change) Shared() bool {
	return strings.HasPrefix(c.Cause, "tick:") || strings.HasPrefix(c.Cause, "day:") || strings.HasPrefix(c.Cause, "segment:")
}

// Key identifies the change whatever policy found it and whoever the customer is:
// the kind of change, what it leads to, and its cause.
func (c *Change) Key() string {
	to := c.To
	if c.Type == "touchpoint" {
		to = ""
	}
	return c.Type + "\x00" + c.InSegment() + "\x00" + to + "\x00" + c.Cause
}

// Fact is the data of a fact's event.
type Fact struct {
	Kind     Kind      `json:"-"`
	Delivery uuid.UUID `json:"delivery"`
	// Round is 0, and one more each time that the delivery is sent again by hand.
	Round int `json:"round,omitempty"`
	// At is the time of the fact by the clock of the engine.
	At domain.Millis `json:"at"`

	// Of the first fact of a delivery:
	Trigger  string `json:"trigger,omitempty"`
	Version  int    `json:"version,omitempty"`
	Action   string `json:"action,omitempty"` // webhook, email, kafka, touchpoint or points
	To       string `json:"to,omitempty"`     // the destination's name
	Customer string `json:"customer,omitempty"`
	// Found is the position of the event that offered the change.
	Found  uint64  `json:"found,omitempty"`
	Change *Change `json:"change,omitempty"`
	Arm    Arm     `json:"arm,omitempty"`
	// Chain are the triggers that led to it, the first first, itself left out.
	Chain []string `json:"chain,omitempty"`
	By    string   `json:"by,omitempty"` // who sent it again

	// SendAt is when a planned delivery is to be attempted, or a failed one again.
	SendAt domain.Millis `json:"send_at,omitempty"`
	Reason Reason        `json:"reason,omitempty"`
	// Number is that of an attempt in its round, from 1.
	Number int `json:"number,omitempty"`
	// Status, Latency (milliseconds) and Error are those of an attempt's outcome.
	Status  int    `json:"status,omitempty"`
	Latency int64  `json:"latency_ms,omitempty"`
	Error   string `json:"error,omitempty"`
	Dead    bool   `json:"dead,omitempty"`
}

var nsFact = uuid.MustParse("c1f2c5a0-5b7e-5d0b-8f2c-6f0b8b1d7a11")

// DeliveryID is the id of the one delivery of a trigger's action for a cause.
func DeliveryID(trigger, action, cause string) uuid.UUID {
	return uuid.NewSHA1(nsFact, []byte(trigger+"\x00"+action+"\x00"+cause))
}

// ID is the id of the fact's event: the same fact is the same event. What is
// decided first about a round, planned or suppressed, has one id.
func (f *Fact) ID() uuid.UUID {
	name := ""
	switch {
	case f.Kind == Planned, f.Kind == Suppressed && f.Change != nil:
		name = "decided"
	case f.Kind == Suppressed:
		name = "suppressed"
	case f.Kind == Attempted:
		name = "attempted"
	default:
		name = "outcome"
	}
	return uuid.NewSHA1(f.Delivery, fmt.Appendf(nil, "%s\x00%d\x00%d", name, f.Round, f.Number))
}

// Encode is the data of the fact's event.
func (f *Fact) Encode() []byte {
	b, _ := json.Marshal(f) // the type marshals whatever it holds
	return b
}

// Decode reads the event of a fact.
func Decode(kind Kind, data []byte) (Fact, error) {
	f := Fact{Kind: kind}
	if err := json.Unmarshal(data, &f); err != nil {
		return f, fmt.Errorf("read a fact of automation: %w", err)
	}
	return f, nil
}

const streamPrefix = "automation-"

// Stream is the stream of the facts whose cause is of a subject.
func Stream(subject uuid.UUID) string { return streamPrefix + subject.String() }

// Subject reads the subject from the name of a stream of facts.
func Subject(stream string) (uuid.UUID, bool) {
	s, ok := strings.CutPrefix(stream, streamPrefix)
	if !ok || len(s) != 36 {
		return uuid.Nil, false
	}
	id, err := uuid.Parse(s)
	return id, err == nil
}

// PayloadStream holds what was sent and answered, which may be personal: the
// message as first rendered, then the beginnings of the answers.
func PayloadStream(delivery uuid.UUID) string { return "payloads-" + delivery.String() }

// The types of the events in a PayloadStream.
const (
	TypeMessage  = "automation.message.v1"
	TypeResponse = "automation.response.v1"
)
