package projections

import (
	"strings"

	"github.com/tidwall/gjson"

	"sojourn/domain"
)

// namedBy are the subjects that an identify or an alias names beside its own,
// each once: its other ids, the device, the external ids of users, and the traits
// email and phone. The previousId of an alias is named twice, as the visitor and
// as the user it may be. Nothing shares memory with the message.
func namedBy(h *domain.Header, data []byte, keyer domain.Keyer) []named {
	own := h.Subject()
	var all []named
	add := func(kind domain.SubjectKind, value string) {
		s, ok := domain.Normalise(kind, value)
		if !ok || s == own {
			return
		}
		stream := keyer.Stream(s)
		for i := range all {
			if all[i].stream == stream && !all[i].alias {
				return
			}
		}
		all = append(all, named{stream: stream, value: strings.Clone(s.Value)})
	}
	if h.Kind == domain.Alias && h.PreviousID != "" {
		user := domain.Subject{Kind: domain.User, Value: strings.Clone(h.PreviousID)}
		twin := keyer.Stream(user)
		for _, s := range []domain.Subject{user, {Kind: domain.Anon, Value: user.Value}} {
			// Where the message names the visitor by its other id too, that says more.
			if s != own && (s.Kind != domain.Anon || s.Value != h.AnonymousID || own.Kind != domain.User) {
				all = append(all, named{stream: keyer.Stream(s), value: s.Value, alias: true, twin: twin})
			}
		}
	}
	if own.Kind == domain.User {
		add(domain.Anon, h.AnonymousID)
	}
	m := readMessage(data)
	if h.Kind == domain.Identify {
		traits := gjson.Parse(m.traits)
		add(domain.Email, text(traits, "email"))
		add(domain.Phone, text(traits, "phone"))
	}
	context := gjson.Parse(mergedContext(h.BatchContext, m.context))
	add(domain.Device, text(member(context, "device"), "id"))
	for _, id := range member(context, "externalIds").Array() {
		kind, ok := domain.ParseSubjectKind(text(id, "type"))
		if c := text(id, "collection"); ok && (c == "" || c == "users") {
			add(externalKind(kind), text(id, "id"))
		}
	}
	return all
}

// externalKind is the kind of an external id; a few of Segment's types are kinds
// of our own.
func externalKind(k domain.SubjectKind) domain.SubjectKind {
	switch k {
	case "user_id":
		return domain.User
	case "anonymous_id":
		return domain.Anon
	}
	return k
}

// member is a member of an object by its name, whatever characters that has.
func member(object gjson.Result, name string) (found gjson.Result) {
	if !object.IsObject() {
		return found
	}
	object.ForEach(func(k, v gjson.Result) bool {
		if k.Str == name {
			found = v // the last of several counts
		}
		return true
	})
	return found
}

// text is a member of an object that is a string or a number, as text.
func text(object gjson.Result, name string) string {
	switch v := member(object, name); v.Type {
	case gjson.String:
		return v.Str
	case gjson.Number:
		return v.Raw
	}
	return ""
}
