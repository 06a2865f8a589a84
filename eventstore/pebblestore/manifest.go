package pebblestore

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"

	"sojourn/eventstore"
)

// manifest says how far the indexes on disk reach and which runs belong to
// them. It is a file that is replaced as a whole.
type manifest struct {
	seed    hashSeed
	indexed eventstore.Position // everything up to here is in runs
	runs    [runKinds][]runInfo // oldest first, without gaps
}

const (
	manifestName    = "manifest"
	manifestVersion = 2
)

var errBadManifest = errors.New("index manifest damaged")

func (m *manifest) encode() []byte {
	b := []byte{manifestVersion}
	for _, x := range m.seed {
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	b = binary.AppendUvarint(b, uint64(m.indexed))
	for _, runs := range m.runs {
		b = binary.AppendUvarint(b, uint64(len(runs)))
		for _, r := range runs {
			b = binary.AppendUvarint(b, uint64(r.last))
		}
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
	for kind := range runKinds {
		end := eventstore.Position(0)
		for range next() {
			r := runInfo{kind: kind, first: end + 1, last: eventstore.Position(next())}
			if r.last < r.first {
				return fmt.Errorf("%w: its runs do not follow one another", errBadManifest)
			}
			end = r.last
			m.runs[kind] = append(m.runs[kind], r)
		}
		if end != m.indexed {
			return fmt.Errorf("%w: its runs end at %d instead of %d", errBadManifest, end, m.indexed)
		}
	}
	return nil
}

// loadManifest reads the manifest. Where there is none, or a damaged one, it
// returns an empty one with a new seed: the indexes are made anew.
func (s *Store) loadManifest() (m manifest, err error) {
	b, err := readFile(s.fs, s.fs.PathJoin(s.indexDir, manifestName))
	switch {
	case err == nil:
		if err = m.decode(b); err == nil {
			return m, nil
		}
		s.log.Warn("indexes are made anew from the log", "error", err)
	case !oserror.IsNotExist(err):
		return m, fmt.Errorf("read index manifest: %w", err)
	}
	m = manifest{}
	var random [24]byte
	if _, err := rand.Read(random[:]); err != nil {
		return m, fmt.Errorf("draw a seed: %w", err)
	}
	for i := range m.seed {
		m.seed[i] = binary.LittleEndian.Uint64(random[i*8:])
	}
	return m, nil
}

func readFile(fs vfs.FS, path string) (b []byte, err error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(f)
}

// writeManifest makes the manifest, durably, one of some runs.
func (s *Store) writeManifest(runs [runKinds][]*runFile) error {
	m := manifest{seed: s.seed}
	for kind := range runs {
		for _, r := range runs[kind] {
			m.runs[kind] = append(m.runs[kind], r.runInfo)
			m.indexed = r.last
		}
	}
	path := s.fs.PathJoin(s.indexDir, manifestName)
	f, err := s.fs.Create(path+tmpSuffix, vfs.WriteCategoryUnspecified)
	if err == nil {
		_, err = f.Write(m.encode())
		if err == nil {
			err = f.Sync()
		}
		err = errors.Join(err, f.Close())
	}
	if err == nil {
		err = s.fs.Rename(path+tmpSuffix, path)
	}
	if err == nil {
		err = syncDir(s.fs, s.indexDir)
	}
	if err != nil {
		return fmt.Errorf("write index manifest: %w", err)
	}
	return nil
}
