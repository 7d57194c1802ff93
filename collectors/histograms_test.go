// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"math"
	"net"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
)

// TestBuckets: each bucket begins where the one before it ends, and a delay is in the one that it is named by.
func TestBuckets(t *testing.T) {
	for bucket := range 400 {
		low, next := boundOf(bucket), boundOf(bucket+1)
		if low >= next || bucketOf(low) != bucket || bucketOf(next-1) != bucket {
			t.Fatalf("bucket %d from %d to %d ns: those are in %d and %d", bucket, low, next, bucketOf(low), bucketOf(next-1))
		}
		if low >= 8 && float64(next-low) > float64(low)/8 {
			t.Errorf("bucket %d from %d to %d ns is wider than an eighth", bucket, low, next)
		}
	}
}

func TestPercentiles(t *testing.T) {
	h := histogram{}
	h.add(econbench.Counters{"cpu0.net_rx.0.000001024": 50, "cpu0.net_rx.0.000004096": 49, "cpu0.net_rx.1.073741824": 1, "cpu1.net_rx.5.0": 1000,
		"cpu0.net_rx.x": 7}, "cpu0.net_rx.")
	if h.total() != 100 {
		t.Fatalf("%v", h)
	}
	for share, want := range map[float64]float64{0.25: 1.088e-6, 0.5: 1.152e-6, 0.99: 4.608e-6, 1: 1.207959552} {
		if got, ok := h.percentile(share); !ok || math.Abs(got-want) > 1e-12 {
			t.Errorf("%v: %v, want %v", share, got, want)
		}
	}
	if v, ok := (histogram{}).percentile(0.5); ok {
		t.Errorf("nothing has a median: %v", v)
	}
}

func TestHistogramsSamples(t *testing.T) {
	counters := econbench.Counters{"cpu0.net_rx.0.000001024": 100, "cpu1.net_rx.0.000004096": 100, "cpu0.net_tx.0.5": 9, "receive.0.000016384": 30, "reads": 40}
	h := econbench.HostWindow{Seconds: 1, Counters: map[string]econbench.Counters{"histograms": counters}}
	w := econbench.Window{Client: h, Server: h, ClientCPUs: []int{0}, ServerCPUs: []int{1}, SharedKernel: true, Apart: true}
	samples, warnings := Histograms{}.Samples(w)
	same(t, values(samples), map[string]float64{"softirq_delay_p50": 1.152e-6, "softirq_delay_p99": 4.096e-6 + 0.98*512e-9,
		"receive_delay_p50": 17.408e-6, "receive_delay_p99": 16.384e-6 + 0.99*2048e-9, "receive_matched": 0.75})
	if len(warnings) > 0 {
		t.Errorf("warnings %q", warnings)
	}
	counters["reads"] = 400
	_, warnings = Histograms{}.Samples(w)
	same(t, warnings, []string{"histograms: only 8 % of what programs read was seen at the wire: receive_delay is of that alone"})
	for _, s := range samples {
		if _, ok := econbench.MetricNamed(s.Metric); !ok {
			t.Errorf("no metric %q", s.Metric)
		}
	}
	w.Flows.Kind = econbench.DatagramFlows
	samples, _ = Histograms{}.Samples(w)
	same(t, values(samples), map[string]float64{"softirq_delay_p50": 1.152e-6, "softirq_delay_p99": 4.096e-6 + 0.98*512e-9})
	w.Client.Counters = nil
	if samples, warnings = (Histograms{}).Samples(w); len(samples)+len(warnings) > 0 {
		t.Errorf("not asked for: %v, %v", samples, warnings)
	}
}

func TestHistogramsAreWanted(t *testing.T) {
	if (Histograms{}).Wanted(econbench.Plan{}) || !(Histograms{}).Wanted(econbench.Plan{Histograms: true}) {
		t.Error("wanted by a plan that does not ask for it, or not by one that does")
	}
}

// TestHistogramsAreThePrograms holds names and sizes against the C source.
func TestHistogramsAreThePrograms(t *testing.T) {
	source, err := os.ReadFile("bpf/histograms.bpf.c")
	if err != nil {
		t.Fatal(err)
	}
	enum := regexp.MustCompile(`enum kind \{ (.*), KINDS \}`).FindSubmatch(source)
	if enum == nil || strings.ToLower(string(enum[1])) != strings.Join(histogramNames[:], ", ") {
		t.Errorf("enum kind is %q, names are %q", enum, histogramNames)
	}
	if !regexp.MustCompile(`(?m)^#define MAX_WIRES 8$`).Match(source) || maxWires != 8 {
		t.Errorf("MAX_WIRES is not %d", maxWires)
	}
}

// datagrams sends so many to itself over the loopback device of the sandbox, from a thread of the sandbox.
func (s sandbox) datagrams(t *testing.T, n int) {
	t.Helper()
	s.inside(t, func() error {
		to, err := boundUDP(25207)
		if err != nil {
			return err
		}
		defer unix.Close(to)
		buf := make([]byte, 16)
		for range n {
			if err := unix.Sendto(to, buf, 0, loopback(25207)); err != nil {
				return err
			}
			if _, err := unix.Read(to, buf); err != nil {
				return err
			}
		}
		return nil
	})
}

// openInside opens the reader as an agent of the sandbox would, whose wire is the loopback device.
func (s sandbox) openInside(t *testing.T, scope econbench.Scope) econbench.Reading {
	t.Helper()
	var r econbench.Reading
	s.inside(t, func() (err error) {
		r, err = histogramsReader{}.Open(scope)
		return err
	})
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// TestHistogramsOfSoftirqs: each datagram raises a softirq on a CPU that is counted.
func TestHistogramsOfSoftirqs(t *testing.T) {
	needBPF(t)
	const sent = 500
	box := newSandbox(t)
	r := box.openInside(t, econbench.Scope{PID: box.pid, CPUs: allCPUs()})
	before := read(t, r)
	box.datagrams(t, sent)
	got, softirq := difference(before, read(t, r)), histogram{}
	for _, cpu := range allCPUs() {
		softirq.add(got, perCPU(cpu, "net_rx."))
	}
	if softirq.total() < 0.9*sent { // one that is raised while it runs waits for its next round
		t.Errorf("%d datagrams, %v softirqs", sent, softirq.total())
	}
	if p50, ok := softirq.percentile(0.5); !ok || p50 < 50e-9 || p50 > 1 {
		t.Errorf("median delay is %v s", p50)
	}
}

// TestHistogramsOfAConnection: a request and its response are one packet each that a program of the sandbox reads, and that was seen at
// the wire; programs for another wire, other programs or none count it not.
func TestHistogramsOfAConnection(t *testing.T) {
	needBPF(t)
	const turns = 300
	box, other := newSandbox(t), newSandbox(t)
	wire := []econbench.Device{{Role: "wire", Name: "lo"}, {Role: "vxlan", Name: "none"}}
	r := box.openInside(t, econbench.Scope{PID: box.pid, CPUs: allCPUs(), Devices: wire})
	elsewhere := other.openInside(t, econbench.Scope{PID: other.pid, CPUs: allCPUs(), Devices: wire})
	notRead := box.openInside(t, econbench.Scope{PID: other.pid, CPUs: allCPUs(), Devices: wire})
	noWire := box.openInside(t, econbench.Scope{PID: box.pid, CPUs: allCPUs()})
	client, server := box.connect(t, box.listen(t, "127.0.0.1:25208"))
	fds := [2]int{rawFD(t, client.(*net.TCPConn)), rawFD(t, server.(*net.TCPConn))}
	before, unseen := read(t, r), read(t, noWire)
	box.inside(t, func() error { return takeTurns(fds, 2*turns) })
	got, receive := difference(before, read(t, r)), histogram{}
	receive.add(got, "receive.")
	if got["reads"] != 2*turns || receive.total() < 0.98*2*turns || receive.total() > 2*turns {
		t.Errorf("%d segments: %v read, %v of them seen at the wire", 2*turns, got["reads"], receive.total())
	}
	if p50, ok := receive.percentile(0.5); !ok || p50 < 200e-9 || p50 > 1 {
		t.Errorf("median delay is %v s", p50)
	}
	for name, test := range map[string]struct {
		counters econbench.Counters
		reads    float64
	}{"another host": {read(t, elsewhere), 0}, "other programs": {read(t, notRead), 0}, "no wire": {difference(unseen, read(t, noWire)), 2 * turns}} {
		h := histogram{}
		h.add(test.counters, "receive.")
		if h.total() != 0 || test.counters["reads"] != test.reads {
			t.Errorf("%s: %v read, want %v; %v seen at the wire, want none", name, test.counters["reads"], test.reads, h.total())
		}
	}
}

// takeTurns sends a byte from one end to the other, and back.
func takeTurns(fds [2]int, turns int) error {
	buf := make([]byte, 1)
	for turn := range turns {
		if _, err := unix.Write(fds[turn%2], buf); err != nil {
			return err
		}
		if err := readOne(fds[1-turn%2], buf); err != nil {
			return err
		}
	}
	return nil
}

// rawFD is a connection's own descriptor, which does not block.
func rawFD(t testing.TB, c *net.TCPConn) (fd int) {
	t.Helper()
	f, err := c.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return int(f.Fd())
}

func readOne(fd int, buf []byte) error {
	for {
		if _, err := unix.Read(fd, buf); err != unix.EAGAIN {
			return err
		}
		runtime.Gosched()
	}
}

func TestHistogramsErrors(t *testing.T) {
	needBPF(t)
	if _, err := (histogramsReader{}).Open(econbench.Scope{}); err == nil || err.Error() != "histograms: no CPUs to count" {
		t.Errorf("no CPUs: %v", err)
	}
	scope := econbench.Scope{CPUs: []int{0}, Devices: []econbench.Device{{Role: "wire", Name: "nic9"}}}
	if _, err := (histogramsReader{}).Open(scope); err == nil || err.Error() != "histograms: device wire (nic9): no such device" {
		t.Errorf("no device: %v", err)
	}
	scope = econbench.Scope{CPUs: []int{0}, PID: 1 << 30}
	if _, err := (histogramsReader{}).Open(scope); err == nil || !strings.HasPrefix(err.Error(), "histograms: network namespace of process 1073741824: ") {
		t.Errorf("no process: %v", err)
	}
}

// TestHistogramsArithmetic runs the programs of softirqs one by one, attached to nothing: a softirq that was raised twice has waited since
// the first time, one that begins without does not count, and those of others neither.
func TestHistogramsArithmetic(t *testing.T) {
	needBPF(t)
	cpu := pin(t)
	spec, err := loadHistograms()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{progArrived, "copied"} { // they read the kernel's packets, which only a tracepoint hands over
		delete(spec.Programs, name)
	}
	for _, p := range spec.Programs {
		p.Type, p.AttachType, p.AttachTo = ebpf.RawTracepoint, ebpf.AttachNone, ""
	}
	spec.Maps["cpus"].MaxEntries = uint32(cpu + 1)
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	r := &histogramsReading{cpus: []int{cpu}, coll: coll}
	defer r.Close()
	run := func(name string, softirq uint64) {
		t.Helper()
		if _, err := coll.Programs[name].Run(&ebpf.RunOptions{Context: []uint64{softirq}, CPU: uint32(cpu), Flags: unix.BPF_F_TEST_RUN_ON_CPU}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	const netTX, netRX, timer, rcu = 2, 3, 1, 9
	turn := func() {
		run("softirq_begins", netRX) // nobody raised it
		run("softirq_raised", timer)
		run("softirq_raised", rcu)
		run("softirq_raised", netRX)
		sleepAtLeast(2e6)
		run("softirq_raised", netRX)
		run("softirq_begins", netRX)
		run("softirq_begins", netRX)
		run("softirq_begins", timer)
	}
	turn()
	if got := read(t, r); len(got) != 1 {
		t.Errorf("a CPU that is not counted: %v", got)
	}
	if err := coll.Maps["cpus"].Put(uint32(cpu), &histogramsCpu{Counted: 1}); err != nil {
		t.Fatal(err)
	}
	turn()
	run("softirq_raised", netTX)
	run("softirq_begins", netTX)
	got, rx, tx := read(t, r), histogram{}, histogram{}
	rx.add(got, perCPU(cpu, "net_rx."))
	tx.add(got, perCPU(cpu, "net_tx."))
	if wait, _ := rx.percentile(1); rx.total() != 1 || wait < 2e-3 {
		t.Errorf("one NET_RX that waited for 2 ms: %v", got)
	}
	if tx.total() != 1 || got["reads"] != 0 {
		t.Errorf("one NET_TX: %v", got)
	}
}

// sleepAtLeast waits for so many ns on this thread, by the clock that programs read.
func sleepAtLeast(ns int64) {
	var began, now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &began)
	for now = began; now.Nano()-began.Nano() < ns; {
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	}
}

// TestWithLower: a bond or bridge has its ports, a VLAN what it is of, a veth no peer.
func TestWithLower(t *testing.T) {
	s := newSandbox(t)
	h := s.handle(t)
	index := func(name string) int32 {
		t.Helper()
		l, err := h.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		return int32(l.Attrs().Index)
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "up"}}
	for _, l := range []netlink.Link{bridge, &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "a0"}, PeerName: "a1"}} {
		if err := h.LinkAdd(l); err != nil {
			t.Fatal(err)
		}
	}
	port, _ := h.LinkByName("a0")
	if err := h.LinkSetMaster(port, bridge); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]int32{"up": {index("up"), index("a0")}, "a1": {index("a1")}, "lo": {index("lo")}} {
		var got []int32
		s.inside(t, func() (err error) {
			got, err = withLower(name)
			return err
		})
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}
