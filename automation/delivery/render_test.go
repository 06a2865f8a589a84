package delivery

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

func someData() Data {
	return Data{
		Delivery: "6f1c0d6e-0000-4000-8000-000000000001", Trigger: TriggerData{"welcome", "Welcome", 3}, Type: "stage.entered",
		At:    time.Date(2026, 3, 29, 0, 30, 0, 0, time.UTC),
		Event: &EventData{ID: "e1", Name: "Order Completed", Meaning: "purchase", Properties: json.RawMessage(`{"total":129.5,"items":3,"big":9007199254740993}`)},
		Customer: CustomerData{
			ID: "c1", Stage: "customer", Timezone: "Europe/Berlin", Segments: []string{"a", "b"},
			Traits: map[string]json.RawMessage{
				"email": json.RawMessage(`"ada@example.com"`), "name": json.RawMessage(`"Ada <b>\"L\"</b>"`),
				"nothing": json.RawMessage(`null`), "address": json.RawMessage(`{"city":"Paris"}`),
			},
		},
		Before: map[string]any{"stage": "lead"}, After: map[string]any{"stage": "customer"}, Reason: "the first purchase",
	}
}

func render(t *testing.T, kind Kind, c Content) (Message, error) {
	t.Helper()
	ts, err := c.Compile(kind)
	if err != nil {
		t.Fatalf("compile: %v", err)
	}
	d := someData()
	return ts.Render(&d)
}

func TestTemplatesSeeTheDataAndNothingElse(t *testing.T) {
	for template, want := range map[string]string{
		`{{.customer.traits.name}}`:                                    `Ada <b>"L"</b>`,
		`{{.customer.traits.missing}}|`:                                `|`,
		`{{.customer.traits.missing.deeper}}|`:                         `|`,
		`{{.customer.traits.nothing}}|{{.customer.traits.nothing.x}}|`: `||`,
		`{{.customer.traits.address.city}}`:                            `Paris`,
		`{{json .customer.traits.name}}`:                               `"Ada <b>\"L\"</b>"`,
		`{{json .customer.traits.missing}}`:                            `null`,
		`{{.event.properties.total}} {{.event.properties.items}}`:      `129.5 3`,
		`{{.event.properties.big}}`:                                    `9007199254740993`,
		`{{if gt .event.properties.items 2}}many{{end}}`:               `many`,
		`{{default "friend" .customer.traits.missing}}`:                `friend`,
		`{{.customer.traits.missing | default "friend"}}`:              `friend`,
		`{{date "2 Jan 2006 15:04" .at .customer.timezone}}`:           `29 Mar 2026 01:30`,
		`{{date "15:04" .at}}`:                                         `00:30`,
		`{{join ", " .customer.segments}}`:                             `a, b`,
		`{{range .customer.segments}}[{{.}}{{$.reason}}]{{end}}`:       `[athe first purchase][bthe first purchase]`,
		`{{with .customer}}{{.stage}}{{end}}`:                          `customer`,
		`{{.before.stage}}→{{.after.stage}}`:                           `lead→customer`,
		`{{upper .customer.stage}}{{lower "X"}}`:                       `CUSTOMERx`,
		`{{define "x"}}<{{.}}>{{end}}{{template "x" .delivery}}`:       `<6f1c0d6e-0000-4000-8000-000000000001>`,
		`{{$n := .trigger.name}}{{$n}}`:                                `Welcome`,
	} {
		m, err := render(t, Webhook, Content{Body: template, Header: map[string]string{"Content-Type": "text/plain"}})
		if err != nil || string(m.Body) != want {
			t.Errorf("%s: %q, %v; want %q", template, m.Body, err, want)
		}
	}
}

func TestHTMLEscapes(t *testing.T) {
	m, err := render(t, Email, Content{
		Subject: "Hello {{.customer.traits.name}}",
		Text:    "{{.customer.traits.name}}",
		HTML:    `{{range .customer.segments}}{{.}}{{end}}<p title="{{.customer.traits.name}}">{{.customer.traits.name}}</p><a href="{{.unsubscribe_url}}">x</a><script>var n = {{.customer.traits.name}}</script>{{.customer.traits.missing}}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `ab<p title="Ada &lt;b&gt;&#34;L&#34;&lt;/b&gt;">Ada &lt;b&gt;&#34;L&#34;&lt;/b&gt;</p><a href="">x</a><script>var n = "Ada \u003cb\u003e\"L\"\u003c/b\u003e"</script>`
	if m.HTML != want || m.Text != `Ada <b>"L"</b>` || m.Subject != `Hello Ada <b>"L"</b>` || m.To != "<ada@example.com>" {
		t.Errorf("%+v\nwant html %s", m, want)
	}
}

func TestDefaults(t *testing.T) {
	m, err := render(t, Kafka, Content{})
	if err != nil {
		t.Fatal(err)
	}
	var body struct {
		Type, Timestamp string
		Data            map[string]any
	}
	if err := json.Unmarshal(m.Body, &body); err != nil {
		t.Fatal(err)
	}
	if m.Key != "c1" || body.Type != "stage.entered" || body.Timestamp != "2026-03-29T00:30:00.000Z" {
		t.Errorf("key %q, body %+v", m.Key, body)
	}
	for _, name := range []string{"event", "customer", "before", "after", "reason", "trigger", "delivery"} {
		if body.Data[name] == nil {
			t.Errorf("the default body has no %s", name)
		}
	}
}

func TestCompileNamesWhatIsWrong(t *testing.T) {
	html := Content{Subject: "s", HTML: `<a href="{{.customer.stage}}" {{if .reason}}"{{end}}>`}
	for name, c := range map[string]struct {
		kind Kind
		Content
		want string
	}{
		"syntax":          {Webhook, Content{Body: "x\n{{.customer"}, `body line 2: unclosed action`},
		"unknown name":    {Webhook, Content{Body: "ab\n  {{.custmer.id}}"}, "body line 2, column 5: there is no .custmer; there are after, at, before"},
		"deeper":          {Webhook, Content{Body: "{{.customer.email}}"}, "there is no .customer.email; there are accounts"},
		"by $":            {Webhook, Content{Body: "{{with .event}}{{$.nothing}}{{end}}"}, "column 18: there is no .nothing"},
		"within a call":   {Webhook, Content{Body: "{{json (default .reeson 1)}}"}, "there is no .reeson"},
		"in a condition":  {Webhook, Content{Body: "{{if eq .customer.stag 1}}{{end}}"}, "there is no .customer.stag"},
		"nothing within":  {Webhook, Content{Body: "{{.reason.why}}"}, ".reason has nothing within"},
		"no function":     {Webhook, Content{Body: "{{env \"HOME\"}}"}, `function "env" not defined`},
		"no JSON":         {Webhook, Content{Body: "{\"a\": {{.reason}}}"}, "body: it is no JSON"},
		"header name":     {Webhook, Content{Header: map[string]string{"A B": "x"}}, "header.A B: this is no name"},
		"reserved":        {Webhook, Content{Header: map[string]string{"webhook-ID": "x"}}, "header.webhook-ID: this header is not to be set"},
		"header of mail":  {Email, Content{Subject: "s", Text: "t", Header: map[string]string{"bcc": "x"}}, "header.bcc: this header is not to be set"},
		"no such part":    {Webhook, Content{Subject: "x"}, "subject: a destination of kind webhook has no such part"},
		"no subject":      {Email, Content{Text: "x"}, "subject: an e-mail needs one"},
		"no body":         {Email, Content{Subject: "x"}, "text: an e-mail needs text"},
		"html context":    {Email, html, "html"},
		"fails always":    {Webhook, Content{Body: "{{index .reason 500}}"}, "body line 1, column 3"},
		"too large":       {Webhook, Content{Body: strings.Repeat("x", maxTemplate+1)}, "more than 131072 bytes"},
		"several, joined": {Email, Content{Subject: "{{.a}}", Text: "{{.b}}"}, "text line 1, column 3: there is no .b"},
	} {
		_, err := c.Compile(c.kind)
		var te *TemplateError
		if !errors.As(err, &te) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}

func TestRenderRefuses(t *testing.T) {
	text := map[string]string{"Content-Type": "text/plain"}
	for name, c := range map[string]struct {
		kind Kind
		Content
		want string
	}{
		"loop without end": {Webhook, Content{Body: "{{range 2000000000}}{{end}}", Header: text}, "steps"},
		"loops in loops":   {Webhook, Content{Body: "{{range 5000}}{{if true}}{{range 5000}}{{end}}{{end}}{{end}}", Header: text}, "steps"},
		"recursion":        {Webhook, Content{Body: `{{define "x"}}{{template "x" .}}{{template "x" .}}{{end}}{{template "x" .}}`, Header: text}, ""},
		"doubling":         {Webhook, Content{Body: `{{$x := "xxxxxxxx"}}` + strings.Repeat(`{{$x = print $x $x}}`, 40), Header: text}, "more than 262144 bytes"},
		"wide":             {Webhook, Content{Body: `{{printf "%999999d" 1}}`, Header: text}, "width"},
		"wide by star":     {Webhook, Content{Body: `{{printf "%*d" 999999 1}}`, Header: text}, "width"},
		"too much":         {Webhook, Content{Body: `{{range 9999}}` + strings.Repeat("x", 100) + `{{end}}`, Header: text}, "more than 262144 bytes"},
		"html loop":        {Email, Content{Subject: "s", HTML: "{{range 2000000000}}{{end}}"}, "steps"},
	} {
		// Whatever it depends on: it fails, if not before, when it is rendered.
		ts, err := c.Compile(c.kind)
		if err == nil {
			d := someData()
			_, err = ts.Render(&d)
		}
		var te *TemplateError
		if !errors.As(err, &te) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
	for name, c := range map[string]struct {
		kind Kind
		Content
		part string
	}{
		"no address":        {Email, Content{To: "{{.customer.traits.missing}}", Subject: "s", Text: "t"}, "to"},
		"two addresses":     {Email, Content{To: "{{.customer.traits.email}}, eve@example.com", Subject: "s", Text: "t"}, "to"},
		"lines in headers":  {Email, Content{Subject: "s\n{{.customer.traits.name}}", Text: "t"}, "subject"},
		"injected":          {Webhook, Content{Header: map[string]string{"X-Name": "{{.customer.traits.name}}\r\nX-Evil: 1"}}, "header.X-Name"},
		"no JSON with this": {Webhook, Content{Body: `{"a": {{.customer.traits.name}}}`}, "body"},
		"text as a map":     {Webhook, Content{Body: `{{.customer.traits.name.first}}`}, "body"},
	} {
		_, err := render(t, c.kind, c.Content)
		var te *TemplateError
		if !errors.As(err, &te) || te.Part != c.part {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTemplatesRenderTheSameTwiceAndTogether(t *testing.T) {
	c := Content{Subject: "{{range .customer.segments}}{{.}}{{end}}", HTML: "{{range 60000}}{{end}}<b>{{.reason}}</b>", Text: "x"}
	ts, err := c.Compile(Email)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	for range 8 {
		go func() {
			d := someData()
			m, err := ts.Render(&d)
			if err == nil && m.HTML != "<b>the first purchase</b>" {
				err = errors.New(m.HTML)
			}
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
