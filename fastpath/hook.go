// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/cilium/ebpf"
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
	if a.mechanism == econbench.HookFilter {
		return attachFilter(at, prog, a.owner)
	}
	var l link.Link
	err := netspace.In(at.ns, func() (err error) {
		l, err = link.AttachTCX(link.TCXOptions{Interface: at.ifindex, Program: prog, Attach: at.hook})
		return err
	})
	switch {
	case errors.Is(err, ebpf.ErrNotSupported) && a.mechanism == "":
		return attachFilter(at, prog, a.owner)
	case errors.Is(err, ebpf.ErrNotSupported):
		return nil, fmt.Errorf("hook %s: this kernel has none, Linux 6.6 or newer is needed; allowed: %s", a.mechanism, econbench.HookFilter)
	case err != nil:
		return nil, fmt.Errorf("attach %s to device %d: %w", prog, at.ifindex, err)
	}
	return l, nil
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

func attachFilter(at point, prog *ebpf.Program, owner string) (io.Closer, error) {
	h, err := netlink.NewHandleAt(at.ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	f, err := addFilter(h, at, prog, owner)
	if err != nil {
		h.Close()
		return nil, err
	}
	return attachedFilter{f, h}, nil
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
