package projections

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sojourn/domain"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
	"sojourn/eventstore"
)

// ordered is a command about points as a test writes it; its instant and its id are
// those of the message that bears it.
type ordered struct {
	kind      string // as in commandNames
	programme string
	subject   domain.Subject
	points    int64
	// of is the message id of the redemption that is cancelled, or of the first half
	// of a transfer; other is its other end.
	of    string
	other domain.Subject
	parts []loyalty.Part
	tier  string // of an opening balance, held for a hundred days
	// counts for tiers.
	counts bool
}

// eventID is the id of a command's event.
func (o *ordered) eventID(id string) uuid.UUID {
	if o.kind == "transfer_in" {
		return loyalty.TransferInID(domain.EventID("commands", o.of))
	}
	return domain.EventID("commands", id)
}

// names is the event that the command names: a redemption, or the other half of a transfer.
func (o *ordered) names(id string) uuid.UUID {
	switch o.kind {
	case "transfer_out":
		return loyalty.TransferInID(o.eventID(id))
	case "transfer_in", "cancel":
		return domain.EventID("commands", o.of)
	}
	return uuid.Nil
}

func (o *ordered) event(m sent) (string, eventstore.NewEvent) {
	stream := testKeyer.Stream(o.subject)
	data := map[string]any{
		"subject": stream, "programme": o.programme, "command": o.kind, "at": m.at.String(),
		"points": o.points, "counts_for_tier": o.counts, "reason": "because " + m.id,
	}
	if id := o.names(m.id); id != uuid.Nil {
		data["of"] = id
	}
	var parts []map[string]any
	for _, p := range o.parts {
		part := map[string]any{"points": p.Points}
		if p.Expires != policy.Never {
			part["expires"] = p.Expires.String()
		}
		parts = append(parts, part)
	}
	data["parts"] = parts
	if o.tier != "" {
		data["tier"], data["tier_until"] = o.tier, (m.at + 100*domain.Day).String()
	}
	raw, _ := json.Marshal(data)
	return domain.GuardStream(domain.SubjectID(stream)), eventstore.NewEvent{
		ID: o.eventID(m.id), Type: domain.TypeLoyaltyCommand, Data: raw,
	}
}

// command is the command as the ledger takes it, written down once more.
func (o *ordered) command(m sent) loyalty.Command {
	c := loyalty.Command{
		Ref: loyalty.Ref{At: m.at, ID: o.eventID(m.id)}, Programme: o.programme, Points: o.points, Of: o.names(m.id),
		Parts: o.parts, CountsForTier: o.counts, Reason: "because " + m.id, Tier: o.tier,
	}
	switch o.kind {
	case "enroll":
		c.Kind = loyalty.Enroll
	case "redeem":
		c.Kind = loyalty.Redeem
	case "cancel":
		c.Kind = loyalty.Cancel
	case "adjust":
		c.Kind = loyalty.Adjust
	case "transfer_out":
		c.Kind = loyalty.TransferOut
	case "transfer_in":
		c.Kind = loyalty.TransferIn
	case "opening":
		c.Kind = loyalty.Opening
	}
	if o.tier != "" {
		c.TierUntil = m.at + 100*domain.Day
	}
	return c
}

// testProgrammes are two: one of all customers by points, one of those who join it by
// spend.
var testProgrammes = func() []policy.Programme {
	var p []policy.Programme
	if err := json.Unmarshal([]byte(`[
		{"id":"shop","currency":"EUR","expiry":{"days":90,"grace_days":3},
		 "earning":{"pending_days":5,"birthday":11,"rates":{"USD":"1.5"},"events":[{"name":"Product Reviewed","points":7}],
			"multipliers":[{"factor":"1.5","products":["tea"]},{"factor":2,"tiers":["gold"]}]},
		 "tiers":{"days":100,"levels":[{"name":"member","threshold":0},{"name":"silver","threshold":20},{"name":"gold","threshold":60}]}},
		{"id":"club","currency":"EUR","time_zone":"Asia/Shanghai","earning":{"enrolment":"explicit","per_unit":2},
		 "tiers":{"by":"spend","window":"calendar","levels":[{"name":"base","threshold":0},{"name":"top","threshold":"29.5"}]}}
	]`), &p); err != nil {
		panic(err)
	}
	return p
}()

// drawCommand draws a command, and of a transfer both halves.
func drawCommand(t *rapid.T, m sent, before []sent, subjects []domain.Subject) []sent {
	o := &ordered{
		programme: rapid.SampledFrom([]string{"shop", "shop", "club"}).Draw(t, "programme"),
		subject:   rapid.SampledFrom(subjects).Draw(t, "of"),
		points:    int64(rapid.IntRange(1, 30).Draw(t, "points")),
	}
	m.command = o
	parts := []loyalty.Part{{Points: o.points, Expires: m.at + domain.Millis(rapid.IntRange(-1, 60).Draw(t, "expires"))*domain.Day}}
	switch rapid.IntRange(0, 9).Draw(t, "which command") {
	case 0, 1:
		o.kind, o.programme, o.points = "enroll", "club", 0
	case 2, 3:
		o.kind = "redeem"
	case 4, 5:
		var of []sent
		for _, b := range before {
			if b.command != nil && b.command.kind == "redeem" {
				of = append(of, b)
			}
		}
		if o.kind = "redeem"; len(of) > 0 {
			// Often of the customer who has redeemed.
			r := rapid.SampledFrom(of).Draw(t, "which")
			o.kind, o.points, o.of, o.programme = "cancel", 0, r.id, r.command.programme
			if rapid.IntRange(0, 3).Draw(t, "of another") > 0 {
				o.subject = r.command.subject
			}
		}
	case 6:
		o.kind, o.counts = "adjust", rapid.Bool().Draw(t, "counts")
		if rapid.Bool().Draw(t, "take") {
			o.points = -o.points
		}
	case 7, 8:
		in := m
		in.id += "in"
		o.kind, o.other = "transfer_out", rapid.SampledFrom(subjects).Draw(t, "to")
		in.command = &ordered{kind: "transfer_in", programme: o.programme, subject: o.other, points: o.points, of: m.id, other: o.subject, parts: parts}
		return []sent{m, in}
	case 9:
		o.kind, o.parts, o.points = "opening", parts, 0
		if rapid.Bool().Draw(t, "tier") {
			o.tier = map[string]string{"shop": "gold", "club": "top"}[o.programme]
		}
	}
	return []sent{m}
}

// drawProducts draws the products of an order or a refund, or none.
func drawProducts(t *rapid.T) string {
	return rapid.SampledFrom([]string{
		"", `,"products":[{"product_id":"tea","price":10,"quantity":1},{"sku":"hat","category":"wear","price":"10"}]`,
		`,"products":[{"product_id":"tea","price":5}]`, `,"products":[{"product_id":"hat"}]`,
	}).Draw(t, "products")
}

// drawOpinion makes a message one of satisfaction.
func drawOpinion(t *rapid.T, m *sent) {
	id := func(kind string) string {
		return fmt.Sprintf("%s%d", kind, rapid.IntRange(1, 2).Draw(t, "which "+kind))
	}
	one := func(what string, of ...string) string { return rapid.SampledFrom(of).Draw(t, what) }
	switch rapid.IntRange(0, 5).Draw(t, "opinion") {
	case 0:
		m.name = "Product Reviewed"
		m.properties = fmt.Sprintf(`{"product_id":%q,"rating":%s,"review_body":%q}`, one("product", "tea", "hat"), one("rating", `"1"`, `"5"`, `"4.5"`, `"9"`), one("comment", "Delivery was late!", "东西很好", ""))
	case 1:
		m.name = "Survey Sent"
		m.properties = fmt.Sprintf(`{"survey_id":%q,"kind":"nps","campaign":"spring"}`, id("s"))
	case 2:
		kind, score := one("kind", "nps", "csat", "ces", "custom", ""), one("score", "0", "1", "4", "5", "7", "9", "10", "11", `"x"`)
		m.name = "Survey Answered"
		m.properties = fmt.Sprintf(`{"survey_id":%q,"kind":%q,"score":%s,"comment":"refund please"}`, id("s"), kind, score)
	case 3:
		m.name = one("complaint", "Complaint Opened", "Complaint Opened", "Complaint Updated", "Complaint Resolved")
		m.properties = fmt.Sprintf(`{"complaint_id":%q,"comment":"broken","priority":"high"}`, id("c"))
	case 4:
		m.name = one("ticket", "Ticket Opened", "Ticket Opened", "Ticket Replied", "Ticket Escalated", "Ticket Resolved", "Ticket Reopened", "Ticket Closed")
		m.properties = fmt.Sprintf(`{"ticket_id":%q,"priority":%q}`, id("t"), one("priority", "high", "low"))
	case 5:
		m.name = one("chat", "Live Chat Conversation Started", "Live Chat Message Sent", "Live Chat Message Received", "Live Chat Message Received", "Live Chat Conversation Ended", "Call Started", "Call Answered", "Call Ended")
		m.properties = fmt.Sprintf(`{"conversation_id":%q,"call_id":%q,"message_body":"hello"}`, id("l"), id("k"))
	}
}

// toldOf is a history in words.
func toldOf(order []sent, at []domain.Millis) string {
	var b strings.Builder
	for i, m := range order {
		if i < len(at) {
			fmt.Fprintf(&b, "recorded %s ", at[i])
		}
		fmt.Fprintf(&b, "of %s, %s: ", m.at, m.id)
		switch {
		case m.decision != "":
			fmt.Fprintln(&b, m.decision, m.these, m.andThem)
		case m.command != nil:
			fmt.Fprintf(&b, "%+v\n", *m.command)
		default:
			fmt.Fprintln(&b, m.kind, "user", m.user, "anon", m.anon, "previous", m.prev, m.name, m.properties, m.traits, m.group)
		}
	}
	return b.String()
}
