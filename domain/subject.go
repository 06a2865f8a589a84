package domain

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
	"unique"
)

// SubjectKind says whose identifier a subject is: one of the kinds below, or the
// type of an external id (context.externalIds), such as "ios.idfa".
type SubjectKind string

// The kinds of subject that have a name of their own.
const (
	User   SubjectKind = "user"   // a user id of the organisation
	Anon   SubjectKind = "anon"   // an anonymous id of a visitor
	Email  SubjectKind = "email"  // an e-mail address, in lower case
	Phone  SubjectKind = "phone"  // a telephone number, E.164
	Device SubjectKind = "device" // an id of a device
)

// accountKind begins what names an account in a question, and so is no kind of
// subject.
const accountKind SubjectKind = "account"

// MaxSubjectKind is the length of a kind of subject in bytes.
const MaxSubjectKind = 40

// ParseSubjectKind reads a kind of subject, in any case: letters, digits, '_'
// and '.', a letter first. "account" is none.
func ParseSubjectKind(s string) (SubjectKind, bool) {
	if s == "" || len(s) > MaxSubjectKind {
		return "", false
	}
	upper := false
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z':
		case c >= 'A' && c <= 'Z':
			upper = true
		case i > 0 && (c >= '0' && c <= '9' || c == '_' || c == '.'):
		default:
			return "", false
		}
	}
	if upper {
		s = strings.ToLower(s)
	}
	return SubjectKind(s), SubjectKind(s) != accountKind
}

// Subject is one identifier that touchpoints are recorded under or that an
// identity event names.
type Subject struct {
	Kind  SubjectKind
	Value string
}

// String is the form used in questions and in the subject column: "user:42".
func (s Subject) String() string { return string(s.Kind) + ":" + s.Value }

// excerptSize is how much of an input an error text repeats, in characters.
const excerptSize = 200

// Excerpt is what an error text repeats of an input: its first 200 characters,
// and "…" where there are more.
func Excerpt(s string) string {
	n := 0
	for i := range s {
		if n == excerptSize {
			return s[:i] + "…"
		}
		n++
	}
	return s
}

// ParseSubject reads "kind:value" and normalises both. The value may hold colons.
func ParseSubject(s string) (Subject, error) {
	name, value, ok := strings.Cut(s, ":")
	if !ok || value == "" {
		return Subject{}, fmt.Errorf("%q is no subject: write its kind, a colon and its value, such as user:42 or email:ada@example.com", Excerpt(s))
	}
	kind, ok := ParseSubjectKind(name)
	if kind == accountKind {
		return Subject{}, fmt.Errorf("%q is an account, not a customer", Excerpt(s))
	}
	if !ok {
		return Subject{}, fmt.Errorf("%q is no kind of subject: use user, anon, email, phone, device or the type of an external id "+
			"(letters, digits, _ and ., a letter first, at most %d)", Excerpt(name), MaxSubjectKind)
	}
	subject, ok := Normalise(kind, value)
	if ok {
		return subject, nil
	}
	switch kind {
	case Email:
		return Subject{}, fmt.Errorf("%q is no e-mail address: write it with one @ and at most %d bytes", Excerpt(value), maxEmail)
	case Phone:
		return Subject{}, fmt.Errorf("%q is no telephone number: write it with its country, such as +49 30 1234567", Excerpt(value))
	}
	return Subject{}, fmt.Errorf("%q names nobody: empty, null, undefined, anonymous, -1 and what is only zeros and dashes are no identity", Excerpt(value))
}

// ParseAccount reads "account:<groupId>", the kind in any case.
func ParseAccount(s string) (groupID string, err error) {
	name, groupID, ok := strings.Cut(s, ":")
	if !ok || !strings.EqualFold(name, string(accountKind)) {
		return "", fmt.Errorf("%q is no account: write account: and its groupId, such as account:acme", Excerpt(s))
	}
	if NoIdentity(groupID) {
		return "", fmt.Errorf("%q names no account: empty, null, undefined, anonymous, -1 and what is only zeros and dashes are no identity", Excerpt(groupID))
	}
	return groupID, nil
}

// Normalise makes the subject of a value as it was sent, so that two spellings
// of one identifier are one subject: e-mail addresses are trimmed and in lower
// case, telephone numbers are E.164, the others are as sent. ok is false where
// the value names nobody: it is no identity (NoIdentity), no e-mail address, or
// a telephone number whose country is unknown. The kind is taken as it is; what
// Normalise has made it leaves alone.
func Normalise(kind SubjectKind, value string) (s Subject, ok bool) {
	if NoIdentity(value) {
		return Subject{}, false
	}
	switch kind {
	case Email:
		value, ok = normaliseEmail(value)
	case Phone:
		value, ok = normalisePhone(value)
	default:
		ok = true
	}
	if !ok {
		return Subject{}, false
	}
	return Subject{kind, value}, true
}

// maxEmail is the length of an e-mail address in bytes (RFC 5321).
const maxEmail = 254

func normaliseEmail(s string) (string, bool) {
	if !utf8.ValidString(s) {
		return "", false // lower case would make two of these one
	}
	s = strings.ToLower(strings.TrimSpace(s))
	local, host, ok := strings.Cut(s, "@")
	return s, ok && local != "" && host != "" && !strings.Contains(host, "@") && len(s) <= maxEmail
}

// The digits of a telephone number with its country (E.164 allows 15).
const (
	minPhone = 8
	maxPhone = 15
)

func normalisePhone(s string) (string, bool) {
	// "+44 (0)20 …": the zero is dialled within the country only.
	s = strings.Replace(s, "(0)", "", 1)
	buf := make([]byte, 0, len("00")+maxPhone)
	for _, r := range s {
		switch {
		case r >= '0' && r <= '9' || r == '+' && len(buf) == 0:
			if len(buf) == cap(buf) {
				return "", false
			}
			buf = append(buf, byte(r))
		case unicode.IsSpace(r), unicode.Is(unicode.Pd, r), strings.ContainsRune("./()", r):
		default:
			return "", false
		}
	}
	number := string(buf)
	if rest, ok := strings.CutPrefix(number, "00"); ok {
		number = "+" + rest
	}
	digits := len(number) - len("+")
	ok := digits >= minPhone && digits <= maxPhone && number[0] == '+' && number[1] != '0'
	return number, ok
}

// NoIdentity reports whether a value names nobody, whatever its kind: null,
// undefined, anonymous and -1, in any case and with white space around it, and
// what is empty or only zeros and dashes. It allocates nothing.
func NoIdentity(value string) bool {
	if value == "" {
		return true
	}
	// Most identifiers begin with a character that none of those begins with.
	switch value[0] {
	case 'n', 'N', 'u', 'U', 'a', 'A', '-', '0', ' ', '\t', '\n', '\v', '\f', '\r':
	default:
		if value[0] < utf8.RuneSelf {
			return false
		}
	}
	t := strings.TrimSpace(value)
	switch len(t) {
	case len("-1"), len("null"), len("undefined"): // and "anonymous"
		if t == "-1" || strings.EqualFold(t, "null") || strings.EqualFold(t, "undefined") || strings.EqualFold(t, "anonymous") {
			return true
		}
	}
	return strings.Trim(t, "0-") == ""
}

// streamHash is the length of the hash that ends the name of a subject's stream.
const streamHash = 32

// lowerHex says of each byte whether it is a hexadecimal digit as streams have them: a
// table, because digits and letters that come as they like cannot be foreseen.
var lowerHex = func() (is [256]bool) {
	for _, c := range []byte("0123456789abcdef") {
		is[c] = true
	}
	return is
}()

// SubjectStream reports whether a stream's name is one that Keyer.Stream makes,
// and for which kind. The kind shares no memory with the name.
func SubjectStream(stream string) (SubjectKind, bool) {
	n := len(stream) - streamHash - len("-")
	if n < 0 || stream[n] != '-' {
		return "", false
	}
	for i := n + 1; i < len(stream); i++ {
		if !lowerHex[stream[i]] {
			return "", false
		}
	}
	name := stream[:n]
	switch k := SubjectKind(name); k {
	case User:
		return User, true
	case Anon:
		return Anon, true
	}
	if k, ok := ParseSubjectKind(name); !ok || string(k) != name {
		return "", false
	}
	return SubjectKind(unique.Make(name).Value()), true
}
