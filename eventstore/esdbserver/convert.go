package esdbserver

import (
	"encoding/binary"
	"strconv"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"github.com/tidwall/gjson"

	"sojourn/eventstore"
)

// Keys of the metadata that a server keeps beside an event, and their values.
const (
	keyType        = "type"
	keyContentType = "content-type"
	keyCreated     = "created"

	typeJSON   = "application/json"
	typeBinary = "application/octet-stream"
)

// ticks is a time in units of 100 ns since 1970.
func ticks(t time.Time) int64 { return t.UnixNano() / 100 }

func identifier(stream string) *shared.StreamIdentifier {
	return &shared.StreamIdentifier{StreamName: []byte(stream)}
}

func structured(id uuid.UUID) *shared.UUID {
	return &shared.UUID{Value: &shared.UUID_Structured_{Structured: &shared.UUID_Structured{
		MostSignificantBits:  int64(binary.BigEndian.Uint64(id[:8])),
		LeastSignificantBits: int64(binary.BigEndian.Uint64(id[8:])),
	}}}
}

// parseID reads an id in either form.
func parseID(id *shared.UUID) (uuid.UUID, error) {
	switch v := id.GetValue().(type) {
	case *shared.UUID_Structured_:
		var out uuid.UUID
		binary.BigEndian.PutUint64(out[:8], uint64(v.Structured.GetMostSignificantBits()))
		binary.BigEndian.PutUint64(out[8:], uint64(v.Structured.GetLeastSignificantBits()))
		return out, nil
	case *shared.UUID_String_:
		out, err := uuid.Parse(v.String_)
		if err != nil {
			return uuid.Nil, invalid("%q is no UUID", v.String_)
		}
		return out, nil
	}
	return uuid.Nil, invalid("an id is missing")
}

// proposed is an event to append, in Append's form and in BatchAppend's.
type proposed interface {
	GetId() *shared.UUID
	GetMetadata() map[string]string
	GetCustomMetadata() []byte
	GetData() []byte
}

func newEvent(p proposed) (eventstore.NewEvent, error) {
	id, err := parseID(p.GetId())
	if err != nil {
		return eventstore.NewEvent{}, err
	}
	e := eventstore.NewEvent{ID: id, Type: p.GetMetadata()[keyType], Metadata: p.GetCustomMetadata(), Data: p.GetData()}
	if e.Type == "" {
		return e, missingMetadata(keyType)
	}
	return e, nil
}

// size is what an event counts for against the limit of an append.
func size(e eventstore.NewEvent) int { return len(e.Type) + len(e.Metadata) + len(e.Data) + 64 }

// recorded is an event as clients read it. It shares e's memory.
func recorded(e *eventstore.Recorded, stringIDs bool) *streams.ReadResp_ReadEvent_RecordedEvent {
	content := typeBinary
	if gjson.ValidBytes(e.Data) {
		content = typeJSON
	}
	out := &streams.ReadResp_ReadEvent_RecordedEvent{
		StreamIdentifier: identifier(e.Stream),
		StreamRevision:   e.Revision,
		PreparePosition:  uint64(e.Position),
		CommitPosition:   uint64(e.Position),
		Metadata:         map[string]string{keyType: e.Type, keyContentType: content, keyCreated: strconv.FormatInt(ticks(e.RecordedAt), 10)},
		CustomMetadata:   e.Metadata,
		Data:             e.Data,
	}
	if stringIDs {
		out.Id = &shared.UUID{Value: &shared.UUID_String_{String_: e.ID.String()}}
	} else {
		out.Id = structured(e.ID)
	}
	return out
}
