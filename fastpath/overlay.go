// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/netspace"
	"github.com/econbench/econbench/internal/tune"
)

const (
	ethernetHeader = 14
	// encapsulation is what VXLAN over IPv4 adds to a frame, in bytes.
	encapsulation = 50
	// leaseTerm is how long the programs trust their caches without hearing from the agent. One that hangs, or was killed
	// where programs outlive it, keeps no stale cache at work for longer.
	leaseTerm = 5 * time.Second
)

// tick is how often the lease is renewed, once the network is where it was and containers' rules ask for no more than they did, of
// which no notification tells. A test has it wait.
var tick = time.Second

// thorough is how many ticks lie between two times that everything is read again though no notification told of anything. It takes
// 2.3 ms of CPU on a host with one container, what a tick does else 0.7, and one falls into every window that is measured.
const thorough = 5

// hostSide is what programs have to know of their host.
type hostSide struct {
	wire        int // index of the underlay's device
	underlay    netip.Addr
	port        uint16
	sourcePorts [2]uint16 // the kernel's range for outer source ports; the second is not in it
	learning    bool
	direct      bool // containers may have direct ways
	maxFlows    int  // to be remembered; 0: as many as the programs say
}

// Programs of every fast path over an overlay, by the names that they have in its C.
const (
	progFromWire      = "from_wire"      // the underlay's device, ingress
	progFromContainer = "from_container" // the container's own device, egress
	progFromLane      = "from_lane"      // where a lane comes out on the host's side
	progToContainer   = "to_container"   // where a lane comes out in the container, ingress
	progToLane        = "to_lane"        // a netkit's primary end, or the host's end of a lane's second pair, egress
	progDrop          = "drop"           // the host's end of a lane, ingress
	progNameServer    = "name_server"    // the container's loopback, egress; of no fast path's own (untracked.go)
)

// varByDevice is a variable of to_container's that changes while it is at work.
const varByDevice = "by_device"

// overlayPrograms are a fast path's programs with their maps. Whoever uses them is overlay.
type overlayPrograms interface {
	load(hostSide) error
	close() error
	fromWire() *ebpf.Program
	// guards are programs for a container's lane that is to be made, drop or to_lane; the collection may be closed once they are attached.
	guards(l local, number uint32, programs ...string) (*ebpf.Collection, error)
	// around are all others of a container with a lane, and the program inside if there is one.
	around(l local, number uint32, lane lane) (*ebpf.Collection, error)
	// within is the name of the program at the ingress of a lane's end in its container; "": there is none.
	within() string
	setControl(control) error
	// stand is setControl with modeOff, before the programs are taken away; concerted: those of other hosts stand aside as well.
	stand(concerted bool) error
	setRemote(a address, r remote, nextHop netip.Addr) error
	dropRemote(address) error
	// setEndpoint says where a container's lane leads; byDevice: all that arrives is for to_container to look at.
	setEndpoint(l local, number uint32, lane lane, byDevice bool) error
	dropEndpoint(local) error
	// tidy is called at each look at the network, and does what is due now and then.
	tidy() error
	// room is how many entries a table holds, by its name.
	room(table string) int
	// mapBytes is the kernel's memory that each map takes, in bytes.
	mapBytes() (map[string]uint64, error)
	counters() (econbench.Counters, error)
	flows() ([]flow, error)
	forgetFlows() error
}

// overlay keeps a fast path in step with what Docker has built for one network in one host.
type overlay struct {
	cfg      OverlayConfig
	with     settings    // of cfg
	lanes    []laneMaker // the first that a container can have is its
	hooks    attacher
	host     netns.NsHandle
	handle   *netlink.Handle // in the host's namespace
	wire     int             // index of the underlay's device when the programs were loaded
	wireMTU  int             // and its MTU
	form     form            // of the outer headers, then
	progs    overlayPrograms
	onWire   io.Closer // from_wire at work; nil: it is not attached
	tracked  tracking
	anteroom netns.NsHandle // where direct ways are made; none: no one was

	mu        sync.Mutex
	sandbox   *sandbox // nil: the network has no container here at present
	follower  *follower
	news      chan struct{} // of the endpoints' own devices; capacity 1
	endpoints []*endpoint
	remotes   map[address]route
	refused   map[string]string // containers and peers left to the kernel's path, with why
	control   control           // as the programs were last told
	next      uint32            // number of the next endpoint
	syncErr   error

	stop    context.CancelFunc
	stopped chan struct{}
}

// route is a remote container as the programs know it.
type route struct {
	remote
	nextHop netip.Addr
}

// attachToSandbox attaches programs to an overlay network in the calling process's host. When it fails nothing is left.
func attachToSandbox(ctx context.Context, cfg OverlayConfig, j *tune.Journal, progs overlayPrograms) (_ econbench.Attached, err error) {
	o := &overlay{cfg: cfg, with: settingsOf(cfg.With), hooks: attacher{cfg.Hook, cfg.network()}, host: netns.None(), anteroom: netns.None(), progs: progs, tracked: tracking{journal: j}, remotes: map[address]route{}, refused: map[string]string{}, next: 1, news: make(chan struct{}, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.tearDown(false))
		}
	}()
	if o.lanes, err = lanesOf(j, cfg.Lane); err != nil {
		return nil, err
	}
	if err := o.hooks.check(); err != nil {
		return nil, err
	}
	if o.host, _, err = netspace.Own(); err != nil {
		return nil, err
	}
	if o.handle, err = netlink.NewHandleAt(o.host, unix.NETLINK_ROUTE); err != nil {
		return nil, err
	}
	if err := o.enter(); err != nil {
		return nil, err
	}
	if err := o.start(); err != nil {
		return nil, err
	}
	if err := o.sync(); err != nil {
		return nil, err
	}
	if len(o.endpoints) == 0 {
		return nil, fmt.Errorf("%s: %w that can take part%s", cfg.place(), errNoSandbox, o.reasons())
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	o.keep()
	return o, nil
}

// reasons tells why containers were left out, for an error.
func (o *overlay) reasons() (text string) {
	for _, what := range slices.Sorted(maps.Keys(o.refused)) {
		text += fmt.Sprintf("; %s: %s", what, o.refused[what])
	}
	return text
}

// enter opens the sandbox and begins to follow it.
func (o *overlay) enter() (err error) {
	if o.sandbox, err = openSandbox(o.cfg, o.host); err != nil {
		return err
	}
	o.follower, err = follow(o.sandbox.ns, o.host)
	return err
}

// leave lets go of the sandbox.
func (o *overlay) leave() {
	if o.follower != nil {
		o.follower.close()
		o.follower = nil
	}
	if o.sandbox != nil {
		o.sandbox.close()
		o.sandbox = nil
	}
}

// start loads the programs and attaches the one that all containers share.
func (o *overlay) start() error {
	defer stopwatch("network")()
	t, err := o.sandbox.read(nil)
	if err != nil {
		return err
	}
	if !o.cfg.Underlay.IsValid() {
		o.cfg.Underlay = t.underlay
	}
	if o.form = t.form; !o.cfg.Underlay.IsValid() {
		return fmt.Errorf("%s: it has no local address: want the underlay's given", o.cfg.place())
	}
	if err := o.suits(t.form); err != nil {
		return err
	}
	wire, err := o.findWire()
	if err != nil {
		return err
	}
	o.cfg.Wire, o.wire, o.wireMTU = wire.Attrs().Name, wire.Attrs().Index, wire.Attrs().MTU
	h := hostSide{wire: wire.Attrs().Index, underlay: o.cfg.Underlay, port: t.port, learning: o.cfg.Without != econbench.WithoutLearning, direct: o.with.has(settingDirect), maxFlows: o.cfg.MaxFlows}
	if h.sourcePorts = t.sourcePorts; h.sourcePorts[0] >= h.sourcePorts[1] {
		if h.sourcePorts, err = sourcePorts(o.sandbox.ns); err != nil {
			return err
		}
	}
	if o.cfg.Without == econbench.Ingress {
		return o.progs.load(h)
	}
	onWire := o.hooks.reserve(point{o.host, h.wire, ebpf.AttachTCXIngress})
	if err := o.progs.load(h); err != nil {
		return errors.Join(err, onWire.Close())
	}
	o.onWire, err = onWire.put(o.progs.fromWire())
	return err
}

// findWire is the device that was named, else the one that has the underlay's address.
func (o *overlay) findWire() (netlink.Link, error) {
	if o.cfg.Wire != "" {
		wire, err := o.handle.LinkByName(o.cfg.Wire)
		if err != nil {
			return nil, fmt.Errorf("wire %q: %w", o.cfg.Wire, err)
		}
		return wire, nil
	}
	addrs, err := netspace.Whole(func() ([]netlink.Addr, error) { return o.handle.AddrList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("wire: addresses: %w", err)
	}
	for _, a := range addrs {
		if addr, ok := netip.AddrFromSlice(a.IP); ok && addr.Unmap() == o.cfg.Underlay {
			return o.handle.LinkByIndex(a.LinkIndex)
		}
	}
	return nil, fmt.Errorf("wire: no device of this host has the underlay's address %s", o.cfg.Underlay)
}

// suits refuses a tunnel whose outer headers are not those that the programs write and expect. One that was made anew in
// another form since they were loaded is refused as well.
func (o *overlay) suits(f form) error {
	switch {
	case f != o.form:
		return fmt.Errorf("%s: it was made anew, with other outer headers: attach again", o.cfg.place())
	case f.underlay.IsValid() && f.underlay != o.cfg.Underlay:
		return fmt.Errorf("%s: it sends from %s, not from the underlay's address %s", o.cfg.place(), f.underlay, o.cfg.Underlay)
	case f.odd != "":
		return fmt.Errorf("%s: %s: a fast path would send other headers than it does", o.cfg.place(), f.odd)
	}
	return nil
}

// keep renews the lease and follows the sandbox until the attachment is closed.
func (o *overlay) keep() {
	ctx, stop := context.WithCancel(context.Background())
	o.stop, o.stopped = stop, make(chan struct{})
	go func() {
		defer close(o.stopped)
		clock := time.NewTicker(tick)
		defer clock.Stop()
		o.handOver(ctx)
		for ticks := 1; ; {
			step := o.heed
			var changed <-chan struct{}
			if o.follower != nil {
				changed = o.follower.changed
			}
			select {
			case <-ctx.Done():
				return
			case <-changed:
			case <-o.news:
			case <-clock.C:
				if step = o.sync; ticks%thorough != 0 {
					step = o.renew
				}
				ticks++
			}
			o.mu.Lock()
			err := step()
			if err != nil && (o.syncErr == nil || err.Error() != o.syncErr.Error()) {
				fmt.Fprintln(os.Stderr, "agent:", err) // the lease runs out unless the next one goes well
			}
			o.syncErr = err
			o.mu.Unlock()
			o.handOver(ctx)
		}
	}()
}

// sync brings programs and maps in step with the sandbox and with containers' rules as they are now, and renews the lease when that went well.
func (o *overlay) sync() error {
	if err := errors.Join(o.look(), o.followRules()); err != nil {
		return err
	}
	return o.extend()
}

// heed is sync where something was told of. Of rules nothing is told, so they are left to the clock.
func (o *overlay) heed() error {
	if o.syncErr != nil {
		return o.sync()
	}
	if err := o.look(); err != nil {
		return err
	}
	return o.extend()
}

// renew is sync where nothing was told of and the last one went well.
func (o *overlay) renew() error {
	if o.syncErr != nil || o.sandbox == nil || o.follower.broken.Load() || !o.sandbox.current() {
		return o.sync()
	}
	if err := o.followRules(); err != nil {
		return err
	}
	return o.extend()
}

// look brings programs and maps in step with the sandbox as it is now.
func (o *overlay) look() error {
	if o.sandbox != nil && (o.follower.broken.Load() || !o.sandbox.current()) {
		o.leave()
	}
	t := tables{}
	if o.sandbox == nil {
		if err := o.enter(); errors.Is(err, errNoSandbox) {
			o.leave()
		} else if err != nil {
			o.leave()
			return err
		}
	}
	if o.sandbox != nil {
		var err error
		if t, err = o.sandbox.read(o.endpoints); errors.Is(err, errNoTunnel) {
			t = tables{} // it is being taken down: nobody lives there any more
		} else if err != nil {
			return err
		} else if err := o.suits(t.form); err != nil {
			return err
		}
	}
	if o.cfg.Tunnel != "" {
		if err := o.tracked.relax(o.host); err != nil {
			return err
		}
	}
	for _, l := range t.locals { // engines leave entries of where it was before, now and then; a bridge goes by what it has learned
		delete(t.remotes, address{l.vni, l.addr})
	}
	clear(o.refused)
	return errors.Join(o.syncRemotes(t.remotes), o.syncEndpoints(t.locals), o.progs.tidy())
}

// handOver has tcx take over what filters hold of containers that were taken in, one after the other for as long as nothing else is to be done: each
// takes the kernel a while. What fails is tried again after the next look.
func (o *overlay) handOver(ctx context.Context) {
	for began := time.Now(); ctx.Err() == nil && !o.hasNews(began); {
		o.mu.Lock()
		h := o.due()
		var err error
		if h != nil {
			err = h.handOver()
		}
		o.mu.Unlock()
		if err != nil {
			fmt.Fprintln(os.Stderr, "agent: hand over to tcx:", err)
		}
		if h == nil || err != nil {
			return
		}
	}
}

// due is a program that is still a filter's.
func (o *overlay) due() *handover {
	for _, e := range o.endpoints {
		if e.closing {
			continue
		}
		if i := slices.IndexFunc(e.handovers, func(h *handover) bool { return h.due }); i >= 0 {
			return e.handovers[i]
		}
	}
	return nil
}

// extend renews the lease.
func (o *overlay) extend() error {
	until, err := leaseEnd()
	if err != nil {
		return err
	}
	unruled, err := o.unruled()
	if err != nil {
		return err
	}
	return o.tell(control{until, o.control.mode, unruled})
}

// tell tells the programs, and remembers what they were told.
func (o *overlay) tell(c control) error {
	err := o.progs.setControl(c)
	if err == nil {
		o.control = c
	}
	return err
}

// leaseEnd is until when programs may be trusted that were cared for just now: CLOCK_MONOTONIC, ns.
func leaseEnd() (uint64, error) {
	now, err := monotonic()
	return now + uint64(leaseTerm), err
}

// monotonic is CLOCK_MONOTONIC, ns.
func monotonic() (uint64, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0, fmt.Errorf("clock: %w", err)
	}
	return uint64(now.Nano()), nil
}

// syncRemotes forgets what is gone before it learns what is new. A peer's next hop is the kernel's choice of now.
func (o *overlay) syncRemotes(now map[address]remote) error {
	var errs []error
	routes := map[address]route{}
	hops := map[netip.Addr]netip.Addr{}
	for a, r := range now {
		hop, ok := hops[r.host]
		if !ok {
			var err error
			if hop, err = o.nextHop(r.host); err != nil {
				o.refused[a.String()] = err.Error()
			}
			hops[r.host] = hop
		}
		if hop.IsValid() {
			routes[a] = route{r, hop}
		}
	}
	for a := range o.remotes {
		if routes[a] != o.remotes[a] {
			errs = append(errs, o.progs.dropRemote(a))
			delete(o.remotes, a)
		}
	}
	tooMany := 0
	for a, r := range routes {
		if _, known := o.remotes[a]; known {
			continue
		}
		if len(o.remotes) >= o.progs.room("peers") { // not tried: each try would void what flows remember
			tooMany++
			continue
		}
		if err := o.progs.setRemote(a, r.remote, r.nextHop); err != nil {
			errs = append(errs, fmt.Errorf("peer %s: %w", a, err))
			continue
		}
		o.remotes[a] = r
	}
	if tooMany > 0 {
		o.refused["peers"] = fmt.Sprintf("%d more than the %d that its table holds", tooMany, o.progs.room("peers"))
	}
	return errors.Join(errs...)
}

// nextHop is where packets to a host go first, by the wire and from the underlay's address; else the fast path would send what
// the kernel sends another way.
func (o *overlay) nextHop(host netip.Addr) (hop netip.Addr, err error) {
	found, err := o.handle.RouteGet(host.AsSlice())
	if err == nil && len(found) == 0 {
		err = unix.ENETUNREACH
	}
	if err != nil {
		return hop, fmt.Errorf("no route to %s: %w", host, err)
	}
	r := found[0]
	wire, err := o.handle.LinkByIndex(r.LinkIndex)
	if err != nil {
		return hop, err
	}
	if wire.Attrs().Name == o.cfg.Wire && (wire.Attrs().Index != o.wire || wire.Attrs().MTU < o.wireMTU) {
		return hop, fmt.Errorf("%s is another device by now, or its MTU smaller: attach again", o.cfg.Wire)
	}
	if src, _ := netip.AddrFromSlice(r.Src); wire.Attrs().Name != o.cfg.Wire || src.Unmap() != o.cfg.Underlay {
		return hop, fmt.Errorf("host %s is reached by %s from %s, not by %s from %s", host, wire.Attrs().Name, src, o.cfg.Wire, o.cfg.Underlay)
	}
	if gw, ok := netip.AddrFromSlice(r.Gw); ok && gw.Unmap().Is4() {
		return gw.Unmap(), nil
	}
	return host, nil
}

// Read reads the counters.
func (o *overlay) Read() (econbench.Counters, error) {
	return o.progs.counters()
}

// Close detaches.
func (o *overlay) Close() error { return o.end(false) }

var _ econbench.Concerted = (*overlay)(nil)

// CloseConcerted is Close where the other hosts of the network stand aside.
func (o *overlay) CloseConcerted() error { return o.end(true) }

func (o *overlay) end(concerted bool) error {
	if o.stop != nil {
		o.stop()
		<-o.stopped
	}
	return o.tearDown(concerted)
}

func (o *overlay) tearDown(concerted bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var errs []error
	if len(o.endpoints) > 0 {
		errs = append(errs, o.progs.stand(concerted)) // from here on all goes by the kernel's path
	}
	left, err := closeAll(o.endpoints)
	errs = append(errs, err)
	for _, e := range left { // nothing takes a lane any more, so what can't be undone keeps nothing else from it
		for len(e.undo) > 0 {
			e.undo = e.undo[:len(e.undo)-1]
			errs = append(errs, e.unhook())
		}
		if e.lane != nil {
			errs = append(errs, e.vacate())
		}
	}
	o.endpoints = nil
	if o.onWire != nil {
		errs = append(errs, o.onWire.Close())
		o.onWire = nil
	}
	errs = append(errs, o.tracked.close())
	o.leave()
	errs = append(errs, o.progs.close())
	if o.handle != nil {
		o.handle.Close()
		o.handle = nil
	}
	for _, ns := range []*netns.NsHandle{&o.host, &o.anteroom} {
		if ns.IsOpen() {
			errs = append(errs, ns.Close())
		}
	}
	return errors.Join(errs...)
}
