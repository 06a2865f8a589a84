package segmentapi_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"image/gif"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"sojourn/domain"
)

func (s *server) pixel(target string) {
	s.t.Helper()
	a := s.do(httptest.NewRequest(http.MethodGet, target, nil))
	if a.StatusCode != 200 || a.Header.Get("Content-Type") != "image/gif" {
		s.t.Fatalf("%s answered %d %s", target, a.StatusCode, a.Header.Get("Content-Type"))
	}
	img, err := gif.Decode(bytes.NewReader([]byte(a.body)))
	if err != nil || img.Bounds().Dx() != 1 || img.Bounds().Dy() != 1 {
		s.t.Fatalf("not an image of one pixel: %v", err)
	}
	if _, _, _, alpha := img.At(0, 0).RGBA(); alpha != 0 {
		s.t.Fatal("the pixel can be seen")
	}
}

func TestPixelData(t *testing.T) {
	for name, enc := range map[string]*base64.Encoding{
		"std": base64.StdEncoding, "raw std": base64.RawStdEncoding, "url": base64.URLEncoding, "raw url": base64.RawURLEncoding,
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			body := `{"writeKey":"` + s.Key + `","userId":"ü???>>>","event":"Email Opened","properties":{"id":1}}`
			s.pixel("/v1/pixel/track?data=" + url.QueryEscape(enc.EncodeToString([]byte(body))))
			if tp := s.only(); string(tp.Event.Data) != body || tp.Kind != domain.Track || tp.Name != "Email Opened" || tp.UserID != "ü???>>>" {
				t.Fatalf("%+v", tp)
			}
		})
	}
	t.Run("plus signs that became spaces", func(t *testing.T) {
		s := start(t)
		body := `{"writeKey":"` + s.Key + `","userId":"u","x":"ûûûû>>>>~~~~"}`
		s.pixel("/v1/pixel/page?data=" + base64.StdEncoding.EncodeToString([]byte(body)))
		if tp := s.only(); string(tp.Event.Data) != body {
			t.Fatalf("%s", tp.Event.Data)
		}
	})
	t.Run("key beside the data", func(t *testing.T) {
		s := start(t)
		s.pixel("/v1/pixel/page?writeKey=" + s.Key + "&data=" + base64.StdEncoding.EncodeToString([]byte(`{"userId":"u"}`)))
		s.only()
	})
}

func TestPixelFlatQuery(t *testing.T) {
	for kind := range map[string]bool{"identify": true, "group": true, "alias": true, "page": true, "screen": true, "track": true} {
		s := start(t)
		s.pixel("/v1/pixel/" + kind + "?writeKey=" + s.Key + "&userId=u1&event=Opened&messageId=m&properties.total=12.5&context.ip=1.2.3.4&a.b=c")
		tp := s.only()
		if tp.Kind.String() != kind || tp.UserID != "u1" || tp.MessageID != "m" {
			t.Fatalf("%+v", tp)
		}
		var got struct {
			Properties struct{ Total string }
			Context    struct{ IP string }
			Dotted     string `json:"a.b"`
		}
		if err := json.Unmarshal(tp.Event.Data, &got); err != nil || got.Properties.Total != "12.5" || got.Context.IP != "1.2.3.4" || got.Dotted != "c" {
			t.Fatalf("%s: %v", tp.Event.Data, err)
		}
	}
}

func TestPixelAlwaysAnswers(t *testing.T) {
	s := start(t)
	for _, target := range []string{
		"/v1/pixel/track", "/v1/pixel/track/", "/v1/pixel/nothing?writeKey=x",
		"/v1/pixel/track?data=%%%", "/v1/pixel/track?data=!!!", "/v1/pixel/track?data=aGVsbG8=",
		"/v1/pixel/track?writeKey=nobody&userId=u", "/v1/pixel/page?userId=u",
	} {
		s.pixel(target)
	}
	if len(s.Touchpoints(t))+len(s.Rejects(t)) != 0 {
		t.Fatal("something was kept without a key")
	}
	s.pixel("/v1/pixel/track?writeKey=" + s.Key + "&data=aGVsbG8=")
	if all := s.Rejects(t); len(all) != 1 || !all[0].Refused || all[0].Code != "invalid_json" {
		t.Fatalf("%+v", all)
	}
	s.pixel("/v1/pixel/track?writeKey=" + s.Key + "&userId=u")
	if all := s.Rejects(t); len(all) != 2 || all[0].Refused || all[0].Code != "no_event_name" {
		t.Fatalf("%+v", all)
	}
	s.pixel("/v1/pixel/nothing?writeKey=" + s.Key + "&userId=u&type=charge")
	if all := s.Rejects(t); len(all) != 3 || all[0].Code != "unknown_type" {
		t.Fatalf("%+v", all)
	}
	head := s.do(httptest.NewRequest(http.MethodHead, "/v1/pixel/page?writeKey="+s.Key+"&userId=u", nil))
	if head.StatusCode != 200 {
		t.Fatal(head.StatusCode)
	}
}
