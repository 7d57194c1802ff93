// SPDX-License-Identifier: Apache-2.0

package hostfacts

import (
	"net"
	"os"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/econbench/econbench/internal/agentproto"
)

// newNetns takes the test's thread into a new network namespace for the test's length.
func newNetns(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN) to make network namespaces")
	}
	runtime.LockOSThread()
	before, err := netns.GetFromPath("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ns.Close()
		if err := netns.Set(before); err != nil {
			t.Error(err) // the thread stays locked and ends with the test
			return
		}
		before.Close()
		runtime.UnlockOSThread()
	})
}

func add(t *testing.T, link netlink.Link, up bool, addresses ...string) {
	t.Helper()
	if _, err := netlink.LinkByName(link.Attrs().Name); err != nil {
		if err := netlink.LinkAdd(link); err != nil {
			t.Fatal(err)
		}
	}
	link, err := netlink.LinkByName(link.Attrs().Name)
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range addresses {
		a, err := netlink.ParseAddr(address)
		if err != nil {
			t.Fatal(err)
		}
		a.Scope = int(netlink.SCOPE_UNIVERSE)
		if a.IP.IsLinkLocalUnicast() {
			a.Scope = int(netlink.SCOPE_LINK)
		}
		if err := netlink.AddrAdd(link, a); err != nil {
			t.Fatal(err)
		}
	}
	if up {
		if err := netlink.LinkSetUp(link); err != nil {
			t.Fatal(err)
		}
	}
}

func named(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return a
}

func TestUnderlay(t *testing.T) {
	newNetns(t)
	add(t, &netlink.Device{LinkAttrs: named("lo")}, true, "198.18.50.9/32")
	add(t, &netlink.Veth{LinkAttrs: named("wire0"), PeerName: "far0"}, true, "198.18.50.1/24", "169.254.3.4/16")
	add(t, &netlink.Device{LinkAttrs: named("far0")}, true)
	add(t, &netlink.Veth{LinkAttrs: named("mgmt0"), PeerName: "far1"}, true, "198.18.51.1/24")
	add(t, &netlink.Device{LinkAttrs: named("far1")}, true)
	add(t, &netlink.Veth{LinkAttrs: named("down0"), PeerName: "far2"}, false, "198.18.52.1/24")
	add(t, &netlink.Veth{LinkAttrs: named("nocarrier0"), PeerName: "far3"}, true, "198.18.53.1/24")
	add(t, &netlink.Bridge{LinkAttrs: named("docker_gwbridge")}, true, "198.18.54.1/24")
	add(t, &netlink.Bridge{LinkAttrs: named("br-0123456789ab")}, true, "198.18.55.1/24")
	add(t, &netlink.Veth{LinkAttrs: named("veth1234"), PeerName: "eth0"}, true, "198.18.56.1/24")
	add(t, &netlink.Device{LinkAttrs: named("eth0")}, true)
	add(t, &netlink.Vxlan{LinkAttrs: named("vx0"), VxlanId: 77, Port: 4789}, true, "198.18.57.1/24")
	setMaster(t, "veth1234", "br-0123456789ab")
	mgmt, err := netlink.LinkByName("mgmt0")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: mgmt.Attrs().Index, Gw: net.IPv4(198, 18, 51, 2)}); err != nil {
		t.Fatal(err)
	}
	got, err := Underlay()
	if err != nil {
		t.Fatal(err)
	}
	want := []agentproto.Address{
		{Prefix: "198.18.51.1/24", Device: "mgmt0", Driver: "veth", MTU: 1500, Default: true},
		{Prefix: "198.18.50.1/24", Device: "wire0", Driver: "veth", MTU: 1500},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func setMaster(t *testing.T, port, bridge string) {
	t.Helper()
	p, err := netlink.LinkByName(port)
	if err != nil {
		t.Fatal(err)
	}
	b, err := netlink.LinkByName(bridge)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetMaster(p, b); err != nil {
		t.Fatal(err)
	}
}
