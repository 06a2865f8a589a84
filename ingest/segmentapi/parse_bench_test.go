package segmentapi_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/uuid"

	"sojourn/ingest/segmentapi"
)

// trackingBatch is the body of a batch of n messages of about 400 bytes, no two
// alike, of 100,000 customers.
func trackingBatch(r *rand.Rand, n int) []byte {
	names := []string{"Product Viewed", "Order Completed", "Product Added", "Products Searched", "Checkout Started"}
	var b strings.Builder
	b.WriteString(`{"sentAt":"2026-03-01T10:00:00.000Z","context":{"library":{"name":"bench","version":"1.0"}},"batch":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"type":"track","messageId":"%s","timestamp":"2026-03-01T09:%02d:%02d.%03dZ","userId":"u%d","anonymousId":"%s","event":%q,`+
			`"properties":{"product_id":"p%d","name":"Canvas Bag %d","price":%d.%02d,"currency":"EUR","quantity":%d,"position":%d,"category":"bags"},`+
			`"context":{"page":{"path":"/bags/%d","title":"Bags"},"device":{"type":"mobile"},"locale":"de-DE"}}`,
			uid(r), r.IntN(60), r.IntN(60), r.IntN(1000), r.IntN(100_000), uid(r), names[r.IntN(len(names))],
			r.IntN(5000), r.IntN(500), r.IntN(200), r.IntN(100), 1+r.IntN(4), r.IntN(40), r.IntN(5000))
	}
	b.WriteString(`]}`)
	return []byte(b.String())
}

func uid(r *rand.Rand) uuid.UUID {
	var u uuid.UUID
	for i := range u {
		u[i] = byte(r.Uint32())
	}
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return u
}

// BenchmarkParse is the parser against the standard library's, on the body of a
// batch of 100 tracking messages.
func BenchmarkParse(b *testing.B) {
	body := trackingBatch(rand.New(rand.NewPCG(1, 2)), 100)
	run := func(name string, parse func([]byte) (int, error)) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if n, err := parse(body); err != nil || n != 100 {
					b.Fatal(n, err)
				}
			}
			b.ReportMetric(float64(b.N)*100/b.Elapsed().Seconds(), "events/s")
		})
	}
	run("jsontext", segmentapi.ParseOnly)
	run("encoding-json", func(body []byte) (int, error) {
		var call struct {
			WriteKey, SentAt      json.RawMessage
			Context, Integrations json.RawMessage
			Batch                 []json.RawMessage
		}
		if err := json.Unmarshal(body, &call); err != nil {
			return 0, err
		}
		for _, raw := range call.Batch {
			var m struct {
				Type, MessageID, UserID, AnonymousID, PreviousID, Event, Name, Timestamp, SentAt json.RawMessage
			}
			if err := json.Unmarshal(raw, &m); err != nil {
				return 0, err
			}
		}
		return len(call.Batch), nil
	})
}
