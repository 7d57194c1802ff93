// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"unsafe"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench/internal/nft"
)

// errUnknownKind says that the kernel has no such device or queueing discipline.
var errUnknownKind = errors.New("the kernel does not know it")

// probed is what the kernel let be made in a network namespace of its own; nil is success.
type probed struct {
	devices map[string]error
	qdiscs  map[string]error
	tcx     error
	notrack error
}

// probeKernel tries what the kernel can do in a network namespace that is gone when it returns. The kernel may load
// modules for it, the same that a run would make it load.
func probeKernel(euid int) (probed, error) {
	if euid != 0 {
		return probed{}, errors.New("needs root")
	}
	var p probed
	err := inThrowAwayNetns(func() { p = tryAll() })
	return p, err
}

// inThrowAwayNetns runs f on a thread in a new network namespace. It never uses the process's first thread, whose
// namespace is what others see under /proc/self.
func inThrowAwayNetns(f func()) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			err := inThrowAwayNetns(f) // another thread, as this one is taken
			runtime.UnlockOSThread()
			done <- err
			return
		}
		before, err := netns.GetFromPath("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("network namespace of this thread: %w", err)
			return
		}
		defer before.Close()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("new network namespace: %w", err)
			return
		}
		f()
		if netns.Set(before) == nil {
			runtime.UnlockOSThread() // otherwise the thread ends with this goroutine
		}
		done <- nil
	}()
	return <-done
}

// tryAll makes one of each. Order counts: macvlan and the queueing disciplines stand on the veth.
func tryAll() probed {
	p := probed{devices: map[string]error{}, qdiscs: map[string]error{}, notrack: tryNoTrack()}
	add := func(l netlink.Link) { p.devices[l.Type()] = unknownKind(netlink.LinkAdd(l)) }
	named := func(name string) netlink.LinkAttrs {
		a := netlink.NewLinkAttrs()
		a.Name = name
		return a
	}
	add(&netlink.Veth{LinkAttrs: named("probe0"), PeerName: "probe1"})
	add(&netlink.Bridge{LinkAttrs: named("probe2")})
	add(&netlink.Vxlan{LinkAttrs: named("probe3"), VxlanId: 1, Port: 4789})
	add(&netlink.Netkit{LinkAttrs: named("probe5")})
	veth, err := netlink.LinkByName("probe0")
	if err != nil {
		err = fmt.Errorf("no veth to try it on: %w", err)
		p.devices["macvlan"], p.qdiscs["fq"], p.qdiscs["netem"], p.qdiscs["clsact"], p.tcx = err, err, err, err, err
		return p
	}
	attrs := named("probe4")
	attrs.ParentIndex = veth.Attrs().Index
	add(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_PRIVATE})
	index := veth.Attrs().Index
	p.qdiscs["fq"] = tryQdisc(index, netlink.HANDLE_ROOT, 0, "fq")
	p.qdiscs["netem"] = tryQdisc(index, netlink.HANDLE_ROOT, 0, "netem")
	p.qdiscs["clsact"] = tryQdisc(index, netlink.HANDLE_CLSACT, netlink.MakeHandle(0xffff, 0), "clsact")
	p.tcx = tryTCX(index)
	return p
}

// tryQdisc adds a queueing discipline without options and takes it off again. One that wants options says EINVAL, which
// is knowing it.
func tryQdisc(index int, parent, handle uint32, kind string) error {
	q := &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Parent: parent, Handle: handle}, QdiscType: kind,
	}
	err := netlink.QdiscAdd(q)
	switch {
	case err == nil:
		return netlink.QdiscDel(q)
	case errors.Is(err, unix.EINVAL):
		return nil
	}
	return unknownKind(err)
}

// unknownKind recognises what the kernel answers for a kind it does not have: EOPNOTSUPP for devices, ENOENT for
// queueing disciplines.
func unknownKind(err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%w: %w", errUnknownKind, err)
	}
	return err
}

// tryNoTrack makes the table that keeps a peer's packets from being tracked.
func tryNoTrack() error {
	c, err := nft.Here()
	if err != nil {
		return err
	}
	return errors.Join(c.NoTrack(netip.MustParseAddr("198.18.0.1")), c.Close())
}

// tryTCX asks which programs are attached to a device's ingress; a kernel without tcx does not know the question
// (EINVAL). The layout is that of bpf(2)'s BPF_PROG_QUERY.
func tryTCX(index int) error {
	attr := struct {
		target, attachType, queryFlags, attachFlags uint32
		progs                                       uint64
		count, pad                                  uint32
		progFlags, linkIDs, linkFlags, revision     uint64
	}{target: uint32(index), attachType: unix.BPF_TCX_INGRESS}
	_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_QUERY, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	if errno != 0 && errno != unix.ENOENT { // ENOENT: nothing is attached
		return fmt.Errorf("bpf query: %w", errno)
	}
	return nil
}
