// SPDX-License-Identifier: Apache-2.0

package hostfacts

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ipFamily is one of the two families that have legacy tables.
type ipFamily struct {
	name, tables   string // tables: of /proc/net, the names of those that this network namespace has
	domain, option int
}

var (
	ipv4 = ipFamily{"ip", "ip_tables_names", unix.AF_INET, unix.SOL_IP}
	ipv6 = ipFamily{"ip6", "ip6_tables_names", unix.AF_INET6, unix.SOL_IPV6}
)

// getInfo is IPT_SO_GET_INFO and IP6T_SO_GET_INFO.
const getInfo = 64

// infoSize is that of struct ipt_getinfo: name[32], valid_hooks, hook_entry[5], underflow[5], num_entries, size
// (linux/netfilter_ipv4/ip_tables.h).
const infoSize = 32 + 4 + 5*4 + 5*4 + 4 + 4

// tableInfo is what the kernel says of a table: not its rules.
type tableInfo struct {
	valid            uint32
	entry, underflow [5]uint32 // where a hook's rules begin, and where its policy stands
}

// inetHooks are named as nft does, in the kernel's order.
var inetHooks = []string{"prerouting", "input", "forward", "output", "postrouting"}

// withRules are the hooks on which a rule stands before the policy.
func (i tableInfo) withRules() (hooks []string) {
	for n, name := range inetHooks {
		if i.valid&(1<<n) != 0 && i.entry[n] != i.underflow[n] {
			hooks = append(hooks, name)
		}
	}
	return hooks
}

// tableInfo asks for a table that there is: the kernel would make one that there is not.
func (f ipFamily) tableInfo(table string) (info tableInfo, err error) {
	b := make([]byte, infoSize)
	if len(table) >= 32 {
		return info, fmt.Errorf("name %.40q: longer than a table's may be", table)
	}
	copy(b, table)
	fd, err := unix.Socket(f.domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return info, fmt.Errorf("socket (CAP_NET_RAW): %w", err)
	}
	defer unix.Close(fd)
	size := uint32(len(b))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(f.option), getInfo,
		uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return info, fmt.Errorf("rules (CAP_NET_ADMIN): %w", errno)
	}
	r := bytes.NewReader(b[32:])
	for _, into := range []any{&info.valid, &info.entry, &info.underflow} {
		if err := binary.Read(r, binary.NativeEndian, into); err != nil {
			return info, err
		}
	}
	return info, nil
}
