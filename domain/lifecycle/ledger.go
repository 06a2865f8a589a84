package lifecycle

import (
	"sojourn/domain"
	"sojourn/domain/commerce"
)

// ledger follows the orders of a customer while their facts come in order. It
// says which purchases count and how much is left of each.
type ledger struct {
	facts    []orderFact
	currency string // of purchases that name none
	accounts []account
	byID     map[string]int32 // accounts by order id, once there are many
	// waiting links the updates and refunds that came before their order, newest
	// first, by index into facts; made when the first one waits.
	waiting []int32
}

// account is one order, known by a purchase, or by what came before it.
type account struct {
	id       string
	purchase int32 // index of the purchase in facts, or -1 while it has not come
	waits    int32 // index of the newest fact that waits for it, or -1
	state    commerce.AmountState
	refunded bool // a refund found it
	full     bool // it counts as never made, for ever
	amount   domain.Decimal
	taken    domain.Decimal // the sum of its refunds
}

// linearAccounts is the number of orders up to which they are found by looking
// through them.
const linearAccounts = 12

// effect is what a fact did to the purchases that count.
type effect struct {
	counts  int32 // index of the purchase that counts from now on, or -1
	uncount int32 // index of the one that counts no more, or -1
}

// open makes the ledger ready for facts, with room for all their accounts. More
// facts may be appended to them later.
func (l *ledger) open(facts []orderFact, currency string) {
	accounts := l.accounts[:0]
	if len(facts) > cap(accounts) {
		accounts = make([]account, 0, max(len(facts), linearAccounts))
	}
	*l = ledger{facts: facts, currency: currency, accounts: accounts}
	if len(facts) > linearAccounts {
		l.byID = make(map[string]int32, len(facts))
	}
}

// release lets go of the facts and keeps the memory of the accounts, unless there
// are unusually many.
func (l *ledger) release() {
	accounts := l.accounts
	clear(accounts)
	*l = ledger{}
	if cap(accounts) <= maxScratch {
		l.accounts = accounts[:0]
	}
}

// account returns the order of an id, which it opens where there is none. The
// pointer is valid until the next call.
func (l *ledger) account(id string) *account {
	if l.byID != nil {
		if i, ok := l.byID[id]; ok {
			return &l.accounts[i]
		}
		l.byID[id] = int32(len(l.accounts))
	} else {
		for i := range l.accounts {
			if l.accounts[i].id == id {
				return &l.accounts[i]
			}
		}
	}
	l.accounts = append(l.accounts, account{id: id, purchase: -1, waits: -1})
	return &l.accounts[len(l.accounts)-1]
}

// apply takes the next fact, facts[i].
func (l *ledger) apply(i int) effect {
	none := effect{-1, -1}
	f := &l.facts[i]
	if f.id == "" {
		if f.kind != kindPurchase {
			return none // without an order it takes nothing back
		}
		l.accounts = append(l.accounts, account{purchase: int32(i), waits: -1, amount: f.amount, state: f.state})
		return effect{int32(i), -1}
	}
	a := l.account(f.id)
	if f.kind == kindPurchase {
		if a.purchase >= 0 {
			return none // one order is one purchase, the earliest
		}
		a.purchase, a.amount, a.state = int32(i), f.amount, f.state
		l.settle(a)
		if a.full {
			return none
		}
		return effect{int32(i), -1}
	}
	if a.purchase < 0 {
		if n := len(l.facts) - len(l.waiting); n > 0 {
			l.waiting = append(l.waiting, make([]int32, n)...)
		}
		l.waiting[i], a.waits = a.waits, int32(i)
		return none
	}
	was := a.full
	if f.kind == kindUpdate {
		l.update(a, f)
	} else {
		l.refund(a, f)
	}
	l.close(a)
	if a.full && !was {
		return effect{-1, a.purchase}
	}
	return none
}

// settle lets what waited for an order take effect at the order's instant: first
// the last of the updates, which is the amount in force then, and after it the
// refunds.
func (l *ledger) settle(a *account) {
	if a.waits < 0 {
		return
	}
	for i := a.waits; i >= 0; i = l.waiting[i] {
		if f := &l.facts[i]; f.kind == kindUpdate && l.update(a, f) {
			break
		}
	}
	for i := a.waits; i >= 0; i = l.waiting[i] {
		if f := &l.facts[i]; f.kind != kindUpdate {
			l.refund(a, f)
		}
	}
	l.close(a)
}

func (l *ledger) orderCurrency(a *account) string {
	if c := l.facts[a.purchase].currency; c != "" {
		return c
	}
	return l.currency
}

func (l *ledger) sameCurrency(a *account, f *orderFact) bool {
	return f.currency == "" || f.currency == l.orderCurrency(a)
}

// update reports whether it set the amount. One in another currency than its
// order's sets nothing.
func (l *ledger) update(a *account, f *orderFact) bool {
	if f.state != commerce.AmountRead || !l.sameCurrency(a, f) {
		return false
	}
	a.amount, a.state = f.amount, commerce.AmountRead
	return true
}

func (l *ledger) refund(a *account, f *orderFact) {
	a.refunded = true
	switch {
	case f.kind == kindCancellation:
		a.full = true
	case !l.sameCurrency(a, f) || f.state == commerce.AmountUnreadable:
		// kept, and takes nothing back
	case f.state == commerce.AmountNone:
		a.full = true // all that is left
	default:
		a.taken = a.taken.Add(f.amount)
	}
}

// close makes the order fully refunded where its refunds reach its amount; one of
// no amount at its first refund.
func (l *ledger) close(a *account) {
	if a.refunded && (a.state != commerce.AmountRead || a.taken >= a.amount) {
		a.full = true
	}
}

// left is what the order brings: its amount less its refunds.
func (a *account) left() domain.Decimal { return a.amount.Sub(a.taken) }
