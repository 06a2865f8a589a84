package trigger

import (
	"github.com/google/uuid"

	"sojourn/domain/fact"
)

// Offer is a change that triggers are asked about.
type Offer struct {
	fact.Change
	Meaning string // of a touchpoint
	// Customer is who it is about, and Subject whose touchpoint is behind it.
	Customer, Subject uuid.UUID
	// Found is the position of the event that offers it.
	Found uint64
	Chain []string
}

// Delivery is the id of what the trigger does about an offer.
func (t *Trigger) Delivery(o *Offer) uuid.UUID { return t.DeliveryOf(o, o.Customer) }

// DeliveryOf is that id where the customer of the offer bore another id. It is the
// same for a cause that says itself whose it is.
func (t *Trigger) DeliveryOf(o *Offer, customer uuid.UUID) uuid.UUID {
	key := o.Key()
	if o.Shared() {
		key += "\x00" + customer.String()
	}
	return fact.DeliveryID(t.ID, t.Do.Action(), key)
}
