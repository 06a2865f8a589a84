package pebblestore

import (
	"bytes"
	"encoding/binary"

	"github.com/cockroachdb/pebble/v2"

	"sojourn/eventstore"
)

// A key of the log is the position of the first event of a record. The index
// database has these keys:
//
//	'm'                     the manifest of the indexes
//	's' len name ^revision  positions of a stream's events from a revision on
//
// Numbers are big-endian; the revision is inverted so that a stream's latest
// block comes first.
const (
	manifestPrefix = 'm'
	streamPrefix   = 's'
)

var (
	manifestKey = []byte{manifestPrefix}
	streamLower = []byte{streamPrefix}
	streamUpper = []byte{streamPrefix + 1}
)

const (
	logKeyLen        = 8
	streamKeyPrefix  = 3 // 's' and the length of the name
	revisionBytesLen = 8
)

func putLogKey(dst []byte, p eventstore.Position) {
	binary.BigEndian.PutUint64(dst, uint64(p))
}

// logKeyPosition is 0, where no event stands, for a key of another length.
func logKeyPosition(key []byte) eventstore.Position {
	if len(key) != logKeyLen {
		return 0
	}
	return eventstore.Position(binary.BigEndian.Uint64(key))
}

func appendStreamPrefix(dst []byte, name string) []byte {
	dst = append(dst, streamPrefix)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(name)))
	return append(dst, name...)
}

func appendStreamKey(dst []byte, name string, revision uint64) []byte {
	dst = appendStreamPrefix(dst, name)
	return binary.BigEndian.AppendUint64(dst, ^revision)
}

func streamKeyRevision(key []byte) (uint64, bool) {
	if len(key) < streamKeyPrefix+revisionBytesLen || key[0] != streamPrefix {
		return 0, false
	}
	return ^binary.BigEndian.Uint64(key[len(key)-revisionBytesLen:]), true
}

// split separates a stream's name from the revision, for the bloom filters.
func split(key []byte) int {
	if len(key) >= streamKeyPrefix && key[0] == streamPrefix {
		n := streamKeyPrefix + int(binary.BigEndian.Uint16(key[1:]))
		if n <= len(key) {
			return n
		}
	}
	return len(key)
}

// comparer is that of the index: bytewise order with streams as prefixes. Separators are not
// shortened, so that every key Pebble sees is one that split understands.
var comparer = &pebble.Comparer{
	Compare:              bytes.Compare,
	Equal:                bytes.Equal,
	ComparePointSuffixes: bytes.Compare,
	CompareRangeSuffixes: bytes.Compare,
	AbbreviatedKey:       pebble.DefaultComparer.AbbreviatedKey,
	FormatKey:            pebble.DefaultComparer.FormatKey,
	Split:                split,
	Separator:            func(dst, a, _ []byte) []byte { return append(dst, a...) },
	Successor:            func(dst, a []byte) []byte { return append(dst, a...) },
	ImmediateSuccessor:   func(dst, a []byte) []byte { return append(append(dst, a...), 0) },
	Name:                 "sojourn.streams.v1",
}
