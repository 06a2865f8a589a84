package customer

import "sojourn/domain/lifecycle"

// Edge is one message that names an anonymous visitor and a user.
type Edge struct {
	Ref   lifecycle.Ref
	Anon  string // the anonymousId of an identify, the previousId of an alias
	User  string
	Alias bool
}

// Joins says which user an anonymous visitor belongs to, given all the edges of
// that visitor in any order: the first by Ref decides, the others join nothing. An
// alias whose previousId is a user id in the log joins nothing either; userInLog
// is asked for such ids only.
func Joins(edges []Edge, userInLog func(value string) bool) (user string, ok bool) {
	var first lifecycle.Ref
	asked, known := false, false
	for _, e := range edges {
		if ok && first.Compare(e.Ref) <= 0 {
			continue
		}
		if e.Alias {
			if !asked {
				asked, known = true, userInLog(e.Anon)
			}
			if known {
				continue
			}
		}
		user, first, ok = e.User, e.Ref, true
	}
	return user, ok
}
