// SPDX-License-Identifier: Apache-2.0

package fastpath

//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -cflags "-O2 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-address-of-packed-member -I bpf/lib" nameserver bpf/nameserver.bpf.c

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/prometheus/procfs"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/netspace"
	"github.com/econbench/econbench/internal/nft"
	"github.com/econbench/econbench/internal/tune"
)

// What is here ends the tracking of connections in containers where nothing but the engine's own name server is there for it, with the setting
// "untracked". It is 0.65 to 0.9 us of each packet (docs/speed.md), and no program can keep a packet from it: it comes before every hook that
// programs have on the way out. Pods of Kubernetes have no such rules, and are not tracked.

// settingUntracked is the setting of fast paths over an overlay whose containers' connections are not to be tracked.
const settingUntracked = "untracked"

// translations are an engine's rules for it: there and back, for UDP and for TCP. They are made one by one, with a program of its own each, which
// would fail if what it adds to were gone.
const translations = 4

// engineNames is where Docker's resolver is asked, in each container on a network that was made for it (libnetwork's resolverIPSandbox).
var engineNames = netip.AddrFrom4([4]byte{127, 0, 0, 11})

// loopback is the index of that device in every network namespace (LOOPBACK_IFINDEX of include/net/flow.h).
const loopback = 1

// nameServer is the engine's name server of a container, without its rules.
type nameServer struct {
	rules  *tune.Applied  // withdrawn; nil: they are not
	filter attachedFilter // that does what they did
}

// Close restores the rules, then takes away what stood in for them.
func (n *nameServer) Close() error {
	if err := n.restore(); err != nil {
		return err
	}
	return n.filter.Close()
}

func (n *nameServer) restore() error {
	if n.rules == nil {
		return nil
	}
	err := n.rules.Undo()
	if err == nil {
		n.rules = nil
	}
	return err
}

// untrack withdraws the rules of a container's name server, as they are now; those that the engine made anew, too. A container that has others
// keeps all: they may ask for its connections. Whatever fails is this container's: it stays tracked, which is said, and is looked at again.
func (o *overlay) untrack(e *endpoint) {
	if !o.with.has(settingUntracked) {
		return
	}
	err := o.withdrawRules(e)
	var others nft.OtherRules
	switch before := e.tracked; {
	case err == nil:
		e.tracked = ""
	case errors.As(err, &others):
		e.tracked = others.Error()
	default:
		if e.tracked = err.Error(); e.tracked != before {
			fmt.Fprintf(os.Stderr, "agent: container %s stays tracked: %v\n", e.addr, err)
		}
	}
}

func (o *overlay) withdrawRules(e *endpoint) error {
	rules, err := nameServerRules(e.ns)
	if err != nil || rules == nil {
		return err
	}
	if rules.Translations != translations {
		return nft.OtherRules(fmt.Sprintf("its name server has %d rules of NAT: want %d, the engine may be making them", rules.Translations, translations))
	}
	ports, err := resolverPorts(e.ns)
	if err != nil {
		return err
	}
	return o.serveNames(e, *rules, ports)
}

// serveNames has a program stand in for the rules, and withdraws them.
func (o *overlay) serveNames(e *endpoint, rules nft.Confined, ports resolver) (err error) {
	spec, err := loadNameserver()
	if err != nil {
		return err
	}
	coll, err := loadPrograms(spec, nil, map[string]any{"udp_port": wire16(ports.udp), "tcp_port": wire16(ports.tcp)}, progNameServer)
	if err != nil {
		return err
	}
	defer coll.Close() // the filter has it
	filter, err := attachFilter(point{e.ns, loopback, ebpf.AttachTCXEgress}, coll.Programs[progNameServer], o.cfg.network())
	if err != nil {
		return err
	}
	if e.names == nil {
		e.names = &nameServer{filter: filter}
		e.undo = append(e.undo, func() error { return e.names.Close() })
	} else { // the engine made its rules anew, and the new filter has taken the other's place
		filter.created = e.names.filter.created
		e.names.filter.handle.Close()
		e.names.filter = filter
		if err := e.names.restore(); err != nil { // finds that they are back
			return err
		}
	}
	e.names.rules, err = o.tracked.journal.Withdraw(o.spaceOf(e), engineNames, rules)
	return err
}

// spaceOf is a container's namespace, as the journal has to find it.
func (o *overlay) spaceOf(e *endpoint) tune.Space {
	return tune.Space{NS: e.ns, ID: e.space, Path: path.Join(o.cfg.spaces(), e.name)}
}

// nameServerRules are a container's rules if they are the name server's alone; nil: it has none, of any kind. Else the error is nft.OtherRules.
func nameServerRules(container netns.NsHandle) (rules *nft.Confined, err error) {
	err = rulesOf(container, func(legacy []string, c *nft.Conn) (err error) {
		if len(legacy) > 0 {
			return nft.OtherRules(fmt.Sprintf("iptables-legacy's tables, which are not looked into: %s", strings.Join(legacy, ", ")))
		}
		if c != nil {
			rules, err = c.Confined(engineNames)
		}
		return err
	})
	return rules, err
}

// resolver is where the engine's name server listens.
type resolver struct{ udp, tcp uint16 }

// resolverPorts finds it by its sockets: rules tell of it in as many ways as there are versions of iptables.
func resolverPorts(container netns.NsHandle) (r resolver, err error) {
	const listening = 10 // TCP_LISTEN of include/net/tcp_states.h
	var udp procfs.NetUDP
	var tcp []*netlink.Socket
	err = netspace.In(container, func() error {
		here, err := procfs.NewFS("/proc/thread-self")
		if err != nil {
			return err
		}
		if udp, err = here.NetUDP(); err != nil {
			return err
		}
		tcp, err = netspace.Whole(func() ([]*netlink.Socket, error) { return netlink.SocketDiagTCP(unix.AF_INET) })
		return err
	})
	if err != nil {
		return r, fmt.Errorf("sockets: %w", err)
	}
	found := 0
	for _, s := range udp {
		if a, _ := netip.AddrFromSlice(s.LocalAddr); a.Unmap() == engineNames && s.RemPort == 0 {
			r.udp = uint16(s.LocalPort)
			found++
		}
	}
	for _, s := range tcp {
		if a, _ := netip.AddrFromSlice(s.ID.Source); a.Unmap() == engineNames && s.State == listening {
			r.tcp = s.ID.SourcePort
			found++
		}
	}
	if found != 2 || r.udp == 0 || r.tcp == 0 {
		return r, nft.OtherRules(fmt.Sprintf("%d sockets listen at %s: want one of UDP and one of TCP", found, engineNames))
	}
	return r, nil
}

// proveUntracked wants that nothing in the containers asked for their connections.
func proveUntracked(w econbench.Window) (failures []string) {
	for _, side := range sidesOf(w) {
		tables, noted := side.Notes[econbench.NoteNetfilter]
		if why := side.Notes[econbench.NoteTracked]; why != "" {
			failures = append(failures, fmt.Sprintf("%s: setting %s: connections are tracked: %s", side.host, settingUntracked, why))
		} else if !noted || tables != "" {
			failures = append(failures, fmt.Sprintf("%s: setting %s: nft tables in effect in the container are %q, want none", side.host, settingUntracked, tables))
		}
	}
	return failures
}
