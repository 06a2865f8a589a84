package main

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"sojourn/automation/delivery"
)

// guard is what deliveries may reach.
func (c *Config) guard() (*delivery.Guard, error) {
	var ranges []string
	for r := range strings.SplitSeq(c.AutomationAllow, ",") {
		if r = strings.TrimSpace(r); r != "" {
			ranges = append(ranges, r)
		}
	}
	allow, err := delivery.ParseAllow(ranges)
	return &delivery.Guard{Allow: allow}, err
}

// outgoing is everything that deliveries are made with.
type outgoing struct {
	destinations *delivery.Destinations
	links        *delivery.Links // nil where no address is known for them
	webhooks     *delivery.Webhooks
	mails        *delivery.Mails
	topics       *delivery.Topics
	log          *slog.Logger
	dispatcher   atomic.Pointer[delivery.Dispatcher] // nil until deliveries begin
}

// openOutgoing reads the destinations.
func openOutgoing(ctx context.Context, c *Config, log delivery.Log, logger *slog.Logger) (*outgoing, error) {
	guard, err := c.guard()
	if err != nil {
		return nil, err
	}
	sealer, err := delivery.LoadSealer(c.SecretKey, c.Data)
	if err != nil {
		return nil, err
	}
	o := &outgoing{log: logger}
	if c.PublicURL != "" {
		o.links = delivery.NewLinks(c.PublicURL, sealer)
	}
	o.webhooks = delivery.NewWebhooks(guard, nil, nil)
	o.mails = delivery.NewMails(guard, nil, o.links, nil)
	o.topics = delivery.NewTopics(guard, nil)
	o.destinations, err = delivery.LoadDestinations(ctx, log, sealer, guard, time.Now, func(name string) {
		if d := o.dispatcher.Load(); d != nil {
			d.Changed(name)
		}
	})
	return o, err
}

// begin starts to deliver what an engine submits.
func (o *outgoing) begin(engine delivery.Deliveries) *delivery.Dispatcher {
	d := delivery.NewDispatcher(delivery.DispatcherConfig{
		Senders:     map[delivery.Kind]delivery.Sender{delivery.Webhook: o.webhooks, delivery.Email: o.mails, delivery.Kafka: o.topics},
		Destination: o.destinations.Get,
		Deliveries:  engine,
		Disable:     o.destinations.Disable,
		Logger:      o.log,
	})
	o.dispatcher.Store(d)
	return d
}

// status is how the destinations are that have had a delivery since the start.
func (o *outgoing) status() []delivery.Status {
	if d := o.dispatcher.Load(); d != nil {
		return d.Status()
	}
	return nil
}

func (o *outgoing) stop() error {
	if d := o.dispatcher.Load(); d != nil {
		d.Stop()
	}
	o.webhooks.Close()
	return o.topics.Close()
}
