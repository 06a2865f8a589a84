package policy

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"sojourn/domain"
)

// IdentityRules is the identity section of a policy made ready to ask. It is
// immutable and safe for concurrent use; its methods allocate nothing for values
// of up to 128 bytes.
type IdentityRules struct {
	ranks      map[domain.SubjectKind]int
	limits     map[domain.SubjectKind]int
	aliasUsers bool
	nobody     map[string]bool // in lower case; of telephone numbers E.164 as well
}

func (i Identities) compile() IdentityRules {
	r := IdentityRules{
		ranks:      make(map[domain.SubjectKind]int, len(i.Join)),
		limits:     make(map[domain.SubjectKind]int, len(i.Limits)),
		aliasUsers: i.AliasUsers,
		nobody:     make(map[string]bool, len(i.Nobody)),
	}
	for rank, name := range i.Join {
		if kind, ok := domain.ParseSubjectKind(name); ok {
			if _, ok := r.ranks[kind]; !ok {
				r.ranks[kind] = rank
			}
		}
	}
	for name, limit := range i.Limits {
		r.limits[domain.SubjectKind(name)] = limit
	}
	for _, value := range i.Nobody {
		r.nobody[string(appendLower(nil, strings.TrimSpace(value)))] = true
		// The values of subjects come normalised; of e-mail addresses that is the
		// lower case above.
		if s, ok := domain.Normalise(domain.Phone, value); ok {
			r.nobody[s.Value] = true
		}
	}
	return r
}

// Rank is the place of a kind among those that join customers by themselves, 0
// for the first. ok is false where the kind does not.
func (r *IdentityRules) Rank(kind domain.SubjectKind) (rank int, ok bool) {
	rank, ok = r.ranks[kind]
	return rank, ok
}

// Limit is how many subjects of a kind one customer may have, 0 for any number.
func (r *IdentityRules) Limit(kind domain.SubjectKind) int {
	if n, ok := r.limits[kind]; ok {
		return n
	}
	return otherLimit
}

// AliasUsers reports whether an alias may join two users.
func (r *IdentityRules) AliasUsers() bool { return r.aliasUsers }

// Nobody reports whether a value names nobody: it is no identity
// (domain.NoIdentity) or among the policy's own.
func (r *IdentityRules) Nobody(value string) bool {
	if domain.NoIdentity(value) {
		return true
	}
	if len(r.nobody) == 0 {
		return false
	}
	var buf [foldSize]byte
	return r.nobody[string(appendLower(buf[:0], strings.TrimSpace(value)))]
}

// appendLower appends s in lower case.
func appendLower(buf []byte, s string) []byte {
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			i++
			if c >= 'A' && c <= 'Z' {
				c += 'a' - 'A'
			}
			buf = append(buf, c)
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		i += size
		buf = utf8.AppendRune(buf, unicode.ToLower(r))
	}
	return buf
}
