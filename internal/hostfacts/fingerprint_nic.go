// SPDX-License-Identifier: Apache-2.0

package hostfacts

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/netspace"
)

// maxLower bounds how many devices below the wire's are looked at.
const maxLower = 8

// nicFacts are those of the host's end of the wire, and of the devices that a bond, bridge or VLAN stands upon. Names of
// devices are in none of them: an emulated lab's differ from run to run.
func nicFacts(t trees, device string) (econbench.Fingerprint, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("device %q: %w", device, err)
	}
	defer h.Close()
	links, err := netspace.Whole(h.LinkList)
	if err != nil {
		return nil, fmt.Errorf("device %q: %w", device, err)
	}
	i := slices.IndexFunc(links, func(l netlink.Link) bool { return l.Attrs().Name == device })
	if i < 0 {
		return nil, fmt.Errorf("device %q: none of that name", device)
	}
	qdiscs, qdiscErr := netspace.Whole(func() ([]netlink.Qdisc, error) { return h.QdiscList(nil) })
	f := t.oneNIC(links[i], qdiscs)
	for n, lower := range below(links, links[i]) {
		for name, value := range t.oneNIC(lower, qdiscs) {
			f[fmt.Sprintf("nic.lower%d.%s", n, strings.TrimPrefix(name, "nic."))] = value
		}
	}
	if qdiscErr != nil {
		return f, fmt.Errorf("queueing disciplines: %w", qdiscErr)
	}
	return f, nil
}

// below are the devices that carry a device's frames, in the order of their names, each once, those of the first level first.
func below(links []netlink.Link, top netlink.Link) (all []netlink.Link) {
	seen := map[int]bool{top.Attrs().Index: true}
	for level := []netlink.Link{top}; len(level) > 0; {
		var next []netlink.Link
		for _, l := range links {
			if !seen[l.Attrs().Index] && slices.ContainsFunc(level, func(upper netlink.Link) bool { return carries(l, upper) }) {
				seen[l.Attrs().Index] = true
				next = append(next, l)
			}
		}
		slices.SortFunc(next, func(a, b netlink.Link) int { return cmp.Compare(a.Attrs().Name, b.Attrs().Name) })
		all, level = append(all, next...), next
	}
	return all[:min(len(all), maxLower)]
}

// carries says whether lower is a part of a bond, team or bridge, or what a VLAN or the like stands upon. A veth names its
// peer the same way, and a bridge's ports that are veths are containers'.
func carries(lower, upper netlink.Link) bool {
	switch upper.Type() {
	case "vlan", "macvlan", "ipvlan":
		return lower.Attrs().Index == upper.Attrs().ParentIndex
	case "bond", "team", "bridge":
		return lower.Attrs().MasterIndex == upper.Attrs().Index && lower.Type() != "veth"
	}
	return false
}

// oneNIC are the facts of one device.
func (t trees) oneNIC(link netlink.Link, qdiscs []netlink.Qdisc) econbench.Fingerprint {
	a := link.Attrs()
	f := econbench.Fingerprint{
		"nic.kind": link.Type(), "nic.mtu": strconv.Itoa(a.MTU), "nic.txqueuelen": strconv.Itoa(a.TxQLen), "nic.xdp": "none",
		"nic.qdisc": qdiscsOf(qdiscs, a.Index),
	}
	if a.Xdp != nil && a.Xdp.Attached {
		f["nic.xdp"] = "attached"
	}
	if a.GSOMaxSize > 0 {
		f["nic.gso_max"] = strconv.FormatUint(uint64(a.GSOMaxSize), 10)
	}
	if a.GROMaxSize > 0 {
		f["nic.gro_max"] = strconv.FormatUint(uint64(a.GROMaxSize), 10)
	}
	for name, value := range ethtoolFacts(a.Name) {
		f[name] = value
	}
	f["nic.driver"] = cmp.Or(f["nic.driver"], link.Type())
	for name, value := range t.sysfsFacts(a.Name, a.Index) {
		f[name] = value
	}
	return f
}

// qdiscsOf are the kinds of a device's queueing disciplines: the root's, then those below it or beside it.
func qdiscsOf(all []netlink.Qdisc, index int) string {
	var root string
	var others []string
	for _, q := range all {
		switch a := q.Attrs(); {
		case a.LinkIndex != index:
		case a.Parent == netlink.HANDLE_ROOT:
			root = q.Type()
		default:
			others = append(others, q.Type())
		}
	}
	slices.Sort(others)
	return words(root + " " + runs(others))
}
