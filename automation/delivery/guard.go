package delivery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// ErrForbidden is about an address that deliveries must not reach.
var ErrForbidden = errors.New("this address is not open to deliveries")

// Guard keeps deliveries out of the operator's own network: it judges the address
// that is dialled, after every resolution of a name, so that neither a name that
// changes its address in between nor a redirect gets past it. The zero Guard
// allows public addresses only.
type Guard struct {
	// Allow are ranges that are open although they are not public, such as the
	// network of a CRM in the house.
	Allow []netip.Prefix
}

// Addresses that are not the public internet, by IANA's registries of special
// purposes and what has been withdrawn from it since.
var forbidden4 = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
	"192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
	"198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	"168.63.129.16/32", // Azure's platform, a public address that is the host
)

var forbidden6 = prefixes(
	"2001::/23",     // protocol assignments, Teredo and ORCHID among them
	"2001:db8::/32", // documentation
	"2002::/16",     // 6to4: whatever IPv4 address stands inside
	"2620:4f:8000::/48", "3fff::/20",
)

var (
	global6 = netip.MustParsePrefix("2000::/3")     // all that is assigned as public
	nat64   = netip.MustParsePrefix("64:ff9b::/96") // an IPv4 address, reached through a translator
)

func prefixes(texts ...string) []netip.Prefix {
	all := make([]netip.Prefix, len(texts))
	for i, t := range texts {
		all[i] = netip.MustParsePrefix(t)
	}
	return all
}

func within(all []netip.Prefix, a netip.Addr) bool {
	for _, p := range all {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// Check answers with an error that is ErrForbidden where an address is not open.
// An IPv4 address counts in whatever form of IPv6 it comes.
func (g *Guard) Check(a netip.Addr) error {
	// A zone would keep the address out of every range.
	a = a.WithZone("").Unmap()
	if a.Is6() {
		if inner, ok := embedded(a); ok {
			if err := g.Check(inner); err != nil {
				return fmt.Errorf("%w (as %s)", err, a)
			}
			if nat64.Contains(a) {
				return nil
			}
		}
	}
	switch {
	case !a.IsValid():
		return fmt.Errorf("%w: no address", ErrForbidden)
	case within(g.Allow, a):
		return nil
	case a.Is4() && !within(forbidden4, a), a.Is6() && global6.Contains(a) && !within(forbidden6, a):
		return nil
	}
	return fmt.Errorf("%w: %s is not public; the operator can allow its range (serve --automation-allow)", ErrForbidden, a)
}

// embedded is the IPv4 address that a translator or a tunnel takes out of an
// IPv6 address. (6to4 and Teredo are refused as a whole.)
func embedded(a netip.Addr) (netip.Addr, bool) {
	b := a.As16()
	isatap := b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe
	return netip.AddrFrom4([4]byte(b[12:])), nat64.Contains(a) || isatap
}

// Dialer dials as the guard allows. Its time-out is for one connection.
func (g *Guard) Dialer() *net.Dialer {
	return &net.Dialer{
		Timeout:   10 * time.Second,
		KeepAlive: 30 * time.Second,
		ControlContext: func(_ context.Context, network, address string, _ syscall.RawConn) error {
			if network != "tcp4" && network != "tcp6" {
				return fmt.Errorf("%w: network %s", ErrForbidden, network)
			}
			at, err := netip.ParseAddrPort(address)
			if err != nil {
				return fmt.Errorf("%w: %w", ErrForbidden, err)
			}
			return g.Check(at.Addr())
		},
	}
}

// ParseAllow reads a list of ranges: CIDRs, or single addresses.
func ParseAllow(texts []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, t := range texts {
		p, err := netip.ParsePrefix(t)
		if err != nil {
			a, addrErr := netip.ParseAddr(t)
			if addrErr != nil {
				return nil, fmt.Errorf("%q is no range such as 10.1.0.0/16", t)
			}
			p = netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())
		}
		if p.Addr().Is4In6() {
			return nil, fmt.Errorf("%q: write an IPv4 range as IPv4", t)
		}
		all = append(all, p.Masked())
	}
	return all, nil
}
