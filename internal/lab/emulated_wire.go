// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Fixed addresses, so that hashes over them are the same in every lab; locally administered.
var wireMACs = [2]net.HardwareAddr{{0x02, 0xec, 0x0b, 0, 0, 1}, {0x02, 0xec, 0x0b, 0, 0, 2}}

// makeWire joins the network namespaces of two processes by a veth pair. The pair is born inside the first with its
// peer in the second: the machine's own namespace never sees it, so no death can leave half of it there.
func makeWire(pidA, pidB, mtu int) error {
	var handles [2]*netlink.Handle
	var spaces [2]netns.NsHandle
	for i, pid := range [2]int{pidA, pidB} {
		ns, err := netns.GetFromPid(pid)
		if err != nil {
			return fmt.Errorf("wire: network namespace of host %s: %w", hostNames[i], err)
		}
		defer ns.Close()
		h, err := netlink.NewHandleAt(ns)
		if err != nil {
			return fmt.Errorf("wire: netlink in host %s: %w", hostNames[i], err)
		}
		defer h.Close()
		spaces[i], handles[i] = ns, h
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = WireDevice, mtu, wireMACs[0]
	veth := &netlink.Veth{
		LinkAttrs: attrs, PeerName: WireDevice, PeerHardwareAddr: wireMACs[1], PeerNamespace: netlink.NsFd(int(spaces[1])),
	}
	if err := handles[0].LinkAdd(veth); err != nil {
		return lacking("veth", "wire", err)
	}
	for i, h := range handles {
		if err := setupWireEnd(h, i); err != nil {
			return fmt.Errorf("wire: host %s: %w", hostNames[i], err)
		}
	}
	return probeVXLAN(handles[0])
}

func setupWireEnd(h *netlink.Handle, i int) error {
	link, err := h.LinkByName(WireDevice)
	if err != nil {
		return fmt.Errorf("%s: %w", WireDevice, err)
	}
	addr, err := netlink.ParseAddr(underlay[i].String())
	if err != nil {
		return err
	}
	if err := h.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("address %v: %w", addr, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("%s up: %w", WireDevice, err)
	}
	return nil
}

// probeVXLAN makes and removes a device: an engine without VXLAN would fail at the first overlay, much less clearly.
func probeVXLAN(h *netlink.Handle) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "probe0"
	link := &netlink.Vxlan{LinkAttrs: attrs, VxlanId: 1, Port: 4789}
	if err := h.LinkAdd(link); err != nil {
		return lacking("vxlan", "overlay", err)
	}
	if err := h.LinkDel(link); err != nil {
		return fmt.Errorf("overlay: probe device: %w", err)
	}
	return nil
}

func lacking(kind, what string, err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%s: the kernel has no %s devices: load the module %s or use a kernel with CONFIG_%s (%w)",
			what, kind, kind, map[string]string{"veth": "VETH", "vxlan": "VXLAN"}[kind], err)
	}
	return fmt.Errorf("%s: %s device: %w", what, kind, err)
}
