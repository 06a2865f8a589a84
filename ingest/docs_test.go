package ingest

import (
	"os"
	"strings"
	"testing"
)

// TestReasonsAreDocumented holds the reasons of rejects against docs/tracking.md.
func TestReasonsAreDocumented(t *testing.T) {
	b, err := os.ReadFile("../docs/tracking.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), "\n## Rejects\n")
	section, _, _ := strings.Cut(after, "\n## ")
	for _, c := range RejectCodes {
		if strings.Count(section, "\n| `"+string(c)+"` | ") != 1 {
			t.Errorf("%s is not among the reasons of docs/tracking.md", c)
		}
	}
	if n := strings.Count(section, "\n| `"); n != len(RejectCodes) {
		t.Errorf("docs/tracking.md has %d reasons, there are %d", n, len(RejectCodes))
	}
}
