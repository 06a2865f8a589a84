package importer_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"sojourn/cmd/sojourn/importer"
)

// load writes a mapping to a file and reads it.
func load(t *testing.T, yaml string) (*importer.Mapping, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.yaml")
	if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	return importer.LoadMapping(path)
}

// read maps a text and returns the messages, and what was wrong with rows.
func read(t *testing.T, format importer.Format, yaml, text string) (msgs []map[string]any, bad []string) {
	t.Helper()
	m, err := load(t, yaml)
	if err != nil {
		t.Fatal(err)
	}
	for msg, err := range importer.Messages(strings.NewReader(text), format, m) {
		var re *importer.RowError
		if errors.As(err, &re) {
			bad = append(bad, re.Error())
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		var v map[string]any
		d := json.NewDecoder(strings.NewReader(string(msg.JSON)))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			t.Fatalf("%v in %s", err, msg.JSON)
		}
		v["line"] = msg.Line
		msgs = append(msgs, v)
		bad = append(bad, msg.Problems...)
	}
	return msgs, bad
}

const orders = `
source: erp
separator: ";"
header: true
user: customer
anonymous: 5
time: {column: at, format: "DD.MM.YYYY hh:mm", zone: Europe/Berlin}
event: {value: Order Completed}
identity: [order]
properties:
  order_id: {column: order}
  total: {column: amount, kind: number}
  paid: {column: paid, kind: boolean}
  shop: {value: 7}
context:
  channel: {value: store}
`

func TestCSV(t *testing.T) {
	msgs, bad := read(t, importer.CSV, orders, "\xef\xbb\xbfcustomer;order; at ;amount;visitor;paid\r\n"+
		"0042;A-1;01.07.2025 12:30;0012.50;v9;yes\r\n"+
		"\r\n"+
		"\"se\"\"mi;colon\n\";A-2;02.01.2026 00:05;;;no\r\n")
	want := []map[string]any{
		{
			"line": 2, "type": "track", "event": "Order Completed", "messageId": "A-1", "userId": "0042", "anonymousId": "v9",
			"timestamp":  "2025-07-01T10:30:00.000Z",
			"properties": map[string]any{"order_id": "A-1", "total": json.Number("12.50"), "paid": true, "shop": json.Number("7")},
			"context":    map[string]any{"channel": "store"},
		},
		{
			"line": 4, "type": "track", "event": "Order Completed", "messageId": "A-2", "userId": "se\"mi;colon",
			"timestamp":  "2026-01-01T23:05:00.000Z",
			"properties": map[string]any{"order_id": "A-2", "paid": false, "shop": json.Number("7")},
			"context":    map[string]any{"channel": "store"},
		},
	}
	if !reflect.DeepEqual(msgs, want) || bad != nil {
		t.Errorf("got  %v\nwant %v\nbad %v", msgs, want, bad)
	}
}

func TestBadRowsAreReportedAndReadingGoesOn(t *testing.T) {
	msgs, bad := read(t, importer.CSV, orders, "customer;order;at;amount;visitor;paid\n"+
		"1;A-1;yesterday;1,50;v;perhaps\n"+
		"2;A\"-2;01.07.2025 12:30;1;v;yes\n"+
		"3;A-3\n"+
		"4;A-4;01.07.2025 12:30;1;v;yes\n")
	if len(msgs) != 3 {
		t.Fatalf("%v", msgs)
	}
	// A time that cannot be read must not become the time of receipt.
	if ts := msgs[0]["timestamp"]; ts != "unreadable: yesterday" {
		t.Errorf("the time is %v", ts)
	}
	if p := msgs[0]["properties"].(map[string]any); p["total"] != "1,50" || p["paid"] != "perhaps" {
		t.Errorf("%v", p)
	}
	if msgs[1]["messageId"] != "A-3" || msgs[1]["timestamp"] != "unreadable: " || msgs[2]["line"] != 5 {
		t.Errorf("%v", msgs)
	}
	text := strings.Join(bad, "\n")
	for _, want := range []string{`time: "yesterday"`, `total "1,50" is no number`, `paid "perhaps"`, "line 3: ", `time: ""`} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

const spaced = `
source: cdnow
separator: spaces
user: 1
time: {column: 3, format: YYYYMMDD}
event: {value: Order Completed}
properties:
  total: {column: 5, kind: number}
`

func TestEqualRowsAreDifferentAndTheSameTheSecondTime(t *testing.T) {
	file := " 00004 0001 19970101  2   29.33\n 00004 0001 19970101  2   29.33\n\t00004  0001 19970101 2 29.33\r\n 00004 0001 19970118  2   29.73"
	ids := func() (ids []string) {
		msgs, bad := read(t, importer.CSV, spaced, file)
		if bad != nil {
			t.Fatal(bad)
		}
		for _, m := range msgs {
			ids = append(ids, m["messageId"].(string))
			if m["userId"] != "00004" {
				t.Errorf("the user is %v", m["userId"])
			}
		}
		return ids
	}
	one, two := ids(), ids()
	if !reflect.DeepEqual(one, two) {
		t.Errorf("the second import has other ids:\n%v\n%v", one, two)
	}
	seen := map[string]bool{}
	for _, id := range one {
		seen[id] = true
	}
	if len(one) != 4 || len(seen) != 4 {
		t.Errorf("ids %v", one)
	}
	for i, end := range []string{"-0", "-1", "-2", "-0"} {
		if !strings.HasSuffix(one[i], end) {
			t.Errorf("row %d has id %s", i, one[i])
		}
	}
}

func TestRowsThatOnlyLookEqual(t *testing.T) {
	yaml := "source: s\nuser: 1\ntime: {column: 2, format: unix}\nevent: {value: E}\n"
	msgs, _ := read(t, importer.CSV, yaml, "a,1,bc\na,1,b,c\na,\"1\",bc\n")
	if msgs[0]["messageId"] == msgs[1]["messageId"] {
		t.Error("two different rows have one id")
	}
	id := func(i int) string { s, _, _ := strings.Cut(msgs[i]["messageId"].(string)[4:], "-"); return s }
	if id(0) != id(2) {
		t.Error("a quoted row is another row")
	}
}

func TestJSONLines(t *testing.T) {
	msgs, bad := read(t, importer.JSONL, `
source: crm
type: identify
user: account.id
time: {column: updated, format: unix_ms}
identity: [account.id, updated]
identity_prefix: acc-
traits:
  email: {column: account.email}
  plan: {column: plan}
  seats: {column: seats}
  note: {column: note.text}
`, `{"account":{"id":7,"email":"a@b.c"},"updated":1700000000123,"plan":null,"seats":1.50,"note.text":["x"]}

{"account":{"id":"a/b"},"updated":"1700000000124"}
not json
[1]
{"account":{"id":"8"},"updated":1.5e400}`)
	want := []map[string]any{
		{
			"line": 1, "type": "identify", "messageId": "acc-7/1700000000123", "userId": "7", "timestamp": "2023-11-14T22:13:20.123Z",
			"traits": map[string]any{"email": "a@b.c", "seats": json.Number("1.50"), "note": []any{"x"}},
		},
		{"line": 3, "type": "identify", "messageId": "acc-a%2Fb/1700000000124", "userId": "a/b", "timestamp": "2023-11-14T22:13:20.124Z", "traits": map[string]any{}},
		{"line": 6, "type": "identify", "messageId": "acc-8/1.5e400", "userId": "8", "timestamp": "unreadable: 1.5e400", "traits": map[string]any{}},
	}
	if !reflect.DeepEqual(msgs, want) {
		t.Errorf("got  %v\nwant %v", msgs, want)
	}
	if len(bad) != 3 || !strings.HasPrefix(bad[0], "line 4:") || !strings.HasPrefix(bad[1], "line 5:") {
		t.Errorf("%q", bad)
	}
}

func TestTimes(t *testing.T) {
	for _, c := range []struct{ format, zone, in, want string }{
		{"", "", "2026-03-01T12:00:00+02:00", "2026-03-01T10:00:00.000Z"},
		{"rfc3339", "", "2026-03-01T12:00:00.123456Z", "2026-03-01T12:00:00.123Z"},
		{"unix", "", "1700000000", "2023-11-14T22:13:20.000Z"},
		{"unix", "", "1700000000.25", "2023-11-14T22:13:20.250Z"},
		{"unix", "", "-1", "1969-12-31T23:59:59.000Z"},
		{"unix_ms", "", "1700000000123", "2023-11-14T22:13:20.123Z"},
		{"YYYYMMDD", "America/New_York", "20260301", "2026-03-01T05:00:00.000Z"},
		{"YYYY-MM-DD hh:mm:ss.SSS", "", "2026-03-01 23:59:59.999", "2026-03-01T23:59:59.999Z"},
		{"02/Jan/2006:15:04:05 -0700", "", "01/Mar/2026:12:00:00 +0100", "2026-03-01T11:00:00.000Z"},
	} {
		yaml := "source: s\nheader: false\nseparator: tab\nuser: 1\ntime: {column: 2, format: \"" + c.format + "\", zone: \"" + c.zone + "\"}\nevent: {value: E}\n"
		msgs, bad := read(t, importer.CSV, yaml, "u\t"+c.in+"\n")
		if len(bad) != 0 || msgs[0]["timestamp"] != c.want {
			t.Errorf("%q as %q: %v %v, want %s", c.in, c.format, msgs, bad, c.want)
		}
	}
}

func TestMappingMistakes(t *testing.T) {
	for yaml, want := range map[string]string{
		"sorce: x\n": `m.yaml:1:1: unknown key "sorce"; did you mean "source"?`,
		strings.Replace(orders, "customer", "", 1) + "usr: x\n":             `unknown key "usr"`,
		strings.Replace(orders, `";"`, `"::"`, 1):                           `m.yaml:3:12: "::" is no separator`,
		strings.Replace(orders, "DD.MM.YYYY hh:mm", "whenever", 1):          `m.yaml:7:28: "whenever" is no format`,
		strings.Replace(orders, "Europe/Berlin", "Berlin", 1):               `"Berlin" is no time zone`,
		strings.Replace(orders, "kind: number", "kind: money", 1):           `m.yaml:12:33: "money" is no kind`,
		strings.Replace(orders, "{value: 7}", "{value: 7, column: x}", 1):   `m.yaml:14:`,
		strings.Replace(orders, "event: {value: Order Completed}", "", 1):   `a track message needs a name`,
		strings.Replace(orders, "source: erp", "source: a b", 1):            `m.yaml:2:9: source is needed`,
		strings.Replace(orders, "source: erp", "source: erp\ntype: buy", 1): `m.yaml:3:7: "buy" is no type`,
		"": "source is needed",
	} {
		_, err := load(t, yaml)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q:\ngot  %v\nwant %s", yaml, err, want)
		}
	}
	m, err := load(t, orders)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"a;b;c\n":                       `the mapping names column "customer", the file has a, b, c`,
		"customer;order;at;amount\n1\n": `the mapping names column 5, the file has 4`,
	} {
		var got error
		for _, err := range importer.Messages(strings.NewReader(text), importer.CSV, m) {
			got = err
		}
		if got == nil || !strings.Contains(got.Error(), want) {
			t.Errorf("%q: %v, want %s", text, got, want)
		}
	}
}

func TestLinesThatAreTooLongOrNoText(t *testing.T) {
	msgs, bad := read(t, importer.CSV, spaced,
		"1 1 20260101 1 "+strings.Repeat("9", 2<<20)+"\n2 2 20260101 1 \xff\n3 3 20260101 1 5\n"+
			strings.Repeat(" ", 100_000)+"4 4 20260101 1 6\n")
	if len(msgs) != 2 || msgs[0]["userId"] != "3" || msgs[1]["userId"] != "4" {
		t.Errorf("%d messages", len(msgs))
	}
	if len(bad) != 2 || !strings.HasPrefix(bad[0], "line 1: longer") || !strings.HasPrefix(bad[1], "line 2: no UTF-8") {
		t.Errorf("%v", bad)
	}
}

// TestCDNOW reads the real file with the mapping that the documentation shows.
func TestCDNOW(t *testing.T) {
	f, err := os.Open("../../../../shared/data/cdnow/CDNOW_sample.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	m, err := importer.LoadMapping("../../../docs/examples/cdnow.yaml")
	if err != nil {
		t.Fatal(err)
	}
	n, users, ids := 0, map[string]bool{}, map[string]bool{}
	var first, last time.Time
	for msg, err := range importer.Messages(f, importer.CSV, m) {
		if err != nil || len(msg.Problems) > 0 {
			t.Fatal(err, msg.Problems)
		}
		var v struct {
			MessageID, UserID, Event string
			Timestamp                time.Time
			Properties               struct {
				Total    *float64
				Quantity int
				Currency string
			}
		}
		if err := json.Unmarshal(msg.JSON, &v); err != nil {
			t.Fatal(err)
		}
		n++
		users[v.UserID] = true
		ids[v.MessageID] = true
		if first.IsZero() || v.Timestamp.Before(first) {
			first = v.Timestamp
		}
		if v.Timestamp.After(last) {
			last = v.Timestamp
		}
		if len(v.UserID) != 5 || v.Event != "Order Completed" || v.Properties.Total == nil || v.Properties.Quantity < 1 || v.Properties.Currency != "USD" {
			t.Fatalf("%s", msg.JSON)
		}
	}
	if n != 6919 || len(users) != 2357 || len(ids) != n {
		t.Errorf("%d rows, %d users, %d ids", n, len(users), len(ids))
	}
	if first.Format(time.DateOnly) != "1997-01-01" || last.Format(time.DateOnly) != "1998-06-30" {
		t.Errorf("from %v to %v", first, last)
	}
}

func BenchmarkCSV(b *testing.B) {
	data, err := os.ReadFile("../../../../shared/data/cdnow/CDNOW_sample.txt")
	if err != nil {
		b.Fatal(err)
	}
	m, err := importer.LoadMapping("../../../docs/examples/cdnow.yaml")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	n := 0
	for b.Loop() {
		for _, err := range importer.Messages(strings.NewReader(string(data)), importer.CSV, m) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
}
