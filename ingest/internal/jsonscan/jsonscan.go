// Package jsonscan reads JSON text in one pass without building values: it
// checks the whole of the text against RFC 8259 and hands out slices of it.
//
// It is strict about syntax (control characters in strings, escapes, numbers,
// what follows the value) and leaves to its caller what the grammar leaves
// open: names that occur twice in an object, lone surrogates in \u escapes,
// depth, and whether the bytes of a string are UTF-8.
package jsonscan

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// ErrSyntax says that the text is no JSON.
var ErrSyntax = errors.New("not valid JSON")

// Space returns the index of the first byte from i on that is no white space.
func Space(b []byte, i int) int {
	for i < len(b) {
		switch b[i] {
		case ' ', '\n', '\t', '\r':
			i++
		default:
			return i
		}
	}
	return i
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// String reads a string whose opening quote is b[i]. It returns the index after
// the closing quote and whether the string holds an escape.
func String(b []byte, i int) (end int, escaped bool, err error) {
	i++
	for {
		// Eight bytes at a time up to the first quote, backslash or control
		// character: in each mask the lowest bit that is set is exact.
		for i+8 <= len(b) {
			w := binary.LittleEndian.Uint64(b[i:])
			q, s := w^(ones*'"'), w^(ones*'\\')
			m := ((w-ones*0x20)&^w | (q-ones)&^q | (s-ones)&^s) & highs
			if m != 0 {
				i += bits.TrailingZeros64(m) / 8
				break
			}
			i += 8
		}
		if i >= len(b) {
			return i, escaped, ErrSyntax
		}
		switch c := b[i]; {
		case c == '"':
			return i + 1, escaped, nil
		case c == '\\':
			escaped = true
			if i+1 >= len(b) {
				return i, escaped, ErrSyntax
			}
			switch b[i+1] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				i += 2
			case 'u':
				if _, ok := hex4(b, i+2); !ok {
					return i, escaped, ErrSyntax
				}
				i += 6
			default:
				return i, escaped, ErrSyntax
			}
		case c < 0x20:
			return i, escaped, ErrSyntax
		default:
			i++
		}
	}
}

func hex4(b []byte, i int) (rune, bool) {
	if i+4 > len(b) {
		return 0, false
	}
	var r rune
	for _, c := range b[i : i+4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// AppendUnquoted appends what a valid JSON string stands for, its quotes left
// out. A lone surrogate and bytes that are no UTF-8 become U+FFFD.
func AppendUnquoted(dst, quoted []byte) []byte {
	b := quoted[1 : len(quoted)-1]
	for i := 0; i < len(b); {
		c := b[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRune(b[i:])
			dst = utf8.AppendRune(dst, r)
			i += n
			continue
		}
		if c != '\\' {
			dst = append(dst, c)
			i++
			continue
		}
		switch e := b[i+1]; e {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r, _ := hex4(b, i+2)
			i += 4
			if utf16.IsSurrogate(r) {
				low, ok := rune(0), false
				if i+3 < len(b) && b[i+2] == '\\' && b[i+3] == 'u' {
					low, ok = hex4(b, i+4)
				}
				if pair := utf16.DecodeRune(r, low); ok && pair != utf8.RuneError {
					r = pair
					i += 6
				} else {
					r = utf8.RuneError
				}
			}
			dst = utf8.AppendRune(dst, r)
		default: // quote, backslash, slash
			dst = append(dst, e)
		}
		i += 2
	}
	return dst
}

// Number reads a number that begins at b[i] and returns the index after it.
func Number(b []byte, i int) (int, error) {
	if i < len(b) && b[i] == '-' {
		i++
	}
	switch {
	case i >= len(b):
		return i, ErrSyntax
	case b[i] == '0':
		i++
	case b[i] >= '1' && b[i] <= '9':
		i = digits(b, i)
	default:
		return i, ErrSyntax
	}
	if i < len(b) && b[i] == '.' {
		j := digits(b, i+1)
		if j == i+1 {
			return j, ErrSyntax
		}
		i = j
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		j := digits(b, i)
		if j == i {
			return j, ErrSyntax
		}
		i = j
	}
	return i, nil
}

func digits(b []byte, i int) int {
	for i < len(b) && b[i]-'0' <= 9 {
		i++
	}
	return i
}

func literal(b []byte, i int, word string) (int, error) {
	if len(b)-i < len(word) || string(b[i:i+len(word)]) != word {
		return i, ErrSyntax
	}
	return i + len(word), nil
}

// scalar reads a value that is neither object nor array.
func scalar(b []byte, i int) (int, error) {
	switch b[i] {
	case '"':
		end, _, err := String(b, i)
		return end, err
	case 't':
		return literal(b, i, "true")
	case 'f':
		return literal(b, i, "false")
	case 'n':
		return literal(b, i, "null")
	default:
		return Number(b, i)
	}
}

// Value reads the value that begins at b[i] (no white space before it). It
// returns the index after it and how deep objects and arrays stand in each
// other in it: 0 for a scalar, 1 for [].
func Value(b []byte, i int) (end, depth int, err error) {
	if i >= len(b) {
		return i, 0, ErrSyntax
	}
	if b[i] != '{' && b[i] != '[' {
		end, err = scalar(b, i)
		return end, 0, err
	}
	// The containers that are open, one bit each (set: object), so that no text
	// is too deep to be read to its end.
	var (
		small [4]uint64
		open  = small[:]
		level int
	)
	for {
		// b[i] begins a value.
		switch b[i] {
		case '{', '[':
			if level>>6 == len(open) {
				open = append(open, 0)
			}
			object := b[i] == '{'
			if object {
				open[level>>6] |= 1 << (level & 63)
			} else {
				open[level>>6] &^= 1 << (level & 63)
			}
			level++
			depth = max(depth, level)
			if i = Space(b, i+1); i >= len(b) {
				return i, depth, ErrSyntax
			}
			if b[i] == '}' && object || b[i] == ']' && !object {
				break // an empty one ends below
			}
			if object {
				if i, err = name(b, i); err != nil {
					return i, depth, err
				}
			}
			continue
		default:
			if i, err = scalar(b, i); err != nil {
				return i, depth, err
			}
			if i = Space(b, i); i >= len(b) {
				return i, depth, ErrSyntax
			}
		}
		// A value has ended, or an empty container is about to: close what
		// closes here, up to the comma before the next value.
		for {
			object := open[(level-1)>>6]&(1<<((level-1)&63)) != 0
			if b[i] == ',' {
				if i = Space(b, i+1); i >= len(b) {
					return i, depth, ErrSyntax
				}
				if object {
					if i, err = name(b, i); err != nil {
						return i, depth, err
					}
				}
				break
			}
			if b[i] != '}' && b[i] != ']' || (b[i] == '}') != object {
				return i, depth, ErrSyntax
			}
			i++
			if level--; level == 0 {
				return i, depth, nil
			}
			if i = Space(b, i); i >= len(b) {
				return i, depth, ErrSyntax
			}
		}
	}
}

// name reads a member's name and colon and returns the index of its value.
func name(b []byte, i int) (int, error) {
	if b[i] != '"' {
		return i, ErrSyntax
	}
	i, _, err := String(b, i)
	if err != nil {
		return i, err
	}
	if i = Space(b, i); i >= len(b) || b[i] != ':' {
		return i, ErrSyntax
	}
	if i = Space(b, i+1); i >= len(b) {
		return i, ErrSyntax
	}
	return i, nil
}

// Member is one name of an object and where its value begins.
type Member struct {
	// Name is without quotes, and unquoted where it held an escape.
	Name []byte
	// Value is the index at which the value begins.
	Value int
}

// First enters the object whose brace is b[i]. Where the object is empty, more
// is false and end the index after it.
func First(b []byte, i int) (m Member, end int, more bool, err error) {
	if i = Space(b, i+1); i >= len(b) {
		return m, i, false, ErrSyntax
	}
	if b[i] == '}' {
		return m, i + 1, false, nil
	}
	m, err = member(b, i)
	return m, i, err == nil, err
}

// Next goes on behind a value that ended at i: to the next member, or with more
// false to the index after the object.
func Next(b []byte, i int) (m Member, end int, more bool, err error) {
	if i = Space(b, i); i >= len(b) {
		return m, i, false, ErrSyntax
	}
	switch b[i] {
	case '}':
		return m, i + 1, false, nil
	case ',':
		if i = Space(b, i+1); i >= len(b) {
			return m, i, false, ErrSyntax
		}
		m, err = member(b, i)
		return m, i, err == nil, err
	}
	return m, i, false, ErrSyntax
}

func member(b []byte, i int) (Member, error) {
	if b[i] != '"' {
		return Member{}, ErrSyntax
	}
	end, escaped, err := String(b, i)
	if err != nil {
		return Member{}, err
	}
	m := Member{Name: b[i+1 : end-1]}
	if escaped {
		m.Name = AppendUnquoted(nil, b[i:end])
	}
	if end = Space(b, end); end >= len(b) || b[end] != ':' {
		return Member{}, ErrSyntax
	}
	m.Value = Space(b, end+1)
	return m, nil
}
