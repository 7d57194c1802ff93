// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"

	"github.com/cilium/ebpf/asm"
	"github.com/prometheus/procfs"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/netspace"
	"github.com/econbench/econbench/internal/tune"
)

// What is here gives containers a direct way to the wire, with the setting "direct": a macvlan in the container upon the wire's own device, into
// which from_container puts frames that are ready for the wire.
//
//	container                                  host
//	┌─────────────────────────────────────┐   ┌─────────┐
//	│ eth0: from_container ─redirect─► way ┼───┼──► NIC  │
//	└─────────────────────────────────────┘   └─────────┘
//
// It spares the lane, the device below it, a redirect and a program: 0.17 µs of a packet (docs/speed.md). No program stands behind it, so nothing
// else may ever be put into it:
//
//   - It has no part in IPv4 nor in IPv6 (withoutIP): no route can lead there, and a socket that is bound to it can't send (ENETUNREACH). Its MTU of 68 does
//     not matter to what a program redirects.
//   - Frames without IP take CAP_NET_RAW, and to make another device of it CAP_NET_ADMIN. A container in which anybody has one of them, or may get it, has
//     no direct way. Who comes later, by a debugger's container in the same namespace, is noticed within a tick, and ends it.
//   - It hears nothing: of a macvlan's modes "source" delivers what its list of senders says, which is empty.
//
// What a killed agent leaves is a device that nobody can use; the next one removes it.

// settingDirect is the setting of fast paths over an overlay whose containers are to have a direct way.
const settingDirect = "direct"

// varDirect is the program's variable of its device.
const varDirect = "direct_ifindex"

// directNeeds is what came with the kernel from which bpf_skb_adjust_room() grows frames beyond the MTU of the device that they are on.
var directNeeds = []helperNeed{{asm.FnCheckMtu, "5.12"}}

// directWay is a container's.
type directWay struct {
	index int
	undo  func() error
}

func (d *directWay) close() error { return d.undo() }

// straighten gives each container its direct way, takes it from those in which somebody may put frames of his own into it, and says why it has none.
func (o *overlay) straighten() error {
	if !o.with.has(settingDirect) {
		return nil
	}
	unsafe := map[spaceKey]string{}
	for _, e := range o.endpoints {
		unsafe[keyOfSpace(e.space)] = "no process can be seen in it: want one, to know what it may do"
	}
	if err := forging(unsafe); err != nil {
		for space := range unsafe {
			unsafe[space] = err.Error()
		}
	}
	var errs []error
	for _, e := range o.endpoints {
		if e.closing {
			continue
		}
		e.indirect = unsafe[keyOfSpace(e.space)]
		switch has := e.direct != nil && o.stands(e); {
		case e.indirect == "" && has:
		case e.direct != nil:
			errs = append(errs, e.bend())
		case e.indirect == "":
			e.indirect = o.makeDirect(e)
		}
	}
	return errors.Join(errs...)
}

// stands says whether a container's direct way is there still: it goes with the wire's device.
func (o *overlay) stands(e *endpoint) bool {
	_, err := e.look.LinkByIndex(e.direct.index)
	return err == nil
}

// makeDirect makes a container's direct way, or says what keeps it from having one.
func (o *overlay) makeDirect(e *endpoint) (why string) {
	way, err := o.direct(e)
	if err != nil {
		return err.Error()
	}
	e.direct = way
	if err := e.setDirect.Set(uint32(way.index)); err != nil {
		return errors.Join(fmt.Errorf("program's variable %s: %w", varDirect, err), e.bend()).Error()
	}
	return ""
}

// bend has a container's packets take the lane again, and removes its direct way when none can be on it any more.
func (e *endpoint) bend() error {
	if err := e.setDirect.Set(uint32(0)); err != nil {
		return fmt.Errorf("program's variable %s: %w", varDirect, err)
	}
	err := errors.Join(gracePeriod(), e.direct.close())
	if err == nil {
		e.direct = nil
	}
	return err
}

// direct makes the device.
func (o *overlay) direct(e *endpoint) (_ *directWay, err error) {
	if err := checkHelpers(directNeeds); err != nil {
		return nil, err
	}
	name := laneName() + "d"
	made, err := o.tracked.journal.LinkIn(o.spaceOf(e), name, func() error { return o.withoutIP(e, name) })
	if err != nil {
		return nil, fmt.Errorf("macvlan upon %s: %w", o.cfg.Wire, err)
	}
	way := &directWay{undo: func() error { return removeIn(e.ns, name, made) }}
	defer func() {
		if err != nil {
			err = errors.Join(err, way.close())
		}
	}()
	link, err := e.look.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", name, err)
	}
	way.index = link.Attrs().Index
	for _, version := range []string{"ipv4", "ipv6"} { // before it is up
		if has, err := tune.HasSysctl(e.ns, "net."+version+".conf."+name+".forwarding"); err != nil {
			return nil, err
		} else if has {
			return nil, fmt.Errorf("device %s: it has a part in %s, which this kernel could not be kept from giving it", name, version)
		}
	}
	if err := e.look.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("device %s: up: %w", name, err)
	}
	return way, awaitUp(e.look, name)
}

// withoutIP makes the macvlan in a container as a device that has no part in IP. IPv6 gives none to one of so small an MTU. IPv4 gives one to each that
// comes into a namespace, but for one that is called "all" there, as its settings could not be told from those for all devices
// (sysctl_dev_name_is_allowed() in net/ipv4/devinet.c): it goes without. So the device is made elsewhere, by the name of another that is in the container,
// and comes there by the name for that case, "all"; then it is given its own.
func (o *overlay) withoutIP(e *endpoint, name string) (err error) {
	if !o.anteroom.IsOpen() {
		if o.anteroom, err = newSpace(); err != nil {
			return fmt.Errorf("namespace to make it in: %w", err)
		}
	}
	a := attrs(e.device, leastMTU)
	a.ParentIndex, a.Namespace = o.wire, netlink.NsFd(o.anteroom)
	if err := o.handle.LinkAdd(&netlink.Macvlan{LinkAttrs: a, Mode: netlink.MACVLAN_MODE_SOURCE}); err != nil {
		return err
	}
	err = netspace.In(o.anteroom, func() error {
		made, err := netlink.LinkByName(e.device)
		if err != nil {
			return err
		}
		if err = relocate(made.Attrs().Index, e.ns, nameWithoutIPv4); err != nil {
			err = errors.Join(err, netlink.LinkDel(made))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("move it into the container: %w", err)
	}
	moved, err := e.look.LinkByName(nameWithoutIPv4)
	if err != nil {
		return err
	}
	if err = e.look.LinkSetName(moved, name); err != nil {
		err = errors.Join(err, e.look.LinkDel(moved))
	}
	return err
}

const (
	nameWithoutIPv4 = "all"
	leastMTU        = 68 // of an Ethernet device, in bytes (ETH_MIN_MTU); it never changes: that would be another chance for IPv4
)

// newSpace makes a network namespace.
func newSpace() (ns netns.NsHandle, err error) {
	own, _, err := netspace.Own()
	if err != nil {
		return netns.None(), err
	}
	defer own.Close()
	err = netspace.In(own, func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			ns, _, err = netspace.Own()
		}
		return err
	})
	return ns, err
}

// relocate moves a device of the calling thread's namespace to another, where it gets the name given if its own is taken. One request has to ask for both.
func relocate(index int, to netns.NsHandle, ifTaken string) error {
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(to))))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(ifTaken)))
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// removeIn removes a device of a container. The journal finds it gone, as with a lane.
func removeIn(container netns.NsHandle, name string, made *tune.Applied) error {
	h, err := netlink.NewHandleAt(container, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	if link, err := h.LinkByName(name); err == nil {
		_ = h.LinkDel(link) // the journal says what it could not do
	}
	return made.Undo()
}

// spaceKey is a network namespace as a process' folder tells of it.
type spaceKey struct{ dev, inode uint64 }

func keyOfSpace(id netspace.ID) spaceKey { return spaceKey{id.Dev, id.Inode} }

// forgers are the capabilities with which one can put frames of his own making into a device, or have another do it.
const forgers = 1<<unix.CAP_NET_RAW | 1<<unix.CAP_NET_ADMIN

// forging says of network namespaces why somebody in there may put frames of his own into a device, "" where nobody may; of one without a process what was
// said stays. It reads every process' namespace, and the capabilities of the threads of those that are in one of them: those that they have, may take or
// may get by what they run.
var forging = func(why map[spaceKey]string) error {
	proc, err := procfs.NewDefaultFS()
	if err != nil {
		return err
	}
	all, err := proc.AllProcs()
	if err != nil {
		return fmt.Errorf("processes: %w", err)
	}
	seen := map[spaceKey]bool{}
	for _, p := range all {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(procfs.DefaultMountPoint, strconv.Itoa(p.PID), "ns/net"), &st) != nil {
			continue // it ended
		}
		space := spaceKey{st.Dev, st.Ino}
		if _, wanted := why[space]; !wanted || seen[space] && why[space] != "" {
			continue
		}
		seen[space] = true
		why[space] = mayForge(proc, p.PID)
	}
	return nil
}

// mayForge says why a process may put frames of its own into a device of its namespace, or "".
func mayForge(proc procfs.FS, pid int) string {
	threads, err := proc.AllThreads(pid)
	if err != nil {
		return "" // it ended
	}
	for _, thread := range threads {
		s, err := thread.NewStatus()
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return fmt.Sprintf("process %d: %v", pid, err)
		}
		if has := (s.CapPrm | s.CapInh | s.CapBnd) & forgers; has != 0 {
			return fmt.Sprintf("process %d (%s) may have %s: want none there that could put frames of its own onto the wire", pid, s.Name, capabilities(has))
		}
	}
	return ""
}

// capabilities names those of forgers.
func capabilities(set uint64) string {
	raw, admin := set&(1<<unix.CAP_NET_RAW) != 0, set&(1<<unix.CAP_NET_ADMIN) != 0
	switch {
	case raw && admin:
		return "CAP_NET_RAW and CAP_NET_ADMIN"
	case raw:
		return "CAP_NET_RAW"
	default:
		return "CAP_NET_ADMIN"
	}
}

// leastDirect is the least share of carried segments that go by the direct way, of flows that send worthDirect a second. The rest is what the tables are
// asked about: a packet or two a flow, CPU and term of 20 ms, and whatever finds a next hop's term over.
const leastDirect, worthDirect = 0.5, 1000

// proveDirect wants that the containers had a direct way, and took it.
func proveDirect(w econbench.Window) (failures []string) {
	for _, side := range sidesOf(w) {
		c := side.Counters["fastpath"]
		hits, direct := c[econbench.Egress+"."+econbench.CounterHits], c[counterDirect]
		if why := side.Notes[econbench.NoteIndirect]; why != "" {
			failures = append(failures, fmt.Sprintf("%s: setting %s: %s", side.host, settingDirect, why))
		} else if direct < leastDirect*hits && hits > worthDirect*float64(side.Seconds)*float64(max(1, w.Flows.Count)) {
			failures = append(failures, fmt.Sprintf("%s: setting %s: %.0f of %.0f segments that it sent went directly, want %.0f %%", side.host, settingDirect, direct, hits, 100*leastDirect))
		}
	}
	return failures
}
