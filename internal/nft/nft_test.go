// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"ip filter": true, "inet firewalld": true, "ip docker-bridges": true, "ip " + strings.Repeat("x", 255): true,
		"ip6 filter": false, "bridge filter": false, "filter": false, "ip ": false, "": false, "ip a b": false, "ip a\x00": false,
		"ip " + strings.Repeat("x", 256): false,
	} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("name %.20q: %v, want allowed %v", name, err, ok)
		}
	}
}

// kernelTable is a NEWTABLE message as Linux 6.18 writes it.
func kernelTable(t testing.TB, family byte, attrs ...attr) netlink.Message {
	t.Helper()
	body, err := encode(attrs)
	if err != nil {
		t.Fatal(err)
	}
	return netlink.Message{Data: append(header(family, 7), body...)}
}

func TestParse(t *testing.T) {
	m := kernelTable(t, unix.NFPROTO_INET, str(unix.NFTA_TABLE_NAME, "fw"), be32(unix.NFTA_TABLE_FLAGS, 3), be32(attrTableOwner, 4711))
	got, ok, err := parseTable(m)
	if want := (Table{Name: "inet fw", Dormant: true, Owned: true, Owner: 4711, flags: 3}); got != want || !ok || err != nil {
		t.Errorf("table %+v, %v, %v; want %+v", got, ok, err, want)
	}
	if got, ok, err := parseTable(kernelTable(t, unix.NFPROTO_IPV6, str(unix.NFTA_TABLE_NAME, "fw"))); ok || err != nil {
		t.Errorf("a table of ip6 is taken for ours: %+v, %v", got, err)
	}
	for hooked, attrs := range map[bool][]attr{
		true:  {str(unix.NFTA_CHAIN_TABLE, "fw"), nest(unix.NFTA_CHAIN_HOOK, be32(unix.NFTA_HOOK_HOOKNUM, 1))},
		false: {str(unix.NFTA_CHAIN_TABLE, "fw"), str(unix.NFTA_CHAIN_NAME, "DOCKER")},
	} {
		table, base, err := parseChain(kernelTable(t, unix.NFPROTO_IPV4, attrs...))
		if table != "ip fw" || base != hooked || err != nil {
			t.Errorf("chain of table %q, base %v (%v), want ip fw, %v", table, base, err, hooked)
		}
	}
	if _, _, err := parseTable(netlink.Message{Data: []byte{2, 0}}); err == nil {
		t.Error("a message of two bytes: no error")
	}
}

func TestNoTrackWantsIPv4(t *testing.T) {
	if err := (*Conn)(nil).NoTrack(netip.MustParseAddr("::1")); err == nil || !strings.Contains(err.Error(), "IPv4") {
		t.Errorf("got %v, want an error about IPv4", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(kernelTable(f, unix.NFPROTO_IPV4, str(unix.NFTA_TABLE_NAME, "nat"), be32(unix.NFTA_TABLE_FLAGS, 1)).Data)
	f.Add(kernelTable(f, unix.NFPROTO_IPV4, str(unix.NFTA_CHAIN_TABLE, "nat"), nest(unix.NFTA_CHAIN_HOOK)).Data)
	f.Add(kernelTable(f, unix.NFPROTO_IPV4, str(unix.NFTA_RULE_TABLE, "filter"), str(unix.NFTA_RULE_CHAIN, "FORWARD"),
		nest(unix.NFTA_RULE_EXPRESSIONS, device(unix.NFT_META_IIFNAME), named("br0"))).Data)
	f.Add([]byte{2, 0, 0, 0, 5, 0, 2, 0, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		table, ok, err := parseTable(netlink.Message{Data: data})
		if err == nil && ok && table.Dormant != (table.flags&unix.NFT_TABLE_F_DORMANT != 0) {
			t.Errorf("table %+v", table)
		}
		if name, _, err := parseChain(netlink.Message{Data: data}); err == nil && len(name) > len(data)+len("inet ") {
			t.Errorf("chain of table %q out of %d bytes", name, len(data))
		}
		if _, names, err := parseRule(netlink.Message{Data: data}); err == nil && len(strings.Join(names, "")) > len(data) {
			t.Errorf("rule with %q out of %d bytes", names, len(data))
		}
		if len(data) < 4 && err == nil {
			t.Errorf("%d bytes are a table", len(data))
		}
	})
}
