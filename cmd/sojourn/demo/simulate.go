package demo

import (
	"math"
	"math/rand/v2"
	"time"
)

const (
	second = int64(1000)
	minute = 60 * second
	hour   = 60 * minute
	day    = 24 * hour
)

// kind is what a message tells.
type kind uint8

const (
	pageViewed kind = iota
	screenViewed
	productListViewed
	productSearched
	productViewed
	productAdded
	cartViewed
	checkoutStarted
	orderCompleted
	orderUpdated
	orderRefunded
	orderCancelled
	signedUp
	identified
	emailOpened
	emailClicked
	grouped
	surveySent
	surveyAnswered
	productReviewed
	complaintOpened
	complaintUpdated
	complaintResolved
	ticketOpened
	ticketReplied
	ticketEscalated
	ticketResolved
	ticketReopened
	chatStarted
	chatSent
	chatReceived
	chatEnded
	callStarted
	callAnswered
	callMissed
	callEnded
)

const (
	loggedIn   uint8 = 1 << iota // the message carries the user id
	fromServer                   // sent by the shop's server: the user id alone
	partial                      // of a refund: not all of the order
)

// event is a message before it is written.
type event struct {
	at       int64 // ms
	salt     uint64
	customer uint32
	seq      uint32
	order    uint32 // number of the customer's order, case or survey
	kind     kind
	device   uint8 // 0 or 1: the person's first or second device
	flags    uint8
	value    uint8 // a score, who replied, or minutes, by the kind
}

type shop struct {
	seed       uint64
	customers  int
	start, end int64
	season     []float64 // by day, at most 1
}

func newShop(cfg Config) *shop {
	end := cfg.End.UnixMilli()
	s := &shop{customers: max(cfg.Customers, 1), end: end, start: end - int64(max(cfg.Days, 1))*day}
	// Another end is another history: the same message ids must not come with
	// other times.
	s.seed = mix(cfg.Seed ^ mix(uint64(s.start)) ^ mix(^uint64(end)))
	peak := 0.0
	for d := s.start; d < end; d += day {
		t := time.UnixMilli(d).UTC()
		f := 1 + 0.08*math.Sin(2*math.Pi*float64(t.YearDay())/365)
		x := float64(t.YearDay()-345) / 18
		f += 0.7 * math.Exp(-x*x) // Christmas
		switch t.Weekday() {
		case time.Saturday, time.Sunday:
			f *= 1.35
		case time.Tuesday:
			f *= 0.88
		}
		s.season = append(s.season, f)
		peak = max(peak, f)
	}
	for i := range s.season {
		s.season[i] /= peak
	}
	return s
}

// person is what stays the same about a customer; it is made of the seed and the
// customer's number alone.
type person struct {
	salt    uint64
	devices [2]uint8
	country uint8
	never   bool // stays anonymous
	lead    bool // makes an account and never buys
	company bool // buys for a company, more at a time
}

func (s *shop) person(i int) person {
	h := mix(s.seed + mix(uint64(i)))
	p := person{salt: h, country: country(int(h >> 40 % 100))}
	p.devices[0] = uint8(h % 4)
	p.devices[1] = uint8(2 + h>>8%4)
	if p.devices[1] == p.devices[0] {
		p.devices[1] = firstApp
	}
	switch r := h >> 16 % 100; {
	case r < 26:
		p.never = true
	case r < 44:
		p.lead = true
	case r < 48:
		p.company = true
	}
	return p
}

func country(r int) uint8 {
	for i := range countries {
		if r -= countries[i].weight; r < 0 {
			return uint8(i)
		}
	}
	return 0
}

// source makes a customer's random numbers.
func (p person) source() *rand.Rand { return rand.New(rand.NewPCG(p.salt, mix(p.salt))) }

// gamma draws from a gamma distribution (Marsaglia and Tsang 2000).
func gamma(r *rand.Rand, shape, scale float64) float64 {
	if shape < 1 {
		return gamma(r, shape+1, scale) * math.Pow(r.Float64(), 1/shape)
	}
	d := shape - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		x := r.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v = v * v * v
		if math.Log(r.Float64()) < 0.5*x*x+d-d*v+d*math.Log(v) {
			return d * v * scale
		}
	}
}

// simulate appends the messages of one customer in the order of time.
//
// Purchases follow the Pareto/NBD model (Schmittlein, Morrison and Colombo
// 1987): while alive, a customer buys in a Poisson process; its rate and the
// rate of dropping out differ between customers, both gamma distributed.
func (s *shop) simulate(es []event, i int) []event {
	p := s.person(i)
	r := p.source()
	from := len(es)
	span := float64(s.end - s.start)
	// A fifth were customers of the shop when the history begins.
	born := s.start
	if r.Float64() > 0.2 {
		born += int64(span * r.Float64())
	} else {
		born += int64(min(span, 30*float64(day)) * r.Float64())
	}
	born = born/day*day + hourOfDay(r)
	perDay := gamma(r, 0.9, 1.0/32)                 // purchases
	life := r.ExpFloat64() / gamma(r, 0.8, 1.0/200) // days until the drop-out
	visitsPerDay := 0.02 + gamma(r, 1.1, 1.0/45)    // visits without a purchase
	if p.company {
		perDay, life = perDay*2, life*2
	}
	if p.never {
		life = min(life, 5+r.ExpFloat64()*20)
	}
	if p.never || p.lead {
		perDay = 0
	}
	died := s.end
	if l := life * float64(day); l < float64(s.end-born) {
		died = born + int64(l)
	}
	v := visitor{s: s, p: p, r: r, customer: uint32(i), es: es, from: from, died: died, account: !p.never, loginAfter: r.IntN(4)}
	v.temper = clamp(0.84 + 0.08*r.NormFloat64())
	if r.Float64() < 0.22 {
		v.temper = clamp(0.5 + 0.16*r.NormFloat64())
	}
	v.mood = v.temper
	v.visit(born, p.lead || r.Float64() < 0.3*min(1, perDay*60))
	rate := visitsPerDay + perDay
	for at := born; ; {
		at += int64(r.ExpFloat64() / rate * float64(day))
		if at >= v.died || at < 0 {
			break
		}
		// Thinning: quiet days and hours lose some of their visits.
		if r.Float64() > s.season[min(int((at-s.start)/day), len(s.season)-1)] {
			continue
		}
		start := at/day*day + hourOfDay(r)
		if start < v.last || start >= v.died {
			continue
		}
		v.visit(start, r.Float64() < perDay/rate)
	}
	// What the drop-out or the end of the history cuts off was never sent.
	kept := v.es[:from]
	for _, e := range v.es[from:] {
		if e.at >= s.start && e.at < s.end {
			kept = append(kept, e)
		}
	}
	return kept
}

// hourOfDay draws a time of day: lunch and evening are busy, nights are quiet.
func hourOfDay(r *rand.Rand) int64 {
	h := 12.5 + 2*r.NormFloat64()
	if r.Float64() < 0.6 {
		h = 19.5 + 2.2*r.NormFloat64()
	}
	h = math.Mod(h+24, 24)
	return int64(h * float64(hour))
}

// visitor walks one customer through the shop.
type visitor struct {
	s          *shop
	p          person
	r          *rand.Rand
	customer   uint32
	es         []event
	from       int   // where the customer's messages begin in es
	last       int64 // end of the last visit
	died       int64 // no visit begins from then on
	orders     uint32
	cases      uint32
	surveys    uint32
	temper     float64 // what the mood returns to, 0 to 1
	mood       float64 // how content the customer is, 0 to 1
	account    bool    // will have one some day
	user       bool    // has logged in on the first device
	second     bool    // has logged in on the second
	loginAfter int     // visits before the first login without a purchase
}

// add appends a message; what it returns is valid until the next one.
func (v *visitor) add(at int64, k kind, dev, flags uint8, order uint32) *event {
	n := uint32(len(v.es) - v.from)
	v.es = append(v.es, event{
		at: at, salt: mix(v.p.salt ^ mix(uint64(n)<<20^uint64(at))), customer: v.customer, seq: n,
		order: order, kind: k, device: dev, flags: flags,
	})
	return &v.es[len(v.es)-1]
}

// visit is one session: some looking round, and perhaps a login or a purchase.
func (v *visitor) visit(at int64, buys bool) {
	r := v.r
	dev := uint8(0)
	if v.user && r.Float64() < 0.35 {
		dev = 1
	}
	known := dev == 0 && v.user || dev == 1 && v.second
	flags := func() uint8 {
		if known {
			return loggedIn
		}
		return 0
	}
	pause := func(mean int64) { at += second + int64(r.ExpFloat64()*float64(mean)) }

	if v.user && r.Float64() < 0.12 {
		v.add(at, emailOpened, 0, loggedIn|fromServer, 0)
		pause(20 * second)
		v.add(at, emailClicked, 0, loggedIn|fromServer, 0)
		pause(3 * second)
	}
	landing := pageViewed
	if v.p.devices[dev] >= firstApp {
		landing = screenViewed
	}
	v.add(at, landing, dev, flags(), 0)
	if r.Float64() < 0.25 {
		pause(20 * second)
		v.add(at, productSearched, dev, flags(), 0)
	} else if r.Float64() < 0.6 {
		pause(15 * second)
		v.add(at, productListViewed, dev, flags(), 0)
	}
	for range 1 + r.IntN(3) {
		pause(40 * second)
		v.add(at, productViewed, dev, flags(), 0)
	}

	v.loginAfter--
	wants := v.account && (buys && !v.p.lead || v.loginAfter < 0 || dev == 1 && r.Float64() < 0.5)
	if wants && !known {
		pause(30 * second)
		if !v.user {
			v.add(at, signedUp, dev, loggedIn, 0)
			at += 200
		}
		v.add(at, identified, dev, loggedIn, 0)
		if v.p.company && !v.user {
			at += 300
			v.add(at, grouped, dev, loggedIn, 0)
		}
		known = true
		v.user = true
		if dev == 1 {
			v.second = true
		}
	}
	if buys || r.Float64() < 0.12 {
		pause(30 * second)
		v.add(at, productAdded, dev, flags(), v.orders)
		if buys || r.Float64() < 0.4 {
			pause(20 * second)
			v.add(at, cartViewed, dev, flags(), v.orders)
		}
		if buys || r.Float64() < 0.25 {
			pause(40 * second)
			v.add(at, checkoutStarted, dev, flags(), v.orders)
		}
	}
	if buys && v.account && !v.p.lead {
		pause(90 * second)
		v.purchase(at, dev)
	}
	v.last = at
	v.mood += 0.15 * (v.temper - v.mood)
	if v.user && r.Float64() < 0.015 {
		v.service(at + int64(r.ExpFloat64()*float64(day)))
	}
}

// purchase is an order and what becomes of it.
func (v *visitor) purchase(at int64, dev uint8) {
	r, order := v.r, v.orders
	v.orders++
	flags := loggedIn
	if r.Float64() < 0.4 {
		flags |= fromServer
	}
	v.add(at, orderCompleted, dev, flags, order)
	later := func(days float64) int64 { return at + hour + int64(r.ExpFloat64()*days*float64(day)) }
	switch x := r.Float64(); {
	case x < 0.05:
		v.add(later(6), orderRefunded, 0, loggedIn|fromServer, order)
		v.feel(-0.1)
	case x < 0.08:
		v.add(later(6), orderRefunded, 0, loggedIn|fromServer|partial, order)
		v.feel(-0.05)
	case x < 0.09:
		v.add(later(0.2), orderCancelled, 0, loggedIn|fromServer, order)
	case x < 0.10:
		v.add(later(0.1), orderUpdated, 0, loggedIn|fromServer, order)
	}
	switch x := r.Float64(); {
	case x < 0.07:
		v.service(later(5))
	case x < 0.07+0.08*(1-v.mood):
		v.complain(later(6))
	default:
		v.feel(0.01)
	}
	switch x := r.Float64(); {
	case x < 0.22:
		v.survey(later(9), nps, dev)
	case x < 0.26:
		v.survey(later(0.1), ces, dev)
	case x < 0.34:
		v.add(later(14), productReviewed, dev, loggedIn, order).value = v.score(1, 5)
	}
}
