package ingest

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"sojourn/domain"
	"sojourn/internal/durable"
)

// KnownKeys are the write keys as of the last time that the log could be asked.
// They are kept on disk, so that they are known from a start on, whether the log
// can be reached or not. A key that was revoked meanwhile is good until the log
// answers again.
//
// Its methods may be called concurrently.
type KnownKeys struct {
	log    KeyReader
	path   string
	logger *slog.Logger
	wanted chan struct{}

	mu      sync.Mutex
	keys    *Keys
	waiting []chan error // for a reading that begins from now on
	stopped bool

	// Of Run alone.
	next uint64 // the revision to read from
	read bool   // the log has been read from its beginning
	away bool   // the last reading failed
}

const (
	keysVersion = 1
	// keysEvery is how soon a key that was made or revoked is known, while the log
	// answers; keysTimeout is how long the log has to answer.
	keysEvery   = 2 * time.Second
	keysTimeout = 3 * time.Second
)

type keysFile struct {
	Version int        `json:"v"`
	Keys    []keyEntry `json:"keys"`
}

// keyEntry has the key's hash, never the key. Times are Unix milliseconds.
type keyEntry struct {
	Hash      string `json:"hash"`
	Source    string `json:"source"`
	CreatedAt int64  `json:"created_at"`
	RevokedAt int64  `json:"revoked_at,omitempty"`
}

// OpenKnownKeys reads the file of keys, which need not be there. It does not ask
// the log: Run does.
func OpenKnownKeys(path string, log KeyReader, logger *slog.Logger) (*KnownKeys, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	k := &KnownKeys{log: log, path: path, logger: logger, wanted: make(chan struct{}, 1), keys: noKeys()}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	var file keysFile
	if err == nil {
		err = json.Unmarshal(b, &file)
	}
	if err == nil && file.Version != keysVersion {
		err = fmt.Errorf("it has version %d, this release reads version %d", file.Version, keysVersion)
	}
	if err != nil {
		return nil, fmt.Errorf("read the known write keys: %w; %s can be deleted while the log can be reached", err, path)
	}
	for _, e := range file.Keys {
		var hash keyHash
		if n, err := hex.Decode(hash[:], []byte(e.Hash)); err != nil || n != len(hash) {
			return nil, fmt.Errorf("read the known write keys: a hash in %s is damaged; the file can be deleted while the log can be reached", path)
		}
		info := KeyInfo{ID: e.Hash[:16], Source: e.Source, CreatedAt: domain.Millis(e.CreatedAt).Time()}
		if e.RevokedAt != 0 {
			info.RevokedAt = domain.Millis(e.RevokedAt).Time()
		}
		k.keys.all[hash] = info
	}
	k.keys.publish()
	return k, nil
}

func noKeys() *Keys {
	k := &Keys{all: make(map[keyHash]KeyInfo)}
	k.publish()
	return k
}

// Source is the source that a write key belongs to. A key that is not known is
// asked for in the log: the error is ErrNoSuchKey where the log does not have it
// either, and ErrKeysAway where the log does not answer.
func (k *KnownKeys) Source(writeKey string) (source string, err error) {
	k.mu.Lock()
	keys := k.keys
	if source, err = keys.Source(writeKey); err == nil || k.stopped {
		k.mu.Unlock()
		if err != nil {
			return "", ErrKeysAway
		}
		return source, nil
	}
	answer := make(chan error, 1)
	k.waiting = append(k.waiting, answer)
	k.mu.Unlock()
	select {
	case k.wanted <- struct{}{}:
	default: // one is wanted already, and has not begun
	}
	if err := <-answer; err != nil {
		return "", ErrKeysAway
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keys.Source(writeKey)
}

// Run follows the keys in the log until the context ends.
func (k *KnownKeys) Run(ctx context.Context) {
	tick := time.NewTicker(keysEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		// Whoever waits by now is answered by what is read from now on.
		k.mu.Lock()
		waiting := k.waiting
		k.waiting = nil
		k.mu.Unlock()
		err := k.refresh(ctx)
		for _, w := range waiting {
			w <- err
		}
		select {
		case <-tick.C:
		case <-k.wanted:
		case <-ctx.Done():
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stopped = true
	for _, w := range k.waiting {
		w <- ctx.Err()
	}
	k.waiting = nil
}

// refresh reads what is new. The first reading is from the beginning, whatever
// the file says: the log may be another one.
func (k *KnownKeys) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	k.mu.Lock()
	keys := k.keys
	k.mu.Unlock()
	if !k.read {
		keys, k.next = noKeys(), 0
	}
	keys.mu.Lock()
	next, err := keys.read(ctx, k.log, k.next)
	keys.mu.Unlock()
	if err != nil {
		if !k.away && !errors.Is(ctx.Err(), context.Canceled) {
			k.logger.LogAttrs(ctx, slog.LevelWarn, "write keys not read, going on with those that are known", slog.Any("error", err))
		}
		if k.read {
			k.next = next
		}
		k.away = true
		return err
	}
	changed := !k.read || next != k.next
	k.next, k.read, k.away = next, true, false
	k.mu.Lock()
	k.keys = keys
	k.mu.Unlock()
	if changed {
		if err := k.save(keys); err != nil {
			k.logger.LogAttrs(ctx, slog.LevelError, "the known write keys are not kept on disk", slog.Any("error", err))
		}
	}
	return nil
}

// save writes the file; when it returns, the file is on disk as a whole.
func (k *KnownKeys) save(keys *Keys) error {
	file := keysFile{Version: keysVersion, Keys: []keyEntry{}}
	keys.mu.Lock()
	for hash, info := range keys.all {
		e := keyEntry{Hash: hex.EncodeToString(hash[:]), Source: info.Source, CreatedAt: info.CreatedAt.UnixMilli()}
		if !info.RevokedAt.IsZero() {
			e.RevokedAt = info.RevokedAt.UnixMilli()
		}
		file.Keys = append(file.Keys, e)
	}
	keys.mu.Unlock()
	b, err := json.Marshal(file)
	if err != nil {
		return err
	}
	return durable.WriteFile(k.path, b)
}
