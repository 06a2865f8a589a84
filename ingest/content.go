package ingest

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"sojourn/domain"
)

// notContent are the members of a message that do not make it another message:
// who it is of may have become known between two attempts, and the rest is the
// envelope. "_metadata" is the sending SDK's note on the attempt itself (the
// browser's puts its count of retries there).
var notContent = []string{
	"userId", "anonymousId", "sentAt", "writeKey", "context", "integrations",
	"messageId", "_metadata",
}

// content is a message in canonical form, without what is not its content: two
// messages of one id whose contents are equal are one message sent twice. Names
// stand in order, strings are written one way, and numbers by their value, with
// no digit lost. Where kind is set, it stands for the message's "type", which a
// call to an endpoint of its own need not carry.
//
// What is no JSON object, or nests too deep, is its own content byte by byte.
func content(kind domain.Kind, raw []byte) []byte {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var object map[string]any
	if err := dec.Decode(&object); err != nil || object == nil {
		return raw
	}
	for _, name := range notContent {
		delete(object, name)
	}
	if kind != 0 {
		object["type"] = kind.String()
	}
	return appendCanonical(make([]byte, 0, len(raw)), object)
}

func appendCanonical(b []byte, v any) []byte {
	switch v := v.(type) {
	case map[string]any:
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		b = append(b, '{')
		for _, name := range names {
			b = strconv.AppendQuote(b, name)
			b = append(b, ':')
			b = appendCanonical(b, v[name])
			b = append(b, ',')
		}
		return append(b, '}')
	case []any:
		b = append(b, '[')
		for _, e := range v {
			b = appendCanonical(b, e)
			b = append(b, ',')
		}
		return append(b, ']')
	case json.Number:
		return appendNumber(b, string(v))
	case string:
		return strconv.AppendQuote(b, v)
	case bool:
		return strconv.AppendBool(b, v)
	default:
		return append(b, "null"...)
	}
}

// appendNumber writes a JSON number as its digits without zeros at either end,
// and the power of ten of the last: 1, 1.0 and 10e-1 are all 1e0.
func appendNumber(b []byte, s string) []byte {
	negative := strings.HasPrefix(s, "-")
	s = strings.TrimPrefix(s, "-")
	mantissa, exponent, _ := strings.Cut(strings.ToLower(s), "e")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	number := strings.TrimLeft(whole+fraction, "0")
	digits := strings.TrimRight(number, "0")
	if digits == "" {
		return append(b, '0')
	}
	power := new(big.Int)
	if exponent != "" {
		power.SetString(strings.TrimPrefix(exponent, "+"), 10)
	}
	power.Add(power, big.NewInt(int64(len(number)-len(digits)-len(fraction))))
	if negative {
		b = append(b, '-')
	}
	b = append(b, digits...)
	b = append(b, 'e')
	return power.Append(b, 10)
}

func contentHash(kind domain.Kind, raw []byte) [sha256.Size]byte {
	return sha256.Sum256(content(kind, raw))
}
