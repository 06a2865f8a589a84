package pebblestore

import (
	"encoding/binary"

	"sojourn/eventstore"
)

// A key of the log is the position of the first event of a record, big-endian.
const logKeyLen = 8

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
