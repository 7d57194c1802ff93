// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"fmt"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Not in golang.org/x/sys/unix: include/uapi/linux/netfilter/nf_tables.h and nf_tables_compat.h.
const (
	attrHookDev, attrHookDevs = 3, 4 // NFTA_HOOK_DEV, NFTA_HOOK_DEVS
	metaIIFKind               = 26   // NFT_META_IIFKIND
	attrMatchName             = 1    // NFTA_MATCH_NAME
)

// Of what a rule may load, and of the matches that iptables has and nftables has not, those that tell by which device a packet came in.
var (
	metaOfInput    = []uint32{unix.NFT_META_IIF, unix.NFT_META_IIFNAME, unix.NFT_META_IIFTYPE, unix.NFT_META_IIFGROUP, metaIIFKind}
	matchesOfInput = []string{"physdev", "rpfilter", "devgroup", "addrtype", "set", "bpf"} // the last three may
)

// AsksForInput says whether any rule or chain may judge a packet by the device that it came in by. It is not exact: who is told yes may have
// rules that do not.
func (c *Conn) AsksForInput() (bool, error) {
	chains, err := c.Dump(unix.NFT_MSG_GETCHAIN)
	if err != nil {
		return false, fmt.Errorf("nft chains: %w", err)
	}
	rules, err := c.Dump(unix.NFT_MSG_GETRULE)
	if err != nil {
		return false, fmt.Errorf("nft rules: %w", err)
	}
	for _, body := range chains {
		if asks, err := chainAsks(body); asks || err != nil {
			return asks, err
		}
	}
	for _, body := range rules {
		if asks, err := ruleAsks(body); asks || err != nil {
			return asks, err
		}
	}
	return false, nil
}

// chainAsks looks at a NEWCHAIN message: a chain that hangs on devices judges what comes by them.
func chainAsks(body []byte) (asks bool, err error) {
	_, attrs, err := attributes(netlink.Message{Data: body})
	if err != nil {
		return false, err
	}
	for attrs.Next() {
		if attrs.Type() == unix.NFTA_CHAIN_HOOK {
			attrs.Nested(func(hook *netlink.AttributeDecoder) error {
				for hook.Next() {
					asks = asks || hook.Type() == attrHookDev || hook.Type() == attrHookDevs
				}
				return nil
			})
		}
	}
	return asks, attrs.Err()
}

// ruleAsks looks at a NEWRULE message's expressions.
func ruleAsks(body []byte) (asks bool, err error) {
	err = eachExpression(body, func(e *netlink.AttributeDecoder) { asks = expressionAsks(e) || asks })
	return asks, err
}

// eachExpression hands over the expressions of a NEWRULE message, one after the other.
func eachExpression(body []byte, do func(*netlink.AttributeDecoder)) error {
	_, attrs, err := attributes(netlink.Message{Data: body})
	if err != nil {
		return err
	}
	for attrs.Next() {
		if attrs.Type() != unix.NFTA_RULE_EXPRESSIONS {
			continue
		}
		attrs.Nested(func(list *netlink.AttributeDecoder) error {
			for list.Next() {
				list.Nested(func(e *netlink.AttributeDecoder) error { do(e); return nil })
			}
			return nil
		})
	}
	return attrs.Err()
}

func expressionAsks(expression *netlink.AttributeDecoder) (asks bool) {
	name := ""
	for expression.Next() {
		switch expression.Type() {
		case unix.NFTA_EXPR_NAME:
			name = expression.String()
			asks = name == "fib"
		case unix.NFTA_EXPR_DATA: // after the name, as the kernel writes it
			expression.Nested(func(data *netlink.AttributeDecoder) error {
				for data.Next() {
					switch {
					case name == "meta" && data.Type() == unix.NFTA_META_KEY:
						asks = asks || slices.Contains(metaOfInput, data.Uint32())
					case name == "match" && data.Type() == attrMatchName:
						asks = asks || slices.Contains(matchesOfInput, data.String())
					}
				}
				return nil
			})
		}
	}
	return asks
}
