package kafkaout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strconv"

	"github.com/google/uuid"
	"github.com/segmentio/kafka-go"

	"sojourn/eventstore"
	"sojourn/internal/durable"
)

// partition is a partition of a topic.
type partition struct {
	topic string
	id    int
}

// checkpoint is how far the log is sent: everything up to Position is in the
// topics before Ends, an offset by topic and partition.
type checkpoint struct {
	Version  int                         `json:"v"`
	Position eventstore.Position         `json:"position"`
	Ends     map[string]map[string]int64 `json:"ends"`
}

const checkpointVersion = 1

func (c *checkpoint) set(p partition, end int64) {
	if c.Ends == nil {
		c.Ends = make(map[string]map[string]int64)
	}
	if c.Ends[p.topic] == nil {
		c.Ends[p.topic] = make(map[string]int64)
	}
	c.Ends[p.topic][strconv.Itoa(p.id)] = end
}

// readCheckpoint reads the file; found is false where there is none.
func readCheckpoint(path string) (c checkpoint, found bool, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, false, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err == nil && c.Version != checkpointVersion {
		err = fmt.Errorf("it has version %d, this release reads version %d", c.Version, checkpointVersion)
	}
	if err != nil {
		return c, false, fmt.Errorf("read the checkpoint %s of what is sent to kafka: %w", path, err)
	}
	return c, true, nil
}

// write writes the file; when it returns, the file is on disk as a whole.
func (c *checkpoint) write(path string) error {
	c.Version = checkpointVersion
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return durable.WriteFile(path, b)
}

// readBehind reads the ids that stand in the topics behind the checkpoint: what
// was written and not noted. Where it cannot be told what is behind (the topic is
// another one now), everything in it is.
func (s *Sender) readBehind(ctx context.Context) error {
	var topics []string
	for _, t := range []string{s.config.Statements, s.config.Touchpoints} {
		if t != "" {
			topics = append(topics, t)
		}
	}
	head, err := s.config.Log.Head(ctx)
	if err != nil {
		return err
	}
	meta, err := s.client.Metadata(ctx, &kafka.MetadataRequest{Topics: topics})
	if err != nil {
		return err
	}
	asked := make(map[string][]kafka.OffsetRequest)
	for _, t := range meta.Topics {
		if t.Error != nil {
			return fmt.Errorf("topic %s: %w", t.Name, t.Error)
		}
		for _, p := range t.Partitions {
			asked[t.Name] = append(asked[t.Name], kafka.FirstOffsetOf(p.ID), kafka.LastOffsetOf(p.ID))
		}
	}
	bounds, err := s.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: asked})
	if err != nil {
		return err
	}
	there := make(map[uuid.UUID]bool)
	ends := make(map[partition]int64)
	for topic, partitions := range bounds.Topics {
		for _, b := range partitions {
			if b.Error != nil {
				return fmt.Errorf("topic %s: %w", topic, b.Error)
			}
			p := partition{topic, b.Partition}
			from, noted := s.at.Ends[topic][strconv.Itoa(p.id)]
			if !noted || from < b.FirstOffset || from > b.LastOffset {
				from = b.FirstOffset
			}
			if err := s.readIDs(ctx, p, from, b.LastOffset, there); err != nil {
				return fmt.Errorf("read %s/%d: %w", topic, p.id, err)
			}
			ends[p] = b.LastOffset
		}
	}
	s.mu.Lock()
	s.ends = ends
	s.mu.Unlock()
	s.there, s.doubt = there, head
	s.settle()
	if len(there) > 0 {
		s.logger.LogAttrs(ctx, slog.LevelInfo, "messages that kafka has already are not sent again", slog.Int("messages", len(there)))
	}
	return nil
}

// readIDs adds the ids of what stands in a partition between two offsets.
func (s *Sender) readIDs(ctx context.Context, p partition, from, end int64, there map[uuid.UUID]bool) error {
	for from < end {
		answer, err := s.client.Fetch(ctx, &kafka.FetchRequest{
			Topic: p.topic, Partition: p.id, Offset: from, MinBytes: 1, MaxBytes: 4 << 20, MaxWait: requestTimeout / 20,
		})
		if err == nil {
			err = answer.Error
		}
		if err != nil {
			return err
		}
		next := from
		for {
			r, err := answer.Records.ReadRecord()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			next = max(next, r.Offset+1)
			ours, id := false, uuid.Nil
			for _, h := range r.Headers {
				switch h.Key {
				case "ce_source":
					ours = string(h.Value) == ceSource
				case "ce_id":
					id, _ = uuid.ParseBytes(h.Value) // of others: whatever it is, it is not ours
				}
			}
			if ours && id != uuid.Nil {
				there[id] = true
			}
			for _, b := range []interface{ Close() error }{r.Key, r.Value} {
				if b != nil {
					if err := b.Close(); err != nil {
						return err
					}
				}
			}
		}
		if next == from {
			// Nothing but markers of others' transactions, or holes of compaction.
			return nil
		}
		from = next
	}
	return nil
}
