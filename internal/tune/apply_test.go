// SPDX-License-Identifier: Apache-2.0

package tune

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"

	"github.com/econbench/econbench/internal/netspace"
)

const (
	saveKey  = "net.ipv4.tcp_no_metrics_save"
	saveFile = "net/ipv4/tcp_no_metrics_save"
)

func openJournal(t *testing.T, dir string) *Journal {
	t.Helper()
	j, undone, err := OpenJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(undone) != 0 {
		t.Fatalf("a new journal undid %q", undone)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j
}

func apply(t *testing.T, j *Journal, tunings ...Tuning) *Applied {
	t.Helper()
	a, err := j.Apply(context.Background(), tunings)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func wantSysctl(t *testing.T, want string) {
	t.Helper()
	got, err := readSysctl(saveFile)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Fatalf("sysctl %s is %q, want %q", saveKey, got, want)
	}
}

func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "tune.journal"))
	if err != nil || len(b) != 0 {
		t.Fatalf("journal has %q (%v), want nothing", b, err)
	}
}

// state is all that the tunings of these tests can change in the namespace of the thread.
func state(t *testing.T) map[string]string {
	t.Helper()
	s := map[string]string{}
	var err error
	read := func(name string, f func() (string, error)) {
		if s[name], err = f(); err != nil {
			t.Fatal(err)
		}
	}
	read("sysctl", func() (string, error) { return readSysctl(saveFile) })
	read("mem", func() (string, error) { return readSysctl("net/ipv4/tcp_rmem") })
	read("rx-0", func() (string, error) { return readRPS(wire, "rx-0") })
	read("rx-1", func() (string, error) { return readRPS(wire, "rx-1") })
	states, err := features(wire)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range states {
		s["feature "+name] = onOff(f.Active) + onOff(f.Requested)
	}
	routes, err := netspace.Whole(func() ([]netlink.Route, error) { return netlink.RouteList(nil, netlink.FAMILY_V4) })
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		s["route "+r.String()] = r.Congctl
	}
	return s
}

func TestEveryKindIsAppliedAndUndone(t *testing.T) {
	newNetns(t)
	dir := t.TempDir()
	j := openJournal(t, dir)
	before := state(t)
	other := "reno"
	if cc, err := CongestionControlOf(0, peer); err != nil || cc == other {
		t.Fatalf("congestion control as found: %q, %v", cc, err)
	}
	a := apply(t, j, Sysctl(0, saveKey, "1"), Sysctl(0, "net/ipv4/tcp_rmem", "4096 100000 200000"), RPS(wire, 0),
		CongestionControl(0, peer, other), MTUFrames(wire))
	wantSysctl(t, "1")
	for _, q := range []string{"rx-0", "rx-1"} {
		if mask, err := readRPS(wire, q); err != nil || mask != "1" {
			t.Errorf("rps of %s is %q (%v), want 1", q, mask, err)
		}
	}
	if cc, err := CongestionControlOf(0, peer); err != nil || cc != other {
		t.Errorf("congestion control is %q (%v), want %s", cc, err, other)
	}
	states, err := features(wire)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range states {
		if strings.HasSuffix(name, "-segmentation") && f.Active {
			t.Errorf("feature %s is on", name)
		}
	}
	want := []string{
		"sysctl net.ipv4.tcp_no_metrics_save 0 → 1",
		"sysctl net.ipv4.tcp_rmem " + before["mem"] + " → 4096 100000 200000",
		"rps wire0 rx-0 0 → 1, rx-1 0 → 1",
		"congestion-control to 198.18.99.2 the host's → reno",
	}
	if diff := cmp.Diff(want, a.Done[:4]); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(a.Done[4], "tx-tcp-segmentation on → off") {
		t.Errorf("offloads: %q", a.Done[4])
	}
	for range 2 {
		if err := a.Undo(); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(before, state(t)); diff != "" {
		t.Errorf("after undo: %s", diff)
	}
	wantEmpty(t, dir)
}

func TestRouteIsCloned(t *testing.T) {
	newNetns(t)
	far := netip.MustParseAddr("198.19.77.7")
	link, err := netlink.LinkByName(wire)
	if err != nil {
		t.Fatal(err)
	}
	network, err := netlink.ParseIPNet("198.19.77.0/24")
	if err != nil {
		t.Fatal(err)
	}
	given := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: network, Gw: peer.AsSlice(), MTU: 1300, Priority: 20}
	if err := netlink.RouteAdd(given); err != nil {
		t.Fatal(err)
	}
	apply(t, openJournal(t, t.TempDir()), CongestionControl(0, far, "reno"))
	r, err := matchingRoute(far)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Gw.Equal(given.Gw) || r.MTU != 1300 || r.Protocol != routeProtocol || r.Congctl != "reno" || r.Dst.String() != "198.19.77.7/32" {
		t.Errorf("route is %v, congctl %q", r, r.Congctl)
	}
}

func TestDMALatency(t *testing.T) {
	newNetns(t)
	minor, err := miscMinor("/proc/misc", dmaLatency)
	if errors.Is(err, ErrNoDMALatency) {
		t.Skip("needs a kernel with cpu_dma_latency")
	} else if err != nil {
		t.Fatal(err)
	}
	j := openJournal(t, t.TempDir())
	a := apply(t, j, DMALatency(), DMALatency())
	if n := openCount(t, minor); n != 2 {
		t.Errorf("device is open %d times, want 2", n)
	}
	if err := a.Undo(); err != nil {
		t.Fatal(err)
	}
	if n := openCount(t, minor); n != 0 {
		t.Errorf("device is open %d times after undo", n)
	}
}

// openCount counts this process's descriptors of a misc device.
func openCount(t *testing.T, minor uint32) (n int) {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if info, err := os.Stat(fd); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			if rdev := info.Sys().(*syscall.Stat_t).Rdev; rdev == uint64(miscMajor<<8|minor&0xff|minor&^0xff<<12) {
				n++
			}
		}
	}
	return n
}

func TestDMALatencyWithoutNode(t *testing.T) {
	needRoot(t)
	dev := t.TempDir()
	misc := filepath.Join(dev, "misc")
	hold, err := holdDMALatency(dev, "/proc/misc")
	if errors.Is(err, ErrNoDMALatency) {
		t.Skip("needs a kernel with cpu_dma_latency")
	} else if err != nil {
		t.Fatal(err)
	}
	if err := hold.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dev, ".*")); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
	if err := os.WriteFile(misc, []byte("234 btrfs-control\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := holdDMALatency(dev, misc); !errors.Is(err, ErrNoDMALatency) {
		t.Errorf("got %v, want ErrNoDMALatency", err)
	}
}

func TestOtherNamespace(t *testing.T) {
	newNetns(t)
	dir := t.TempDir()
	j := openJournal(t, dir)
	other := startHelper(t, helperArgs{}, syscall.CLONE_NEWNET)
	same := startHelper(t, helperArgs{}, 0)
	gone := apply(t, j, Sysctl(other.Process.Pid, saveKey, "1"))
	wantSysctl(t, "0")
	wantEmpty(t, dir)
	a := apply(t, j, Sysctl(same.Process.Pid, saveKey, "1"))
	wantSysctl(t, "1")
	if b, err := os.ReadFile(filepath.Join(dir, "tune.journal")); err != nil || len(b) == 0 {
		t.Errorf("a process in the agent's own namespace: not journaled (%v)", err)
	}
	kill(same)
	kill(other)
	if err := errors.Join(a.Undo(), gone.Undo()); err != nil {
		t.Error(err)
	}
	wantSysctl(t, "0")
}

func TestFailureInTheMiddleUndoesTheRest(t *testing.T) {
	newNetns(t)
	dir := t.TempDir()
	j := openJournal(t, dir)
	before := state(t)
	_, err := j.Apply(context.Background(), []Tuning{Sysctl(0, saveKey, "1"), RPS(wire, 0), Sysctl(0, "net.ipv4.tcp_ecn", "77")})
	if err == nil || !strings.Contains(err.Error(), "tcp_ecn") {
		t.Errorf("got %v, want an error about tcp_ecn", err)
	}
	if diff := cmp.Diff(before, state(t)); diff != "" {
		t.Error(diff)
	}
	wantEmpty(t, dir)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := j.Apply(ctx, []Tuning{Sysctl(0, saveKey, "1")}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestChangedBySomebodyElse(t *testing.T) {
	newNetns(t)
	dir := t.TempDir()
	j := openJournal(t, dir)
	a := apply(t, j, Sysctl(0, "net.ipv4.tcp_ecn", "1"), Sysctl(0, saveKey, "1"))
	if err := writeSysctl("net/ipv4/tcp_ecn", "0"); err != nil {
		t.Fatal(err)
	}
	if err := a.Undo(); !errors.Is(err, ErrChanged) {
		t.Errorf("got %v, want ErrChanged", err)
	}
	if got, err := readSysctl("net/ipv4/tcp_ecn"); err != nil || got != "0" {
		t.Errorf("tcp_ecn is %q (%v), want it left alone", got, err)
	}
	wantSysctl(t, "0")
	wantEmpty(t, dir)
	if err := a.Undo(); err != nil {
		t.Errorf("second undo: %v", err)
	}
}

func TestUndoneOutOfOrder(t *testing.T) {
	newNetns(t)
	dir := t.TempDir()
	j := openJournal(t, dir)
	first := apply(t, j, Sysctl(0, saveKey, "1"), CongestionControl(0, peer, "reno"))
	second := apply(t, j, Sysctl(0, saveKey, "1"), CongestionControl(0, peer, "reno"))
	if err := first.Undo(); err != nil {
		t.Fatal(err)
	}
	wantSysctl(t, "1")
	if cc, err := CongestionControlOf(0, peer); err != nil || cc != "reno" {
		t.Errorf("congestion control is %q (%v), want reno while the second stands", cc, err)
	}
	if err := second.Undo(); err != nil {
		t.Fatal(err)
	}
	wantSysctl(t, "0")
	if cc, err := CongestionControlOf(0, peer); err != nil || cc == "reno" {
		t.Errorf("congestion control is %q (%v)", cc, err)
	}
	wantEmpty(t, dir)
}

func TestDeviceVanished(t *testing.T) {
	newNetns(t)
	j := openJournal(t, t.TempDir())
	a := apply(t, j, RPS(wire, 0), CongestionControl(0, peer, "reno"), MTUFrames(wire))
	link, err := netlink.LinkByName(wire)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkDel(link); err != nil {
		t.Fatal(err)
	}
	makeWire(t) // the same name, another device
	if err := a.Undo(); err != nil {
		t.Error(err)
	}
}

func TestErrorsNameWhatIsAllowed(t *testing.T) {
	newNetns(t)
	j := openJournal(t, t.TempDir())
	for _, test := range []struct {
		name   string
		tuning Tuning
		wants  []string
	}{
		{"kind", Tuning{Kind: "colour"}, []string{`"colour"`, "dma-latency, nft-dormant, notrack, offloads"}},
		{"key", Sysctl(0, "net.ipv4.tcp_magic", "1"), []string{"net/ipv4/tcp_magic", "no such key"}},
		{"escape", Sysctl(0, "../self/comm", "1"), []string{`"../self/comm"`}},
		{"key of no namespace", Sysctl(1, "kernel.hostname", "x"), []string{"keys under net"}},
		{"process", Sysctl(1<<22+1, saveKey, "1"), []string{"process 4194305", "no such process"}},
		{"device", RPS("nic7", 0), []string{`"nic7"`, "lo, wire0, wire1"}},
		{"CPU", RPS(wire, 4711), []string{"CPU 4711", "online are 0"}},
		{"algorithm", CongestionControl(0, peer, "warp"), []string{`"warp"`, "tcp_available_congestion_control has: ", "reno"}},
		{"local", CongestionControl(0, netip.MustParseAddr("198.18.99.1"), "reno"), []string{"198.18.99.1", "want one to another host"}},
		{"unrouted", CongestionControl(0, netip.MustParseAddr("198.19.1.1"), "reno"), []string{"198.19.1.1", "unreachable"}},
		{"feature", Tuning{Kind: KindOffloads, Device: wire, Features: map[string]bool{"tx-warp": false}}, []string{`"tx-warp"`, "tx-tcp-segmentation"}},
		{"fixed feature", Tuning{Kind: KindOffloads, Device: wire, Features: map[string]bool{"rx-fcs": true}}, []string{"rx-fcs", "fixed at off"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := j.Apply(context.Background(), []Tuning{test.tuning})
			if err == nil || strings.Contains(err.Error(), "\n") {
				t.Fatalf("got %v, want an error of one line", err)
			}
			for _, want := range test.wants {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}

func TestTuningCrossesAsJSON(t *testing.T) {
	given := []Tuning{Sysctl(7, saveKey, "1"), RPS(wire, 0, 3), CongestionControl(0, peer, "cubic"), MTUFrames(wire), DMALatency(), Dormant(7), NoTrack(7, peer)}
	b, err := json.Marshal(given)
	if err != nil {
		t.Fatal(err)
	}
	var got []Tuning
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(given, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Error(diff)
	}
	if strings.Count(string(b), "destination") != 2 {
		t.Errorf("fields of other kinds are written: %s", b)
	}
}

func TestSysctlKeys(t *testing.T) {
	for key, want := range map[string]string{
		"net.ipv4.tcp_ecn":                    "net/ipv4/tcp_ecn",
		"net/ipv4/conf/eth0.100/forwarding":   "net/ipv4/conf/eth0.100/forwarding",
		"net.ipv4.conf.eth0/100.forwarding":   "net/ipv4/conf/eth0.100/forwarding",
		"/net/ipv4/tcp_ecn":                   "",
		"net..ipv4":                           "",
		"net/../kernel/hostname":              "",
		"":                                    "",
		"net.ipv4.conf...forwarding":          "",
		"net.ipv4.tcp_ecn = 1":                "",
		"net.ipv4.conf.all.forwarding/../../": "",
	} {
		if got, err := sysctlFile(key); got != want || (err == nil) != (want != "") {
			t.Errorf("key %q: %q, %v; want %q", key, got, err, want)
		}
	}
}

func TestMasks(t *testing.T) {
	if got := groups("123456789"); got != "1,23456789" {
		t.Errorf("groups: %s", got)
	}
	file := filepath.Join(t.TempDir(), "rps_cpus")
	if err := os.WriteFile(file, []byte("00000001,00000003\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := readMask(file); err != nil || got != "100000003" {
		t.Errorf("mask: %q, %v", got, err)
	}
}
