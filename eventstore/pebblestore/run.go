package pebblestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"sort"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"sojourn/eventstore"
)

// A run is an immutable file of event ids, sorted by hash: chunks of
// runChunkEntries entries, then a Bloom filter, a table of the chunks and a
// footer. docs/log-format.md describes it. Filter and table are kept in memory,
// chunks are read when the filter lets a hash pass.
const (
	runMagic        = 0x736f6a6964780002 // "sojidx", version 2
	runEntryLen     = 11                 // 6 bytes of hash, 5 of position
	runChunkEntries = 256
	runChunkLen     = runEntryLen * runChunkEntries
	runTableEntry   = 12 // first hash of the chunk, its checksum
	runFooterLen    = 56
	maxRunPosition  = 1<<40 - 1
)

var (
	errRunRetired = errors.New("index run retired")
	errBadRun     = errors.New("index run damaged")
)

// runInfo names a run; the manifest lists them.
type runInfo struct {
	first, last eventstore.Position // the positions whose ids it holds
	count       int
}

func (i runInfo) fileName() string {
	return fmt.Sprintf("%010x-%010x.ids", uint64(i.first), uint64(i.last))
}

type run struct {
	runInfo
	path   string
	filter bloomFilter
	firsts []uint64 // first hash of each chunk
	sums   []uint32 // checksum of each chunk

	mu      sync.RWMutex // held while the file is read
	file    vfs.File
	retired bool
}

// openRun opens a run and verifies every byte of it.
func openRun(fs vfs.FS, dir string, info runInfo, seed hashSeed) (_ *run, err error) {
	path := fs.PathJoin(dir, info.fileName())
	f, err := fs.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return nil, fmt.Errorf("open index run: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	stat, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open index run: %w", err)
	}
	if stat.Size() < runFooterLen {
		return nil, fmt.Errorf("%w: %s is cut short", errBadRun, path)
	}
	footer := make([]byte, runFooterLen)
	if err := readFull(f, footer, stat.Size()-runFooterLen); err != nil {
		return nil, err
	}
	got := runInfo{
		first: eventstore.Position(binary.LittleEndian.Uint64(footer[8:])),
		last:  eventstore.Position(binary.LittleEndian.Uint64(footer[16:])),
		count: int(binary.LittleEndian.Uint64(footer[24:])),
	}
	filterWords := binary.LittleEndian.Uint64(footer[32:])
	if binary.LittleEndian.Uint64(footer) != runMagic {
		return nil, fmt.Errorf("%w: %s is of another version", errBadRun, path)
	}
	if got != info ||
		binary.LittleEndian.Uint64(footer[40:]) != seed.fingerprint() {
		return nil, fmt.Errorf("%w: %s is not what the manifest names", errBadRun, path)
	}
	chunks := (got.count + runChunkEntries - 1) / runChunkEntries
	metaLen := int64(filterWords)*8 + int64(chunks)*runTableEntry
	if int64(got.count)*runEntryLen+metaLen+runFooterLen != stat.Size() {
		return nil, fmt.Errorf("%w: %s has the wrong size", errBadRun, path)
	}
	meta := make([]byte, metaLen)
	if err := readFull(f, meta, stat.Size()-runFooterLen-metaLen); err != nil {
		return nil, err
	}
	sum := crc32.Update(crc32.Checksum(meta, castagnoli), castagnoli, footer[:runFooterLen-4])
	if sum != binary.LittleEndian.Uint32(footer[runFooterLen-4:]) {
		return nil, fmt.Errorf("%w: %s fails its checksum", errBadRun, path)
	}
	r := &run{
		runInfo: info, path: path, file: f,
		filter: make(bloomFilter, filterWords),
		firsts: make([]uint64, chunks),
		sums:   make([]uint32, chunks),
	}
	for i := range r.filter {
		r.filter[i] = binary.LittleEndian.Uint64(meta[i*8:])
	}
	for i := range r.firsts {
		at := meta[len(r.filter)*8+i*runTableEntry:]
		r.firsts[i] = binary.LittleEndian.Uint64(at)
		r.sums[i] = binary.LittleEndian.Uint32(at[8:])
	}
	if err := r.verify(); err != nil {
		return nil, err
	}
	return r, nil
}

func readFull(f vfs.File, p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: short read", errBadRun)
	}
	return fmt.Errorf("read index run: %w", err)
}

// verify checks every chunk.
func (r *run) verify() error {
	c := newRunCursor(r)
	for {
		if _, ok, err := c.next(); err != nil || !ok {
			return err
		}
	}
}

// chunks reads and checks neighbouring chunks, as many from the i-th on as buf has room
// for. The caller holds mu, or has the run to itself.
func (r *run) chunks(i int, buf []byte) ([]byte, error) {
	b := buf[:min(len(buf)/runChunkLen*runChunkLen, (r.count-i*runChunkEntries)*runEntryLen)]
	if err := readFull(r.file, b, int64(i)*runChunkLen); err != nil {
		return nil, err
	}
	for rest := b; len(rest) > 0; i++ {
		n := min(runChunkLen, len(rest))
		if crc32.Checksum(rest[:n], castagnoli) != r.sums[i] {
			return nil, fmt.Errorf("%w: %s fails its checksum in chunk %d", errBadRun, r.path, i)
		}
		rest = rest[n:]
	}
	return b, nil
}

// find appends the positions that stand under a hash, in ascending order.
func (r *run) find(dst []eventstore.Position, hash uint64) ([]eventstore.Position, error) {
	if !r.filter.mayContain(hash) {
		return dst, nil
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.retired {
		return dst, errRunRetired
	}
	// Equal hashes may begin in the chunk before the first one that starts there.
	i := max(0, sort.Search(len(r.firsts), func(i int) bool { return r.firsts[i] >= hash })-1)
	var buf [runChunkLen]byte
	for ; i < len(r.firsts) && r.firsts[i] <= hash; i++ {
		b, err := r.chunks(i, buf[:])
		if err != nil {
			return dst, err
		}
		n := len(b) / runEntryLen
		at := sort.Search(n, func(k int) bool { return getEntry(b[k*runEntryLen:]).hash >= hash })
		for ; at < n; at++ {
			e := getEntry(b[at*runEntryLen:])
			if e.hash != hash {
				return dst, nil
			}
			dst = append(dst, e.position)
		}
	}
	return dst, nil
}

// close ends the use of the file; finds under way are waited for.
func (r *run) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.retired {
		return nil
	}
	r.retired = true
	return r.file.Close()
}

func putEntry(dst []byte, e entry) {
	binary.BigEndian.PutUint32(dst, uint32(e.hash>>16))
	binary.BigEndian.PutUint16(dst[4:], uint16(e.hash))
	dst[6] = byte(e.position >> 32)
	binary.BigEndian.PutUint32(dst[7:], uint32(e.position))
}

func getEntry(b []byte) entry {
	_ = b[runEntryLen-1]
	return entry{
		hash:     uint64(binary.BigEndian.Uint32(b))<<16 | uint64(binary.BigEndian.Uint16(b[4:])),
		position: eventstore.Position(b[6])<<32 | eventstore.Position(binary.BigEndian.Uint32(b[7:])),
	}
}

func (s *hashSeed) fingerprint() uint64 { return mum(s[0]^s[2], s[1]|1) }

// cursorChunks is how many chunks a cursor reads at once.
const cursorChunks = 32

// runCursor reads a run from its beginning to its end.
type runCursor struct {
	run   *run
	chunk int
	buf   []byte
	b     []byte
}

func newRunCursor(r *run) *runCursor {
	return &runCursor{run: r, buf: make([]byte, min(cursorChunks, len(r.firsts))*runChunkLen)}
}

func (c *runCursor) next() (entry, bool, error) {
	if len(c.b) == 0 {
		if c.chunk >= len(c.run.firsts) {
			return entry{}, false, nil
		}
		var err error
		if c.b, err = c.run.chunks(c.chunk, c.buf); err != nil {
			return entry{}, false, err
		}
		c.chunk += cursorChunks
	}
	e := getEntry(c.b)
	c.b = c.b[runEntryLen:]
	return e, true, nil
}

// runWriter writes a run whose entries come in order.
type runWriter struct {
	fs    vfs.FS
	dir   string
	tmp   string
	f     vfs.File
	run   *run // what is written, but for its file
	chunk []byte
	out   []byte
	n     int
}

const runWriteBuffer = 256 << 10

// newRunWriter begins a run of info.count entries under a temporary name.
func newRunWriter(fs vfs.FS, dir string, info runInfo) (*runWriter, error) {
	if info.last > maxRunPosition {
		return nil, fmt.Errorf("write index run: position %d is beyond the format's %d", info.last, uint64(maxRunPosition))
	}
	path := fs.PathJoin(dir, info.fileName())
	w := &runWriter{fs: fs, dir: dir, tmp: path + tmpSuffix, run: &run{runInfo: info, path: path, filter: newBloomFilter(info.count)}}
	f, err := fs.Create(w.tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, fmt.Errorf("write index run: %w", err)
	}
	w.f = f
	w.chunk = make([]byte, 0, runChunkLen)
	w.out = make([]byte, 0, runWriteBuffer+runChunkLen)
	return w, nil
}

const tmpSuffix = ".tmp"

func (w *runWriter) add(e entry) error {
	if len(w.chunk) == 0 {
		w.run.firsts = append(w.run.firsts, e.hash)
	}
	w.run.filter.add(e.hash)
	w.n++
	w.chunk = w.chunk[:len(w.chunk)+runEntryLen]
	putEntry(w.chunk[len(w.chunk)-runEntryLen:], e)
	if len(w.chunk) == runChunkLen {
		return w.endChunk()
	}
	return nil
}

func (w *runWriter) endChunk() error {
	w.run.sums = append(w.run.sums, crc32.Checksum(w.chunk, castagnoli))
	w.out = append(w.out, w.chunk...)
	w.chunk = w.chunk[:0]
	if len(w.out) < runWriteBuffer {
		return nil
	}
	return w.flush()
}

func (w *runWriter) flush() error {
	if _, err := w.f.Write(w.out); err != nil {
		return fmt.Errorf("write index run: %w", err)
	}
	w.out = w.out[:0]
	return nil
}

// finish makes the run durable under its name and opens it. It is not read again: that
// would come from the memory that it was written to.
func (w *runWriter) finish(seed hashSeed) (_ *run, err error) {
	f, r := w.f, w.run
	defer func() {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if w.n != r.count {
		return nil, fmt.Errorf("write index run: %d entries instead of %d", w.n, r.count)
	}
	if len(w.chunk) > 0 {
		if err := w.endChunk(); err != nil {
			return nil, err
		}
	}
	meta := make([]byte, 0, len(r.filter)*8+len(r.firsts)*runTableEntry+runFooterLen)
	for _, word := range r.filter {
		meta = binary.LittleEndian.AppendUint64(meta, word)
	}
	for i, first := range r.firsts {
		meta = binary.LittleEndian.AppendUint64(meta, first)
		meta = binary.LittleEndian.AppendUint32(meta, r.sums[i])
	}
	meta = binary.LittleEndian.AppendUint64(meta, runMagic)
	meta = binary.LittleEndian.AppendUint64(meta, uint64(r.first))
	meta = binary.LittleEndian.AppendUint64(meta, uint64(r.last))
	meta = binary.LittleEndian.AppendUint64(meta, uint64(r.count))
	meta = binary.LittleEndian.AppendUint64(meta, uint64(len(r.filter)))
	meta = binary.LittleEndian.AppendUint64(meta, seed.fingerprint())
	meta = binary.LittleEndian.AppendUint32(meta, 0) // reserved
	meta = binary.LittleEndian.AppendUint32(meta, crc32.Checksum(meta, castagnoli))
	w.out = append(w.out, meta...)
	if err := w.flush(); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, fmt.Errorf("sync index run: %w", err)
	}
	f = nil
	if err := w.f.Close(); err != nil {
		return nil, fmt.Errorf("close index run: %w", err)
	}
	if err := w.fs.Rename(w.tmp, r.path); err != nil {
		return nil, fmt.Errorf("name index run: %w", err)
	}
	if err := syncDir(w.fs, w.dir); err != nil {
		return nil, err
	}
	if r.file, err = w.fs.Open(r.path); err != nil {
		return nil, fmt.Errorf("open index run: %w", err)
	}
	return r, nil
}

// abort gives up a run that was begun.
func (w *runWriter) abort() error {
	return errors.Join(w.f.Close(), w.fs.Remove(w.tmp))
}

// makeDir makes a directory and those above it that are missing, durably.
func makeDir(fs vfs.FS, dir string) error {
	if _, err := fs.Stat(dir); err == nil {
		return nil
	}
	parent := fs.PathDir(dir)
	if parent != dir {
		if err := makeDir(fs, parent); err != nil {
			return err
		}
	}
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return syncDir(fs, parent)
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// writeRun writes a run and opens it.
func writeRun(fs vfs.FS, dir string, seed hashSeed, info runInfo, fill func(add func(entry) error) error) (*run, error) {
	w, err := newRunWriter(fs, dir, info)
	if err != nil {
		return nil, err
	}
	if err := fill(w.add); err != nil {
		return nil, errors.Join(err, w.abort())
	}
	return w.finish(seed)
}

// mergeRuns writes one run that holds what neighbouring runs hold.
func mergeRuns(fs vfs.FS, dir string, seed hashSeed, runs []*run) (*run, error) {
	info := runInfo{first: runs[0].first, last: runs[len(runs)-1].last}
	for _, r := range runs {
		info.count += r.count
	}
	return writeRun(fs, dir, seed, info, func(add func(entry) error) error {
		type head struct {
			entry
			cursor *runCursor
		}
		var heads []head
		for _, r := range runs {
			c := newRunCursor(r)
			e, ok, err := c.next()
			if err != nil {
				return err
			}
			if ok {
				heads = append(heads, head{e, c})
			}
		}
		for len(heads) > 0 {
			least := 0
			for i := 1; i < len(heads); i++ {
				if less(heads[i].entry, heads[least].entry) {
					least = i
				}
			}
			if err := add(heads[least].entry); err != nil {
				return err
			}
			e, ok, err := heads[least].cursor.next()
			if err != nil {
				return err
			}
			if heads[least].entry = e; !ok {
				heads = slices.Delete(heads, least, least+1)
			}
		}
		return nil
	})
}
