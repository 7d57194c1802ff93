// SPDX-License-Identifier: Apache-2.0

package hostfacts

import (
	"encoding/binary"
	"maps"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
)

// ownNetfilter are the facts of the test's thread's network namespace: /proc/net is the process's.
func ownNetfilter(t *testing.T) econbench.Fingerprint {
	t.Helper()
	f, err := netfilterFacts(trees{"/proc/thread-self", "/sys"}, "")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func netfilter(nft, legacy, docker, conntrack string) econbench.Fingerprint {
	return econbench.Fingerprint{"netfilter.nft": nft, "netfilter.iptables_legacy": legacy, "netfilter.docker": docker, "netfilter.conntrack": conntrack,
		"netfilter.flow_offload": "none"}
}

// Docker's rules, as engine 20.10 makes them, come and go without a difference; others show by their hook.
func TestNetfilterFacts(t *testing.T) {
	newNetns(t)
	check := func(want econbench.Fingerprint) {
		t.Helper()
		if got := ownNetfilter(t); !maps.Equal(got, want) {
			t.Errorf("facts %v\nwant  %v", got, want)
		}
	}
	check(netfilter("none", "none", "none", "unused"))
	run(t, "iptables-nft", "-N", "DOCKER-USER")
	run(t, "iptables-nft", "-A", "FORWARD", "-j", "DOCKER-USER")
	docker := netfilter("none", "none", "rules", "used")
	check(docker)
	run(t, "iptables-nft", "-t", "nat", "-N", "DOCKER")
	run(t, "iptables-nft", "-t", "nat", "-A", "PREROUTING", "-m", "addrtype", "--dst-type", "LOCAL", "-j", "DOCKER")
	run(t, "iptables-nft", "-t", "nat", "-A", "POSTROUTING", "-s", "198.18.9.0/24", "!", "-o", "docker_gwbridge", "-j", "MASQUERADE")
	run(t, "iptables-nft", "-A", "FORWARD", "-i", "br-0123456789ab", "-j", "ACCEPT")
	check(docker)
	run(t, "iptables-nft", "-A", "INPUT", "-p", "tcp", "--dport", "22", "-j", "ACCEPT")
	check(netfilter("ip input filter 0", "none", "rules", "used"))
	run(t, "iptables-nft", "-A", "FORWARD", "-i", "br-lan", "-j", "ACCEPT")
	check(netfilter("ip forward filter 0; ip input filter 0", "none", "rules", "used"))
}

// A rule on connections needs them tracked, nft's own as well as iptables' match.
func TestConntrack(t *testing.T) {
	for _, rule := range [][]string{
		{"iptables-nft", "-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT"},
		{"nft", "add table inet t; add chain inet t c { type filter hook input priority 5; }; add rule inet t c ct state established accept"},
	} {
		t.Run(rule[0], func(t *testing.T) {
			newNetns(t)
			run(t, rule[0], rule[1:]...)
			f := ownNetfilter(t)
			want := map[string]string{"iptables-nft": "ip input filter 0", "nft": "inet input filter 5"}[rule[0]]
			if f["netfilter.conntrack"] != "used" || f["netfilter.docker"] != "none" || f["netfilter.nft"] != want {
				t.Errorf("facts %v, want %s", f, want)
			}
		})
	}
}

// Tables of old are asked which hooks have rules, and only those tables that there are: asking makes a table.
func TestLegacyTables(t *testing.T) {
	newNetns(t)
	if before := ownNetfilter(t); before["netfilter.iptables_legacy"] != "none" {
		t.Fatalf("facts %v", before)
	}
	run(t, "iptables-legacy", "-A", "FORWARD", "-j", "ACCEPT")
	run(t, "iptables-legacy", "-t", "nat", "-A", "POSTROUTING", "-j", "MASQUERADE")
	if got, want := ownNetfilter(t), netfilter("none", "none", "rules", "used"); !maps.Equal(got, want) {
		t.Errorf("facts %v\nwant  %v", got, want)
	}
	run(t, "iptables-legacy", "-A", "INPUT", "-j", "ACCEPT")
	run(t, "iptables-legacy", "-t", "mangle", "-A", "OUTPUT", "-j", "ACCEPT")
	run(t, "ip6tables-legacy", "-A", "OUTPUT", "-j", "ACCEPT")
	if got := ownNetfilter(t)["netfilter.iptables_legacy"]; got != "ip filter input; ip mangle output; ip6 filter output" {
		t.Errorf("legacy tables %q", got)
	}
}

// attribute writes one as the kernel does.
func attribute(kind uint16, value []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofNlAttr+len(value)))
	b = append(binary.NativeEndian.AppendUint16(b, kind), value...)
	return append(b, make([]byte, (4-len(b)%4)%4)...)
}

func chainMessage(family byte, hook uint32) []byte {
	hooks := slices.Concat(attribute(unix.NFTA_HOOK_HOOKNUM, binary.BigEndian.AppendUint32(nil, hook)), attribute(unix.NFTA_HOOK_PRIORITY, []byte{255, 255, 255, 156}))
	return slices.Concat([]byte{family, 0, 0, 0}, attribute(unix.NFTA_CHAIN_TABLE, []byte("t\x00")), attribute(unix.NFTA_CHAIN_NAME, []byte("c\x00")),
		attribute(unix.NFTA_CHAIN_TYPE, []byte("filter\x00")), attribute(unix.NFTA_CHAIN_HOOK|unix.NLA_F_NESTED, hooks))
}

func ruleMessage(family byte, rest ...byte) []byte {
	return slices.Concat([]byte{family, 0, 0, 0}, attribute(unix.NFTA_RULE_TABLE, []byte("t\x00")), attribute(unix.NFTA_RULE_CHAIN, []byte("c\x00")), rest)
}

func TestParseRules(t *testing.T) {
	for _, c := range []struct {
		family byte
		hook   uint32
		want   string
	}{
		{unix.NFPROTO_IPV4, 0, "ip prerouting filter -100"}, {unix.NFPROTO_INET, 5, "inet ingress filter -100"}, {unix.NFPROTO_ARP, 2, "arp forward filter -100"},
		{unix.NFPROTO_NETDEV, 1, "netdev egress filter -100"}, {77, 9, "family77 hook9 filter -100"}, {unix.NFPROTO_IPV6, 1 << 31, "ip6 hook2147483648 filter -100"},
	} {
		r := parseRules([][]byte{chainMessage(c.family, c.hook)}, [][]byte{ruleMessage(c.family)})
		if got := describe(r.others); got != c.want || r.docker || r.tracks {
			t.Errorf("family %d hook %d: %q (%+v), want %q", c.family, c.hook, got, r, c.want)
		}
	}
	chain := chainMessage(unix.NFPROTO_IPV4, 0)
	for name, rules := range map[string][][]byte{
		"no rule": nil, "another family's": {ruleMessage(unix.NFPROTO_IPV6)}, "Docker's": {ruleMessage(unix.NFPROTO_IPV4, []byte("br-0123456789ab\x00")...)},
	} {
		if got := describe(parseRules([][]byte{chain}, rules).others); got != "" {
			t.Errorf("%s: %q, want nothing", name, got)
		}
	}
	if r := parseRules([][]byte{chain[:20], nil, {1}}, [][]byte{nil, {2, 0, 0, 0, 1}}); len(r.others) != 0 {
		t.Errorf("of broken messages: %+v", r)
	}
}

func FuzzParseRules(f *testing.F) {
	f.Add(chainMessage(unix.NFPROTO_IPV4, 0), ruleMessage(unix.NFPROTO_IPV4))
	f.Add([]byte{2, 0, 0, 0, 3, 0, 0, 0}, []byte{2})
	f.Fuzz(func(t *testing.T, chain, rule []byte) {
		r := parseRules([][]byte{chain, chain}, [][]byte{rule})
		if d := describe(r.others); d != words(d) {
			t.Errorf("%q is not words with single blanks", d)
		}
	})
}
