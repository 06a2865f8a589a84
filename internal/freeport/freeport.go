// Package freeport finds ports for servers that tests start.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports are looked for below those that Linux gives to connections (from 32768 on): one
// that a connection may get is gone where a test needs it a moment later, or again after
// a restart. Below lie the ports of well-known services.
const (
	lowest = 20_000
	above  = 32_000
)

// given are the ports that this process was given; none is given twice.
var given = struct {
	sync.Mutex
	ports map[int]bool
}{ports: map[int]bool{}}

// Find returns the first of n ports in a row at which nobody listens on 127.0.0.1 now.
func Find(n int) (first int, err error) {
	given.Lock()
	defer given.Unlock()
	for range 1_000 {
		first = lowest + rand.IntN(above-lowest-n)
		if err = try(first, n); err == nil {
			for i := range n {
				given.ports[first+i] = true
			}
			return first, nil
		}
	}
	return 0, fmt.Errorf("no %d free ports in a row between %d and %d: %w", n, lowest, above, err)
}

// try tells what stands against n ports from first on.
func try(first, n int) error {
	for port := first; port < first+n; port++ {
		if given.ports[port] {
			return fmt.Errorf("port %d was given before", port)
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return err
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
	return nil
}
