package importer

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"sojourn/cmd/sojourn/yamlfile"
	"sojourn/domain"
)

// BalanceMapping says what the rows of a file of opening balances mean. Columns
// are named as in a Mapping. A row's subject is that of the first of User, Email,
// Phone, Anonymous and Subject whose cell is not empty.
type BalanceMapping struct {
	// Separator and Header are as in a Mapping.
	Separator string `yaml:"separator"`
	Header    bool   `yaml:"header"`
	User      string `yaml:"user"`
	Email     string `yaml:"email"`
	Phone     string `yaml:"phone"`
	Anonymous string `yaml:"anonymous"`
	// Subject is a column of kind and value, such as user:42.
	Subject string `yaml:"subject"`
	Points  string `yaml:"points"`
	// Expires is when the row's points expire: never where the cell is empty.
	Expires Time   `yaml:"expires"`
	Tier    string `yaml:"tier"`
	// TierUntil is the end of the tier's hold.
	TierUntil Time `yaml:"tier_until"`

	// optional columns need not be in the file.
	optional bool
}

// StandardBalances is the mapping for files that name their columns user_id,
// email, phone, anonymous_id or subject, and points, expires, tier, tier_until. A
// column that the file does not have is left out.
func StandardBalances() *BalanceMapping {
	return &BalanceMapping{
		Header: true, User: "user_id", Email: "email", Phone: "phone", Anonymous: "anonymous_id", Subject: "subject",
		Points: "points", Expires: Time{Column: "expires"}, Tier: "tier", TierUntil: Time{Column: "tier_until"},
		optional: true,
	}
}

// LoadBalanceMapping reads and checks a mapping file. Errors name line and column.
func LoadBalanceMapping(path string) (*BalanceMapping, error) {
	d, err := yamlfile.Open(path)
	if err != nil {
		return nil, err
	}
	m := &BalanceMapping{}
	if err := d.Decode(m); err != nil {
		return nil, err
	}
	var errs []error
	bad := func(message string, path ...string) { errs = append(errs, d.Errorf(path, "%s", message)) }
	if _, err := separator(m.Separator); err != nil {
		bad(err.Error(), "separator")
	}
	if m.User+m.Email+m.Phone+m.Anonymous+m.Subject == "" {
		bad("name the column that says whose the points are: user, email, phone, anonymous or subject", "user")
	}
	if m.Points+m.Tier == "" {
		bad("name the column of the points (points) or of the tier (tier)", "points")
	}
	for _, key := range []string{"expires", "tier_until"} {
		t := m.Expires
		if key == "tier_until" {
			t = m.TierUntil
		}
		if t.Column == "" && (t.Format != "" || t.Zone != "") {
			bad("name the column of the time", key, "column")
		}
		if _, err := t.parser(); err != nil {
			bad(err.Error(), key, "format")
		}
		if _, err := time.LoadLocation(t.Zone); err != nil {
			bad(fmt.Sprintf("%q is no time zone: write one such as Europe/Paris", t.Zone), key, "zone")
		}
	}
	return m, errors.Join(errs...)
}

// Balance is the opening balance of one subject, of all its rows.
type Balance struct {
	Line int // of its first row
	// Row names it for ever: a hash of programme, subject, parts and tier, whatever
	// the order of the rows.
	Row     string
	Subject string
	// Parts are points by their expiry, the first first, at most one for each
	// instant; those that never expire stand last.
	Parts     []Part
	Tier      string    // empty for none
	TierUntil time.Time // zero for none
}

// Part is a number of points, 1 or more, and when they expire, zero for never.
type Part struct {
	Points  int64
	Expires time.Time
}

// maxParts is how many expiries one balance may have.
const maxParts = 1000

// Balances reads a whole file and puts the rows of each subject together, in the
// order of their first rows. bad are the rows that cannot be used. With one of its
// rows a subject is left out as a whole, so that the file may come again when it
// has been corrected; a subject that is not in the list cannot be counted twice.
func Balances(r io.Reader, format Format, m *BalanceMapping, programme string) (list []Balance, bad []*RowError, err error) {
	b, err := newBalances(format, m)
	if err != nil {
		return nil, nil, err
	}
	rs, err := rowsOf(r, format, m.Separator, m.Header)
	if err != nil {
		return nil, nil, err
	}
	for row, err := range rs(b.resolve) {
		var re *RowError
		switch {
		case errors.As(err, &re):
			b.leaveOut(re)
		case err != nil:
			return nil, b.bad, err
		default:
			b.add(row)
		}
	}
	return b.finish(programme), b.bad, nil
}

// subjectColumn is a column that may say whose a row is; kind is empty where the
// cell names it itself.
type subjectColumn struct {
	column
	kind domain.SubjectKind
}

// balances gathers the rows of a file.
type balances struct {
	m         *BalanceMapping
	format    Format
	expires   func(string) (time.Time, error)
	tierUntil func(string) (time.Time, error)

	subjects            []subjectColumn
	pointsAt, expiresAt *column
	tierAt, tierUntilAt *column
	list                []*gathered
	bySubject           map[string]*gathered
	bad                 []*RowError
	names               string // of the subjects' columns
}

// gathered are the rows of a subject so far.
type gathered struct {
	Balance
	tierLine  int
	unusable  bool
	byExpires map[int64]int64 // points by Unix milliseconds, never for never
}

// never stands for points that do not expire.
const never = math.MaxInt64

func newBalances(format Format, m *BalanceMapping) (*balances, error) {
	b := &balances{m: m, format: format, bySubject: map[string]*gathered{}}
	var expires, tierUntil error
	b.expires, expires = m.Expires.deadline()
	b.tierUntil, tierUntil = m.TierUntil.deadline()
	return b, errors.Join(expires, tierUntil)
}

// deadline is a parser for times until which something holds: a date without a
// time of day is its last millisecond. Without a format both RFC 3339 and
// 2027-03-01 are read.
func (t Time) deadline() (func(string) (time.Time, error), error) {
	if t.Format == "" {
		date, err := Time{Format: "YYYY-MM-DD", Zone: t.Zone}.deadline()
		return func(s string) (time.Time, error) {
			if at, err := time.Parse(time.RFC3339, s); err == nil {
				return at, nil
			}
			return date(s)
		}, err
	}
	parse, err := t.parser()
	if err != nil || t.hasClock() {
		return parse, err
	}
	return func(s string) (time.Time, error) {
		at, err := parse(s)
		return at.AddDate(0, 0, 1).Add(-time.Millisecond), err
	}, nil
}

// hasClock reports whether a format tells the time of day.
func (t Time) hasClock() bool {
	switch t.Format {
	case "", "rfc3339", "unix", "unix_ms":
		return true
	}
	layout := t.layout()
	return time.Date(2001, 12, 29, 1, 0, 0, 0, time.UTC).Format(layout) != time.Date(2001, 12, 29, 14, 0, 0, 0, time.UTC).Format(layout)
}

func (b *balances) resolve(header []string) error {
	var errs []error
	find := func(name string) *column {
		if name == "" {
			return nil
		}
		c, err := locate(b.format, header, name)
		if err != nil {
			if !b.m.optional {
				errs = append(errs, err)
			}
			return nil
		}
		return &c
	}
	var names []string
	for _, s := range []struct {
		name string
		kind domain.SubjectKind
	}{{b.m.User, domain.User}, {b.m.Email, domain.Email}, {b.m.Phone, domain.Phone}, {b.m.Anonymous, domain.Anon}, {b.m.Subject, ""}} {
		if c := find(s.name); c != nil {
			b.subjects = append(b.subjects, subjectColumn{*c, s.kind})
			names = append(names, s.name)
		}
	}
	b.names = strings.Join(names, ", ")
	b.pointsAt, b.expiresAt = find(b.m.Points), find(b.m.Expires.Column)
	b.tierAt, b.tierUntilAt = find(b.m.Tier), find(b.m.TierUntil.Column)
	if len(errs) == 0 && (len(b.subjects) == 0 || b.pointsAt == nil && b.tierAt == nil) {
		errs = append(errs, fmt.Errorf("the file has the columns %s; needed are one of user_id, email, phone, anonymous_id and subject, and points or tier. "+
			"Where they have other names, say so in a mapping", strings.Join(header, ", ")))
	}
	return errors.Join(errs...)
}

// leaveOut is for a row of nobody that is known.
func (b *balances) leaveOut(e *RowError) {
	e.Err = fmt.Errorf("%w; left out", e.Err)
	b.bad = append(b.bad, e)
}

// add takes a row into its subject's balance.
func (b *balances) add(r row) {
	at := func(c *column) cell {
		if c == nil {
			return cell{}
		}
		return r.cell(*c)
	}
	subject, name, err := b.subject(r)
	if err != nil {
		b.leaveOut(&RowError{Line: r.line, Column: name, Err: err})
		return
	}
	g := b.bySubject[subject]
	if g == nil {
		g = &gathered{Balance: Balance{Line: r.line, Subject: subject}, byExpires: map[int64]int64{}}
		b.bySubject[subject] = g
		b.list = append(b.list, g)
	}
	unusable := func(name, format string, args ...any) {
		err := fmt.Errorf("%w; left out with all rows of %s", fmt.Errorf(format, args...), subject)
		b.bad = append(b.bad, &RowError{Line: r.line, Column: name, Err: err})
		g.unusable = true
	}

	points, expires := at(b.pointsAt), at(b.expiresAt)
	key := int64(never)
	if expires.there {
		t, err := b.expires(expires.text)
		if err != nil {
			unusable(b.expiresAt.name, "%q is not written as the mapping says", expires.text)
			return
		}
		key = t.UnixMilli()
	}
	if points.there {
		n, err := whole(points.text)
		switch {
		case err != nil:
			unusable(b.pointsAt.name, "%w", err)
			return
		case g.byExpires[key] > math.MaxInt64-n:
			unusable(b.pointsAt.name, "the points of %s are too many", subject)
			return
		case n > 0:
			g.byExpires[key] += n
		}
		if len(g.byExpires) == maxParts+1 && !g.unusable {
			unusable(b.pointsAt.name, "the points of %s expire at more than %d instants", subject, maxParts)
			return
		}
	}

	tier, until := at(b.tierAt), at(b.tierUntilAt)
	var end time.Time
	if until.there {
		if end, err = b.tierUntil(until.text); err != nil {
			unusable(b.tierUntilAt.name, "%q is not written as the mapping says", until.text)
			return
		}
		if !tier.there {
			unusable(b.tierUntilAt.name, "the end of a tier, but no tier")
			return
		}
	}
	switch {
	case !tier.there && !points.there:
		unusable("", "neither points nor a tier")
	case !tier.there:
	case g.tierLine == 0:
		g.Tier, g.TierUntil, g.tierLine = tier.text, end.UTC(), r.line
	case g.Tier != tier.text || !g.TierUntil.Equal(end):
		unusable(b.tierAt.name, "%s has another tier or another end of it in line %d", subject, g.tierLine)
	}
}

// subject reads whose a row is; name is the column that an error is about.
func (b *balances) subject(r row) (subject, name string, err error) {
	for _, c := range b.subjects {
		cell := r.cell(c.column)
		if !cell.there {
			continue
		}
		text := cell.text
		if c.kind != "" {
			text = string(c.kind) + ":" + text
		}
		s, err := domain.ParseSubject(text)
		return s.String(), c.name, err
	}
	return "", b.names, errors.New("it is empty: whose points are these?")
}

// whole reads a number of points: a whole number, of which 120.00 is one.
func whole(s string) (int64, error) {
	digits, fraction, _ := strings.Cut(s, ".")
	n, err := strconv.ParseInt(digits, 10, 64)
	switch {
	case err != nil || strings.Trim(fraction, "0") != "":
		return 0, fmt.Errorf("%q is no whole number", domain.Excerpt(s))
	case n < 0:
		return 0, fmt.Errorf("%q is below zero; a debt cannot be an opening balance", domain.Excerpt(s))
	}
	return n, nil
}

// finish names the balances.
func (b *balances) finish(programme string) []Balance {
	list := make([]Balance, 0, len(b.list))
	for _, g := range b.list {
		if g.unusable || len(g.byExpires) == 0 && g.Tier == "" {
			continue
		}
		for at, points := range g.byExpires {
			p := Part{Points: points}
			if at != never {
				p.Expires = time.UnixMilli(at).UTC()
			}
			g.Parts = append(g.Parts, p)
		}
		slices.SortFunc(g.Parts, func(a, b Part) int { return cmp.Compare(a.order(), b.order()) })
		g.Row = g.name(programme)
		list = append(list, g.Balance)
	}
	return list
}

func (p Part) order() int64 {
	if p.Expires.IsZero() {
		return never
	}
	return p.Expires.UnixMilli()
}

// name is a hash of all that the balance says.
func (b *Balance) name(programme string) string {
	fields := []string{programme, b.Subject, b.Tier, ""}
	if !b.TierUntil.IsZero() {
		fields[3] = strconv.FormatInt(b.TierUntil.UnixMilli(), 10)
	}
	for _, p := range b.Parts {
		fields = append(fields, strconv.FormatInt(p.Points, 10), strconv.FormatInt(p.order(), 10))
	}
	sum := sha256.Sum256(fieldsIdentity(nil, fields))
	return "balance-" + hex.EncodeToString(sum[:16])
}
