package domain_test

import (
	"strings"
	"testing"
	"unsafe"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sojourn/domain"
)

func TestParseSubject(t *testing.T) {
	for text, want := range map[string]domain.Subject{
		"user:a:b":                     {Kind: domain.User, Value: "a:b"},
		"user: a ":                     {Kind: domain.User, Value: " a "},
		"USER:A":                       {Kind: domain.User, Value: "A"},
		"anon:8f3a":                    {Kind: domain.Anon, Value: "8f3a"},
		"email: Ada@Example.COM ":      {Kind: domain.Email, Value: "ada@example.com"},
		"phone:+49 (30) 123-45.67":     {Kind: domain.Phone, Value: "+49301234567"},
		"device:X":                     {Kind: domain.Device, Value: "X"},
		"ios.idfa:AB":                  {Kind: "ios.idfa", Value: "AB"},
		"ga_client_id2:GA1.1.42":       {Kind: "ga_client_id2", Value: "GA1.1.42"},
		strings.Repeat("k", 40) + ":v": {Kind: domain.SubjectKind(strings.Repeat("k", 40)), Value: "v"},
	} {
		if got, err := domain.ParseSubject(text); err != nil || got != want {
			t.Errorf("%q is %v, %v, want %v", text, got, err, want)
		}
	}
	for bad, hint := range map[string]string{
		"":                             "user:42",
		"user":                         "user:42",
		"user:":                        "user:42",
		"42":                           "user:42",
		":42":                          "no kind of subject: use user, anon, email",
		"the planet:earth":             "no kind of subject",
		"1st:x":                        "no kind of subject",
		".x:x":                         "no kind of subject",
		"_x:x":                         "no kind of subject",
		"ex-id:x":                      "no kind of subject",
		"übung:x":                      "no kind of subject",
		strings.Repeat("k", 41) + ":v": "no kind of subject",
		"user: NULL ":                  "names nobody",
		"Account:acme":                 "is an account",
		"ios.idfa:0000-0000":           "names nobody",
		"email:ada":                    "with one @",
		"phone:030 1234567":            "with its country",
	} {
		if got, err := domain.ParseSubject(bad); err == nil || !strings.Contains(err.Error(), hint) {
			t.Errorf("%q: %v, %v, want an error with %q", bad, got, err, hint)
		}
	}
}

func TestNormalise(t *testing.T) {
	local := strings.Repeat("l", 242)
	for _, tt := range []struct {
		kind        domain.SubjectKind
		value, want string // want is empty where nobody is named
	}{
		{domain.Email, "ada@example.com", "ada@example.com"},
		{domain.Email, "\t Ada.L@EXAMPLE.com\n", "ada.l@example.com"},
		{domain.Email, "ÄDA@example.com", "äda@example.com"},
		{domain.Email, "a@b", "a@b"},
		{domain.Email, local + "@example.com", local + "@example.com"}, // 254 bytes
		{domain.Email, local + "l@example.com", ""},
		{domain.Email, "ada", ""},
		{domain.Email, "@example.com", ""},
		{domain.Email, "ada@", ""},
		{domain.Email, "ada@x@y", ""},
		{domain.Email, "ada@@y", ""},
		{domain.Email, "a\xff@b", ""},
		{domain.Email, " undefined ", ""},

		{domain.Phone, "+493012345678", "+493012345678"},
		{domain.Phone, "  +49 30 / 123-456.78 ", "+493012345678"},
		{domain.Phone, "+49\u00a030\u2011123\u2013456", "+4930123456"},
		{domain.Phone, "0049 (30) 12345678", "+493012345678"},
		{domain.Phone, "(+1) 212-555-0100", "+12125550100"},
		{domain.Phone, "+44 (0)20 7946 0000", "+442079460000"},
		{domain.Phone, "+39 06 1234567", "+39061234567"},
		{domain.Phone, "+12345678", "+12345678"},
		{domain.Phone, "+1234567", ""},
		{domain.Phone, "+123456789012345", "+123456789012345"},
		{domain.Phone, "+1234567890123456", ""},
		{domain.Phone, "00123456789012345", "+123456789012345"},
		{domain.Phone, "001234567890123456", ""},
		{domain.Phone, "212-555-0100", ""},
		{domain.Phone, "030 12345678", ""},
		{domain.Phone, "+030 12345678", ""},
		{domain.Phone, "+49+3012345678", ""},
		{domain.Phone, "00+493012345678", ""},
		{domain.Phone, "+49 30 1234 ext 5", ""},
		{domain.Phone, "+49\u0663012345678", ""},
		{domain.Phone, "+", ""},
		{domain.Phone, "00", ""},
		{domain.Phone, "00000000000", ""},

		{domain.User, " u ", " u "},
		{domain.User, "U", "U"},
		{domain.User, "a@B", "a@B"},
		{domain.Anon, strings.Repeat("a", 5000), strings.Repeat("a", 5000)},
		{domain.Device, "00000000-0000-0000-0000-000000000000", ""},
		{domain.Device, "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000001"},
		{"ios.idfa", "AEBE", "AEBE"},
		{"ios.idfa", "Anonymous", ""},
		{domain.User, "", ""},
	} {
		got, ok := domain.Normalise(tt.kind, tt.value)
		want := domain.Subject{}
		if tt.want != "" {
			want = domain.Subject{Kind: tt.kind, Value: tt.want}
		}
		if got != want || ok != (tt.want != "") {
			t.Errorf("%s %q is %q, %v, want %q", tt.kind, tt.value, got.Value, ok, tt.want)
		}
	}
}

func TestNoIdentity(t *testing.T) {
	for _, v := range []string{
		"", " ", "null", "NULL", "\vnull\f", "undefined", " Undefined\n", "anonymous", "ANONYMOUS", "-1", " -1 ", "0", "-0", "00-00", "---",
		"\u00a0null\u2003",
	} {
		if !domain.NoIdentity(v) {
			t.Errorf("%q is an identity", v)
		}
	}
	for _, v := range []string{"1", "01", "-1x", "nullable", "nul", "anonymou", "u", "é", "undefine\u017f", " a "} {
		if domain.NoIdentity(v) {
			t.Errorf("%q is no identity", v)
		}
	}
	if n := testing.AllocsPerRun(100, func() { domain.NoIdentity(" undefined ") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestSubjectStream(t *testing.T) {
	k := domain.NewKeyer([]byte("0123456789abcdef0123456789abcdef"))
	hash := strings.Repeat("0a", 16)
	for _, kind := range []domain.SubjectKind{
		domain.User, domain.Anon, domain.Email, domain.Phone, domain.Device, "ios.idfa", "statements", "rejects", "k",
		domain.SubjectKind(strings.Repeat("k", domain.MaxSubjectKind)),
	} {
		stream := k.Stream(domain.Subject{Kind: kind, Value: "v"})
		if got, ok := domain.SubjectStream(stream); !ok || got != kind {
			t.Errorf("%s is a stream of %q, %v", stream, got, ok)
		}
		if id, ok := domain.StatementCustomer(stream); ok {
			t.Errorf("%s holds the statements of %s", stream, id)
		}
	}
	customer := uuid.New()
	if got, ok := domain.StatementCustomer(domain.StatementStream(customer)); !ok || got != customer {
		t.Errorf("%v, %v", got, ok)
	}
	for _, stream := range []string{
		"", "-", "user", "user-", hash, "-" + hash, "user-" + hash[1:], "user-" + hash + "0", "user" + hash, "user_" + hash,
		"user-" + strings.ToUpper(hash), "User-" + hash, "user-" + strings.Replace(hash, "a", "g", 1), "ex-id-" + hash, "1-" + hash,
		strings.Repeat("k", domain.MaxSubjectKind+1) + "-" + hash,
		domain.StatementStream(customer), domain.StatementStream(uuid.Nil),
		domain.StreamRejects, domain.StreamPolicy, domain.StreamPolicyFile, domain.StreamWriteKeys, domain.StreamIdentity,
	} {
		if kind, ok := domain.SubjectStream(stream); ok {
			t.Errorf("%q is a stream of %q", stream, kind)
		}
	}
}

// TestSubjectStreamSharesNothing reads a kind from memory that is used again.
func TestSubjectStreamSharesNothing(t *testing.T) {
	const hash = "-00112233445566778899aabbccddeeff"
	for _, kind := range []string{"user", "email", "ios.idfa"} {
		name := kind + hash
		if n := testing.AllocsPerRun(100, func() { domain.SubjectStream(name) }); n != 0 {
			t.Errorf("%s: %v allocations", kind, n)
		}
		if got, _ := domain.SubjectStream(name); unsafe.StringData(string(got)) == unsafe.StringData(name) {
			t.Errorf("%s: the kind shares the name's memory", kind)
		}
	}
}

func TestNormaliseIsDoneOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom([]domain.SubjectKind{domain.User, domain.Email, domain.Phone, "ios.idfa"}).Draw(t, "kind")
		value := rapid.OneOf(
			rapid.String(),
			rapid.StringMatching(`[ ]?[A-Za-zÀ-ÿ.]{0,5}@?@[A-Z.]{0,5}[ ]?`),
			rapid.StringMatching(`(\+|00|0)?[0-9]{0,3}( ?\(0?[0-9]{0,2}\))?[0-9 ./-]{0,16}`),
		).Draw(t, "value")
		s, ok := domain.Normalise(kind, value)
		if !ok {
			if s != (domain.Subject{}) {
				t.Fatalf("%q names nobody and is %v", value, s)
			}
			return
		}
		checkNormal(t, s)
	})
}

func checkNormal(t interface {
	Helper()
	Fatalf(format string, args ...any)
}, s domain.Subject,
) {
	t.Helper()
	if again, ok := domain.Normalise(s.Kind, s.Value); !ok || again != s {
		t.Fatalf("%q became %q, %v the second time", s, again, ok)
	}
	if read, err := domain.ParseSubject(s.String()); err != nil || read != s {
		t.Fatalf("%q was read back as %q, %v", s, read, err)
	}
	if domain.NoIdentity(s.Value) {
		t.Fatalf("%q is no identity", s)
	}
	if s.Kind == domain.Phone && (len(s.Value) < 9 || len(s.Value) > 16 || s.Value[0] != '+' || strings.Trim(s.Value[1:], "0123456789") != "") {
		t.Fatalf("%q is not E.164", s.Value)
	}
}

func FuzzParseSubject(f *testing.F) {
	for _, s := range []string{"user:42", "EMAIL: Ada@Example.com", "phone:0049 (0)30 123456-78", "ios.idfa:A", "email:\xff@b", "phone:+\u0661"} {
		f.Add(s)
	}
	k := domain.NewKeyer(make([]byte, domain.KeySize))
	f.Fuzz(func(t *testing.T, text string) {
		s, err := domain.ParseSubject(text)
		if err != nil {
			return
		}
		checkNormal(t, s)
		if kind, ok := domain.SubjectStream(k.Stream(s)); !ok || kind != s.Kind {
			t.Fatalf("the stream of %q is one of %q, %v", s, kind, ok)
		}
	})
}

func FuzzSubjectStream(f *testing.F) {
	for _, s := range []string{"user-00112233445566778899aabbccddeeff", "ios.idfa-00112233445566778899aabbccddeeff", "statements-00000000-0000-0000-0000-000000000000"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, stream string) {
		kind, ok := domain.SubjectStream(stream)
		if !ok {
			return
		}
		if back, ok := domain.ParseSubjectKind(string(kind)); !ok || back != kind || len(stream) != len(kind)+33 || !strings.HasPrefix(stream, string(kind)+"-") {
			t.Fatalf("%q is a stream of %q", stream, kind)
		}
		if id, ok := domain.StatementCustomer(stream); ok {
			t.Fatalf("%q is a subject's and holds statements of %s", stream, id)
		}
	})
}

func TestAccounts(t *testing.T) {
	for text, want := range map[string]string{"account:acme": "acme", "Account: a:b ": " a:b ", "account:user": "user"} {
		if got, err := domain.ParseAccount(text); err != nil || got != want {
			t.Errorf("%q is %q, %v, want %q", text, got, err, want)
		}
	}
	for _, bad := range []string{"", "acme", "account", "account:", "account: null ", "accounts:acme", "user:acme"} {
		if got, err := domain.ParseAccount(bad); err == nil {
			t.Errorf("%q is the account %q", bad, got)
		}
	}
	// No external id has an account's stream, or its id.
	if _, ok := domain.ParseSubjectKind("Account"); ok {
		t.Error("account is a kind of subject")
	}
	k := domain.NewKeyer(make([]byte, domain.KeySize))
	stream := k.Stream(domain.Subject{Kind: "account", Value: "acme"})
	if _, ok := domain.SubjectStream(stream); ok {
		t.Errorf("%s is a subject's stream", stream)
	}
	if k.AccountID("acme") != domain.SubjectID(stream) || k.AccountID("acme") == k.AccountID("Acme") {
		t.Error("the id of an account is not that of its groupId")
	}
	if other := domain.NewKeyer([]byte("0123456789abcdef0123456789abcdef")); other.AccountID("acme") == k.AccountID("acme") {
		t.Error("another key gives the same id")
	}
}

func TestExcerpt(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "user:42": "user:42",
		strings.Repeat("ä", 200):    strings.Repeat("ä", 200),
		strings.Repeat("ä", 201):    strings.Repeat("ä", 200) + "…",
		strings.Repeat("x", 999):    strings.Repeat("x", 200) + "…",
		strings.Repeat("\xff", 300): strings.Repeat("\xff", 200) + "…",
	} {
		if got := domain.Excerpt(in); got != want {
			t.Errorf("%d bytes are cut to %q", len(in), got)
		}
	}
}
