package storebench

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/uuid"

	"sojourn/eventstore"
)

var (
	held     = flag.Int("storebench.held", 20_000, "events held before the first round")
	rounds   = flag.Int("storebench.rounds", 2, "rounds")
	writer   = flag.Int("storebench.writer-events", 5_000, "events of a round with many writers")
	batch    = flag.Int("storebench.batch-events", 20_000, "events of a round in batches")
	callers  = flag.Int("storebench.callers", 0, "callers that append batches")
	benchDir = flag.String("storebench.dir", "", "where to measure; a temporary directory if empty")
)

// shopEvent makes events of about 400 bytes on 100,000 streams, no two alike.
func shopEvent(i int) (string, eventstore.NewEvent) {
	rng := rand.New(rand.NewPCG(uint64(i), 7))
	var id uuid.UUID
	binary.LittleEndian.PutUint64(id[:], rng.Uint64())
	binary.LittleEndian.PutUint64(id[8:], rng.Uint64())
	user := rng.IntN(100_000)
	meta := make([]byte, 60)
	for k := range meta {
		meta[k] = byte(rng.Uint32())
	}
	data := fmt.Sprintf(`{"type":"track","event":"Product Viewed","userId":"u%d","messageId":"%s","timestamp":"2026-%02d-%02dT%02d:%02d:%02d.%03dZ","properties":{"product_id":"p%d","price":%d.%02d,"currency":"USD","quantity":%d,"category":"c%d"},"context":{"ip":"10.%d.%d.%d"}}`,
		user, id, 1+rng.IntN(12), 1+rng.IntN(28), rng.IntN(24), rng.IntN(60), rng.IntN(60), rng.IntN(1000),
		rng.IntN(5000), rng.IntN(500), rng.IntN(100), 1+rng.IntN(4), rng.IntN(40), rng.IntN(256), rng.IntN(256), rng.IntN(256))
	return fmt.Sprintf("user-%016x%016x", uint64(user)*0x9e3779b97f4a7c15, user),
		eventstore.NewEvent{ID: id, Type: "touchpoint.v1", Metadata: meta, Data: []byte(data)}
}

func TestRun(t *testing.T) {
	dir := *benchDir
	if dir == "" {
		dir = t.TempDir()
	}
	report, err := Run(t.Context(), dir, Config{
		Event: shopEvent, Held: *held, Rounds: *rounds, Writers: 512,
		WriterEvents: *writer, BatchEvents: *batch, BatchCallers: *callers,
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]Figure{"writers": report.Writers, "batches": report.Batches, "scan": report.Scan} {
		if len(f.Store) != *rounds || len(f.Raw) != *rounds || f.Ratio() <= 0 {
			t.Errorf("%s: %+v", name, f)
		}
		t.Logf("%s: %v, rounds %.0f, raw %.0f", name, f, f.Store, f.Raw)
	}
	t.Logf("reopened in %v", report.Reopen)
}
