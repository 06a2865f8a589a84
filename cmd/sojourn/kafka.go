package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go/sasl"

	"sojourn/domain/policy"
	"sojourn/ingest"
	"sojourn/ingest/kafkasource"
)

// KafkaConfig is the section kafka of the configuration file: topics to consume.
// It has no flags; the password can come from SOJOURN_KAFKA_PASSWORD.
type KafkaConfig struct {
	Brokers []string `yaml:"brokers"`
	// Group is the consumer group; sojourn where it is empty.
	Group string `yaml:"group"`
	// Start is where a partition begins that the group has not read yet: oldest
	// (where it is empty) or newest.
	Start  string              `yaml:"start"`
	Topics []kafkasource.Topic `yaml:"topics"`
	// Collect is the topic between collectors and writers; nil for none.
	Collect *KafkaCollect `yaml:"collect"`
	// Out are topics that Sojourn writes; nil for none.
	Out  *KafkaOut `yaml:"out"`
	TLS  KafkaTLS  `yaml:"tls"`
	SASL KafkaSASL `yaml:"sasl"`
}

// KafkaTLS says whether and how connections to the brokers are encrypted.
type KafkaTLS struct {
	Enabled bool `yaml:"enabled"`
	// CA is a PEM file of the authorities to trust, in place of the system's.
	CA string `yaml:"ca"`
	// Cert and Key are PEM files of the client's certificate, where the brokers
	// ask for one.
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
	// ServerName is the name in the brokers' certificate, where it is not their
	// host's.
	ServerName string `yaml:"server_name"`
}

// KafkaSASL says who the brokers are told this is.
type KafkaSASL struct {
	// Mechanism is PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER; none where
	// it is empty.
	Mechanism string `yaml:"mechanism"`
	User      string `yaml:"user"`
	Password  string `yaml:"password"`
	// TokenFile holds the token of OAUTHBEARER. It is read at each connection, so
	// that another program can renew it.
	TokenFile string `yaml:"token_file"`
	// Extensions go with the token.
	Extensions map[string]string `yaml:"extensions"`
}

// Validate checks what can be checked without files and brokers.
func (c *KafkaConfig) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("kafka."+format, args...)) }
	if c.Start != "" && c.Start != "oldest" && c.Start != "newest" {
		bad("start: %q is not oldest or newest", c.Start)
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		bad("tls: give cert and key, or neither")
	}
	if !c.TLS.Enabled && c.TLS != (KafkaTLS{}) {
		bad("tls: set enabled: true, or take the rest away")
	}
	switch c.SASL.Mechanism {
	case "":
		if c.SASL.User != "" || c.SASL.TokenFile != "" {
			bad("sasl.mechanism: name PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER")
		}
	case "OAUTHBEARER":
		if c.SASL.TokenFile == "" {
			bad("sasl.token_file: OAUTHBEARER needs a file with the token")
		}
	default:
		if _, err := kafkasource.Password(c.SASL.Mechanism, "", ""); err != nil {
			bad("sasl.mechanism: %q is not PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER", c.SASL.Mechanism)
		}
		if c.SASL.User == "" || c.SASL.Password == "" {
			bad("sasl: %s needs user and password (or %s)", c.SASL.Mechanism, kafkaPassword)
		}
	}
	if c.Out != nil {
		errs = append(errs, c.Out.validate())
	}
	source := c.source()
	if !c.consumes() && c.Out != nil {
		source.Topics = []kafkasource.Topic{{Name: "none", Source: "none"}} // the rest is to be right all the same
	}
	return errors.Join(append(errs, source.Validate())...)
}

// kafkaPassword is the environment variable of the password.
const kafkaPassword = "SOJOURN_KAFKA_PASSWORD"

// source is the part of a consumer's configuration that needs no files.
func (c *KafkaConfig) source() kafkasource.Config {
	group := c.Group
	if group == "" {
		group = "sojourn"
	}
	return kafkasource.Config{Brokers: c.Brokers, Group: group, Topics: c.topics(), FromEnd: c.Start == "newest"}
}

func (c *KafkaTLS) config() (*tls.Config, error) {
	if !c.Enabled {
		return nil, nil
	}
	out := &tls.Config{ServerName: c.ServerName, MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("kafka.tls.ca: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("kafka.tls.ca: %s holds no PEM certificate", c.CA)
		}
	}
	if c.Cert != "" {
		certificate, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, fmt.Errorf("kafka.tls.cert: %w", err)
		}
		out.Certificates = []tls.Certificate{certificate}
	}
	return out, nil
}

func (c *KafkaSASL) mechanism() (sasl.Mechanism, error) {
	switch c.Mechanism {
	case "":
		return nil, nil
	case "OAUTHBEARER":
		return kafkasource.OAuthBearer{
			Extensions: c.Extensions,
			Token: func(context.Context) (string, error) {
				token, err := os.ReadFile(c.TokenFile)
				return strings.TrimSpace(string(token)), err
			},
		}, nil
	}
	return kafkasource.Password(c.Mechanism, c.User, c.Password)
}

// remake makes messages anew of what came from the topics.
func (c *KafkaConfig) remake(inForce func() *policy.Compiled) func(from, raw []byte) (ingest.Message, bool) {
	if c == nil {
		return nil
	}
	return kafkasource.Remake(c.Topics, inForce)
}

// consumes reports whether there are topics to read.
func (c *KafkaConfig) consumes() bool { return len(c.topics()) > 0 }

// connection is how the brokers are connected to.
func (c *KafkaConfig) connection(log *slog.Logger) (*tls.Config, sasl.Mechanism, error) {
	encryption, err := c.TLS.config()
	if err != nil {
		return nil, nil, err
	}
	mechanism, err := c.SASL.mechanism()
	if err != nil {
		return nil, nil, fmt.Errorf("kafka.sasl: %w", err)
	}
	if mechanism != nil && encryption == nil && !strings.HasPrefix(c.SASL.Mechanism, "SCRAM") {
		log.Warn("the kafka brokers get the password in clear: set kafka.tls.enabled", "mechanism", c.SASL.Mechanism)
	}
	return encryption, mechanism, nil
}

// startKafka starts to consume the configured topics, if there are any. inForce is the
// policy that has the mappings they name. stop waits until what is being ingested is
// durable and committed.
func startKafka(c *KafkaConfig, service *ingest.Service, inForce func() *policy.Compiled, registry prometheus.Registerer, log *slog.Logger) (stop func() error, err error) {
	if c == nil || !c.consumes() {
		return func() error { return nil }, nil
	}
	config := c.source()
	config.Service, config.Policy, config.Registerer, config.Logger = service, inForce, registry, log
	if config.TLS, config.SASL, err = c.connection(log); err != nil {
		return nil, err
	}
	source, err := kafkasource.New(config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- source.Run(ctx) }()
	return func() error {
		cancel()
		return <-ended
	}, nil
}
