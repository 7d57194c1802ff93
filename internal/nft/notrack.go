// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// OwnTable is the name of the table that NoTrack makes.
const OwnTable = "ip econbench"

// priorityRaw is before connection tracking (NF_IP_PRI_RAW and NF_IP_PRI_CONNTRACK, include/uapi/linux/netfilter_ipv4.h).
const priorityRaw = -300

// Offsets of an IPv4 header's addresses, B.
const (
	offsetSource      = 12
	offsetDestination = 16
)

// NoTrack keeps packets from and to an IPv4 address from being tracked. Tracking goes on as long as any rule mentions it,
// dormant tables' rules too, so it has to be told. It is told by a table that belongs to this socket: it goes when
// the Conn is closed or its process dies (NFT_TABLE_F_OWNER, Linux 5.12), and nobody else can change it. Only the peer's
// packets are meant: a tracked connection from elsewhere would come out of its window while nobody looks.
func (c *Conn) NoTrack(peer netip.Addr) error {
	if !peer.Is4() {
		return fmt.Errorf("notrack: address %q: want an IPv4 one", peer)
	}
	family, name, err := split(OwnTable)
	if err != nil {
		return err
	}
	chain := func(chain string, hook uint32) request {
		return message(unix.NFT_MSG_NEWCHAIN, family, netlink.Create, str(unix.NFTA_CHAIN_TABLE, name), str(unix.NFTA_CHAIN_NAME, chain),
			nest(unix.NFTA_CHAIN_HOOK, be32(unix.NFTA_HOOK_HOOKNUM, hook), be32(unix.NFTA_HOOK_PRIORITY, uint32(priorityRaw&0xffffffff))),
			str(unix.NFTA_CHAIN_TYPE, "filter"))
	}
	rule := func(chain string, offset uint32) request {
		return message(unix.NFT_MSG_NEWRULE, family, netlink.Create|netlink.Append, str(unix.NFTA_RULE_TABLE, name), str(unix.NFTA_RULE_CHAIN, chain),
			nest(unix.NFTA_RULE_EXPRESSIONS, load(offset), equal(peer), expression("notrack")))
	}
	err = c.commit(
		message(unix.NFT_MSG_NEWTABLE, family, netlink.Create|netlink.Excl, str(unix.NFTA_TABLE_NAME, name), be32(unix.NFTA_TABLE_FLAGS, flagOwner)),
		chain("prerouting", unix.NF_INET_PRE_ROUTING), rule("prerouting", offsetSource),
		chain("output", unix.NF_INET_LOCAL_OUT), rule("output", offsetDestination),
	)
	switch {
	case errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EPERM): // EPERM: it is another socket's
		return fmt.Errorf("nft table %s: %w: there is one already, or CAP_NET_ADMIN is missing", OwnTable, err)
	case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("nft table %s: %w (a table that goes with its maker needs Linux 5.12)", OwnTable, err)
	case err != nil:
		return fmt.Errorf("nft table %s: %w", OwnTable, err)
	}
	return nil
}

// expression is one of a rule's.
func expression(name string, data ...attr) attr {
	parts := []attr{str(unix.NFTA_EXPR_NAME, name)}
	if len(data) > 0 {
		parts = append(parts, nest(unix.NFTA_EXPR_DATA, data...))
	}
	return nest(unix.NFTA_LIST_ELEM, parts...)
}

// load puts an address of the IP header into a register.
func load(offset uint32) attr {
	return expression("payload", be32(unix.NFTA_PAYLOAD_DREG, unix.NFT_REG_1), be32(unix.NFTA_PAYLOAD_BASE, unix.NFT_PAYLOAD_NETWORK_HEADER),
		be32(unix.NFTA_PAYLOAD_OFFSET, offset), be32(unix.NFTA_PAYLOAD_LEN, 4))
}

// equal ends the rule unless the register has the address.
func equal(a netip.Addr) attr {
	return expression("cmp", be32(unix.NFTA_CMP_SREG, unix.NFT_REG_1), be32(unix.NFTA_CMP_OP, unix.NFT_CMP_EQ),
		nest(unix.NFTA_CMP_DATA, raw(unix.NFTA_DATA_VALUE, a.AsSlice())))
}
