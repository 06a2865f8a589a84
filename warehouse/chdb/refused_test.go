package chdb_test

import (
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sojourn/warehouse/chdb"
	"sojourn/warehouse/chdb/chdbtest"
)

// ask sends a request and gives status, body and headers.
func ask(t testing.TB, method, target, body string, header ...string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequest(method, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
			continue
		}
		req.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b), res.Header
}

// at is the address of a statement.
func at(e *chdb.Engine, query string, args ...string) string {
	v := url.Values{"query": {query}}
	for i := 0; i < len(args); i += 2 {
		v.Set(args[i], args[i+1])
	}
	return "http://" + e.PublicAddr() + "/?" + v.Encode()
}

// shop is an engine with a public port and a small table behind it.
func shop(t testing.TB, configure ...func(*chdb.Config)) *chdb.Engine {
	t.Helper()
	e := chdbtest.Start(t, append([]func(*chdb.Config){func(c *chdb.Config) { c.Listen = "127.0.0.1:0" }}, configure...)...)
	for _, stmt := range []string{
		"CREATE DATABASE sojourn",
		"CREATE TABLE sojourn.subjects_g1 (subject_no UInt64, customer_id UUID) ENGINE = MergeTree ORDER BY subject_no",
		"INSERT INTO sojourn.subjects_g1 VALUES (1, '00000000-0000-0000-0000-000000000001')",
		"CREATE DICTIONARY sojourn.moved_g1 (subject_no UInt64, customer_id UUID) PRIMARY KEY subject_no SOURCE(CLICKHOUSE(QUERY 'SELECT subject_no, customer_id FROM sojourn.subjects_g1')) LAYOUT(HASHED_ARRAY()) LIFETIME(0)",
		"CREATE TABLE sojourn.touchpoints_g1 (subject String, subject_no UInt64, occurred_at DateTime64(3, 'UTC'), name LowCardinality(String), amount Nullable(Decimal(18, 4)), properties String) ENGINE = MergeTree ORDER BY (subject, occurred_at)",
		`INSERT INTO sojourn.touchpoints_g1 VALUES ('user:1', 1, '2024-01-01 00:00:00', 'Order Completed', 12.5, '{"price": 3}'), ('user:2', 2, '2024-01-02 00:00:00', 'Product Viewed', NULL, '{}')`,
		"CREATE VIEW sojourn.touchpoints AS SELECT *, dictGetOrDefault('sojourn.moved_g1', 'customer_id', subject_no, toUUID('00000000-0000-0000-0000-000000000002')) AS customer_id FROM sojourn.touchpoints_g1",
	} {
		status, body, _ := askPrivate(t, e, stmt)
		if status != http.StatusOK {
			t.Fatalf("%s: %s", stmt, body)
		}
	}
	return e
}

// TestRefused tries every way from the public port to the machine's files and
// network and to what the engine knows of itself, and reads a secret in vain.
func TestRefused(t *testing.T) {
	t.Parallel()
	const secret = "sojourn-admin-token-3f9c"
	dir := t.TempDir()
	secretFile := filepath.Join(dir, "admin.token")
	if err := os.WriteFile(secretFile, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out.txt")
	web := make(chan struct{}, 100)
	lurker := listenHTTP(t, func(w http.ResponseWriter, _ *http.Request) {
		web <- struct{}{}
		_, _ = io.WriteString(w, secret)
	})
	e := shop(t)
	// The engine's own folder for files holds the secret too.
	userFiles := filepath.Join(filepath.Dir(e.Socket()), "user_files")
	if err := os.MkdirAll(userFiles, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(userFiles, "s.tsv"), []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("{file}", secretFile, "{out}", out, "{web}", "http://"+lurker+"/x", "{addr}", lurker)
	refused := strings.Split(strings.TrimSpace(refusedStatements), "\n")
	if len(refused) < 100 {
		t.Fatalf("only %d statements", len(refused))
	}
	for _, line := range refused {
		query := fill.Replace(strings.NewReplacer(`\n`, "\n", `\t`, "\t").Replace(line))
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			target, body := at(e, query), ""
			if method == http.MethodPost {
				target, body = "http://"+e.PublicAddr()+"/", query
			}
			status, answer, _ := ask(t, method, target, body)
			if status == http.StatusOK || strings.Contains(answer, secret) {
				t.Errorf("%s %s\n  answered %d: %.200q", method, query, status, answer)
			}
		}
	}
	if _, err := os.Stat(out); !os.IsNotExist(err) {
		t.Errorf("a statement wrote a file: %v", err)
	}
	if len(web) > 0 {
		t.Errorf("%d statements reached the network", len(web))
	}
	if err := e.Healthy(t.Context()); err != nil {
		t.Errorf("the engine has suffered: %v", err)
	}
}

const refusedStatements = `
SELECT file('{file}')
SELECT FILE('{file}')
SELECT File ( '{file}' )
SELECT file/**/('{file}')
SELECT file -- x\n('{file}')
SELECT "file"('{file}')
SELECT ` + "`file`" + `('{file}')
SELECT ` + "`fi\\x6ce`" + `('{file}')
SELECT "fi\\u006ce"('{file}')
SELECT file('s.tsv')
SELECT file('user_files/s.tsv')
SELECT length(file('{file}'))
SELECT arrayMap(x -> file(x), ['{file}'])
SELECT arrayMap(file, ['{file}'])
SELECT arrayMap(FILE, ['{file}'])
SELECT arrayMap(` + "`file`" + `, ['{file}'])
SELECT arrayMap("file", ['{file}'])
SELECT arrayMap(` + "`fi\\x6ce`" + `, ['{file}'])
SELECT arrayFilter(file, ['{file}'])
SELECT arrayFold(file, ['{file}'], '')
SELECT arraySort(file, ['{file}'])
SELECT mapApply(file, map('a', '{file}'))
WITH file AS f SELECT arrayMap(f, ['{file}'])
SELECT arrayMap(f, ['{file}']) FROM (SELECT 1) WHERE 0 OR (file AS f)
EXPLAIN SELECT arrayMap(file, ['{file}'])
SELECT * APPLY file FROM (SELECT '{file}' AS a)
SELECT * APPLY(file) FROM (SELECT '{file}' AS a)
SELECT * APPLY (x -> file(x)) FROM (SELECT '{file}' AS a)
SELECT * APPLY "file" FROM (SELECT '{file}' AS a)
SELECT COLUMNS('a') APPLY file FROM (SELECT '{file}' AS a)
SELECT 1 WHERE file('{file}') != ''
SELECT 1 ORDER BY file('{file}')
SELECT 1 LIMIT length(file('{file}'))
WITH file('{file}') AS a SELECT a
WITH (SELECT file('{file}')) AS a SELECT a
WITH f AS (SELECT * FROM file('{file}', 'TSV', 'a String')) SELECT * FROM f
WITH x -> file(x) AS f SELECT f('{file}')
SELECT * FROM file('{file}')
SELECT * FROM file('{file}', 'TSV', 'a String')
SELECT * FROM FILE('{file}', 'TSV', 'a String')
SELECT * FROM "file"('{file}', 'TSV', 'a String')
SELECT * FROM ` + "`file`" + `('{file}', 'TSV', 'a String')
SELECT * FROM file /* ( */ ('{file}', 'TSV', 'a String')
SELECT * FROM file--(\n('{file}', 'TSV', 'a String')
SELECT * FROM numbers(1), file('{file}', 'TSV', 'a String')
SELECT * FROM numbers(1) JOIN file('{file}', 'TSV', 'a String') f ON 1 = 1
SELECT * FROM (SELECT * FROM (SELECT * FROM file('{file}', 'TSV', 'a String')))
SELECT * FROM view(SELECT * FROM file('{file}', 'TSV', 'a String'))
SELECT (SELECT a FROM file('{file}', 'TSV', 'a String'))
SELECT 1 IN (SELECT a FROM file('{file}', 'TSV', 'a String'))
SELECT EXISTS(SELECT a FROM file('{file}', 'TSV', 'a String'))
SELECT 1 UNION ALL SELECT a FROM file('{file}', 'TSV', 'a String')
(SELECT a FROM file('{file}', 'TSV', 'a String'))
FROM file('{file}', 'TSV', 'a String') SELECT a
SELECT * FROM '{file}'
SELECT * FROM "{file}"
SELECT * FROM ` + "`{file}`" + `
SELECT * FROM default.` + "`{file}`" + `
SELECT * FROM default."{file}"
SELECT 'x' IN default."{file}"
DESCRIBE TABLE file('{file}')
DESCRIBE file('{file}', 'TSV')
DESC TABLE file('{file}')
DESCRIBE TABLE default."{file}"
DESCRIBE (SELECT * FROM file('{file}'))
SHOW CREATE TABLE default."{file}"
EXPLAIN SELECT * FROM file('{file}')
EXPLAIN SELECT file('{file}')
EXPLAIN AST SELECT * FROM file('{file}')
EXPLAIN ESTIMATE SELECT * FROM file('{file}')
EXPLAIN TABLE OVERRIDE mysql('{addr}', 'a', 'b', 'c', 'd') PARTITION BY a
EXPLAIN INSERT INTO sojourn.touchpoints_g1 SELECT * FROM sojourn.touchpoints_g1
SELECT * FROM fileCluster('default', '{file}', 'TSV', 'a String')
SELECT * FROM filesystem('/')
SELECT * FROM url('{web}', 'TSV', 'a String')
SELECT * FROM URL('{web}', 'TSV', 'a String')
SELECT * FROM url('file://{file}', 'TSV', 'a String')
DESCRIBE TABLE url('{web}')
SELECT * FROM urlCluster('default', '{web}', 'TSV', 'a String')
SELECT * FROM remote('{addr}', 'system', 'one')
SELECT * FROM remote('127.0.0.1', view(SELECT * FROM file('{file}', 'TSV', 'a String')))
SELECT * FROM remoteSecure('{addr}', 'system', 'one')
SELECT * FROM cluster('default', 'system', 'one')
SELECT * FROM clusterAllReplicas('default', 'system', 'one')
SELECT * FROM s3('{web}', 'TSV', 'a String')
SELECT * FROM s3Cluster('default', '{web}', 'TSV', 'a String')
SELECT * FROM gcs('{web}', 'TSV', 'a String')
SELECT * FROM oss('{web}', 'TSV', 'a String')
SELECT * FROM cosn('{web}', 'TSV', 'a String')
SELECT * FROM hdfs('hdfs://{addr}/x', 'TSV', 'a String')
SELECT * FROM hdfsCluster('default', 'hdfs://{addr}/x', 'TSV', 'a String')
SELECT * FROM azureBlobStorage('{web}', 'c', 'b', 'a', 'a')
SELECT * FROM azureBlobStorageCluster('default', '{web}', 'c', 'b', 'a', 'a')
SELECT * FROM mysql('{addr}', 'a', 'b', 'c', 'd')
SELECT * FROM postgresql('{addr}', 'a', 'b', 'c', 'd')
SELECT * FROM mongodb('{addr}', 'a', 'b', 'c', 'd', 'x String')
SELECT * FROM redis('{addr}', 'a', 'a String')
SELECT * FROM sqlite('{file}', 'a')
SELECT * FROM odbc('DSN=x', 'a', 'b')
SELECT * FROM jdbc('x', 'a', 'b')
SELECT * FROM executable('cat {file}', 'TSV', 'a String')
SELECT * FROM input('a String')
SELECT * FROM deltaLake('{web}')
SELECT * FROM deltaLakeLocal('{file}')
SELECT * FROM iceberg('{web}')
SELECT * FROM icebergLocal('{file}')
SELECT * FROM icebergS3('{web}')
SELECT * FROM paimon('{web}')
SELECT * FROM paimonLocal('{file}')
SELECT * FROM hudi('{web}')
SELECT * FROM ytsaurus('{web}', 'a', 'b', 'c String')
SELECT * FROM prometheusQuery('a', 'b', 'c', now())
SELECT * FROM timeSeriesData('system', 'one')
SELECT * FROM Python('x')
SELECT * FROM python(x)
SELECT * FROM arrowstream('x')
SELECT * FROM merge('system', '.*')
SELECT * FROM merge(REGEXP('.*'), 'users')
SELECT * FROM loop('system', 'users')
SELECT * FROM loop(file('{file}'))
SELECT * FROM fuzzQuery('SELECT 1')
SELECT * FROM eval('SELECT 1')
SELECT * FROM viewExplain('EXPLAIN', '', (SELECT 1))
SELECT * FROM mergeTreeIndex('sojourn', 'touchpoints_g1')
SELECT * FROM mergeTreeProjection('sojourn', 'touchpoints_g1', 'x')
SELECT * FROM dictionary('sojourn.moved_g1')
SELECT * FROM generateRandom('a String', 1, 1000000000)
SELECT catboostEvaluate('{file}', 1)
SELECT aiGenerate('x', 'y')
SELECT chdb('x')
SELECT getServerSetting('path')
SELECT getMacro('x')
SELECT showCertificate()
SELECT filesystemAvailable()
SELECT addressToLine(1)
SELECT sleep(3)
SELECT sleepEachRow(1) FROM numbers(10)
SELECT logTrace('x')
SELECT joinGet('system.x', 'y', 1)
SELECT flameGraph([1])
SELECT flameGraphIf([1], 1)
SELECT noSuchFunction(1)
SELECT 1 INTO OUTFILE '{out}'
SELECT 1 INTO OUTFILE '{out}' FORMAT TSV
SELECT 1 into/**/outfile '{out}' TRUNCATE
SELECT 1 INTO\nOUTFILE '{out}' APPEND
SELECT 1 INTO OUTFILE '{out}' AND STDOUT
SELECT 1 INTO OUTFILE '{out}' COMPRESSION 'gzip'
SELECT * FROM (SELECT 1) INTO OUTFILE '{out}'
SHOW TABLES INTO OUTFILE '{out}'
DESCRIBE TABLE touchpoints INTO OUTFILE '{out}'
EXPLAIN SELECT 1 INTO OUTFILE '{out}'
WITH 1 AS a SELECT a INTO OUTFILE '{out}'
INSERT INTO sojourn.touchpoints_g1 (subject) VALUES ('x')
INSERT INTO FUNCTION file('{out}', 'TSV', 'a String') SELECT 'x'
INSERT INTO sojourn.touchpoints_g1 FROM INFILE '{file}' FORMAT TSV
WITH a AS (SELECT 1) INSERT INTO sojourn.touchpoints_g1 (subject) SELECT 'x' FROM a
CREATE TABLE x (a String) ENGINE = File(TSV, '{file}')
CREATE TEMPORARY TABLE x (a String)
CREATE TABLE x ENGINE = Memory AS SELECT 1
CREATE DATABASE x ENGINE = Filesystem('/')
CREATE FUNCTION f AS x -> file(x)
CREATE VIEW v AS SELECT 1
DROP TABLE sojourn.touchpoints_g1
TRUNCATE TABLE sojourn.touchpoints_g1
ALTER TABLE sojourn.touchpoints_g1 DELETE WHERE 1
DELETE FROM sojourn.touchpoints_g1 WHERE 1
RENAME TABLE sojourn.touchpoints_g1 TO sojourn.y
OPTIMIZE TABLE sojourn.touchpoints_g1 FINAL
ATTACH TABLE x FROM '{file}' (a String) ENGINE = File(TSV)
DETACH TABLE sojourn.touchpoints_g1
SYSTEM SHUTDOWN
SYSTEM RELOAD DICTIONARIES
KILL QUERY WHERE 1
BACKUP DATABASE sojourn TO File('{out}')
RESTORE DATABASE sojourn FROM File('{file}')
SET readonly = 0
SET allow_ddl = 1
USE system
GRANT ALL ON *.* TO default
CHECK TABLE sojourn.touchpoints_g1
WATCH x
EXIT
BEGIN TRANSACTION
SELECT 1; SELECT file('{file}')
SELECT 1; DROP TABLE sojourn.touchpoints_g1
SELECT 1;; SELECT 2
SELECT 1 PARALLEL WITH DROP TABLE sojourn.touchpoints_g1
DROP TABLE x PARALLEL WITH SELECT 1
SELECT 1 SETTINGS readonly = 0
SELECT 1 SETTINGS allow_introspection_functions = 1
SELECT 1 SETTINGS max_threads = 1
SELECT * FROM (SELECT 1 SETTINGS format_schema = '{file}')
SELECT 1 FORMAT Template SETTINGS format_template_row = '{file}'
SELECT 1 FORMAT Template
SELECT 1 FORMAT CapnProto
SELECT 1 FORMAT Protobuf
SELECT 1 FORMAT AvroConfluent
SELECT 1 FORMAT MySQLWire
SELECT * FROM system.users
SELECT * FROM SYSTEM.users
SELECT * FROM "system"."users"
SELECT * FROM ` + "`system`.`processes`" + `
SELECT * FROM system . processes
SELECT * FROM system/**/./**/server_settings
SELECT 1 IN system.processes
SELECT query FROM system.processes
SELECT * FROM system.named_collections
SELECT * FROM system.certificates
SELECT * FROM system.stack_trace
SELECT * FROM system.disks
SELECT * FROM system.backups
SELECT * FROM system.user_directories
SELECT * FROM system.remote_data_paths
SELECT * FROM system.errors
SELECT * FROM system."users"
DESCRIBE TABLE system.users
SHOW CREATE TABLE system.users
SHOW PROCESSLIST
SHOW ACCESS
SHOW GRANTS
SHOW NAMED COLLECTIONS
SHOW CLUSTERS
SELECT $a$x$a$, file('{file}')
SELECT ‘x’, file(‘{file}’)
SELECT 'a\'b', file('{file}')
SELECT 'a''b', file('{file}')
SELECT '\\', file('{file}')
SELECT 'a' /* ' */, file('{file}') /* ' */
SELECT "a""b", file('{file}') FROM (SELECT 1 AS "a""b")
SELECT 1 --' \n, file('{file}') --'
SELECT 1 /* -- */, file('{file}')
SELECT 1 # '\n, file('{file}')
SELECT 1 /* /* */, file('{file}') --*/
SELECT 1, file('{file}')
SELECT` + "\u00a0" + `file('{file}')
SELECT 1` + "\u2212" + `file('{file}')
SELECT ｆｉｌｅ('{file}')
SELECT {a:Identifier}
`
