package kafkasource

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"
)

// The limits of a fetch.
const (
	fetchBytes = 2 << 20
	fetchWait  = 500 * time.Millisecond
	// fetchTimeout ends a fetch that a broker does not answer.
	fetchTimeout = fetchWait + 10*time.Second
)

// record is a message of a partition. Key, Value and the headers' values are
// parts of its fetch's memory.
type record struct {
	offset     int64
	time       time.Time // as the producer or the broker stamped it; zero where none did
	key, value []byte    // nil where null
	headers    []protocol.Header
}

// fetched is what one fetch found.
type fetched struct {
	records []record
	next    int64 // the offset to go on from
	high    int64 // the offset behind the last message of the partition
	bytes   int64 // of keys and values

	slab []byte // memory for more keys and values
}

// fetch reads committed messages from an offset on. It waits up to fetchWait for
// the first. The error is a kafka.Error where the broker gave one.
//
// kafka-go's own Reader hands out the messages of aborted transactions too, and
// the markers that end transactions; the answer to the underlying request tells
// which those are.
func (s *Source) fetch(ctx context.Context, topic string, partition int, offset int64) (*fetched, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	answer, err := s.wire.RoundTrip(ctx, s.addr, &fetch.Request{
		ReplicaID: -1, MaxWaitTime: int32(fetchWait / time.Millisecond), MinBytes: 1, MaxBytes: fetchBytes,
		IsolationLevel: int8(kafka.ReadCommitted), SessionID: -1, SessionEpoch: -1,
		Topics: []fetch.RequestTopic{{Topic: topic, Partitions: []fetch.RequestPartition{{
			Partition: int32(partition), CurrentLeaderEpoch: -1, FetchOffset: offset, LogStartOffset: -1, PartitionMaxBytes: fetchBytes,
		}}}},
	})
	if err != nil {
		return nil, err
	}
	response := answer.(*fetch.Response)
	if response.ErrorCode != 0 {
		return nil, kafka.Error(response.ErrorCode)
	}
	if len(response.Topics) != 1 || len(response.Topics[0].Partitions) != 1 {
		return nil, errors.New("the broker's answer to a fetch names other partitions than asked for")
	}
	p := &response.Topics[0].Partitions[0]
	if p.ErrorCode != 0 {
		return nil, kafka.Error(p.ErrorCode)
	}
	f := &fetched{next: offset, high: p.HighWatermark}
	if err := f.read(p.RecordSet.Records, p.AbortedTransactions); err != nil {
		return nil, err
	}
	return f, nil
}

// abort is the type of the marker that ends a transaction without effect.
const abort = 0

// read takes the committed messages out of record batches, in order. aborted are
// the transactions among them that have failed: a producer's batches from the
// first offset on, up to its next abort marker.
func (f *fetched) read(records protocol.RecordReader, aborted []fetch.ResponseTransaction) error {
	if records == nil {
		return nil
	}
	batches := []protocol.RecordReader{records}
	if stream, ok := records.(*protocol.RecordStream); ok {
		batches = stream.Records
	}
	aborted = slices.SortedFunc(slices.Values(aborted), func(a, b fetch.ResponseTransaction) int {
		return int(min(max(a.FirstOffset-b.FirstOffset, -1), 1))
	})
	failed := make(map[int64]bool) // by producer
	from, empty := f.next, true
	for _, batch := range batches {
		skip := false
		switch b := batch.(type) {
		case *protocol.ControlBatch:
			aborts, err := f.marker(b)
			if err != nil {
				return err
			}
			if aborts {
				delete(failed, b.ProducerID)
			}
			empty = false
			continue
		case *protocol.RecordBatch:
			for len(aborted) > 0 && aborted[0].FirstOffset <= b.BaseOffset {
				failed[aborted[0].ProducerID] = true
				aborted = aborted[1:]
			}
			skip = b.Attributes.Transactional() && failed[b.ProducerID]
			// A batch whose messages have all been compacted away stands for its
			// first offset at least.
			f.next = max(f.next, b.BaseOffset)
		}
		empty = false
		if err := f.batch(batch, from, skip); err != nil {
			return err
		}
	}
	if !empty && f.next == from {
		// The offset asked for lies in a hole that compaction left behind the last
		// message of a batch. What is at it would stand in the batch.
		f.next++
	}
	return nil
}

// batch takes the messages of a batch from an offset on.
func (f *fetched) batch(records protocol.RecordReader, from int64, skip bool) error {
	for {
		r, err := records.ReadRecord()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read a batch: %w", err)
		}
		var key, value []byte
		if wanted := r.Offset >= from && !skip; wanted {
			if key, err = f.bytesOf(r.Key); err != nil {
				return err
			}
			if value, err = f.bytesOf(r.Value); err != nil {
				return err
			}
			at := r.Time
			if at.UnixMilli() < 0 {
				at = time.Time{}
			}
			f.records = append(f.records, record{offset: r.Offset, time: at, key: key, value: value, headers: r.Headers})
			f.bytes += int64(len(key) + len(value))
		}
		err = errors.Join(closeBytes(r.Key), closeBytes(r.Value))
		if err != nil {
			return err
		}
		f.next = max(f.next, r.Offset+1)
	}
}

// marker reads past the marker that ends a transaction and reports whether it
// aborts it: its key is a version and a type, of two bytes each.
func (f *fetched) marker(b *protocol.ControlBatch) (aborts bool, err error) {
	f.next = max(f.next, b.BaseOffset+1)
	for {
		r, err := b.ReadRecord()
		if errors.Is(err, io.EOF) {
			return aborts, nil
		}
		if err != nil {
			return false, fmt.Errorf("read a transaction marker: %w", err)
		}
		key, err := f.bytesOf(r.Key)
		if err != nil {
			return false, err
		}
		aborts = len(key) == 4 && binary.BigEndian.Uint16(key[2:]) == abort
		f.next = max(f.next, r.Offset+1)
		if err := errors.Join(closeBytes(r.Key), closeBytes(r.Value)); err != nil {
			return false, err
		}
	}
}

// slab is how much memory is taken at once for keys and values.
const slab = 256 << 10

func (f *fetched) bytesOf(b protocol.Bytes) ([]byte, error) {
	if b == nil {
		return nil, nil
	}
	n := b.Len()
	if len(f.slab) < n {
		f.slab = make([]byte, max(slab, n))
	}
	out := f.slab[:n:n]
	f.slab = f.slab[n:]
	if _, err := io.ReadFull(b, out); err != nil {
		return nil, fmt.Errorf("read a message: %w", err)
	}
	return out, nil
}

func closeBytes(b protocol.Bytes) error {
	if b == nil {
		return nil
	}
	return b.Close()
}

// bound is the first or the last offset of a partition: kafka.FirstOffset or
// kafka.LastOffset.
func (s *Source) bound(ctx context.Context, topic string, partition int, which int64) (int64, error) {
	answer, err := s.offsets(ctx, map[string][]kafka.OffsetRequest{topic: {{Partition: partition, Timestamp: which}}})
	if err != nil {
		return 0, err
	}
	for _, p := range answer.Topics[topic] {
		if p.Partition != partition {
			continue
		}
		if p.Error != nil {
			return 0, p.Error
		}
		if which == kafka.FirstOffset {
			return p.FirstOffset, nil
		}
		return p.LastOffset, nil
	}
	return 0, errors.New("the broker's answer about offsets names other partitions than asked for")
}
