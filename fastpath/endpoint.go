// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/tune"
)

// endpoint is a container of this host at work on the fast path.
type endpoint struct {
	local
	number uint32
	lane   lane // nil: it is not there yet, or no more
	// byDevice is what to_container was last told by setByDevice: all that arrives goes up by the container's own device.
	byDevice    bool
	setByDevice *ebpf.Variable
	undo        []func() error // what leads to the lane, in the order things were done
	closing     bool           // it was to go, and could not yet
}

// syncEndpoints lets go of containers that left and takes in those that came.
func (o *overlay) syncEndpoints(now []local) error {
	var errs []error
	for _, e := range o.endpoints { // all of them at once: to take one lane away takes a while
		if !slices.Contains(now, e.local) {
			errs = append(errs, o.progs.dropEndpoint(e.local))
		}
	}
	var leaving []*endpoint
	o.endpoints = slices.DeleteFunc(o.endpoints, func(e *endpoint) bool {
		e.closing = e.closing || !slices.Contains(now, e.local) || !e.lane.intact(o.handle)
		if e.closing {
			leaving = append(leaving, e)
		}
		return e.closing
	})
	left, err := closeAll(leaving)
	o.endpoints = append(o.endpoints, left...) // to be tried again at the next look
	errs = append(errs, err)
	for _, l := range now {
		if slices.ContainsFunc(o.endpoints, func(e *endpoint) bool { return e.local == l || e.sharesAddress(l) }) {
			continue
		}
		if why := o.unfit(l); why != "" {
			o.refused[l.addr.String()] = why
			continue
		}
		e := &endpoint{local: l, number: o.next}
		o.next++
		err := o.take(e)
		var unfit noLane
		if errors.As(err, &unfit) {
			o.refused[l.addr.String()] = unfit.Error()
			errs = append(errs, e.unhook())
			continue
		}
		if err != nil {
			if o.present(l) {
				errs = append(errs, fmt.Errorf("container %s (%s): %w", l.addr, l.name, err))
			}
			e.closing = true
			left, err := closeAll([]*endpoint{e})
			o.endpoints = append(o.endpoints, left...)
			errs = append(errs, err)
			continue
		}
		o.endpoints = append(o.endpoints, e)
		if o.hasNews() {
			break // to forget comes first, and what else has come is still there at the next look
		}
	}
	return errors.Join(errs...)
}

// sharesAddress says whether an endpoint has to go before another container can be one: what it has yet to undo would be the other's.
func (e *endpoint) sharesAddress(l local) bool {
	return e.closing && e.vni == l.vni && e.addr == l.addr
}

// hasNews says whether something has changed since the sandbox was read. What is being attached takes all in.
func (o *overlay) hasNews() bool {
	return o.stop != nil && (len(o.news) > 0 || o.follower != nil && len(o.follower.changed) > 0)
}

// present says whether a container still has its device: whatever failed on one that is just leaving is no error.
func (o *overlay) present(l local) bool {
	ns, err := l.open(o.cfg.spaces())
	if err != nil {
		return false
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return true // as far as one can tell
	}
	defer h.Close()
	_, err = h.LinkByIndex(l.ifindex)
	return !errors.As(err, &netlink.LinkNotFoundError{})
}

// unfit says why a container can't take part.
func (o *overlay) unfit(l local) string {
	if l.mtu+encapsulation > o.wireMTU {
		return fmt.Sprintf("its MTU of %d and %d bytes of encapsulation exceed the wire's %d", l.mtu, encapsulation, o.wireMTU)
	}
	ns, err := l.open(o.cfg.spaces())
	if err != nil {
		return err.Error()
	}
	defer ns.Close()
	if l.isolated {
		return "its port of the bridge is isolated"
	}
	if v, err := tune.SysctlIn(ns, "net.ipv4.conf.all.rp_filter"); err == nil && v == "1" {
		return "net.ipv4.conf.all.rp_filter is 1 in it: what arrives by the lane would be dropped"
	}
	return ""
}

// take gives a container its lane and its programs. The device's own hook comes last: from then on packets take the lane. When
// it fails, what it did is in the endpoint's undo.
func (o *overlay) take(e *endpoint) error {
	ns, err := e.open(o.cfg.spaces())
	if err != nil {
		return err
	}
	defer ns.Close()
	unfollow, err := followDevices(ns, o.news)
	if err != nil {
		return fmt.Errorf("follow its devices: %w", err)
	}
	e.undo = append(e.undo, unfollow)
	if e.lane, err = makeLane(o.lanes, laneSite{o.host, ns, e.local, e.number, o.progs}); err != nil {
		return err
	}
	around, err := o.progs.around(e.local, e.number, e.lane)
	if err != nil {
		return err
	}
	e.undo = append(e.undo, func() error { around.Close(); return nil })
	if err := e.attachLane(o.hooks, o.host, ns, around); err != nil {
		return err
	}
	if err := o.progs.setEndpoint(e.local, e.number, e.lane); err != nil {
		return err
	}
	e.undo = append(e.undo, func() error { return o.progs.dropEndpoint(e.local) })
	if prog := around.Programs[o.progs.within()]; prog != nil {
		if err := e.attach(o.hooks, point{ns, e.lane.receiver(), ebpf.AttachTCXIngress}, prog); err != nil {
			return err
		}
	}
	if o.cfg.Without == econbench.Egress {
		return nil
	}
	return e.attach(o.hooks, point{ns, e.ifindex, ebpf.AttachTCXEgress}, around.Programs[progFromContainer])
}

// attachLane attaches what is at work where the lane comes out on either side.
func (e *endpoint) attachLane(hooks attacher, host, container netns.NsHandle, around *ebpf.Collection) error {
	programs := around.Programs
	e.setByDevice = around.Variables[varByDevice]
	if err := e.arrive(container); err != nil {
		return err
	}
	if err := e.attach(hooks, point{container, e.lane.receiver(), ebpf.AttachTCXIngress}, programs[progToContainer]); err != nil {
		return err
	}
	outside, hook := e.lane.outside()
	if hook == ebpf.AttachNetkitPeer {
		if err := e.attach(hooks, point{host, outside, ebpf.AttachNetkitPrimary}, programs[progToLane]); err != nil {
			return err
		}
	}
	return e.attach(hooks, point{host, outside, hook}, programs[progFromLane])
}

func (e *endpoint) attach(hooks attacher, at point, prog *ebpf.Program) error {
	c, err := hooks.attach(at, prog)
	if err == nil {
		e.undo = append(e.undo, c.Close)
	}
	return err
}

// closeAll takes containers off the fast path: first all that leads to their lanes, then, when no packet can be on its way there any
// more, the lanes. It returns those for which that failed: to take a lane away from under a hook that still leads to it would lose packets.
func closeAll(list []*endpoint) (left []*endpoint, err error) {
	if len(list) == 0 {
		return nil, nil
	}
	var errs []error
	for _, e := range list {
		errs = append(errs, e.unhook())
	}
	errs = append(errs, gracePeriod())
	for i, e := range list {
		if errs[i] == nil && e.lane != nil {
			errs[i] = e.lane.close()
		}
		if errs[i] != nil {
			left = append(left, e)
		}
	}
	return left, errors.Join(errs...)
}

// unhook undoes one thing after the other, newest first, up to the first that fails.
func (e *endpoint) unhook() error {
	for len(e.undo) > 0 {
		last := len(e.undo) - 1
		if err := e.undo[last](); err != nil {
			return err
		}
		e.undo = e.undo[:last]
	}
	return nil
}

// gracePeriod waits until every program has come to its end that ran when it was called, with what its redirects did (RCU).
func gracePeriod() error {
	const global = 1 // MEMBARRIER_CMD_GLOBAL of linux/membarrier.h: synchronize_rcu()
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, global, 0, 0); errno != 0 && errno != unix.ENOSYS && errno != unix.EINVAL {
		return fmt.Errorf("membarrier: %w", errno)
	}
	return nil
}
