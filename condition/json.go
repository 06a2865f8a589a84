package condition

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf16"
)

// Plain is JSON that every reader of a table reads as Eval does: whole numbers that
// fit 64 bits no more are written as the double that they are read as, numbers beyond
// a double become null, and half a surrogate pair becomes U+FFFD. ClickHouse reads
// nothing of a document that holds one of these. What holds none is returned as it is.
func Plain(raw []byte) []byte {
	if !suspicious(raw) {
		return raw
	}
	var out bytes.Buffer
	for i := 0; i < len(raw); {
		c := raw[i]
		end := i + 1
		switch {
		case c == '"':
			for end < len(raw) && raw[end] != '"' {
				if raw[end] == '\\' {
					end++
				}
				end++
			}
			end = min(end+1, len(raw))
			out.Write(plainString(raw[i:end]))
		case c == '-' || c >= '0' && c <= '9':
			for end < len(raw) && bytes.IndexByte([]byte("0123456789.eE+-"), raw[end]) >= 0 {
				end++
			}
			out.WriteString(plainNumber(string(raw[i:end])))
		default:
			out.WriteByte(c)
		}
		i = end
	}
	return out.Bytes()
}

// suspicious reports whether raw may hold what Plain changes: a long run of digits, an
// exponent, or the escape of a surrogate.
func suspicious(raw []byte) bool {
	digits := 0
	for i, c := range raw {
		switch {
		case c >= '0' && c <= '9':
			if digits++; digits > 18 {
				return true
			}
			continue
		case (c == 'e' || c == 'E') && digits > 0:
			return true
		case c == '\\' && i+2 < len(raw) && raw[i+1] == 'u' && (raw[i+2] == 'd' || raw[i+2] == 'D'):
			return true
		}
		digits = 0
	}
	return false
}

func plainNumber(text string) string {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return "null"
	}
	if bytes.ContainsAny([]byte(text), ".eE") {
		return text
	}
	if _, err := strconv.ParseInt(text, 10, 64); err == nil {
		return text
	}
	if _, err := strconv.ParseUint(text, 10, 64); err == nil {
		return text
	}
	return strconv.FormatFloat(f, 'e', -1, 64)
}

// plainString is a string with half surrogate pairs replaced.
func plainString(raw []byte) []byte {
	var s string
	if !halfPair(raw) || json.Unmarshal(raw, &s) != nil {
		return raw
	}
	out, _ := json.Marshal(s)
	return out
}

// halfPair reports whether a raw string escapes half a surrogate pair.
func halfPair(raw []byte) bool {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		if i++; i >= len(raw) || raw[i] != 'u' {
			continue
		}
		r := escaped(raw[i+1:])
		i += 4
		if !utf16.IsSurrogate(r) {
			continue
		}
		if r >= 0xdc00 || i+6 >= len(raw) || raw[i+1] != '\\' || raw[i+2] != 'u' {
			return true
		}
		if next := escaped(raw[i+3:]); next < 0xdc00 || next > 0xdfff {
			return true
		}
		i += 6
	}
	return false
}

// escaped is the code unit of the four digits that b begins with.
func escaped(b []byte) rune {
	n, _ := strconv.ParseUint(string(b[:min(4, len(b))]), 16, 32)
	return rune(n)
}
