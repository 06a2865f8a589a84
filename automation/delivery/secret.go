package delivery

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is a text that shows itself nowhere: not when it is printed, logged or
// encoded. Only Reveal gives it away.
type Secret struct{ text string }

const hidden = "********"

// NewSecret hides a text.
func NewSecret(text string) Secret { return Secret{text} }

// Reveal is the text itself.
func (s Secret) Reveal() string { return s.text }

// IsZero reports whether there is nothing to hide.
func (s Secret) IsZero() bool { return s.text == "" }

// String is a row of asterisks.
func (Secret) String() string { return hidden }

// Format hides the text from every verb, %#v and %x too.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// LogValue hides the text from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText hides the text from JSON, YAML and whatever else encodes text.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }
