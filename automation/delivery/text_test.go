package delivery

import (
	"encoding/json"
	"testing"
)

func TestText(t *testing.T) {
	for text, want := range map[string]string{
		`{"a":"b"}`:    `{"body":"{\"a\":\"b\"}"}`,
		"Grüße, 世界":    `{"body":"Grüße, 世界"}`,
		"":             `{}`,
		"cut \xe4\xb8": `{"body":{"base64":"Y3V0IOS4"}}`,
	} {
		got, err := json.Marshal(Message{Body: Text(text)})
		if err != nil || string(got) != want {
			t.Errorf("%q: %s, %v", text, got, err)
		}
		var back Message
		if err := json.Unmarshal(got, &back); err != nil || string(back.Body) != text {
			t.Errorf("%q came back as %q, %v", text, back.Body, err)
		}
	}
}
