// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

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
	ns     netns.NsHandle  // its own, held
	look   *netlink.Handle // in there; nil: it is not held, or no more
	lane   lane            // nil: it is not there yet, or no more
	// byDevice is what to_container was last told by setByDevice: all that arrives goes up by the container's own device; so all has to be delivered to where
	// it stands, which is as it was last done.
	byDevice    bool
	delivered   bool
	setByDevice *ebpf.Variable
	names       *nameServer    // its engine's name server without rules; nil: it has them, or never had any
	tracked     string         // why its connections are tracked all the same
	direct      directState    // its direct way
	setDirect   *ebpf.Variable // tells from_container
	handovers   []*handover    // what is at work on the lane's devices
	undo        []func() error // what leads to the lane, in the order things were done
	closing     bool           // it was to go, and could not yet
}

// syncEndpoints lets go of containers that left and takes in those that came.
func (o *overlay) syncEndpoints(now []local) error {
	began := time.Now()
	errs := []error{o.release(now)}
	for _, l := range now {
		if slices.ContainsFunc(o.endpoints, func(e *endpoint) bool { return e.local == l || e.sharesAddress(l) }) {
			continue
		}
		e := &endpoint{local: l, number: o.next, ns: netns.None()}
		o.next++
		failed := o.take(e)
		errs = append(errs, o.keepTaken(e, failed))
		if failed == nil && o.hasNews(began) {
			break // to forget comes first, and what else has come is still there at the next look
		}
	}
	return errors.Join(errs...)
}

// release lets go of containers that left.
func (o *overlay) release(now []local) error {
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
	return errors.Join(append(errs, err)...)
}

// sharesAddress says whether an endpoint has to go before another container can be one: what it has yet to undo would be the other's.
func (e *endpoint) sharesAddress(l local) bool {
	return e.closing && e.vni == l.vni && e.addr == l.addr
}

// hasNews says whether something has changed since the sandbox was read, or the lease is due and the rest has to wait for the next look. What is
// being attached takes all in.
func (o *overlay) hasNews(since time.Time) bool {
	if o.stop != nil && time.Since(since) > tick {
		poke(o.news)
	}
	return o.stop != nil && (len(o.news) > 0 || o.follower != nil && len(o.follower.changed) > 0)
}

// keepTaken keeps a container that could be taken in, and lets go of one that could not.
func (o *overlay) keepTaken(e *endpoint, failed error) error {
	var unfit noLane
	switch {
	case failed == nil:
		o.endpoints = append(o.endpoints, e)
		return nil
	case errors.As(failed, &unfit):
		o.refused[e.addr.String()] = unfit.Error()
		return e.unhook()
	case o.present(e.local):
		failed = fmt.Errorf("container %s (%s): %w", e.addr, e.name, failed)
	default:
		failed = nil
	}
	e.closing = true
	left, err := closeAll([]*endpoint{e})
	o.endpoints = append(o.endpoints, left...)
	return errors.Join(failed, err)
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
func (o *overlay) unfit(e *endpoint) error {
	if room := o.progs.room("endpoints"); len(o.endpoints) >= room {
		return noLane(fmt.Sprintf("one more than the %d containers that the table of this host's holds", room))
	}
	if e.mtu+encapsulation > o.wireMTU {
		return noLane(fmt.Sprintf("its MTU of %d and %d bytes of encapsulation exceed the wire's %d", e.mtu, encapsulation, o.wireMTU))
	}
	if e.isolated {
		return noLane("its port of the bridge is isolated")
	}
	if v, err := tune.SysctlIn(e.ns, "net.ipv4.conf.all.rp_filter"); err == nil && v == "1" {
		return noLane("net.ipv4.conf.all.rp_filter is 1 in it: what arrives by the lane would be dropped")
	}
	return nil
}

// stopwatch hears of the steps of taking a container in, and returns what is called at a step's end. A test has it read the clock.
var stopwatch = func(step string) (done func()) { return func() {} }

// take gives a container its lane and its programs. The device's own hook comes last: from then on packets take the lane. When
// it fails, what it did is in the endpoint's undo.
func (o *overlay) take(e *endpoint) (err error) {
	if err := o.enterContainer(e); err != nil {
		return err
	}
	if err := o.unfit(e); err != nil {
		return err
	}
	done := stopwatch("lane")
	e.lane, err = makeLane(o.lanes, laneSite{o.host, e.ns, e.local, e.number, o.progs, o.with.has(settingDirect)})
	done()
	if err != nil {
		return err
	}
	if o.cfg.Without == econbench.Egress {
		_, err := o.dress(e)
		return err
	}
	own := o.hooks.reserve(point{e.ns, e.ifindex, ebpf.AttachTCXEgress})
	programs, err := o.dress(e)
	if err != nil {
		return errors.Join(err, own.Close())
	}
	defer stopwatch("wait for the own device's hook")()
	c, err := own.put(programs[progFromContainer])
	if err == nil {
		e.undo = append(e.undo, c.Close)
	}
	return err
}

// dress gives a container with a lane its programs, and has all but that of its own device at work.
func (o *overlay) dress(e *endpoint) (map[string]*ebpf.Program, error) {
	done := stopwatch("programs")
	around, err := o.progs.around(e.local, e.number, e.lane)
	done()
	if err != nil {
		return nil, err
	}
	e.undo = append(e.undo, func() error { around.Close(); return nil })
	if err := o.attachLane(e, around); err != nil {
		return nil, err
	}
	if err := o.deliver(e); err != nil {
		return nil, err
	}
	e.undo = append(e.undo, func() error { return o.progs.dropEndpoint(e.local) })
	return around.Programs, nil
}

// enterContainer opens the container's namespace, and begins to follow it.
func (o *overlay) enterContainer(e *endpoint) (err error) {
	defer stopwatch("namespace")()
	if e.ns, err = e.open(o.cfg.spaces()); err != nil {
		return noLane(err.Error())
	}
	e.undo = append(e.undo, e.ns.Close)
	if e.look, err = netlink.NewHandleAt(e.ns, unix.NETLINK_ROUTE); err != nil {
		return err
	}
	e.undo = append(e.undo, func() error { e.look.Close(); e.look = nil; return nil })
	unfollow, err := followDevices(e.ns, o.news)
	if err != nil {
		return fmt.Errorf("follow its devices: %w", err)
	}
	e.undo = append(e.undo, unfollow)
	return nil
}

// attachLane attaches what is at work where the lane comes out on either side.
func (o *overlay) attachLane(e *endpoint, around *ebpf.Collection) error {
	defer stopwatch("lane's hooks, rules")()
	programs := around.Programs
	e.setByDevice, e.setDirect = around.Variables[varByDevice], around.Variables[varDirect]
	if err := e.arrive(); err != nil {
		return err
	}
	_, asked := e.lane.asked()
	if err := e.attachOwn(o.hooks, point{e.ns, asked.index, ebpf.AttachTCXIngress}, programs[progToContainer]); err != nil {
		return err
	}
	outside, hook := e.lane.outside()
	if hook == ebpf.AttachNetkitPeer {
		if err := e.attachOwn(o.hooks, point{o.host, outside, ebpf.AttachNetkitPrimary}, programs[progToLane]); err != nil {
			return err
		}
	}
	if err := e.attachOwn(o.hooks, point{o.host, outside, hook}, programs[progFromLane]); err != nil {
		return err
	}
	if prog := programs[o.progs.within()]; prog != nil {
		return e.attachOwn(o.hooks, point{e.ns, e.lane.receiver(), ebpf.AttachTCXIngress}, prog)
	}
	return nil
}

// attachOwn attaches a program to a device of the lane's.
func (e *endpoint) attachOwn(hooks attacher, at point, prog *ebpf.Program) error {
	h, err := hooks.attachTo(e.lane, at, prog)
	if err == nil {
		e.undo = append(e.undo, h.Close)
		e.handovers = append(e.handovers, h)
	}
	return err
}

// closeAll takes containers off the fast path: first all that leads to their lanes, then, when no packet can be on its way there any
// more, the lanes, beside each other: the kernel waits for much with each. It returns those for which that failed: to take a lane away from under a hook that still
// leads to it would lose packets.
func closeAll(list []*endpoint) (left []*endpoint, err error) {
	if len(list) == 0 {
		return nil, nil
	}
	errs := make([]error, len(list), len(list)+1)
	for i, e := range list {
		errs[i] = e.unhook()
	}
	grace := gracePeriod()
	var all sync.WaitGroup
	for i, e := range list {
		if errs[i] == nil && e.lane != nil {
			all.Go(func() { errs[i] = e.vacate() })
		}
	}
	all.Wait()
	for i, e := range list {
		if errs[i] != nil {
			left = append(left, e)
		}
	}
	return left, errors.Join(append(errs, grace)...)
}

// vacate takes its devices away, to which nothing leads any more.
func (e *endpoint) vacate() error {
	var lane, direct error
	var both sync.WaitGroup
	both.Go(func() { lane = e.lane.close() })
	both.Go(func() { direct = e.direct.remove() })
	both.Wait()
	return errors.Join(lane, direct)
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
