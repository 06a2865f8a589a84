package delivery

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func topicAttempt(brokers []string, name string) *Attempt {
	return &Attempt{
		ID: uuid.New(), Number: 1, Message: Message{Body: []byte(`{"a":1}`), Key: "c1", Header: map[string]string{"team": "crm"}},
		Destination: Destination{Name: "stream", Kind: Kafka, Enabled: true, TimeoutMillis: 10_000, Topic: &Topic{Brokers: brokers, Name: name}},
	}
}

func TestTopic(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(2), kfake.SeedTopics(3, "actions"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	s := NewTopics(here, nil)
	defer func() { _ = s.Close() }()
	a := topicAttempt(cluster.ListenAddrs(), "actions")
	for range 2 {
		if o := s.Send(context.Background(), a); !o.Delivered || o.Retry || o.Error != "" || o.Latency <= 0 {
			t.Fatalf("%+v", o)
		}
	}
	c, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ConsumeTopics("actions"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var got []*kgo.Record
	for len(got) < 2 {
		f := c.PollFetches(ctx)
		if err := f.Err(); err != nil {
			t.Fatal(err)
		}
		got = append(got, f.Records()...)
	}
	for _, r := range got {
		headers := map[string]string{}
		for _, h := range r.Headers {
			headers[h.Key] = string(h.Value)
		}
		if string(r.Key) != "c1" || string(r.Value) != `{"a":1}` || headers[HeaderDelivery] != a.ID.String() || headers["team"] != "crm" {
			t.Errorf("%s %s %v", r.Key, r.Value, headers)
		}
	}
	if got[0].Partition != got[1].Partition {
		t.Error("one key is in two partitions")
	}
	// The destination has changed: what is sent from now on goes to the new topic.
	a.Destination.Topic = &Topic{Brokers: cluster.ListenAddrs(), Name: "nothing"}
	a.Destination.TimeoutMillis = 2000
	if o := s.Send(context.Background(), a); o.Delivered || !o.Retry || o.Error == "" {
		t.Errorf("a topic that there is not: %+v", o)
	}
}

func TestTopicFails(t *testing.T) {
	s := NewTopics(here, nil)
	defer func() { _ = s.Close() }()
	a := topicAttempt([]string{"127.0.0.1:1"}, "actions")
	a.Destination.TimeoutMillis = 1000
	if o := s.Send(context.Background(), a); o.Delivered || !o.Retry || o.Error == "" || o.Latency > 5*time.Second {
		t.Errorf("%+v", o)
	}
	shut := NewTopics(&Guard{}, nil)
	defer func() { _ = shut.Close() }()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "actions"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	a = topicAttempt(cluster.ListenAddrs(), "actions")
	a.Destination.TimeoutMillis = 1000
	if o := shut.Send(context.Background(), a); o.Delivered || !o.Retry || !strings.Contains(o.Error, ErrForbidden.Error()) {
		t.Errorf("an address inside: %+v", o)
	}
	a.Body = make([]byte, 3*MaxBody)
	if o := s.Send(context.Background(), a); o.Delivered || o.Retry {
		t.Errorf("too large: %+v", o)
	}
}
