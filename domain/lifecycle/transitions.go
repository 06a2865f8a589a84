package lifecycle

import (
	"sojourn/domain"
	"sojourn/domain/policy"
)

// Transitions lists every change of stage in the order of time, to the end of
// time as if nothing more happened: the deadlines to come are in it, and a caller
// cuts at its clock (At ≤ clock). currency is the one of purchases that name none.
func Transitions(f *Facts, rules policy.Lifecycle, currency string) []Transition {
	return nil
}

// TotalsAt is what a customer has bought by t, t included.
func TotalsAt(f *Facts, t domain.Millis, currency string) Totals {
	return Totals{}
}
