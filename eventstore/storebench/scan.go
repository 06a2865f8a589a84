package storebench

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"sojourn/eventstore/pebblestore"
)

// RawScan reads all records of a raw database and returns their number. It is
// the baseline of everything that reads the log.
func RawScan(db *pebble.DB) (records int, err error) {
	it, err := db.NewIter(nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	var sum byte
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return records, err
		}
		if len(v) > 0 {
			sum ^= v[len(v)-1]
		}
		records++
	}
	_ = sum
	return records, it.Error()
}

// CopyRaw fills a raw database with the events of a store, one record each, so
// that RawScan reads the same records as the store does.
func CopyRaw(ctx context.Context, db *pebble.DB, s *pebblestore.Store) error {
	batch := db.NewBatch()
	var key [9]byte
	key[0] = 'l'
	for e, err := range s.ReadAll(ctx, 0) {
		if err != nil {
			return err
		}
		for i := range 8 {
			key[8-i] = byte(e.Position >> (8 * i))
		}
		if err := batch.Set(key[:], rawValue(e.Stream, e.NewEvent), nil); err != nil {
			return err
		}
		if batch.Len() > 4<<20 {
			if err := batch.Commit(pebble.NoSync); err != nil {
				return err
			}
			batch = db.NewBatch()
		}
	}
	return errors.Join(batch.Commit(pebble.Sync), db.Flush())
}

// scan reads everything on both sides in turn. Their numbers of records may
// differ by little; the rates do not depend on it.
func (b *bench) scan(ctx context.Context, f *Figure) error {
	if err := errors.Join(b.store.FlushTables(ctx), b.raw.Flush()); err != nil {
		return err
	}
	for range b.Rounds {
		begun := time.Now()
		n := 0
		for _, err := range b.store.ReadAll(ctx, 0) {
			if err != nil {
				return err
			}
			n++
		}
		f.Store = append(f.Store, float64(n)/time.Since(begun).Seconds())
		begun = time.Now()
		n, err := RawScan(b.raw)
		if err != nil {
			return err
		}
		f.Raw = append(f.Raw, float64(n)/time.Since(begun).Seconds())
	}
	f.median()
	return nil
}

// reopen closes the store and measures how long it takes to open.
func (b *bench) reopen(report *Report) error {
	err := b.store.Close()
	b.store = nil
	if err != nil {
		return err
	}
	begun := time.Now()
	b.store, err = pebblestore.Open(filepath.Join(b.dir, "store"), b.options())
	report.Reopen = time.Since(begun)
	return err
}
