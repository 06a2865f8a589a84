// Package kafkasource brings the messages of Kafka topics to the log, as a member
// of a consumer group.
//
// A message is a Segment message, a CloudEvent, or any JSON with a Mapping. It is
// ingested as one that came over HTTP is; its offset is committed only after it is
// durable, as a touchpoint or among the rejects. What is read again after a crash
// or a rebalance has the same event ids and adds nothing.
//
// Of topics written in transactions only committed messages are delivered.
package kafkasource

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"

	"sojourn/domain/policy"
	"sojourn/ingest"
)

// Config is what a Source is made of. Service, Brokers, Group and Topics are
// required.
type Config struct {
	Service *ingest.Service
	// Brokers are addresses, host:port, of some brokers of the cluster.
	Brokers []string
	// Group is the consumer group; its members share the partitions.
	Group  string
	Topics []Topic
	// Policy is the policy in force, with the mappings that topics name; required
	// where one does. It is asked at each fetch, so it must be cheap, and give the
	// same pointer until the policy is another. A fetch is read by one of them.
	Policy func() *policy.Compiled
	// FromEnd begins with what is written from now on where the group has no
	// offset of a partition; else it begins with the oldest message.
	FromEnd bool
	// TLS is nil for plain connections, SASL for those without authentication.
	TLS  *tls.Config
	SASL sasl.Mechanism
	// CommitInterval is the time between two commits of offsets; default 500 ms.
	// What was not committed at a crash is read again.
	CommitInterval time.Duration
	// SessionTimeout is how long a member may be silent before its partitions go
	// to others; default 10 s. The broker bounds it (6 s to 30 min by default).
	SessionTimeout time.Duration
	// Logger takes rebalances and what goes wrong; default: none.
	Logger *slog.Logger
	// Registerer takes the counters; default: nobody reads them.
	Registerer prometheus.Registerer
}

// Validate checks what can be checked without a broker.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("kafka."+format, args...)) }
	if len(c.Brokers) == 0 {
		bad("brokers: name at least one, such as 127.0.0.1:9092")
	}
	for _, b := range c.Brokers {
		if _, _, err := net.SplitHostPort(b); err != nil {
			bad("brokers: %q is no address such as 127.0.0.1:9092", b)
		}
	}
	if c.Group == "" {
		bad("group: name the consumer group")
	}
	if len(c.Topics) == 0 {
		bad("topics: name at least one")
	}
	seen := make(map[string]bool)
	for i := range c.Topics {
		t := &c.Topics[i]
		if seen[t.Name] {
			bad("topics[%d]: %s stands here twice", i, t.Name)
		}
		seen[t.Name] = true
		for _, p := range t.problems() {
			bad("topics[%d].%s", i, p)
		}
	}
	return errors.Join(errs...)
}

// The times of the group and of fetches.
const (
	defaultCommit    = 500 * time.Millisecond
	defaultSession   = 10 * time.Second
	rebalanceTimeout = 30 * time.Second
	joinBackoff      = time.Second
	watchInterval    = 3 * time.Second // for new topics and partitions
	lagInterval      = 2 * time.Second
)

// Source is a member of a consumer group. It may be run once.
type Source struct {
	config  Config
	service *ingest.Service
	logger  *slog.Logger
	metrics *metrics
	topics  map[string]*topic
	addr    net.Addr
	wire    *kafka.Transport
	client  *kafka.Client
}

// New makes a Source. It does not connect.
func New(c Config) (*Source, error) {
	if c.Service == nil {
		return nil, errors.New("a Kafka source needs the ingest service")
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.CommitInterval == 0 {
		c.CommitInterval = defaultCommit
	}
	if c.SessionTimeout == 0 {
		c.SessionTimeout = defaultSession
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Source{
		config: c, service: c.Service, logger: c.Logger, metrics: newMetrics(c.Registerer),
		topics: make(map[string]*topic), addr: kafka.TCP(c.Brokers...),
	}
	for i := range c.Topics {
		if c.Policy == nil && c.Topics[i].named() != "" {
			return nil, fmt.Errorf("kafka.topics[%d].mapping: a Kafka source with mappings of the policy needs the policy", i)
		}
		t, err := newTopic(&c.Topics[i], c.Policy, c.Logger)
		if err != nil {
			return nil, err
		}
		s.topics[t.Name] = t
	}
	// Not MetadataTopics: with them a topic that is not there yet would hide the
	// others.
	s.wire = &kafka.Transport{
		TLS: c.TLS, SASL: c.SASL, ClientID: clientID, MetadataTTL: 2 * time.Second,
		Dial: (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
	}
	s.client = &kafka.Client{Addr: s.addr, Transport: s.wire}
	return s, nil
}

const clientID = "sojourn"

// Run consumes until the context ends, and then leaves the group. Brokers that
// cannot be reached, and a store that takes nothing, delay it and never end it.
// When it returns everything that it has ingested is committed, as far as the
// group could be reached.
func (s *Source) Run(ctx context.Context) error {
	defer s.wire.CloseIdleConnections()
	wait := backoff{}
	for ctx.Err() == nil {
		topics, err := s.present(ctx)
		if err == nil && len(topics) == 0 {
			err = errors.New("none of the topics is there")
		}
		if err != nil {
			if ctx.Err() == nil {
				s.logger.LogAttrs(ctx, slog.LevelWarn, "kafka topics not read, trying again", slog.Any("error", err))
				wait.sleep(ctx)
			}
			continue
		}
		wait = backoff{}
		if err := s.member(ctx, topics); err != nil {
			return err
		}
	}
	return nil
}

// member takes part in the group until the context ends, or the topics are not
// those given any more, or have other partitions. kafka-go's group watches for
// that too, but one topic that is not there would keep it from all.
func (s *Source) member(ctx context.Context, topics map[string]int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	start := kafka.FirstOffset
	if s.config.FromEnd {
		start = kafka.LastOffset
	}
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: s.config.Group, Brokers: s.config.Brokers, Topics: slices.Sorted(maps.Keys(topics)), StartOffset: start,
		Dialer: &kafka.Dialer{
			ClientID: clientID, Timeout: 5 * time.Second, DualStack: true,
			TLS: s.config.TLS, SASLMechanism: s.config.SASL,
		},
		HeartbeatInterval: min(time.Second, s.config.SessionTimeout/3),
		SessionTimeout:    s.config.SessionTimeout, RebalanceTimeout: rebalanceTimeout, JoinGroupBackoff: joinBackoff,
	})
	if err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	var watching sync.WaitGroup
	watching.Go(func() {
		s.watch(ctx, topics)
		cancel()
	})
	defer watching.Wait()
	for {
		gen, err := group.Next(ctx)
		if ctx.Err() != nil {
			// It waits for the generation, which commits what is durable.
			return group.Close()
		}
		if err != nil {
			level := slog.LevelWarn
			if errors.Is(err, kafka.RebalanceInProgress) {
				level = slog.LevelDebug
			}
			s.logger.LogAttrs(ctx, level, "kafka group not joined", slog.String("group", s.config.Group), slog.Any("error", err))
			continue
		}
		gen.Start(func(ctx context.Context) { s.generation(ctx, gen) })
	}
}

// present is which of the topics are there, and how many partitions each has.
func (s *Source) present(ctx context.Context) (map[string]int, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	answer, err := s.client.Metadata(ctx, &kafka.MetadataRequest{Topics: slices.Collect(maps.Keys(s.topics))})
	if err != nil {
		return nil, err
	}
	topics := make(map[string]int)
	for _, t := range answer.Topics {
		switch {
		case t.Error == nil:
			topics[t.Name] = len(t.Partitions)
		case !errors.Is(t.Error, kafka.UnknownTopicOrPartition):
			return nil, fmt.Errorf("topic %s: %w", t.Name, t.Error)
		}
	}
	return topics, nil
}

// watch returns when the topics are not what they were, or the context has ended.
func (s *Source) watch(ctx context.Context, were map[string]int) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// Where they cannot be asked for they are what they were.
		if are, err := s.present(ctx); err == nil && !maps.Equal(are, were) {
			s.logger.LogAttrs(ctx, slog.LevelInfo, "kafka topics have changed, joining the group anew", slog.String("group", s.config.Group))
			return
		}
	}
}

// generation reads the partitions of one generation until it ends:
//
//  1. Each partition is read and ingested in order, beside the others.
//  2. What is durable is committed every CommitInterval.
//  3. At the end what is being ingested is waited for and committed, while the
//     group still waits for this member: whoever gets a partition next begins
//     behind the last message that is durable.
func (s *Source) generation(ctx context.Context, gen *kafka.Generation) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.metrics.rebalances.Inc()
	commits := &commits{gen: gen, durable: make(map[string]map[int]int64)}
	var workers sync.WaitGroup
	var mine []*partition
	for name, assigned := range gen.Assignments {
		for _, a := range assigned {
			p := s.newPartition(s.topics[name], a, commits)
			mine = append(mine, p)
			workers.Go(func() { p.run(ctx) })
		}
	}
	s.logger.LogAttrs(ctx, slog.LevelInfo, "kafka partitions assigned",
		slog.String("group", s.config.Group), slog.Int("generation", int(gen.ID)), slog.String("partitions", assignments(gen)))
	workers.Go(func() { s.measure(ctx, mine) })
	commit := time.NewTicker(s.config.CommitInterval)
	defer commit.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-commit.C:
			s.commit(commits)
		}
	}
	workers.Wait()
	s.commit(commits)
	for _, p := range mine {
		s.metrics.forget(p.Name, p.id)
	}
}

// measure keeps the lag of partitions right while they are not fetched, because
// the store takes nothing.
func (s *Source) measure(ctx context.Context, mine []*partition) {
	ends := make(map[string][]kafka.OffsetRequest)
	for _, p := range mine {
		ends[p.Name] = append(ends[p.Name], kafka.LastOffsetOf(p.id))
	}
	tick := time.NewTicker(lagInterval)
	defer tick.Stop()
	for len(mine) > 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		answer, err := s.offsets(ctx, ends)
		if err != nil {
			continue // the fetches say so
		}
		for _, p := range mine {
			for _, o := range answer.Topics[p.Name] {
				if o.Partition == p.id && o.Error == nil {
					p.behind(o.LastOffset)
				}
			}
		}
	}
}

func (s *Source) offsets(ctx context.Context, of map[string][]kafka.OffsetRequest) (*kafka.ListOffsetsResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	return s.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: of})
}

func assignments(gen *kafka.Generation) string {
	var parts []string
	for name, assigned := range gen.Assignments {
		for _, a := range assigned {
			parts = append(parts, fmt.Sprintf("%s/%d", name, a.ID))
		}
	}
	return strings.Join(parts, " ")
}

// commits are the offsets of what is durable and not committed yet.
type commits struct {
	gen     *kafka.Generation
	mu      sync.Mutex
	durable map[string]map[int]int64
}

// add says that everything before an offset of a partition is durable.
func (c *commits) add(topic string, partition int, offset int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.durable[topic] == nil {
		c.durable[topic] = make(map[int]int64)
	}
	c.durable[topic][partition] = offset
}

func (c *commits) take() map[string]map[int]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.durable
	c.durable = make(map[string]map[int]int64)
	return taken
}

// back returns what could not be committed, where nothing newer came since.
func (c *commits) back(offsets map[string]map[int]int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for topic, partitions := range offsets {
		for partition, offset := range partitions {
			if _, newer := c.durable[topic][partition]; newer {
				continue
			}
			if c.durable[topic] == nil {
				c.durable[topic] = make(map[int]int64)
			}
			c.durable[topic][partition] = offset
		}
	}
}

// commit commits what is durable. What fails is tried again with the next; where
// the group is lost it is read again and found known.
func (s *Source) commit(c *commits) {
	offsets := c.take()
	if len(offsets) == 0 {
		return
	}
	if err := c.gen.CommitOffsets(offsets); err != nil {
		c.back(offsets)
		s.logger.Warn("kafka offsets not committed", slog.String("group", s.config.Group), slog.Any("error", err))
	}
}
