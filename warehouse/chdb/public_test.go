package chdb_test

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"sojourn/warehouse/chdb"
)

const allowedStatements = `
SELECT 1
select 1;
SELECT 1 ; ;
(SELECT 1)
(SELECT 1) UNION ALL (SELECT 2)
FROM numbers(3) SELECT number
SELECT count() FROM touchpoints
SELECT * FROM sojourn.touchpoints WHERE customer_id = toUUID('00000000-0000-0000-0000-000000000001') FORMAT JSON
SELECT name, count(), sum(amount), uniqExact(subject), countIf(amount > 3), quantiles(0.5, 0.9)(toFloat64(amount)), sumOrNull(amount), argMaxIf(name, occurred_at, 1) FROM touchpoints GROUP BY name WITH TOTALS ORDER BY 2 DESC LIMIT 5
SELECT subject, windowFunnel(86400000)(toUInt64(toUnixTimestamp64Milli(occurred_at)), name = 'Product Viewed', name = 'Order Completed') AS level FROM touchpoints GROUP BY subject
WITH t AS (SELECT subject, count() AS n FROM touchpoints GROUP BY subject) SELECT avg(n) FROM t WHERE n IN (1, 2) AND n BETWEEN 1 AND 3
SELECT row_number() OVER (PARTITION BY subject ORDER BY occurred_at), lagInFrame(name, 1) OVER w, leadInFrame(name) OVER w FROM touchpoints WINDOW w AS (PARTITION BY subject ORDER BY occurred_at ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
SELECT CAST(amount AS Nullable(Decimal(18, 2))), amount::Nullable(Float64), toDate(occurred_at), occurred_at + INTERVAL 1 DAY, extract(name, 'O.*'), JSONExtractFloat(properties, 'price'), CAST('[1]', 'Array(UInt8)'), [1, 2][1], (1, 'a').2, map('a', 1)['a'] FROM touchpoints
SELECT arrayMap(x -> x + 1, [1, 2]), arrayFilter((x, y) -> x > y, [1, 2], [2, 1]), groupArray(subject) FROM touchpoints
SELECT * FROM touchpoints a LEFT JOIN (SELECT DISTINCT subject FROM touchpoints) b USING (subject) ORDER BY a.occurred_at
SELECT a.subject FROM touchpoints AS a ASOF JOIN touchpoints AS b ON (a.subject = b.subject AND a.occurred_at >= b.occurred_at)
SELECT arrayJoin([1, 2]), x FROM numbers(2) ARRAY JOIN [1, 2] AS x
SELECT dictGet('sojourn.moved_g1', 'customer_id', toUInt64(1))
SELECT * EXCEPT (properties) FROM touchpoints
SELECT * REPLACE (upper(name) AS name) FROM touchpoints
SELECT COLUMNS('a') APPLY(toString) FROM touchpoints
SELECT * APPLY toString FROM touchpoints
SELECT DISTINCT ON (subject) subject, name FROM touchpoints
SELECT multiIf(1, 2, 3), if(1, 2, 3), CASE WHEN (1 = 1) THEN 2 ELSE (3) END, coalesce(NULL, 1), NOT (1), 1 IN (1), (1, 2) IN ((1, 2))
SELECT toStartOfMonth(occurred_at) AS m, count() FROM touchpoints GROUP BY m ORDER BY m WITH FILL
SELECT number FROM numbers(10) WHERE number IN (SELECT number FROM numbers(3)) LIMIT (2)
SELECT * FROM values('a Int8, b String', (1, 'x'))
SELECT * FROM generate_series(1, 3)
SELECT * FROM view(SELECT 1)
SELECT count(*) FILTER (WHERE name = 'x') FROM touchpoints
SELECT GROUPING(subject), count() FROM touchpoints GROUP BY GROUPING SETS ((subject), ())
SELECT 'file(''/etc/passwd'')', "subject", 'it''s; a /* string */ -- with $ # ü‘ in it' FROM touchpoints
SELECT 1 AS "visits per day", 2 AS "größe" -- a comment; file('x')
SELECT url, system FROM (SELECT 1 AS url, 3 AS system)
SELECT formatDateTime(now(), '%Y'), version(), timezone(), currentDatabase(), hostName() != '', getSetting('max_threads') > 0
SELECT name FROM system.tables WHERE database = 'sojourn'
SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = 'touchpoints'
SELECT table_name FROM information_schema.tables
SELECT 1 FROM system.one
SHOW TABLES
SHOW TABLES FROM sojourn LIKE 't%'
SHOW FULL TABLES
SHOW DATABASES
SHOW CREATE TABLE touchpoints
SHOW COLUMNS FROM touchpoints
SHOW FUNCTIONS LIKE 'sum%'
SHOW SETTINGS LIKE 'max_t%'
DESCRIBE TABLE touchpoints
DESC touchpoints
DESCRIBE (SELECT 1 AS a)
EXISTS TABLE touchpoints
EXISTS sojourn.touchpoints
EXPLAIN SELECT count() FROM touchpoints
EXPLAIN indexes = 1, actions = 0 SELECT count() FROM touchpoints
EXPLAIN PIPELINE SELECT 1
EXPLAIN QUERY TREE SELECT 1
EXPLAIN AST SELECT 1
SELECT 1 FORMAT Null
`

func TestAllowed(t *testing.T) {
	t.Parallel()
	e := shop(t)
	for query := range strings.SplitSeq(strings.TrimSpace(allowedStatements), "\n") {
		if status, answer, _ := ask(t, http.MethodGet, at(e, query), ""); status != http.StatusOK {
			t.Errorf("GET %s\n  answered %d: %s", query, status, answer)
		}
		if status, answer, _ := ask(t, http.MethodPost, "http://"+e.PublicAddr()+"/?database=default", query); status != http.StatusOK {
			t.Errorf("POST %s\n  answered %d: %s", query, status, answer)
		}
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	e := shop(t)
	for _, c := range []struct {
		target, body string
		status       int
		want         string // a part of the answer
		header       string // "Name: value"
	}{
		{"/", "", 200, "Ok.\n", ""},
		{"/ping", "", 200, "Ok.\n", ""},
		{"/replicas_status", "", 200, "Ok.\n", ""},
		{"/nope", "", 404, "", ""},
		{"/?query=SELECT+1", "", 200, "1\n", "Content-Type: text/tab-separated-values; charset=UTF-8"},
		{"/?query=SELECT+1&default_format=JSONEachRow", "", 200, "{\"1\":1}\n", "Content-Type: application/x-ndjson; charset=UTF-8"},
		{"/?query=SELECT+1+FORMAT+CSV&default_format=JSON", "", 200, "1\n", "X-Clickhouse-Format: CSV"},
		{"/?query=SELECT", " 2", 200, "2\n", ""},
		{"/?query=SELECT+{a:UInt8}%2B{b:Array(UInt8)}[1]&param_a=3&param_b=[4]", "", 200, "7\n", ""},
		{"/?query=SELECT+{a:String}&param_a=it's%5C%5Cn", "", 200, `it\'s\\n`, ""},
		{"/?query=SELECT+count()+FROM+{t:Identifier}&param_t=touchpoints", "", 200, "2\n", ""},
		{"/?query=SELECT+count()+FROM+{d:Identifier}.{t:Identifier}&param_d=sojourn&param_t=touchpoints", "", 200, "2\n", ""},
		{"/?query=SELECT+count()+FROM+{d:Identifier}.{t:Identifier}&param_d=system&param_t=users", "", 403, "refused", ""},
		{"/?query=SELECT+count()+FROM+{t:Identifier}&param_t=system.users", "", 403, "refused", ""},
		{"/?query=SELECT+arrayMap({f:Identifier},['/etc/hostname'])&param_f=file", "", 403, "refused", ""},
		{"/?query=SELECT+arrayMap({f:Identifier},['/etc/hostname'])&param_f=%60file%60", "", 403, "refused", ""},
		{"/?query=SELECT+count()+FROM+{t:Identifier}&param_t=default.%22/etc/hostname%22", "", 403, "refused", ""},
		{"/?query=SELECT+count()+FROM+{t:Identifier}&param_t=/etc/hostname", "", 403, "refused", ""},
		{"/?query=SELECT+toHour(toDateTime(0))&session_timezone=Asia/Tokyo", "", 200, "9\n", ""},
		{"/?query=SELECT+getSetting('max_threads'),getSetting('readonly')&max_threads=1", "", 200, "1\t1\n", ""},
		{"/?query=SELECT+getSetting('max_threads')&max_threads=4000", "", 200, "4\n", ""},
		{"/?query=SELECT+getSetting('max_memory_usage')&max_memory_usage=0", "", 200, "1073741824\n", ""},
		{"/?query=SELECT+getSetting('max_execution_time')&max_execution_time=999999", "", 200, "2\n", ""},
		{"/?query=SELECT+getSetting('readonly')&readonly=0", "", 200, "1\n", ""},
		{"/?query=SELECT+1&format_schema=x", "", 403, "the setting format_schema is refused", "X-Clickhouse-Exception-Code: 497"},
		{"/?query=SELECT+1&allow_introspection_functions=1", "", 403, "refused", ""},
		{"/?query=SELECT+1&allow_ddl=1", "", 403, "refused", ""},
		{"/?query=SELECT+1&path=/etc", "", 403, "refused", ""},
		{"/?query=SELECT+1&config-file=/etc/passwd", "", 403, "refused", ""},
		{"/?query=SELECT+1&nope=1", "", 403, "refused", ""},
		{"/?query=SELECT+1&max_threads=x", "", 400, "", "X-Clickhouse-Exception-Code: 72"},
		{"/?query=SELECT+1&default_format=Template", "", 403, "refused", ""},
		{"/?query=SELECT+1&database=system", "", 403, "refused", ""},
		{"/?query=SELECT+1&query_id=abc", "", 200, "1\n", "X-Clickhouse-Query-Id: abc"},
		{"/?query=SELEC+1", "", 403, "", ""},
		{"/?query=SELECT+1+FROM", "", 400, "", "X-Clickhouse-Exception-Code: 62"},
		{"/?query=SELECT+nope", "", 404, "", "X-Clickhouse-Exception-Code: 47"},
		{"/?query=SELECT+1+FROM+nope", "", 404, "", "X-Clickhouse-Exception-Code: 60"},
		{"/?query=SELECT+{x:UInt8}", "", 400, "", "X-Clickhouse-Exception-Code: 456"},
		{"/?query=SELECT+throwIf(1)", "", 500, "Code: 395. DB::Exception: ", "X-Clickhouse-Exception-Code: 395"},
		{"/?query=SELECT+sum(sipHash64(number))+FROM+numbers(100000000000)&max_execution_time=1", "", 408, "", "X-Clickhouse-Exception-Code: 159"},
		{"/?query=SELECT+groupArray(number)+FROM+numbers(1000000000)&max_memory_usage=50000000", "", 500, "", "X-Clickhouse-Exception-Code: 241"},
		{"/?query=SELECT+number+FROM+numbers(3000000)+FORMAT+JSON", "", 500, "such as JSONEachRow", "X-Clickhouse-Exception-Code: 396"},
		{"/", " ", 400, "", "X-Clickhouse-Exception-Code: 62"},
	} {
		method := http.MethodGet
		if c.body != "" {
			method = http.MethodPost
		}
		e := e
		if strings.Contains(c.target, "999999") {
			e = shop(t, func(cfg *chdb.Config) { cfg.MaxQueryTime = 2 * time.Second })
		}
		status, body, header := ask(t, method, "http://"+e.PublicAddr()+c.target, c.body)
		if status != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s %s: %d %.300q, want %d and %q", method, c.target, status, body, c.status, c.want)
		}
		if name, value, found := strings.Cut(c.header, ": "); found && header.Get(name) != value {
			t.Errorf("%s %s: %s is %q, want %q", method, c.target, name, header.Get(name), value)
		}
	}
}

// TestADocumentIsBounded asks for results whose text the engine would not count
// against any limit.
func TestADocumentIsBounded(t *testing.T) {
	t.Parallel()
	e := shop(t, func(c *chdb.Config) { c.MaxQueryMemory = 200 << 20 })
	for _, query := range []string{
		"SELECT repeat('x', 10000) FROM numbers(1000000) FORMAT JSON",
		"SELECT repeat('x', 10000) FROM numbers(1000000) FORMAT JSON SETTINGS max_result_bytes = 0",
		"SELECT toString(number), repeat('x', 1000) FROM numbers(1000000) FORMAT PrettyCompactMonoBlock",
	} {
		status, body, _ := ask(t, http.MethodGet, at(e, query, "max_result_bytes", "0"), "")
		if status == http.StatusOK {
			t.Errorf("%s answered %d bytes", query, len(body))
		}
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", e.PID()))
	if err != nil {
		t.Fatal(err)
	}
	var peak uint64
	for line := range strings.Lines(string(status)) {
		if value, found := strings.CutPrefix(line, "VmHWM:"); found {
			_, _ = fmt.Sscan(value, &peak)
		}
	}
	if peak > 2<<20 { // KiB
		t.Errorf("the engine grew to %d KiB", peak)
	}
}

func TestHostsAndOrigins(t *testing.T) {
	t.Parallel()
	e := shop(t, func(c *chdb.Config) { c.Hosts = []string{"CH.example"} })
	for _, c := range []struct {
		name, value string
		status      int
	}{
		{"Origin", "http://evil.example", 403},
		{"Origin", "null", 403},
		{"Origin", "http://" + e.PublicAddr(), 403},
		{"Sec-Fetch-Site", "cross-site", 403},
		{"Sec-Fetch-Site", "none", 200},
		{"Host", "evil.example", 403},
		{"Host", "evil.example:8123", 403},
		{"Host", "127.0.0.1.evil.example", 403},
		{"Host", "localhost.evil.example", 403},
		{"Host", "192.0.2.7", 403},
		{"Host", "localhost", 200},
		{"Host", "LOCALHOST:1", 200},
		{"Host", "localhost.", 200},
		{"Host", "127.0.0.1", 200},
		{"Host", "[::1]:8123", 200},
		{"Host", "ch.example:8123", 200},
	} {
		if status, body, _ := ask(t, http.MethodGet, at(e, "SELECT 1"), "", c.name, c.value); status != c.status {
			t.Errorf("%s: %s answered %d %q, want %d", c.name, c.value, status, body, c.status)
		}
	}
}

// TestRowLimit holds for every format, whatever the request asks for.
func TestRowLimit(t *testing.T) {
	t.Parallel()
	e := shop(t, func(c *chdb.Config) { c.MaxQueryRows = 1000 })
	for _, format := range []string{"TabSeparated", "JSONEachRow", "JSON", "Native"} {
		if status, body, _ := ask(t, http.MethodGet, at(e, "SELECT number FROM numbers(1000) FORMAT "+format), ""); status != 200 {
			t.Errorf("%s: 1000 rows answered %d %q", format, status, body)
		}
		for _, limit := range []string{"", "0", "5000"} {
			var args []string
			if limit != "" {
				args = []string{"max_result_rows", limit}
			}
			_, body, _ := ask(t, http.MethodGet, at(e, "SELECT number FROM numbers(200000) FORMAT "+format, args...), "")
			if !strings.Contains(body, "TOO_MANY_ROWS_OR_BYTES") {
				t.Errorf("%s: 200000 rows with max_result_rows=%q answered %d bytes that do not say so", format, limit, len(body))
			}
		}
	}
	if status, body, _ := ask(t, http.MethodGet, at(e, "SELECT count() FROM numbers(200000)"), ""); status != 200 || body != "200000\n" {
		t.Errorf("a count over many rows answered %d %q", status, body)
	}
}

func TestPassword(t *testing.T) {
	t.Parallel()
	e := shop(t, func(c *chdb.Config) { c.Password = "pässword & more"; c.Listen = "0.0.0.0:0" })
	base := "http://127.0.0.1:" + e.PublicAddr()[strings.LastIndexByte(e.PublicAddr(), ':')+1:] + "/?query=SELECT+1"
	basic := func(password string) string {
		r, _ := http.NewRequest(http.MethodGet, "http://x/", nil)
		r.SetBasicAuth("default", password)
		return r.Header.Get("Authorization")
	}
	for _, c := range []struct {
		name, value, arg string
		status           int
	}{
		{"", "", "", 401},
		{"X-ClickHouse-Key", "pässword & more", "", 200},
		{"X-ClickHouse-Key", "wrong", "", 403},
		{"Authorization", basic("pässword & more"), "", 200},
		{"Authorization", basic("wrong"), "", 403},
		{"Authorization", basic(""), "", 401},
		{"", "", "&user=default&password=" + url.QueryEscape("pässword & more"), 200},
		{"", "", "&password=wrong", 403},
	} {
		var header []string
		if c.name != "" {
			header = []string{c.name, c.value}
		}
		if status, body, _ := ask(t, http.MethodGet, base+c.arg, "", header...); status != c.status {
			t.Errorf("%s %s %s answered %d %q, want %d", c.name, c.value, c.arg, status, body, c.status)
		}
	}
}

func TestCompressedAnswersAndRequests(t *testing.T) {
	t.Parallel()
	e := shop(t)
	target := at(e, "SELECT number FROM numbers(100000)", "enable_http_compression", "1")
	_, body, header := ask(t, http.MethodGet, target, "", "Accept-Encoding", "br, gzip;q=0.5")
	if header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("not compressed: %v", header)
	}
	zr, err := gzip.NewReader(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(zr)
	if err != nil || strings.Count(string(plain), "\n") != 100_000 {
		t.Errorf("%d lines, %v", strings.Count(string(plain), "\n"), err)
	}
	if _, _, header := ask(t, http.MethodGet, at(e, "SELECT 1"), "", "Accept-Encoding", "gzip"); header.Get("Content-Encoding") != "" {
		t.Error("compressed without enable_http_compression")
	}
	var zipped strings.Builder
	zw := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(zw, "SELECT 41 + 1")
	_ = zw.Close()
	if status, body, _ := ask(t, http.MethodPost, "http://"+e.PublicAddr()+"/", zipped.String(), "Content-Encoding", "gzip"); status != 200 || body != "42\n" {
		t.Errorf("a gzip statement answered %d %q", status, body)
	}
	if status, _, _ := ask(t, http.MethodPost, "http://"+e.PublicAddr()+"/", "SELECT 1", "Content-Encoding", "br"); status != 400 {
		t.Errorf("an unknown encoding answered %d", status)
	}
}
