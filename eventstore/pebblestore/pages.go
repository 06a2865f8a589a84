package pebblestore

const pageLen = 1 << 10

// pages is a list that never moves what it holds, so that a pointer to an element
// stays valid, and growing copies nothing.
type pages[T any] struct {
	pages []*[pageLen]T
	n     int
}

func (p *pages[T]) at(i int) *T { return &p.pages[i/pageLen][i%pageLen] }

func (p *pages[T]) add(v T) *T {
	if p.n == len(p.pages)*pageLen {
		p.pages = append(p.pages, new([pageLen]T))
	}
	p.n++
	last := p.at(p.n - 1)
	*last = v
	return last
}
