package projections

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/policy"
	"sojourn/warehouse"
)

// login is an identify of a user on a device.
func login(id, user, anon string, at domain.Millis) sent {
	return sent{id: id, kind: domain.Identify, user: user, anon: anon, at: at}
}

// A request whose answer was lost is made again: it is the same decision.
func TestDecisionAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.send(login("i1", "ben", "tablet", day0-3*domain.Day), login("i2", "cleo", "phone", day0-2*domain.Day), login("i3", "dora", "laptop", day0-domain.Day))
	merge := MergeRequest{Subjects: []string{"user:cleo", "user:ben"}, Reason: "one person", Author: "jo"}
	apart := SplitRequest{Subjects: []string{"user:cleo", "anon:phone"}, Reason: "two people", Author: "jo"}
	from := SplitRequest{Subjects: []string{"user:ben"}, From: "user:dora", Reason: "strangers", Author: "jo"}
	for name, decide := range map[string]func() (Decision, error){
		"merge": func() (Decision, error) { return s.views.Merge(t.Context(), merge) },
		"split": func() (Decision, error) {
			if _, err := s.views.Merge(t.Context(), merge); err != nil {
				return Decision{}, err
			}
			return s.views.Split(t.Context(), apart)
		},
		"split from": func() (Decision, error) { return s.views.Split(t.Context(), from) },
	} {
		first, err := decide()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s.wait(first.Position)
		var again Decision
		if name == "split" {
			again, err = s.views.Split(t.Context(), apart)
		} else {
			again, err = decide()
		}
		if err != nil || again.Position != first.Position || again.Event != first.Event || !again.RecordedAt.Equal(first.RecordedAt) ||
			!slices.Equal(again.Subjects, first.Subjects) || !slices.Equal(again.Others, first.Others) {
			t.Errorf("%s: again %+v, %v, first %+v", name, again, err, first)
		}
	}
}

// What is no request that was made right before, is refused or decided anew.
func TestDecisionNotAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.send(login("i1", "ben", "tablet", day0-3*domain.Day))
	apart := SplitRequest{Subjects: []string{"user:ben"}, Reason: "two people", Author: "jo"}
	first, err := s.views.Split(t.Context(), apart)
	if err != nil {
		t.Fatal(err)
	}
	other := apart
	other.Author = "kim"
	var bad *DecisionError
	if d, err := s.views.Split(t.Context(), other); !errors.As(err, &bad) {
		t.Errorf("split by another: %+v, %v", d, err)
	}
	merge, err := s.views.Merge(t.Context(), MergeRequest{Subjects: []string{"user:ben", "anon:tablet"}, Reason: "no", Author: "jo"})
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.views.Split(t.Context(), apart)
	if err != nil || second.Position <= merge.Position || second.Position <= first.Position {
		t.Errorf("split again after a merge: %+v, %v", second, err)
	}
	for _, r := range []SplitRequest{
		{Subjects: []string{"user:nobody-knows"}, Reason: "r", Author: "a"},
		{Subjects: []string{"user:ben"}, From: "user:nobody-knows", Reason: "r", Author: "a"},
	} {
		if d, err := s.views.Split(t.Context(), r); !errors.Is(err, ErrNotFound) || err.Error() != "user:nobody-knows: "+ErrNotFound.Error() {
			t.Errorf("%+v: %+v, %v", r, d, err)
		}
	}
}

// Conflicts come in pages, of one status or of all, whatever they have in common.
func TestConflictPages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var messages []sent
	for i := range 30 {
		messages = append(messages, login(fmt.Sprint("a", i), fmt.Sprint("first-", i), fmt.Sprint("tablet-", i), day0-2*domain.Day),
			login(fmt.Sprint("b", i), fmt.Sprint("second-", i), fmt.Sprint("tablet-", i), day0-domain.Day))
	}
	s.send(messages...)
	for i := range 5 {
		d, err := s.views.Split(t.Context(), SplitRequest{
			Subjects: []string{fmt.Sprint("user:second-", i)}, From: fmt.Sprint("anon:tablet-", i), Reason: "r", Author: "a",
		})
		if err != nil {
			t.Fatal(err)
		}
		s.wait(d.Position)
	}
	for status, want := range map[string]int{"": 30, "open": 25, "kept_apart": 5} {
		seen := map[uuid.UUID]bool{}
		cursor, pages := "", 0
		for {
			page, next, err := s.views.Conflicts(t.Context(), status, 7, cursor)
			if err != nil {
				t.Fatal(err)
			}
			pages++
			for _, c := range page {
				if seen[c.Event] || status != "" && c.Status != status || c.Customer == uuid.Nil || c.OtherCustomer == uuid.Nil || c.Customer == c.OtherCustomer {
					t.Errorf("%q: %+v, seen %t", status, c, seen[c.Event])
				}
				seen[c.Event] = true
			}
			if cursor = next; cursor == "" {
				break
			}
		}
		if len(seen) != want || pages != (want+6)/7 {
			t.Errorf("%q: %d conflicts on %d pages, want %d", status, len(seen), pages, want)
		}
	}
	for _, bad := range []string{"x", "!", "bm8"} {
		if _, _, err := s.views.Conflicts(t.Context(), "", 7, bad); !errors.Is(err, ErrBadCursor) {
			t.Errorf("cursor %q: %v", bad, err)
		}
	}
}

// Decisions that are made at once know of each other: nobody's customer is left
// out of a merge.
func TestDecisionsAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const n = 8
	var messages []sent
	for i := range n + 1 {
		messages = append(messages, login(fmt.Sprint("i", i), fmt.Sprint("u", i), "", day0-domain.Day))
	}
	s.send(messages...)
	var wait sync.WaitGroup
	members := make([]int, n)
	for i := range n {
		wait.Go(func() {
			d, err := s.views.Merge(t.Context(), MergeRequest{Subjects: []string{"user:u0", fmt.Sprint("user:u", i+1)}, Reason: "r", Author: "a"})
			if err != nil {
				t.Error(err)
			}
			members[i] = len(d.Others)
		})
	}
	wait.Wait()
	slices.Sort(members)
	if want := []int{2, 3, 4, 5, 6, 7, 8, 9}; !slices.Equal(members, want) {
		t.Errorf("the merges had %v members, want %v", members, want)
	}
	head, err := s.store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.wait(head)
	if c := s.customer("user:u3", At{}); len(c.Subjects) != n+1 {
		t.Errorf("one customer of %v, want all %d", c.Subjects, n+1)
	}
	if v := s.verify(); !v.Equal() {
		t.Errorf("verify: %+v", v)
	}
}

// documentedFunnel is the funnel that docs/tables.md recommends.
func documentedFunnel(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/tables.md")
	if err != nil {
		t.Fatal(err)
	}
	_, query, _ := strings.Cut(string(text), "SELECT steps,")
	query, _, ok := strings.Cut("SELECT steps,"+query, ";")
	if !ok {
		t.Fatal("docs/tables.md has no funnel")
	}
	return query
}

// What the policy lists as nobody's leaves its customer in every table, and comes
// back when it is listed no more.
func TestNobodyInTheTables(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.send(
		sent{id: "p1", kind: domain.Page, name: "Home", anon: "till", at: day0 - 4*domain.Day},
		sent{id: "p2", kind: domain.Track, name: "Product Viewed", anon: "till", at: day0 - 4*domain.Day},
		login("i1", "ben", "till", day0-3*domain.Day), login("i2", "cleo", "till", day0-2*domain.Day),
		sent{id: "i3", kind: domain.Identify, user: "dora", at: day0 - 2*domain.Day, traits: `{"phone":"0049 (30) 123456"}`},
		bought("o1", "ben", day0-domain.Day, 5),
	)
	ben := s.customer("user:ben", At{})
	own := domain.SubjectID(testKeyer.Stream(domain.Subject{Kind: domain.User, Value: "ben"})).String()
	tables := func() string {
		t.Helper()
		return fmt.Sprint(
			s.rows("SELECT concat(subject, ' ', toString(customer_id)) AS x FROM touchpoints ORDER BY x"),
			s.rows("SELECT concat(subject, ' ', toString(customer_id)) AS x FROM subjects ORDER BY x"),
			s.rows("SELECT concat(toString(customer_id), ' ', stage) AS x FROM customers ORDER BY x"),
			s.rows("SELECT concat(subject, ' ', other, ' ', status) AS x FROM identity_conflicts ORDER BY x"),
		)
	}
	before := tables()
	policyOf := func(nobody []string) {
		t.Helper()
		s.stop()
		p := policy.Default()
		p.Identity.Nobody = nobody
		v := s.apply(p)
		s.start()
		s.until("the new policy", func() bool { return s.views.Status().PolicyVersion == v })
		if v := s.verify(); !v.Equal() {
			t.Errorf("verify under %v: %+v", nobody, v)
		}
	}
	policyOf([]string{"TILL", "+49 30 123456"})
	if got := s.rows("SELECT DISTINCT subject AS x FROM touchpoints WHERE customer_id = toUUID('" + warehouse.Nobody.String() + "')"); !slices.Equal(got, []string{"anon:till"}) {
		t.Errorf("nobody's touchpoints are those of %v", got)
	}
	if got := s.rows("SELECT concat(toString(steps), ' ', toString(customers)) AS x FROM (" + documentedFunnel(t) + ")"); !slices.Equal(got, []string{"0 1"}) {
		t.Errorf("the funnel counts %v, want Ben alone", got)
	}
	if got := s.rows("SELECT concat(subject, ' ', toString(customer_id)) AS x FROM subjects ORDER BY x"); !slices.Equal(got, []string{"anon:till " + warehouse.Nobody.String(), "phone:+4930123456 " + warehouse.Nobody.String()}) {
		t.Errorf("subjects has %v", got)
	}
	if got := s.rows("SELECT other AS x FROM identity_conflicts"); len(got) > 0 {
		t.Errorf("nobody is in conflict: %v", got)
	}
	if c := s.customer("user:ben", At{}); c.ID.String() != own || len(c.Subjects) != 1 {
		t.Errorf("without the till Ben is %+v", c)
	}
	if _, err := s.views.Customer(t.Context(), "anon:till", At{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("the till is somebody: %v", err)
	}
	var bad *DecisionError
	if _, err := s.views.Merge(t.Context(), MergeRequest{Subjects: []string{"anon:till", "user:cleo"}, Reason: "r", Author: "a"}); !errors.As(err, &bad) {
		t.Errorf("merge with nobody: %v", err)
	}
	policyOf(nil)
	if after := tables(); after != before {
		t.Errorf("the tables are\n%s\nwere\n%s", after, before)
	}
	if c := s.customer("user:ben", At{}); c.ID != ben.ID {
		t.Errorf("with the till Ben is %+v, was %+v", c, ben)
	}
}

// A subject that messages only name is somebody's while it is joined, and
// nobody's when it is split off: it has no touchpoint.
func TestSplitOffWhatIsOnlyNamed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const email = "email:ada@example.com"
	s.send(
		sent{id: "i1", kind: domain.Identify, anon: "guest", at: day0 - 3*domain.Day, traits: `{"email":"ada@example.com"}`},
		sent{id: "i2", kind: domain.Identify, user: "ada", at: day0 - 2*domain.Day, traits: `{"email":"ada@example.com"}`},
	)
	ada := s.customer(email, At{})
	if len(ada.Subjects) != 3 {
		t.Fatalf("one customer of %v", ada.Subjects)
	}
	split, err := s.views.Split(t.Context(), SplitRequest{Subjects: []string{email}, Reason: "r", Author: "a"})
	if err != nil {
		t.Fatal(err)
	}
	s.wait(split.Position)
	if c, err := s.views.Customer(t.Context(), email, At{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("the address is %+v, %v", c, err)
	}
	if c := s.customer("user:ada", At{}); c.ID != ada.ID || len(c.Subjects) != 2 {
		t.Errorf("what stays is %+v", c)
	}
	if got := s.rows("SELECT subject AS x FROM subjects"); !slices.Equal(got, []string{"user:ada"}) {
		t.Errorf("subjects has %v", got)
	}
	conflicts, _, err := s.views.Conflicts(t.Context(), "kept_apart", 10, "")
	if err != nil || len(conflicts) != 2 || conflicts[0].Customer != ada.ID || conflicts[0].OtherCustomer != uuid.Nil {
		t.Errorf("conflicts %+v, %v", conflicts, err)
	}
	if v := s.verify(); !v.Equal() {
		t.Errorf("verify: %+v", v)
	}
	merge, err := s.views.Merge(t.Context(), MergeRequest{Subjects: []string{email, "anon:guest"}, Reason: "r", Author: "a"})
	if err != nil {
		t.Fatal(err)
	}
	s.wait(merge.Position)
	if c := s.customer(email, At{}); c.ID != ada.ID || len(c.Subjects) != 3 {
		t.Errorf("merged again: %+v", c)
	}
	if conflicts, _, err := s.views.Conflicts(t.Context(), "", 10, ""); err != nil || len(conflicts) > 0 {
		t.Errorf("conflicts %+v, %v", conflicts, err)
	}
	if v := s.verify(); !v.Equal() {
		t.Errorf("verify: %+v", v)
	}
}

// The ids of two customers stand for their users, and the same request again is
// the same merge although the ids are one customer's by then.
func TestMergeOfIDs(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.send(
		sent{id: "p1", kind: domain.Page, anon: "ca", at: day0 - 9*domain.Day}, login("i1", "A", "ca", day0-8*domain.Day),
		sent{id: "p2", kind: domain.Page, anon: "cb", at: day0 - 7*domain.Day}, login("i2", "B", "cb", day0-6*domain.Day),
	)
	a, b := s.customer("user:A", At{}).ID.String(), s.customer("user:B", At{}).ID.String()
	request := MergeRequest{Subjects: []string{a, b}, Reason: "same person", Author: "me"}
	merge, err := s.views.Merge(t.Context(), request)
	if err != nil || !slices.Equal(merge.Subjects, []string{"user:A", "user:B"}) {
		t.Fatalf("merge: %+v %v", merge, err)
	}
	s.wait(merge.Position)
	if again, err := s.views.Merge(t.Context(), request); err != nil || again.Event != merge.Event {
		t.Errorf("again: %+v %v", again, err)
	}
	// A device that moves takes nobody along.
	s.send(login("i3", "C", "ca", day0-8*domain.Day-1))
	if c, d := s.customer("user:A", At{}), s.customer("user:C", At{}); c.ID != s.customer("user:B", At{}).ID || c.ID == d.ID {
		t.Errorf("A is %v, C is %v", c.Subjects, d.Subjects)
	}
	if _, err := s.views.Split(t.Context(), SplitRequest{Subjects: []string{s.customer("user:A", At{}).ID.String()}, Reason: "no", Author: "me"}); !errors.As(err, new(*DecisionError)) {
		t.Errorf("a split of an id: %v", err)
	}
}
