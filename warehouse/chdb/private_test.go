package chdb_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/shopspring/decimal"

	"sojourn/warehouse/chdb"
	"sojourn/warehouse/chdb/chdbtest"
)

// connect opens clickhouse-go on the private socket.
func connect(t testing.TB, e *chdb.Engine, configure ...func(*clickhouse.Options)) driver.Conn {
	t.Helper()
	opt := &clickhouse.Options{
		Protocol: clickhouse.HTTP, Addr: []string{"localhost"},
		DialContext: func(ctx context.Context, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", e.Socket())
		},
	}
	for _, f := range configure {
		f(opt)
	}
	conn, err := clickhouse.Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestDriverWithEveryCompression(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := shop(t)
	for _, method := range []clickhouse.CompressionMethod{clickhouse.CompressionNone, clickhouse.CompressionLZ4, clickhouse.CompressionZSTD, clickhouse.CompressionGZIP} {
		conn := connect(t, e, func(o *clickhouse.Options) { o.Compression = &clickhouse.Compression{Method: method, Level: 3} })
		table := fmt.Sprintf("sojourn.t%d", method)
		if err := conn.Exec(ctx, "CREATE TABLE "+table+" (n UInt64, s String, a Array(LowCardinality(String)), m Map(String, Decimal(18, 4)), d Nullable(DateTime64(3, 'UTC'))) ENGINE = MergeTree ORDER BY n"); err != nil {
			t.Fatal(err)
		}
		batch, err := conn.PrepareBatch(ctx, "INSERT INTO "+table)
		if err != nil {
			t.Fatal(err)
		}
		const rows = 100_000
		now := time.UnixMilli(1_700_000_000_123).UTC()
		for i := range rows {
			if err := batch.Append(uint64(i), strings.Repeat("x\x00", i%50), []string{"a", fmt.Sprint(i % 7)}, map[string]decimal.Decimal{"USD": decimal.New(15, -1)}, &now); err != nil {
				t.Fatal(err)
			}
		}
		if err := batch.Send(); err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		var n, sum uint64
		var last time.Time
		if err := conn.QueryRow(ctx, "SELECT count(), sum(length(s)), max(d) FROM "+table).Scan(&n, &sum, &last); err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		if n != rows || sum != rows/50*2*49*50/2 || !last.Equal(now) {
			t.Errorf("%s: %d rows, %d bytes, %v", method, n, sum, last)
		}
		got := 0
		all, err := conn.Query(ctx, "SELECT n, a FROM "+table+" ORDER BY n")
		if err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		for all.Next() {
			var n uint64
			var a []string
			if err := all.Scan(&n, &a); err != nil || n != uint64(got) || a[1] != fmt.Sprint(got%7) {
				t.Fatalf("%s: row %d is %d %v (%v)", method, got, n, a, err)
			}
			got++
		}
		if err := all.Err(); err != nil || got != rows {
			t.Errorf("%s: %d rows read: %v", method, got, err)
		}
		_ = all.Close()
		var exception *clickhouse.Exception
		if err := conn.QueryRow(ctx, "SELECT nope").Scan(&n); !errors.As(err, &exception) || exception.Code != 47 {
			t.Errorf("%s: an unknown column: %v", method, err)
		}
		if err := conn.Exec(ctx, "CREATE TABLE "+table+" (n UInt8) ENGINE = Memory"); !errors.As(err, &exception) || exception.Code != 57 {
			t.Errorf("%s: a table that exists: %v", method, err)
		}
		var s string
		if err := conn.QueryRow(ctx, "SELECT {s:String}", clickhouse.Named("s", "it's\n\\ü\x01")).Scan(&s); err != nil || s != "it's\n\\ü\x01" {
			t.Errorf("%s: a parameter came back as %q (%v)", method, s, err)
		}
		// Settings of one statement do not reach the next.
		limited := clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"max_result_rows": 1, "max_threads": 1}))
		if err := conn.QueryRow(limited, "SELECT toUInt64(getSetting('max_threads'))").Scan(&n); err != nil || n != 1 {
			t.Errorf("%s: the setting is %d (%v)", method, n, err)
		}
		if err := conn.QueryRow(ctx, "SELECT toUInt64(getSetting('max_result_rows'))").Scan(&n); err != nil || n != 0 {
			t.Errorf("%s: the next statement's setting is %d (%v)", method, n, err)
		}
		if err := conn.Exec(clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"no_such_setting": 1})), "SELECT 1"); !errors.As(err, &exception) || exception.Code != 115 {
			t.Errorf("%s: an unknown setting: %v", method, err)
		}
	}
}

func TestDriverOnThePublicPort(t *testing.T) {
	t.Parallel()
	e := shop(t)
	conn := connect(t, e, func(o *clickhouse.Options) {
		o.Addr, o.DialContext = []string{e.PublicAddr()}, nil
		o.Compression = &clickhouse.Compression{Method: clickhouse.CompressionLZ4}
	})
	var n uint64
	if err := conn.QueryRow(t.Context(), "SELECT count() FROM sojourn.touchpoints").Scan(&n); err != nil || n != 2 {
		t.Errorf("%d rows: %v", n, err)
	}
	if err := conn.Exec(t.Context(), "DROP TABLE sojourn.touchpoints_g1"); err == nil {
		t.Error("the driver dropped a table through the public port")
	}
}

// TestAFailureAfterTheFirstByte must reach the client as one.
func TestAFailureAfterTheFirstByte(t *testing.T) {
	t.Parallel()
	e := shop(t)
	conn := connect(t, e)
	rows, err := conn.Query(t.Context(), "SELECT throwIf(number = 3000000) FROM numbers(4000000) SETTINGS max_block_size = 65536, max_threads = 1")
	if err == nil {
		for rows.Next() {
			continue
		}
		err = rows.Err()
	}
	var exception *clickhouse.Exception
	if !errors.As(err, &exception) || exception.Code != 395 {
		t.Errorf("the driver says %v", err)
	}
	res, err := http.Get(at(e, "SELECT throwIf(number = 3000000) FROM numbers(4000000)"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err == nil {
		t.Error("the answer looks complete")
	}
	if !strings.Contains(string(body), "__exception__\r\n"+res.Header.Get("X-ClickHouse-Exception-Tag")+"\r\nCode: 395. ") {
		t.Errorf("the answer does not end with the exception: %q", body[max(0, len(body)-300):])
	}
	if status, body, _ := ask(t, http.MethodGet, at(e, "SELECT throwIf(number = 3000000) FROM numbers(4000000)", "wait_end_of_query", "1"), ""); status != 500 || !strings.HasPrefix(body, "Code: 395.") {
		t.Errorf("with wait_end_of_query: %d %.100q", status, body)
	}
}

// TestLargeResultsAreNotHeld reads the first rows of a result that would fill
// the memory, while the statement still runs.
func TestLargeResultsAreNotHeld(t *testing.T) {
	t.Parallel()
	e := shop(t)
	res, err := http.Get(at(e, "SELECT number, repeat('x', 200) FROM numbers(1000000000) FORMAT TSV", "max_memory_usage", "300000000"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	lines := bufio.NewScanner(res.Body)
	for i := range 100_000 {
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), fmt.Sprint(i, "\t")) {
			t.Fatalf("line %d is %.20q (%v)", i, lines.Text(), lines.Err())
		}
	}
}

// TestHeadersStandOnce reads formats with names in many parts.
func TestHeadersStandOnce(t *testing.T) {
	t.Parallel()
	e := shop(t)
	for format, header := range map[string]string{
		"CSVWithNames":                        "\"a\n\"\"b\"\"\",\"n\"\n",
		"CSVWithNamesAndTypes":                "\"a\n\"\"b\"\"\",\"n\"\n\"String\",\"UInt64\"\n",
		"TSVWithNames":                        `a\n"b"` + "\tn\n",
		"TabSeparatedWithNamesAndTypes":       `a\n"b"` + "\tn\nString\tUInt64\n",
		"JSONCompactEachRowWithNames":         `["a\n\"b\"", "n"]` + "\n",
		"JSONCompactEachRowWithNamesAndTypes": `["a\n\"b\"", "n"]` + "\n" + `["String", "UInt64"]` + "\n",
	} {
		const rows = 300_000
		status, body, _ := ask(t, http.MethodGet, at(e, "SELECT 'x' AS `a\n\"b\"`, number AS n FROM numbers(300000) FORMAT "+format), "")
		rest, found := strings.CutPrefix(body, header)
		if status != 200 || !found || strings.Count(rest, "\n") != rows || strings.Contains(rest, "String") || strings.Contains(rest, "b\"") {
			t.Errorf("%s: %d, %d lines, %.60q", format, status, strings.Count(rest, "\n"), body)
		}
		if _, body, _ := ask(t, http.MethodGet, at(e, "SELECT 'x' AS `a\n\"b\"`, number AS n FROM numbers(0) FORMAT "+format), ""); body != header {
			t.Errorf("%s without rows: %q", format, body)
		}
	}
}

func TestInsertsOverHTTP(t *testing.T) {
	t.Parallel()
	e := shop(t)
	if status, body, _ := askPrivate(t, e, "CREATE TABLE sojourn.n (n UInt64, s String) ENGINE = MergeTree ORDER BY n"); status != 200 {
		t.Fatal(body)
	}
	var csv strings.Builder
	for i := range 200_000 {
		fmt.Fprintf(&csv, "%d,row number %d\n", i, i)
	}
	for _, c := range []struct {
		body string
		args []string
		rows int
	}{
		{csv.String(), []string{"query", "INSERT INTO sojourn.n FORMAT CSV"}, 200_000},
		{csv.String(), []string{"query", "insert into sojourn.n (n, s) format CSV", "async_insert", "0"}, 200_000},
		{"INSERT INTO sojourn.n FORMAT CSV\n" + csv.String(), nil, 200_000},
		{"INSERT INTO sojourn.n VALUES (1, 'a;b'), (2, 'c''d')", nil, 2},
		{"INSERT INTO sojourn.n (s, n) VALUES ('x', 1)", []string{"database", "sojourn"}, 1},
		{"(1, 'x'), (2, 'y')", []string{"query", "INSERT INTO sojourn.n VALUES"}, 2},
		{"INSERT INTO sojourn.n SELECT number, toString(number) FROM numbers(10)", nil, 10},
		{`{"n":1,"s":"ü"}`, []string{"query", "INSERT INTO sojourn.n FORMAT JSONEachRow"}, 1},
	} {
		if status, body, _ := askPrivate(t, e, "TRUNCATE TABLE sojourn.n"); status != 200 {
			t.Fatal(body)
		}
		if status, body, _ := askPrivate(t, e, c.body, c.args...); status != 200 {
			t.Errorf("%.60q %v: %d %s", c.body, c.args, status, body)
			continue
		}
		if _, body, _ := askPrivate(t, e, "SELECT count() FROM sojourn.n"); body != fmt.Sprintln(c.rows) {
			t.Errorf("%.60q %v: %q rows, want %d", c.body, c.args, body, c.rows)
		}
	}
	if status, _, _ := askPrivate(t, e, "1,a\nx,y\n", "query", "INSERT INTO sojourn.n FORMAT CSV"); status != 400 {
		t.Errorf("rows that cannot be read answered %d", status)
	}
}

// TestACutInsertWritesNothing breaks the connection in the middle of the data.
func TestACutInsertWritesNothing(t *testing.T) {
	t.Parallel()
	e := shop(t)
	if status, body, _ := askPrivate(t, e, "CREATE TABLE sojourn.n (n UInt64) ENGINE = MergeTree ORDER BY n"); status != 200 {
		t.Fatal(body)
	}
	for _, rows := range []int{10, 500_000} {
		conn, err := net.Dial("unix", e.Socket())
		if err != nil {
			t.Fatal(err)
		}
		var data strings.Builder
		for i := range rows {
			fmt.Fprintln(&data, i)
		}
		_, _ = fmt.Fprintf(conn, "POST /?query=INSERT+INTO+sojourn.n+FORMAT+TSV HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", data.Len()+100, data.String())
		_ = conn.Close()
	}
	until(t, "no insert runs", func() bool {
		_, body, _ := askPrivate(t, e, "SELECT count() FROM system.processes WHERE query LIKE 'INSERT%'")
		return body == "0\n"
	})
	if _, body, _ := askPrivate(t, e, "SELECT count() FROM sojourn.n"); body != "0\n" {
		t.Errorf("%q rows of cut inserts", body)
	}
}

func TestConcurrentStatements(t *testing.T) {
	t.Parallel()
	e := shop(t)
	conn := connect(t, e, func(o *clickhouse.Options) { o.MaxOpenConns, o.MaxIdleConns = 32, 32 })
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 20 {
				var n uint64
				want := uint64(w*100 + i)
				if err := conn.QueryRow(t.Context(), "SELECT bitXor(bitXor(sum(number), sum(number)), {n:UInt64}) FROM numbers(100000)", clickhouse.Named("n", want)).Scan(&n); err != nil || n != want {
					t.Errorf("got %d (%v), want %d", n, err, want)
				}
			}
		})
	}
	wg.Wait()
}

func TestTheOutsideWaitsItsTurn(t *testing.T) {
	t.Parallel()
	e := shop(t, func(c *chdb.Config) { c.MaxQueries = 2 })
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if status, body, _ := ask(t, http.MethodGet, at(e, "SELECT count() FROM numbers(1000000)"), ""); status != 200 {
				t.Errorf("%d %s", status, body)
			}
		})
	}
	wg.Wait()
}

func BenchmarkSelectOne(b *testing.B) {
	e := chdbtest.Start(b, func(c *chdb.Config) { c.Listen = "127.0.0.1:0"; c.Database = "default" })
	b.Run("private", func(b *testing.B) {
		conn := connect(b, e)
		for b.Loop() {
			var n uint8
			if err := conn.QueryRow(context.Background(), "SELECT 1").Scan(&n); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("public", func(b *testing.B) {
		for b.Loop() {
			res, err := http.Get(at(e, "SELECT 1"))
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
	})
}
