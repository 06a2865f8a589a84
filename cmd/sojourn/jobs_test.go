package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestStatusOfAJob tells views that differ from views that could not be compared.
func TestStatusOfAJob(t *testing.T) {
	const busy = "the views are being built or verified already"
	for _, c := range []struct {
		job, answer string
		code        int
		status      int
		says        string
	}{
		{"verify", `{"done":1,"total":1,"result":"ok"}`, 200, 0, ""},
		{"verify", `{"difference":"customers x"}` + "\n" + `{"done":1,"total":1,"result":"different"}`, 200, 1, ""},
		{"verify", `{"result":"error","error":"` + busy + `"}`, 200, 2, busy},
		{"verify", `{"done":1,"total":2}`, 200, 2, "broke off"},
		{"verify", `{"status":409,"detail":"a rebuild or verify is running already"}`, 409, 2, "running already"},
		{"rebuild", `{"result":"error","error":"` + busy + `"}`, 200, 1, busy},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost || r.URL.Path != "/api/v1/"+c.job {
				t.Errorf("%s %s was asked", r.Method, r.URL.Path)
			}
			if c.code != 200 {
				w.Header().Set("Content-Type", "application/problem+json")
			}
			w.WriteHeader(c.code)
			_, _ = fmt.Fprintln(w, c.answer)
		}))
		status, _, errOut := sojourn(t.Context(), c.job, "--server", s.URL, "--token", "t")
		s.Close()
		if status != c.status || !strings.Contains(errOut, c.says) {
			t.Errorf("%s answered %s: status %d, want %d: %s", c.job, c.answer, status, c.status, errOut)
		}
	}
	if _, out, _ := sojourn(t.Context(), "verify", "--help"); !strings.Contains(out, "2 if the views could not be compared") {
		t.Errorf("the help does not tell the exit statuses:\n%s", out)
	}
}
