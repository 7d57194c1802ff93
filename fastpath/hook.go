// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/names"
	"github.com/econbench/econbench/internal/netspace"
)

// point is a hook of a device in a namespace.
type point struct {
	ns      netns.NsHandle
	ifindex int
	hook    ebpf.AttachType // AttachTCXIngress or AttachTCXEgress; AttachNetkitPrimary or AttachNetkitPeer of a pair's primary end
}

// attacher puts programs on hooks.
type attacher struct {
	mechanism string // HookTCX, HookFilter; "": tcx if the kernel has it
	owner     string // in the names of filters: whose they are
}

// check refuses a mechanism that there is none of.
func (a attacher) check() error {
	if hooks := []string{econbench.HookTCX, econbench.HookFilter}; a.mechanism != "" && !slices.Contains(hooks, a.mechanism) {
		return names.Unknown("hook", a.mechanism, hooks)
	}
	return nil
}

// mechanismOf says how something was attached.
func mechanismOf(attached io.Closer) string {
	if _, ok := attached.(attachedFilter); ok {
		return econbench.HookFilter
	}
	return econbench.HookTCX
}

// attach puts a program on a hook. Closing takes it off again; a device that is gone by then is fine.
func (a attacher) attach(at point, prog *ebpf.Program) (io.Closer, error) {
	if at.hook == ebpf.AttachNetkitPrimary || at.hook == ebpf.AttachNetkitPeer {
		return attachNetkit(at, prog)
	}
	byFilter := func() (io.Closer, error) {
		f, err := attachFilter(at, prog, a.owner)
		if err != nil {
			return nil, err
		}
		return f, nil
	}
	if a.mechanism == econbench.HookFilter {
		return byFilter()
	}
	l, err := attachTCX(at, prog)
	switch {
	case errors.Is(err, ebpf.ErrNotSupported) && a.mechanism == "":
		return byFilter()
	case errors.Is(err, ebpf.ErrNotSupported):
		return nil, fmt.Errorf("hook %s: this kernel has none, Linux 6.6 or newer is needed; allowed: %s", a.mechanism, econbench.HookFilter)
	}
	return l, err
}

func attachTCX(at point, prog *ebpf.Program) (l link.Link, err error) {
	err = netspace.In(at.ns, func() (err error) {
		l, err = link.AttachTCX(link.TCXOptions{Interface: at.ifindex, Program: prog, Attach: at.hook})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("attach %s to device %d: %w", prog, at.ifindex, err)
	}
	return l, nil
}

// handover is a program on a lane's device. On one of the lane's own it begins by a filter, which stands in 0.2 ms, and is handed over to tcx
// when there is time: a program of tcx goes with the agent, and the kernel waits for its readers before it stands (tcx_entry_sync() in include/net/tcx.h;
// 8 ms where it counts 250 ticks a second), with the lock of all devices held.
type handover struct {
	attacher
	at      point
	program *ebpf.Program
	now     io.Closer
	due     bool // it is a filter's still
	failed  int  // times that handing over did
}

// handoverTries is how often it is tried: one that fails for good would keep those behind it waiting. It stays a filter's then.
const handoverTries = 3

// attachTo attaches a program to a device of a lane.
func (a attacher) attachTo(l lane, at point, prog *ebpf.Program) (*handover, error) {
	h := &handover{attacher: a, at: at, program: prog}
	tc := at.hook == ebpf.AttachTCXIngress || at.hook == ebpf.AttachTCXEgress
	h.due = l.private() && a.mechanism == "" && tc
	var err error
	if h.due {
		h.now, err = attachFilter(at, prog, a.owner)
	} else {
		h.now, err = a.attach(at, prog)
	}
	if err != nil {
		return nil, err
	}
	return h, nil
}

// handOver has tcx take over from the filter. In between both are at work: what the first decides is not the second's to see, and
// what it lets pass the second lets pass as well, and neither counts that.
func (h *handover) handOver() error {
	if !h.due {
		return nil
	}
	l, err := attachTCX(h.at, h.program)
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.ENODEV) {
		h.due = false // it stays a filter's, or has gone with its device
		return nil
	}
	if err != nil {
		h.failed++
		h.due = h.failed < handoverTries
		return err
	}
	filter := h.now
	h.now, h.due = l, false
	return filter.Close()
}

// Close takes the program off.
func (h *handover) Close() error { return h.now.Close() }

// place is a hook of a device that a program is going to be put on.
type place struct {
	attacher
	at       point
	reserved link.Link     // by a program that does nothing; nil: nothing stands there
	done     chan struct{} // closed once that is decided
	err      error
}

// reserve has tcx hold a place while what is to be put there is still being made: the kernel waits for its readers with the first program
// alone, and another takes its place at once. It works in the background; put waits for it, and one of them or Close has to be called.
func (a attacher) reserve(at point) *place {
	p := &place{attacher: a, at: at, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		if a.mechanism != econbench.HookFilter {
			p.reserved, p.err = reserveTCX(at)
		}
		if errors.Is(p.err, ebpf.ErrNotSupported) {
			p.err = nil // put says so, or does without
		}
	}()
	return p
}

func reserveTCX(at point) (link.Link, error) {
	const next = -1 // TCX_NEXT
	idle, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "reserved", Type: ebpf.SchedCLS, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm32(asm.R0, next), asm.Return()}})
	if err != nil {
		return nil, fmt.Errorf("reserve a hook of device %d: %w", at.ifindex, err)
	}
	defer idle.Close() // the link has it
	return attachTCX(at, idle)
}

// put puts a program there. Closing takes it off again.
func (p *place) put(prog *ebpf.Program) (io.Closer, error) {
	<-p.done
	switch {
	case p.err != nil:
		return nil, p.err
	case p.reserved == nil:
		return p.attach(p.at, prog)
	}
	if err := p.reserved.Update(prog); err != nil {
		return nil, errors.Join(fmt.Errorf("attach %s to device %d: %w", prog, p.at.ifindex, err), p.Close())
	}
	return p.reserved, nil
}

// Close gives up a place where nothing was put.
func (p *place) Close() error {
	if <-p.done; p.reserved == nil {
		return nil
	}
	return p.reserved.Close()
}

// attachNetkit puts a program where one end of a netkit pair transmits. There is one mechanism for that.
func attachNetkit(at point, prog *ebpf.Program) (l io.Closer, err error) {
	err = netspace.In(at.ns, func() (err error) {
		l, err = link.AttachNetkit(link.NetkitOptions{Interface: at.ifindex, Program: prog, Attach: at.hook})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("attach %s to netkit device %d: %w", prog, at.ifindex, err)
	}
	return l, nil
}

// filter is a classifier on a device.
type filter struct {
	filter  *netlink.BpfFilter
	qdisc   *netlink.Clsact
	created bool // the queueing discipline was not there before
}

// filterPriority is after those that others are likely to choose; filterName begins the names of ours.
const (
	filterPriority = 0xec00
	filterName     = "econbench_"
)

// addFilter puts a program on a hook by a netlink filter, in the namespace of the handle. It stays as long as the device does.
// One of the same owner's that a killed agent left gives way to it; those of other networks stand beside it.
func addFilter(h *netlink.Handle, at point, prog *ebpf.Program, owner string) (*filter, error) {
	info, err := prog.Info()
	if err != nil {
		return nil, fmt.Errorf("attach %s to device %d: %w", prog, at.ifindex, err)
	}
	parent := uint32(netlink.HANDLE_MIN_INGRESS)
	if at.hook == ebpf.AttachTCXEgress {
		parent = netlink.HANDLE_MIN_EGRESS
	}
	f := &filter{
		qdisc: &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: at.ifindex, Parent: netlink.HANDLE_CLSACT, Handle: netlink.MakeHandle(0xffff, 0)}},
		filter: &netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{LinkIndex: at.ifindex, Parent: parent, Priority: filterPriority, Protocol: unix.ETH_P_ALL},
			Fd:          prog.FD(), Name: filterName + owner + "_" + info.Name, DirectAction: true,
		},
	}
	err = h.QdiscAdd(f.qdisc)
	if f.created = err == nil; err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("attach %s to device %d: clsact: %w", info.Name, at.ifindex, err)
	}
	if f.filter.Handle, err = freeHandle(h, f.filter); err == nil {
		err = h.FilterAdd(f.filter)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("attach %s to device %d: filter: %w", info.Name, at.ifindex, err), f.dropQdisc(h))
	}
	return f, nil
}

// freeHandle removes a filter of the same name and finds a handle that no other filter of our priority has.
func freeHandle(h *netlink.Handle, f *netlink.BpfFilter) (uint32, error) {
	there, err := filters(h, f.LinkIndex, f.Parent)
	if err != nil {
		return 0, err
	}
	taken := map[uint32]bool{}
	for _, other := range there {
		b, ok := other.(*netlink.BpfFilter)
		if !ok || b.Priority != f.Priority {
			continue
		}
		if b.Name == f.Name {
			if err := gone(h.FilterDel(b)); err != nil {
				return 0, fmt.Errorf("remove what a killed agent left: %w", err)
			}
			continue
		}
		taken[b.Handle] = true
	}
	free := uint32(1)
	for taken[free] {
		free++
	}
	return free, nil
}

// remove takes the filter off; one that is gone with its device is fine.
func (f *filter) remove(h *netlink.Handle) error {
	if err := gone(h.FilterDel(f.filter)); err != nil {
		return fmt.Errorf("filter %s of device %d: remove: %w", f.filter.Name, f.filter.LinkIndex, err)
	}
	return f.dropQdisc(h)
}

// attachedFilter is a filter with the netlink socket, in its namespace, that takes it off again.
type attachedFilter struct {
	*filter
	handle *netlink.Handle
}

func attachFilter(at point, prog *ebpf.Program, owner string) (a attachedFilter, err error) {
	if a.handle, err = netlink.NewHandleAt(at.ns, unix.NETLINK_ROUTE); err != nil {
		return a, err
	}
	if a.filter, err = addFilter(a.handle, at, prog, owner); err != nil {
		a.handle.Close()
	}
	return a, err
}

// Close takes the filter off. One that could not be can be tried again.
func (a attachedFilter) Close() error {
	if err := a.remove(a.handle); err != nil {
		return err
	}
	a.handle.Close()
	return nil
}

// dropQdisc removes the queueing discipline if it was made for the filter and serves nobody else by now.
func (f *filter) dropQdisc(h *netlink.Handle) error {
	if !f.created {
		return nil
	}
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		others, err := filters(h, f.qdisc.LinkIndex, parent)
		if err != nil || len(others) > 0 {
			return gone(err)
		}
	}
	return gone(h.QdiscDel(f.qdisc))
}

// filters are a device's on one side of it.
func filters(h *netlink.Handle, ifindex int, parent uint32) ([]netlink.Filter, error) {
	device := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: ifindex}}
	return netspace.Whole(func() ([]netlink.Filter, error) { return h.FilterList(device, parent) })
}

// gone forgives that what is to be removed is not there any more.
func gone(err error) error {
	if errors.Is(err, unix.ENODEV) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}
