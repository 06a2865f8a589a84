package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Every figure can be taken; the numbers say nothing here.
func TestFigures(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var out, progress strings.Builder
	dir := t.TempDir()
	err = run(t.Context(), []string{"-rounds", "2", "-messages", "4000", "-dir", dir, "-kafka", c.ListenAddrs()[0]}, &out, &progress)
	if err != nil {
		t.Fatal(err)
	}
	rows := strings.Split(strings.TrimSpace(out.String()), "\n")[2:]
	want := regexp.MustCompile(`^\| [^|]+ \| [\d,]+ (messages|events)/s \| [\d,]+, [^|]+ \| \d+\.\d\d \| `)
	if len(rows) != 13 {
		t.Errorf("%d figures", len(rows))
	}
	for _, row := range rows {
		if !want.MatchString(row) {
			t.Errorf("%s", row)
		}
	}
}

func TestFiguresNeedABroker(t *testing.T) {
	err := run(t.Context(), []string{"-figures", "kafka", "-dir", t.TempDir(), "-kafka", ""}, &strings.Builder{}, &strings.Builder{})
	if err == nil || !strings.Contains(err.Error(), "KAFKA_ADDRESS") {
		t.Error(err)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		rates []float64
		want  float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{3, 1, 2}, 2}, {[]float64{4, 1, 2, 3}, 2.5}} {
		if got := median(c.rates); got != c.want {
			t.Errorf("%v: %v, want %v", c.rates, got, c.want)
		}
	}
	if got := number(1234567.4); got != "1,234,567" {
		t.Error(got)
	}
}
