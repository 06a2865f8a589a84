package chdb_test

import (
	"io"
	"net/http"
	"net/url"
	"testing"

	"sojourn/warehouse/chdb"
	"sojourn/warehouse/chdb/chdbtest"
)

func get(t *testing.T, addr, query string) (int, string, http.Header) {
	t.Helper()
	res, err := http.Get("http://" + addr + "/?query=" + url.QueryEscape(query))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b), res.Header
}

func TestX(t *testing.T) {
	e := chdbtest.Start(t, func(c *chdb.Config) { c.Listen = "127.0.0.1:0"; c.Database = "default" })
	t.Log(get(t, e.PublicAddr(), "SELECT 1"))
	t.Log(get(t, e.PublicAddr(), "SELECT file('/etc/hostname')"))
	t.Log(get(t, e.PublicAddr(), "SELECT nope FROM numbers(3)"))
	t.Log(get(t, e.PublicAddr(), "SELECT sum(number), quantiles(0.5,0.9)(number), countIf(number>3) FROM numbers(30000) FORMAT JSON"))
}
