package warehousetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sojourn/warehouse/chdb"
	"sojourn/warehouse/chdb/chdbtest"
)

// Cluster is the name of the cluster that ClusterDSN's node belongs to, and Twice
// that of one whose two shards are both this node: each row is read twice there,
// but statements are planned as for several shards.
const (
	Cluster = "main"
	Twice   = "twice"
)

const clusterConfig = `<clickhouse>
  <tcp_port>9000</tcp_port>
  <remote_servers>
    <main>
      <shard><internal_replication>true</internal_replication><replica><host>localhost</host><port>9000</port></replica></shard>
    </main>
    <twice>
      <shard><internal_replication>true</internal_replication><replica><host>localhost</host><port>9000</port></replica></shard>
      <shard><internal_replication>true</internal_replication><replica><host>localhost</host><port>9000</port></replica></shard>
    </twice>
  </remote_servers>
</clickhouse>`

// ClusterDSN starts an embedded engine that is the one node of a cluster, and gives
// its address. The engine has the Distributed tables and no Keeper: what a cluster
// asks Keeper for is taken out of the statements on their way. Every request goes
// through the handles first, the last one outermost.
func ClusterDSN(t testing.TB, handles ...Handle) string {
	t.Helper()
	settings := filepath.Join(t.TempDir(), "config.xml")
	if err := os.WriteFile(settings, []byte(clusterConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	e := chdbtest.Start(t, func(c *chdb.Config) { c.Settings = settings })
	handle := func(proxy http.Handler, w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("query") == "" {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			body = []byte(withoutKeeper(string(body)))
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		}
		proxy.ServeHTTP(w, r)
	}
	for _, outer := range handles {
		inner := handle
		handle = func(proxy http.Handler, w http.ResponseWriter, r *http.Request) {
			outer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { inner(proxy, w, r) }), w, r)
		}
	}
	return "http://" + Front(t, e.Socket(), handle)
}

var (
	onCluster    = regexp.MustCompile(" ON CLUSTER `\\w+`")
	replicated   = regexp.MustCompile(`ENGINE = Replicated(\w*MergeTree)\('[^']*', '[^']*'(?:, )?(\w*)\)`)
	remembers    = regexp.MustCompile(`replicated_deduplication_window = (\d+), replicated_deduplication_window_seconds = \d+`)
	remembersNot = ", non_replicated_deduplication_window = 0"
)

func withoutKeeper(query string) string {
	if !onCluster.MatchString(query) {
		return query
	}
	if strings.HasPrefix(query, "SYSTEM SYNC REPLICA") {
		return "SELECT 1 FORMAT Null"
	}
	query = onCluster.ReplaceAllString(query, "")
	query = replicated.ReplaceAllString(query, "ENGINE = $1($2)")
	query = strings.Replace(query, remembersNot, "", 1)
	return remembers.ReplaceAllString(query, "non_replicated_deduplication_window = $1")
}

// Handle answers a request to an engine; proxy passes it on.
type Handle = func(proxy http.Handler, w http.ResponseWriter, r *http.Request)

// Front serves an engine's private socket on a loopback address, through handle,
// and gives the address.
func Front(t testing.TB, socket string, handle Handle) string {
	t.Helper()
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "engine" },
		Transport: &http.Transport{
			DisableCompression: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "unix", socket)
			},
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, fmt.Sprintf("the engine does not answer: %v", err), http.StatusBadGateway)
		},
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handle(proxy, w, r) }))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}
