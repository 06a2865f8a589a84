package delivery

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sojourn/internal/durable"
)

// KeyEnv is the environment variable of the key that secrets are encrypted with:
// 32 bytes in base64, or several of them with commas between: the first encrypts,
// all decrypt, so that a key can be replaced.
const KeyEnv = "SOJOURN_SECRET_KEY"

// KeyFile is the name of the file in the data directory that keeps the key where
// KeyEnv does not give one. It is in no backup unless that is asked for.
const KeyFile = "secret-key"

// ErrWrongKey is about a secret that was encrypted with a key that is not here.
var ErrWrongKey = errors.New("the secret was encrypted with another key")

const keySize = 32

// Sealer encrypts secrets (AES-256-GCM) and signs links.
type Sealer struct{ keys []sealKey }

type sealKey struct {
	id   [4]byte // of the key, and no help in finding it
	aead cipher.AEAD
	link []byte // signs links
}

// NewSealer makes a sealer of keys of 32 bytes; the first one encrypts.
func NewSealer(keys ...[]byte) (*Sealer, error) {
	if len(keys) == 0 {
		return nil, errors.New("there is no key for secrets")
	}
	s := &Sealer{}
	for _, k := range keys {
		if len(k) != keySize {
			return nil, fmt.Errorf("a key for secrets has %d bytes, not %d", len(k), keySize)
		}
		// Each use has a key of its own.
		var derived [3][]byte
		for i, use := range []string{"id", "secrets", "links"} {
			var err error
			if derived[i], err = hkdf.Key(sha256.New, k, nil, "sojourn automation "+use, keySize); err != nil {
				return nil, err
			}
		}
		block, err := aes.NewCipher(derived[1])
		if err != nil {
			return nil, err
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, err
		}
		s.keys = append(s.keys, sealKey{[4]byte(derived[0]), aead, derived[2]})
	}
	return s, nil
}

const sealFormat = 1

// Seal encrypts a secret. It opens only under the name that it was sealed for.
func (s *Sealer) Seal(name string, secret Secret) []byte {
	k := &s.keys[0]
	out := append([]byte{sealFormat}, k.id[:]...)
	return k.aead.Seal(out, nil, []byte(secret.Reveal()), []byte(name))
}

// Open decrypts what Seal has made. ErrWrongKey where the key is not here.
func (s *Sealer) Open(name string, sealed []byte) (Secret, error) {
	if len(sealed) < 5 || sealed[0] != sealFormat {
		return Secret{}, errors.New("the encrypted secret is damaged")
	}
	for _, k := range s.keys {
		if k.id != [4]byte(sealed[1:5]) {
			continue
		}
		text, err := k.aead.Open(nil, nil, sealed[5:], []byte(name))
		if err != nil {
			return Secret{}, errors.New("the encrypted secret is damaged")
		}
		return NewSecret(string(text)), nil
	}
	return Secret{}, fmt.Errorf("%w; start with the key that is missing in %s or in the file %s", ErrWrongKey, KeyEnv, KeyFile)
}

// LoadSealer makes the sealer of a server: with the keys of KeyEnv, as env has
// them; else with that of KeyFile in the data directory, which is made where it
// is missing (256 random bits, mode 0600, on disk when LoadSealer returns). A
// file that others can read is refused.
func LoadSealer(env, dir string) (*Sealer, error) {
	if env != "" {
		keys, err := parseKeys(env)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", KeyEnv, err)
		}
		return NewSealer(keys...)
	}
	path := filepath.Join(dir, KeyFile)
	keys, err := readKeys(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeKey(path); err == nil {
			keys, err = readKeys(path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the key for secrets: %w", err)
	}
	return NewSealer(keys...)
}

func parseKeys(text string) ([][]byte, error) {
	var keys [][]byte
	for part := range strings.SplitSeq(text, ",") {
		key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(part))
		if err != nil || len(key) != keySize {
			return nil, fmt.Errorf("a key is %d random bytes in base64; openssl rand -base64 %d makes one", keySize, keySize)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func readKeys(path string) ([][]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %04o); chmod 600 it, and replace the secrets where others have read it", path, info.Mode().Perm())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	keys, err := parseKeys(string(b))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}

func makeKey(path string) error {
	var key [keySize]byte
	_, _ = rand.Read(key[:]) // never fails
	return durable.WriteFile(path, []byte(base64.StdEncoding.EncodeToString(key[:])+"\n"))
}
