// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Where iptables-nft keeps the rules for what a host forwards, and with them what Docker says of it (its policy is to drop).
const (
	forwardTable = "filter"
	forwardChain = "FORWARD"
)

// verdictAccept is NF_ACCEPT, include/uapi/linux/netfilter.h.
const verdictAccept = 1

// ErrNoForward says that the namespace has no such chain, so nothing there stands in a bridged packet's way.
var ErrNoForward = errors.New("no chain FORWARD in nft table ip filter")

// AcceptForward puts a rule before all others of iptables' FORWARD that accepts what comes from a bridge and goes to it:
//
//	iptables -I FORWARD -i BRIDGE -o BRIDGE -j ACCEPT
//
// Bridged packets come there where br_netfilter is loaded. The rule is written as iptables-nft writes it, which so lists and
// keeps it as one of its own.
func (c *Conn) AcceptForward(bridge string) error {
	err := c.commit(message(unix.NFT_MSG_NEWRULE, unix.NFPROTO_IPV4, netlink.Create, // not to be appended: it comes first
		str(unix.NFTA_RULE_TABLE, forwardTable), str(unix.NFTA_RULE_CHAIN, forwardChain),
		nest(unix.NFTA_RULE_EXPRESSIONS,
			device(unix.NFT_META_IIFNAME), named(bridge), device(unix.NFT_META_OIFNAME), named(bridge), expression("counter", be64(unix.NFTA_COUNTER_BYTES, 0)),
			expression("immediate", be32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT),
				nest(unix.NFTA_IMMEDIATE_DATA, nest(unix.NFTA_DATA_VERDICT, be32(unix.NFTA_VERDICT_CODE, verdictAccept)))))))
	switch {
	case errors.Is(err, unix.ENOENT):
		return ErrNoForward
	case err != nil:
		return fmt.Errorf("nft table ip %s: rule for %s (CAP_NET_ADMIN): %w", forwardTable, bridge, err)
	}
	return nil
}

// DropForward removes every such rule of a bridge. None is fine.
func (c *Conn) DropForward(bridge string) error {
	rules, err := c.forwardRules(bridge)
	if err != nil {
		return err
	}
	for _, handle := range rules {
		err := c.commit(message(unix.NFT_MSG_DELRULE, unix.NFPROTO_IPV4, 0,
			str(unix.NFTA_RULE_TABLE, forwardTable), str(unix.NFTA_RULE_CHAIN, forwardChain), be64(unix.NFTA_RULE_HANDLE, handle)))
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("nft table ip %s: remove rule for %s: %w", forwardTable, bridge, err)
		}
	}
	return nil
}

// AcceptsForward says whether there is such a rule; ErrNoForward when there is no such chain.
func (c *Conn) AcceptsForward(bridge string) (bool, error) {
	rules, err := c.forwardRules(bridge)
	if err != nil || len(rules) > 0 {
		return len(rules) > 0, err
	}
	chains, err := c.dump(unix.NFT_MSG_GETCHAIN)
	if err != nil {
		return false, fmt.Errorf("nft chains: %w", err)
	}
	for _, m := range chains {
		if isForward(m, unix.NFTA_CHAIN_TABLE, unix.NFTA_CHAIN_NAME) {
			return false, nil
		}
	}
	return false, ErrNoForward
}

// forwardRules are the handles of the rules that name a bridge as both devices.
func (c *Conn) forwardRules(bridge string) (handles []uint64, err error) {
	rules, err := c.dump(unix.NFT_MSG_GETRULE)
	if err != nil {
		return nil, fmt.Errorf("nft rules: %w", err)
	}
	for _, m := range rules {
		if !isForward(m, unix.NFTA_RULE_TABLE, unix.NFTA_RULE_CHAIN) {
			continue
		}
		handle, names, err := parseRule(m)
		if err != nil {
			return nil, fmt.Errorf("nft rules: %w", err)
		}
		if len(names) == 2 && names[0] == bridge+"\x00" && names[1] == names[0] {
			handles = append(handles, handle)
		}
	}
	return handles, nil
}

// isForward says whether a message about a chain or a rule is of iptables' FORWARD.
func isForward(m netlink.Message, table, chain uint16) bool {
	family, attrs, err := attributes(m)
	if err != nil || family != "ip" {
		return false
	}
	names := map[uint16]string{}
	for attrs.Next() {
		if attrs.Type() == table || attrs.Type() == chain {
			names[attrs.Type()] = attrs.String()
		}
	}
	return names[table] == forwardTable && names[chain] == forwardChain
}

// parseRule reads a rule's handle and what it compares with, in order.
func parseRule(m netlink.Message) (handle uint64, compared []string, err error) {
	_, attrs, err := attributes(m)
	if err != nil {
		return 0, nil, err
	}
	for attrs.Next() {
		if attrs.Type() == unix.NFTA_RULE_HANDLE {
			handle = attrs.Uint64()
		}
	}
	err = eachExpression(m.Data, func(e *netlink.AttributeDecoder) { compared = append(compared, comparedBy(e)...) })
	return handle, compared, errors.Join(attrs.Err(), err)
}

// comparedBy is the value of an expression that is a comparison for equality; none of another.
func comparedBy(e *netlink.AttributeDecoder) (values []string) {
	kind := ""
	for e.Next() {
		switch e.Type() {
		case unix.NFTA_EXPR_NAME:
			kind = e.String()
		case unix.NFTA_EXPR_DATA:
			if kind != "cmp" {
				continue
			}
			equal := false
			e.Nested(func(d *netlink.AttributeDecoder) error {
				for d.Next() {
					switch d.Type() {
					case unix.NFTA_CMP_OP:
						equal = d.Uint32() == unix.NFT_CMP_EQ
					case unix.NFTA_CMP_DATA:
						d.Nested(func(v *netlink.AttributeDecoder) error {
							for v.Next() {
								if v.Type() == unix.NFTA_DATA_VALUE && equal {
									values = append(values, string(v.Bytes()))
								}
							}
							return nil
						})
					}
				}
				return nil
			})
		}
	}
	return values
}

// device puts the name of a packet's device into a register.
func device(key uint32) attr {
	return expression("meta", be32(unix.NFTA_META_KEY, key), be32(unix.NFTA_META_DREG, unix.NFT_REG_1))
}

// named ends the rule unless the register has a device's name, its end included.
func named(name string) attr {
	return expression("cmp", be32(unix.NFTA_CMP_SREG, unix.NFT_REG_1), be32(unix.NFTA_CMP_OP, unix.NFT_CMP_EQ),
		nest(unix.NFTA_CMP_DATA, str(unix.NFTA_DATA_VALUE, name)))
}

func be64(kind uint16, v uint64) attr {
	return attr{kind: kind, value: binary.BigEndian.AppendUint64(nil, v)}
}
