package kafkasource

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// Password is the SASL mechanism of a user and a password: PLAIN, SCRAM-SHA-256
// or SCRAM-SHA-512.
func Password(mechanism, user, password string) (sasl.Mechanism, error) {
	switch mechanism {
	case "PLAIN":
		return plain.Mechanism{Username: user, Password: password}, nil
	case "SCRAM-SHA-256":
		return scram.Mechanism(scram.SHA256, user, password)
	case "SCRAM-SHA-512":
		return scram.Mechanism(scram.SHA512, user, password)
	}
	return nil, fmt.Errorf("%q is not PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", mechanism)
}

// OAuthBearer is the SASL mechanism OAUTHBEARER (RFC 7628). Token is asked for at
// each new connection and gives a token that is valid then.
type OAuthBearer struct {
	Token func(ctx context.Context) (string, error)
	// Extensions are sent beside the token, such as logicalCluster.
	Extensions map[string]string
}

// Name is OAUTHBEARER.
func (OAuthBearer) Name() string { return "OAUTHBEARER" }

// Start makes the client's only message.
func (o OAuthBearer) Start(ctx context.Context) (sasl.StateMachine, []byte, error) {
	token, err := o.Token(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("OAUTHBEARER: %w", err)
	}
	if token == "" || strings.ContainsAny(token, "\x00\x01\r\n ") {
		return nil, nil, errors.New("OAUTHBEARER: the token is empty or holds white space")
	}
	const separator = "\x01"
	var b strings.Builder
	b.WriteString("n,," + separator + "auth=Bearer " + token + separator)
	for name, value := range o.Extensions {
		b.WriteString(name + "=" + value + separator)
	}
	b.WriteString(separator)
	return bearer{}, []byte(b.String()), nil
}

type bearer struct{}

// Next ends the exchange: a broker that takes the token answers nothing, one that
// does not says why, as JSON.
func (bearer) Next(_ context.Context, challenge []byte) (done bool, response []byte, err error) {
	if len(challenge) > 0 {
		return false, nil, fmt.Errorf("OAUTHBEARER: the broker refused the token: %s", challenge)
	}
	return true, nil, nil
}
