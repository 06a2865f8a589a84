package chdb

import (
	"fmt"
	"strings"

	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/proto"
)

// driverHello is the first statement of clickhouse-go on every connection. It
// expects the answer encoded at its own protocol version, and takes the revision
// in it for everything that follows. The engine writes blocks of revision 0, so
// that is what the answer says.
const driverHello = "SELECT displayName(), version(), revision(), timezone()"

func isDriverHello(query string) bool { return strings.TrimSpace(query) == driverHello }

// helloBlock is the answer in Native format at a protocol version.
func helloBlock(version string, protocol uint64) ([]byte, error) {
	block := proto.NewBlock()
	for _, c := range []struct {
		name, typ string
		value     any
	}{
		{"displayName()", "String", serverName},
		{"version()", "String", version},
		{"revision()", "UInt32", uint32(0)},
		{"timezone()", "String", "UTC"},
	} {
		if err := block.AddColumn(c.name, column.Type(c.typ)); err != nil {
			return nil, fmt.Errorf("answer the driver's hello: %w", err)
		}
		if err := block.Columns[len(block.Columns)-1].AppendRow(c.value); err != nil {
			return nil, fmt.Errorf("answer the driver's hello: %w", err)
		}
	}
	var buf chproto.Buffer
	if err := block.Encode(&buf, protocol); err != nil {
		return nil, fmt.Errorf("answer the driver's hello: %w", err)
	}
	return buf.Buf, nil
}
