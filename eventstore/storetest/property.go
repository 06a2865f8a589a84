package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sojourn/eventstore"
)

// RunModel makes random calls on few streams and few ids, so that they collide
// in every way, and compares all answers with those of a model that is as plain
// as can be. It opens a hundred stores, or as many as -rapid.checks says.
func RunModel(t *testing.T, open Open) {
	rapid.Check(t, func(rt *rapid.T) {
		ctx := t.Context()
		s := open(t)
		defer func() {
			if err := s.Close(); err != nil {
				rt.Fatalf("close: %v", err)
			}
		}()
		m := &model{}
		var positions []eventstore.Position
		for range rapid.IntRange(1, 12).Draw(rt, "calls") {
			parts := rapid.SliceOfN(drawPart(m), 1, 4).Draw(rt, "parts")
			res, err := s.AppendMany(ctx, parts)
			if err != nil {
				rt.Fatal(err)
			}
			for i, p := range parts {
				before := len(m.log)
				want := m.append(p)
				got := res[i]
				if want.wrong {
					if !errors.Is(got.Err, eventstore.ErrWrongRevision) {
						rt.Fatalf("part %d: %+v, want a wrong revision", i, got)
					}
					continue
				}
				if got.Err != nil || got.Appended != want.appended || got.Revision != want.revision {
					rt.Fatalf("part %d: %+v, want %+v", i, got, want)
				}
				for range len(m.log) - before {
					positions = append(positions, 0)
				}
				if want.at >= 0 {
					if known := positions[want.at]; known != 0 && known != got.Position {
						rt.Fatalf("part %d: position %d, stood at %d before", i, got.Position, known)
					}
					positions[want.at] = got.Position
				}
			}
		}
		compare(rt, t, s, m, positions)
	})
}

func drawPart(m *model) *rapid.Generator[eventstore.Append] {
	return rapid.Custom(func(rt *rapid.T) eventstore.Append {
		p := eventstore.Append{Stream: fmt.Sprint("s", rapid.IntRange(0, 2).Draw(rt, "stream"))}
		switch rapid.IntRange(0, 5).Draw(rt, "expected") {
		case 0:
		case 1:
			p.Expected = eventstore.Any{}
		case 2:
			p.Expected = eventstore.NoStream{}
		case 3:
			p.Expected = eventstore.StreamExists{}
		case 4:
			p.Expected = eventstore.Revision(rapid.Uint64Range(0, 6).Draw(rt, "revision"))
		case 5: // close to the stream's end
			n := len(m.stream(p.Stream))
			p.Expected = eventstore.Revision(max(0, n-rapid.IntRange(0, 3).Draw(rt, "behind")))
		}
		if rapid.Bool().Draw(rt, "from the stream") {
			// Some events that the stream holds in order, and perhaps new ones.
			held := m.stream(p.Stream)
			from := rapid.IntRange(0, len(held)).Draw(rt, "from")
			to := rapid.IntRange(from, len(held)).Draw(rt, "to")
			for _, e := range held[from:to] {
				p.Events = append(p.Events, eventstore.NewEvent{ID: e.id, Type: "t", Data: []byte(e.data)})
			}
		}
		for range rapid.IntRange(0, 3).Draw(rt, "more") {
			p.Events = append(p.Events, event(fmt.Sprint("id", rapid.IntRange(0, 14).Draw(rt, "id"))))
		}
		return p
	})
}

// compare reads the whole store in every way and compares it with the model.
func compare(rt *rapid.T, t *testing.T, s eventstore.Store, m *model, positions []eventstore.Position) {
	ctx := t.Context()
	all := collect(t, s.ReadAll(ctx, 0))
	if len(all) != len(m.log) {
		rt.Fatalf("%d events, want %d", len(all), len(m.log))
	}
	streams := make(map[string][]eventstore.Recorded)
	for i, e := range all {
		want := m.log[i]
		if e.Stream != want.stream || e.ID != want.id || e.Revision != want.revision || e.Repeat != want.repeat || string(e.Data) != want.data {
			rt.Fatalf("event %d: %+v, want %+v", i, e, want)
		}
		if positions[i] != 0 && positions[i] != e.Position {
			rt.Fatalf("event %d stands at %d, the answer said %d", i, e.Position, positions[i])
		}
		streams[e.Stream] = append(streams[e.Stream], e)
	}
	for i := range 3 {
		name := fmt.Sprint("s", i)
		want := streams[name]
		if len(want) == 0 {
			if err := readError(t, s.ReadStream(ctx, name, 0, eventstore.Forwards)); !errors.Is(err, eventstore.ErrStreamNotFound) {
				rt.Fatalf("%s: %v", name, err)
			}
			continue
		}
		from := rapid.IntRange(0, len(want)).Draw(rt, "read from")
		same(rt, collect(t, s.ReadStream(ctx, name, uint64(from), eventstore.Forwards)), want[from:])
		backwards := slices.Clone(want[:min(from+1, len(want))])
		slices.Reverse(backwards)
		same(rt, collect(t, s.ReadStream(ctx, name, uint64(from), eventstore.Backwards)), backwards)
	}
	index, ok := s.(eventstore.IDIndex)
	if !ok {
		return
	}
	var ids []uuid.UUID
	want := make([]eventstore.Position, 15)
	for i := range want {
		ids = append(ids, id(fmt.Sprint("id", i)))
		for _, e := range slices.Backward(all) {
			if e.ID == ids[i] {
				want[i] = e.Position
			}
		}
	}
	got := make([]eventstore.Position, len(ids))
	if err := index.Lookup(ctx, ids, got); err != nil {
		rt.Fatal(err)
	}
	if !slices.Equal(got, want) {
		rt.Fatalf("lookup says %v, want %v", got, want)
	}
}

func same(rt *rapid.T, got, want []eventstore.Recorded) {
	rt.Helper()
	if len(got) != len(want) {
		rt.Fatalf("%d events, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i].ID != want[i].ID || got[i].Revision != want[i].Revision || got[i].Position != want[i].Position || !bytes.Equal(got[i].Data, want[i].Data) {
			rt.Fatalf("event %d: %+v, want %+v", i, got[i], want[i])
		}
	}
}
