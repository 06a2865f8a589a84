package segmentapi

import (
	"errors"
	"fmt"
	"sync"
	"unicode/utf8"

	"sojourn/ingest"
	"sojourn/ingest/internal/jsonread"
)

// errBatch says that a body is JSON but no batch.
var errBatch = errors.New(`the body must be a JSON object with an array "batch"`)

// batchBody is what stands in the body of a batch call.
type batchBody struct {
	writeKey ingest.Scalar
	batch    ingest.Batch
}

// parse reads the body of a batch call. Of names that occur twice the last one
// counts. b keeps the memory of its messages from one call to the next.
func (b *batchBody) parse(body []byte) error {
	isArray := false
	err := jsonread.Read(body, func(d *jsonread.Decoder) (err error) {
		b.writeKey = nil
		b.batch = ingest.Batch{Messages: b.batch.Messages[:0]}
		isArray, err = b.read(d)
		return err
	})
	if err != nil {
		return err
	}
	if !isArray {
		return errBatch
	}
	if (b.batch.Context != nil && !utf8.Valid(b.batch.Context)) || (b.batch.Integrations != nil && !utf8.Valid(b.batch.Integrations)) {
		return fmt.Errorf("%w: context and integrations must be UTF-8", jsonread.ErrSyntax)
	}
	return nil
}

// read reports whether the body is an object with an array of messages.
func (b *batchBody) read(d *jsonread.Decoder) (isArray bool, err error) {
	_, isObject, err := d.Enter('{')
	if err != nil {
		return false, err
	}
	if !isObject {
		_, err = d.Value()
		return false, err
	}
	for {
		if end, err := d.Leave(); end || err != nil {
			return isArray, err
		}
		name, err := d.Name()
		if err != nil {
			return false, err
		}
		if string(name) == "batch" {
			if b.batch.Messages, isArray, err = ingest.ParseArray(b.batch.Messages[:0], d); err != nil {
				return false, err
			}
			continue
		}
		v, err := d.Value()
		if err != nil {
			return false, err
		}
		switch string(name) {
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
