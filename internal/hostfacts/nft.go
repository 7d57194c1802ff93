// SPDX-License-Identifier: Apache-2.0

package hostfacts

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench/internal/netspace"
)

// baseChain is one of nf_tables that packets come to by a hook. iptables of today makes such chains as well.
type baseChain struct {
	family, hook, kind string
	priority           int32
	rules              uint32 // and other references
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

// nftRules reads the network namespace's base chains, and whether a rule looks at the state of connections. A kernel without
// nf_tables has none.
func nftRules() (chains []baseChain, tracks bool, err error) {
	messages, err := nftDump(unix.NFT_MSG_GETCHAIN)
	if err != nil {
		return nil, false, fmt.Errorf("nft chains: %w", err)
	}
	for _, m := range messages {
		if c, ok := parseChain(m); ok {
			chains = append(chains, c)
		}
	}
	if messages, err = nftDump(unix.NFT_MSG_GETRULE); err != nil {
		return nil, false, fmt.Errorf("nft rules: %w", err)
	}
	return chains, slices.ContainsFunc(messages, tracksConnections), nil
}

func nftDump(what int) ([][]byte, error) {
	messages, err := netspace.Whole(func() ([][]byte, error) {
		req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|what, unix.NLM_F_DUMP)
		req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.NFPROTO_UNSPEC, Version: unix.NFNETLINK_V0})
		return req.Execute(unix.NETLINK_NETFILTER, 0)
	})
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		return nil, nil // no nfnetlink, no nf_tables in this kernel
	}
	return messages, err
}

// headerSize is that of struct nfgenmsg, whose first byte is the family.
const headerSize = 4

// parseChain reads a chain's message; ok says that it is a base chain.
func parseChain(m []byte) (c baseChain, ok bool) {
	if len(m) < headerSize {
		return c, false
	}
	family, known := families[m[0]]
	if c.family = family.name; !known {
		c.family = fmt.Sprintf("family%d", m[0])
	}
	for kind, value := range attributes(m[headerSize:]) {
		switch kind {
		case unix.NFTA_CHAIN_TYPE:
			c.kind = plainName(zeroEnded(value))
		case unix.NFTA_CHAIN_USE:
			c.rules = big32(value)
		case unix.NFTA_CHAIN_HOOK:
			ok = true
			for kind, value := range attributes(value) {
				switch kind {
				case unix.NFTA_HOOK_HOOKNUM:
					n := big32(value)
					if c.hook = fmt.Sprintf("hook%d", n); n < uint32(len(family.hooks)) {
						c.hook = family.hooks[n]
					}
				case unix.NFTA_HOOK_PRIORITY:
					c.priority = int32(big32(value))
				}
			}
		}
	}
	return c, ok
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
