package domain_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sojourn/domain"
)

func TestHeaderRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		str := rapid.StringN(0, 20, -1)
		h := domain.Header{
			Kind:        domain.Kind(rapid.IntRange(1, 6).Draw(t, "kind")),
			Flags:       domain.Flags(rapid.Uint8().Draw(t, "flags")),
			OccurredAt:  domain.Millis(rapid.Int64().Draw(t, "occurred")),
			ReceivedAt:  domain.Millis(rapid.Int64().Draw(t, "received")),
			Source:      str.Draw(t, "source"),
			MessageID:   str.Draw(t, "message"),
			UserID:      str.Draw(t, "user"),
			AnonymousID: str.Draw(t, "anon"),
			PreviousID:  str.Draw(t, "previous"),
			Name:        str.Draw(t, "name"),
			SentAt:      str.Draw(t, "sent"), BatchContext: str.Draw(t, "context"), BatchIntegrations: str.Draw(t, "integrations"),
		}
		b := h.Append(nil)
		got, err := domain.ParseHeader(string(b))
		if err != nil || got != h {
			t.Fatalf("got %+v, %v, want %+v", got, err, h)
		}
		cut := rapid.IntRange(0, len(b)-1).Draw(t, "cut")
		if _, err := domain.ParseHeader(string(b[:cut])); err == nil {
			t.Fatalf("a header cut at %d of %d bytes was read", cut, len(b))
		}
	})
}

func TestStreamHidesTheValue(t *testing.T) {
	k := domain.NewKeyer([]byte("0123456789abcdef0123456789abcdef"))
	s := k.Stream(domain.Subject{Kind: domain.User, Value: "ada@example.com"})
	if strings.Contains(s, "ada") || len(s) != len("user-")+32 {
		t.Fatalf("stream %q", s)
	}
	if kind, ok := domain.SubjectStream(s); !ok || kind != domain.User {
		t.Fatalf("SubjectStream(%q) = %q, %v", s, kind, ok)
	}
	if s == k.Stream(domain.Subject{Kind: domain.Anon, Value: "ada@example.com"}) {
		t.Fatal("a user and a visitor of one value share a stream")
	}
	other := domain.NewKeyer([]byte("another key of thirty-two bytes."))
	if s == other.Stream(domain.Subject{Kind: domain.User, Value: "ada@example.com"}) {
		t.Fatal("the stream does not depend on the key")
	}
}

// TestIDsAreFixed pins names that are in every log: they must never change.
func TestIDsAreFixed(t *testing.T) {
	k := domain.NewKeyer([]byte("0123456789abcdef0123456789abcdef"))
	mac := hmac.New(sha256.New, []byte("0123456789abcdef0123456789abcdef"))
	mac.Write([]byte("user:42"))
	want := "user-" + hex.EncodeToString(mac.Sum(nil)[:16])
	for range 3 {
		if got := k.Stream(domain.Subject{Kind: domain.User, Value: "42"}); got != want {
			t.Fatalf("stream %q, want %q", got, want)
		}
		k.Stream(domain.Subject{Kind: domain.Anon, Value: strings.Repeat("long", 1000)})
	}
	ns := uuid.MustParse("5f0c7c9a-6a4e-5d0e-9a53-0d2a52a8c1e1")
	for _, id := range []string{"", "m1", strings.Repeat("m", 500)} {
		if got, want := domain.EventID("shop", id), uuid.NewSHA1(ns, []byte("shop\x00"+id)); got != want {
			t.Fatalf("event id %s, want %s", got, want)
		}
	}
}
