package pebblestore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"
	"unsafe"

	"github.com/google/uuid"

	"sojourn/eventstore"
)

// A log record holds the events of one commit that stand behind one another,
// up to about blockTarget bytes of them. docs/log-format.md describes it.
const (
	blockVersion   = 1
	blockHeaderLen = 1 + 4 + 8 + 4 // version, checksum, recorded at, events
	blockTarget    = 8 << 10       // a read of one event unpacks as much

	flagRepeat = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// pendingEvent is an event that the committer has accepted.
type pendingEvent struct {
	event    *eventstore.NewEvent
	stream   string
	revision uint64
	repeat   bool
}

func uvarintLen(x uint64) int {
	n := 1
	for x >= 0x80 {
		x >>= 7
		n++
	}
	return n
}

// bodyLen is the length of an encoded event without its length prefix.
func (p *pendingEvent) bodyLen() int {
	e := p.event
	return 1 + len(e.ID) + uvarintLen(p.revision) +
		uvarintLen(uint64(len(e.Type))) + len(e.Type) +
		uvarintLen(uint64(len(p.stream))) + len(p.stream) +
		uvarintLen(uint64(len(e.Metadata))) + len(e.Metadata) + len(e.Data)
}

// encode writes the event at dst and returns the bytes behind it.
func (p *pendingEvent) encode(dst []byte, bodyLen int) []byte {
	e := p.event
	dst = dst[binary.PutUvarint(dst, uint64(bodyLen)):]
	var flags byte
	if p.repeat {
		flags |= flagRepeat
	}
	dst[0] = flags
	dst = dst[1:]
	dst = dst[copy(dst, e.ID[:]):]
	dst = dst[binary.PutUvarint(dst, p.revision):]
	dst = dst[binary.PutUvarint(dst, uint64(len(e.Type))):]
	dst = dst[copy(dst, e.Type):]
	dst = dst[binary.PutUvarint(dst, uint64(len(p.stream))):]
	dst = dst[copy(dst, p.stream):]
	dst = dst[binary.PutUvarint(dst, uint64(len(e.Metadata))):]
	dst = dst[copy(dst, e.Metadata):]
	return dst[copy(dst, e.Data):]
}

// sealBlock fills in the header of a record whose events are encoded already.
func sealBlock(first eventstore.Position, recordedAt int64, events int, value []byte) {
	value[0] = blockVersion
	binary.LittleEndian.PutUint64(value[5:], uint64(recordedAt))
	binary.LittleEndian.PutUint32(value[13:], uint32(events))
	binary.LittleEndian.PutUint32(value[1:], blockChecksum(first, value))
}

// blockChecksum covers everything behind itself and the record's position, so
// that a record cannot pass for another.
func blockChecksum(first eventstore.Position, value []byte) uint32 {
	var key [8]byte
	binary.BigEndian.PutUint64(key[:], uint64(first))
	return crc32.Update(crc32.Checksum(key[:], castagnoli), castagnoli, value[5:])
}

// block is an opened log record.
type block struct {
	first      eventstore.Position
	count      int
	recordedAt int64 // Unix ms
	events     []byte
}

// openBlock checks a record; the block shares its memory.
func openBlock(first eventstore.Position, value []byte) (block, error) {
	if len(value) < blockHeaderLen {
		return block{}, fmt.Errorf("%w: record at position %d is cut short", ErrCorrupt, first)
	}
	if value[0] != blockVersion {
		return block{}, fmt.Errorf("%w: record at position %d has version %d, this release reads %d",
			ErrCorrupt, first, value[0], blockVersion)
	}
	if binary.LittleEndian.Uint32(value[1:]) != blockChecksum(first, value) {
		return block{}, fmt.Errorf("%w: record at position %d fails its checksum", ErrCorrupt, first)
	}
	b := block{
		first:      first,
		count:      int(binary.LittleEndian.Uint32(value[13:])),
		recordedAt: int64(binary.LittleEndian.Uint64(value[5:])),
		events:     value[blockHeaderLen:],
	}
	if b.count == 0 {
		return block{}, fmt.Errorf("%w: record at position %d is empty", ErrCorrupt, first)
	}
	return b, nil
}

// last is the position of the block's last event.
func (b *block) last() eventstore.Position { return b.first + eventstore.Position(b.count-1) }

// skipEvent returns what stands behind the first encoded event.
func skipEvent(b []byte) ([]byte, bool) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return nil, false
	}
	return b[w+int(n):], true
}

// decodeEvent reads the first encoded event into e, sharing the memory of b,
// and returns what stands behind it. Position and time are the caller's.
func decodeEvent(b []byte, e *eventstore.Recorded) (rest []byte, ok bool) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return nil, false
	}
	rest = b[w+int(n):]
	b = b[w : w+int(n)]
	if len(b) < 1+len(uuid.UUID{}) {
		return nil, false
	}
	e.Repeat = b[0]&flagRepeat != 0
	copy(e.ID[:], b[1:])
	b = b[1+len(e.ID):]
	if e.Revision, w = binary.Uvarint(b); w <= 0 {
		return nil, false
	}
	b = b[w:]
	var part []byte
	if part, b, ok = cutBytes(b); !ok {
		return nil, false
	}
	e.Type = unsafeString(part)
	if part, b, ok = cutBytes(b); !ok {
		return nil, false
	}
	e.Stream = unsafeString(part)
	if e.Metadata, b, ok = cutBytes(b); !ok {
		return nil, false
	}
	e.Data = b[:len(b):len(b)]
	return rest, true
}

func cutBytes(b []byte) (part, rest []byte, ok bool) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return nil, nil, false
	}
	end := w + int(n)
	return b[w:end:end], b[end:], true
}

// unsafeString shares the memory of b: it is valid as long as b is unchanged.
func unsafeString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func fromMillis(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
