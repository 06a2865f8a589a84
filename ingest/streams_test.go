package ingest

import (
	"strconv"
	"strings"
	"sync"
	"testing"

	"sojourn/domain"
)

func TestStreamsAreThoseOfTheKeyer(t *testing.T) {
	keyer := domain.NewKeyer(make([]byte, domain.KeySize))
	s := newStreams(keyer)
	s.slots = s.slots[:4:4] // so that subjects push each other out
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 2000 {
				value := strconv.Itoa(i % 40)
				if i%10 == 0 {
					value = strings.Repeat(value, maxRemembered)
				}
				for _, kind := range []domain.SubjectKind{domain.User, domain.Anon} {
					subject := domain.Subject{Kind: kind, Value: value}
					if got, want := s.of(subject), keyer.Stream(subject); got != want {
						t.Errorf("%v stands in %s, want %s", subject, got, want)
					}
				}
			}
		})
	}
	wg.Wait()
}
