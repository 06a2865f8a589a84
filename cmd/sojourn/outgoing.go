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
	stopWatch    func()
}

// watchEvery is how often destinations are read that other processes may change.
const watchEvery = time.Second

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
	if err != nil {
		return nil, err
	}
	o.stopWatch = func() {}
	if c.Store != "" {
		o.stopWatch = o.watch()
	}
	return o, nil
}

// watch takes in what other processes change, until it is stopped.
func (o *outgoing) watch() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if err := o.destinations.Refresh(ctx); err != nil && ctx.Err() == nil {
				o.log.Warn("the destinations cannot be read", "error", err)
			}
		}
	}()
	return func() { cancel(); <-done }
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
	o.stopWatch()
	if d := o.dispatcher.Load(); d != nil {
		d.Stop()
	}
	o.webhooks.Close()
	return o.topics.Close()
}
