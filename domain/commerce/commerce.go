// Package commerce reads the money out of a message: which order it is about, how
// much, in which currency.
package commerce

import (
	"bytes"
	"encoding/json"
	"strings"

	"sojourn/domain"
	"sojourn/domain/policy"
)

// AmountState says what became of an amount.
type AmountState uint8

// The states of an amount. The numbers are part of the format of the state cache.
const (
	// AmountNone: the message names no amount. A purchase counts all the same; a
	// refund takes back all that is left of its order.
	AmountNone AmountState = iota
	// AmountRead: Order.Amount holds it.
	AmountRead
	// AmountUnreadable: there is one, but no decimal number. A purchase counts; a
	// refund takes back nothing; an update changes nothing.
	AmountUnreadable
)

// Order is what a message says of an order.
type Order struct {
	ID     string // as sent, numbers as their own text; empty where missing
	Amount domain.Decimal
	State  AmountState
	// Currency is in upper case, empty where missing: then a purchase has the
	// policy's default, an update or a refund the one of its order.
	Currency string
}

// HasOrder reports whether messages of this meaning speak of an order.
func HasOrder(m policy.Meaning) bool {
	switch m {
	case policy.Purchase, policy.OrderUpdate, policy.Refund, policy.Cancellation:
		return true
	}
	return false
}

// maxCurrency bounds what is taken for the code of a currency, in bytes.
const maxCurrency = 16

// Read reads an order from a message's properties. prop returns the raw JSON
// value of one, or nil where the message has none. The amount is the first that
// is there and not null of total, revenue and value. For a refund its sign is
// ignored, and where there is none it is the sum of price × quantity of the
// products that have a price. A cancellation is of all that is left whatever
// amounts it carries, so it has none. For other meanings Read returns the zero
// Order.
func Read(meaning policy.Meaning, prop func(key string) []byte) Order {
	if !HasOrder(meaning) {
		return Order{}
	}
	o := Order{ID: orderID(prop("order_id")), Currency: currency(prop("currency"))}
	if o.ID == "" {
		// The first version of Segment's e-commerce spec spells it so.
		o.ID = orderID(prop("orderId"))
	}
	if meaning == policy.Cancellation {
		return o
	}
	o.Amount, o.State = amount(prop)
	if meaning == policy.Refund {
		if o.State == AmountNone {
			o.Amount, o.State = productSum(prop("products"))
		}
		o.Amount = o.Amount.Abs()
	}
	return o
}

func missing(raw []byte) bool {
	return len(raw) == 0 || string(raw) == "null"
}

func orderID(raw []byte) string {
	raw = bytes.TrimSpace(raw)
	if missing(raw) {
		return ""
	}
	if c := raw[0]; c == '-' || c >= '0' && c <= '9' {
		return string(raw)
	}
	s, ok := domain.JSONString(raw)
	if !ok || strings.TrimSpace(s) == "" {
		return ""
	}
	return s
}

func currency(raw []byte) string {
	switch string(raw) { // the common ones cost no memory
	case `"USD"`:
		return "USD"
	case `"EUR"`:
		return "EUR"
	case `"GBP"`:
		return "GBP"
	}
	s, ok := domain.JSONString(bytes.TrimSpace(raw))
	if !ok {
		return ""
	}
	s = strings.ToUpper(strings.TrimSpace(s))
	if len(s) > maxCurrency {
		return ""
	}
	return s
}

func amount(prop func(string) []byte) (domain.Decimal, AmountState) {
	for _, key := range [...]string{"total", "revenue", "value"} {
		raw := bytes.TrimSpace(prop(key))
		if missing(raw) {
			continue
		}
		if d, ok := domain.ReadDecimal(raw); ok {
			return d, AmountRead
		}
		return 0, AmountUnreadable
	}
	return 0, AmountNone
}

// productSum adds price × quantity; a missing quantity is one. Products without a
// price are left out; where none has one there is no sum.
func productSum(raw []byte) (domain.Decimal, AmountState) {
	raw = bytes.TrimSpace(raw)
	if missing(raw) {
		return 0, AmountNone
	}
	var products []struct {
		Price    json.RawMessage `json:"price"`
		Quantity json.RawMessage `json:"quantity"`
	}
	if err := json.Unmarshal(raw, &products); err != nil {
		return 0, AmountUnreadable
	}
	sum, state := domain.Decimal(0), AmountNone
	for _, p := range products {
		if missing(p.Price) {
			continue
		}
		price, ok := domain.ReadDecimal(p.Price)
		if !ok {
			return 0, AmountUnreadable
		}
		if !missing(p.Quantity) {
			quantity, ok := domain.ReadDecimal(p.Quantity)
			if !ok {
				return 0, AmountUnreadable
			}
			if price, ok = price.Mul(quantity); !ok {
				return 0, AmountUnreadable
			}
		}
		sum, state = sum.Add(price), AmountRead
	}
	return sum, state
}
