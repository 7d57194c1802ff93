// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/cilium/ebpf/asm"
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
//	container                                 host
//	┌─────────────────────────────────────┐   ┌─────────┐
//	│ eth0: from_container ─redirect─► way┼───┼──► NIC  │
//	└─────────────────────────────────────┘   └─────────┘
//
// It spares the lane, the device below it, a redirect and a program (docs/speed.md has the figures). No program stands behind it, so nothing else may
// ever be put into it:
//
//   - It has no part in IPv4 nor in IPv6 (withoutIP): no route can lead there, and a socket that is bound to it can't send (ENETUNREACH). Its MTU of 68 does
//     not matter to what a program redirects.
//   - A container in which anybody may put frames of his own into a device has none (forging.go). Who comes later, by a debugger's container in the same
//     namespace, is noticed within a tick, and ends it.
//   - It hears nothing: of a macvlan's modes "source" delivers what its list of senders says, which is empty, and multicast frames that claim to be its own,
//     which nobody reads who has no part in IP.
//
// What a killed agent leaves is a device that nobody may use until somebody with CAP_NET_RAW joins that namespace; the next agent removes it.

// settingDirect is the setting of fast paths over an overlay whose containers are to have a direct way.
const settingDirect = "direct"

// varDirect is the program's variable of its device.
const varDirect = "direct_ifindex"

// directNeeds is what came with the kernel from which bpf_skb_adjust_room() grows frames beyond the MTU of the device that they are on.
var directNeeds = []helperNeed{{asm.FnCheckMtu, "5.12"}}

// directWay is a container's.
type directWay struct {
	name  string
	index int
	ns    netns.NsHandle // the container's, held until the device is gone
	made  *tune.Applied
	used  time.Time // since when from_container knows of it; zero: it does not yet
}

// directState is what an endpoint has of it.
type directState struct {
	*directWay        // nil: none
	indirect   string // why it is not used
	// again is when to try next after it failed or was taken away, rest how long after the last time: what is lasting, or comes and goes, is not worth devices and
	// a journal's records every second.
	again time.Time
	rest  time.Duration
}

func (d *directState) inUse() bool { return d.directWay != nil && !d.used.IsZero() }

// later puts the next try off, twice as long as the last time unless that was long ago.
func (d *directState) later() {
	const longest = time.Minute
	if d.inUse() && time.Since(d.used) > longest {
		d.rest = 0
	}
	d.rest = min(max(2*d.rest, tick), longest)
	d.again = time.Now().Add(d.rest)
}

// straighten gives each container its direct way, takes it from those in which somebody may put frames of his own into it, and says why it has none.
func (o *overlay) straighten() error {
	if !o.with.has(settingDirect) {
		return nil
	}
	defer stopwatch("direct ways")()
	began := time.Now()
	spaces := map[spaceKey]netns.NsHandle{}
	for _, e := range o.endpoints {
		if e.ns.IsOpen() {
			spaces[keyOfSpace(e.space)] = e.ns
		} else if e.direct.directWay != nil { // it is closing
			spaces[keyOfSpace(e.space)] = e.direct.ns
		}
	}
	unsafe := forging(spaces)
	var bent []*endpoint
	for _, e := range o.endpoints {
		why := unsafe[keyOfSpace(e.space)]
		if e.direct.directWay != nil && (why != "" || !e.closing && !e.stands()) {
			e.direct.indirect = why
			bent = append(bent, e)
		}
	}
	errs := []error{bend(bent)}
	for _, e := range o.endpoints {
		why := unsafe[keyOfSpace(e.space)]
		switch {
		case e.closing:
		case why != "":
			e.direct.indirect = why
		case e.direct.directWay != nil:
			errs = append(errs, e.use())
		case time.Now().Before(e.direct.again) || time.Since(began) > tick/2: // the lease has to be renewed meanwhile
		default:
			if err := o.makeDirect(e); err != nil {
				e.direct.indirect = err.Error()
				e.direct.later()
				continue
			}
			errs = append(errs, e.use())
		}
	}
	return errors.Join(errs...)
}

// stands says whether a container's direct way is there still: it goes with the wire's device.
func (e *endpoint) stands() bool {
	link, err := e.look.LinkByIndex(e.direct.index)
	return err == nil && link.Attrs().Name == e.direct.name && link.Attrs().Flags&net.FlagUp != 0
}

// use has a container's packets take its direct way as soon as that carries them: with the wire's carrier.
func (e *endpoint) use() error {
	d := &e.direct
	if d.inUse() {
		return nil
	}
	link, err := e.look.LinkByIndex(d.index)
	if err != nil || link.Attrs().OperState != netlink.OperUp {
		d.indirect = fmt.Sprintf("device %s does not carry packets yet", d.name)
		return nil
	}
	if err := e.setDirect.Set(uint32(d.index)); err != nil {
		return fmt.Errorf("program's variable %s: %w", varDirect, err)
	}
	d.used, d.indirect = time.Now(), ""
	return nil
}

// bend has containers' packets take the lane again, and removes their direct ways when none can be on them any more.
func bend(list []*endpoint) error {
	if len(list) == 0 {
		return nil
	}
	errs := make([]error, len(list), len(list)+1)
	for i, e := range list {
		if e.closing { // its program is gone, or as good as
			continue
		}
		if errs[i] = e.setDirect.Set(uint32(0)); errs[i] != nil {
			errs[i] = fmt.Errorf("program's variable %s: %w", varDirect, errs[i])
		}
	}
	grace := gracePeriod()
	var all sync.WaitGroup
	for i, e := range list {
		e.direct.later()
		if errs[i] == nil {
			all.Go(func() { errs[i] = e.direct.remove() })
		}
	}
	all.Wait()
	return errors.Join(append(errs, grace)...)
}

// remove removes the device, if there is one.
func (d *directState) remove() error {
	way := d.directWay
	if way == nil {
		return nil
	}
	if err := removeLink(way.ns, way.name, way.made); err != nil {
		return err
	}
	d.directWay = nil
	return way.ns.Close()
}

// makeDirect makes a container's direct way.
func (o *overlay) makeDirect(e *endpoint) (err error) {
	if err := checkHelpers(directNeeds); err != nil {
		return err
	}
	fd, err := unix.FcntlInt(uintptr(e.ns), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	way := &directWay{name: laneName() + "d", ns: netns.NsHandle(fd)}
	space := o.spaceOf(e)
	space.NS = way.ns
	way.made, err = o.tracked.journal.LinkIn(space, way.name, func() error { return o.withoutIP(e, way.name) })
	if err != nil {
		return errors.Join(fmt.Errorf("macvlan upon %s: %w", o.cfg.Wire, err), way.ns.Close())
	}
	e.direct.directWay = way
	defer func() {
		if err != nil {
			err = errors.Join(err, e.direct.remove())
		}
	}()
	link, err := e.look.LinkByName(way.name)
	if err != nil {
		return fmt.Errorf("device %s: %w", way.name, err)
	}
	way.index = link.Attrs().Index
	for _, version := range []string{"ipv4", "ipv6"} { // before it is up
		if has, err := tune.HasSysctl(e.ns, "net."+version+".conf."+way.name+".forwarding"); err != nil {
			return err
		} else if has {
			return fmt.Errorf("device %s: it has a part in %s, which this kernel could not be kept from giving it", way.name, version)
		}
	}
	if err := e.look.LinkSetUp(link); err != nil {
		return fmt.Errorf("device %s: up: %w", way.name, err)
	}
	_ = comesUp(e.look, way.name, 50*time.Millisecond) // what takes longer is looked at with the next tick
	return nil
}

const (
	nameWithoutIPv4 = "all"
	leastMTU        = 68 // of an Ethernet device, in bytes (ETH_MIN_MTU); it never changes: that would be another chance for IPv4
)

// withoutIP makes the macvlan in a container as a device that has no part in IP. IPv6 gives none to one of so small an MTU. IPv4 gives one to each that
// comes into a namespace, but for one that is called "all" there, as its settings could not be told from those for all devices
// (sysctl_dev_name_is_allowed() in net/ipv4/devinet.c): it goes without. So the device is made elsewhere, by the name of another that is in the container,
// and comes there by the name for that case, "all"; then it is given its own.
func (o *overlay) withoutIP(e *endpoint, name string) error {
	if err := o.openAnteroom(); err != nil {
		return fmt.Errorf("namespace to make it in: %w", err)
	}
	if left, err := e.look.LinkByName(nameWithoutIPv4); err == nil && left.Attrs().Alias == linkAlias { // of an agent that was killed at this
		_ = e.look.LinkDel(left)
	}
	a := attrs(e.device, leastMTU)
	a.ParentIndex, a.Namespace = o.wire, netlink.NsFd(o.anteroom)
	if err := o.handle.LinkAdd(&netlink.Macvlan{LinkAttrs: a, Mode: netlink.MACVLAN_MODE_SOURCE}); err != nil {
		return err
	}
	err := netspace.In(o.anteroom, func() error {
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

// openAnteroom makes a network namespace, if there is none yet.
func (o *overlay) openAnteroom() error {
	if o.anteroom.IsOpen() {
		return nil
	}
	return netspace.In(o.host, func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			o.anteroom, _, err = netspace.Own()
		}
		return err
	})
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
