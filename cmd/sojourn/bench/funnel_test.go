package bench

import (
	"os"
	"strings"
	"testing"
)

// TestFunnelIsTheDocumentedOne holds the query of figure 10 against the one that
// users are told to ask.
func TestFunnelIsTheDocumentedOne(t *testing.T) {
	text, err := os.ReadFile("../../../docs/tables.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "\n"+funnelQuery+";\n") {
		t.Errorf("docs/tables.md does not have\n%s", funnelQuery)
	}
}
