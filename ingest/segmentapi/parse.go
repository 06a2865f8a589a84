package segmentapi

import (
	"errors"
	"fmt"
	"sync"
	"unicode/utf8"

	"sojourn/ingest"
	"sojourn/ingest/internal/jsonscan"
)

// errBatch says that a body is JSON but no batch.
var errBatch = errors.New(`the body must be a JSON object with an array "batch"`)

// batchBody is what stands in the body of a batch call.
type batchBody struct {
	writeKey ingest.Scalar
	batch    ingest.Batch
}

// parseBatch reads the body of a batch call. Of names that occur twice the last
// one counts. b keeps the memory of its messages from one call to the next.
func (b *batchBody) parse(body []byte) error {
	b.writeKey = nil
	b.batch = ingest.Batch{Messages: b.batch.Messages[:0]}
	i := jsonscan.Space(body, 0)
	if i >= len(body) || body[i] != '{' {
		return notObject(body, i)
	}
	isArray := false
	mem, end, more, err := jsonscan.First(body, i)
	for more {
		at := mem.Value
		if string(mem.Name) == "batch" {
			b.batch.Messages, end, isArray, err = ingest.ParseArray(b.batch.Messages[:0], body, at)
			if err != nil {
				return err
			}
		} else {
			if end, _, err = jsonscan.Value(body, at); err != nil {
				return err
			}
			v := body[at:end:end]
			switch string(mem.Name) {
			case "writeKey":
				b.writeKey = v
			case "sentAt":
				b.batch.SentAt = v
			case "context":
				b.batch.Context = object(v)
			case "integrations":
				b.batch.Integrations = object(v)
			}
		}
		mem, end, more, err = jsonscan.Next(body, end)
	}
	if err != nil {
		return err
	}
	if jsonscan.Space(body, end) != len(body) {
		return jsonscan.ErrSyntax
	}
	if !isArray {
		return errBatch
	}
	if (b.batch.Context != nil && !utf8.Valid(b.batch.Context)) || (b.batch.Integrations != nil && !utf8.Valid(b.batch.Integrations)) {
		return fmt.Errorf("%w: context and integrations must be UTF-8", jsonscan.ErrSyntax)
	}
	return nil
}

func notObject(body []byte, i int) error {
	end, _, err := jsonscan.Value(body, i)
	if err != nil {
		return err
	}
	if jsonscan.Space(body, end) != len(body) {
		return jsonscan.ErrSyntax
	}
	return errBatch
}

// object is v where it is a JSON object; anything else cannot be merged into a
// message and counts as missing.
func object(v []byte) []byte {
	if v[0] != '{' {
		return nil
	}
	return v
}

var bodies = sync.Pool{New: func() any { return new(batchBody) }}

// ParseOnly reads the body of a batch call as the handler does, into the same
// structs, does nothing with it and returns the number of its messages. It is
// the yardstick of the benchmark of the whole call.
func ParseOnly(body []byte) (int, error) {
	b := bodies.Get().(*batchBody)
	defer bodies.Put(b)
	if err := b.parse(body); err != nil {
		return 0, err
	}
	return len(b.batch.Messages), nil
}
