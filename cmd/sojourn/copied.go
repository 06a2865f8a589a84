package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"time"

	"sojourn/eventstore"
	"sojourn/projections"
)

// copyMark begins the metadata of an event that was copied from another log. The
// time at which that log recorded it follows, in milliseconds since 1970 (8
// bytes, big-endian), and then the metadata it had there. No metadata of
// Sojourn's, and no JSON, begin like this.
var copyMark = []byte("\xff\x00copied\x01")

// carry puts the time of an event into its metadata, because the log that it
// goes to stamps its own.
func carry(e *eventstore.Recorded) []byte {
	out := make([]byte, 0, len(copyMark)+8+len(e.Metadata))
	out = binary.BigEndian.AppendUint64(append(out, copyMark...), uint64(e.RecordedAt.UnixMilli()))
	return append(out, e.Metadata...)
}

// uncarry gives an event the time and the metadata that it had before it was
// copied, and says whether it was.
func uncarry(e *eventstore.Recorded) bool {
	rest, ok := bytes.CutPrefix(e.Metadata, copyMark)
	if !ok || len(rest) < 8 {
		return false
	}
	e.RecordedAt = time.UnixMilli(int64(binary.BigEndian.Uint64(rest))).UTC()
	e.Metadata = rest[8:]
	return true
}

// copiedLog is a log that began as a copy: what was copied is read as it was.
type copiedLog struct{ eventLog }

// asRecorded makes reads of a log that began as a copy tell what the first log
// told. Other logs are returned as they are. With an error the log is closed.
func asRecorded(ctx context.Context, log eventLog) (eventLog, error) {
	for e, err := range log.ReadAll(ctx, 0) {
		if err != nil {
			return nil, errors.Join(err, log.Close())
		}
		if uncarry(&e) {
			return copiedLog{log}, nil
		}
		break
	}
	return log, nil
}

func (l copiedLog) ReadStream(ctx context.Context, stream string, from uint64, dir eventstore.Direction) iter.Seq2[eventstore.Recorded, error] {
	return uncarried(l.eventLog.ReadStream(ctx, stream, from, dir))
}

func (l copiedLog) ReadAll(ctx context.Context, after eventstore.Position) iter.Seq2[eventstore.Recorded, error] {
	return uncarried(l.eventLog.ReadAll(ctx, after))
}

// recordedLog is asRecorded for a preview.
type recordedLog struct{ projections.PreviewLog }

func (l recordedLog) ReadAll(ctx context.Context, after eventstore.Position) iter.Seq2[eventstore.Recorded, error] {
	return uncarried(l.PreviewLog.ReadAll(ctx, after))
}

func uncarried(seq iter.Seq2[eventstore.Recorded, error]) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for e, err := range seq {
			uncarry(&e)
			if !yield(e, err) {
				return
			}
		}
	}
}
