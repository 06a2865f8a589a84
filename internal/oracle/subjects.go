package oracle

import (
	"cmp"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"sojourn/domain"
)

func compareSubjects(a, b domain.Subject) int {
	return cmp.Or(strings.Compare(string(a.Kind), string(b.Kind)), strings.Compare(a.Value, b.Value))
}

// recordedUnder is the user of a message, else its anonymous visitor: the hub of
// its joins.
func (t *Touchpoint) recordedUnder() domain.Subject {
	if t.User != "" {
		return domain.Subject{Kind: domain.User, Value: t.User}
	}
	return domain.Subject{Kind: domain.Anon, Value: t.Anon}
}

// others are the other subjects that an identify or an alias names, in the order
// in which they stand in a message, each once. isUser says which user ids have a
// touchpoint in the log.
func (t *Touchpoint) others(isUser map[string]bool) []domain.Subject {
	if t.Kind != domain.Identify && t.Kind != domain.Alias {
		return nil
	}
	var all []domain.Subject
	add := func(kind domain.SubjectKind, value string) {
		s := domain.Subject{Kind: kind, Value: normal(kind, value)}
		if !(Policy{}).isNobody(s) && s != t.recordedUnder() && !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	if t.Kind == domain.Alias {
		if isUser[t.Previous] {
			add(domain.User, t.Previous)
		} else {
			add(domain.Anon, t.Previous)
		}
	}
	add(domain.Anon, t.Anon)
	add(email, text(t.Traits["email"]))
	add(phone, text(t.Traits["phone"]))
	add(device, t.Device)
	for _, x := range t.ExternalIDs {
		kind := strings.ToLower(x.Type)
		if kindForm.MatchString(kind) && (x.Collection == "" || x.Collection == "users") {
			add(domain.SubjectKind(kind), x.ID)
		}
	}
	return all
}

var kindForm = regexp.MustCompile(`^[a-z0-9_.]+$`)

// text is the string in a JSON value, a number as its own text.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	var n json.Number
	if json.Unmarshal(raw, &n) == nil {
		return n.String()
	}
	return ""
}

// normal is the value of a subject as it counts, empty where it is none.
func normal(kind domain.SubjectKind, value string) string {
	switch kind {
	case email:
		address := strings.ToLower(strings.TrimSpace(value))
		if local, host, _ := strings.Cut(address, "@"); local == "" || host == "" || strings.Contains(host, "@") {
			return ""
		}
		return address
	case phone:
		value = strings.Replace(value, "(0)", "", 1)
		digits := separators.Replace(strings.TrimSpace(value))
		if rest, ok := strings.CutPrefix(digits, "00"); ok {
			digits = "+" + rest
		}
		if !e164.MatchString(digits) {
			return ""
		}
		return digits
	}
	return value
}

// separators are what may stand between the digits of a telephone number.
var separators = strings.NewReplacer(" ", "", "-", "", ".", "", "/", "", "(", "", ")", "")

var e164 = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)

// isNobody reports whether a value is no identity.
func (p Policy) isNobody(s domain.Subject) bool {
	value := strings.TrimSpace(s.Value)
	for _, word := range append([]string{"", "null", "undefined", "anonymous", "-1"}, p.Nobody...) {
		if strings.EqualFold(value, strings.TrimSpace(word)) || value != "" && value == normal(phone, word) {
			return true
		}
	}
	return strings.Trim(value, "0-") == ""
}

// limit is how many subjects of a kind one customer may have, and whether there is
// a limit.
func (p Policy) limit(kind domain.SubjectKind) (int, bool) {
	if n, ok := p.Limits[kind]; ok {
		return n, n > 0
	}
	switch kind {
	case domain.User:
		return 1, true
	case domain.Anon:
		return 0, false
	}
	return 5, true
}
