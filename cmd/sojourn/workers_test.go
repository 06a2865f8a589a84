package main

import (
	"strings"
	"testing"
)

func TestWorkerConfig(t *testing.T) {
	far := []string{"--store", "esdb://a:2113", "--clickhouse", "clickhouse://a:9000"}
	for _, given := range [][]string{
		nil,
		{"--shard", "1/1", "--store", "esdb://a:2113", "--clickhouse", "clickhouse://a:9000"},
		append([]string{"--roles", "project", "--shard", "2/4"}, far...),
		append([]string{"--roles", "api,automate", "--policy", "p.yaml"}, far...),
		{"--roles", "write", "--store", "esdb://a:2113"},
		{"--roles", "write,api", "--esdb-listen", "127.0.0.1:1", "--esdb-insecure", "--clickhouse-worker-listen", "127.0.0.1:2"},
		{"--roles", "write,project,api", "--shard", "1/2", "--esdb-listen", "127.0.0.1:1", "--esdb-insecure", "--clickhouse-worker-listen", "127.0.0.1:2"},
	} {
		if _, err := load(t, given, nil, ""); err != nil {
			t.Errorf("%v: %v", given, err)
		}
	}
	for want, given := range map[string][]string{
		`shard: "4/3" is no shard such as 2/4`:                append([]string{"--shard", "4/3"}, far...),
		`is not among the roles`:                              append([]string{"--roles", "api", "--shard", "1/2"}, far...),
		`policy: a file is applied by the process`:            append([]string{"--roles", "project", "--policy", "p.yaml"}, far...),
		`automate goes with api`:                              append([]string{"--roles", "automate"}, far...),
		`store: other processes are to use the same log`:      {"--roles", "project", "--clickhouse", "clickhouse://a:9000"},
		`clickhouse: other processes are to use the same`:     {"--roles", "project", "--store", "esdb://a:2113"},
		`clickhouse-worker-listen: it opens the embedded`:     append([]string{"--clickhouse-worker-listen", "127.0.0.1:1"}, far...),
		`clickhouse-worker-listen: "x" is no address such as`: {"--clickhouse-worker-listen", "x"},
	} {
		if _, err := load(t, given, nil, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %s", given, err, want)
		}
	}
	c, err := load(t, nil, map[string]string{streamKeyEnv: strings.Repeat("0a", 32)}, "")
	if err != nil || c.StreamKey != strings.Repeat("\n", 32) || c.sharesViews() {
		t.Error(c.StreamKey, err)
	}
	if _, err := load(t, nil, map[string]string{streamKeyEnv: "0a"}, ""); err == nil || strings.Contains(err.Error(), "0a") {
		t.Error(err)
	}
}
