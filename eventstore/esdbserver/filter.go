package esdbserver

import (
	"regexp"
	"strings"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"

	"sojourn/eventstore"
)

// filter says which events of the whole log a caller wants. The zero value lets
// all of them pass.
type filter struct {
	on       bool
	byType   bool // else by stream
	prefixes []string
	regex    *regexp.Regexp
	// interval is after how many events without an answer a subscriber is told
	// where the server stands.
	interval uint64
}

// The window of a search where the caller names none.
const defaultWindow = 32

func newFilter(o *streams.ReadReq_Options) (filter, error) {
	f := o.GetFilter()
	if f == nil {
		return filter{}, nil
	}
	if o.GetAll() == nil {
		return filter{}, invalid("a filter goes with $all, not with one stream")
	}
	out := filter{on: true, byType: f.GetEventType() != nil, interval: defaultWindow}
	expression := f.GetStreamIdentifier()
	if out.byType {
		expression = f.GetEventType()
	}
	if expression == nil {
		return filter{}, invalid("a filter needs prefixes or a regular expression")
	}
	out.prefixes = expression.GetPrefix()
	if text := expression.GetRegex(); text != "" {
		var err error
		if out.regex, err = regexp.Compile(text); err != nil {
			return filter{}, invalid("the filter's regular expression is not understood (its syntax is RE2's, without lookarounds): %v", err)
		}
	} else if len(out.prefixes) == 0 {
		return filter{}, invalid("a filter needs prefixes or a regular expression")
	}
	if n := f.GetMax(); n > 0 {
		out.interval = uint64(n)
	}
	if n := f.GetCheckpointIntervalMultiplier(); n > 0 {
		out.interval *= uint64(n)
	}
	return out, nil
}

// passes says whether a caller wants an event.
func (f *filter) passes(e *eventstore.Recorded) bool {
	if !f.on {
		return true
	}
	text := e.Stream
	if f.byType {
		text = e.Type
	}
	if f.regex != nil {
		return f.regex.MatchString(text)
	}
	for _, p := range f.prefixes {
		if strings.HasPrefix(text, p) {
			return true
		}
	}
	return false
}
