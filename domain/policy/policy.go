// Package policy holds the versioned rules by which messages are read: what an
// event name means, through which channel it came, and when a customer is in
// which stage. A policy is a document; its version is given when it is applied.
package policy

import (
	"maps"

	"sojourn/domain"
)

// Meaning is what a touchpoint is for the rules, whatever its name.
type Meaning string

// The meanings.
const (
	Purchase     Meaning = "purchase"     // an order was placed and paid
	OrderUpdate  Meaning = "order_update" // the amount of an order changed
	Refund       Meaning = "refund"       // money of an order went back
	Cancellation Meaning = "cancellation" // an order was cancelled: a full refund
	Lead         Meaning = "lead"         // the visitor made themselves known
	Qualified    Meaning = "qualified"    // the lead showed the intent to buy
	Engagement   Meaning = "engagement"   // use of the shop or the product
	Service      Meaning = "service"      // a request for help and its course
	Feedback     Meaning = "feedback"     // an opinion: survey, rating, review, complaint
	Marketing    Meaning = "marketing"    // contact that the organisation began
	Identity     Meaning = "identity"     // who the customer is: identify, group, alias
	Unmapped     Meaning = "unmapped"     // the policy does not know the name; never written in one
)

// Meanings are those that a mapping may give.
var Meanings = []Meaning{
	Purchase, OrderUpdate, Refund, Cancellation, Lead, Qualified,
	Engagement, Service, Feedback, Marketing, Identity,
}

// The channels.
const (
	Web    = "web"
	Mobile = "mobile"
	Email  = "email"
	Phone  = "phone"
	Chat   = "chat"
	Store  = "store"
	Social = "social"
	Survey = "survey"
	Server = "server"
)

// Channels are those that a mapping or a channel rule may give.
var Channels = []string{Web, Mobile, Email, Phone, Chat, Store, Social, Survey, Server}

// Policy is the document. Load a file onto Default, so that what it does not say
// stays as it is there.
type Policy struct {
	// Currency is the one of a purchase that names none; ISO 4217.
	Currency string `json:"currency" yaml:"currency"`
	// Lifecycle sets the lengths of the stages.
	Lifecycle Lifecycle `json:"lifecycle" yaml:"lifecycle"`
	// Identity says who is one customer.
	Identity Identities `json:"identity" yaml:"identity"`
	// Loyalty holds the loyalty programmes.
	Loyalty Loyalty `json:"loyalty" yaml:"loyalty"`
	// Satisfaction says how opinions and service are judged.
	Satisfaction Satisfaction `json:"satisfaction" yaml:"satisfaction"`
	// Standard has the names of Segment's specs and the standard channel rules
	// stand behind the policy's own.
	Standard bool `json:"standard" yaml:"standard"`
	// Events map names to meanings; see Mapping.
	Events []Mapping `json:"events" yaml:"events"`
	// Channels decide the channel where a mapping names none: the first that fits.
	Channels []ChannelRule `json:"channels" yaml:"channels"`
	// Mappings say how messages are made of the records of Kafka topics, by the name
	// that the configuration of a topic calls them by.
	Mappings map[string]RecordMapping `json:"mappings,omitempty" yaml:"mappings"`
}

// Lifecycle holds the numbers of the stage table. A day is 24 hours.
type Lifecycle struct {
	AtRiskDays     int `json:"at_risk_days" yaml:"at_risk_days"`
	ChurnedDays    int `json:"churned_days" yaml:"churned_days"`
	LostDays       int `json:"lost_days" yaml:"lost_days"`
	WonBackDays    int `json:"won_back_days" yaml:"won_back_days"`
	LoyalPurchases int `json:"loyal_purchases" yaml:"loyal_purchases"`
	LoyalDays      int `json:"loyal_days" yaml:"loyal_days"`
	// Accounts gives accounts a stage of their own, from their members'
	// touchpoints.
	Accounts bool `json:"accounts" yaml:"accounts"`
}

// Identities says which subjects are one customer; see docs/decisions/0006.
type Identities struct {
	// Join holds the kinds of subject that join customers by themselves, the
	// first first. Joins of other kinds are kept and not tried.
	Join []string `json:"join" yaml:"join"`
	// Limits is how many subjects of a kind one customer may have, 0 for any
	// number. A kind that is not named has the default's limit.
	Limits map[string]int `json:"limits" yaml:"limits"`
	// AliasUsers lets an alias join two users.
	AliasUsers bool `json:"alias_users" yaml:"alias_users"`
	// Nobody holds values that are no identity, whatever the kind, beside those of
	// domain.NoIdentity. They are compared trimmed and in any case, and what reads
	// as a telephone number with its country also as E.164.
	Nobody []string `json:"nobody" yaml:"nobody"`
}

// otherLimit is how many subjects one customer may have of each kind that
// neither the policy nor defaultLimits names.
const otherLimit = 5

func defaultLimits() map[string]int {
	return map[string]int{string(domain.User): 1, string(domain.Anon): 0}
}

// complete is i with the default's limits for the kinds it does not name. It
// shares no map with i: a decoder may have put its own in place of the default's.
func (i Identities) complete() Identities {
	limits := defaultLimits()
	maps.Copy(limits, i.Limits)
	i.Limits = limits
	return i
}

// Mapping says what messages mean. It fits the messages of its type (track where
// it names none) and source (any where it names none) whose name is one of its
// names, or all of them where it has no names. A mapping with a source goes
// before one without, one with the name before one without; an equal name before
// one that differs only in case, spaces, underscores and hyphens.
type Mapping struct {
	Name    string   `json:"name,omitempty" yaml:"name,omitempty"`
	Names   []string `json:"names,omitempty" yaml:"names,omitempty"`
	Type    string   `json:"type,omitempty" yaml:"type,omitempty"`
	Source  string   `json:"source,omitempty" yaml:"source,omitempty"`
	Meaning Meaning  `json:"meaning" yaml:"meaning"`
	// As makes the messages events of satisfaction; see Act. A standard name that
	// is mapped anew is one no more unless its mapping says so.
	As Act `json:"as,omitempty" yaml:"as,omitempty"`
	// Channel is decided by the channel rules where it is empty.
	Channel string `json:"channel,omitempty" yaml:"channel,omitempty"`
}

// ChannelRule gives a channel to the messages that fit all it names.
type ChannelRule struct {
	Type   string `json:"type,omitempty" yaml:"type,omitempty"`
	Source string `json:"source,omitempty" yaml:"source,omitempty"`
	// Library is the beginning of context.library.name, such as "analytics-node".
	Library string `json:"library,omitempty" yaml:"library,omitempty"`
	Channel string `json:"channel" yaml:"channel"`
}

// Rule is what the policy says of a message.
type Rule struct {
	Meaning Meaning
	Channel string
	// Act is what the message does for satisfaction; empty for most.
	Act Act
	// ByRule is set where no mapping named the channel: it is the one of the
	// channel rules for a message of unknown library, and Compiled.Channel may
	// know better where the library is known.
	ByRule bool
}

// Default is the policy that holds until another is applied: the standard names,
// a purchase that keeps a customer for 60, 120 and 365 days, and customers joined
// by user, visitor and e-mail address. It shares no memory with another.
func Default() Policy {
	return Policy{
		Currency: "USD",
		Lifecycle: Lifecycle{
			AtRiskDays: 60, ChurnedDays: 120, LostDays: 365,
			WonBackDays: 120, LoyalPurchases: 5, LoyalDays: 365,
		},
		Identity: Identities{
			Join:   []string{string(domain.User), string(domain.Anon), string(domain.Email)},
			Limits: defaultLimits(),
			Nobody: []string{},
		},
		Satisfaction: defaultSatisfaction(),
		Standard:     true,
	}
}

// Days turns a number of days into a length of time.
func Days(n int) domain.Millis { return domain.Millis(n) * domain.Day }
