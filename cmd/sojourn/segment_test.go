package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestSegment walks through the commands: check, apply, list, members, delete.
func TestSegment(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	startServer(t, data)
	ctx, d := t.Context(), "--data="+data
	file := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ok := func(args ...string) string {
		t.Helper()
		status, out, errOut := sojourn(ctx, args...)
		if status != 0 {
			t.Fatalf("%v: status %d: %s", args, status, errOut)
		}
		return out
	}
	ok("demo", d, "--customers", "60", "--days", "60", "--seed", "1")

	for text, want := range map[string]string{
		"name: x\ncondition: stage == 3\n":              `x.yaml:2:12: line 1, column 7 of the condition: == does not take (string, int)`,
		"name: x\ncondition: stage == \"lost\" &&\n":    `line 1, column`,
		"name: x\nconditions: true\n":                   `unknown key "conditions"; did you mean "condition"?`,
		"condition: \"true\"\n":                         `name is missing`,
		"name: Big One\ncondition: stage == \"lost\"\n": `x.yaml:1:7: "Big One": a segment's name is of lower case letters`,
		"name: x\ncondition: |\n  true &&\n    now()\n": `line 2, column`,
	} {
		status, _, errOut := sojourn(ctx, "segment", "validate", file("x.yaml", text))
		if status != 1 || !strings.Contains(errOut, want) {
			t.Errorf("%s: status %d: %s, not %s", text, status, errOut, want)
		}
	}
	// What only a server knows.
	path := file("buyers.yaml", "name: buyers\ndescription: who has bought lately\ncondition: |\n  count(meaning(\"purchase\"), duration(\"60d\")) >= 1 && stage != \"lostt\"\n")
	ok("segment", "validate", path)
	if status, _, errOut := sojourn(ctx, "segment", "validate", path, d); status != 1 || !strings.Contains(errOut, `column 62 of the condition: "lostt" is none of visitor`) {
		t.Errorf("an unknown stage: %d %s", status, errOut)
	}
	sameMistakes(t, "segment", path, d, `buyers.yaml:3:12: line 1, column 62 of the condition: "lostt" is none of visitor`, "apply")
	sameMistakes(t, "trigger", file("call.yaml", "id: call\non:\n  segment: {entered: nobody}\ndo:\n  webhook: {destination: none}\n"), d, "call.yaml:3:22: ", "apply")
	sameMistakes(t, "policy", file("p.yaml", "loyalty:\n  programmes:\n    - id: default\n      earning: {from: 2020-01-01}\n"), d, "p.yaml:4:23: ", "apply", "preview")
	path = file("buyers.yaml", "name: buyers\ndescription: who has bought lately\ncondition: |\n  count(meaning(\"purchase\"), duration(\"60d\")) >= 1 && stage != \"lost\"\n")
	if out := ok("segment", "validate", path, d, "--sql"); !strings.Contains(out, "countIf(meaning = 'purchase'") {
		t.Errorf("the SQL: %s", out)
	}
	if out := ok("segment", "apply", path, d, "--author", "ann"); !strings.Contains(out, "buyers is in force; its members are being computed") {
		t.Errorf("apply: %s", out)
	}
	if out := ok("segment", "apply", path, d); !strings.Contains(out, "in force already") {
		t.Errorf("apply again: %s", out)
	}
	list := ""
	for deadline := time.Now().Add(time.Minute); ; {
		if list = ok("segment", "list", d); !strings.Contains(list, "being computed") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the segment is not built: %s", list)
		}
	}
	fields := strings.Fields(strings.Split(list, "\n")[1])
	members, err := strconv.Atoi(fields[1])
	if err != nil || members == 0 || fields[0] != "buyers" || !strings.Contains(list, "who has bought lately") {
		t.Errorf("list: %s", list)
	}
	csv := strings.Split(strings.TrimSpace(ok("segment", "members", "buyers", d, "--csv")), "\n")
	if csv[0] != "customer_id,since,cause" || len(csv) != members+1 {
		t.Errorf("%d members, and lines %v", members, csv)
	}
	if out := ok("segment", "members", "buyers", d, "--limit", "3"); strings.Count(out, "\n") != 4 || !strings.Contains(out, "touchpoint:") {
		t.Errorf("a sample: %s", out)
	}
	if status, _, errOut := sojourn(ctx, "segment", "members", "none", d); status != 1 || !strings.Contains(errOut, "there is no such segment") {
		t.Errorf("a segment that is not there: %d %s", status, errOut)
	}
	ok("segment", "delete", "buyers", d)
	if out := ok("segment", "list", d); strings.Contains(out, "buyers") {
		t.Errorf("deleted: %s", out)
	}
}

// sameMistakes holds that commands say of a file what validate says once it asks the
// server.
func sameMistakes(t *testing.T, what, file, server, wants string, commands ...string) {
	t.Helper()
	_, _, said := sojourn(t.Context(), what, "validate", file, server)
	if !strings.Contains(said, wants) {
		t.Errorf("%s validate says %s, not %s", what, said, wants)
	}
	for _, command := range commands {
		if status, _, errOut := sojourn(t.Context(), what, command, file, server); status != 1 || errOut != said {
			t.Errorf("%s %s says %s, not %s", what, command, errOut, said)
		}
	}
}
