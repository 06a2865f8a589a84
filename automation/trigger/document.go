// Package trigger holds the rules of automation: what a trigger says, what a
// change of a customer means to it, and which limit says no. It is pure: no clock
// and no I/O; what was done before comes in as facts (domain/fact).
package trigger

import (
	"encoding/json"
	"fmt"
)

// Document is a trigger as people write it. Times are texts such as 90m, 24h or
// 30d; a day is 24 hours.
type Document struct {
	ID   string `json:"id" yaml:"id"`
	Name string `json:"name,omitempty" yaml:"name"`
	On   On     `json:"on" yaml:"on"`
	// Where is a condition in CEL over the customer and the event.
	Where  string `json:"where,omitempty" yaml:"where"`
	Limits Limits `json:"limits,omitzero" yaml:"limits"`
	// WhileThere asks before every attempt that the customer still stands where the
	// change led to.
	WhileThere bool `json:"while_there,omitempty" yaml:"while_there"`
	Do         Do   `json:"do" yaml:"do"`
}

// On is what starts a trigger: exactly one of its parts.
type On struct {
	Transition     *Transition     `json:"transition,omitempty" yaml:"transition"`
	Tier           *Tier           `json:"tier,omitempty" yaml:"tier"`
	Satisfaction   *Satisfaction   `json:"satisfaction,omitempty" yaml:"satisfaction"`
	Touchpoint     *Touchpoint     `json:"touchpoint,omitempty" yaml:"touchpoint"`
	Segment        *Segment        `json:"segment,omitempty" yaml:"segment"`
	Absence        *Absence        `json:"absence,omitempty" yaml:"absence"`
	Schedule       *Schedule       `json:"schedule,omitempty" yaml:"schedule"`
	PointsExpiring *PointsExpiring `json:"points_expiring,omitempty" yaml:"points_expiring"`
}

// Transition is a change of stage; an empty list is any stage.
type Transition struct {
	From []string `json:"from,omitempty" yaml:"from"`
	To   []string `json:"to,omitempty" yaml:"to"`
}

// Tier is a change of tier; empty lists and an empty programme are any.
type Tier struct {
	Programme string   `json:"programme,omitempty" yaml:"programme"`
	From      []string `json:"from,omitempty" yaml:"from"`
	To        []string `json:"to,omitempty" yaml:"to"`
}

// Satisfaction is a change of status; an empty list is any.
type Satisfaction struct {
	From []string `json:"from,omitempty" yaml:"from"`
	To   []string `json:"to,omitempty" yaml:"to"`
}

// Touchpoint is one of a name, as sent and spelt in whatever case, or of a meaning.
type Touchpoint struct {
	Name    string `json:"name,omitempty" yaml:"name"`
	Meaning string `json:"meaning,omitempty" yaml:"meaning"`
}

// Segment is entering or leaving a segment: one of the two.
type Segment struct {
	Entered string `json:"entered,omitempty" yaml:"entered"`
	Left    string `json:"left,omitempty" yaml:"left"`
}

// Absence is that a touchpoint has not come for a time: it is kept as a segment that
// belongs to the trigger (Document.Owned).
type Absence struct {
	Name    string `json:"name,omitempty" yaml:"name"`
	Meaning string `json:"meaning,omitempty" yaml:"meaning"`
	For     string `json:"for" yaml:"for"`
	// Since is what the time counts from: last (the default) or first, of that
	// touchpoint, or first_seen, the customer's first touchpoint.
	Since string `json:"since,omitempty" yaml:"since"`
}

// Schedule is for every customer who is in a segment at times by the clock.
type Schedule struct {
	Cron    string `json:"cron" yaml:"cron"` // minute, hour, day of the month, month, day of the week; @daily and the like
	Segment string `json:"segment" yaml:"segment"`
	// TimeZone is that of Cron; UTC where there is none.
	TimeZone string `json:"time_zone,omitempty" yaml:"time_zone"`
}

// PointsExpiring is for every customer who, at a time of each day, has points that
// expire within some time from then. Who that is is kept as a segment that belongs to
// the trigger (Document.Owned).
type PointsExpiring struct {
	Programme string `json:"programme" yaml:"programme"`
	Within    string `json:"within" yaml:"within"`
	// AtLeast is the least number of points, 1 where there is none.
	AtLeast int64 `json:"at_least,omitempty" yaml:"at_least"`
	// At is the time of the day, 09:00 where there is none, in TimeZone, else in UTC.
	At       string `json:"at,omitempty" yaml:"at"`
	TimeZone string `json:"time_zone,omitempty" yaml:"time_zone"`
}

// Limits say when nothing is sent, or later.
type Limits struct {
	Freshness string   `json:"freshness,omitempty" yaml:"freshness"` // default 24h
	Consent   *Consent `json:"consent,omitempty" yaml:"consent"`
	// Holdout is the share of customers, from 0 to 1, who get nothing.
	Holdout  float64 `json:"holdout,omitempty" yaml:"holdout"`
	Once     bool    `json:"once,omitempty" yaml:"once"`
	AtMost   *Count  `json:"at_most,omitempty" yaml:"at_most"`
	CoolDown string  `json:"cool_down,omitempty" yaml:"cool_down"`
	// Window and QuietHours are in the customer's zone, else in TimeZone, else UTC.
	Window     *Window `json:"send_window,omitempty" yaml:"send_window"`
	QuietHours *Hours  `json:"quiet_hours,omitempty" yaml:"quiet_hours"`
	TimeZone   string  `json:"time_zone,omitempty" yaml:"time_zone"`
	// Cap bounds the trigger's sends to all customers together.
	Cap *Count `json:"cap,omitempty" yaml:"cap"`
}

// Consent is where the customer says yes: a trait, or a category of
// context.consent.categoryPreferences; one of the two.
type Consent struct {
	Trait    string `json:"trait,omitempty" yaml:"trait"`
	Category string `json:"category,omitempty" yaml:"category"`
}

// Count is so many times within a period.
type Count struct {
	Times int    `json:"times" yaml:"times"`
	Per   string `json:"per" yaml:"per"`
}

// Hours are from one time of the day to another, such as 21:00 to 08:00, the end
// left out.
type Hours struct {
	From string `json:"from" yaml:"from"`
	To   string `json:"to" yaml:"to"`
}

// Window are hours on some days of the week (mon to sun; all where there are none).
type Window struct {
	Days []string `json:"days,omitempty" yaml:"days"`
	From string   `json:"from" yaml:"from"`
	To   string   `json:"to" yaml:"to"`
}

// Do is the one thing that the trigger does.
type Do struct {
	Webhook    *Webhook  `json:"webhook,omitempty" yaml:"webhook"`
	Email      *Email    `json:"email,omitempty" yaml:"email"`
	Kafka      *Kafka    `json:"kafka,omitempty" yaml:"kafka"`
	Touchpoint *Append   `json:"touchpoint,omitempty" yaml:"touchpoint"`
	Points     *GivenPts `json:"points,omitempty" yaml:"points"`
}

// Webhook is a call of a destination. An empty body is everything as JSON.
type Webhook struct {
	Destination string            `json:"destination" yaml:"destination"`
	Body        string            `json:"body,omitempty" yaml:"body"`
	Header      map[string]string `json:"header,omitempty" yaml:"header"`
}

// Kafka is a message into the topic of a destination.
type Kafka struct {
	Destination string            `json:"destination" yaml:"destination"`
	Body        string            `json:"body,omitempty" yaml:"body"`
	Header      map[string]string `json:"header,omitempty" yaml:"header"`
	Key         string            `json:"key,omitempty" yaml:"key"`
}

// Email is a mail through a destination; its parts are templates.
type Email struct {
	Destination string `json:"destination" yaml:"destination"`
	To          string `json:"to,omitempty" yaml:"to"` // default {{.customer.traits.email}}
	Subject     string `json:"subject" yaml:"subject"`
	Text        string `json:"text,omitempty" yaml:"text"`
	HTML        string `json:"html,omitempty" yaml:"html"`
}

// Append is a track call under the subject of the cause; Properties is a template
// of a JSON object.
type Append struct {
	Name       string `json:"name" yaml:"name"`
	Properties string `json:"properties,omitempty" yaml:"properties"`
}

// GivenPts are points given in a programme, the first where none is named.
type GivenPts struct {
	Programme string `json:"programme,omitempty" yaml:"programme"`
	Points    int64  `json:"points" yaml:"points"`
}

// Canonical is the document as an event keeps it. Equal documents give equal bytes.
func (d *Document) Canonical() ([]byte, error) {
	b, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode a trigger: %w", err)
	}
	return b, nil
}

// Decode reads what Canonical wrote.
func Decode(data []byte) (Document, error) {
	var d Document
	if err := json.Unmarshal(data, &d); err != nil {
		return d, fmt.Errorf("decode a trigger: %w", err)
	}
	return d, nil
}
