package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sojourn/cmd/sojourn/bench"
)

// TestBenchTakesEveryFigure runs all of them, small, with servers that are children
// of the test.
func TestBenchTakesEveryFigure(t *testing.T) {
	t.Setenv(asSojourn, "1")
	dir := t.TempDir()
	file := filepath.Join(dir, "figures.json")
	status, out, errOut := sojourn(t.Context(), "bench", "--quick", "--dir", dir, "--json", file)
	if status != 0 {
		t.Fatalf("status %d: %s%s", status, out, errOut)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var report bench.Report
	if err := json.Unmarshal(text, &report); err != nil {
		t.Fatal(err)
	}
	lines := map[string]int{}
	for _, l := range report.Lines {
		lines[l.Figure]++
		if !(l.Ours > 0) || l.YardstickName != "" && !(l.Yardstick > 0 && l.Ratio > 0) {
			t.Errorf("figure %s, %s: %v, yardstick %v, ratio %v", l.Figure, l.Name, l.Ours, l.Yardstick, l.Ratio)
		}
		if !strings.Contains(out, l.Name) {
			t.Errorf("figure %s, %s, is not printed:\n%s", l.Figure, l.Name, out)
		}
	}
	for figure, n := range map[string]int{"1a": 1, "1b": 1, "2": 2, "3": 1, "4": 1, "5": 2, "6": 2, "7": 4, "8": 1, "9": 1, "10": 1, "11": 1, "12": 1, "13": 3} {
		if lines[figure] != n {
			t.Errorf("figure %s has %d lines, not %d", figure, lines[figure], n)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "sojourn-bench-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("the bench leaves %v (%v)", left, err)
	}
}

func TestBenchRefusesWhatIsNoFigure(t *testing.T) {
	status, _, errOut := sojourn(t.Context(), "bench", "--figures", "14", "--dir", t.TempDir())
	if status != 1 || !strings.Contains(errOut, "there is no figure 14: they are 1 to 13") {
		t.Errorf("status %d: %s", status, errOut)
	}
}
