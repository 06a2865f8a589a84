package chdb

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/klauspost/compress/gzip"
)

const (
	serverName = "sojourn"
	// maxQuery bounds a statement's text (data of an INSERT not included).
	maxQuery = 16 << 20
	// maxPublicQuery bounds a statement from outside, as max_query_size does.
	maxPublicQuery = 256 << 10
	// queueFor is how long a statement waits for its turn.
	queueFor = 10 * time.Second
)

// handler speaks ClickHouse's HTTP protocol. The zero limits of a private one
// leave everything open; a public one only reads.
type handler struct {
	engine *engine
	log    *slog.Logger
	slots  chan struct{} // one for each statement that may run at once
	gate   *gate         // of statements from outside; the private one closes it

	public   bool
	worker   bool   // of other processes: private, with a password
	database string // of requests that name none, and of those that name "default"
	password string // asked for if not empty
	hosts    map[string]bool
	maxTime  time.Duration
	maxMem   uint64
	maxRows  uint64
	threads  uint64
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("X-ClickHouse-Server-Display-Name", serverName)
	if h.public {
		if status, err := h.admit(r); err != nil {
			fail(w, status, err)
			return
		}
	}
	if h.worker {
		if status, err := h.admitWorker(r); err != nil {
			fail(w, status, err)
			return
		}
	}
	if r.Method != http.MethodGet && r.Method != http.MethodPost && r.Method != http.MethodHead {
		head.Set("Allow", "GET, HEAD, POST")
		http.Error(w, "use GET or POST", http.StatusMethodNotAllowed)
		return
	}
	switch r.URL.Path {
	case "/ping", "/replicas_status":
		ok(w)
		return
	case holdPath:
		if !h.public && !h.worker {
			h.gate.hold(w, r)
			return
		}
	}
	if r.URL.Path != "/" {
		http.Error(w, "There is no handle "+r.URL.Path+"; use / or /ping.", http.StatusNotFound)
		return
	}
	args, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		fail(w, http.StatusBadRequest, &Exception{Code: 36, Message: "Cannot read the arguments of the request. (BAD_ARGUMENTS)"})
		return
	}
	if !args.Has("query") && r.Method != http.MethodPost {
		ok(w)
		return
	}
	h.serve(w, r, args)
}

func ok(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/html; charset=UTF-8")
	_, _ = io.WriteString(w, "Ok.\n")
}

// admit lets in requests that a browser's page has not made, to a name that is
// this server's, with the password if there is one.
func (h *handler) admit(r *http.Request) (int, error) {
	if r.Header.Get("Origin") != "" {
		return http.StatusForbidden, refuse("a request with an Origin")
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "none" {
		return http.StatusForbidden, refuse("a request made by a web page")
	}
	if !h.hostAllowed(r) {
		return http.StatusForbidden, refuse("a request to the host %q", clip(r.Host))
	}
	if h.password == "" || r.URL.Path == "/ping" {
		return 0, nil
	}
	given := r.Header.Get("X-ClickHouse-Key")
	if _, password, found := r.BasicAuth(); found && given == "" {
		given = password
	}
	if given == "" {
		given = r.URL.Query().Get("password")
	}
	if given == "" {
		return http.StatusUnauthorized, &Exception{Code: 194, Message: "Password required. (REQUIRED_PASSWORD)"}
	}
	if subtle.ConstantTimeCompare([]byte(given), []byte(h.password)) != 1 {
		return http.StatusForbidden, &Exception{Code: 516, Message: "default: Authentication failed: password is incorrect. (AUTHENTICATION_FAILED)"}
	}
	return 0, nil
}

// admitWorker lets in whoever has the password, from anywhere but a web page.
func (h *handler) admitWorker(r *http.Request) (int, error) {
	if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" {
		return http.StatusForbidden, refuse("a request made by a web page")
	}
	user, given := r.Header.Get("X-ClickHouse-User"), r.Header.Get("X-ClickHouse-Key")
	if name, password, found := r.BasicAuth(); found && given == "" {
		user, given = name, password
	}
	if user != WorkerUser || subtle.ConstantTimeCompare([]byte(given), []byte(h.password)) != 1 {
		return http.StatusForbidden, &Exception{Code: 516, Message: WorkerUser + ": Authentication failed: log in as " + WorkerUser + " with the admin token. (AUTHENTICATION_FAILED)"}
	}
	return 0, nil
}

func (h *handler) hostAllowed(r *http.Request) bool {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	if host == "localhost" || h.hosts[host] {
		return true
	}
	ip := net.ParseIP(host)
	if ip == nil {
		return false
	}
	if ip.IsLoopback() {
		return true
	}
	// An address is no name that someone else's server could answer for; it must
	// still be the one this connection came in by.
	if local, isAddr := r.Context().Value(http.LocalAddrContextKey).(net.Addr); isAddr {
		if at, _, err := net.SplitHostPort(local.String()); err == nil {
			return ip.Equal(net.ParseIP(at))
		}
	}
	return false
}

// serve runs one request's statement.
func (h *handler) serve(w http.ResponseWriter, r *http.Request, args url.Values) {
	id := args.Get("query_id")
	if id == "" {
		id = rand.Text()
	}
	head := w.Header()
	head.Set("X-ClickHouse-Query-Id", clean(id))
	head.Set("X-ClickHouse-Timezone", "UTC")

	out := &output{w: w, r: r, args: args}
	err := h.statement(r, args, out)
	if err == nil {
		err = out.end()
	}
	if err == nil {
		return
	}
	if r.Context().Err() != nil {
		// The client has gone, or the server stops; nobody reads an answer.
		panic(http.ErrAbortHandler)
	}
	h.log.Debug("a statement failed", "error", err, "public", h.public)
	out.fail(err)
}

func (h *handler) statement(r *http.Request, args url.Values, out *output) error {
	body, err := requestBody(r, args)
	if err != nil {
		return err
	}
	query := args.Get("query")
	if !h.public && isInsert(query) {
		if head, data := splitInsert(query); data {
			return h.insert(r, args, out, head, io.MultiReader(strings.NewReader(head.inline), body))
		}
	}
	limit := int64(maxQuery)
	if h.public {
		limit = maxPublicQuery
	}
	rest, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return &Exception{Code: 23, Message: "Cannot read the body of the request. (CANNOT_READ_FROM_ISTREAM)"}
	}
	query += string(rest)
	if int64(len(query)) > limit && !isInsert(query) || h.public && int64(len(query)) > limit {
		return &Exception{Code: 307, Message: fmt.Sprintf("The statement is longer than %d bytes. (QUERY_IS_TOO_LARGE)", limit)}
	}
	if strings.TrimSpace(query) == "" {
		return &Exception{Code: 62, Message: "Empty query. (SYNTAX_ERROR)"}
	}
	if !h.public && isInsert(query) {
		if head, data := splitInsert(query); data {
			return h.insert(r, args, out, head, io.MultiReader(strings.NewReader(head.inline), body))
		}
	}
	if protocol, _ := strconv.ParseUint(args.Get("client_protocol_version"), 10, 64); protocol > 0 && isDriverHello(query) {
		return h.hello(out, protocol)
	}
	s, err := h.prepare(r, args, query)
	if err != nil {
		return err
	}
	out.format = s.format
	ctx := r.Context()
	if h.public {
		// The engine keeps max_execution_time itself, but looks only now and then.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, h.maxTime+5*time.Second, errTime)
		defer cancel()
	}
	release, err := h.turn(ctx)
	if err != nil {
		return err
	}
	defer release()
	if h.public {
		leave, err := h.gate.enter(ctx)
		if err != nil {
			return err
		}
		defer leave()
		out.first = leave
	}
	err = h.engine.run(ctx, s, out)
	var e *Exception
	if h.public && !s.stream && errors.As(err, &e) && (e.Code == 396 || e.Code == 241) {
		e.Message += " A result in the format " + s.format + " is held in memory as a whole; ask for one that is written row by row, such as JSONEachRow."
	}
	if err != nil && errors.Is(context.Cause(ctx), errTime) {
		return &Exception{Code: 159, Message: "Timeout exceeded. (TIMEOUT_EXCEEDED)"}
	}
	return err
}

var errTime = errors.New("time is up")

// prepare makes a statement of a request, and of one from outside only if it
// may run.
func (h *handler) prepare(r *http.Request, args url.Values, query string) (*statement, error) {
	s := &statement{text: query, database: args.Get("database"), format: args.Get("default_format")}
	if s.format == "" {
		s.format = r.Header.Get("X-ClickHouse-Format")
	}
	if s.format == "" {
		s.format = "TabSeparated"
	}
	if s.database == "" {
		s.database = r.Header.Get("X-ClickHouse-Database")
	}
	for name, values := range args {
		if key, found := strings.CutPrefix(name, "param_"); found {
			s.params.names = append(s.params.names, key)
			s.params.values = append(s.params.values, values[0])
		}
	}
	if !h.public {
		if s.database == "" {
			s.database = h.database
		}
		format := trailingFormat(query)
		s.stream = isRowFormat(or(format, s.format)) && startsSelect(query)
		s.format = or(format, s.format)
		var err error
		s.settings, err = h.privateSettings(args)
		return s, err
	}
	if s.database == "" || s.database == "default" {
		s.database = h.database
	}
	databases := map[string]bool{h.database: true, "system": true, "information_schema": true, "INFORMATION_SCHEMA": true}
	if s.database != h.database && !strings.EqualFold(s.database, "information_schema") {
		return nil, refuse("the database %s", clip(s.database))
	}
	g, err := guard(query, s.params, databases)
	if err != nil {
		return nil, err
	}
	if deniedFormats[strings.ToLower(s.format)] || !settingName(s.format) {
		return nil, refuse("the format %s", clip(s.format))
	}
	s.text = g.text
	s.format = or(g.format, s.format)
	s.stream = g.stream && isRowFormat(s.format)
	if !s.stream {
		s.growth = h.maxMem
	}
	if s.settings, err = h.publicSettings(args, !s.stream); err != nil {
		return nil, err
	}
	s.check = func(c *conn) error { return c.confirm(s, databases) }
	return s, nil
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// confirm is the second and the third reading of a statement from outside.
func (c *conn) confirm(s *statement, databases map[string]bool) error {
	r := c.query("EXPLAIN AST\n"+s.text, "TSVRaw", s.params)
	defer r.free()
	if err := r.err(); err != nil {
		return err
	}
	if err := guardTree(string(r.bytes()), databases); err != nil {
		return err
	}
	statements, class, err := c.classify(s.text)
	if err != nil {
		return err
	}
	if statements != 1 || class != classReads {
		return refuse("the statement")
	}
	return nil
}

// trailingFormat finds the FORMAT clause of a statement of our own; one that
// the lexer refuses has none that matters.
func trailingFormat(query string) string {
	tokens, err := tokenize(query)
	if err != nil {
		return ""
	}
	return formatClause(tokens)
}

func startsSelect(query string) bool {
	l := lexer{text: query}
	t, more, err := l.next()
	return err == nil && more && t.is("SELECT", "WITH")
}

func (h *handler) insert(r *http.Request, args url.Values, out *output, head insertHead, data io.Reader) error {
	s, err := h.prepare(r, args, head.text)
	if err != nil {
		return err
	}
	s.format = head.format
	release, err := h.turn(r.Context())
	if err != nil {
		return err
	}
	defer release()
	counts, err := h.engine.insert(r.Context(), s, data)
	if err != nil {
		return err
	}
	out.format = s.format
	return out.begin(counts)
}

func (h *handler) hello(out *output, protocol uint64) error {
	block, err := helloBlock(h.engine.version, protocol)
	if err != nil {
		return err
	}
	out.format = "Native"
	if err := out.begin(stats{resultRows: 1}); err != nil {
		return err
	}
	return out.write(block)
}

// turn waits for a slot.
func (h *handler) turn(ctx context.Context) (release func(), err error) {
	release = func() { <-h.slots }
	select {
	case h.slots <- struct{}{}:
		return release, nil
	default:
	}
	timer := time.NewTimer(queueFor)
	defer timer.Stop()
	select {
	case h.slots <- struct{}{}:
		return release, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
		return nil, &Exception{Code: 202, Message: "Too many simultaneous queries, try again. (TOO_MANY_SIMULTANEOUS_QUERIES)"}
	}
}

// requestBody undoes the encodings of a body.
func requestBody(r *http.Request, args url.Values) (io.Reader, error) {
	var body io.Reader = r.Body
	switch encoding := r.Header.Get("Content-Encoding"); strings.ToLower(encoding) {
	case "", "identity":
	case "gzip":
		unzip, err := gzip.NewReader(body)
		if err != nil {
			return nil, &Exception{Code: 354, Message: "The body is no gzip. (ZLIB_INFLATE_FAILED)"}
		}
		body = unzip
	default:
		return nil, &Exception{Code: 89, Message: "Unknown encoding of the body: " + clip(encoding) + "; use gzip. (UNKNOWN_COMPRESSION_METHOD)"}
	}
	if args.Get("decompress") == "1" {
		body = blocks{compress.NewReader(body)}
	}
	return body, nil
}

// blocks reads ClickHouse's compressed blocks. Their reader wraps the io.EOF
// that it meets where a block could begin.
type blocks struct{ r io.Reader }

func (b blocks) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if errors.Is(err, io.EOF) {
		err = io.EOF
	}
	return n, err
}

// clean makes a header value of what a client sent.
func clean(s string) string {
	return clip(strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f {
			return -1
		}
		return r
	}, s))
}

// summary is the value of X-ClickHouse-Summary.
func summary(s stats) string {
	text, _ := json.Marshal(map[string]string{
		"read_rows":     strconv.FormatUint(s.readRows, 10),
		"read_bytes":    strconv.FormatUint(s.readBytes, 10),
		"written_rows":  strconv.FormatUint(s.writtenRows, 10),
		"written_bytes": strconv.FormatUint(s.writtenBytes, 10),
		"result_rows":   strconv.FormatUint(s.resultRows, 10),
		"result_bytes":  strconv.FormatUint(s.resultBytes, 10),
	})
	return string(text)
}
