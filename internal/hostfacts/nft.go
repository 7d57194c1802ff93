// SPDX-License-Identifier: Apache-2.0

package hostfacts

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/econbench/econbench/internal/nft"
)

// ruleset is what netfilter's fingerprint is made of, of one network namespace.
type ruleset struct {
	others  []baseChain // those that have rules beside Docker's
	docker  bool        // Docker has chains
	tracks  bool        // a rule needs the state of connections
	offload bool        // connections are forwarded around the rules, by a flow table
}

// chainName tells chains apart.
type chainName struct {
	family      byte
	table, name string
}

// baseChain is one that packets come to by a hook. iptables of today makes such chains as well.
type baseChain struct {
	family, hook, kind string
	priority           int32
}

// families and their hooks are named as nft(8) does. inet has a hook for ingress beyond IP's (Linux 5.10).
var families = map[byte]struct {
	name  string
	hooks []string
}{
	unix.NFPROTO_INET:   {"inet", append(slices.Clone(inetHooks), "ingress")},
	unix.NFPROTO_IPV4:   {"ip", inetHooks},
	unix.NFPROTO_IPV6:   {"ip6", inetHooks},
	unix.NFPROTO_BRIDGE: {"bridge", inetHooks},
	unix.NFPROTO_ARP:    {"arp", []string{"input", "output", "forward"}},
	unix.NFPROTO_NETDEV: {"netdev", []string{"ingress", "egress"}},
}

// dockers are Docker's rules: they jump to a chain of its own, or match a bridge that it named (its own tables, since Docker 29,
// are called docker-bridges). It adds and removes them with networks and containers, so that a lab that was used has more than
// a new one, and a run's topologies bring both to the same.
var dockers = regexp.MustCompile(`DOCKER|docker0\x00|docker_gwbridge\x00|docker-bridges\x00|br-[0-9a-f]{12}\x00`)

// nftRules reads the network namespace's rules. A kernel without nf_tables has none.
func nftRules() (r ruleset, err error) {
	c, err := nft.Here()
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return r, nil // no nfnetlink in this kernel
	}
	if err != nil {
		return r, err
	}
	defer c.Close()
	var got [3][][]byte
	for i, kind := range []uint16{unix.NFT_MSG_GETCHAIN, unix.NFT_MSG_GETRULE, unix.NFT_MSG_GETFLOWTABLE} {
		if got[i], err = c.Dump(kind); err != nil {
			return r, fmt.Errorf("nft %s: %w", []string{"chains", "rules", "flow tables"}[i], err)
		}
	}
	r = parseRules(got[0], got[1])
	r.offload = len(got[2]) > 0
	return r, nil
}

// parseRules makes sense of the messages about chains and rules.
func parseRules(chains, rules [][]byte) (r ruleset) {
	other := map[chainName]bool{} // chains that have a rule of somebody else's
	for _, m := range rules {
		if !dockers.Match(m) {
			other[parseRule(m)] = true
		}
		r.tracks = r.tracks || tracksConnections(m)
	}
	for _, m := range chains {
		name, c, base := parseChain(m)
		r.docker = r.docker || dockers.Match(m)
		r.tracks = r.tracks || base && c.kind == "nat"
		if base && other[name] {
			r.others = append(r.others, c)
		}
	}
	return r
}

// headerSize is that of struct nfgenmsg, whose first byte is the family.
const headerSize = 4

// parseChain reads a chain's message; base says that packets come to it by a hook.
func parseChain(m []byte) (name chainName, c baseChain, base bool) {
	if len(m) < headerSize {
		return name, c, false
	}
	family, known := families[m[0]]
	if c.family = family.name; !known {
		c.family = fmt.Sprintf("family%d", m[0])
	}
	name.family = m[0]
	for kind, value := range attributes(m[headerSize:]) {
		switch kind {
		case unix.NFTA_CHAIN_TABLE:
			name.table = zeroEnded(value)
		case unix.NFTA_CHAIN_NAME:
			name.name = zeroEnded(value)
		case unix.NFTA_CHAIN_TYPE:
			c.kind = plainName(zeroEnded(value))
		case unix.NFTA_CHAIN_HOOK:
			base = true
			c.hook, c.priority = parseHook(value, family.hooks)
		}
	}
	return name, c, base
}

func parseHook(hook []byte, names []string) (name string, priority int32) {
	for kind, value := range attributes(hook) {
		switch kind {
		case unix.NFTA_HOOK_HOOKNUM:
			n := big32(value)
			if name = fmt.Sprintf("hook%d", n); n < uint32(len(names)) {
				name = names[n]
			}
		case unix.NFTA_HOOK_PRIORITY:
			priority = int32(big32(value))
		}
	}
	return name, priority
}

// parseRule is the chain that a rule's message is about.
func parseRule(m []byte) (name chainName) {
	if len(m) < headerSize {
		return name
	}
	name.family = m[0]
	for kind, value := range attributes(m[headerSize:]) {
		switch kind {
		case unix.NFTA_RULE_TABLE:
			name.table = zeroEnded(value)
		case unix.NFTA_RULE_CHAIN:
			name.name = zeroEnded(value)
		}
	}
	return name
}

// tracksConnections says whether a rule's message has an expression about connections: nft's own, or a match of iptables'.
func tracksConnections(m []byte) bool {
	if len(m) < headerSize {
		return false
	}
	for kind, list := range attributes(m[headerSize:]) {
		if kind != unix.NFTA_RULE_EXPRESSIONS {
			continue
		}
		for _, expression := range attributes(list) {
			var name, match string
			for kind, value := range attributes(expression) {
				switch kind {
				case unix.NFTA_EXPR_NAME:
					name = zeroEnded(value)
				case unix.NFTA_EXPR_DATA:
					match = nameOfMatch(value)
				}
			}
			if name == "ct" || name == "match" && (match == "state" || match == "helper" || strings.HasPrefix(match, "conn")) {
				return true
			}
		}
	}
	return false
}

func nameOfMatch(data []byte) (name string) {
	for kind, value := range attributes(data) {
		if kind == unix.NFTA_MATCH_NAME {
			name = zeroEnded(value)
		}
	}
	return name
}

// attributes yields netlink attributes, by type, up to the first that is broken.
func attributes(b []byte) func(yield func(kind uint16, value []byte) bool) {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofNlAttr {
			size, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
			if size < unix.SizeofNlAttr || size > len(b) || !yield(kind&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofNlAttr:size]) {
				return
			}
			b = b[min(len(b), (size+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1)):]
		}
	}
}

func zeroEnded(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}

// big32 is a number in network byte order; 0 if it is not of four bytes.
func big32(b []byte) uint32 {
	if len(b) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}
