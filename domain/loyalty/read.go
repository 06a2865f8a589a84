package loyalty

import (
	"bytes"
	"encoding/json"
	"time"

	"sojourn/domain"
)

// maxLines bounds the products that are read of one message.
const maxLines = 1_000

// ReadLines reads the products of a message from the raw JSON value of its
// property products. What is no list of objects gives none; a product behind the
// thousandth is left out.
func ReadLines(raw []byte) []Line {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || raw[0] != '[' {
		return nil
	}
	var products []product
	if err := json.Unmarshal(raw, &products); err != nil || len(products) == 0 {
		return nil
	}
	lines := make([]Line, 0, min(len(products), maxLines))
	for _, p := range products[:min(len(products), maxLines)] {
		lines = append(lines, p.line())
	}
	return lines
}

// ReadLine reads the product that the properties of an event name beside one
// another, such as those of Product Reviewed: it has no line where they name none.
func ReadLine(prop func(key string) []byte) []Line {
	l := product{
		ProductID: prop("product_id"), SKU: prop("sku"), Category: prop("category"),
	}.line()
	if l.Product == "" && l.Category == "" {
		return nil
	}
	return []Line{l}
}

type product struct {
	ProductID json.RawMessage `json:"product_id"`
	SKU       json.RawMessage `json:"sku"`
	ID        json.RawMessage `json:"id"`
	Category  json.RawMessage `json:"category"`
	Price     json.RawMessage `json:"price"`
	Quantity  json.RawMessage `json:"quantity"`
}

func (p product) line() Line {
	l := Line{Category: text(p.Category), Quantity: unit}
	for _, raw := range [...]json.RawMessage{p.ProductID, p.SKU, p.ID} {
		if l.Product = text(raw); l.Product != "" {
			break
		}
	}
	if q, ok := domain.ReadDecimal(p.Quantity); ok && q >= 0 {
		l.Quantity = q
	}
	if price, ok := domain.ReadDecimal(p.Price); ok {
		l.Amount, l.Priced = price.Mul(l.Quantity)
	}
	return l
}

// unit is a Decimal of 1.
const unit domain.Decimal = 10_000

// text is a JSON string or the text of a number.
func text(raw []byte) string {
	raw = bytes.TrimSpace(raw)
	if len(raw) > 0 && (raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9') {
		return string(raw)
	}
	s, _ := domain.JSONString(raw)
	return s
}

// ReadBirthday reads the trait birthday of an identify: a date (2000-02-29), a
// time, or a date without its year (--02-29). Null takes the birthday away;
// nothing, and what is no date, tells none.
func ReadBirthday(raw []byte) Birthday {
	raw = bytes.TrimSpace(raw)
	if string(raw) == "null" {
		return Birthday{Told: true}
	}
	s, ok := domain.JSONString(raw)
	if !ok {
		return Birthday{}
	}
	for _, layout := range [...]string{time.DateOnly, time.RFC3339Nano, "2006-01-02T15:04:05", time.DateTime, "2006/01/02"} {
		if t, err := time.Parse(layout, s); err == nil {
			return Birthday{Told: true, Month: int(t.Month()), Day: t.Day()}
		}
	}
	if len(s) == len("--02-29") {
		// 2000 has a 29 February.
		if t, err := time.Parse("2006--01-02", "2000"+s); err == nil {
			return Birthday{Told: true, Month: int(t.Month()), Day: t.Day()}
		}
	}
	return Birthday{}
}

func validBirthday(month, day int) bool {
	if month < 1 || month > 12 || day < 1 || day > 31 {
		return false
	}
	return time.Date(2000, time.Month(month), day, 0, 0, 0, 0, time.UTC).Day() == day
}
