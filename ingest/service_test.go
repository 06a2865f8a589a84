package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"sojourn/domain"
	"sojourn/eventstore"
	"sojourn/ingest"
	"sojourn/ingest/internal/ingesttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func parse(t ingesttest.TB, texts ...string) []ingest.Message {
	t.Helper()
	msgs := make([]ingest.Message, len(texts))
	for i, text := range texts {
		var err error
		if msgs[i], err = ingest.ParseMessage([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	return msgs
}

func send(t ingesttest.TB, e *ingesttest.Env, texts ...string) ingest.Outcome {
	t.Helper()
	out, err := e.Service.Ingest(context.Background(), &ingest.Batch{Source: "shop", Messages: parse(t, texts...)}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if out.Accepted+out.Duplicates+out.Rejected != len(texts) {
		t.Fatal("of ", len(texts), " messages these are accounted for: ", out)
	}
	return out
}

func check(t *testing.T, out ingest.Outcome, accepted, duplicates, rejected int) {
	t.Helper()
	if out.Accepted != accepted || out.Duplicates != duplicates || out.Rejected != rejected {
		t.Fatalf("%+v, want %d accepted, %d duplicates, %d rejected", out, accepted, duplicates, rejected)
	}
}

const purchase = `{"type":"track","messageId":"m1","event":"Order Completed","userId":"u","properties":{"total":5}}`

func TestAMessageSentAgainIsDropped(t *testing.T) {
	e := ingesttest.Start(t)
	first := send(t, e, purchase)
	check(t, first, 1, 0, 0)
	again := send(t, e, purchase)
	check(t, again, 0, 1, 0)
	if first.Position == 0 || again.Position != first.Position {
		t.Fatalf("position %d, and again %d", first.Position, again.Position)
	}
	// The browser sends a retry under the user id when the visitor has logged in.
	other := strings.NewReplacer(`"userId":"u"`, `"userId":"v","anonymousId":"a","sentAt":"2026-03-01T11:00:00Z","context":{"x":1}`, `5`, `5.00`).Replace(purchase)
	check(t, send(t, e, other), 0, 1, 0)
	tps := e.Touchpoints(t)
	if len(tps) != 1 || tps[0].UserID != "u" {
		t.Fatalf("%+v", tps)
	}
}

func TestAnotherContentUnderAKnownIDIsAReject(t *testing.T) {
	e := ingesttest.Start(t)
	send(t, e, purchase)
	other := strings.Replace(purchase, "5", "6", 1)
	out := send(t, e, other)
	check(t, out, 0, 0, 1)
	check(t, send(t, e, strings.Replace(other, `"u"`, `"v"`, 1)), 0, 0, 1)
	rejects := e.Rejects(t)
	if len(rejects) != 1 || rejects[0].Code != ingest.CodeContentDiffer || string(rejects[0].Raw) != other || rejects[0].Position != out.Position {
		t.Fatalf("%+v", rejects)
	}
	// The same message id of another source is another message.
	o, err := e.Service.Ingest(t.Context(), &ingest.Batch{Source: "app", Messages: parse(t, other)}, 0)
	if err != nil {
		t.Fatal(err)
	}
	check(t, o, 1, 0, 0)
}

func TestOneIDTwiceInABatch(t *testing.T) {
	e := ingesttest.Start(t)
	other := strings.Replace(purchase, "5", "6", 1)
	check(t, send(t, e, purchase, strings.Replace(purchase, `"u"`, `"v"`, 1), other, purchase), 1, 2, 1)
	if tps := e.Touchpoints(t); len(tps) != 1 || tps[0].UserID != "u" {
		t.Fatalf("%+v", tps)
	}
}

func TestAMessageWithoutIDGetsOne(t *testing.T) {
	e := ingesttest.Start(t)
	text := `{"type":"page","userId":"u"}`
	check(t, send(t, e, text, text, `{"type":"page","userId":"u","messageId":null}`, `{"type":"page","userId":"u","messageId":""}`), 4, 0, 0)
	seen := map[string]bool{}
	for _, tp := range e.Touchpoints(t) {
		if _, err := uuid.Parse(tp.MessageID); err != nil || seen[tp.MessageID] || tp.Event.ID != domain.EventID("shop", tp.MessageID) {
			t.Fatalf("message id %q", tp.MessageID)
		}
		seen[tp.MessageID] = true
	}
	check(t, send(t, e, `{"type":"page","userId":"u","messageId":7}`, `{"type":"page","userId":"u","messageId":"7"}`), 1, 1, 0)
	msgs := parse(t, text)
	msgs[0].DefaultID = "topic-1-42"
	for range 2 {
		if _, err := e.Service.Ingest(t.Context(), &ingest.Batch{Source: "kafka", Messages: msgs}, 0); err != nil {
			t.Fatal(err)
		}
	}
	tps := e.Touchpoints(t)
	if last := tps[len(tps)-1]; last.MessageID != "topic-1-42" || len(tps) != 6 {
		t.Fatalf("%d, %q", len(tps), last.MessageID)
	}
}

func TestManyDuplicatesFarApart(t *testing.T) {
	e := ingesttest.Start(t)
	var all []string
	for i := range 1000 {
		all = append(all, fmt.Sprintf(`{"type":"page","messageId":"m%d","userId":"u%d"}`, i, i%7))
	}
	check(t, send(t, e, all...), 1000, 0, 0)
	var some []string
	for i := 999; i >= 0; i -= 100 {
		some = append(some, all[i], `{"type":"page","messageId":"new`+all[i][28:])
	}
	check(t, send(t, e, some...), 10, 10, 0)
	slices.Reverse(all)
	check(t, send(t, e, all...), 0, 1000, 0)
}

func TestManyTinyMessages(t *testing.T) {
	e := ingesttest.Start(t)
	texts := make([]string, 3*ingest.MaxMessages+1)
	for i := range texts {
		texts[i] = "0"
	}
	check(t, send(t, e, texts...), 0, 0, len(texts))
	if n := len(e.Rejects(t)); n != len(texts) {
		t.Fatal(n)
	}
}

// TestOneIDThroughTwoSubjectsAtOnce sends each message many times at the same
// time, before and after a login.
func TestOneIDThroughTwoSubjectsAtOnce(t *testing.T) {
	e := ingesttest.Start(t)
	const senders, messages = 8, 100
	var wg sync.WaitGroup
	var mu sync.Mutex
	var total ingest.Outcome
	for sender := range senders {
		wg.Go(func() {
			var texts []string
			for i := range messages {
				who := `"anonymousId":"a"`
				if sender%2 == 0 {
					who = fmt.Sprintf(`"anonymousId":"a","userId":"u%d"`, sender)
				}
				// Each sender begins elsewhere, so that calls wait for each other crosswise.
				texts = append(texts, fmt.Sprintf(`{"type":"track","messageId":"m%d","event":"E",%s}`, (i+sender*13)%messages, who))
			}
			for part := range slices.Chunk(texts, 10) {
				out, err := e.Service.Ingest(context.Background(), &ingest.Batch{Source: "shop", Messages: parse(t, part...)}, 0)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				total.Accepted += out.Accepted
				total.Duplicates += out.Duplicates
				total.Rejected += out.Rejected
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	check(t, total, messages, (senders-1)*messages, 0)
	if n := len(e.Touchpoints(t)); n != messages {
		t.Fatalf("%d touchpoints", n)
	}
}

// gate is a log whose appends wait, and fail, as a test says.
type gate struct {
	ingest.Log
	entered chan struct{}
	answer  chan error
}

func (g *gate) AppendMany(ctx context.Context, parts []eventstore.Append) ([]eventstore.Result, error) {
	g.entered <- struct{}{}
	if err := <-g.answer; err != nil {
		return nil, err
	}
	return g.Log.AppendMany(ctx, parts)
}

func TestTheSecondWaitsForTheFirst(t *testing.T) {
	g := &gate{entered: make(chan struct{}), answer: make(chan error)}
	e := ingesttest.Start(t, func(c *ingest.Config) { g.Log = c.Log; c.Log = g })
	errFull := errors.New("disk full")
	type result struct {
		out ingest.Outcome
		err error
	}
	call := func(user string) <-chan result {
		done := make(chan result, 1)
		msgs := parse(t, strings.Replace(purchase, `"u"`, `"`+user+`"`, 1))
		go func() {
			out, err := e.Service.Ingest(context.Background(), &ingest.Batch{Source: "shop", Messages: msgs}, 0)
			done <- result{out, err}
		}()
		return done
	}
	first := call("u")
	<-g.entered
	second, third := call("v"), call("w")
	g.answer <- errFull
	if r := <-first; !errors.Is(r.err, errFull) {
		t.Fatalf("%+v", r)
	}
	<-g.entered // one of the others tries, the last one waits
	g.answer <- nil
	a, b := <-second, <-third
	if a.err != nil || b.err != nil || a.out.Accepted+b.out.Accepted != 1 || a.out.Duplicates+b.out.Duplicates != 1 || a.out.Position != b.out.Position {
		t.Fatalf("%+v %+v", a, b)
	}
}

func TestACallerThatHangsUpLosesNothing(t *testing.T) {
	e := ingesttest.Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	out, err := e.Service.Ingest(ctx, &ingest.Batch{Source: "shop", Messages: parse(t, purchase)}, 0)
	if err != nil {
		t.Fatal(err)
	}
	check(t, out, 1, 0, 0)
}

// TestArrivalChangesNothing is promise 2 for the log: however a set of messages
// is shuffled, repeated and cut into batches, the same events are in the log.
func TestArrivalChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 25).Draw(t, "messages")
		texts := make([]string, n)
		for i := range texts {
			kind := rapid.SampledFrom([]string{"track", "page", "identify", "alias", "nonsense"}).Draw(t, "type")
			texts[i] = fmt.Sprintf(`{"type":%q,"messageId":"m%d","event":"E","userId":"u%d","anonymousId":%d,"previousId":"p","timestamp":"2026-02-0%dT00:00:00Z"}`,
				kind, i, rapid.IntRange(0, 3).Draw(t, "user"), rapid.IntRange(0, 3).Draw(t, "anon"), 1+i%9)
		}
		logOf := func(sequence []string, cut func(left int) int) string {
			e := ingesttest.New(t)
			defer func() { _ = e.Store.Close() }()
			for len(sequence) > 0 {
				size := cut(len(sequence))
				send(t, e, sequence[:size]...)
				sequence = sequence[size:]
			}
			var events []string
			for _, tp := range e.Touchpoints(t) {
				events = append(events, fmt.Sprintf("%s %s %s %s %x", tp.Event.ID, tp.Event.Type, tp.Event.Stream, tp.Event.Data, tp.Event.Metadata))
			}
			for _, r := range e.Rejects(t) {
				events = append(events, fmt.Sprintf("reject %s %s %s", r.ID, r.Code, r.Raw))
			}
			slices.Sort(events)
			return strings.Join(events, "\n")
		}
		want := logOf(texts, func(left int) int { return left })
		repeats := rapid.SliceOfN(rapid.SampledFrom(texts), 0, 20).Draw(t, "repeats")
		shuffled := rapid.Permutation(append(slices.Clone(texts), repeats...)).Draw(t, "order")
		got := logOf(shuffled, func(left int) int { return rapid.IntRange(1, left).Draw(t, "batch") })
		if got != want {
			t.Fatalf("the log holds\n%s\nwant\n%s", got, want)
		}
	})
}

func TestReplay(t *testing.T) {
	e := ingesttest.Start(t)
	ctx := t.Context()
	b := &ingest.Batch{
		Source: "shop", SentAt: ingest.Scalar(`"2026-03-01T12:00:10Z"`), Context: []byte(`{"ip":"::1"}`),
		Messages: parse(t, `{"type":"page","userId":"u","timestamp":"2026-03-01T12:00:00Z"}`, `{"type":"bad","userId":"u"}`, purchase),
	}
	// Behind the limit: rejects that can be used as soon as they come alone.
	if _, err := e.Service.Ingest(ctx, b, 0); err != nil {
		t.Fatal(err)
	}
	b.Messages = append(b.Messages[:0], parse(t, `{"type":"page","messageId":"first","userId":"u"}`, `{"type":"page","userId":"late","timestamp":"2026-03-01T12:00:00Z"}`)...)
	out, err := e.Service.Ingest(ctx, b, 1)
	if err != nil {
		t.Fatal(err)
	}
	check(t, out, 1, 0, 1)
	before := e.Rejects(t)
	if len(before) != 2 || before[0].Code != ingest.CodeBatchTooLong || before[0].Replayed {
		t.Fatalf("%+v", before)
	}

	e.Clock.T = e.Clock.T.Add(48 * time.Hour)
	var seen ingest.ReplayResult
	result, err := e.Service.Replay(ctx, ingest.ReplayFilter{}, func(r ingest.ReplayResult) { seen = r })
	if err != nil || result != (ingest.ReplayResult{Replayed: 1, Failed: 1}) || seen != result {
		t.Fatalf("%+v %+v %v", result, seen, err)
	}
	tps := e.Touchpoints(t)
	got := tps[len(tps)-1]
	if got.UserID != "late" || got.ReceivedAt != domain.MillisOf(ingesttest.Now) || got.MessageID != before[0].MessageID ||
		got.OccurredAt.String() != "2026-03-01T11:59:50.000Z" || got.SentAt != "2026-03-01T12:00:10Z" || got.BatchContext != `{"ip":"::1"}` ||
		got.Event.ID != domain.EventID("shop", before[0].MessageID) {
		t.Fatalf("%+v", got.Header)
	}
	after := e.Rejects(t)
	if len(after) != 2 || !after[0].Replayed || after[1].Replayed || after[0].ID != before[0].ID {
		t.Fatalf("%+v", after)
	}

	head, _ := e.Store.Head(ctx)
	result, err = e.Service.Replay(ctx, ingest.ReplayFilter{}, nil)
	if err != nil || result != (ingest.ReplayResult{Already: 1, Failed: 1}) {
		t.Fatalf("%+v %v", result, err)
	}
	if again, _ := e.Store.Head(ctx); again != head {
		t.Fatalf("a second replay moved the log from %d to %d", head, again)
	}
}

// TestReplayAfterABreak replays a reject whose touchpoint is in the log already,
// as a replay leaves it that was broken off before it could mark the reject.
func TestReplayAfterABreak(t *testing.T) {
	e := ingesttest.Start(t)
	text := `{"type":"page","messageId":"m","userId":"u"}`
	other := `{"type":"page","messageId":"n","userId":"u"}`
	for range 2 {
		b := &ingest.Batch{Source: "shop", Messages: parse(t, "0", text, other)}
		if _, err := e.Service.Ingest(t.Context(), b, 1); err != nil {
			t.Fatal(err)
		}
	}
	send(t, e, text)
	rejects := e.Rejects(t)
	if len(rejects) != 4 {
		t.Fatalf("%d rejects", len(rejects))
	}
	index := slices.IndexFunc(rejects, func(r ingest.Reject) bool { return r.MessageID == "m" })
	filter := ingest.ReplayFilter{IDs: []uuid.UUID{rejects[index].ID}}
	result, err := e.Service.Replay(t.Context(), filter, nil)
	if err != nil || result != (ingest.ReplayResult{Replayed: 1}) || len(e.Touchpoints(t)) != 1 {
		t.Fatalf("%+v %v", result, err)
	}
	for _, f := range []ingest.ReplayFilter{{Source: "app"}, {Code: ingest.CodeBadTime}} {
		if result, err := e.Service.Replay(t.Context(), f, nil); err != nil || result != (ingest.ReplayResult{}) {
			t.Fatalf("%+v %v", result, err)
		}
	}
	result, err = e.Service.Replay(t.Context(), ingest.ReplayFilter{Source: "shop", Code: ingest.CodeBatchTooLong}, nil)
	if err != nil || result != (ingest.ReplayResult{Replayed: 1, Already: 1}) {
		t.Fatalf("%+v %v", result, err)
	}
}

// TestReplayGoesByThePolicyInForce replays under a list of values that are no
// identity that grows and shrinks between.
func TestReplayGoesByThePolicyInForce(t *testing.T) {
	var listed string
	e := ingesttest.Start(t, func(c *ingest.Config) {
		c.Nobody = func(v string) bool { return domain.NoIdentity(v) || v == listed }
	})
	replay := func(want ingest.ReplayResult) {
		t.Helper()
		if got, err := e.Service.Replay(t.Context(), ingest.ReplayFilter{}, nil); err != nil || got != want {
			t.Fatalf("%+v %v, want %+v", got, err, want)
		}
	}
	text := `{"type":"page","messageId":"m","userId":"guest"}`
	listed = "guest"
	check(t, send(t, e, text), 0, 0, 1)
	replay(ingest.ReplayResult{Failed: 1})
	listed = ""
	replay(ingest.ReplayResult{Replayed: 1})
	if tps := e.Touchpoints(t); len(tps) != 1 || tps[0].UserID != "guest" {
		t.Fatalf("%+v", tps)
	}
	// A reject for another reason, whose value is listed since.
	late := parse(t, "0", `{"type":"page","messageId":"n","userId":"kiosk","anonymousId":"a"}`)
	if _, err := e.Service.Ingest(t.Context(), &ingest.Batch{Source: "shop", Messages: late}, 1); err != nil {
		t.Fatal(err)
	}
	listed = "kiosk"
	replay(ingest.ReplayResult{Replayed: 1, Already: 1, Failed: 1})
	if tps := e.Touchpoints(t); len(tps) != 2 || tps[1].UserID != "" || tps[1].AnonymousID != "a" {
		t.Fatalf("%+v", tps)
	}
}

func TestReplayKeepsTheTypeOfTheEndpoint(t *testing.T) {
	e := ingesttest.Start(t)
	msgs := parse(t, `{"messageId":"m","userId":"u"}`, `{"messageId":"n","userId":"u"}`)
	msgs[0].Kind, msgs[1].Kind = domain.Page, domain.Screen
	if _, err := e.Service.Ingest(t.Context(), &ingest.Batch{Source: "shop", Messages: msgs}, 1); err != nil {
		t.Fatal(err)
	}
	if result, err := e.Service.Replay(t.Context(), ingest.ReplayFilter{}, nil); err != nil || result.Replayed != 1 {
		t.Fatalf("%+v %v", result, err)
	}
	if tps := e.Touchpoints(t); tps[1].Kind != domain.Screen {
		t.Fatal(tps[1].Kind)
	}
}

func TestRejectsPages(t *testing.T) {
	e := ingesttest.Start(t)
	if page, err := e.Service.Rejects(t.Context(), "", 10); err != nil || len(page.Rejects) != 0 || page.Next != "" {
		t.Fatalf("%+v %v", page, err)
	}
	for i := range 7 {
		send(t, e, fmt.Sprintf(`{"messageId":"m%d","userId":"u"}`, i))
	}
	var got []string
	for cursor, pages := "", 0; ; pages++ {
		page, err := e.Service.Rejects(t.Context(), cursor, 3)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Rejects {
			got = append(got, r.MessageID)
		}
		if cursor = page.Next; cursor == "" {
			if pages != 2 {
				t.Fatalf("%d pages", pages+1)
			}
			break
		}
		send(t, e, fmt.Sprintf(`{"messageId":"new%d","userId":"u"}`, pages))
	}
	if s := strings.Join(got, " "); s != "m6 m5 m4 m3 m2 m1 m0" {
		t.Fatal(s)
	}
	for _, bad := range []string{"x", "-1", "0", "99999999999999999999999"} {
		if _, err := e.Service.Rejects(t.Context(), bad, 3); !errors.Is(err, ingest.ErrCursor) {
			t.Errorf("cursor %q: %v", bad, err)
		}
	}
}

// A message that was on its way before it came here has its own time of receipt;
// its sender's clock is judged by that, and so is it if it becomes a reject.
func TestAMessageWithItsOwnTimeOfReceipt(t *testing.T) {
	e := ingesttest.Start(t)
	msgs := parse(t,
		`{"type":"page","messageId":"a","userId":"u","timestamp":"2026-03-01T10:00:00Z","sentAt":"2026-03-01T10:00:05Z"}`,
		`{"type":"page","messageId":"b","userId":"u"}`, `{"type":"page","messageId":"c"}`)
	own := domain.MillisOf(ingesttest.Now.Add(-time.Hour))
	msgs[0].ReceivedAt, msgs[2].ReceivedAt = own, own
	out, err := e.Service.Ingest(t.Context(), &ingest.Batch{Source: "shop", Messages: msgs}, 0)
	if err != nil {
		t.Fatal(err)
	}
	check(t, out, 2, 0, 1)
	all := e.Touchpoints(t)
	if all[0].ReceivedAt != own || all[0].OccurredAt != own-5000 {
		t.Errorf("with its own: %+v", all[0].Header)
	}
	if now := domain.MillisOf(ingesttest.Now); all[1].ReceivedAt != now || all[1].OccurredAt != now {
		t.Errorf("without: %+v", all[1].Header)
	}
	if r := e.Rejects(t); !r[0].ReceivedAt.Equal(own.Time()) {
		t.Errorf("the reject: %v", r[0].ReceivedAt)
	}
}
