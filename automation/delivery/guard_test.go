package delivery

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
)

var forbiddenAddresses = []string{
	// private, loopback, link-local, metadata
	"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3",
	"169.254.169.254", "169.254.1.1", "168.63.129.16", "100.64.0.1", "100.100.100.200", "100.127.255.255", "192.0.0.192",
	// documentation, benchmarks, multicast, reserved, broadcast
	"192.0.2.1", "198.51.100.7", "203.0.113.9", "198.18.0.1", "198.19.255.255", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
	"192.88.99.1",
	// the same as IPv6
	"::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "ff0e::1",
	"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:7f00:1", "::127.0.0.1", "::ffff:0:127.0.0.1",
	"64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "64:ff9b:1:7f00:1::",
	"2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:808:808::1", // 6to4, whatever is inside
	"2001::1", "2001:0:7f00:1::", "2001:db8::1", "3fff::1", "100::1", "5f00::1",
	"2a00:1450::5efe:a00:1", "2a00:1450::200:5efe:127.0.0.1", // ISATAP
	"4000::1", "::ffff:0:0",
}

var openAddresses = []string{
	"8.8.8.8", "1.1.1.1", "172.15.255.255", "172.32.0.1", "100.63.255.255", "100.128.0.1", "11.0.0.1", "192.0.1.1", "223.255.255.255", "168.63.129.17",
	"::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2a00:1450:4001:81b::200e", "2606:4700::1111", "2001:4860:4860::8888", "2a00:1450::5efe:808:808",
}

func TestGuard(t *testing.T) {
	var g Guard
	for _, a := range forbiddenAddresses {
		if err := g.Check(netip.MustParseAddr(a)); !errors.Is(err, ErrForbidden) {
			t.Errorf("%s: %v", a, err)
		}
	}
	for _, a := range openAddresses {
		if err := g.Check(netip.MustParseAddr(a)); err != nil {
			t.Errorf("%s: %v", a, err)
		}
	}
	if err := g.Check(netip.Addr{}); !errors.Is(err, ErrForbidden) {
		t.Errorf("no address: %v", err)
	}
}

func TestGuardAllows(t *testing.T) {
	allow, err := ParseAllow([]string{"10.1.0.0/16", "127.0.0.1", "fd12::/16"})
	if err != nil {
		t.Fatal(err)
	}
	g := Guard{Allow: allow}
	for a, ok := range map[string]bool{
		"10.1.2.3": true, "::ffff:10.1.2.3": true, "64:ff9b::10.1.2.3": true, "10.2.0.1": false, "::ffff:10.2.0.1": false,
		"127.0.0.1": true, "127.0.0.2": false, "fd12::5": true, "fd13::5": false,
	} {
		if err := g.Check(netip.MustParseAddr(a)); (err == nil) != ok {
			t.Errorf("%s: %v", a, err)
		}
	}
	for _, bad := range []string{"", "10.1", "example.com", "::ffff:10.0.0.0/104"} {
		if _, err := ParseAllow([]string{bad}); err == nil {
			t.Errorf("%q is taken for a range", bad)
		}
	}
}

// What the guard lets through is public by the standard library's own judgement,
// whichever way the address is written.
func FuzzGuard(f *testing.F) {
	for _, a := range append(forbiddenAddresses, openAddresses...) {
		f.Add(netip.MustParseAddr(a).AsSlice())
	}
	var g Guard
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := netip.AddrFromSlice(b)
		if !ok {
			return // no address: neither 4 nor 16 bytes
		}
		err := g.Check(a)
		mapped := netip.AddrFrom16(a.As16())
		if again := g.Check(mapped); (again == nil) != (err == nil) {
			t.Fatalf("%s: %v, but as %s: %v", a, err, mapped, again)
		}
		u := a.Unmap()
		if u.Is4() {
			as16 := netip.MustParseAddr("64:ff9b::").As16()
			four := u.As4()
			copy(as16[12:], four[:])
			if again := g.Check(netip.AddrFrom16(as16)); (again == nil) != (err == nil) {
				t.Fatalf("%s: %v, but through NAT64: %v", a, err, again)
			}
		}
		if err == nil && (!u.IsGlobalUnicast() || u.IsPrivate()) {
			t.Fatalf("%s is let through", a)
		}
	})
}

func TestDialerJudgesWhatANameBecomes(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	var g Guard
	for _, host := range []string{"127.0.0.1", "localhost", "0.0.0.0", "::ffff:127.0.0.1", "::"} {
		c, err := g.Dialer().DialContext(context.Background(), "tcp", net.JoinHostPort(host, port))
		if err == nil {
			_ = c.Close()
		}
		if !errors.Is(err, ErrForbidden) {
			t.Errorf("%s: %v", host, err)
		}
	}
	open := Guard{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	c, err := open.Dialer().DialContext(context.Background(), "tcp", "localhost:"+port)
	if err != nil {
		t.Fatalf("an allowed range: %v", err)
	}
	_ = c.Close()
}

// nameserver answers every question for an address with the next of a list, the
// last one for ever.
func nameserver(t *testing.T, addresses ...string) *net.Resolver {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			// RFC 1035: the header, then the question: a name, its type, its class.
			end := 12
			for b[end] != 0 {
				end += int(b[end]) + 1
			}
			end += 5
			if n < end {
				continue
			}
			answer := append([]byte{b[0], b[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, b[12:end]...)
			if b[end-3] == 1 { // A
				four := netip.MustParseAddr(addresses[0]).As4()
				answer[7] = 1
				answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
				answer = append(answer, four[:]...)
				addresses = addresses[min(1, len(addresses)-1):]
			}
			if _, err := c.WriteTo(answer, from); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { _ = c.Close(); <-done })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", c.LocalAddr().String())
	}}
}

// A name that is public when somebody looks and loopback when it is dialled gets
// nowhere.
func TestRebinding(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	var g Guard
	d := g.Dialer()
	d.Resolver = nameserver(t, "8.8.8.8", "127.0.0.1")
	seen, err := d.Resolver.LookupNetIP(t.Context(), "ip4", "rebind.example.")
	if err != nil || len(seen) != 1 || g.Check(seen[0]) != nil {
		t.Fatalf("%v, %v", seen, err)
	}
	c, err := d.DialContext(t.Context(), "tcp", "rebind.example.:"+port)
	if err == nil {
		_ = c.Close()
	}
	if !errors.Is(err, ErrForbidden) {
		t.Errorf("%v", err)
	}
}
