// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench/internal/netspace"
	"github.com/econbench/econbench/internal/trace"
)

// namespace is one of this host's network namespaces, open.
type namespace struct {
	trace.Namespace
	handle netns.NsHandle
}

// findNamespaces opens the host's own, the container's, those on the way, and all others that the engine keeps.
func findNamespaces(order trace.Order) (list []namespace, err error) {
	defer func() {
		if err != nil {
			for _, ns := range list {
				err = errors.Join(err, ns.handle.Close())
			}
			list = nil
		}
	}()
	add := func(role string, handle netns.NsHandle) error {
		ns, err := describe(role, handle)
		if err != nil || slices.ContainsFunc(list, func(n namespace) bool { return n.Inode == ns.Inode }) {
			return errors.Join(err, handle.Close())
		}
		list = append(list, ns)
		return nil
	}
	own, _, err := netspace.Own()
	if err != nil {
		return list, err
	}
	if err := add(trace.RoleHost, own); err != nil {
		return list, err
	}
	container, _, err := netspace.OfProcess(order.PID)
	if err != nil {
		return list, fmt.Errorf("container's network namespace: %w", err)
	}
	if err := add(trace.RoleContainer, container); err != nil {
		return list, err
	}
	for _, p := range order.Netns {
		f, err := netspace.AtPath(p)
		if err != nil {
			return list, err
		}
		if err := add(roleOf(path.Base(p)), netns.NsHandle(owned(f.Fd()))); err != nil {
			return list, errors.Join(err, f.Close())
		}
		_ = f.Close() // the copy is what counts
	}
	others, err := netspace.Under(order.Sandboxes)
	if err != nil {
		return list, nil // an engine that keeps them elsewhere, or not at all: those on the way were named
	}
	for _, o := range others {
		if err == nil {
			err = add(o.Name, netns.NsHandle(owned(o.Fd())))
		}
		_ = o.Close()
	}
	return list, err
}

// owned is a copy of a descriptor that no file's end closes; -1, which nobody can use, when there can be none.
func owned(fd uintptr) int {
	n, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return n
}

// roleOf is what a namespace on the way is: an overlay network's sandbox, by the name that the engine gives it (netspace.Sandbox), or
// whatever its file is called.
func roleOf(name string) string {
	if strings.HasPrefix(name, "1-") {
		return trace.RoleSandbox
	}
	return name
}

// describe lists a namespace's devices.
func describe(role string, handle netns.NsHandle) (ns namespace, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(handle), &st); err != nil {
		return ns, fmt.Errorf("namespace %s: %w", role, err)
	}
	ns = namespace{trace.Namespace{Inode: uint32(st.Ino), Role: role}, handle}
	h, err := netlink.NewHandleAt(handle, unix.NETLINK_ROUTE)
	if err != nil {
		return ns, fmt.Errorf("namespace %s: netlink: %w", role, err)
	}
	defer h.Close()
	links, err := netspace.Whole(h.LinkList)
	if err != nil {
		return ns, fmt.Errorf("namespace %s: devices: %w", role, err)
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	for _, l := range links {
		a := l.Attrs()
		ns.Devices = append(ns.Devices, trace.Device{Index: uint32(a.Index), Name: a.Name, Kind: l.Type(), Master: names[a.MasterIndex]})
	}
	return ns, nil
}
