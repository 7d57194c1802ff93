// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Confined is a table as it stood, all of whose rules are about one address: no packet to or from another meets more of them than that
// comparison. As JSON it is what a journal keeps of it.
type Confined struct {
	Table  string   `json:"table"`  // with its family before it: "ip nat"
	Chains [][]byte `json:"chains"` // attributes of NEWCHAIN, as the kernel takes them
	Rules  [][]byte `json:"rules"`  // likewise of NEWRULE, in their order

	// Translations are the rules among them that translate addresses, or have a target of iptables' do it.
	Translations int `json:"-"`
}

// OtherRules says what stands in a namespace beside rules about one address.
type OtherRules string

func (o OtherRules) Error() string { return string(o) }

// Attributes that are written again as they were read. Handles and counts of uses are the kernel's to choose.
var (
	chainKept = []uint16{unix.NFTA_CHAIN_TABLE, unix.NFTA_CHAIN_NAME, unix.NFTA_CHAIN_HOOK, unix.NFTA_CHAIN_POLICY, unix.NFTA_CHAIN_TYPE}
	ruleKept  = []uint16{unix.NFTA_RULE_TABLE, unix.NFTA_RULE_CHAIN, unix.NFTA_RULE_EXPRESSIONS, unix.NFTA_RULE_USERDATA}
)

// Confined reads the table that everything of a namespace is in that is hooked, if all its rules are about one IPv4 address and let pass what
// is of others; nil: nothing is hooked. Whatever else there is makes an OtherRules.
func (c *Conn) Confined(about netip.Addr) (*Confined, error) {
	chains, err := c.Dump(unix.NFT_MSG_GETCHAIN)
	if err != nil {
		return nil, fmt.Errorf("nft chains: %w", err)
	}
	rules, err := c.Dump(unix.NFT_MSG_GETRULE)
	if err != nil {
		return nil, fmt.Errorf("nft rules: %w", err)
	}
	t := &Confined{}
	hooked := false
	for _, body := range chains {
		table, base, err := parseChain(netlink.Message{Data: body})
		if err != nil {
			return nil, fmt.Errorf("nft chains: %w", err)
		}
		hooked = hooked || base
		if t.Table == "" {
			t.Table = table
		}
		switch {
		case body[0] != unix.NFPROTO_IPV4:
			return nil, OtherRules(fmt.Sprintf("nft has chains of a family other than ip (number %d)", body[0]))
		case table != t.Table:
			return nil, OtherRules(fmt.Sprintf("nft tables %s and %s", t.Table, table))
		case base && policy(body) != verdictAccept:
			return nil, OtherRules(fmt.Sprintf("nft table %s has a policy other than accept", table))
		}
		t.Chains = append(t.Chains, kept(body, chainKept))
	}
	for _, body := range rules {
		if !confined(body, about) {
			return nil, OtherRules(fmt.Sprintf("nft table %s has rules that are not about %s alone", t.Table, about))
		}
		if translates(body) {
			t.Translations++
		}
		t.Rules = append(t.Rules, kept(body, ruleKept))
	}
	if !hooked {
		return nil, nil
	}
	return t, nil
}

// policy is a base chain's.
func policy(body []byte) uint32 {
	_, attrs, err := attributes(netlink.Message{Data: body})
	if err != nil {
		return 0
	}
	for attrs.Next() {
		if attrs.Type() == unix.NFTA_CHAIN_POLICY {
			return attrs.Uint32()
		}
	}
	return 0
}

// kept are those of a message's attributes, each with its header and padding.
func kept(body []byte, which []uint16) (b []byte) {
	_, attrs, err := attributes(netlink.Message{Data: body})
	if err != nil {
		return nil
	}
	e := netlink.NewAttributeEncoder()
	for attrs.Next() {
		if slices.Contains(which, attrs.Type()) {
			e.Bytes(attrs.Type()|attrs.TypeFlags(), attrs.Bytes())
		}
	}
	b, err = e.Encode()
	if err != nil {
		return nil
	}
	return b
}

// confined says whether a rule begins by going on with packets from, or to, one address alone.
func confined(body []byte, about netip.Addr) bool {
	_, compared, err := parseRule(netlink.Message{Data: body})
	return err == nil && slices.Contains(compared, string(about.AsSlice()))
}

// translates says whether a rule changes addresses, or hands packets to a target of iptables'.
func translates(body []byte) (yes bool) {
	_, attrs, err := attributes(netlink.Message{Data: body})
	if err != nil {
		return false
	}
	for attrs.Next() {
		if attrs.Type() != unix.NFTA_RULE_EXPRESSIONS {
			continue
		}
		attrs.Nested(func(list *netlink.AttributeDecoder) error {
			for list.Next() {
				list.Nested(func(e *netlink.AttributeDecoder) error {
					for e.Next() {
						yes = yes || e.Type() == unix.NFTA_EXPR_NAME && slices.Contains([]string{"nat", "target"}, e.String())
					}
					return nil
				})
			}
			return nil
		})
	}
	return yes
}

// Speaks says whether any rule compares with an IPv4 address.
func (c *Conn) Speaks(about netip.Addr) (bool, error) {
	rules, err := c.Dump(unix.NFT_MSG_GETRULE)
	if err != nil {
		return false, fmt.Errorf("nft rules: %w", err)
	}
	return slices.ContainsFunc(rules, func(body []byte) bool { return confined(body, about) }), nil
}

// Withdraw removes a table with all that is in it. With its last rule that asks for connections their tracking ends.
func (c *Conn) Withdraw(t Confined) error {
	family, name, err := split(t.Table)
	if err != nil {
		return err
	}
	err = c.commit(message(unix.NFT_MSG_DELTABLE, family, 0, str(unix.NFTA_TABLE_NAME, name)))
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("nft table %s: remove (CAP_NET_ADMIN): %w", t.Table, err)
	}
	return nil
}

// Restore makes it again, with the counts that it had. What has its name by now stays, and gets the rules at the end.
func (c *Conn) Restore(t Confined) error {
	family, name, err := split(t.Table)
	if err != nil {
		return err
	}
	requests := []request{message(unix.NFT_MSG_NEWTABLE, family, netlink.Create, str(unix.NFTA_TABLE_NAME, name))}
	for _, body := range t.Chains {
		requests = append(requests, request{kind: unix.NFT_MSG_NEWCHAIN, family: family, flags: netlink.Create, body: body})
	}
	for _, body := range t.Rules {
		requests = append(requests, request{kind: unix.NFT_MSG_NEWRULE, family: family, flags: netlink.Create | netlink.Append, body: body})
	}
	if err := c.commit(requests...); err != nil {
		return fmt.Errorf("nft table %s: restore (CAP_NET_ADMIN): %w", t.Table, err)
	}
	return nil
}
