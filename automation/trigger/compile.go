package trigger

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"sojourn/automation/delivery"
	"sojourn/condition"
	"sojourn/domain"
	"sojourn/domain/policy"
)

// Names are the words that a document may use. A nil list leaves its words
// unchecked, which is how a document of the log is read under another policy.
type Names struct {
	condition.Env
	Destinations []string
	// Kinds are what the destinations are, by name; one that is missing is not
	// checked.
	Kinds map[string]delivery.Kind
}

// Trigger is a document that can be asked.
type Trigger struct {
	Document
	Version int
	// Condition is the compiled where, nil where there is none.
	Condition *condition.Condition
	// Templates make the message, or the properties of a touchpoint; nil where points
	// are given.
	Templates *delivery.Templates

	freshness, coolDown domain.Millis
	atMost, cap         *Bound
	window, quiet       *hours
	ticks               cron.Schedule // of a schedule, and of points that expire
	tickZone            *time.Location
}

// DefaultFreshness is how old a change may be when it is first offered.
const DefaultFreshness = domain.Day

const maxPeriod = 3660 * domain.Day

type validator struct{ problems policy.Problems }

func (v *validator) add(message string, path ...string) {
	v.problems = append(v.problems, policy.Problem{Path: slices.Clone(path), Message: message})
}

var idPattern = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,63}$`)

// Compile checks a document and makes a trigger of it. The error is
// policy.Problems: everything that is wrong, each with its path.
func Compile(d *Document, n *Names) (*Trigger, error) {
	v := &validator{}
	t := &Trigger{Document: *d}
	if !idPattern.MatchString(d.ID) {
		v.add(fmt.Sprintf("%q is no id: 1 to 64 lower case letters, digits, _ and -, a letter first", d.ID), "id")
	}
	v.on(t, n)
	if strings.TrimSpace(d.Where) != "" {
		env := n.Env
		env.Event = true
		c, err := condition.Compile(d.Where, env)
		if err != nil {
			v.add(err.Error(), "where")
		}
		t.Condition = c
	}
	v.limits(t)
	v.do(t, n)
	if d.WhileThere && d.On.Touchpoint != nil {
		v.add("a touchpoint leads nowhere that one could leave; use it with changes only", "while_there")
	}
	if len(v.problems) > 0 {
		return nil, v.problems
	}
	return t, nil
}

func (v *validator) word(what, word string, known []string, path ...string) {
	if known == nil || slices.Contains(known, word) {
		return
	}
	message := fmt.Sprintf("%q is no %s", word, what)
	if near, ok := policy.Nearest(word, known); ok {
		message += fmt.Sprintf("; did you mean %q?", near)
	} else if len(known) > 0 {
		message += "; known are " + strings.Join(known, ", ")
	} else {
		message += "; there is none yet"
	}
	v.add(message, path...)
}

func (v *validator) words(what string, words, known []string, path ...string) {
	for i, w := range words {
		v.word(what, w, known, append(slices.Clone(path), strconv.Itoa(i))...)
	}
}

const onKinds = "transition, tier, satisfaction, touchpoint, segment, absence, schedule or points_expiring"

func (v *validator) on(t *Trigger, n *Names) {
	o := &t.On
	count := 0
	if o.Transition != nil {
		count++
		v.words("stage", o.Transition.From, withNone(n.Stages), "on", "transition", "from")
		v.words("stage", o.Transition.To, n.Stages, "on", "transition", "to")
	}
	if o.Tier != nil {
		count++
		v.tier(o.Tier, n)
	}
	if o.Satisfaction != nil {
		count++
		v.words("status", o.Satisfaction.From, n.Statuses, "on", "satisfaction", "from")
		v.words("status", o.Satisfaction.To, n.Statuses, "on", "satisfaction", "to")
	}
	if o.Touchpoint != nil {
		count++
		if (o.Touchpoint.Name == "") == (o.Touchpoint.Meaning == "") {
			v.add("say either its name or its meaning", "on", "touchpoint")
		} else if o.Touchpoint.Meaning != "" {
			v.word("meaning", o.Touchpoint.Meaning, n.Meanings, "on", "touchpoint", "meaning")
		}
	}
	if o.Segment != nil {
		count++
		if (o.Segment.Entered == "") == (o.Segment.Left == "") {
			v.add("say either entered or left", "on", "segment")
		} else if o.Segment.Entered != "" {
			v.word("segment", o.Segment.Entered, n.Segments, "on", "segment", "entered")
		} else {
			v.word("segment", o.Segment.Left, n.Segments, "on", "segment", "left")
		}
	}
	if o.Absence != nil {
		count++
		v.absence(&t.Document, n)
	}
	if o.Schedule != nil {
		count++
		v.schedule(o.Schedule, t, n)
	}
	if o.PointsExpiring != nil {
		count++
		v.expiring(t, n)
	}
	if count != 1 {
		v.add("say exactly one of "+onKinds, "on")
	}
}

// withNone are words and the empty one: where a new customer comes from.
func withNone(words []string) []string {
	if words == nil {
		return nil
	}
	return append(slices.Clone(words), "")
}

func (v *validator) tier(t *Tier, n *Names) {
	if n.Programmes == nil {
		return
	}
	var programmes, tiers []string
	for p, all := range n.Programmes {
		programmes = append(programmes, p)
		if t.Programme == "" || t.Programme == p {
			tiers = append(tiers, all...)
		}
	}
	slices.Sort(programmes)
	slices.Sort(tiers)
	if t.Programme != "" {
		if v.word("programme", t.Programme, programmes, "on", "tier", "programme"); !slices.Contains(programmes, t.Programme) {
			return
		}
	}
	v.words("tier", t.From, withNone(slices.Compact(tiers)), "on", "tier", "from")
	v.words("tier", t.To, slices.Compact(tiers), "on", "tier", "to")
}

// ParsePeriod reads a time such as 90m, 24h, 30d or 1d12h; a day is 24 hours.
func ParsePeriod(s string) (domain.Millis, error) {
	bad := fmt.Errorf("%q is no time such as 90m, 24h or 30d", s)
	days, rest, ok := strings.Cut(s, "d")
	if !ok {
		days, rest = "0", s
	}
	n, err := strconv.Atoi(days)
	if err != nil || n < 0 || n > 1e6 {
		return 0, bad
	}
	var d time.Duration
	if rest != "" {
		if d, err = time.ParseDuration(rest); err != nil {
			return 0, bad
		}
	}
	p := domain.Millis(n)*domain.Day + domain.Millis(d.Milliseconds())
	if p <= 0 {
		return 0, fmt.Errorf("%q is not above zero", s)
	}
	if p > maxPeriod {
		return 0, fmt.Errorf("%q is more than ten years", s)
	}
	return p, nil
}

func (v *validator) period(s string, path ...string) domain.Millis {
	p, err := ParsePeriod(s)
	if err != nil {
		v.add(err.Error(), path...)
	}
	return p
}

func (v *validator) count(c *Count, key string) *Bound {
	if c == nil {
		return nil
	}
	if c.Times < 1 || c.Times > 1_000_000 {
		v.add(fmt.Sprintf("%d is not from 1 to a million", c.Times), "limits", key, "times")
	}
	return &Bound{c.Times, v.period(c.Per, "limits", key, "per")}
}

func (v *validator) limits(t *Trigger) {
	l := &t.Limits
	t.freshness = DefaultFreshness
	if l.Freshness != "" {
		t.freshness = v.period(l.Freshness, "limits", "freshness")
	}
	if c := l.Consent; c != nil && (c.Trait == "") == (c.Category == "") {
		v.add("say either the trait or the category that holds it", "limits", "consent")
	}
	if !(l.Holdout >= 0 && l.Holdout < 1) || math.IsNaN(l.Holdout) {
		v.add(fmt.Sprintf("%v is no share from 0 to below 1", l.Holdout), "limits", "holdout")
	}
	t.atMost, t.cap = v.count(l.AtMost, "at_most"), v.count(l.Cap, "cap")
	if l.CoolDown != "" {
		t.coolDown = v.period(l.CoolDown, "limits", "cool_down")
	}
	if l.TimeZone != "" {
		if _, err := time.LoadLocation(l.TimeZone); err != nil || l.TimeZone == "Local" {
			v.add(fmt.Sprintf("%q is no time zone such as Europe/Berlin", l.TimeZone), "limits", "time_zone")
		}
	}
	if w := l.Window; w != nil {
		t.window = v.hours(w.From, w.To, "limits", "send_window")
		if len(w.Days) > 0 && t.window != nil {
			t.window.days = [7]bool{}
			for i, day := range w.Days {
				n := slices.Index(weekdays, day)
				if n < 0 {
					v.word("day of the week", day, weekdays, "limits", "send_window", "days", strconv.Itoa(i))
					continue
				}
				t.window.days[n] = true
			}
		}
	}
	if q := l.QuietHours; q != nil {
		t.quiet = v.hours(q.From, q.To, "limits", "quiet_hours")
	}
	if len(v.problems) == 0 {
		if _, ok := t.next(0, time.UTC); !ok {
			v.add("the quiet hours leave no moment of the send window", "limits", "quiet_hours")
		}
	}
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

func (v *validator) hours(from, to string, path ...string) *hours {
	at := func(s, key string, end bool) int {
		if end && s == "24:00" {
			return 24 * 60
		}
		clock, err := time.Parse("15:04", s)
		if err != nil {
			v.add(fmt.Sprintf("%q is no time of the day such as 08:30", s), append(slices.Clone(path), key)...)
		}
		return clock.Hour()*60 + clock.Minute()
	}
	h := &hours{from: at(from, "from", false), to: at(to, "to", true), days: [7]bool{true, true, true, true, true, true, true}}
	if h.to <= h.from {
		if h.to == h.from {
			v.add("from and to are the same time", append(slices.Clone(path), "to")...)
		}
		h.to += 24 * 60
	}
	return h
}

// Action is the kind of what the trigger does.
func (d *Do) Action() string {
	switch {
	case d.Webhook != nil:
		return "webhook"
	case d.Email != nil:
		return "email"
	case d.Kafka != nil:
		return "kafka"
	case d.Touchpoint != nil:
		return "touchpoint"
	case d.Points != nil:
		return "points"
	}
	return ""
}

// Destination is the name of where it goes, empty for what Sojourn appends itself.
func (d *Do) Destination() string {
	switch {
	case d.Webhook != nil:
		return d.Webhook.Destination
	case d.Email != nil:
		return d.Email.Destination
	case d.Kafka != nil:
		return d.Kafka.Destination
	}
	return ""
}

func (v *validator) do(t *Trigger, n *Names) {
	d := &t.Do
	count := 0
	for _, given := range [...]bool{d.Webhook != nil, d.Email != nil, d.Kafka != nil, d.Touchpoint != nil, d.Points != nil} {
		if given {
			count++
		}
	}
	if count != 1 {
		v.add("say exactly one of webhook, email, kafka, touchpoint or points", "do")
		return
	}
	if d.Points != nil {
		if d.Points.Points < 1 || d.Points.Points > 1_000_000_000 {
			v.add(fmt.Sprintf("%d is not from 1 to a billion points", d.Points.Points), "do", "points", "points")
		}
		if n.Programmes != nil && d.Points.Programme != "" {
			var known []string
			for p := range n.Programmes {
				known = append(known, p)
			}
			slices.Sort(known)
			v.word("programme", d.Points.Programme, known, "do", "points", "programme")
		}
	}
	if d.Touchpoint != nil && strings.TrimSpace(d.Touchpoint.Name) == "" {
		v.add("name the touchpoint", "do", "touchpoint", "name")
	}
	if action := d.Action(); d.Touchpoint == nil && d.Points == nil {
		if name := d.Destination(); name == "" {
			v.add("name the destination", "do", action, "destination")
		} else {
			v.word("destination", name, n.Destinations, "do", action, "destination")
			if kind, ok := n.Kinds[name]; ok && string(kind) != action {
				v.add(fmt.Sprintf("%q is a destination of kind %s", name, kind), "do", action, "destination")
			}
		}
	}
	kind, content := d.content()
	if content == nil {
		return
	}
	templates, err := content.Compile(kind)
	for _, err := range joined(err) {
		part := "body"
		var te *delivery.TemplateError
		if errors.As(err, &te) {
			part = te.Part
		}
		if d.Touchpoint != nil {
			part = "properties"
		}
		v.add(err.Error(), append([]string{"do", d.Action()}, strings.SplitN(part, ".", 2)...)...)
	}
	t.Templates = templates
}

// content is what an action sends, as templates.
func (d *Do) content() (delivery.Kind, *delivery.Content) {
	switch {
	case d.Webhook != nil:
		return delivery.Webhook, &delivery.Content{Body: d.Webhook.Body, Header: d.Webhook.Header}
	case d.Kafka != nil:
		return delivery.Kafka, &delivery.Content{Body: d.Kafka.Body, Header: d.Kafka.Header, Key: d.Kafka.Key}
	case d.Email != nil:
		return delivery.Email, &delivery.Content{To: d.Email.To, Subject: d.Email.Subject, Text: d.Email.Text, HTML: d.Email.HTML}
	case d.Touchpoint != nil:
		body := d.Touchpoint.Properties
		if body == "" {
			body = "{}"
		}
		return delivery.Kafka, &delivery.Content{Body: body}
	}
	return "", nil
}

// joined are the errors that an error joins.
func joined(err error) []error {
	var several interface{ Unwrap() []error }
	switch {
	case err == nil:
		return nil
	case errors.As(err, &several):
		return several.Unwrap()
	}
	return []error{err}
}

// Matches reports whether a change starts the trigger, where apart. names are what
// a touchpoint is called: its name, and its meaning.
func (t *Trigger) Matches(c *Offer) bool {
	any := func(list []string, word string) bool { return len(list) == 0 || slices.Contains(list, word) }
	switch o := &t.On; c.Type {
	case "stage.entered":
		return o.Transition != nil && any(o.Transition.From, c.From) && any(o.Transition.To, c.To)
	case "tier.entered":
		return o.Tier != nil && (o.Tier.Programme == "" || o.Tier.Programme == c.Programme) && any(o.Tier.From, c.From) && any(o.Tier.To, c.To)
	case "satisfaction.entered":
		return o.Satisfaction != nil && any(o.Satisfaction.From, c.From) && any(o.Satisfaction.To, c.To)
	case "segment.entered":
		return o.Segment != nil && o.Segment.Entered == c.Programme || o.Absence != nil && c.Programme == domain.TriggerSegment(t.ID)
	case "segment.left":
		return o.Segment != nil && o.Segment.Left == c.Programme
	case TypeSchedule:
		return o.Schedule != nil && o.Schedule.Segment == c.Programme
	case TypeExpiring:
		return o.PointsExpiring != nil && c.InSegment() == domain.TriggerSegment(t.ID)
	case "touchpoint":
		return o.Touchpoint != nil && (o.Touchpoint.Name != "" && strings.EqualFold(o.Touchpoint.Name, c.To) ||
			o.Touchpoint.Meaning != "" && o.Touchpoint.Meaning == c.Meaning)
	}
	return false
}
