package kafkasource

import (
	"context"
	"encoding/base64"
	"fmt"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/twmb/franz-go/pkg/kgo"

	"sojourn/ingest/internal/ingesttest"
)

// unsigned is a token that a broker for development takes.
func unsigned(context.Context) (string, error) {
	encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	now := time.Now().Unix()
	return encode(`{"alg":"none"}`) + "." + encode(fmt.Sprintf(`{"sub":"sojourn","iat":%d,"exp":%d}`, now-60, now+600)) + ".", nil
}

// Every mechanism against a broker that no one here wrote, and each with a wrong
// password or token.
func TestKafkaSASL(t *testing.T) {
	b := newKafka(t, "events")
	b.produce(&kgo.Record{Topic: "events", Value: message(1)})
	password := func(mechanism, password string) sasl.Mechanism {
		m, err := Password(mechanism, "sojourn", password)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for name, c := range map[string]struct{ good, bad sasl.Mechanism }{
		"PLAIN":         {password("PLAIN", "secret"), password("PLAIN", "wrong")},
		"SCRAM-SHA-256": {password("SCRAM-SHA-256", "secret"), password("SCRAM-SHA-256", "wrong")},
		"SCRAM-SHA-512": {password("SCRAM-SHA-512", "secret"), password("SCRAM-SHA-512", "wrong")},
		"OAUTHBEARER":   {OAuthBearer{Token: unsigned}, OAuthBearer{Token: func(context.Context) (string, error) { return "not.a.token", nil }}},
	} {
		t.Run(name, func(t *testing.T) {
			e := ingesttest.Start(t)
			conf := config(b, e.Service, shop)
			conf.Group, conf.Brokers, conf.SASL = name, []string{b.sasl}, c.bad
			var log output
			conf.Logger = log.logger()
			stop := start(t, conf)
			eventually(t, "a refusal in the log", func() bool { return log.has("kafka topics not read") })
			stop()
			if n := len(e.Touchpoints(t)); n > 0 {
				t.Error("a message was read with wrong credentials")
			}
			conf.SASL = c.good
			start(t, conf)
			eventually(t, "the message", func() bool { return len(e.Touchpoints(t)) == 1 })
		})
	}
}
