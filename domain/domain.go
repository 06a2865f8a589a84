// Package domain holds the words every part of Sojourn shares: subjects and
// their streams, event ids, the header of a touchpoint, times and amounts. It is
// pure: no clock, no I/O, no randomness.
package domain

import (
	"crypto/hmac"
	"crypto/sha1" // UUIDv5 is made of it
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// The types of the events Sojourn writes, each with its version.
const (
	// TypeTouchpoint is a touchpoint: Metadata holds a Header, Data the message
	// as it was sent.
	TypeTouchpoint = "touchpoint.v1"
	// TypeJoin is a touchpoint whose message is an identify or an alias, whatever
	// it names, and so is an identity event as well. One event, so that neither
	// can be in the log without the other. Older logs hold calls that name one
	// subject only as TypeTouchpoint: a fold goes by the header's kind, not by the
	// type.
	TypeJoin = "touchpoint.join.v1"

	TypeReject          = "reject.v1"
	TypeRejectReplayed  = "reject.replayed.v1"
	TypeRefusal         = "refusal.v1"
	TypeWriteKeyCreated = "write_key.created.v1"
	TypeWriteKeyRevoked = "write_key.revoked.v1"
	TypePolicyApplied   = "policy.applied.v1"
	TypePolicyFileRead  = "policy.file_read.v1"
	TypeStageEntered    = "stage.entered.v1"
	TypeStageWithdrawn  = "stage.withdrawn.v1"

	TypeTierEntered     = "tier.entered.v1"
	TypeTierWithdrawn   = "tier.withdrawn.v1"
	TypeStatusEntered   = "satisfaction.entered.v1"
	TypeStatusWithdrawn = "satisfaction.withdrawn.v1"

	TypeSegmentEntered   = "segment.entered.v1"
	TypeSegmentLeft      = "segment.left.v1"
	TypeSegmentWithdrawn = "segment.withdrawn.v1"
	// TypeSegmentApplied is a segment document that was saved, TypeSegmentDeleted says
	// that there is none of its name any more.
	TypeSegmentApplied = "segment.applied.v1"
	TypeSegmentDeleted = "segment.deleted.v1"

	// Commands about points, each decided behind all that its guard stream holds,
	// and entries that say for which subjects the next ones are; see
	// docs/decisions/0008.
	TypeLoyaltyCommand = "loyalty.command.v1"
	TypeLoyaltyGuard   = "loyalty.guard.v1"

	// TypeFeedbackHandled is what a person did about an entry of feedback.
	TypeFeedbackHandled = "feedback.handled.v1"

	// What people decide about who is one customer; see docs/decisions/0006.
	TypeIdentityMerged = "identity.merged.v1"
	TypeIdentitySplit  = "identity.split.v1"

	// What projection workers agree on; see docs/decisions/0010.
	TypeViewsBegun   = "views.begun.v1"   // a generation that they are to build
	TypeViewsBuilt   = "views.built.v1"   // one of them has its part
	TypeViewsActive  = "views.active.v1"  // all have, and it answers from now on
	TypeViewsClaimed = "views.claimed.v1" // a process holds a part from now on
	TypeViewsFlushed = "views.flushed.v1" // it is about to write a batch

	// TypeStreamKey says by its fingerprint which key names the streams of the log.
	TypeStreamKey = "stream_key.v1"
	// TypeDestinationSaved is a destination of deliveries as it stands from there
	// on, its secrets encrypted.
	TypeDestinationSaved = "destination.saved.v1"
)

// Streams of configuration and bookkeeping; touchpoints and statements have a
// stream for each subject and customer.
const (
	StreamRejects   = "rejects"
	StreamWriteKeys = "write_keys"
	StreamPolicy    = "policy"
	// StreamPolicyFile holds which policy files the starts of a server have read.
	StreamPolicyFile = "policy_file"
	StreamSegments   = "segments"
	StreamIdentity   = "identity" // decisions, in the order they were taken
	StreamViews      = "views"    // the generations of views that workers keep
	// StreamKey holds the fingerprint of the key that names streams.
	StreamKey = "stream_key"
	// StreamDestinations holds the destinations of deliveries.
	StreamDestinations = "destinations"
)

// Millis is an instant in milliseconds since 1970-01-01T00:00:00 UTC.
type Millis int64

// Day is 24 hours; a day has no time zone.
const Day Millis = 24 * 60 * 60 * 1000

// WorkerStream is the stream of one part of a generation of views that several
// workers keep.
func WorkerStream(generation, index, of int) string {
	return fmt.Sprintf("%s-g%d-%d-of-%d", StreamViews, generation, index, of)
}

// IsWorkerStream reports whether WorkerStream makes a name.
func IsWorkerStream(stream string) bool {
	var generation, index, of int
	n, err := fmt.Sscanf(stream, StreamViews+"-g%d-%d-of-%d", &generation, &index, &of)
	return n == 3 && err == nil && stream == WorkerStream(generation, index, of)
}

// MillisOf cuts t to the millisecond.
func MillisOf(t time.Time) Millis { return Millis(t.UnixMilli()) }

// Time returns the instant in UTC.
func (m Millis) Time() time.Time { return time.UnixMilli(int64(m)).UTC() }

// String is RFC 3339 with milliseconds.
func (m Millis) String() string { return m.Time().Format("2006-01-02T15:04:05.000Z") }

// MinTime and MaxTime bound the times a touchpoint may carry: the range that
// ClickHouse's DateTime64(3) holds exactly.
var (
	MinTime = MillisOf(time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC))
	MaxTime = MillisOf(time.Date(2299, 12, 31, 23, 59, 59, 999_000_000, time.UTC))
)

// Keyer names the streams of subjects with a keyed hash, so that no identifier
// stands in a stream's name.
type Keyer struct{ macs *sync.Pool }

// keyedMAC is a MAC whose key has been taken in, and room for its sum.
type keyedMAC struct {
	hash.Hash
	buf []byte
}

// KeySize is the length of a Keyer's key in bytes.
const KeySize = 32

// NewKeyer takes the deployment's key. The same key must be used for ever: it
// decides the names of streams and so the ids of customers.
func NewKeyer(key []byte) Keyer {
	key = append([]byte(nil), key...)
	// Taking the key in costs more than a sum, so MACs are used again.
	return Keyer{&sync.Pool{New: func() any { return &keyedMAC{hmac.New(sha256.New, key), make([]byte, 0, 128)} }}}
}

// KeyFingerprint tells keys of Keyers apart and says nothing about them: 64 bits in
// hexadecimal.
func KeyFingerprint(key []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("fingerprint"))
	return hex.EncodeToString(mac.Sum(nil)[:8])
}

// Stream is the name of the stream that holds the touchpoints of s: its kind, a
// hyphen and 128 bits of HMAC-SHA256 over "kind:value" in hexadecimal.
func (k Keyer) Stream(s Subject) string {
	mac := k.macs.Get().(*keyedMAC)
	defer k.macs.Put(mac)
	buf := append(append(append(mac.buf[:0], s.Kind...), ':'), s.Value...)
	mac.Reset()
	mac.Write(buf)
	sum := mac.Sum(buf[:0])
	name := append(append(sum[len(sum):], s.Kind...), '-')
	name = hex.AppendEncode(name, sum[:16])
	mac.buf = sum[:0]
	return string(name)
}

// Namespaces of the UUIDv5 ids. They are part of the format of the log.
var (
	nsEvent     = uuid.MustParse("5f0c7c9a-6a4e-5d0e-9a53-0d2a52a8c1e1")
	nsSubject   = uuid.MustParse("0b2f6d0e-3c1d-5b7f-8a44-6f1f7e0c9b02")
	nsStatement = uuid.MustParse("9d3b1c44-0f7a-5e25-b1f0-2f64c2a7d303")
)

// EventID is the id of the touchpoint that a source sent under a message id.
// The same pair gives the same id for ever, which is what makes a retry harmless.
func EventID(source, messageID string) uuid.UUID {
	var room [128]byte
	buf := append(append(append(append(room[:0], nsEvent[:]...), source...), 0), messageID...)
	return uuidV5(sha1.Sum(buf))
}

// uuidV5 makes a UUIDv5 of the SHA-1 of namespace and name, as uuid.NewSHA1 does.
func uuidV5(sum [sha1.Size]byte) uuid.UUID {
	id := uuid.UUID(sum[:16])
	id[6] = id[6]&0x0f | 0x50
	id[8] = id[8]&0x3f | 0x80
	return id
}

// SubjectID is the id of the subject whose touchpoints stand in a stream. A
// customer bears the id of the first of its subjects.
func SubjectID(stream string) uuid.UUID { return uuid.NewSHA1(nsSubject, []byte(stream)) }

// AccountID is the id of the account that group calls name by a groupId: keyed
// like a subject's, so that it tells nothing of the groupId, and no subject's.
func (k Keyer) AccountID(groupID string) uuid.UUID {
	return SubjectID(k.Stream(Subject{accountKind, groupID}))
}

// GuardStream is the stream of the commands about a customer's points.
func GuardStream(customer uuid.UUID) string { return "loyalty-" + customer.String() }

// GuardCustomer is the customer of a guard stream; ok is false for other streams.
func GuardCustomer(stream string) (id uuid.UUID, ok bool) {
	return customerOf(stream, "loyalty-")
}

// FeedbackStream is the stream of what people did about an entry of feedback.
func FeedbackStream(event uuid.UUID) string { return feedbackStreams + event.String() }

const feedbackStreams = "feedback-"

// StatementStream is the stream of what Sojourn said of a customer.
func StatementStream(customer uuid.UUID) string { return "statements-" + customer.String() }

// StatementCustomer reads the customer from the name of a statement stream.
func StatementCustomer(stream string) (uuid.UUID, bool) {
	return customerOf(stream, "statements-")
}

func customerOf(stream, prefix string) (uuid.UUID, bool) {
	s, ok := strings.CutPrefix(stream, prefix)
	if !ok || len(s) != len(uuid.Nil.String()) { // what is shorter is a subject's stream
		return uuid.Nil, false
	}
	id, err := uuid.Parse(s)
	return id, err == nil
}

// Ours reports whether an event stands in a stream where Sojourn writes such. Others may
// write what they like into streams of their own, with any type: what folds the log
// passes over it.
func Ours(stream, typ string) (ours bool) {
	switch typ {
	case TypeTouchpoint, TypeJoin:
		_, ours = SubjectStream(stream)
	case TypeStageEntered, TypeStageWithdrawn, TypeTierEntered, TypeTierWithdrawn, TypeStatusEntered, TypeStatusWithdrawn,
		TypeSegmentEntered, TypeSegmentLeft, TypeSegmentWithdrawn:
		_, ours = StatementCustomer(stream)
	case TypeLoyaltyCommand:
		_, ours = GuardCustomer(stream)
	case TypeIdentityMerged, TypeIdentitySplit:
		ours = stream == StreamIdentity
	case TypeFeedbackHandled:
		ours = strings.HasPrefix(stream, feedbackStreams)
	default:
		ours = true
	}
	return ours
}

// StatementID is made of a statement's stream, revision and content, so that a
// statement said again is the same event.
func StatementID(stream string, revision uint64, content []byte) uuid.UUID {
	buf := fmt.Appendf(nil, "%s@%d\x00", stream, revision)
	return uuid.NewSHA1(nsStatement, append(buf, content...))
}
