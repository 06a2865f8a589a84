package freeport_test

import (
	"fmt"
	"net"
	"testing"

	"sojourn/internal/freeport"
)

// TestFind gives ports that can be listened at, each once.
func TestFind(t *testing.T) {
	seen := map[int]bool{}
	for range 50 {
		first, err := freeport.Find(3)
		if err != nil {
			t.Fatal(err)
		}
		for port := first; port < first+3; port++ {
			if seen[port] {
				t.Errorf("%d is given twice", port)
			}
			seen[port] = true
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
		}
	}
}
