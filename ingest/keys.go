package ingest

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/eventstore"
)

// KeyLog is what Keys needs of the event store.
type KeyLog interface {
	KeyReader
	Append(ctx context.Context, stream string, expected eventstore.Expected, events ...eventstore.NewEvent) (eventstore.Result, error)
}

// KeyReader is what KnownKeys needs of the event store.
type KeyReader interface {
	ReadStream(ctx context.Context, stream string, from uint64, dir eventstore.Direction) iter.Seq2[eventstore.Recorded, error]
}

var (
	// ErrSourceName refuses a source's name; see ValidSource.
	ErrSourceName = errors.New("a source's name is 1 to 64 letters, digits, '.', '_' and '-', the first a letter or digit")
	// ErrNoSuchKey is answered where nothing that is not revoked fits.
	ErrNoSuchKey = errors.New("no such write key")
	// ErrKeysAway says that a write key is not known and that this may be because
	// the log could not be asked.
	ErrKeysAway = errors.New("the write keys cannot be read now")
)

var sourcePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// ValidSource reports whether a name can be a source's:
// [A-Za-z0-9][A-Za-z0-9._-]{0,63}. Names that differ in case are two sources.
func ValidSource(name string) bool { return sourcePattern.MatchString(name) }

// KeyInfo is what is known of a write key, without the key.
type KeyInfo struct {
	// ID names the key: 16 hexadecimal digits of its hash.
	ID        string
	Source    string
	CreatedAt time.Time
	// RevokedAt is zero while the key is good.
	RevokedAt time.Time
}

// Keys holds the write keys. The log has their SHA-256 hashes only: a key is
// shown once, when it is made. Its methods may be called concurrently; of the
// processes on one log, one changes keys.
type Keys struct {
	log KeyLog
	now func() time.Time

	mu   sync.Mutex // held to change
	all  map[keyHash]KeyInfo
	good atomic.Pointer[map[keyHash]string] // hash to source, replaced as a whole
}

type keyHash [sha256.Size]byte

type keyEvent struct {
	Version int    `json:"v"`
	Hash    string `json:"hash"`
	Source  string `json:"source,omitempty"`
	At      int64  `json:"at"` // Unix milliseconds
}

// LoadKeys reads the write keys from the log. now may be nil: time.Now.
func LoadKeys(ctx context.Context, log KeyLog, now func() time.Time) (*Keys, error) {
	if now == nil {
		now = time.Now
	}
	k := &Keys{log: log, now: now, all: make(map[keyHash]KeyInfo)}
	if _, err := k.read(ctx, log, 0); err != nil {
		return nil, err
	}
	return k, nil
}

// read reads what has happened to the keys from a revision on, and returns the
// one to go on from.
func (k *Keys) read(ctx context.Context, log KeyReader, from uint64) (next uint64, err error) {
	defer k.publish()
	for e, err := range log.ReadStream(ctx, domain.StreamWriteKeys, from, eventstore.Forwards) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			break
		}
		if err != nil {
			return from, fmt.Errorf("read write keys: %w", err)
		}
		if err := k.apply(e.Type, e.Data); err != nil {
			return from, fmt.Errorf("read write key event at position %d: %w", e.Position, err)
		}
		from = e.Revision + 1
	}
	return from, nil
}

func (k *Keys) apply(typ string, data []byte) error {
	var e keyEvent
	if err := json.Unmarshal(data, &e); err != nil {
		return err
	}
	var hash keyHash
	if n, err := hex.Decode(hash[:], []byte(e.Hash)); err != nil || n != len(hash) {
		return errors.New("the hash is damaged")
	}
	info := k.all[hash]
	switch typ {
	case domain.TypeWriteKeyCreated:
		info.ID, info.Source, info.CreatedAt = e.Hash[:16], e.Source, domain.Millis(e.At).Time()
	case domain.TypeWriteKeyRevoked:
		info.RevokedAt = domain.Millis(e.At).Time()
	default:
		return fmt.Errorf("unknown event type %q", typ)
	}
	k.all[hash] = info
	return nil
}

func (k *Keys) publish() {
	good := make(map[keyHash]string, len(k.all))
	for hash, info := range k.all {
		if info.RevokedAt.IsZero() {
			good[hash] = info.Source
		}
	}
	k.good.Store(&good)
}

// Source is the source that a write key belongs to. The error is ErrNoSuchKey
// where the key is unknown or revoked. What a lookup takes does not depend on how
// much of a key is right, as it is the key's hash that is looked up.
func (k *Keys) Source(writeKey string) (source string, err error) {
	source, ok := (*k.good.Load())[sha256.Sum256([]byte(writeKey))]
	if !ok {
		return "", ErrNoSuchKey
	}
	return source, nil
}

// Create makes a write key for a source and returns it; it cannot be had again.
// A source may have several. The key is durable when Create returns. The error
// is ErrSourceName for a name that ValidSource does not take.
func (k *Keys) Create(ctx context.Context, source string) (writeKey string, info KeyInfo, err error) {
	if !ValidSource(source) {
		return "", KeyInfo{}, ErrSourceName
	}
	if writeKey, err = randomKey(rand.Reader); err != nil {
		return "", KeyInfo{}, err
	}
	info, err = k.add(ctx, writeKey, source)
	return writeKey, info, err
}

func (k *Keys) add(ctx context.Context, writeKey, source string) (KeyInfo, error) {
	hash := keyHash(sha256.Sum256([]byte(writeKey)))
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.append(ctx, domain.TypeWriteKeyCreated, hash, source); err != nil {
		return KeyInfo{}, err
	}
	return k.all[hash], nil
}

func (k *Keys) append(ctx context.Context, typ string, hash keyHash, source string) error {
	data, err := json.Marshal(keyEvent{Version: 1, Hash: hex.EncodeToString(hash[:]), Source: source, At: k.now().UnixMilli()})
	if err != nil {
		return fmt.Errorf("write a write key event: %w", err)
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return fmt.Errorf("write a write key event: %w", err)
	}
	if _, err := k.log.Append(ctx, domain.StreamWriteKeys, eventstore.Any{}, eventstore.NewEvent{ID: id, Type: typ, Data: data}); err != nil {
		return fmt.Errorf("append a write key event: %w", err)
	}
	if err := k.apply(typ, data); err != nil {
		return err
	}
	k.publish()
	return nil
}

// List returns all keys, revoked ones too, by source and then by the time of
// their making.
func (k *Keys) List() []KeyInfo {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.SortedFunc(maps.Values(k.all), func(a, b KeyInfo) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
}

// Revoke takes back the key with an id, or else the key itself, or else every
// key of a source, and returns what it took back. From its return on those keys
// are refused, and that is durable. The error is ErrNoSuchKey where no good key
// fits.
func (k *Keys) Revoke(ctx context.Context, ref string) ([]KeyInfo, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	itself := keyHash(sha256.Sum256([]byte(ref)))
	for _, fits := range []func(keyHash, KeyInfo) bool{
		func(_ keyHash, i KeyInfo) bool { return i.ID == ref },
		func(h keyHash, _ KeyInfo) bool { return h == itself },
		func(_ keyHash, i KeyInfo) bool { return i.Source == ref },
	} {
		var revoked []KeyInfo
		for hash, info := range maps.Clone(k.all) {
			if !info.RevokedAt.IsZero() || !fits(hash, info) {
				continue
			}
			if err := k.append(ctx, domain.TypeWriteKeyRevoked, hash, ""); err != nil {
				return revoked, err
			}
			revoked = append(revoked, k.all[hash])
		}
		if len(revoked) > 0 {
			slices.SortFunc(revoked, func(a, b KeyInfo) int { return a.CreatedAt.Compare(b.CreatedAt) })
			return revoked, nil
		}
	}
	return nil, ErrNoSuchKey
}

// randomKey is 256 random bits in base 62, always 43 characters.
func randomKey(r io.Reader) (string, error) {
	var b [32]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return "", fmt.Errorf("make a write key: %w", err)
	}
	text := new(big.Int).SetBytes(b[:]).Text(62)
	return strings.Repeat("0", 43-len(text)) + text, nil
}
