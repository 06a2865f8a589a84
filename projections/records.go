package projections

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"
)

// records are what one goroutine of a flush writes to the state. Of two of one key the
// later counts.
type records struct {
	all    []record
	blocks [][]byte // keys and values
	bytes  int
}

// record is a key and its value, which lie in a block one behind the other.
type record struct {
	head       [2]uint64 // the first bytes of the key, by which it sorts
	block, at  uint32
	key, value uint32 // their lengths; value is gone where the key is to go
}

const (
	gone        = 1<<32 - 1
	recordBlock = 32 << 10 // what Go allocates as a small object; with 1 MiB figure 3 takes a sixth longer
)

func (r *records) set(key, value []byte) { r.add(key, value, uint32(len(value))) }

func (r *records) delete(key []byte) { r.add(key, nil, gone) }

func (r *records) add(key, value []byte, length uint32) {
	n := len(key) + len(value)
	last := len(r.blocks) - 1
	if last < 0 || cap(r.blocks[last])-len(r.blocks[last]) < n {
		// The first ones double: most flushes are small.
		r.blocks = append(r.blocks, make([]byte, 0, max(n, recordBlock>>max(0, 3-len(r.blocks)))))
		last++
	}
	var head [16]byte
	copy(head[:], key)
	r.all = append(r.all, record{
		head:  [2]uint64{binary.BigEndian.Uint64(head[:]), binary.BigEndian.Uint64(head[8:])},
		block: uint32(last), at: uint32(len(r.blocks[last])), key: uint32(len(key)), value: length,
	})
	r.blocks[last] = append(append(r.blocks[last], key...), value...)
	r.bytes += n
}

// letter is that of the kind, with which the key begins.
func (x *record) letter() byte { return byte(x.head[0] >> 56) }

func (r *records) keyOf(x *record) []byte { return r.blocks[x.block][x.at:][:x.key] }

// valueOf is nil where the key is to go.
func (r *records) valueOf(x *record) []byte {
	if x.value == gone {
		return nil
	}
	return r.blocks[x.block][x.at+x.key:][:x.value]
}

// recordWriter is a batch or a table.
type recordWriter struct {
	set    func(key, value []byte) error
	delete func(key []byte) error
}

func (r *records) write(x *record, w recordWriter) error {
	if x.value == gone {
		return w.delete(r.keyOf(x))
	}
	return w.set(r.keyOf(x), r.valueOf(x))
}

// apply puts the records into a batch.
func (r *records) apply(batch *pebble.Batch) error {
	w := recordWriter{
		set:    func(key, value []byte) error { return batch.Set(key, value, nil) },
		delete: func(key []byte) error { return batch.Delete(key, nil) },
	}
	for i := range r.all {
		if err := r.write(&r.all[i], w); err != nil {
			return err
		}
	}
	return nil
}

// placed is where a record stands.
type placed struct {
	head  [2]uint64
	of, n uint32
}

// byLetter are the records of all in the order in which they were made, by the letters
// of their kinds.
func byLetter(all []*records) map[byte][]placed {
	var counts [256]int
	for _, r := range all {
		for i := range r.all {
			counts[r.all[i].letter()]++
		}
	}
	var lists [256][]placed
	for letter, n := range counts {
		lists[letter] = make([]placed, 0, n)
	}
	for of, r := range all {
		for n := range r.all {
			x := &r.all[n]
			lists[x.letter()] = append(lists[x.letter()], placed{x.head, uint32(of), uint32(n)})
		}
	}
	out := map[byte][]placed{}
	for letter, list := range lists {
		if len(list) > 0 {
			out[byte(letter)] = list
		}
	}
	return out
}

// byKey puts some of the records of all in the order of their keys. Of several of one
// key the last remains.
func byKey(all []*records, some []placed) []placed {
	keys := func(a, b *placed) int {
		for i := range a.head {
			if a.head[i] < b.head[i] {
				return -1
			}
			if a.head[i] > b.head[i] {
				return 1
			}
		}
		x, y := all[a.of], all[b.of]
		return bytes.Compare(x.keyOf(&x.all[a.n]), y.keyOf(&y.all[b.n]))
	}
	slices.SortFunc(some, func(a, b placed) int {
		if c := keys(&a, &b); c != 0 {
			return c
		}
		return cmp.Or(cmp.Compare(b.of, a.of), cmp.Compare(b.n, a.n)) // the later first
	})
	return slices.CompactFunc(some, func(a, b placed) bool { return keys(&a, &b) == 0 })
}

// From so many bytes on a flush writes tables for the state, each of about so many, and
// so many at once, of which most wait for the disk.
const (
	ingestBytes  = 8 << 20
	tableBytes   = 4 << 20
	tablesAtOnce = 8
	tableSuffix  = ".records"
)

// ingest writes many records at once, and the checkpoint among them: they are put in
// order and written as tables by all processors, which Pebble takes in as a whole. So
// they need not go through its log and its memory, where one processor would put them
// in order. They are durable on return.
func (s *state) ingest(all []*records, at checkpoint) error {
	var (
		mu             sync.Mutex
		paths          []string
		order, writing errgroup.Group
	)
	order.SetLimit(runtime.GOMAXPROCS(0))
	writing.SetLimit(tablesAtOnce)
	// No table has records of two kinds, because no key of another kind that is in
	// Pebble's memory may lie between its first and its last.
	for letter, some := range byLetter(all) {
		order.Go(func() error {
			some = byKey(all, some)
			for part := 0; len(some) > 0; part++ {
				n, size := 0, 0
				for ; n < len(some) && size < tableBytes; n++ {
					r := all[some[n].of]
					x := &r.all[some[n].n]
					size += len(r.keyOf(x)) + len(r.valueOf(x))
				}
				table := some[:n]
				some = some[n:]
				path := s.fs.PathJoin(s.dir, fmt.Sprintf("%c-%d%s", letter, part, tableSuffix))
				mu.Lock()
				paths = append(paths, path)
				mu.Unlock()
				writing.Go(func() error { return s.writeTable(path, all, table) })
			}
			return nil
		})
	}
	err := errors.Join(order.Wait(), writing.Wait())
	if err == nil {
		s.awaitMerges()
		s.mu.Lock()
		if err = s.db.Ingest(context.Background(), paths); err == nil {
			s.at = at
		}
		s.mu.Unlock()
	}
	return errors.Join(err, s.removeTables())
}

// spareLevels is how many more tables may lie one upon the other in the state's level 0,
// behind what a flush left there, before Pebble keeps writers waiting.
const spareLevels = 4

// awaitMerges waits until Pebble has merged what earlier flushes left. It does not
// itself keep those waiting who bring tables, and would let the next one who writes wait
// for all of them, while nobody can read.
func (s *state) awaitMerges() {
	for int(s.db.Metrics().Levels[0].Sublevels) > s.options.L0StopWritesThreshold-spareLevels {
		<-s.merged
	}
}

// writeTable writes records, which are in the order of their keys, as a table. It is
// durable on return.
func (s *state) writeTable(path string, all []*records, some []placed) (err error) {
	f, err := s.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	table := sstable.NewWriter(objstorageprovider.NewFileWritable(f), s.options.MakeWriterOptions(0, s.db.FormatMajorVersion().MaxTableFormat()))
	defer func() { err = errors.Join(err, table.Close()) }() // which syncs the file
	w := recordWriter{set: table.Set, delete: table.Delete}
	for _, p := range some {
		r := all[p.of]
		if err := r.write(&r.all[p.n], w); err != nil {
			return err
		}
	}
	return nil
}

// removeTables removes the tables that Pebble has taken in, or that a crash left.
func (s *state) removeTables() error {
	names, err := s.fs.List(s.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasSuffix(name, tableSuffix) {
			continue
		}
		if err := s.fs.Remove(s.fs.PathJoin(s.dir, name)); err != nil && !oserror.IsNotExist(err) {
			return err
		}
	}
	return nil
}
