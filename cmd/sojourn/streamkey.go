package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"sojourn/domain"
	"sojourn/eventstore"
	"sojourn/internal/durable"
)

// streamKeyEnv is the key that names streams, in hexadecimal, where it does not come
// from the data directory.
const streamKeyEnv = "SOJOURN_STREAM_KEY"

func parseStreamKey(text string) ([]byte, error) {
	key, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(key) != domain.KeySize {
		return nil, fmt.Errorf("%s: this is no key of %d bytes in hexadecimal; openssl rand -hex %d makes one, xxd -p -c %d DATA/%s prints that of a data directory",
			streamKeyEnv, domain.KeySize, domain.KeySize, domain.KeySize, keyFile)
	}
	return key, nil
}

// readStreamKey is the key of a data directory, nil where it has none.
func readStreamKey(dir string) ([]byte, error) {
	path := filepath.Join(dir, keyFile)
	key, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read the stream key: %w", err)
	case len(key) != domain.KeySize:
		return nil, fmt.Errorf("%s has %d bytes, not %d; restore the file from a backup", path, len(key), domain.KeySize)
	}
	return key, nil
}

// keepStreamKey makes a key that of a data directory, which has this one or none.
func keepStreamKey(dir string, key []byte) error {
	there, err := readStreamKey(dir)
	switch {
	case err != nil:
		return err
	case bytes.Equal(there, key):
		return nil
	case there != nil:
		return fmt.Errorf("%s is another key (fingerprint %s, not %s): one deployment has one", filepath.Join(dir, keyFile), domain.KeyFingerprint(there), domain.KeyFingerprint(key))
	}
	if err := durable.WriteFile(filepath.Join(dir, keyFile), key); err != nil {
		return fmt.Errorf("keep the stream key: %w", err)
	}
	return nil
}

// openLog opens the log and finds the key that names its streams: the one of the
// configuration, else the data directory's, which then has it. A new log gets a key
// of its own. The key must outlast the log: with another one no subject is found
// again, so the log holds its fingerprint, and a process with another key is refused.
func (d *dataDir) openLog(ctx context.Context, c *Config, log *slog.Logger) (eventLog, domain.Keyer, error) {
	key, err := readStreamKey(d.path)
	if err != nil {
		return nil, domain.Keyer{}, err
	}
	if key != nil && c.StreamKey != "" {
		err = keepStreamKey(d.path, []byte(c.StreamKey)) // the same
	} else if c.StreamKey != "" {
		key = []byte(c.StreamKey)
	}
	_, noLog := os.Stat(filepath.Join(d.path, logDir))
	switch {
	case err != nil:
	case c.Store != "":
	case noLog == nil && key == nil:
		err = fmt.Errorf("%s is missing, but there is a log that was written with it; restore the file from a backup, or set %s", filepath.Join(d.path, keyFile), streamKeyEnv)
	case noLog != nil:
		// Kept before the log is made, so that a crash between the two leaves no log
		// without.
		if key == nil {
			key, err = newStreamKey()
		}
		if err == nil {
			err = keepStreamKey(d.path, key)
		}
	}
	if err != nil {
		return nil, domain.Keyer{}, err
	}
	store, err := d.openStore(ctx, c, log)
	if err != nil {
		return nil, domain.Keyer{}, err
	}
	if key, err = d.claimStreamKey(ctx, store, key); err == nil {
		err = keepStreamKey(d.path, key)
	}
	if err != nil {
		return nil, domain.Keyer{}, errors.Join(err, store.Close())
	}
	return store, domain.NewKeyer(key), nil
}

func newStreamKey() ([]byte, error) {
	key := make([]byte, domain.KeySize)
	_, err := rand.Read(key)
	return key, err
}

// streamKeyData is the data of a stream_key.v1 event.
type streamKeyData struct {
	Fingerprint string `json:"fingerprint"`
}

// claimStreamKey holds a key against the fingerprint in the log, which it puts there
// where there is none yet. A nil key is made where the log is new.
func (d *dataDir) claimStreamKey(ctx context.Context, store eventstore.Store, key []byte) ([]byte, error) {
	for {
		there, err := fingerprintOf(ctx, store)
		if err != nil {
			return nil, err
		}
		switch {
		case there == "":
		case key == nil:
			return nil, fmt.Errorf("the log's streams are named with a key (fingerprint %s) that this process does not have: set %s, or put the %s of another server of the log into %s", there, streamKeyEnv, keyFile, d.path)
		case there != domain.KeyFingerprint(key):
			return nil, fmt.Errorf("the log's streams are named with another key (fingerprint %s) than this process has (%s): set %s, or put the %s of another server of the log into %s", there, domain.KeyFingerprint(key), streamKeyEnv, keyFile, d.path)
		default:
			return key, nil
		}
		if key == nil {
			// A log of an earlier release has no fingerprint, but a policy.
			for _, err := range store.ReadStream(ctx, domain.StreamPolicy, 0, eventstore.Forwards) {
				if errors.Is(err, eventstore.ErrStreamNotFound) {
					break
				}
				if err != nil {
					return nil, fmt.Errorf("look for the stream key: %w", err)
				}
				return nil, fmt.Errorf("the log was begun by a server that has its stream key: set %s, or put that server's %s into %s", streamKeyEnv, keyFile, d.path)
			}
			if key, err = newStreamKey(); err != nil {
				return nil, err
			}
			if err := keepStreamKey(d.path, key); err != nil {
				return nil, err
			}
		}
		data, err := json.Marshal(streamKeyData{domain.KeyFingerprint(key)})
		if err != nil {
			return nil, err
		}
		_, err = store.Append(ctx, domain.StreamKey, eventstore.NoStream{}, eventstore.NewEvent{
			ID: domain.StatementID(domain.StreamKey, 0, data), Type: domain.TypeStreamKey, Data: data,
		})
		if err != nil && !errors.Is(err, eventstore.ErrWrongRevision) {
			return nil, fmt.Errorf("record the fingerprint of the stream key: %w", err)
		}
	}
}

// fingerprintOf is the fingerprint of the key that names a log's streams, empty where
// the log holds none.
func fingerprintOf(ctx context.Context, store eventstore.Store) (string, error) {
	for e, err := range store.ReadStream(ctx, domain.StreamKey, 0, eventstore.Forwards) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			break
		}
		var k streamKeyData
		if err == nil {
			err = json.Unmarshal(e.Data, &k)
		}
		if err != nil {
			return "", fmt.Errorf("read the fingerprint of the stream key: %w", err)
		}
		return k.Fingerprint, nil
	}
	return "", nil
}
