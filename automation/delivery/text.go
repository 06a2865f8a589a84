package delivery

import (
	"encoding/json"
	"unicode/utf8"
)

// Text are bytes that are nearly always text: as JSON a string, and where they are not
// UTF-8 an object {"base64": "…"}.
type Text []byte

type encoded struct {
	Base64 []byte `json:"base64"`
}

// MarshalJSON implements json.Marshaler.
func (t Text) MarshalJSON() ([]byte, error) {
	if utf8.Valid(t) {
		return json.Marshal(string(t))
	}
	return json.Marshal(encoded{t})
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *Text) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '{' {
		var b encoded
		err := json.Unmarshal(data, &b)
		*t = b.Base64
		return err
	}
	var s string
	err := json.Unmarshal(data, &s)
	*t = Text(s)
	return err
}
