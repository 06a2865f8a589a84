package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// The sizes of a round of figure 8, in rows.
const (
	importRows  = 100_000
	importQuick = 2_000
)

// importMapping reads the shop's messages as rows.
const importMapping = `source: shop-import
user: userId
anonymous: anonymousId
time: {column: timestamp}
event: {column: event}
identity: [messageId]
properties:
  order_id: {column: properties.order_id}
  total: {column: properties.total}
  currency: {column: properties.currency}
  product_id: {column: properties.product_id}
  name: {column: properties.name}
  category: {column: properties.category}
  price: {column: properties.price}
  quantity: {column: properties.quantity}
  products: {column: properties.products}
context:
  library: {column: context.library}
  locale: {column: context.locale}
  userAgent: {column: context.userAgent}
`

// imports takes figure 8: sojourn import of a file of the shop's events, until
// the views have them. Their times go on where those of the log end.
func (b *bench) imports(ctx context.Context, d *data, s *server) error {
	if b.Import == nil {
		return errors.New("figure 8 needs an import")
	}
	mapping := filepath.Join(b.dir, "mapping.yaml")
	if err := os.WriteFile(mapping, []byte(importMapping), 0o600); err != nil {
		return err
	}
	file := filepath.Join(b.dir, "rows.jsonl")
	line := Line{Figure: "8", Name: "import, until the views have the rows", Unit: "rows/s"}
	for round := range b.Rounds {
		n := b.size(importRows, importQuick)
		if err := writeRows(file, d.messages, n); err != nil {
			return err
		}
		rate, err := timed(n, func() error {
			command := b.Import(d.dir, mapping, file)
			command.Env = append(command.Env, "SOJOURN_ADMIN_TOKEN="+s.token)
			p, err := child(ctx, command)
			if err != nil {
				return err
			}
			if out, err := p.CombinedOutput(); err != nil {
				return fmt.Errorf("import: %w: %s", err, bytes.TrimSpace(out))
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("figure 8: %w", err)
		}
		line.OursRounds = append(line.OursRounds, rate)
		b.say("figure 8: round %d of %d: %s rows/s", round+1, b.Rounds, number(rate))
		if err := s.caughtUp(ctx, nil); err != nil {
			return err
		}
	}
	b.report.add(line)
	return os.Remove(file)
}

var track = []byte(`{"type":"track",`)

// writeRows writes n messages that are events, one a line.
func writeRows(path string, m *messages, n int) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 1<<20)
	for n > 0 {
		text, _ := m.next()
		if !bytes.HasPrefix(text, track) {
			continue
		}
		n--
		// A buffered writer keeps its first error for Flush.
		_, _ = w.Write(text)
		_ = w.WriteByte('\n')
	}
	return w.Flush()
}
