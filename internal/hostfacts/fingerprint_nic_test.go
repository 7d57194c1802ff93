// SPDX-License-Identifier: Apache-2.0

package hostfacts

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"

	"github.com/econbench/econbench"
)

func oneNIC(t *testing.T, device string) econbench.Fingerprint {
	t.Helper()
	f, err := nicFacts(trees{"/proc", "/sys"}, device)
	if err != nil {
		t.Fatal(err)
	}
	for name := range f {
		if !econbench.KnownFact(name) {
			t.Errorf("fact %s has no class", name)
		}
	}
	return f
}

// Two devices alike in all but name have one fingerprint, and what is changed on one shows.
func TestNICFacts(t *testing.T) {
	newNetns(t)
	add(t, &netlink.Veth{LinkAttrs: named("wire0"), PeerName: "far0"}, true)
	add(t, &netlink.Veth{LinkAttrs: named("other7"), PeerName: "far7"}, true)
	a, b := oneNIC(t, "wire0"), oneNIC(t, "other7")
	if !maps.Equal(a, b) {
		t.Errorf("facts of wire0 %v\nof other7 %v", a, b)
	}
	if a["nic.driver"] != "veth" || a["nic.kind"] != "veth" || a["nic.mtu"] != "1500" || a["nic.xdp"] != "none" ||
		!strings.Contains(a["nic.offloads"], "tx-tcp-segmentation") || a["nic.channels"] != "rx=1 tx=1" {
		t.Errorf("facts %v", a)
	}
	link, err := netlink.LinkByName("other7")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetMTU(link, 9000); err != nil {
		t.Fatal(err)
	}
	tbf := &netlink.Tbf{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Parent: netlink.HANDLE_ROOT, Handle: netlink.MakeHandle(1, 0)},
		Rate: 1 << 30, Limit: 1 << 20, Buffer: 1 << 16}
	if err := netlink.QdiscAdd(tbf); err != nil {
		t.Fatal(err)
	}
	e, err := ethtool.NewEthtool()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := e.Change("other7", map[string]bool{"tx-tcp-segmentation": false}); err != nil {
		t.Fatal(err)
	}
	var changed []string
	for _, d := range oneNIC(t, "other7").Differences(a) {
		changed = append(changed, d.Fact)
	}
	slices.Sort(changed)
	if !slices.Equal(changed, []string{"nic.mtu", "nic.offloads", "nic.qdisc"}) {
		t.Errorf("changed: %q", changed)
	}
}

// What a VLAN stands upon is told as well; what a bridge's containers have is not.
func TestNICFactsBelow(t *testing.T) {
	newNetns(t)
	add(t, &netlink.Veth{LinkAttrs: named("wire0"), PeerName: "far0"}, true)
	wire, err := netlink.LinkByName("wire0")
	if err != nil {
		t.Fatal(err)
	}
	attrs := named("lane0")
	attrs.ParentIndex = wire.Attrs().Index
	add(t, &netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_PRIVATE}, true)
	f := oneNIC(t, "lane0")
	if f["nic.kind"] != "macvlan" || f["nic.lower0.kind"] != "veth" || f["nic.lower0.offloads"] == "" || f["nic.lower1.kind"] != "" {
		t.Errorf("facts of a macvlan: %v", f)
	}
	add(t, &netlink.Bridge{LinkAttrs: named("br0")}, true)
	setMaster(t, "far0", "br0")
	if f := oneNIC(t, "br0"); f["nic.kind"] != "bridge" || f["nic.lower0.kind"] != "" {
		t.Errorf("facts of a bridge: %v", f)
	}
}

// /sys of a NIC in a rack: queues by number, masks without padding, interrupts of the PCI device behind virtio's.
func TestQueueFacts(t *testing.T) {
	const dev = "sys/class/net/eth0/"
	files := map[string]string{
		"proc/7/comm": "sshd\n", "proc/irq/9/smp_affinity_list": "0-1\n", "proc/irq/30/smp_affinity_list": "0\n", "proc/irq/100/smp_affinity_list": "0\n",
		dev + "ifindex": "2\n", dev + "speed": "25000\n", dev + "threaded": "0\n", dev + "gro_flush_timeout": "20000\n", dev + "napi_defer_hard_irqs": "2\n",
		dev + "queues/rx-0/rps_cpus": "00000000,00000003\n", dev + "queues/rx-1/rps_cpus": "00000000,00000000\n",
		dev + "queues/rx-2/rps_cpus": "00000000,00000000\n", dev + "queues/rx-10/rps_cpus": "00000001,00000000\n",
		dev + "queues/rx-0/rps_flow_cnt": "0\n", dev + "queues/tx-0/xps_cpus": "3\n", dev + "queues/tx-1/rate": "0\n",
		"sys/devices/pci/virtio0/numa_node": "1\n", "sys/devices/pci/msi_irqs/30": "msix\n", "sys/devices/pci/msi_irqs/9": "msix\n", "sys/devices/pci/msi_irqs/100": "msix\n",
	}
	at := treesOf(t, files)
	if err := os.Symlink(filepath.Join(at.sys, "devices/pci/virtio0"), filepath.Join(at.sys, "class/net/eth0/device")); err != nil {
		t.Fatal(err)
	}
	want := econbench.Fingerprint{
		"nic.speed": "25000", "nic.numa_node": "1", "nic.threaded": "0", "nic.gro_flush_timeout": "20000", "nic.defer_hard_irqs": "2",
		"nic.queues": "rx=4 tx=2", "nic.rps": "3 0*2 1,00000000", "nic.irq_affinity": "0-1 0*2", "nic.irq_affinity_found": "0-1 0*2",
	}
	check := func() {
		t.Helper()
		got := at.sysfsFacts("eth0", 2)
		maps.DeleteFunc(got, func(_, v string) bool { return v == "" })
		if !maps.Equal(got, want) {
			t.Errorf("facts %v\nwant %v", got, want)
		}
	}
	check()
	if err := os.WriteFile(filepath.Join(at.proc, "7/comm"), []byte("irqbalance\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	want["nic.irq_affinity"] = "irqbalance"
	check()
	if f := at.sysfsFacts("eth0", 3); f != nil {
		t.Errorf("of another namespace's device: %v", f)
	}
	if f := at.sysfsFacts("../eth0", 2); f != nil {
		t.Errorf("of a path: %v", f)
	}
}

// What a driver adapts by itself is left out, what it has been told is not.
func TestCoalescing(t *testing.T) {
	c := ethtool.Coalesce{RxCoalesceUsecs: 8, RxMaxCoalescedFrames: 128, TxCoalesceUsecs: 16}
	if got := coalescing(c); got != "rx-usecs=8 rx-frames=128 tx-usecs=16" {
		t.Errorf("coalescing %q", got)
	}
	c.UseAdaptiveRxCoalesce = 1
	if got := coalescing(c); got != "adaptive-rx=1 tx-usecs=16" {
		t.Errorf("adaptive coalescing %q", got)
	}
	if got := coalescing(ethtool.Coalesce{}); got != "0" {
		t.Errorf("no coalescing %q", got)
	}
}

// run runs a program in the test's network namespace.
func run(t *testing.T, program string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("needs %s: %v", program, err)
	}
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v: %s", program, args, err, out)
	}
}
