package kafkasource

import (
	"errors"

	"sojourn/domain"
	"sojourn/ingest"
	"sojourn/ingest/internal/collected"
)

// collected reads what a collector wrote: a message with its call, a message that
// the collector could not use, or, with a status, a refused call.
func (t *topic) collected(r *record, now domain.Millis) (*ingest.Message, *ingest.Refusal) {
	c, err := collected.Parse(r.headers)
	if err != nil || !ingest.ValidSource(c.Source) {
		if err == nil {
			err = errors.New("the record names no source")
		}
		return nil, &ingest.Refusal{Source: t.Source, Code: codeNotCollected, Reason: err.Error(), ReceivedAt: receivedAt(r, now), Body: r.value}
	}
	if c.Status != 0 {
		return nil, &ingest.Refusal{
			Source: c.Source, Status: c.Status, Code: ingest.Code(c.Code), Reason: c.Reason, ReceivedAt: c.ReceivedAt,
			Body: r.value, Size: c.Size,
		}
	}
	m, err := ingest.ParseMessage(r.value)
	if err != nil {
		m = ingest.Message{Raw: r.value}
		if c.Code == "" {
			m.Reject(ingest.CodeInvalidJSON, "the value is not valid JSON")
		}
	}
	if c.Code != "" {
		m.Reject(ingest.Code(c.Code), c.Reason)
	}
	m.Kind, _ = domain.ParseKind(c.Type)
	m.DefaultID, m.ReceivedAt = c.MessageID, min(c.ReceivedAt, now)
	m.Call = &ingest.Batch{
		Source: c.Source, ReceivedAt: m.ReceivedAt, SentAt: c.SentAt, Context: c.Context, Integrations: c.Integrations,
	}
	return &m, nil
}

// codeNotCollected is the reason for which a record of a collector's topic is
// beside the rejects: nobody knows whose it is.
const codeNotCollected ingest.Code = "not_collected"
