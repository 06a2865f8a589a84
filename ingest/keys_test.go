package ingest_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"sojourn/domain"
	"sojourn/ingest"
	"sojourn/ingest/internal/ingesttest"
)

func TestKeys(t *testing.T) {
	e := ingesttest.Start(t)
	ctx := t.Context()
	key, info, err := e.Keys.Create(ctx, "app")
	if err != nil || !regexp.MustCompile(`^[0-9A-Za-z]{43}$`).MatchString(key) || info.Source != "app" || !regexp.MustCompile(`^[0-9a-f]{16}$`).MatchString(info.ID) {
		t.Fatalf("%q %+v %v", key, info, err)
	}
	second, _, err := e.Keys.Create(ctx, "app")
	if err != nil || second == key {
		t.Fatal(second, err)
	}
	for k, want := range map[string]string{key: "app", second: "app", e.Key: "shop", "": "", "x": "", key[:42]: ""} {
		if source, err := e.Keys.Source(k); source != want || (err == nil) != (want != "") {
			t.Errorf("%q is %q %v", k, source, err)
		}
	}
	if list := e.Keys.List(); len(list) != 3 || list[0].Source != "app" || list[2].Source != "shop" || !list[0].CreatedAt.Equal(ingesttest.Now) {
		t.Fatalf("%+v", list)
	}
	for ev, err := range e.Store.ReadAll(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(ev.Data)+string(ev.Metadata), key) {
			t.Fatal("the log holds a key")
		}
		if ev.Stream != domain.StreamWriteKeys || ev.Type != domain.TypeWriteKeyCreated {
			t.Fatalf("%s in %s", ev.Type, ev.Stream)
		}
	}

	revoked, err := e.Keys.Revoke(ctx, info.ID)
	if err != nil || len(revoked) != 1 || revoked[0].RevokedAt.IsZero() {
		t.Fatalf("%+v %v", revoked, err)
	}
	if _, err := e.Keys.Source(key); err == nil {
		t.Fatal("a revoked key is good")
	}
	if _, err := e.Keys.Revoke(ctx, info.ID); !errors.Is(err, ingest.ErrNoSuchKey) {
		t.Fatal(err)
	}
	again, err := ingest.LoadKeys(ctx, e.Store, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Source(key); err == nil {
		t.Fatal("after a start a revoked key is good")
	}
	if source, err := again.Source(second); err != nil || source != "app" {
		t.Fatal("after a start a good key is unknown")
	}
	if revoked, err := again.Revoke(ctx, second); err != nil || len(revoked) != 1 {
		t.Fatalf("by the key itself: %+v %v", revoked, err)
	}
	for range 2 {
		if _, _, err := again.Create(ctx, "app"); err != nil {
			t.Fatal(err)
		}
	}
	if revoked, err := again.Revoke(ctx, "app"); err != nil || len(revoked) != 2 {
		t.Fatalf("by source: %+v %v", revoked, err)
	}
	if n := len(again.List()); n != 5 {
		t.Fatalf("%d keys listed", n)
	}
}

func TestSourceNames(t *testing.T) {
	e := ingesttest.Start(t)
	for name, want := range map[string]bool{
		"shop": true, "Shop-2.eu_west": true, "1": true, strings.Repeat("a", 64): true,
		"": false, strings.Repeat("a", 65): false, "-a": false, ".": false, "a b": false, "ä": false, "a/b": false, "a\n": false,
	} {
		_, _, err := e.Keys.Create(t.Context(), name)
		if (err == nil) != want || err != nil && !errors.Is(err, ingest.ErrSourceName) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
