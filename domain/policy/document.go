package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Expanded is the policy with the standard names and channel rules written out
// behind its own, and Standard off, with all limits that are not those of any
// kind and all that the loyalty programmes leave out. A standard name gives way to an own mapping
// of the same name, spelt in whatever way, that is for any source.
func (p Policy) Expanded() Policy {
	p.Identity = p.Identity.complete()
	p.Loyalty = p.Loyalty.complete(p.Currency)
	p.Satisfaction = p.Satisfaction.complete()
	p.Mappings = completeMappings(p.Mappings)
	if !p.Standard {
		return p
	}
	p.Standard = false
	own := map[string]bool{}
	for _, m := range p.Events {
		if (m.Type == "" || m.Type == "track") && m.Source == "" {
			for _, name := range m.allNames() {
				own[string(fold(nil, name))] = true
			}
		}
	}
	events := append([]Mapping(nil), p.Events...)
	for _, m := range standardEvents() {
		names := make([]string, 0, len(m.Names))
		for _, name := range m.Names {
			if !own[string(fold(nil, name))] {
				names = append(names, name)
			}
		}
		if len(names) > 0 {
			m.Names = names
			events = append(events, m)
		}
	}
	p.Events = events
	p.Channels = append(append([]ChannelRule(nil), p.Channels...), standardChannels...)
	return p
}

// MarshalCanonical is the policy as an event keeps it: JSON with every key (but
// mappings where there are none, as in logs that are older), the standard names written out, so that a later release with other standard names
// reads the past as this one did. Equal policies give equal bytes.
func (p Policy) MarshalCanonical() ([]byte, error) {
	p = p.Expanded()
	if p.Events == nil {
		p.Events = []Mapping{}
	}
	if p.Channels == nil {
		p.Channels = []ChannelRule{}
	}
	if p.Identity.Join == nil {
		p.Identity.Join = []string{}
	}
	if p.Identity.Nobody == nil {
		p.Identity.Nobody = []string{}
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(p); err != nil {
		return nil, fmt.Errorf("encode policy: %w", err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// Decode reads a policy from JSON, onto Default. A key it does not know is an
// error (of type Problems) that names the nearest one.
func Decode(data []byte) (Policy, error) {
	if problems := unknownKeys(data); len(problems) > 0 {
		return Policy{}, problems
	}
	p := Default()
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber() // what a mapping has for a value keeps its digits
	if err := dec.Decode(&p); err != nil {
		return Policy{}, fmt.Errorf("decode policy: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Policy{}, errors.New("decode policy: more than one JSON value")
	}
	return p, nil
}
