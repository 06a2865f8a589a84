package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"
)

// conflict is a line of GET /identity/conflicts.
type conflict struct {
	Subject       string `json:"subject"`
	Customer      string `json:"customer_id"`
	Other         string `json:"other"`
	OtherCustomer string `json:"other_customer_id"`
	Status        string `json:"status"`
}

func (s *server) conflicts(query string) []conflict {
	s.t.Helper()
	var page struct {
		Conflicts  []conflict `json:"conflicts"`
		NextCursor string     `json:"next_cursor"`
	}
	s.api("GET", "/identity/conflicts?"+query, nil, &page)
	if page.NextCursor != "" {
		s.t.Fatalf("there are more than %d conflicts", len(page.Conflicts))
	}
	return page.Conflicts
}

// decision is what a merge or a split is answered.
type decision struct {
	Position   uint64    `json:"position"`
	RecordedAt time.Time `json:"recorded_at"`
	Kind       string    `json:"kind"`
	Subjects   []string  `json:"subjects"`
	Others     []string  `json:"others"`
	Reason     string    `json:"reason"`
}

// decide asks for a merge or a split and returns it and what a read must wait
// for.
func (s *server) decide(kind string, body any) (d decision, after string) {
	s.t.Helper()
	a := s.api("POST", "/identity/"+kind, body, &d)
	if a.status != 201 || a.header.Get("Sojourn-Position") != strconv.FormatUint(d.Position, 10) || d.Kind != kind {
		s.t.Fatalf("%s: %d %v %s", kind, a.status, a.header, a.body)
	}
	return d, fmt.Sprint("after=", d.Position)
}

// identity is what GET /customers/{id}/identity answers.
type identity struct {
	ID       string `json:"id"`
	Subjects []struct {
		Subject string `json:"subject"`
		ID      string `json:"id"`
	} `json:"subjects"`
	Joins []struct {
		EventID string `json:"event_id"`
		Subject string `json:"subject"`
		Other   string `json:"other"`
		Outcome string `json:"outcome"`
	} `json:"joins"`
	Decisions []decision `json:"decisions"`
}

func (s *server) identity(ref, query string) identity {
	s.t.Helper()
	var i identity
	s.api("GET", "/customers/"+url.PathEscape(ref)+"/identity?"+query, nil, &i)
	return i
}

// idOf is the id that a subject bears for itself.
func (s *server) idOf(subject string) string {
	s.t.Helper()
	for _, x := range s.identity(subject, "").Subjects {
		if x.Subject == subject {
			return x.ID
		}
	}
	s.t.Fatalf("%s is not among its own subjects", subject)
	return ""
}

// unfollowed is a client that shows redirects.
var unfollowed = &http.Client{
	Timeout:       30 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// moved expects the questions about an old id to lead to the customer.
func (s *server) moved(t *testing.T, from, to, query string) {
	t.Helper()
	for _, what := range []string{"", "/timeline", "/identity"} {
		req := newRequest(t, "GET", s.url+"/api/v1/customers/"+from+what+"?"+query)
		req.Header.Set("Authorization", "Bearer "+s.token())
		res, err := unfollowed.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		want := "/api/v1/customers/" + to + what
		if query != "" {
			want += "?" + query
		}
		if got := res.Header.Get("Location"); res.StatusCode != 308 || got != want {
			t.Errorf("%s%s is answered %d to %q, want 308 to %q", from, what, res.StatusCode, got, want)
		}
	}
}

// standing is what ClickHouse says of a customer: its row, how many touchpoints
// are its own, and its stages.
func (s *server) standing(id string) string {
	s.t.Helper()
	out := ""
	for _, query := range []string{
		"SELECT user_ids, stage, toUInt64(purchases) AS purchases FROM customers WHERE customer_id = '%s'",
		"SELECT subject, count() AS n FROM touchpoints WHERE customer_id = '%s' GROUP BY subject ORDER BY subject",
		"SELECT groupArray(to_stage) AS stages FROM (SELECT to_stage FROM stage_transitions WHERE customer_id = '%s' ORDER BY seq)",
	} {
		b, err := json.Marshal(s.rows(fmt.Sprintf(query, id)))
		if err != nil {
			s.t.Fatal(err)
		}
		out += string(b) + "\n"
	}
	return out
}

// currentID looks up the customer of an id as docs/tables.md does.
func (s *server) currentID(id string) string {
	s.t.Helper()
	return s.rows(fmt.Sprintf("SELECT ifNull((SELECT customer_id FROM subjects WHERE subject_id = '%s'), toUUID('%s')) AS id", id, id))[0]["id"].(string)
}

// TestIdentity goes from a guest to an account, from a shared tablet to a merge by
// mistake, and back, with the server killed after each decision.
func TestIdentity(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	s := start(t, dir)
	var got struct {
		Delivered int
		Problems  []string
	}
	node(t, &got, "identity.mjs", s.url, s.writeKey("shop"))
	if got.Delivered != 12 || len(got.Problems) > 0 {
		t.Fatalf("the client delivered %d of 12 and says %v", got.Delivered, got.Problems)
	}
	s.caughtUp()

	// The guest and the account have an address in common: one customer.
	ada := s.customer("email:ADA@example.com", "")
	subjects := slices.Sorted(slices.Values(ada.Subjects))
	if want := []string{"anon:guest-1", "email:ada@example.com", "user:ada"}; !slices.Equal(subjects, want) || ada.Stage != "repeat" || ada.Purchases != 2 {
		t.Fatalf("the guest with an account: %+v, want subjects %v", ada, want)
	}
	guest, account := s.idOf("anon:guest-1"), s.idOf("user:ada")
	if ada.ID != guest {
		t.Errorf("the customer's id is %s, want the guest's %s", ada.ID, guest)
	}
	s.moved(t, account, guest, "")
	for _, j := range s.identity("user:ada", "").Joins {
		if j.Other != "email:ada@example.com" || j.Outcome != "joined" || j.EventID == "" {
			t.Errorf("a join of the guest: %+v", j)
		}
	}

	// The tablet is Ben's, who was first; that Cleo used it is a conflict.
	ben, cleo := s.customer("user:ben", ""), s.customer("user:cleo", "")
	if ben.Stage != "repeat" || ben.Purchases != 4 || cleo.Stage != "first_purchase" || cleo.Purchases != 1 {
		t.Fatalf("two on a tablet: %+v, %+v", ben, cleo)
	}
	if want := []string{"anon:tablet", "user:ben"}; !slices.Equal(ben.Subjects, want) || !slices.Equal(cleo.Subjects, []string{"user:cleo"}) {
		t.Errorf("subjects %v and %v", ben.Subjects, cleo.Subjects)
	}
	tablet := conflict{"user:cleo", cleo.ID, "anon:tablet", ben.ID, "open"}
	if all := s.conflicts("status=open"); !slices.Equal(all, []conflict{tablet}) {
		t.Errorf("conflicts %+v, want %+v", all, tablet)
	}
	benStood, cleoStood := s.standing(ben.ID), s.standing(cleo.ID)

	// Somebody takes them for one person.
	together := message{"subjects": []string{"user:ben", cleo.ID}, "reason": "the same address", "author": "jo"}
	merge, after := s.decide("merge", together)
	both := s.customer("user:cleo", after)
	if both.ID != ben.ID || both.Stage != "loyal" || both.Purchases != 5 || len(both.Subjects) != 3 || !both.FirstSeen.Equal(ben.FirstSeen) {
		t.Fatalf("the merged: %+v", both)
	}
	oneCustomer := func(when string) {
		t.Helper()
		s.moved(t, cleo.ID, ben.ID, "")
		s.moved(t, cleo.ID, ben.ID, "as_of=2040-01-01")
		if all := s.conflicts(""); len(all) > 0 {
			t.Errorf("%s: conflicts %+v", when, all)
		}
		if id := s.currentID(cleo.ID); id != ben.ID {
			t.Errorf("%s: the tables lead from Cleo's id to %s", when, id)
		}
		if id := s.currentID(ben.ID); id != ben.ID {
			t.Errorf("%s: the tables lead from Ben's id to %s", when, id)
		}
		if gone := s.standing(cleo.ID); gone != "[]\n[]\n[{\"stages\":[]}]\n" {
			t.Errorf("%s: there is still a Cleo: %s", when, gone)
		}
		want := `[{"purchases":5,"stage":"loyal","user_ids":["ben","cleo"]}]
[{"n":1,"subject":"anon:tablet"},{"n":5,"subject":"user:ben"},{"n":2,"subject":"user:cleo"}]
[{"stages":["visitor","lead","first_purchase","repeat","loyal"]}]
`
		if merged := s.standing(ben.ID); merged != want {
			t.Errorf("%s: ClickHouse has\n%swant\n%s", when, merged, want)
		}
		if got := s.customer(ben.ID, ""); !reflect.DeepEqual(got, both) {
			t.Errorf("%s: the customer is %+v, was %+v", when, got, both)
		}
		if line := names(s.timeline(ben.ID, "")); len(line) != 8 {
			t.Errorf("%s: the timeline is %q", when, line)
		}
		if stages, want := s.stages(""), map[string]int{"repeat": 1, "loyal": 1}; !reflect.DeepEqual(stages, want) {
			t.Errorf("%s: stages %v, want %v", when, stages, want)
		}
		i := s.identity("anon:tablet", "")
		if i.ID != ben.ID || len(i.Decisions) != 1 || i.Decisions[0].Reason != "the same address" || i.Decisions[0].Position != merge.Position ||
			!i.Decisions[0].RecordedAt.Equal(merge.RecordedAt) {
			t.Errorf("%s: the identity is %+v, the merge was %+v", when, i, merge)
		}
	}
	oneCustomer("after the merge")
	s.kill()
	s = start(t, dir)
	oneCustomer("after the first kill")
	// Who did not hear the answer asks again.
	if again, _ := s.decide("merge", together); !reflect.DeepEqual(again, merge) {
		t.Errorf("the merge again is %+v, was %+v", again, merge)
	}

	// They are two after all.
	leave := message{"subjects": []string{"user:cleo"}, "reason": "they share a flat", "author": "kim"}
	split, after := s.decide("split", leave)
	if !slices.Equal(split.Subjects, []string{"user:cleo"}) || !slices.Equal(slices.Sorted(slices.Values(split.Others)), []string{"anon:tablet", "user:ben"}) {
		t.Errorf("the split: %+v", split)
	}
	s.customer("user:cleo", after)
	recorded := url.QueryEscape(merge.RecordedAt.Format(time.RFC3339Nano))
	before := url.QueryEscape(merge.RecordedAt.Add(-time.Millisecond).Format(time.RFC3339Nano))
	twoCustomers := func(when string) {
		t.Helper()
		for ref, want := range map[string]customer{"user:ben": ben, ben.ID: ben, "anon:tablet": ben, "user:cleo": cleo, cleo.ID: cleo} {
			if got := s.customer(ref, ""); !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %s is %+v, was %+v", when, ref, got, want)
			}
		}
		if now := s.standing(ben.ID); now != benStood {
			t.Errorf("%s: ClickHouse has of Ben\n%shad\n%s", when, now, benStood)
		}
		if now := s.standing(cleo.ID); now != cleoStood {
			t.Errorf("%s: ClickHouse has of Cleo\n%shad\n%s", when, now, cleoStood)
		}
		if id := s.currentID(cleo.ID); id != cleo.ID {
			t.Errorf("%s: the tables lead from Cleo's id to %s", when, id)
		}
		kept := tablet
		kept.Status = "kept_apart"
		if all := s.conflicts(""); !slices.Equal(all, []conflict{kept}) {
			t.Errorf("%s: conflicts %+v, want %+v", when, all, kept)
		}
		if all := s.conflicts("status=open"); len(all) > 0 {
			t.Errorf("%s: open conflicts %+v", when, all)
		}
		if n := len(s.identity("user:cleo", "").Decisions); n != 2 {
			t.Errorf("%s: Cleo's identity has %d decisions, want the merge and the split", when, n)
		}
		// What was said between the decisions, and before both.
		s.moved(t, cleo.ID, ben.ID, "known_at="+recorded)
		if then := s.customer("user:cleo", "known_at="+recorded); !reflect.DeepEqual(then, both) {
			t.Errorf("%s: between the decisions Cleo was %+v, then it was said %+v", when, then, both)
		}
		if stages, want := s.stages("known_at="+recorded), map[string]int{"repeat": 1, "loyal": 1}; !reflect.DeepEqual(stages, want) {
			t.Errorf("%s: between the decisions the stages were %v, want %v", when, stages, want)
		}
		if n := len(s.identity("user:cleo", "known_at="+recorded).Decisions); n != 1 {
			t.Errorf("%s: between the decisions there are %d", when, n)
		}
		if then := s.customer("user:cleo", "known_at="+before); !reflect.DeepEqual(then, cleo) {
			t.Errorf("%s: before the decisions Cleo was %+v, want %+v", when, then, cleo)
		}
	}
	twoCustomers("after the split")
	s.kill()
	s = start(t, dir)
	twoCustomers("after the second kill")
	if again, _ := s.decide("split", leave); !reflect.DeepEqual(again, split) {
		t.Errorf("the split again is %+v, was %+v", again, split)
	}
	for body, says := range map[string]string{
		`pla-net:earth`: "use user, anon, email, phone, device",
		`user:nobody`:   "nothing is known of user:nobody",
	} {
		a := s.api("POST", "/identity/split", message{"subjects": []string{body}, "reason": "r", "author": "a"}, nil)
		if a.status/100 != 4 || a.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
		holds(t, a.body, says)
	}
	s.verify()
	s.stop()
}
