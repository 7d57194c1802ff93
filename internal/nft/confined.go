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

// Confined is a table as it stood, each of whose rules compares with one address and does nothing to packets of others. As JSON it is what a
// journal keeps of it.
type Confined struct {
	Table  string   `json:"table"`  // with its family before it: "ip nat"
	Chains [][]byte `json:"chains"` // attributes of NEWCHAIN, as the kernel takes them
	Rules  [][]byte `json:"rules"`  // likewise of NEWRULE, in their order

	// Translations are the rules among them that translate addresses, or have a target of iptables' do it.
	Translations int `json:"translations"`
	// Generation is that of all tables when this one was read: Withdraw wants it to be so still. 0: of whatever generation.
	Generation uint32 `json:"-"`
}

// OtherRules says what stands in a namespace beside rules about one address.
type OtherRules string

func (o OtherRules) Error() string { return string(o) }

// Attributes that are written again as they were read. Handles and counts of uses are the kernel's to choose.
var (
	chainKept = []uint16{unix.NFTA_CHAIN_TABLE, unix.NFTA_CHAIN_NAME, unix.NFTA_CHAIN_HOOK, unix.NFTA_CHAIN_POLICY, unix.NFTA_CHAIN_TYPE, unix.NFTA_CHAIN_COUNTERS}
	ruleKept  = []uint16{unix.NFTA_RULE_TABLE, unix.NFTA_RULE_CHAIN, unix.NFTA_RULE_EXPRESSIONS, unix.NFTA_RULE_USERDATA}
)

// restorable are the expressions that a rule can be made of again as the kernel tells of them. It does not tell of what iptables' matches need besides
// (NFTA_RULE_COMPAT: "match", as iptables before 1.8.8 writes ports), nor are sets and objects read. "log" and "ct" would do something to packets of others.
var restorable = []string{"payload", "meta", "cmp", "bitwise", "range", "immediate", "counter", "nat", "target"}

// translating are those of them that do it.
var translating = []string{"nat", "target"}

// most bounds the chains and rules that are taken for an engine's: whoever may make rules in a container fills nobody's journal.
const most = 16

// Confined reads the table that everything of a namespace is in that is hooked, if all its rules are about one IPv4 address and let pass what
// is of others; nil: nothing is hooked. Whatever else there is makes an OtherRules.
func (c *Conn) Confined(about netip.Addr) (*Confined, error) {
	t := &Confined{}
	var err error
	if t.Generation, err = c.generation(); err != nil {
		return nil, err
	}
	tables, err := c.Tables()
	if err != nil {
		return nil, err
	}
	chains, err := c.Dump(unix.NFT_MSG_GETCHAIN)
	if err != nil {
		return nil, fmt.Errorf("nft chains: %w", err)
	}
	rules, err := c.Dump(unix.NFT_MSG_GETRULE)
	if err != nil {
		return nil, fmt.Errorf("nft rules: %w", err)
	}
	if n := max(len(chains), len(rules)); n > most {
		return nil, OtherRules(fmt.Sprintf("nft has %d chains and %d rules: want %d at most", len(chains), len(rules), most))
	}
	for _, one := range tables {
		if one.flags != 0 {
			return nil, OtherRules(fmt.Sprintf("nft table %q has flags (%#x)", one.Name, one.flags))
		}
	}
	hooked, err := t.takeChains(chains)
	if err == nil {
		err = t.takeRules(rules, about)
	}
	if err != nil || !hooked {
		return nil, err
	}
	return t, nil
}

// takeChains takes chains that are all in one table of family ip and drop nothing by themselves.
func (t *Confined) takeChains(chains [][]byte) (hooked bool, err error) {
	for _, body := range chains {
		table, base, err := parseChain(netlink.Message{Data: body})
		if err != nil {
			return false, fmt.Errorf("nft chains: %w", err)
		}
		hooked = hooked || base
		if t.Table == "" {
			t.Table = table
		}
		switch {
		case body[0] != unix.NFPROTO_IPV4:
			return false, OtherRules(fmt.Sprintf("nft has chains of a family other than ip (number %d)", body[0]))
		case table != t.Table:
			return false, OtherRules(fmt.Sprintf("nft tables %q and %q", t.Table, table))
		case base && policy(body) != verdictAccept:
			return false, OtherRules(fmt.Sprintf("nft table %q has a policy other than accept", table))
		}
		t.Chains = append(t.Chains, kept(body, chainKept))
	}
	return hooked, nil
}

// takeRules takes rules that are about an address alone and can be restored.
func (t *Confined) takeRules(rules [][]byte, about netip.Addr) error {
	for _, body := range rules {
		if !confined(body, about) {
			return OtherRules(fmt.Sprintf("nft table %q has rules that are not about %s alone", t.Table, about))
		}
		used := expressions(body)
		if i := slices.IndexFunc(used, func(name string) bool { return !slices.Contains(restorable, name) }); i >= 0 {
			return OtherRules(fmt.Sprintf("nft table %q has a rule with %q, which can't be restored", t.Table, used[i]))
		}
		if translates(used) {
			t.Translations++
		}
		t.Rules = append(t.Rules, kept(body, ruleKept))
	}
	return nil
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

// confined says whether a rule goes on with packets from, or to, one address alone: it compares with it.
func confined(body []byte, about netip.Addr) bool {
	_, compared, err := parseRule(netlink.Message{Data: body})
	return err == nil && slices.Contains(compared, string(about.AsSlice()))
}

// expressions are the names of a rule's.
func expressions(body []byte) (used []string) {
	_ = eachExpression(body, func(e *netlink.AttributeDecoder) {
		for e.Next() {
			if e.Type() == unix.NFTA_EXPR_NAME {
				used = append(used, e.String())
			}
		}
	})
	return used
}

// translates says whether a rule with these expressions changes addresses, or hands packets to a target of iptables'.
func translates(used []string) bool {
	return slices.ContainsFunc(used, func(name string) bool { return slices.Contains(translating, name) })
}

// Translations is how many rules compare with an IPv4 address and translate.
func (c *Conn) Translations(about netip.Addr) (n int, err error) {
	rules, err := c.Dump(unix.NFT_MSG_GETRULE)
	if err != nil {
		return 0, fmt.Errorf("nft rules: %w", err)
	}
	for _, body := range rules {
		if confined(body, about) && translates(expressions(body)) {
			n++
		}
	}
	return n, nil
}

// Withdraw removes a table with all that is in it. With its last rule that asks for connections their tracking ends. ERESTART says that some table has
// changed since this one was read.
func (c *Conn) Withdraw(t Confined) error {
	family, name, err := split(t.Table)
	if err != nil {
		return err
	}
	err = c.commitIn(t.Generation, message(unix.NFT_MSG_DELTABLE, family, 0, str(unix.NFTA_TABLE_NAME, name)))
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("nft table %s: remove (CAP_NET_ADMIN): %w", t.Table, err)
	}
	return nil
}

// Restore makes it again, with the counts that it had. What has its name by now stays, and gets the rules before its own, as they were there first.
func (c *Conn) Restore(t Confined) error {
	family, name, err := split(t.Table)
	if err != nil {
		return err
	}
	requests := []request{message(unix.NFT_MSG_NEWTABLE, family, netlink.Create, str(unix.NFTA_TABLE_NAME, name))}
	for _, body := range t.Chains {
		requests = append(requests, request{kind: unix.NFT_MSG_NEWCHAIN, family: family, flags: netlink.Create, body: body})
	}
	for _, body := range slices.Backward(t.Rules) { // each is put before what is there
		requests = append(requests, request{kind: unix.NFT_MSG_NEWRULE, family: family, flags: netlink.Create, body: body})
	}
	if err := c.commit(requests...); err != nil {
		return fmt.Errorf("nft table %s: restore (CAP_NET_ADMIN): %w", t.Table, err)
	}
	return nil
}
