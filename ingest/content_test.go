package ingest

import (
	"testing"

	"sojourn/domain"
)

func TestContent(t *testing.T) {
	const base = `{"type":"track","event":"E","properties":{"a":1,"b":[true,null,"x"]}}`
	for _, same := range []string{
		base,
		` { "properties" : { "b":[ true , null , "x" ], "a":1 } , "event":"\u0045","type":"track" } `,
		`{"type":"track","event":"E","properties":{"a":1.0,"b":[true,null,"x"]}}`,
		`{"type":"track","event":"E","properties":{"a":10e-1,"b":[true,null,"x"]}}`,
		`{"type":"track","event":"no","event":"E","properties":{"a":1,"b":[true,null,"x"]}}`,
		`{"event":"E","properties":{"a":1,"b":[true,null,"x"]}}`,
		`{"type":"track","messageId":"m","event":"E","properties":{"a":1,"b":[true,null,"x"]},"userId":"u","anonymousId":"a","sentAt":"x","writeKey":"k","context":{},"integrations":{},"_metadata":{"retryCount":3}}`,
	} {
		if string(content(domain.Track, []byte(same))) != string(content(domain.Track, []byte(base))) {
			t.Errorf("%s has another content", same)
		}
	}
	for _, other := range []string{
		`{"type":"track","event":"F","properties":{"a":1,"b":[true,null,"x"]}}`,
		`{"type":"track","event":"E","properties":{"a":2,"b":[true,null,"x"]}}`,
		`{"type":"track","event":"E","properties":{"a":-1,"b":[true,null,"x"]}}`,
		`{"type":"track","event":"E","properties":{"a":"1","b":[true,null,"x"]}}`,
		`{"type":"track","event":"E","properties":{"a":1,"b":[null,true,"x"]}}`,
		`{"type":"track","event":"E","timestamp":"2026-03-01T00:00:00Z","properties":{"a":1,"b":[true,null,"x"]}}`,
		`{"type":"track","event":"E","properties":{"a":1,"b":[true,null,"x"],"userId":"u"}}`,
		`{"type":"track","event":"E","previousId":"p","properties":{"a":1,"b":[true,null,"x"]}}`,
		`["E"]`, `nothing`,
	} {
		if string(content(domain.Track, []byte(other))) == string(content(domain.Track, []byte(base))) {
			t.Errorf("%s has the same content", other)
		}
	}
	if string(content(domain.Page, []byte(base))) == string(content(domain.Track, []byte(base))) {
		t.Error("a page and a track have the same content")
	}
}

func TestNumbersKeepTheirDigits(t *testing.T) {
	for in, want := range map[string]string{
		"0": "0", "-0": "0", "0.00": "0", "0e99": "0", "1": "1e0", "100": "1e2", "1e2": "1e2", "1E+2": "1e2", "0.010": "1e-2",
		"-12.50": "-125e-1", "9007199254740993": "9007199254740993e0", "123456789012345678901234567890.5": "1234567890123456789012345678905e-1",
		"1e99999999999999999999": "1e99999999999999999999",
	} {
		if got := string(appendNumber(nil, in)); got != want {
			t.Errorf("%s is %s, want %s", in, got, want)
		}
	}
}
