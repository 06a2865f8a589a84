package domain

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Kind is the type of a tracking call.
type Kind uint8

// The tracking calls. The numbers are part of the format of the log.
const (
	Track Kind = iota + 1
	Identify
	Page
	Screen
	Group
	Alias
)

var kindNames = [...]string{Track: "track", Identify: "identify", Page: "page", Screen: "screen", Group: "group", Alias: "alias"}

// String is the name as in a message's "type".
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// ParseKind reads a message's "type".
func ParseKind(s string) (Kind, bool) {
	for k, name := range kindNames {
		if name != "" && name == s {
			return Kind(k), true
		}
	}
	return 0, false
}

// Flags mark what was found odd about a message on receipt.
type Flags uint8

// FlagFuture marks a message whose time was later than its receipt and counts at
// its receipt.
const FlagFuture Flags = 1

// Header stands beside the message in the log, so that a fold need not parse the
// message for what every touchpoint has.
type Header struct {
	Kind       Kind
	Flags      Flags
	OccurredAt Millis
	ReceivedAt Millis
	Source     string
	MessageID  string // as sent, or the random one given on receipt
	// The identifiers as strings, empty where missing or no identity.
	UserID, AnonymousID, PreviousID string
	// Name is the event of a track and the name of a page or screen; else empty.
	Name string
	// SentAt is the time of sending as sent, whether it stood on the batch or on
	// the message; empty where there was none.
	SentAt string
	// BatchContext and BatchIntegrations are the JSON objects that stood on the
	// batch, to be merged under the message's own; usually empty.
	BatchContext, BatchIntegrations string
}

// Subject is the one the touchpoint is recorded under: the user where there is
// one, else the anonymous visitor.
func (h Header) Subject() Subject {
	if h.UserID != "" {
		return Subject{User, h.UserID}
	}
	return Subject{Anon, h.AnonymousID}
}

// Joined is the anonymous subject that the message joins to its user: the
// anonymousId of an identify, the previousId of an alias.
func (h Header) Joined() (Subject, bool) {
	if h.UserID == "" {
		return Subject{}, false
	}
	switch {
	case h.Kind == Identify && h.AnonymousID != "":
		return Subject{Anon, h.AnonymousID}, true
	case h.Kind == Alias && h.PreviousID != "":
		return Subject{Anon, h.PreviousID}, true
	}
	return Subject{}, false
}

const headerVersion = 1

// Append appends the binary form to buf: the version (1), kind and flags as a
// byte each, occurred_at and received_at as zig-zag varints, then source,
// message id, user id, anonymous id, previous id, name, sentAt, batch context
// and batch integrations, each as a varint length and its bytes.
func (h Header) Append(buf []byte) []byte {
	buf = append(buf, headerVersion, byte(h.Kind), byte(h.Flags))
	buf = binary.AppendVarint(buf, int64(h.OccurredAt))
	buf = binary.AppendVarint(buf, int64(h.ReceivedAt))
	for _, s := range [...]string{
		h.Source, h.MessageID, h.UserID, h.AnonymousID, h.PreviousID,
		h.Name, h.SentAt, h.BatchContext, h.BatchIntegrations,
	} {
		buf = binary.AppendUvarint(buf, uint64(len(s)))
		buf = append(buf, s...)
	}
	return buf
}

var errHeader = errors.New("touchpoint header is cut short or damaged")

// ParseHeader reads what Append wrote. The strings of the header share s.
func ParseHeader(s string) (Header, error) {
	var h Header
	if len(s) < 5 {
		return h, errHeader
	}
	if s[0] != headerVersion {
		return h, fmt.Errorf("touchpoint header has version %d, this release reads version %d", s[0], headerVersion)
	}
	h.Kind, h.Flags = Kind(s[1]), Flags(s[2])
	s = s[3:]
	var ok bool
	var u uint64
	if u, s, ok = uvarint(s); !ok {
		return h, errHeader
	}
	h.OccurredAt = unzigzag(u)
	if u, s, ok = uvarint(s); !ok {
		return h, errHeader
	}
	h.ReceivedAt = unzigzag(u)
	for _, dst := range [...]*string{
		&h.Source, &h.MessageID, &h.UserID, &h.AnonymousID, &h.PreviousID,
		&h.Name, &h.SentAt, &h.BatchContext, &h.BatchIntegrations,
	} {
		if u, s, ok = uvarint(s); !ok || u > uint64(len(s)) {
			return h, errHeader
		}
		*dst, s = s[:u], s[u:]
	}
	if s != "" {
		return h, errHeader
	}
	return h, nil
}

func unzigzag(u uint64) Millis { return Millis(int64(u>>1) ^ -int64(u&1)) }

func uvarint(s string) (uint64, string, bool) {
	var x uint64
	for i := 0; i < len(s) && i < binary.MaxVarintLen64; i++ {
		b := s[i]
		x |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			return x, s[i+1:], true
		}
	}
	return 0, s, false
}
