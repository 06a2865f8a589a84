package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"sojourn/automation/kafkaout"
	"sojourn/domain"
	"sojourn/eventstore"
	"sojourn/projections"
)

// KafkaOut is the section kafka.out: topics that Sojourn writes.
type KafkaOut struct {
	// Statements is the topic of changes of stage, tier and satisfaction status,
	// Touchpoints that of every touchpoint; empty for none.
	Statements  string `yaml:"statements"`
	Touchpoints string `yaml:"touchpoints"`
	// Start is where the first start begins: oldest (where it is empty) or newest.
	Start string `yaml:"start"`
}

func (o *KafkaOut) validate() error {
	var errs []error
	if o.Statements == "" && o.Touchpoints == "" {
		errs = append(errs, errors.New("kafka.out: name a topic of statements or of touchpoints"))
	}
	if o.Statements != "" && o.Statements == o.Touchpoints {
		errs = append(errs, errors.New("kafka.out: statements and touchpoints need a topic each"))
	}
	if o.Start != "" && o.Start != "oldest" && o.Start != "newest" {
		errs = append(errs, fmt.Errorf("kafka.out.start: %q is not oldest or newest", o.Start))
	}
	return errors.Join(errs...)
}

// kafkaOutFile says how far the log is sent to Kafka.
const kafkaOutFile = "kafka-out"

// startKafkaOut starts to send what the configuration says, if anything. stop
// waits until what is under way is written or given up.
func startKafkaOut(c *Config, store kafkaout.Log, views *projections.Views, registry prometheus.Registerer, log *slog.Logger) (stop func() error, err error) {
	if c.Kafka == nil || c.Kafka.Out == nil || !c.Roles.has(roleAutomate) {
		return func() error { return nil }, nil
	}
	out := c.Kafka.Out
	config := kafkaout.Config{
		Log: store, Brokers: c.Kafka.Brokers, Statements: out.Statements, Touchpoints: out.Touchpoints, Customers: customers{views},
		FromEnd: out.Start == "newest", Checkpoint: filepath.Join(c.Data, kafkaOutFile), Logger: log, Registerer: registry,
	}
	if config.TLS, config.SASL, err = c.Kafka.connection(log); err != nil {
		return nil, err
	}
	sender, err := kafkaout.New(config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		err := sender.Run(ctx)
		if err != nil && ctx.Err() == nil {
			log.Error("nothing is sent to kafka any more", "error", err)
		}
		ended <- err
	}()
	return func() error {
		cancel()
		return <-ended
	}, nil
}

// customers names the customers of subjects as the views know them.
type customers struct{ views *projections.Views }

func (c customers) WaitFor(ctx context.Context, position eventstore.Position) error {
	return c.views.WaitFor(ctx, position)
}

func (c customers) CustomerOf(ctx context.Context, subject domain.Subject) (uuid.UUID, bool, error) {
	customer, err := c.views.Customer(ctx, subject.String(), projections.At{})
	if errors.Is(err, projections.ErrNotFound) {
		return uuid.Nil, false, nil
	}
	return customer.ID, err == nil, err
}
