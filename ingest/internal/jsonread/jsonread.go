// Package jsonread reads the JSON of tracking calls with jsontext, in one pass
// and without building values: it hands out the text's own bytes.
//
// It is strict about syntax and leaves to its caller what one bad message must
// not spoil for the others of its call: names that occur twice in an object,
// strings that are no UTF-8 or hold lone surrogates, and depth.
package jsonread

import (
	"bytes"
	"errors"
	"io"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// ErrSyntax says that the text is no JSON. It never quotes the text, which may
// be personal.
var ErrSyntax = errors.New("not valid JSON")

var options = []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}

// Decoder reads one text. All its errors are ErrSyntax.
type Decoder struct {
	text []byte // as sent
	in   bytes.Buffer
	json jsontext.Decoder
}

var decoders = sync.Pool{New: func() any { return new(Decoder) }}

// Read has read go through the one JSON value that text is. What the decoder
// hands out are parts of text and may be kept; read may be called twice, the
// second time from the start.
func Read(text []byte, read func(*Decoder) error) error {
	d := decoders.Get().(*Decoder)
	defer func() {
		d.reset(nil, nil)
		decoders.Put(d)
	}()
	d.reset(text, text)
	err := d.all(read)
	if errors.Is(err, ErrSyntax) {
		// The text may only nest deeper than jsontext goes.
		if flat, flatErr := flatten(text); flatErr != nil {
			return flatErr
		} else if flat != nil {
			d.reset(text, flat)
			err = d.all(read)
		}
	}
	return err
}

// reset begins with another text. read is what is read in its place: as long,
// and with every value where it stands in text.
func (d *Decoder) reset(text, read []byte) {
	d.text = text
	d.in = *bytes.NewBuffer(read) // jsontext reads it in place
	d.json.Reset(&d.in, options...)
}

func (d *Decoder) all(read func(*Decoder) error) error {
	if err := read(d); err != nil {
		return err
	}
	if _, err := d.json.ReadToken(); !errors.Is(err, io.EOF) {
		return ErrSyntax
	}
	return nil
}

// Enter goes into the value that comes next, where it is an object ('{') or an
// array ('[') as begin asks. It returns the index of the bracket.
func (d *Decoder) Enter(begin byte) (at int, ok bool, err error) {
	if byte(d.json.PeekKind()) != begin {
		return 0, false, nil
	}
	if _, err := d.json.ReadToken(); err != nil {
		return 0, false, ErrSyntax
	}
	return d.Offset() - 1, true, nil
}

// Leave goes out of the object or array whose closing bracket comes next; ok is
// false where something else does.
func (d *Decoder) Leave() (ok bool, err error) {
	switch d.json.PeekKind() {
	case '}', ']':
		if _, err := d.json.ReadToken(); err != nil {
			return false, ErrSyntax
		}
		return true, nil
	}
	return false, nil
}

// Name reads the name of a member, without quotes.
func (d *Decoder) Name() ([]byte, error) {
	quoted, err := d.Value()
	if err != nil {
		return nil, err
	}
	if bytes.IndexByte(quoted, '\\') >= 0 {
		return Unquote(quoted), nil
	}
	return quoted[1 : len(quoted)-1], nil
}

// Value reads a value.
func (d *Decoder) Value() ([]byte, error) {
	v, err := d.json.ReadValue()
	if err != nil {
		return nil, ErrSyntax
	}
	end := d.Offset()
	return d.text[end-len(v) : end : end], nil
}

// Since is the text from an index on to behind what was read last.
func (d *Decoder) Since(at int) []byte { return d.text[at:d.Offset():d.Offset()] }

// Offset is the index behind what was read last.
func (d *Decoder) Offset() int { return int(d.json.InputOffset()) }

// Unquote is what a valid JSON string stands for. A lone surrogate and bytes
// that are no UTF-8 become U+FFFD.
func Unquote(quoted []byte) []byte {
	// The error says only that there were such.
	b, _ := jsontext.AppendUnquote(nil, quoted)
	return b
}
