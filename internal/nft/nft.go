// SPDX-License-Identifier: Apache-2.0

// Package nft takes nftables' tables out of effect and back, and keeps connections from being tracked, by netlink. It needs
// CAP_NET_ADMIN and no program.
//
// It knows of tables what decides whether IPv4 packets of a host pass through them: families ip and inet, base chains,
// flags. Of rules it takes away and restores those that are about one address alone (confined.go), and reads others for one question (input.go). Tables of other families (ip6, arp, bridge, netdev), the xt tables of
// iptables-legacy and BPF programs at netfilter's hooks are not its business; LegacyTables tells of the second.
package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Not in golang.org/x/sys/unix: include/uapi/linux/netfilter/nf_tables.h.
const (
	flagOwner      = 0x2 // NFT_TABLE_F_OWNER, Linux 5.12
	attrTableOwner = 7   // NFTA_TABLE_OWNER
)

// ErrNoTable says that there is no such table.
var ErrNoTable = errors.New("no such table")

// families are those whose chains see IPv4 packets on their way to and from sockets, as nft(8) names them.
var families = map[byte]string{unix.NFPROTO_IPV4: "ip", unix.NFPROTO_INET: "inet"}

// Table is a table as it is now.
type Table struct {
	Name    string // with its family before it, as nft(8) writes it: "ip filter"
	Dormant bool   // its chains are unhooked
	Owned   bool   // only the socket with port Owner may change it
	Owner   uint32
	Hooked  bool // it has base chains

	flags uint32
}

// CheckName allows what could be the name of a Table.
func CheckName(name string) error {
	if _, _, err := split(name); err != nil {
		return err
	}
	return nil
}

// split takes a name apart into family and the kernel's name.
func split(name string) (family byte, rest string, err error) {
	word, rest, _ := strings.Cut(name, " ")
	for number, f := range families {
		// NFT_NAME_MAXLEN is 256 with its end, include/uapi/linux/netfilter/nf_tables.h.
		if f == word && rest != "" && len(rest) < 256 && !strings.ContainsAny(rest, " \t\n\x00") {
			return number, rest, nil
		}
	}
	return 0, "", fmt.Errorf("nft table %q: want one like \"ip filter\" or \"inet filter\"", name)
}

// timeout bounds one request. A commit waits for the kernel's readers, which took milliseconds at most.
const timeout = 10 * time.Second

// Conn is a conversation with the kernel about one network namespace.
type Conn struct{ c *netlink.Conn }

// Dial opens one.
func Dial(ns netns.NsHandle) (*Conn, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: int(ns)})
	if err != nil {
		return nil, fmt.Errorf("nft: %w", err)
	}
	_ = c.SetOption(netlink.ExtendedAcknowledge, true) // words beside the number; without it works as well
	return &Conn{c}, nil
}

// Here opens one about the calling thread's namespace.
func Here() (*Conn, error) {
	ns, err := netns.GetFromPath("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("nft: network namespace of this thread: %w", err)
	}
	defer ns.Close()
	return Dial(ns)
}

// Close ends it; a table that it made goes with it.
func (c *Conn) Close() error { return c.c.Close() }

// Tables lists the tables, sorted by name.
func (c *Conn) Tables() (all []Table, err error) {
	tables, err := c.dump(unix.NFT_MSG_GETTABLE)
	if err != nil {
		return nil, fmt.Errorf("nft tables: %w", err)
	}
	chains, err := c.dump(unix.NFT_MSG_GETCHAIN)
	if err != nil {
		return nil, fmt.Errorf("nft chains: %w", err)
	}
	hooked := map[string]bool{}
	for _, m := range chains {
		if table, base, err := parseChain(m); err != nil {
			return nil, fmt.Errorf("nft chains: %w", err)
		} else if base {
			hooked[table] = true
		}
	}
	for _, m := range tables {
		t, ok, err := parseTable(m)
		if err != nil {
			return nil, fmt.Errorf("nft tables: %w", err)
		}
		if t.Hooked = hooked[t.Name]; ok {
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(a, b Table) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// Hooked says whether any chain of any family is hooked: whether a packet may meet a rule, or a policy, at all.
func (c *Conn) Hooked() (bool, error) {
	chains, err := c.dump(unix.NFT_MSG_GETCHAIN)
	if err != nil {
		return false, fmt.Errorf("nft chains: %w", err)
	}
	for _, m := range chains {
		if _, base, err := parseChain(m); base || err != nil {
			return base, err
		}
	}
	return false, nil
}

// Table reads one table; ErrNoTable when there is none.
func (c *Conn) Table(name string) (Table, error) {
	all, err := c.Tables()
	if err != nil {
		return Table{}, err
	}
	if i := slices.IndexFunc(all, func(t Table) bool { return t.Name == name }); i >= 0 {
		return all[i], nil
	}
	return Table{}, fmt.Errorf("nft table %s: %w", name, ErrNoTable)
}

// SetDormant takes a table out of effect or back, with all its chains at once and its rules as they are. The kernel refuses
// what is another socket's.
func (c *Conn) SetDormant(name string, dormant bool) error {
	t, err := c.Table(name)
	if err != nil {
		return err
	}
	flags := t.flags &^ unix.NFT_TABLE_F_DORMANT
	if dormant {
		flags |= unix.NFT_TABLE_F_DORMANT
	}
	family, kernelName, err := split(name)
	if err != nil {
		return err
	}
	// No NLM_F_CREATE: a table that is gone by now must not come back empty.
	m := message(unix.NFT_MSG_NEWTABLE, family, 0, str(unix.NFTA_TABLE_NAME, kernelName), be32(unix.NFTA_TABLE_FLAGS, flags))
	switch err := c.commit(m); {
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("nft table %s: %w", name, ErrNoTable)
	case err != nil:
		return fmt.Errorf("nft table %s: set flags %#x (CAP_NET_ADMIN): %w", name, flags, err)
	}
	return nil
}

// LegacyTables names the IPv4 tables of iptables-legacy in the calling thread's namespace. They can't be taken out of effect.
func LegacyTables() ([]string, error) {
	b, err := os.ReadFile("/proc/thread-self/net/ip_tables_names")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a kernel without them
	}
	if err != nil {
		return nil, fmt.Errorf("iptables-legacy: %w", err)
	}
	names := strings.Fields(string(b))
	slices.Sort(names)
	return names, nil
}

// parseTable reads a NEWTABLE message; ok is false of families that are none of this package's.
func parseTable(m netlink.Message) (t Table, ok bool, err error) {
	family, attrs, err := attributes(m)
	if err != nil {
		return t, false, err
	}
	for attrs.Next() {
		switch attrs.Type() {
		case unix.NFTA_TABLE_NAME:
			t.Name = family + " " + attrs.String()
		case unix.NFTA_TABLE_FLAGS:
			t.flags = attrs.Uint32()
		case attrTableOwner:
			t.Owner = attrs.Uint32()
		}
	}
	t.Dormant, t.Owned = t.flags&unix.NFT_TABLE_F_DORMANT != 0, t.flags&flagOwner != 0
	return t, family != "", attrs.Err()
}

// parseChain reads a NEWCHAIN message.
func parseChain(m netlink.Message) (table string, base bool, err error) {
	family, attrs, err := attributes(m)
	if err != nil {
		return "", false, err
	}
	for attrs.Next() {
		switch attrs.Type() {
		case unix.NFTA_CHAIN_TABLE:
			table = family + " " + attrs.String()
		case unix.NFTA_CHAIN_HOOK:
			base = true
		}
	}
	return table, base, attrs.Err()
}

// attributes opens a message of nfnetlink's: four bytes (struct nfgenmsg), then attributes in network byte order.
func attributes(m netlink.Message) (family string, _ *netlink.AttributeDecoder, err error) {
	if len(m.Data) < 4 {
		return "", nil, fmt.Errorf("message of %d bytes: want 4 or more", len(m.Data))
	}
	attrs, err := netlink.NewAttributeDecoder(m.Data[4:])
	if err != nil {
		return "", nil, err
	}
	attrs.ByteOrder = binary.BigEndian
	return families[m.Data[0]], attrs, nil
}
