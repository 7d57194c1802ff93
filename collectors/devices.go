// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/netspace"
)

// Devices is the traffic of a testbed's devices by role, from rtnetlink's 64-bit statistics: "wire.rx_bytes" in bytes, the
// rest in packets as the device sees them (a 64 kB super-frame is one).
type Devices struct{}

var _ econbench.Collector = Devices{}

func (Devices) Name() string { return "devices" }
func (Devices) Help() string {
	return "bytes, packets, drops and errors of the path's devices (rtnetlink); warns of drops and errors"
}

func (Devices) Samples(w econbench.Window) (_ []econbench.Sample, warnings []string) {
	for _, h := range []host{{econbench.ClientHost, w.Client, nil}, {econbench.ServerHost, w.Server, nil}} {
		for name, n := range h.Counters["devices"] {
			if n > 0 && (strings.HasSuffix(name, "dropped") || strings.HasSuffix(name, "errors")) {
				warnings = append(warnings, fmt.Sprintf("devices: %s: %s %.0f", h.name, name, n))
			}
		}
	}
	slices.Sort(warnings)
	return nil, warnings
}

// ResolveDevices fills in the names and kinds of devices as they are on this host, so that a plan may ask for "the one
// vxlan device of that namespace".
func ResolveDevices(devices []econbench.Device) ([]econbench.Device, error) {
	found, err := openDevices("/proc", devices)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	resolved := slices.Clone(devices)
	for i, d := range found.devices {
		resolved[i].Name, resolved[i].Kind = d.name, d.kind
	}
	return resolved, nil
}

type devicesReader struct{ proc string }

func (devicesReader) Name() string { return "devices" }

func (r devicesReader) Open(s econbench.Scope) (econbench.Reading, error) {
	reading, err := openDevices(r.proc, s.Devices)
	if err != nil {
		return nil, fmt.Errorf("devices: %w", err)
	}
	return reading, nil
}

type openDevice struct {
	handle     *netlink.Handle
	role       string
	name, kind string
	index      int
}

type devicesReading struct {
	handles map[string]*netlink.Handle // by path of the namespace
	devices []openDevice
}

// openDevices finds every device once; reading then goes by index, so that a renamed or replaced device is noticed.
func openDevices(proc string, devices []econbench.Device) (*devicesReading, error) {
	r := &devicesReading{handles: map[string]*netlink.Handle{}}
	for _, d := range devices {
		handle, err := r.handle(proc, d.Netns)
		if err != nil {
			r.Close()
			return nil, fmt.Errorf("device %s: %w", d.Role, err)
		}
		link, err := findLink(handle, d)
		if err != nil {
			r.Close()
			return nil, fmt.Errorf("device %s: %w", d.Role, err)
		}
		r.devices = append(r.devices, openDevice{handle, d.Role, link.Attrs().Name, link.Type(), link.Attrs().Index})
	}
	return r, nil
}

// handle opens a netlink socket in the namespace; "" is the reader's own, which is the host's.
func (r *devicesReading) handle(proc, path string) (*netlink.Handle, error) {
	if h := r.handles[path]; h != nil {
		return h, nil
	}
	at := netns.None()
	if path != "" {
		f, err := netspace.AtPathBy(proc, path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		at = netns.NsHandle(f.Fd())
	}
	h, err := netlink.NewHandleAt(at, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink socket in %q: %w", path, err)
	}
	r.handles[path] = h
	return h, nil
}

// findLink finds a device by name or, without one, the only device of its kind.
func findLink(handle *netlink.Handle, d econbench.Device) (netlink.Link, error) {
	where := "the host's namespace"
	if d.Netns != "" {
		where = d.Netns
	}
	if d.Name != "" {
		link, err := handle.LinkByName(d.Name)
		if err != nil {
			return nil, fmt.Errorf("%s in %s: %w", d.Name, where, err)
		}
		return link, nil
	}
	links, err := netspace.Whole(handle.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list devices of %s: %w", where, err)
	}
	var names []string
	var found netlink.Link
	for _, link := range links {
		if d.Kind != "" && link.Type() == d.Kind {
			found, names = link, append(names, link.Attrs().Name)
		}
	}
	if len(names) != 1 {
		return nil, fmt.Errorf("kind %q in %s: want one device, found %d %v", d.Kind, where, len(names), names)
	}
	return found, nil
}

func (r *devicesReading) Read() (econbench.Counters, error) {
	counters := econbench.Counters{}
	for _, d := range r.devices {
		link, err := d.handle.LinkByIndex(d.index)
		if err != nil {
			return nil, fmt.Errorf("devices: %s (%s, index %d): %w", d.role, d.name, d.index, err)
		}
		s := link.Attrs().Statistics
		if s == nil {
			return nil, fmt.Errorf("devices: %s (%s): the kernel sent no statistics", d.role, d.name)
		}
		for name, n := range map[string]uint64{
			"rx_bytes": s.RxBytes, "rx_packets": s.RxPackets, "rx_dropped": s.RxDropped, "rx_errors": s.RxErrors,
			"tx_bytes": s.TxBytes, "tx_packets": s.TxPackets, "tx_dropped": s.TxDropped, "tx_errors": s.TxErrors,
		} {
			counters[d.role+"."+name] = float64(n)
		}
	}
	return counters, nil
}

func (r *devicesReading) Close() error {
	for _, h := range r.handles {
		h.Close()
	}
	return nil
}
