package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/eventstore"
)

// Namespaces of the ids of reject events; part of the format of the log.
var (
	nsReject   = uuid.MustParse("6a1f0f2e-58c4-5b0c-9d2a-7b7f0e7f1a11")
	nsReplayed = uuid.MustParse("c6e1c9b6-8f0e-5a57-8f3a-1d9a3a4b7c22")
	nsRefusal  = uuid.MustParse("e0b5a9d4-2f6b-5c3d-b7a1-5e8f9c0d2e33")
)

// rejectMetadata is the metadata of reject.v1 and refusal.v1, as JSON; the data
// is the message, or the beginning of the body, exactly as it came.
type rejectMetadata struct {
	Version    int    `json:"v"`
	Code       Code   `json:"code"`
	Reason     string `json:"reason"`
	ReceivedAt int64  `json:"received_at"` // Unix milliseconds
	Source     string `json:"source"`
	// MessageID is the message's own id or the random one it got on receipt.
	MessageID string `json:"message_id,omitempty"`
	// Type is the type that the endpoint gave the message, empty where the
	// message says it itself.
	Type string `json:"type,omitempty"`
	// SentAt, Context and Integrations are the JSON texts that stood on the batch.
	SentAt       string `json:"sent_at,omitempty"`
	Context      string `json:"context,omitempty"`
	Integrations string `json:"integrations,omitempty"`
	// From is where the data came from, if that is not a message but what one was
	// made of.
	From json.RawMessage `json:"from,omitempty"`
	// Status is the HTTP status of a refusal, and Size that of its whole body in
	// bytes as far as it was read.
	Status int `json:"status,omitempty"`
	Size   int `json:"size,omitempty"`
}

const rejectVersion = 1

// rejectEvent is the event of an item that is a reject. Its id is made of
// source, message id and content, so that the same bad message sent again is
// the same reject.
func (it *item) rejectEvent() (eventstore.NewEvent, error) {
	meta := rejectMetadata{
		Version: rejectVersion, Code: it.fault.code, Reason: it.fault.reason,
		ReceivedAt: int64(it.msg.receivedAt(it.env)), Source: it.env.source, MessageID: it.messageID,
		SentAt: string(it.env.sentAt), Context: string(it.env.context), Integrations: string(it.env.integrations),
	}
	raw, kind := it.msg.Raw, it.msg.kindOf()
	if it.msg.Kind != 0 {
		meta.Type = it.msg.Kind.String()
	}
	if it.msg.Origin != nil {
		// What the message was made of, so that another way to make it changes neither
		// what is kept nor its id.
		raw, meta.From = it.msg.Origin()
		kind, meta.Type = 0, ""
	}
	b, err := json.Marshal(meta)
	if err != nil {
		return eventstore.NewEvent{}, fmt.Errorf("write a reject: %w", err)
	}
	return eventstore.NewEvent{ID: it.rejectID(kind, raw), Type: domain.TypeReject, Metadata: b, Data: raw}, nil
}

func (it *item) rejectID(kind domain.Kind, raw []byte) uuid.UUID {
	hash := contentHash(kind, raw)
	name := make([]byte, 0, len(it.env.source)+len(it.messageID)+2+len(hash))
	name = append(append(name, it.env.source...), 0)
	name = append(append(name, it.messageID...), 0)
	return uuid.NewSHA1(nsReject, append(name, hash[:]...))
}

func replayedID(reject uuid.UUID) uuid.UUID { return uuid.NewSHA1(nsReplayed, reject[:]) }

// Refusal is a call that was answered 400 although its write key is valid.
type Refusal struct {
	Source     string
	Status     int
	Code       Code
	Reason     string
	ReceivedAt domain.Millis
	// Body is what was read of the body; its first RefusalBytes are kept. Size is
	// its length where Body is not all of it.
	Body []byte
	Size int
}

// RefusalBytes is how much of a refused body is kept.
const RefusalBytes = 4 << 10

// Refuse lists a refused call beside the rejects; the same body refused again
// for the same reason is listed once. It is durable when it returns.
func (s *Service) Refuse(ctx context.Context, r Refusal) error {
	body, size := r.Body[:min(len(r.Body), RefusalBytes)], max(r.Size, len(r.Body))
	meta, err := json.Marshal(rejectMetadata{
		Version: rejectVersion, Code: r.Code, Reason: r.Reason, ReceivedAt: int64(r.ReceivedAt),
		Source: r.Source, Status: r.Status, Size: size,
	})
	if err != nil {
		return fmt.Errorf("write a refusal: %w", err)
	}
	name := fmt.Appendf(nil, "%s\x00%s\x00%d\x00", r.Source, r.Code, size)
	results, err := s.log.AppendMany(context.WithoutCancel(ctx), []eventstore.Append{{
		Stream: domain.StreamRejects,
		Events: []eventstore.NewEvent{{
			ID: uuid.NewSHA1(nsRefusal, append(name, body...)), Type: domain.TypeRefusal,
			Metadata: meta, Data: bytes.Clone(body),
		}},
	}})
	if err == nil {
		err = results[0].Err
	}
	if err != nil {
		return fmt.Errorf("list a refused call: %w", err)
	}
	return nil
}

// Reject is a message that could not become a touchpoint, or a call that was
// refused.
type Reject struct {
	// ID is that of the reject's event; the same bad message has the same.
	ID     uuid.UUID
	Code   Code
	Reason string // in words, without what the message says
	// Refused says that the call was answered with Status and this is the
	// beginning of its body; such an entry cannot be replayed.
	Refused bool
	Status  int
	Size    int // of the refused body, as far as it was read

	Source     string
	MessageID  string // own or given on receipt; empty where refused
	Type       string // as the endpoint said; empty where the message says it
	ReceivedAt time.Time
	RecordedAt time.Time
	Position   eventstore.Position
	// SentAt, Context and Integrations are the JSON texts that stood on the
	// batch, empty where there were none.
	SentAt, Context, Integrations string
	// Raw is the message exactly as it was sent; it need not be valid UTF-8.
	Raw []byte
	// From says, as JSON, where Raw came from, if that is not a message but what one
	// is made of; nil where it is a message.
	From []byte
	// Replayed says that the message has become a touchpoint since.
	Replayed bool
}

// ParseReject reads a reject.v1 or refusal.v1 event. Whether it was replayed
// since is not in it.
func ParseReject(e eventstore.Recorded) (Reject, error) {
	var m rejectMetadata
	if err := json.Unmarshal(e.Metadata, &m); err != nil {
		return Reject{}, fmt.Errorf("read reject %s: %w", e.ID, err)
	}
	if m.Version != rejectVersion {
		return Reject{}, fmt.Errorf("reject %s has version %d, this release reads version %d", e.ID, m.Version, rejectVersion)
	}
	return Reject{
		ID: e.ID, Code: m.Code, Reason: m.Reason, Refused: e.Type == domain.TypeRefusal, Status: m.Status, Size: m.Size,
		Source: m.Source, MessageID: m.MessageID, Type: m.Type,
		ReceivedAt: domain.Millis(m.ReceivedAt).Time(), RecordedAt: e.RecordedAt, Position: e.Position,
		SentAt: m.SentAt, Context: m.Context, Integrations: m.Integrations,
		Raw: bytes.Clone(e.Data), From: m.From,
	}, nil
}

// RejectPage is some rejects, newest first.
type RejectPage struct {
	Rejects []Reject
	// Next is the cursor of the page behind this one, empty at the end.
	Next string
}

// ErrCursor says that a cursor is not one that a page gave.
var ErrCursor = errors.New("not a cursor of this list")

// Rejects lists rejects and refusals, newest first: from the newest on with an
// empty cursor, else behind the page that gave the cursor. New ones do not
// shift the pages that follow. The limit must be above zero.
func (s *Service) Rejects(ctx context.Context, cursor string, limit int) (RejectPage, error) {
	from := eventstore.End
	if cursor != "" {
		n, err := strconv.ParseUint(cursor, 10, 64)
		if err != nil || n == 0 {
			return RejectPage{}, ErrCursor
		}
		from = n - 1
	}
	var page RejectPage
	var revision uint64
	for e, err := range s.log.ReadStream(ctx, domain.StreamRejects, from, eventstore.Backwards) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			return page, nil
		}
		if err != nil {
			return RejectPage{}, fmt.Errorf("read rejects: %w", err)
		}
		if e.Type != domain.TypeReject && e.Type != domain.TypeRefusal {
			continue
		}
		if len(page.Rejects) == limit {
			page.Next = strconv.FormatUint(revision, 10)
			break
		}
		revision = e.Revision
		r, err := ParseReject(e)
		if err != nil {
			return RejectPage{}, err
		}
		page.Rejects = append(page.Rejects, r)
	}
	ids := make([]uuid.UUID, len(page.Rejects))
	for i, r := range page.Rejects {
		ids[i] = replayedID(r.ID)
	}
	at := make([]eventstore.Position, len(ids))
	if err := s.index.Lookup(ctx, ids, at); err != nil {
		return RejectPage{}, fmt.Errorf("look up replayed rejects: %w", err)
	}
	for i := range at {
		page.Rejects[i].Replayed = at[i] != 0
	}
	return page, nil
}

// ReplayFilter chooses rejects to replay. The zero value chooses all.
type ReplayFilter struct {
	IDs    []uuid.UUID // of reject events; empty: any
	Source string      // empty: any
	Code   Code        // empty: any
}

func (f *ReplayFilter) match(r *Reject) bool {
	return (len(f.IDs) == 0 || slices.Contains(f.IDs, r.ID)) &&
		(f.Source == "" || f.Source == r.Source) && (f.Code == "" || f.Code == r.Code)
}
