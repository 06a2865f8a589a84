// Package collected is how a collector's messages stand in Kafka, for those who
// write and those who read them.
//
// The value is the message as it was sent; what was known of its call stands in
// headers. Headers that a reader does not know are left aside; a version that it
// does not know is an error.
package collected

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/segmentio/kafka-go/protocol"

	"sojourn/domain"
)

// version is that of the headers.
const version = "1"

// Record is a message, a reject or a refused call.
type Record struct {
	Source     string
	ReceivedAt domain.Millis
	// Type is what the endpoint said the message is; empty where it says it itself.
	Type string
	// MessageID is the id that the message was given; empty where it has its own.
	MessageID string
	// SentAt, Context and Integrations are the JSON texts that stood on the batch.
	SentAt, Context, Integrations []byte
	// Code and Reason say why a message or a call could not be used.
	Code, Reason string
	// Status and Size are those of a refused call: its HTTP status, which is never
	// 0, and how long its whole body was.
	Status, Size int
}

// Headers are the record as Kafka's headers. They share its bytes.
func (r *Record) Headers() []protocol.Header {
	out := make([]protocol.Header, 0, 6)
	bytes := func(name string, v []byte) {
		if len(v) > 0 {
			out = append(out, protocol.Header{Key: name, Value: v})
		}
	}
	number := func(name string, n int64) {
		if n != 0 {
			bytes(name, strconv.AppendInt(nil, n, 10))
		}
	}
	bytes("sojourn", []byte(version))
	bytes("source", []byte(r.Source))
	number("received_at", int64(r.ReceivedAt))
	bytes("type", []byte(r.Type))
	bytes("message_id", []byte(r.MessageID))
	bytes("sent_at", r.SentAt)
	bytes("context", r.Context)
	bytes("integrations", r.Integrations)
	bytes("reject", []byte(r.Code))
	bytes("reason", []byte(r.Reason))
	number("status", int64(r.Status))
	number("size", int64(r.Size))
	return out
}

// ErrNotCollected says that a record was not written by a collector.
var ErrNotCollected = errors.New("the record was not written by a collector")

// Parse reads the headers of a record. The result shares their bytes.
func Parse(headers []protocol.Header) (Record, error) {
	var r Record
	var errs []error
	number := func(h *protocol.Header) int64 {
		n, err := strconv.ParseInt(string(h.Value), 10, 64)
		if err != nil {
			errs = append(errs, fmt.Errorf("the header %s is no number", h.Key))
		}
		return n
	}
	found := ""
	for i := range headers {
		h := &headers[i]
		switch h.Key {
		case "sojourn":
			found = string(h.Value)
		case "source":
			r.Source = string(h.Value)
		case "received_at":
			r.ReceivedAt = domain.Millis(number(h))
		case "type":
			r.Type = string(h.Value)
		case "message_id":
			r.MessageID = string(h.Value)
		case "sent_at":
			r.SentAt = h.Value
		case "context":
			r.Context = h.Value
		case "integrations":
			r.Integrations = h.Value
		case "reject":
			r.Code = string(h.Value)
		case "reason":
			r.Reason = string(h.Value)
		case "status":
			r.Status = int(number(h))
		case "size":
			r.Size = int(number(h))
		}
	}
	switch {
	case found == "" || r.Source == "":
		return r, ErrNotCollected
	case found != version:
		return r, fmt.Errorf("the record has version %q, this release reads version %s", domain.Excerpt(found), version)
	}
	return r, errors.Join(errs...)
}
