package pebblestore

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sort"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"sojourn/eventstore"
)

// A run file is immutable: records in the order of their keys, packed into chunks of
// about runChunkLen bytes, then a Bloom filter, a table of the chunks and a footer.
// docs/log-format.md describes it. Filter and table are kept in memory, chunks are read
// when the filter lets a hash pass.
const (
	runChunkLen   = 256 * idRecordLen
	runTableEntry = 26 // key of the chunk's first record, its length and checksum
	runFooterLen  = 64
)

var (
	errRunRetired = errors.New("index run retired")
	errBadRun     = errors.New("index run damaged")
)

// runKind is one of the two kinds of run files.
type runKind int

const (
	idRuns     runKind = iota // the ids of events
	streamRuns                // the places of the events of streams
	runKinds
)

var runFormats = [runKinds]struct {
	ext   string
	magic uint64 // and version
	// next reads the key of the first of some records, and its length; 0 where it cannot be
	// read.
	next func(b []byte) (runKey, int)
	// fanIn is how many files are merged at once, and growth how much larger all the others
	// together are than the oldest of them: the larger, the more seldom a record is written
	// anew, and the more files there are. Every event to be appended is looked up in all
	// files of ids, a stream in all of streams when it is read, and when its revision is not
	// in memory.
	fanIn, growth int
}{
	idRuns:     {ext: ".ids", magic: 0x736f6a6964780003, next: nextID, fanIn: 4, growth: 1},
	streamRuns: {ext: ".streams", magic: 0x736f6a7374720001, next: nextBlock, fanIn: 16, growth: 8},
}

// runKey is what records are in order of. The filter is made of the hash's top bits.
type runKey struct {
	hash uint64
	n    uint64 // a position, or a revision
	tag  uint16 // stands before n
}

func (k runKey) compare(o runKey) int {
	switch {
	case k.hash != o.hash:
		return cmp.Compare(k.hash, o.hash)
	case k.tag != o.tag:
		return cmp.Compare(k.tag, o.tag)
	default:
		return cmp.Compare(k.n, o.n)
	}
}

// runInfo names a run; the manifest lists them.
type runInfo struct {
	kind        runKind
	first, last eventstore.Position // the positions it holds
}

func (i runInfo) events() int { return int(i.last - i.first + 1) }

func (i runInfo) fileName() string {
	return fmt.Sprintf("%010x-%010x%s", uint64(i.first), uint64(i.last), runFormats[i.kind].ext)
}

const maxRunPosition = 1<<40 - 1

// before says whether a key comes before another one. Hashes are seldom alike.
func (k *runKey) before(o *runKey) bool {
	return k.hash < o.hash || k.hash == o.hash && k.compare(*o) < 0
}

type runFile struct {
	runInfo
	path    string
	size    int64
	records int
	filter  bloomFilter
	chunks  []runChunk

	mu    sync.RWMutex // held while the file is read
	file  vfs.File
	ended error // what reads get: errRunRetired, or ErrClosed
}

type runChunk struct {
	first runKey
	at    int64
	size  uint32
	sum   uint32
}

// openRunFile opens a file and verifies every byte of it.
func openRunFile(fs vfs.FS, dir string, info runInfo, seed hashSeed) (_ *runFile, err error) {
	path := fs.PathJoin(dir, info.fileName())
	f, err := fs.Open(path)
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
	field := func(i int) uint64 { return binary.LittleEndian.Uint64(footer[8*i:]) }
	if field(0) != runFormats[info.kind].magic {
		return nil, fmt.Errorf("%w: %s is of another version", errBadRun, path)
	}
	if eventstore.Position(field(1)) != info.first || eventstore.Position(field(2)) != info.last || field(6) != seed.fingerprint() {
		return nil, fmt.Errorf("%w: %s is not what the manifest names", errBadRun, path)
	}
	filterWords, chunks := field(4), field(5)
	if filterWords > uint64(stat.Size()) || chunks > uint64(stat.Size()) {
		return nil, fmt.Errorf("%w: %s has the wrong size", errBadRun, path)
	}
	metaLen := int64(filterWords)*8 + int64(chunks)*runTableEntry
	if metaLen+runFooterLen > stat.Size() {
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
	r := &runFile{
		runInfo: info, path: path, file: f, size: stat.Size(), records: int(field(3)),
		filter: make(bloomFilter, filterWords), chunks: make([]runChunk, chunks),
	}
	for i := range r.filter {
		r.filter[i] = binary.LittleEndian.Uint64(meta[i*8:])
	}
	at := int64(0)
	for i := range r.chunks {
		b := meta[len(r.filter)*8+i*runTableEntry:]
		r.chunks[i] = runChunk{
			first: runKey{
				hash: binary.LittleEndian.Uint64(b),
				tag:  binary.LittleEndian.Uint16(b[8:]),
				n:    binary.LittleEndian.Uint64(b[10:]),
			},
			at: at, size: binary.LittleEndian.Uint32(b[18:]), sum: binary.LittleEndian.Uint32(b[22:]),
		}
		at += int64(r.chunks[i].size)
	}
	if at+metaLen+runFooterLen != stat.Size() || r.records == 0 || info.kind == idRuns && r.records != info.events() {
		return nil, fmt.Errorf("%w: %s has the wrong size", errBadRun, path)
	}
	buf := make([]byte, runReadBuffer)
	for i := 0; i < len(r.chunks); {
		if _, i, err = r.read(i, buf); err != nil {
			return nil, err
		}
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

// runReadBuffer is how much is read at once where a file is read as a whole.
const runReadBuffer = 128 << 10

// read reads and checks neighbouring chunks, as many from the i-th on as buf has room
// for, and at least one. It returns which one follows them.
func (r *runFile) read(i int, buf []byte) (b []byte, next int, err error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.ended != nil {
		return nil, i, r.ended
	}
	n := int(r.chunks[i].size)
	for next = i + 1; next < len(r.chunks) && n+int(r.chunks[next].size) <= len(buf); next++ {
		n += int(r.chunks[next].size)
	}
	if n > len(buf) {
		buf = make([]byte, n)
	}
	b = buf[:n]
	if err := readFull(r.file, b, r.chunks[i].at); err != nil {
		return nil, i, err
	}
	rest := b
	for k := i; k < next; k++ {
		c := &r.chunks[k]
		if crc32.Checksum(rest[:c.size], castagnoli) != c.sum {
			return nil, i, fmt.Errorf("%w: %s fails its checksum in chunk %d", errBadRun, r.path, k)
		}
		rest = rest[c.size:]
	}
	return b, next, nil
}

// search returns the last chunk that begins at a key or before it, or the first one.
func (r *runFile) search(k runKey) int {
	return max(0, sort.Search(len(r.chunks), func(i int) bool { return r.chunks[i].first.compare(k) > 0 })-1)
}

// unreadable is the error for a record that does not say where it ends.
func (r *runFile) unreadable() error {
	return fmt.Errorf("%w: %s has a record that cannot be read", errBadRun, r.path)
}

// retire closes the file of a run that has been merged, or is not needed: who reads it asks
// the index again, which has another.
func (r *runFile) retire() error { return r.end(errRunRetired) }

// end closes the file; reads under way are waited for, and later ones get an error.
func (r *runFile) end(why error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended != nil {
		return nil
	}
	r.ended = why
	return r.file.Close()
}

// runCursor goes through the records of a file.
type runCursor struct {
	key    runKey
	record []byte // until the next move

	file  *runFile
	chunk int // to be read next
	buf   []byte
	rest  []byte
}

func newRunCursor(r *runFile) *runCursor {
	return &runCursor{file: r, buf: make([]byte, min(runReadBuffer, r.size))}
}

// next moves to the next record.
func (c *runCursor) next() (ok bool, err error) {
	if len(c.rest) == 0 {
		if c.chunk >= len(c.file.chunks) {
			return false, nil
		}
		if c.rest, c.chunk, err = c.file.read(c.chunk, c.buf); err != nil {
			return false, err
		}
	}
	k, n := runFormats[c.file.kind].next(c.rest)
	if n == 0 {
		return false, c.file.unreadable()
	}
	c.key, c.record, c.rest = k, c.rest[:n], c.rest[n:]
	return true, nil
}

// runWriter writes a run file whose records come in order.
type runWriter struct {
	fs  vfs.FS
	dir string
	tmp string
	f   vfs.File
	run *runFile // what is written, but for its file

	out  []byte // what the file does not have yet
	open int    // bytes of the chunk at its end
}

const (
	tmpSuffix      = ".tmp"
	runWriteBuffer = 256 << 10
)

// writeRunFile writes a file of about so many records, durable under its name, and opens
// it. It is not read again: that would come from the memory that it was written to.
func writeRunFile(fs vfs.FS, dir string, info runInfo, seed hashSeed, records int, fill func(*runWriter) error) (*runFile, error) {
	if info.last > maxRunPosition {
		return nil, fmt.Errorf("write index run: position %d is beyond the format's %d", info.last, uint64(maxRunPosition))
	}
	path := fs.PathJoin(dir, info.fileName())
	w := &runWriter{
		fs: fs, dir: dir, tmp: path + tmpSuffix,
		run: &runFile{runInfo: info, path: path, filter: newBloomFilter(records)},
		out: make([]byte, 0, runWriteBuffer+2*runChunkLen),
	}
	f, err := fs.Create(w.tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, fmt.Errorf("write index run: %w", err)
	}
	w.f = f
	if err := fill(w); err != nil {
		return nil, errors.Join(err, f.Close(), fs.Remove(w.tmp))
	}
	return w.finish(seed)
}

// add adds a record. It is copied.
func (w *runWriter) add(k runKey, record []byte) error {
	if w.open > 0 && w.open+len(record) > runChunkLen {
		if err := w.endChunk(); err != nil {
			return err
		}
	}
	if w.open == 0 {
		w.run.chunks = append(w.run.chunks, runChunk{first: k, at: w.run.size})
	}
	w.run.filter.add(k.hash >> slotIndexBits)
	w.run.records++
	w.out = append(w.out, record...)
	w.open += len(record)
	return nil
}

func (w *runWriter) endChunk() error {
	c := &w.run.chunks[len(w.run.chunks)-1]
	c.size = uint32(w.open)
	c.sum = crc32.Checksum(w.out[len(w.out)-w.open:], castagnoli)
	w.run.size += int64(w.open)
	w.open = 0
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

func (w *runWriter) finish(seed hashSeed) (_ *runFile, err error) {
	f, r := w.f, w.run
	defer func() {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if w.open > 0 {
		if err := w.endChunk(); err != nil {
			return nil, err
		}
	}
	meta := make([]byte, 0, len(r.filter)*8+len(r.chunks)*runTableEntry+runFooterLen)
	for _, word := range r.filter {
		meta = binary.LittleEndian.AppendUint64(meta, word)
	}
	for i := range r.chunks {
		c := &r.chunks[i]
		meta = binary.LittleEndian.AppendUint64(meta, c.first.hash)
		meta = binary.LittleEndian.AppendUint16(meta, c.first.tag)
		meta = binary.LittleEndian.AppendUint64(meta, c.first.n)
		meta = binary.LittleEndian.AppendUint32(meta, c.size)
		meta = binary.LittleEndian.AppendUint32(meta, c.sum)
	}
	for _, x := range []uint64{
		runFormats[r.kind].magic, uint64(r.first), uint64(r.last), uint64(r.records),
		uint64(len(r.filter)), uint64(len(r.chunks)), seed.fingerprint(),
	} {
		meta = binary.LittleEndian.AppendUint64(meta, x)
	}
	meta = binary.LittleEndian.AppendUint32(meta, 0) // reserved
	meta = binary.LittleEndian.AppendUint32(meta, crc32.Checksum(meta, castagnoli))
	r.size += int64(len(meta))
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

// mergeRunFiles writes one file that holds what neighbouring ones hold.
func mergeRunFiles(fs vfs.FS, dir string, seed hashSeed, files []*runFile) (*runFile, error) {
	records := 0
	var heads []*runCursor
	for _, r := range files {
		records += r.records
		c := newRunCursor(r)
		ok, err := c.next()
		if err != nil {
			return nil, err
		}
		if ok {
			heads = append(heads, c)
		}
	}
	info := runInfo{kind: files[0].kind, first: files[0].first, last: files[len(files)-1].last}
	return writeRunFile(fs, dir, info, seed, records, func(w *runWriter) error {
		for i := len(heads)/2 - 1; i >= 0; i-- {
			sink(heads, i)
		}
		for len(heads) > 0 {
			c := heads[0]
			if err := w.add(c.key, c.record); err != nil {
				return err
			}
			ok, err := c.next()
			if err != nil {
				return err
			}
			if !ok {
				heads[0] = heads[len(heads)-1]
				heads = heads[:len(heads)-1]
			}
			sink(heads, 0)
		}
		return nil
	})
}

// sink restores the order of a heap, the least at its top, below a place.
func sink(heap []*runCursor, i int) {
	for {
		child := 2*i + 1
		if child >= len(heap) {
			return
		}
		if right := child + 1; right < len(heap) && heap[right].key.before(&heap[child].key) {
			child = right
		}
		if !heap[child].key.before(&heap[i].key) {
			return
		}
		heap[i], heap[child] = heap[child], heap[i]
		i = child
	}
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
