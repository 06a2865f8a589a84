package kafkasource

import (
	"bytes"
	"encoding/base64"
	"mime"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"sojourn/domain"
	"sojourn/domain/policy"
	"sojourn/ingest"
)

// cloudEvent makes a message of a CloudEvent 1.0, by the Kafka protocol binding:
// in structured mode the content-type header begins with application/cloudevents
// (or is missing) and the value is the event; in binary mode each attribute is a
// header ce_NAME and the value is the data.
//
// An event whose type is one of Segment's (track, identify, …) carries a Segment
// message as its data. Any other is a track message named by its type, with the
// data as its properties, of data.userId, else the extension userid, else the
// subject. A mapping goes before.
func (m *mapper) cloudEvent(r *record) (ingest.Message, string) {
	in := &input{record: r, topic: m.topic, attributes: make(map[string]string)}
	whole := r.value
	contentType := ""
	for _, h := range r.headers {
		name := strings.ToLower(h.Key)
		switch attribute, ok := strings.CutPrefix(name, "ce_"); {
		case ok:
			in.attributes[attribute] = string(h.Value)
		case name == "content-type":
			contentType = string(h.Value)
		}
	}
	binary := in.attributes["specversion"] != "" && !strings.HasPrefix(contentType, "application/cloudevents")
	if binary {
		if contentType != "" {
			in.attributes["datacontenttype"] = contentType
		}
		in.value = data(r.value, contentType)
	} else {
		clear(in.attributes)
		if !valid(r.value) {
			return ingest.Message{}, "the value is not valid JSON"
		}
		in.structured()
	}
	if in.value == nil {
		return ingest.Message{}, "the CloudEvent's data is not what its content type says"
	}
	for _, needed := range []string{"specversion", "id", "source", "type"} {
		if in.attributes[needed] == "" {
			if binary {
				whole = in.value // JSON, as a reject must be that is to be replayed
			}
			return ingest.Unusable(whole, ingest.CodeUnknownType, "the message is no CloudEvent: it has no attribute "+needed), ""
		}
	}
	id := join([]string{in.attributes["source"], in.attributes["id"]})
	if kind, ok := domain.ParseKind(in.attributes["type"]); ok && in.value[0] == '{' {
		msg, err := ingest.ParseMessage(in.timed())
		if err != nil {
			return ingest.Message{}, "the CloudEvent's data is not valid JSON"
		}
		msg.Kind, msg.DefaultID = kind, id
		return msg, ""
	}
	return m.message(in, id)
}

// structured reads the attributes and the data of an event that is JSON.
func (in *input) structured() {
	in.value = []byte("null")
	gjson.ParseBytes(in.record.value).ForEach(func(name, v gjson.Result) bool {
		switch name.Str {
		case "data":
			in.value = []byte(v.Raw)
		case "data_base64":
			b, err := base64.StdEncoding.DecodeString(v.Str)
			if in.value = nil; err == nil {
				in.value = data(b, gjson.GetBytes(in.record.value, "datacontenttype").Str)
			}
		default:
			if v.Type != gjson.Null && v.Type != gjson.JSON {
				in.attributes[name.Str] = v.String()
			}
		}
		return true
	})
}

// data is the data of an event as JSON: itself where its content type is JSON or
// not said, a string where it is text, else base64. It is nil where the content
// type is JSON and the data is not.
func data(b []byte, contentType string) []byte {
	if len(b) == 0 {
		return []byte("null")
	}
	media, _, err := mime.ParseMediaType(contentType)
	if contentType == "" || err != nil || media == "application/json" || strings.HasSuffix(media, "+json") {
		if valid(b) {
			return bytes.Trim(b, space)
		}
		return nil
	}
	if strings.HasPrefix(media, "text/") {
		return quote(string(b))
	}
	return quote(base64.StdEncoding.EncodeToString(b))
}

// space is the white space of JSON.
const space = " \t\r\n"

// person is whom a CloudEvent is of.
func (in *input) person() (user, anonymous []byte) {
	at := func(root policy.RecordRoot, name string) []byte {
		return in.at(policy.RecordPath{Set: true, Root: root, Rest: name})
	}
	first := func(values ...[]byte) []byte {
		for _, v := range values {
			if v != nil {
				return v
			}
		}
		return nil
	}
	anonymous = first(at(policy.InValue, "anonymousId"), at(policy.InAttribute, "anonymousid"))
	user = first(at(policy.InValue, "userId"), at(policy.InAttribute, "userid"))
	if user == nil && anonymous == nil {
		user = at(policy.InAttribute, "subject")
	}
	return user, anonymous
}

// timed is the data, with the event's time where it has none of its own.
func (in *input) timed() []byte {
	t, ok := in.attributes["time"]
	if !ok {
		t, ok = in.record.time.UTC().Format(timeLayout), !in.record.time.IsZero()
	}
	if !ok || in.at(policy.RecordPath{Set: true, Rest: "timestamp"}) != nil {
		return in.value
	}
	b := append([]byte(`{"timestamp":`), quote(t)...)
	if rest := bytes.TrimLeft(in.value[1:], space); rest[0] != '}' {
		b = append(b, ',')
	}
	return append(b, in.value[1:]...)
}

func (in *input) appendAttributes(b []byte) []byte {
	names := make([]string, 0, len(in.attributes))
	for n := range in.attributes {
		names = append(names, n)
	}
	slices.Sort(names)
	b = append(b, '{')
	for i, n := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, quote(n)...), ':')
		b = append(b, quote(in.attributes[n])...)
	}
	return append(b, '}')
}
