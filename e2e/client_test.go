package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// tlsClient speaks to every server of the tests; those with a certificate have
// one that they made themselves.
var tlsClient = &http.Client{
	Timeout: 30 * time.Second,
	Transport: &http.Transport{
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: true}, // see above
		MaxIdleConnsPerHost: 8,
	},
}

// answer is what a request brought.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request.
func do(req *http.Request) (answer, error) {
	res, err := tlsClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(body)}, err
}

func (s *server) token() string {
	s.t.Helper()
	token, err := os.ReadFile(filepath.Join(s.dir, "admin-token"))
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(token))
}

// api asks the API and reads the answer into out, which may be nil.
func (s *server) api(method, path string, body, out any) answer {
	s.t.Helper()
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			s.t.Fatal(err)
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, s.url+"/api/v1"+path, r)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token())
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	a, err := do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	if out != nil {
		if a.status >= 300 {
			s.t.Fatalf("%s %s: %d %s", method, path, a.status, a.body)
		}
		if err := json.Unmarshal([]byte(a.body), out); err != nil {
			s.t.Fatalf("%s %s: %v: %s", method, path, err, a.body)
		}
	}
	return a
}

// writeKey makes a write key.
func (s *server) writeKey(source string) string {
	s.t.Helper()
	var k struct {
		WriteKey string `json:"write_key"`
	}
	s.api("POST", "/write-keys", map[string]string{"source": source}, &k)
	if k.WriteKey == "" {
		s.t.Fatal("the answer holds no write key")
	}
	return k.WriteKey
}

// message is a tracking message.
type message map[string]any

// track posts a call of the tracking API, once.
func track(server, key, path string, body any) (answer, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return answer{}, err
	}
	req, err := http.NewRequest("POST", server+path, bytes.NewReader(b))
	if err != nil {
		return answer{}, err
	}
	req.SetBasicAuth(key, "")
	return do(req)
}

// send posts a batch that must be taken as a whole, and returns the position to
// read after.
func (s *server) send(key string, messages ...message) uint64 {
	s.t.Helper()
	a, err := track(s.url, key, "/v1/batch", map[string]any{"batch": messages})
	if err != nil {
		s.t.Fatal(err)
	}
	if a.status != 200 || a.body != `{"success":true}` || a.header.Get("Sojourn-Rejected") != "" {
		s.t.Fatalf("the batch was answered %d %s, %v", a.status, a.body, a.header)
	}
	pos, err := strconv.ParseUint(a.header.Get("Sojourn-Position"), 10, 64)
	if err != nil {
		s.t.Fatalf("Sojourn-Position: %v", err)
	}
	return pos
}

// customer is what GET /customers/{id} answers.
type customer struct {
	ID         string            `json:"id"`
	Stage      string            `json:"stage"`
	StageSince time.Time         `json:"stage_since"`
	Reason     string            `json:"reason"`
	Cause      string            `json:"cause"`
	Purchases  int               `json:"purchases"`
	Refunds    int               `json:"refunds"`
	Revenue    map[string]string `json:"revenue"`
	FirstSeen  time.Time         `json:"first_seen"`
	LastSeen   time.Time         `json:"last_seen"`
	Traits     map[string]any    `json:"traits"`
	Subjects   []string          `json:"subjects"`
}

// customer asks where a customer stands; query may be empty.
func (s *server) customer(ref, query string) customer {
	s.t.Helper()
	var c customer
	s.api("GET", "/customers/"+url.PathEscape(ref)+"?"+query, nil, &c)
	return c
}

// entry is a line of a timeline.
type entry struct {
	At         time.Time `json:"at"`
	Touchpoint *struct {
		EventID    string          `json:"event_id"`
		Subject    string          `json:"subject"`
		Source     string          `json:"source"`
		Type       string          `json:"type"`
		Name       string          `json:"name"`
		Meaning    string          `json:"meaning"`
		Channel    string          `json:"channel"`
		Amount     string          `json:"amount"`
		Currency   string          `json:"currency"`
		Properties json.RawMessage `json:"properties"`
	} `json:"touchpoint"`
	Transition *struct {
		Seq    int    `json:"seq"`
		From   string `json:"from"`
		To     string `json:"to"`
		Reason string `json:"reason"`
		Cause  string `json:"cause"`
	} `json:"transition"`
}

// timeline reads all pages of a timeline.
func (s *server) timeline(ref, query string) []entry {
	s.t.Helper()
	var all []entry
	cursor := ""
	for {
		var page struct {
			Entries    []entry `json:"entries"`
			NextCursor string  `json:"next_cursor"`
		}
		s.api("GET", "/customers/"+url.PathEscape(ref)+"/timeline?limit=1000&cursor="+url.QueryEscape(cursor)+"&"+query, nil, &page)
		all = append(all, page.Entries...)
		if page.NextCursor == "" {
			return all
		}
		cursor = page.NextCursor
	}
}

// stages asks how many customers are in each stage.
func (s *server) stages(query string) map[string]int {
	s.t.Helper()
	var answer struct {
		Customers int `json:"customers"`
		Stages    []struct {
			Stage     string `json:"stage"`
			Customers int    `json:"customers"`
		} `json:"stages"`
	}
	s.api("GET", "/stages?"+query, nil, &answer)
	got, sum := map[string]int{}, 0
	for _, st := range answer.Stages {
		if st.Customers != 0 {
			got[st.Stage] = st.Customers
		}
		sum += st.Customers
	}
	if sum != answer.Customers {
		s.t.Fatalf("the stages have %d customers, the answer says %d", sum, answer.Customers)
	}
	return got
}

// ask runs a query at the ClickHouse port.
func (s *server) ask(query string) answer {
	s.t.Helper()
	req, err := http.NewRequest("POST", s.clickhouse+"/", strings.NewReader(query))
	if err != nil {
		s.t.Fatal(err)
	}
	a, err := do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// rows runs a query at the ClickHouse port and returns its rows as objects.
func (s *server) rows(query string) []map[string]any {
	s.t.Helper()
	a := s.ask(query + " FORMAT JSONEachRow")
	if a.status != 200 {
		s.t.Fatalf("%s: %d %s", query, a.status, a.body)
	}
	rows := []map[string]any{}
	d := json.NewDecoder(strings.NewReader(a.body))
	d.UseNumber()
	for d.More() {
		var row map[string]any
		if err := d.Decode(&row); err != nil {
			s.t.Fatal(err)
		}
		rows = append(rows, row)
	}
	return rows
}

// count runs a query that answers one whole number.
func (s *server) count(query string) int {
	s.t.Helper()
	a := s.ask(query)
	n, err := strconv.Atoi(strings.TrimSpace(a.body))
	if err != nil {
		s.t.Fatalf("%s: %d %s", query, a.status, a.body)
	}
	return n
}

// readyState is what /readyz answers.
type readyState struct {
	Ready    bool   `json:"ready"`
	Lag      uint64 `json:"lag_events"`
	Position uint64 `json:"position"`
	Building bool   `json:"building"`
	Error    string `json:"error"`
}

func (s *server) readyState() (readyState, error) {
	var r readyState
	req, err := http.NewRequest("GET", s.url+"/readyz", nil)
	if err != nil {
		return r, err
	}
	a, err := do(req)
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal([]byte(a.body), &r)
}

// caughtUp waits until the views have read the whole log, their own statements
// too.
func (s *server) caughtUp() {
	s.t.Helper()
	s.caughtUpWithin(time.Minute)
}

func (s *server) caughtUpWithin(d time.Duration) {
	s.t.Helper()
	eventually(s.t, d, "the views have read everything", func() error {
		r, err := s.readyState()
		if err != nil {
			return err
		}
		if !r.Ready || r.Lag > 0 || r.Building || r.Error != "" {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
}

// verify compares the views with the log, through the command.
func (s *server) verify() {
	s.t.Helper()
	status, out, errOut := sojourn(s.t, "verify", "--data", s.dir)
	if status != 0 {
		s.t.Fatalf("verify: status %d\n%s%s", status, tailOf(out), tailOf(errOut))
	}
}

func newServer(t testing.TB, args ...string) *server {
	t.Helper()
	return start(t, filepath.Join(t.TempDir(), "data"), args...)
}
