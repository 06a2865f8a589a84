package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/eventstore"
)

// Log is what Destinations needs of the event store.
type Log interface {
	Append(ctx context.Context, stream string, expected eventstore.Expected, events ...eventstore.NewEvent) (eventstore.Result, error)
	ReadStream(ctx context.Context, stream string, from uint64, dir eventstore.Direction) iter.Seq2[eventstore.Recorded, error]
}

// ErrUnknown is answered for a destination that there is not.
var ErrUnknown = errors.New("there is no destination of that name")

// DefaultOverlap is how long a signing secret stays valid beside the one that
// replaces it.
const DefaultOverlap = 24 * time.Hour

// savedEvent is the data of a domain.TypeDestinationSaved: a destination as it
// stands from there on. The last one of a name holds.
type savedEvent struct {
	Version     int            `json:"v"`
	Action      string         `json:"action"` // created, changed, rotated, enabled or disabled
	At          domain.Millis  `json:"at"`
	Destination Destination    `json:"destination"`
	Secrets     []sealedSecret `json:"secrets,omitempty"` // the newest first
}

type sealedSecret struct {
	Sealed []byte `json:"sealed"`
	// Until is when it ceases to be valid; 0 for never.
	Until domain.Millis `json:"until,omitempty"`
}

// Destinations keeps the destinations: documents in the log, their secrets
// encrypted. Its methods may be called concurrently, and by several processes on
// one log.
type Destinations struct {
	log     Log
	sealer  *Sealer
	guard   *Guard
	now     func() time.Time
	changed func(name string)

	change sync.Mutex // held to change

	mu   sync.RWMutex
	next uint64 // revision of the stream to read from
	all  map[string]*saved
}

// saved is a destination with its secrets in the clear.
type saved struct {
	savedEvent
	created domain.Millis
	secrets []Secret // as event.Secrets; zero where it cannot be decrypted
	err     error    // of the decryption of the newest
}

// LoadDestinations reads the destinations from the log. A secret whose key is not
// here is no error before it is needed. now may be nil: time.Now; changed may be
// nil, and is called after a destination has changed, with none of our locks held.
func LoadDestinations(ctx context.Context, log Log, sealer *Sealer, guard *Guard, now func() time.Time, changed func(name string)) (*Destinations, error) {
	if now == nil {
		now = time.Now
	}
	if changed == nil {
		changed = func(string) {}
	}
	d := &Destinations{log: log, sealer: sealer, guard: guard, now: now, changed: changed, all: make(map[string]*saved)}
	return d, d.Refresh(ctx)
}

// Refresh takes in what other processes have changed.
func (d *Destinations) Refresh(ctx context.Context) error {
	d.mu.Lock()
	var names []string
	err := func() error {
		for e, err := range d.log.ReadStream(ctx, domain.StreamDestinations, d.next, eventstore.Forwards) {
			if errors.Is(err, eventstore.ErrStreamNotFound) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("read the destinations: %w", err)
			}
			if e.Revision < d.next {
				continue
			}
			name, err := d.apply(e.Type, e.Data)
			if err != nil {
				return fmt.Errorf("read a destination at position %d: %w", e.Position, err)
			}
			d.next = e.Revision + 1
			names = append(names, name)
		}
		return nil
	}()
	d.mu.Unlock()
	for _, name := range names {
		d.changed(name)
	}
	return err
}

func (d *Destinations) apply(typ string, data []byte) (string, error) {
	if typ != domain.TypeDestinationSaved {
		return "", fmt.Errorf("unknown event type %q", typ)
	}
	s := &saved{}
	if err := json.Unmarshal(data, &s.savedEvent); err != nil {
		return "", err
	}
	s.created = s.At
	if before := d.all[s.Destination.Name]; before != nil {
		s.created = before.created
	}
	for i, x := range s.Secrets {
		secret, err := d.sealer.Open(s.Destination.Name, x.Sealed)
		if err != nil && i == 0 { // nothing depends on the one before it
			s.err = err
		}
		s.secrets = append(s.secrets, secret)
	}
	d.all[s.Destination.Name] = s
	return s.Destination.Name, nil
}

// Get is a destination with the secrets that are valid now. It reads memory only.
// Where a secret cannot be decrypted the destination counts as disabled.
func (d *Destinations) Get(name string) (Destination, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	s := d.all[name]
	if s == nil {
		return Destination{}, false
	}
	dest := s.Destination
	if s.err != nil {
		dest.Enabled, dest.Reason = false, s.err.Error()
		return dest, true
	}
	now := domain.Millis(d.now().UnixMilli())
	for i, secret := range s.secrets {
		if until := s.Secrets[i].Until; !secret.IsZero() && (until == 0 || now < until) {
			dest.Secrets = append(dest.Secrets, secret)
		}
	}
	return dest, true
}

// Info is what is told of a destination: all but the secrets.
type Info struct {
	Destination
	CreatedAt, ChangedAt time.Time
	// Secrets is how many are valid, and OldUntil how long the one before the
	// newest is, zero for no such one.
	Secrets  int
	OldUntil time.Time
}

// List is every destination, by name.
func (d *Destinations) List() []Info {
	d.mu.RLock()
	names := slices.Sorted(maps.Keys(d.all))
	d.mu.RUnlock()
	all := make([]Info, 0, len(names))
	for _, name := range names {
		if i, ok := d.Info(name); ok {
			all = append(all, i)
		}
	}
	return all
}

// Info is what is told of one destination.
func (d *Destinations) Info(name string) (Info, bool) {
	dest, ok := d.Get(name)
	if !ok {
		return Info{}, false
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	s := d.all[name]
	i := Info{Destination: dest, CreatedAt: s.created.Time(), ChangedAt: s.At.Time(), Secrets: len(dest.Secrets)}
	i.Destination.Secrets = nil
	if len(dest.Secrets) > 1 {
		i.OldUntil = s.Secrets[1].Until.Time()
	}
	return i, true
}

// Save makes a destination, or changes the one of that name, whose secrets stay
// where secret is zero. A webhook that has none gets a signing secret, which is
// returned this once. The rest of what the caller sets in dest is taken, Enabled
// too. It is durable when Save returns. The error is ErrInvalid for what makes no
// sense, ErrForbidden for an address that is not open.
func (d *Destinations) Save(ctx context.Context, dest Destination, secret Secret) (made Secret, err error) {
	dest.Secrets = nil
	if dest.Enabled {
		dest.Reason = ""
	}
	if err := dest.Validate(); err != nil {
		return Secret{}, err
	}
	if err := d.open(&dest); err != nil {
		return Secret{}, err
	}
	if dest.Kind == Webhook && !secret.IsZero() {
		if err := validSigningSecret(secret); err != nil {
			return Secret{}, err
		}
	}
	_, err = d.append(ctx, dest.Name, func(before *saved) (*savedEvent, error) {
		made = Secret{}
		e := &savedEvent{Action: "created", Destination: dest}
		if before != nil {
			if before.Destination.Kind != dest.Kind {
				return nil, invalid("kind", "%s is of kind %s; make another destination", dest.Name, before.Destination.Kind)
			}
			e.Action, e.Secrets = "changed", before.Secrets
			if dest.Kind != Webhook && dest.needsSecret() == "" && secret.IsZero() {
				e.Secrets = nil // there is nobody to tell it to
			}
			if len(e.Secrets) > 0 && secret.IsZero() && dest.secretGoesTo() != before.Destination.secretGoesTo() {
				return nil, invalid("secret", "give the password again, as it would go to another server")
			}
		}
		switch {
		case !secret.IsZero():
			e.Secrets = []sealedSecret{{Sealed: d.sealer.Seal(dest.Name, secret)}}
		case dest.Kind == Webhook && len(e.Secrets) == 0:
			made = newSigningSecret()
			e.Secrets = []sealedSecret{{Sealed: d.sealer.Seal(dest.Name, made)}}
		}
		if needs := dest.needsSecret(); needs != "" && len(e.Secrets) == 0 {
			return nil, invalid("secret", "%s", needs)
		}
		return e, nil
	})
	return made, err
}

// secretGoesTo is whom a password is told to; a signing secret is told to nobody.
func (d *Destination) secretGoesTo() string {
	switch {
	case d.SMTP != nil:
		return fmt.Sprint(d.SMTP.Host, d.SMTP.Port, d.SMTP.TLS)
	case d.Topic != nil:
		return fmt.Sprint(d.Topic.Brokers, d.Topic.TLS, d.Topic.SASL)
	}
	return ""
}

// needsSecret says why a destination cannot do without a secret.
func (d *Destination) needsSecret() string {
	switch {
	case d.SMTP != nil && d.SMTP.Username != "", d.Topic != nil && d.Topic.Username != "":
		return "the password that belongs to the username is missing"
	}
	return ""
}

// open checks an address that is written as numbers; a name is checked whenever
// it is dialled.
func (d *Destinations) open(dest *Destination) error {
	var hosts []string
	switch dest.Kind {
	case Webhook:
		u, err := url.Parse(dest.URL)
		if err != nil {
			return err
		}
		hosts = []string{u.Hostname()}
	case Email:
		hosts = []string{strings.Trim(dest.SMTP.Host, "[]")}
	case Kafka:
		for _, b := range dest.Topic.Brokers {
			hosts = append(hosts, strings.Trim(b[:strings.LastIndexByte(b, ':')], "[]"))
		}
	}
	for _, h := range hosts {
		if a, err := netip.ParseAddr(h); err == nil {
			if err := d.guard.Check(a); err != nil {
				return err
			}
		}
	}
	return nil
}

// Rotate replaces the secret of a destination: by the one given, or a signing
// secret that is made and returned this once. The signing secret before stays
// valid for overlap (one that was older does not); a password is replaced at once.
func (d *Destinations) Rotate(ctx context.Context, name string, secret Secret, overlap time.Duration) (made Secret, err error) {
	if overlap < 0 || overlap > 30*24*time.Hour {
		return Secret{}, invalid("overlap", "%v is not from 0 to 30 days", overlap)
	}
	_, err = d.append(ctx, name, func(before *saved) (*savedEvent, error) {
		if before == nil {
			return nil, ErrUnknown
		}
		e := &savedEvent{Action: "rotated", Destination: before.Destination}
		made = Secret{}
		next := secret
		switch {
		case e.Destination.Kind != Webhook:
			if secret.IsZero() {
				return nil, invalid("secret", "give the new password")
			}
		case secret.IsZero():
			made = newSigningSecret()
			next = made
		default:
			if err := validSigningSecret(secret); err != nil {
				return nil, err
			}
		}
		e.Secrets = []sealedSecret{{Sealed: d.sealer.Seal(name, next)}}
		if e.Destination.Kind == Webhook && overlap > 0 && len(before.secrets) > 0 && !before.secrets[0].IsZero() {
			e.Secrets = append(e.Secrets, sealedSecret{
				Sealed: d.sealer.Seal(name, before.secrets[0]), Until: domain.Millis(d.now().Add(overlap).UnixMilli()),
			})
		}
		return e, nil
	})
	return made, err
}

// Enable lets deliveries go to a destination again. It is no error where they do.
func (d *Destinations) Enable(ctx context.Context, name string) error {
	return d.setEnabled(ctx, name, true, "")
}

// Disable keeps deliveries back; they wait, until they are given up. reason is
// told with the destination.
func (d *Destinations) Disable(ctx context.Context, name, reason string) error {
	return d.setEnabled(ctx, name, false, reason)
}

func (d *Destinations) setEnabled(ctx context.Context, name string, enabled bool, reason string) error {
	_, err := d.append(ctx, name, func(before *saved) (*savedEvent, error) {
		if before == nil {
			return nil, ErrUnknown
		}
		if before.Destination.Enabled == enabled {
			return nil, nil
		}
		e := &savedEvent{Action: "disabled", Destination: before.Destination, Secrets: before.Secrets}
		if enabled {
			e.Action = "enabled"
		}
		e.Destination.Enabled, e.Destination.Reason = enabled, reason
		return e, nil
	})
	return err
}

// append decides on what stands and appends it behind just that. decide is called
// again where another process was faster; nil and no error: nothing to change.
func (d *Destinations) append(ctx context.Context, name string, decide func(before *saved) (*savedEvent, error)) (eventstore.Position, error) {
	d.change.Lock()
	defer d.change.Unlock()
	for {
		if err := d.Refresh(ctx); err != nil {
			return 0, err
		}
		d.mu.RLock()
		before, next := d.all[name], d.next
		d.mu.RUnlock()
		e, err := decide(before)
		if err != nil || e == nil {
			return 0, err
		}
		e.Version, e.At = 1, domain.Millis(d.now().UnixMilli())
		data, err := json.Marshal(e)
		if err != nil {
			return 0, err
		}
		id, err := uuid.NewRandom()
		if err != nil {
			return 0, err
		}
		expected := eventstore.Expected(eventstore.NoStream{})
		if next > 0 {
			expected = eventstore.Revision(next - 1)
		}
		r, err := d.log.Append(ctx, domain.StreamDestinations, expected, eventstore.NewEvent{ID: id, Type: domain.TypeDestinationSaved, Data: data})
		if errors.Is(err, eventstore.ErrWrongRevision) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("append a destination: %w", err)
		}
		return r.Position, d.Refresh(ctx)
	}
}
