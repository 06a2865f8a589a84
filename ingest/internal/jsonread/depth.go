package jsonread

import (
	"bytes"
	"iter"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// brackets are the indexes at which objects and arrays of a JSON text begin, and
// how deep they are, the outermost 1.
func brackets(text []byte) iter.Seq2[int, int] {
	return func(yield func(at, depth int) bool) {
		depth := 0
		for i := 0; i < len(text); i++ {
			switch text[i] {
			case '"':
				for i++; i < len(text) && text[i] != '"'; i++ {
					if text[i] == '\\' {
						i++
					}
				}
			case '{', '[':
				if depth++; !yield(i, depth) {
					return
				}
			case '}', ']':
				depth--
			}
		}
	}
}

// Deeper reports whether objects and arrays stand in each other in a valid JSON
// text more than limit deep, the text itself counted.
func Deeper(text []byte, limit int) bool {
	if len(text) <= 2*limit {
		return false // each takes two brackets
	}
	for _, depth := range brackets(text) {
		if depth > limit {
			return true
		}
	}
	return false
}

// layer is half as deep as jsontext goes before it gives up.
const layer = 5_000

// flatten is a copy of a text that nests deeper than jsontext goes, with white
// space in place of what stands in objects and arrays of the depths layer,
// 2*layer and so on, nil where there is nothing so deep. What it takes out was
// read by itself before, so that the copy is valid JSON where the text is, and
// nowhere else.
func flatten(text []byte) ([]byte, error) {
	var deep []int
	for at, depth := range brackets(text) {
		if depth > 0 && depth%layer == 0 {
			deep = append(deep, at)
		}
	}
	if len(deep) == 0 {
		return nil, nil
	}
	flat := bytes.Clone(text)
	var in bytes.Buffer
	var json jsontext.Decoder
	for _, at := range slices.Backward(deep) { // the inner before the outer
		in = *bytes.NewBuffer(flat[at:])
		json.Reset(&in, options...)
		v, err := json.ReadValue()
		if err != nil {
			return nil, ErrSyntax
		}
		for i := at + 1; i < at+len(v)-1; i++ {
			flat[i] = ' '
		}
	}
	return flat, nil
}
