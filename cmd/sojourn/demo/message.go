package demo

import (
	"strconv"
	"time"
)

var eventNames = [...]string{
	productListViewed: "Product List Viewed",
	productSearched:   "Products Searched",
	productViewed:     "Product Viewed",
	productAdded:      "Product Added",
	cartViewed:        "Cart Viewed",
	checkoutStarted:   "Checkout Started",
	orderCompleted:    "Order Completed",
	orderUpdated:      "Order Updated",
	orderRefunded:     "Order Refunded",
	orderCancelled:    "Order Cancelled",
	signedUp:          "Signed Up",
	emailOpened:       "Email Opened",
	emailClicked:      "Email Link Clicked",
	surveySent:        "Survey Sent",
	surveyAnswered:    "Survey Answered",
	productReviewed:   "Product Reviewed",
	complaintOpened:   "Complaint Opened",
	complaintUpdated:  "Complaint Updated",
	complaintResolved: "Complaint Resolved",
	ticketOpened:      "Ticket Opened",
	ticketReplied:     "Ticket Replied",
	ticketEscalated:   "Ticket Escalated",
	ticketResolved:    "Ticket Resolved",
	ticketReopened:    "Ticket Reopened",
	chatStarted:       "Live Chat Conversation Started",
	chatSent:          "Live Chat Message Sent",
	chatReceived:      "Live Chat Message Received",
	chatEnded:         "Live Chat Conversation Ended",
	callStarted:       "Call Started",
	callAnswered:      "Call Answered",
	callMissed:        "Call Missed",
	callEnded:         "Call Ended",
}

// appendMessage writes an event as a message of the tracking API. All text is
// the shop's own and needs no escaping but what stands escaped already.
func (s *shop) appendMessage(b []byte, e event) []byte {
	p := s.person(int(e.customer))
	b = append(b, `{"type":"`...)
	switch e.kind {
	case pageViewed:
		b = append(b, "page"...)
	case screenViewed:
		b = append(b, "screen"...)
	case identified:
		b = append(b, "identify"...)
	case grouped:
		b = append(b, "group"...)
	default:
		b = append(b, `track","event":"`...)
		b = append(b, eventNames[e.kind]...)
	}
	b = append(b, `","messageId":"`...)
	b = appendUUID(b, e.salt, mix(e.salt^p.salt))
	if e.flags&loggedIn != 0 {
		b = append(b, `","userId":"`...)
		b = appendUser(b, e.customer)
	}
	if e.flags&fromServer == 0 {
		b = append(b, `","anonymousId":"`...)
		h := mix(p.salt + uint64(e.device))
		b = appendUUID(b, h, mix(h))
	}
	b = append(b, `","timestamp":"`...)
	b = appendTime(b, e.at)
	b = append(b, '"')
	switch e.kind {
	case pageViewed, screenViewed:
		page := pages[e.salt>>20%uint64(len(pages))]
		b = append(b, `,"name":"`...)
		b = append(b, page[1]...)
		b = append(b, '"')
	case identified:
		b = appendTraits(b, e, p)
	case grouped:
		b = s.appendAccount(b, p)
	}
	if e.kind != identified && e.kind != grouped {
		b = append(b, `,"properties":{`...)
		if e.kind < surveySent {
			b = s.appendProperties(b, e, p)
		} else {
			b = s.appendService(b, e, p)
		}
		b = append(b, '}')
	}
	b = append(b, `,"context":{`...)
	b = appendContext(b, e, p)
	return append(b, '}', '}')
}

func appendUser(b []byte, customer uint32) []byte {
	b = append(b, 'c')
	return strconv.AppendUint(b, 100000+uint64(customer), 10)
}

// appendUUID writes 122 bits as a version 4 UUID.
func appendUUID(b []byte, hi, lo uint64) []byte {
	const hex = "0123456789abcdef"
	hi = hi&^0xf000 | 0x4000
	lo = lo&^(3<<62) | 2<<62
	for i := 60; i >= 0; i -= 4 {
		b = append(b, hex[hi>>i&15])
		if i == 32 || i == 16 {
			b = append(b, '-')
		}
	}
	b = append(b, '-')
	for i := 60; i >= 0; i -= 4 {
		b = append(b, hex[lo>>i&15])
		if i == 48 {
			b = append(b, '-')
		}
	}
	return b
}

func appendTime(b []byte, ms int64) []byte {
	t := time.UnixMilli(ms).UTC()
	y, m, d := t.Date()
	b = strconv.AppendInt(b, int64(y), 10)
	b = two(append(b, '-'), int(m))
	b = two(append(b, '-'), d)
	b = two(append(b, 'T'), t.Hour())
	b = two(append(b, ':'), t.Minute())
	b = two(append(b, ':'), t.Second())
	f := t.Nanosecond() / 1e6
	return append(b, '.', byte('0'+f/100), byte('0'+f/10%10), byte('0'+f%10), 'Z')
}

func two(b []byte, n int) []byte { return append(b, byte('0'+n/10), byte('0'+n%10)) }

func appendCents(b []byte, cents int) []byte {
	b = strconv.AppendInt(b, int64(cents/100), 10)
	return two(append(b, '.'), cents%100)
}

// line is a product in an order.
type line struct {
	product  *product
	quantity int
}

// order is what the customer's n-th order held; it is the same in the order's
// own message and in those that speak of it later.
func (p person) order(n uint32) (lines []line, cents int) {
	var buf [3]line
	h := mix(p.salt ^ mix(uint64(n)+7))
	for i := range 1 + h>>3%3 {
		h = mix(h)
		l := line{&products[h%uint64(len(products))], 1 + int(h>>32%8/6)}
		if p.company {
			l.quantity += 1 + int(h>>40%4)
		}
		buf[i] = l
		lines = buf[:i+1]
		cents += l.product.cents * l.quantity
	}
	return lines, cents
}

// appendID names an order, a case or a survey; another history has others. key is
// the property with its quotes, colon, and what the id begins with.
func (s *shop) appendID(b []byte, key string, e event) []byte {
	b = append(b, key...)
	b = strconv.AppendUint(b, 46656+s.seed%46656, 36)
	b = append(b, '-')
	b = strconv.AppendUint(b, uint64(e.customer), 10)
	b = append(b, '-')
	b = strconv.AppendUint(b, uint64(e.order), 10)
	return append(b, '"')
}

const orderID = `"order_id":"`

// appendText writes a property of text.
func appendText(b []byte, key, value string) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	b = append(append(append(b, '"'), key...), `":"`...)
	return append(append(b, value...), '"')
}

// appendLines writes the products of an order or a refund.
func appendLines(b []byte, lines []line) []byte {
	b = append(b, `,"products":[`...)
	for i, l := range lines {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendProduct(append(b, '{'), l.product)
		b = append(b, `,"quantity":`...)
		b = append(strconv.AppendInt(b, int64(l.quantity), 10), '}')
	}
	return append(b, ']')
}

func appendProduct(b []byte, p *product) []byte {
	b = append(b, `"product_id":"`...)
	b = append(b, p.sku...)
	b = append(b, `","name":"`...)
	b = append(b, p.name...)
	b = append(b, `","category":"`...)
	b = append(b, p.category...)
	b = append(b, `","price":`...)
	return appendCents(b, p.cents)
}

func (s *shop) appendProperties(b []byte, e event, p person) []byte {
	pr := &products[e.salt>>20%uint64(len(products))]
	text := func(key, value string) { b = appendText(b, key, value) }
	switch e.kind {
	case pageViewed, screenViewed:
		page := pages[e.salt>>20%uint64(len(pages))]
		text("path", page[0])
		text("title", page[1])
		if c := e.campaign(); c.referrer != "" {
			text("referrer", c.referrer)
		}
	case productListViewed:
		text("list_id", categories[e.salt>>20%uint64(len(categories))])
		text("category", categories[e.salt>>20%uint64(len(categories))])
	case productSearched:
		text("query", searches[e.salt>>20%uint64(len(searches))])
	case productViewed, productAdded:
		b = appendProduct(b, pr)
		b = append(b, `,"quantity":1`...)
		text("currency", countries[p.country].currency)
	case cartViewed:
		h := mix(e.salt)
		text("cart_id", strconv.FormatUint(h%1e9, 36))
	case checkoutStarted, orderCompleted:
		lines, cents := p.order(e.order)
		b = s.appendID(b, orderID, e)
		b = append(b, `,"total":`...)
		b = appendCents(b, cents)
		text("currency", countries[p.country].currency)
		b = appendLines(b, lines)
	case orderUpdated:
		_, cents := p.order(e.order)
		b = s.appendID(b, orderID, e)
		b = append(b, `,"total":`...)
		b = appendCents(b, cents*9/10)
		text("currency", countries[p.country].currency)
	case orderRefunded:
		lines, cents := p.order(e.order)
		part := e.flags&partial != 0
		if part && len(lines) > 1 {
			cents = lines[0].product.cents * lines[0].quantity
		} else if part {
			cents /= 2 // for a scratch
		}
		b = s.appendID(b, orderID, e)
		b = append(b, `,"total":`...)
		b = appendCents(b, cents)
		text("currency", countries[p.country].currency)
		if part && len(lines) > 1 {
			b = appendLines(b, lines[:1])
		}
	case orderCancelled:
		b = s.appendID(b, orderID, e)
		text("reason", "changed my mind")
	case signedUp:
		text("username", nameOf(p))
	case emailOpened, emailClicked:
		text("campaign_name", "weekly")
		text("email_id", strconv.FormatUint(e.salt>>24, 36))
		if e.kind == emailClicked {
			text("link_url", "https://shop.example/sale")
		}
	}
	return b
}

func nameOf(p person) string {
	if p.chinese() {
		return zhSurnames[p.salt>>12%uint64(len(zhSurnames))] + zhGivenNames[p.salt>>4%uint64(len(zhGivenNames))]
	}
	return firstNames[p.salt>>4%uint64(len(firstNames))] + " " + lastNames[p.salt>>12%uint64(len(lastNames))]
}

func appendTraits(b []byte, e event, p person) []byte {
	b = append(b, `,"traits":{"name":"`...)
	b = append(b, nameOf(p)...)
	b = append(b, `","email":"`...)
	b = appendUser(b, e.customer)
	b = append(b, `@example.com","country":"`...)
	b = append(b, countries[p.country].locale[3:]...)
	b = append(b, `","newsletter":`...)
	b = strconv.AppendBool(b, p.salt>>50%2 == 0)
	if h := mix(p.salt + 1<<33); h%10 < 7 {
		b = append(b, `,"birthday":"`...)
		born := time.Date(1950+int(h>>8%56), time.January, 1+int(h>>16%365), 0, 0, 0, 0, time.UTC)
		b = append(born.AppendFormat(b, time.DateOnly), '"')
	}
	return append(b, '}')
}

// campaign is how a visit's landing came about.
func (e event) campaign() campaign {
	r := int(e.salt >> 36 % 100)
	for _, c := range campaigns {
		if r -= c.weight; r < 0 {
			return c.campaign
		}
	}
	return campaign{}
}

func appendContext(b []byte, e event, p person) []byte {
	if e.flags&fromServer != 0 {
		return append(b, `"library":{"name":"@segment/analytics-node","version":"2.1.3"},"app":{"name":"shop-backend","version":"4.2.0"}`...)
	}
	d := &devices[p.devices[e.device]]
	b = append(b, `"library":{"name":"`...)
	b = append(b, d.library...)
	b = append(b, `","version":"`...)
	b = append(b, d.version...)
	b = append(b, `"},"locale":"`...)
	b = append(b, countries[p.country].locale...)
	b = append(b, `","userAgent":"`...)
	b = append(b, d.agent...)
	b = append(b, '"')
	if e.kind == pageViewed || e.kind == screenViewed {
		if c := e.campaign(); c.source != "" {
			b = append(b, `,"campaign":{"source":"`...)
			b = append(b, c.source...)
			b = append(b, `","medium":"`...)
			b = append(b, c.medium...)
			if c.name != "" {
				b = append(b, `","name":"`...)
				b = append(b, c.name...)
			}
			b = append(b, `"}`...)
		}
	}
	return b
}
