package pebblestore

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/cockroachdb/pebble/v2"

	"sojourn/eventstore"
)

// manifest says how far the indexes on disk reach and which runs belong to
// them. It stands in the same table as the last blocks of the stream index, so
// that both change at one instant.
type manifest struct {
	seed    hashSeed
	indexed eventstore.Position // everything up to here is in runs and stream index
	runs    []runInfo           // oldest first, without gaps
}

const manifestVersion = 1

var errBadManifest = errors.New("index manifest damaged")

func (m *manifest) encode() []byte {
	b := []byte{manifestVersion}
	for _, x := range m.seed {
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	b = binary.AppendUvarint(b, uint64(m.indexed))
	b = binary.AppendUvarint(b, uint64(len(m.runs)))
	for _, r := range m.runs {
		b = binary.AppendUvarint(b, uint64(r.first))
		b = binary.AppendUvarint(b, uint64(r.last))
		b = binary.AppendUvarint(b, uint64(r.count))
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func (m *manifest) decode(b []byte) error {
	if len(b) < 1+24+4 {
		return errBadManifest
	}
	if b[0] != manifestVersion {
		return fmt.Errorf("%w: version %d, this release writes %d", errBadManifest, b[0], manifestVersion)
	}
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return fmt.Errorf("%w: wrong checksum", errBadManifest)
	}
	body = body[1:]
	for i := range m.seed {
		m.seed[i] = binary.LittleEndian.Uint64(body[i*8:])
	}
	body = body[24:]
	next := func() uint64 {
		x, w := binary.Uvarint(body)
		if w <= 0 {
			body = nil
			return 0
		}
		body = body[w:]
		return x
	}
	m.indexed = eventstore.Position(next())
	n := next()
	end := eventstore.Position(0)
	for range n {
		r := runInfo{first: eventstore.Position(next()), last: eventstore.Position(next()), count: int(next())}
		if r.first != end+1 || r.last < r.first || uint64(r.count) != uint64(r.last-r.first+1) {
			return fmt.Errorf("%w: its runs do not follow one another", errBadManifest)
		}
		end = r.last
		m.runs = append(m.runs, r)
	}
	if end != m.indexed {
		return fmt.Errorf("%w: its runs end at %d instead of %d", errBadManifest, end, m.indexed)
	}
	return nil
}

// loadManifest reads the manifest. Where there is none, or a damaged one, it
// returns an empty one with a new seed and says that the indexes are to be made
// anew.
func (s *Store) loadManifest() (m manifest, anew bool, err error) {
	value, closer, err := s.streams.Get(manifestKey)
	switch {
	case err == nil:
		err = m.decode(value)
		if closeErr := closer.Close(); closeErr != nil {
			return m, false, closeErr
		}
		if err == nil {
			return m, false, nil
		}
		s.log.Warn("indexes are made anew from the log", "error", err)
	case !errors.Is(err, pebble.ErrNotFound):
		return m, false, fmt.Errorf("read index manifest: %w", err)
	}
	m = manifest{}
	var random [24]byte
	if _, err := rand.Read(random[:]); err != nil {
		return m, false, fmt.Errorf("draw a seed: %w", err)
	}
	for i := range m.seed {
		m.seed[i] = binary.LittleEndian.Uint64(random[i*8:])
	}
	return m, true, nil
}
