package warehouse

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// transientCodes are ClickHouse's errors that pass by themselves: the same
// statement may succeed later.
var transientCodes = map[int32]bool{
	3: true, 32: true, 33: true, // the data of an INSERT ended early
	159: true, 160: true, 209: true, 210: true, // time-outs, the network
	164: true, 242: true, // read-only, as a replica without Keeper is
	202: true, 203: true, 252: true, 439: true, // too many statements, connections, parts, threads
	236: true, 394: true, // aborted, as at a stop, or killed
	241: true, 243: true, // memory, space on disk
	225: true, 279: true, 999: true, // Keeper or the nodes of a shard are away
	285: true, 286: true, 289: true, 319: true, // no quorum, or it is not known whether
	1000: true, // the server's own network library
}

// Transient says whether an error is of a ClickHouse that is away, overloaded or
// read-only at the moment, so that the same is worth trying again. What was sent
// may or may not have been done.
func Transient(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	var exception *clickhouse.Exception
	if errors.As(err, &exception) {
		return transientCodes[exception.Code]
	}
	var answer *clickhouse.HTTPError
	if errors.As(err, &answer) {
		return answer.StatusCode >= 500 || answer.StatusCode == http.StatusTooManyRequests || answer.StatusCode == http.StatusRequestTimeout
	}
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, clickhouse.ErrAcquireConnTimeout) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errInsertRuns)
}
