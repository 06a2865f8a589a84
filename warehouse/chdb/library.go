package chdb

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

// library is libchdb.so: the C functions used of it, by their own names. The
// length-taking ones are safe for any bytes.
type library struct {
	connect          func(argc int32, argv unsafe.Pointer) uintptr // chdb_connection *
	closeConn        func(conn uintptr)
	queryParams      func(conn uintptr, query unsafe.Pointer, queryLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, count uintptr) uintptr
	streamParams     func(conn uintptr, query unsafe.Pointer, queryLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, count uintptr) uintptr
	streamFetch      func(conn, result uintptr) uintptr
	streamCancel     func(conn, result uintptr)
	insertParams     func(conn uintptr, query unsafe.Pointer, queryLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, count uintptr) uintptr
	insertAppend     func(stream uintptr, data unsafe.Pointer, n uintptr) int32
	insertDone       func(stream uintptr) uintptr
	insertError      func(stream uintptr) uintptr // const char *
	insertCancel     func(stream uintptr)
	insertDestroy    func(stream uintptr)
	destroy          func(result uintptr)
	buffer           func(result uintptr) uintptr
	length           func(result uintptr) uintptr
	errorText        func(result uintptr) uintptr // const char *
	rowsRead         func(result uintptr) uint64
	bytesRead        func(result uintptr) uint64
	storageRowsRead  func(result uintptr) uint64
	storageBytesRead func(result uintptr) uint64
	rowsWritten      func(result uintptr) uint64
	bytesWritten     func(result uintptr) uint64
	classify         func(conn uintptr, query unsafe.Pointer, queryLen uintptr, database unsafe.Pointer, databaseLen uintptr, out unsafe.Pointer) int32
	signalHandlers   func(enabled int32)
	version          func() string
}

// openLibrary loads the library and binds its functions.
func openLibrary(path string) (*library, error) {
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", path, err)
	}
	lib := &library{}
	for name, fn := range map[string]any{
		"chdb_connect":                     &lib.connect,
		"chdb_close_conn":                  &lib.closeConn,
		"chdb_query_with_params_n":         &lib.queryParams,
		"chdb_stream_query_with_params_n":  &lib.streamParams,
		"chdb_stream_fetch_result":         &lib.streamFetch,
		"chdb_stream_cancel_query":         &lib.streamCancel,
		"chdb_stream_insert_with_params_n": &lib.insertParams,
		"chdb_stream_append":               &lib.insertAppend,
		"chdb_stream_done":                 &lib.insertDone,
		"chdb_stream_insert_error":         &lib.insertError,
		"chdb_stream_cancel_insert":        &lib.insertCancel,
		"chdb_destroy_insert_stream":       &lib.insertDestroy,
		"chdb_destroy_query_result":        &lib.destroy,
		"chdb_result_buffer":               &lib.buffer,
		"chdb_result_length":               &lib.length,
		"chdb_result_error":                &lib.errorText,
		"chdb_result_rows_read":            &lib.rowsRead,
		"chdb_result_bytes_read":           &lib.bytesRead,
		"chdb_result_storage_rows_read":    &lib.storageRowsRead,
		"chdb_result_storage_bytes_read":   &lib.storageBytesRead,
		"chdb_result_rows_written":         &lib.rowsWritten,
		"chdb_result_bytes_written":        &lib.bytesWritten,
		"chdb_classify_query_n":            &lib.classify,
		"chdb_set_signal_handlers_enabled": &lib.signalHandlers,
		"chdb_version":                     &lib.version,
	} {
		symbol, err := purego.Dlsym(handle, name)
		if err != nil {
			return nil, fmt.Errorf("load %s: it has no function %s; the library is not the version that Sojourn is built for: %w", path, name, err)
		}
		purego.RegisterFunc(fn, symbol)
	}
	return lib, nil
}

// params are the values of {name:Type} parameters, as the engine wants them:
// text in the escaping of tab-separated values.
type params struct {
	names, values []string
}

// cStrings holds arrays of pointers and lengths for one call; pinned until
// release.
type cStrings struct {
	ptrs []unsafe.Pointer
	lens []uintptr
	pin  runtime.Pinner
}

func toC(all []string) *cStrings {
	c := &cStrings{ptrs: make([]unsafe.Pointer, len(all)), lens: make([]uintptr, len(all))}
	for i, s := range all {
		// A copy with a zero at its end, which also gives "" an address.
		b := append([]byte(s), 0)
		c.pin.Pin(&b[0])
		c.ptrs[i] = unsafe.Pointer(&b[0])
		c.lens[i] = uintptr(len(s))
	}
	if len(all) > 0 {
		c.pin.Pin(&c.ptrs[0])
		c.pin.Pin(&c.lens[0])
	}
	return c
}

func (c *cStrings) pointers() unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(c.ptrs)) }
func (c *cStrings) lengths() unsafe.Pointer  { return unsafe.Pointer(unsafe.SliceData(c.lens)) }

// cstring copies a C string.
func cstring(p uintptr) string {
	if p == 0 {
		return ""
	}
	// The address is the library's, not the Go heap's.
	start := *(*unsafe.Pointer)(unsafe.Pointer(&p))
	n := 0
	for *(*byte)(unsafe.Add(start, n)) != 0 {
		n++
	}
	return string(unsafe.Slice((*byte)(start), n))
}

var errConnect = errors.New("the clickhouse engine refuses its directory; is it readable, writable and not full?")

// open connects; the first connection starts the engine on the path.
func (lib *library) open(args ...string) (*conn, error) {
	argv := toC(append([]string{"clickhouse"}, args...))
	defer argv.pin.Unpin()
	p := lib.connect(int32(len(argv.ptrs)), argv.pointers())
	runtime.KeepAlive(argv)
	if p == 0 {
		return nil, errConnect
	}
	// chdb_connect answers a pointer to the handle that the calls take.
	handle := **(**uintptr)(unsafe.Pointer(&p))
	return &conn{lib: lib, owner: p, handle: handle}, nil
}

// conn is one connection: one statement at a time.
type conn struct {
	lib    *library
	owner  uintptr // what chdb_close_conn takes
	handle uintptr // what all else takes
}

func (c *conn) close() { c.lib.closeConn(c.owner) }

// result is what a statement answered. Its bytes belong to the library and are
// valid until free.
type result struct {
	lib *library
	p   uintptr
}

func (r result) free() { r.lib.destroy(r.p) }

func (r result) err() error {
	if r.p == 0 {
		return &Exception{Code: 1001, Message: "the engine gave no result"}
	}
	if text := r.lib.errorText(r.p); text != 0 {
		return parseException(cstring(text))
	}
	return nil
}

func (r result) bytes() []byte {
	n := r.lib.length(r.p)
	if n == 0 {
		return nil
	}
	p := r.lib.buffer(r.p)
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&p)), n)
}

type call = func(conn uintptr, query unsafe.Pointer, queryLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, count uintptr) uintptr

func (c *conn) call(fn call, query, format string, p params) uintptr {
	text := toC([]string{query, format})
	names, values := toC(p.names), toC(p.values)
	defer func() {
		text.pin.Unpin()
		names.pin.Unpin()
		values.pin.Unpin()
	}()
	out := fn(c.handle, text.ptrs[0], text.lens[0], text.ptrs[1], text.lens[1],
		names.pointers(), names.lengths(), values.pointers(), values.lengths(), uintptr(len(p.names)))
	runtime.KeepAlive(text)
	runtime.KeepAlive(names)
	runtime.KeepAlive(values)
	return out
}

// query runs a statement to its end and gives its whole answer.
func (c *conn) query(query, format string, p params) result {
	return result{c.lib, c.call(c.lib.queryParams, query, format, p)}
}

// What chdb_classify_query_n says of a statement that only reads.
const classReads = 0

// classify asks the engine's parser how many statements the text holds and what
// they do.
func (c *conn) classify(query string) (statements, class uint32, err error) {
	text := toC([]string{query})
	defer text.pin.Unpin()
	out := [4]uint32{16, 0, 0, 4} // size, statements, flags, class
	if c.lib.classify(c.handle, text.ptrs[0], text.lens[0], nil, 0, unsafe.Pointer(&out)) != 0 {
		return 0, 0, &Exception{Code: 1001, Message: "the engine does not say what the statement is"}
	}
	runtime.KeepAlive(text)
	return out[1], out[3], nil
}
