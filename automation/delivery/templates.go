package delivery

import (
	"encoding/json"
	"strconv"
	"time"
)

// Data is what a template sees, under the names of its JSON form:
// {{.customer.traits.email}}. It sees nothing else.
type Data struct {
	// Delivery is the delivery's id, and Trigger what has planned it.
	Delivery string      `json:"delivery"`
	Trigger  TriggerData `json:"trigger"`
	// Type is what happened: stage.entered, tier.entered, satisfaction.entered,
	// touchpoint, segment.entered, segment.left, schedule or points.expiring. At is when.
	Type string    `json:"type"`
	At   time.Time `json:"at"`
	// Event is the touchpoint behind it, nil where there is none (a deadline, a
	// schedule).
	Event    *EventData   `json:"event"`
	Customer CustomerData `json:"customer"`
	// Before and After are where the customer stood and stands by this change, such
	// as {"stage": "loyal"} and {"stage": "at_risk"}; a touchpoint, a schedule and
	// points that expire have no before.
	Before map[string]any `json:"before"`
	After  map[string]any `json:"after"`
	// Reason is the rule in words.
	Reason string `json:"reason"`
	// UnsubscribeURL is Links.URL for the trigger's category; empty without one.
	UnsubscribeURL string `json:"unsubscribe_url,omitempty"`
}

// TriggerData is a trigger as templates see it.
type TriggerData struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Version int    `json:"version"`
}

// EventData is a touchpoint as templates see it.
type EventData struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Meaning    string    `json:"meaning"`
	OccurredAt time.Time `json:"occurred_at"`
	// Properties and Context are the message's own, left out where it has none.
	Properties json.RawMessage `json:"properties,omitempty"`
	Context    json.RawMessage `json:"context,omitempty"`
}

// CustomerData is a customer as templates see it.
type CustomerData struct {
	ID       string                     `json:"id"`
	Stage    string                     `json:"stage"`
	Since    time.Time                  `json:"since"` // in that stage
	Traits   map[string]json.RawMessage `json:"traits"`
	Tiers    map[string]string          `json:"tiers"`  // by programme
	Points   map[string]string          `json:"points"` // by programme, decimal
	Status   string                     `json:"status"` // of satisfaction
	Segments []string                   `json:"segments"`
	Accounts []string                   `json:"accounts"`
	// Timezone is the customer's zone, such as Europe/Berlin.
	Timezone string `json:"timezone"`
}

// Content is what the document of a trigger says about what to send. An empty
// part has its default: the body is {"type", "timestamp", "data"} with the whole Data as JSON, the
// key the customer's id.
type Content struct {
	Body   string            `json:"body,omitempty" yaml:"body"`
	Header map[string]string `json:"header,omitempty" yaml:"header"`
	Key    string            `json:"key,omitempty" yaml:"key"`

	To      string `json:"to,omitempty" yaml:"to"` // {{.customer.traits.email}} where empty
	Subject string `json:"subject,omitempty" yaml:"subject"`
	Text    string `json:"text,omitempty" yaml:"text"`
	HTML    string `json:"html,omitempty" yaml:"html"`
}

// TemplateError is what is wrong with a part of a Content.
type TemplateError struct {
	Part    string // body, header.<name>, key, to, subject, text or html
	Line    int    // from 1, within the part; 0 where unknown
	Column  int    // in bytes, from 1; 0 where unknown
	Problem string
}

func (e *TemplateError) Error() string {
	at := e.Part
	if e.Line > 0 {
		at += " line " + strconv.Itoa(e.Line)
		if e.Column > 0 {
			at += ", column " + strconv.Itoa(e.Column)
		}
	}
	return at + ": " + e.Problem
}
