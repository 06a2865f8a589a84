package ingest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/eventstore"
	"sojourn/ingest"
)

// nothing is a log that keeps nothing and knows no id.
type nothing struct{ ingest.Log }

func (nothing) AppendMany(_ context.Context, parts []eventstore.Append) ([]eventstore.Result, error) {
	return make([]eventstore.Result, len(parts)), nil
}

func (nothing) Lookup(context.Context, []uuid.UUID, []eventstore.Position) error { return nil }

// BenchmarkIngest is what ingest itself costs a parsed message: normalising,
// header, stream, event id and claims, without the store.
func BenchmarkIngest(b *testing.B) {
	s, err := ingest.New(ingest.Config{Log: nothing{}, Index: nothing{}, Keyer: domain.NewKeyer(make([]byte, domain.KeySize))})
	if err != nil {
		b.Fatal(err)
	}
	var texts []string
	for i := range 100 {
		texts = append(texts, fmt.Sprintf(`{"type":"track","messageId":"%s","timestamp":"2026-03-01T09:00:%02d.123Z","userId":"u%d","anonymousId":"%s","event":"Order Completed",`+
			`"properties":{"product_id":"p%d","name":"Canvas Bag","price":12.5,"currency":"EUR","quantity":1,"category":"bags"},"context":{"page":{"path":"/bags/1"},"locale":"de-DE"}}`,
			uuid.NewString(), i%60, i*7, uuid.NewString(), i))
	}
	batch := &ingest.Batch{Source: "shop", SentAt: ingest.Scalar(`"2026-03-01T10:00:00.000Z"`), Messages: parse(b, texts...)}
	b.ReportAllocs()
	for b.Loop() {
		if out, err := s.Ingest(b.Context(), batch, 0); err != nil || out.Accepted != 100 {
			b.Fatal(out, err)
		}
	}
	b.ReportMetric(float64(b.N)*100/b.Elapsed().Seconds(), "events/s")
}
