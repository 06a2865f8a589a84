package commerce_test

import (
	"encoding/json"
	"testing"

	"sojourn/domain/commerce"
	"sojourn/domain/policy"
)

func read(t *testing.T, m policy.Meaning, properties string) commerce.Order {
	t.Helper()
	var props map[string]json.RawMessage
	if err := json.Unmarshal([]byte(properties), &props); err != nil {
		t.Fatalf("%s: %v", properties, err)
	}
	return commerce.Read(m, func(key string) []byte { return props[key] })
}

func TestAmounts(t *testing.T) {
	const none, unreadable = "none", "unreadable"
	purchase, update, refund, cancellation := policy.Purchase, policy.OrderUpdate, policy.Refund, policy.Cancellation
	for _, c := range []struct {
		meaning    policy.Meaning
		properties string
		want       string
		why        string
	}{
		{purchase, `{"total":27.5,"revenue":25,"value":30}`, "27.5", "total first"},
		{purchase, `{"revenue":25.00,"value":30}`, "25", "else revenue"},
		{purchase, `{"value":"30.10"}`, "30.1", "else value, a numeric string too"},
		{purchase, `{"total":null,"revenue":25}`, "25", "null is not there"},
		{purchase, `{"total":"","revenue":25}`, unreadable, "the first that is there decides, readable or not"},
		{purchase, `{"total":"12,50"}`, unreadable, "no number"},
		{purchase, `{"total":{}}`, unreadable, "no number"},
		{purchase, `{"total":true}`, unreadable, "no number"},
		{purchase, `{"total":1e99}`, unreadable, "out of range"},
		{purchase, `{"total":29.329999999999998}`, "29.33", "from the number's own text"},
		{purchase, `{"total":0}`, "0", "zero is an amount"},
		{purchase, `{"total":-5}`, "-5", "a purchase keeps its sign"},
		{purchase, `{"products":[{"price":3}]}`, none, "products are for refunds"},
		{update, `{"total":12}`, "12", "an update as a purchase"},
		{update, `{}`, none, "an update as a purchase"},
		{refund, `{"total":-12.5}`, "12.5", "a refund's sign is ignored"},
		{refund, `{"total":"x","products":[{"price":3}]}`, unreadable, "the first that is there decides"},
		{refund, `{"products":[{"price":19,"quantity":1},{"price":3,"quantity":2}]}`, "25", "price × quantity"},
		{refund, `{"products":[{"price":"19.99"}]}`, "19.99", "a missing quantity is one"},
		{refund, `{"products":[{"price":5,"quantity":null}]}`, "5", "a null quantity is one"},
		{refund, `{"products":[{"price":-5,"quantity":2}]}`, "10", "the sign of the sum is ignored"},
		{refund, `{"products":[{"price":5},{"product_id":"x"}]}`, "5", "a product without a price is left out"},
		{refund, `{"products":[{"product_id":"x","quantity":1}]}`, none, "no product has a price"},
		{refund, `{"products":[]}`, none, "no products"},
		{refund, `{"products":null}`, none, "no products"},
		{refund, `{"products":"x"}`, unreadable, "products that are none"},
		{refund, `{"products":[1]}`, unreadable, "products that are none"},
		{refund, `{"products":[{"price":"x"}]}`, unreadable, "a price that is none"},
		{refund, `{"products":[{"price":1,"quantity":"many"}]}`, unreadable, "a quantity that is none"},
		{refund, `{"products":[{"price":99999999999999,"quantity":2}]}`, unreadable, "out of range"},
		{refund, `{}`, none, "all that is left"},
		{cancellation, `{"total":5}`, none, "all that is left whatever it carries"},
	} {
		o := read(t, c.meaning, c.properties)
		got := map[commerce.AmountState]string{commerce.AmountNone: none, commerce.AmountUnreadable: unreadable}[o.State]
		if o.State == commerce.AmountRead {
			got = o.Amount.String()
		} else if o.Amount != 0 {
			t.Errorf("%s: %s has state %d and amount %s", c.why, c.properties, o.State, o.Amount)
		}
		if got != c.want {
			t.Errorf("%s: %s of %s is %s, want %s", c.why, c.meaning, c.properties, got, c.want)
		}
	}
}

func TestOrderIDsAndCurrencies(t *testing.T) {
	for properties, want := range map[string]commerce.Order{
		`{"order_id":"A-1","currency":"USD"}`:            {ID: "A-1", Currency: "USD"},
		`{"order_id":42,"currency":"eur"}`:               {ID: "42", Currency: "EUR"},
		`{"order_id":"\u00e9","currency":" chf "}`:       {ID: "é", Currency: "CHF"},
		`{"order_id":"","currency":""}`:                  {},
		`{"order_id":null,"currency":null}`:              {},
		`{"order_id":"  ","currency":5}`:                 {},
		`{"order_id":{"a":1},"currency":["USD"]}`:        {},
		`{"order_id":true}`:                              {},
		`{"orderId":"v1"}`:                               {ID: "v1"},
		`{"order_id":"a","orderId":"b"}`:                 {ID: "a"},
		`{"currency":"A CURRENCY NOBODY EVER HEARD OF"}`: {},
		`{}`: {},
	} {
		if got := read(t, policy.Purchase, properties); got != want {
			t.Errorf("%s is %+v, want %+v", properties, got, want)
		}
	}
	if got := read(t, policy.Engagement, `{"order_id":"a","total":5}`); got != (commerce.Order{}) {
		t.Errorf("a product view has an order: %+v", got)
	}
}

func BenchmarkRead(b *testing.B) {
	props := map[string][]byte{"order_id": []byte(`"50314b8e9bcf000000000000"`), "total": []byte("27.50"), "currency": []byte(`"USD"`)}
	prop := func(key string) []byte { return props[key] }
	b.ReportAllocs()
	for b.Loop() {
		commerce.Read(policy.Purchase, prop)
	}
}
