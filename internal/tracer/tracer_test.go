// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/netspace"
	"github.com/econbench/econbench/internal/trace"
)

// Events are what the programs write, byte by byte.
func TestEventLayout(t *testing.T) {
	ours, theirs := reflect.TypeFor[trace.Event](), reflect.TypeFor[traceEvent]()
	if ours.Size() != theirs.Size() {
		t.Fatalf("%d bytes, the programs write %d", ours.Size(), theirs.Size())
	}
	for i := range ours.NumField() {
		o, p := ours.Field(i), theirs.Field(i+1) // the first one says whose layout it is
		if o.Offset != p.Offset || o.Type.Size() != p.Type.Size() || o.Name != "_" && !strings.EqualFold(o.Name, p.Name) {
			t.Errorf("field %s of %v at %d, the programs' %s of %v at %d", o.Name, o.Type, o.Offset, p.Name, p.Type, p.Offset)
		}
	}
}

// Every hook has a program, and one that stands in stands behind the one whose place it takes.
func TestHooks(t *testing.T) {
	spec, err := loadTrace()
	if err != nil {
		t.Fatal(err)
	}
	var before []string
	for _, h := range slices.Concat(hooks, softirqHooks) {
		p := spec.Programs[h.program]
		if p == nil {
			t.Errorf("hook %s: no program %q", h.name, h.program)
			continue
		}
		numbers := 0
		for _, in := range numbered(p, 4711).Instructions {
			if in.Constant == hookNumber {
				t.Errorf("hook %s: a number was left out", h.name)
			}
			if in.Constant == 4711 {
				numbers++
			}
		}
		if isSoftirq := strings.HasPrefix(h.program, "softirq"); isSoftirq != (numbers == 0) {
			t.Errorf("hook %s: %d numbers in program %s", h.name, numbers, h.program)
		}
		if h.instead != "" && !slices.Contains(before, h.instead) {
			t.Errorf("hook %s: stands in for %q, which is not before it", h.name, h.instead)
		}
		before = append(before, h.name)
	}
	for _, some := range ends {
		for _, name := range some {
			if !slices.Contains(before, name) {
				t.Errorf("no hook %q", name)
			}
		}
	}
}

// onEgress puts a program of somebody's on a device's egress, which lets all pass.
func onEgress(t *testing.T, device, name string) {
	t.Helper()
	function := &btf.Func{Name: name, Linkage: btf.GlobalFunc, Type: &btf.FuncProto{
		Return: &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed},
		Params: []btf.FuncParam{{Name: "skb", Type: &btf.Pointer{Target: &btf.Struct{Name: "__sk_buff", Size: 4}}}},
	}}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: name, Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		btf.WithFuncMetadata(asm.Mov.Imm(asm.R0, 0).WithSymbol(name), function), asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	l, err := netlink.LinkByName(device)
	if err != nil {
		t.Fatal(err)
	}
	at := netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}
	filter := netlink.FilterAttrs{LinkIndex: l.Attrs().Index, Parent: netlink.HANDLE_MIN_EGRESS, Handle: 1, Protocol: unix.ETH_P_ALL, Priority: 1}
	err = errors.Join(netlink.QdiscAdd(&netlink.Clsact{QdiscAttrs: at}),
		netlink.FilterAdd(&netlink.BpfFilter{FilterAttrs: filter, Fd: p.FD(), Name: name, DirectAction: true}))
	if err != nil {
		t.Fatal(err)
	}
}

// needRights skips naming what is missing.
func needRights(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root for network namespaces and BPF programs")
	}
}

const (
	testPort        = 25302
	testClient      = "198.18.7.1"
	testServer      = "198.18.7.2"
	tunnelledClient = "198.19.7.1"
	tunnelledServer = "198.19.7.2"
	asServer        = "ECONBENCH_TEST_TRACED_SERVER"
)

// TestMain is the server of the traced flow in a process of its own, too: in a namespace of its own, as containers are.
func TestMain(m *testing.M) {
	if network := os.Getenv(asServer); network != "" {
		if err := serve(network); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// serve echoes until its standard input ends, once the device that it is to get is there.
func serve(network string) error {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	buffer := make([]byte, 100)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if network == "udp" {
			conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(testServer), Port: testPort})
			if err != nil {
				continue
			}
			for {
				n, from, err := conn.ReadFromUDP(buffer)
				if err != nil {
					return err
				}
				if _, err := conn.WriteToUDP(buffer[:n], from); err != nil {
					return err
				}
			}
		}
		l, err := net.Listen("tcp4", fmt.Sprint(":", testPort))
		if err != nil {
			continue
		}
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		_, _ = io.Copy(struct{ io.Writer }{conn}, struct{ io.Reader }{conn}) // by system calls of its own; it ends with the client
		return nil
	}
	return errors.New("the address did not appear")
}

// wire starts a server in a namespace of its own and joins it to this thread's by a veth pair.
func wire(t *testing.T, network string) (server *exec.Cmd) {
	t.Helper()
	server = exec.Command("/proc/self/exe")
	server.Env = append(os.Environ(), asServer+"="+network)
	server.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET}
	server.Stderr = os.Stderr
	in, err := server.StdinPipe()
	if err == nil {
		err = server.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = server.Wait() }) // which ends it
	own, _, err := netspace.Own()
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	// Until the process has executed itself it may still be in the namespace that it came from.
	_, here, err := netspace.Own()
	if err != nil {
		t.Fatal(err)
	}
	for there := here; there == here; time.Sleep(time.Millisecond) {
		ns, id, err := netspace.OfProcess(server.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		there = id
		_ = ns.Close()
	}
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "ebtrace0"}, PeerName: "ebtrace1", PeerNamespace: netlink.NsPid(server.Process.Pid)}
	if err := netlink.LinkAdd(pair); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netlink.LinkDel(pair) }) // gone with its peer, maybe
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	up := func(name string, addrs ...string) error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		for _, a := range addrs {
			addr, err := netlink.ParseAddr(a + "/24")
			if err == nil {
				err = netlink.AddrAdd(l, addr)
			}
			if err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(l)
	}
	must(up("ebtrace0", testClient))
	must(netspace.InProcess(server.Process.Pid, func() error { return up("ebtrace1", testServer) }))
	must(tunnel(testServer, func() error { return up("br0", tunnelledClient) }))
	t.Cleanup(func() {
		for _, name := range []string{"vx0", "br0"} {
			if l, err := netlink.LinkByName(name); err != nil || netlink.LinkDel(l) != nil {
				t.Errorf("%s is not there to be removed", name)
			}
		}
	})
	must(netspace.InProcess(server.Process.Pid, func() error { return tunnel(testClient, func() error { return up("br0", tunnelledServer) }) }))
	return server
}

// tunnel makes a bridge with a vxlan device towards an address, in the namespace of the thread.
func tunnel(to string, up func() error) error {
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	vxlan := &netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "vx0", MasterIndex: bridge.Attrs().Index}, VxlanId: 7, Group: net.ParseIP(to), Port: 4789}
	if err := netlink.LinkAdd(vxlan); err != nil {
		return fmt.Errorf("vxlan: %w", err)
	}
	return errors.Join(netlink.LinkSetUp(vxlan), up())
}

// TestTrace traces an echo over a wire by two tracers, as the agents of two emulated hosts do, and finds the way that it must take.
// It runs in a namespace of its own.
func TestTrace(t *testing.T) {
	needRights(t)
	const inside = "ECONBENCH_TEST_IN_NAMESPACE"
	if os.Getenv(inside) == "" {
		again := exec.Command("/proc/self/exe", "-test.run=^TestTrace$", "-test.v", "-keep="+*keep)
		again.Env = append(os.Environ(), inside+"=1")
		again.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET}
		out, err := again.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: TestTrace") {
			t.Fatalf("%v\n%s", err, out)
		}
		t.Logf("%s", out)
		return
	}
	for _, network := range []string{"tcp", "udp"} {
		t.Run(network, func(t *testing.T) {
			path, hooks := traceEcho(t, network, testClient, testServer)
			wantEcho(t, path, hooks)
		})
	}
	t.Run("tunnelled", func(t *testing.T) {
		path, hooks := traceEcho(t, "tcp", tunnelledClient, tunnelledServer)
		wantTunnelled(t, path, hooks)
	})
}

func traceEcho(t *testing.T, network, from, to string) (path trace.Path, hooks []string) {
	server := wire(t, network)
	addr := netip.MustParseAddr
	order := trace.Order{Side: econbench.ClientHost, PID: os.Getpid(), Events: 20_000, Flow: trace.Flow{
		Datagrams: network == "udp", Client: addr(from), Server: addr(to), ServerPort: testPort,
		ClientHost: addr(testClient), ServerHost: addr(testServer),
	}}
	onEgress(t, "ebtrace0", "onlooker")
	client, err := Start(order)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	order.Side, order.PID = econbench.ServerHost, server.Process.Pid
	var other *Tracer
	err = netspace.InProcess(server.Process.Pid, func() (err error) { other, err = Start(order); return err })
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	t.Logf("seen: %q, not seen: %q", client.names, client.Skipped())

	stop := talk(t, network, to)
	type answer struct {
		trace.Record
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		r, err := other.Record(t.Context(), 500*time.Millisecond)
		answers <- answer{r, err}
	}()
	here, err := client.Record(t.Context(), 500*time.Millisecond)
	there := <-answers
	if err := errors.Join(err, there.err, stop()); err != nil {
		t.Fatal(err)
	}
	keepRecords(t, [2]trace.Record{here, there.Record})
	path, err = trace.Follow(here, there.Record, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of %d transactions", path.Followed, path.Transactions)
	for _, s := range path.Stages {
		t.Logf("%-8s %-6s %-9s %-9s %-24s %6.1f µs %s %d B %v", s.Direction, s.Side, s.Namespace, s.Lane, s.Hook, float64(s.At)*1e6, s.Softirq, s.Payload, s.Tunnelled)
	}
	return path, client.names
}

var keep = flag.String("keep", "", "`folder` for what TestTrace records, as testdata of package trace")

// keepRecords leaves some of what was recorded on this kernel.
func keepRecords(t *testing.T, r [2]trace.Record) {
	t.Helper()
	if *keep == "" {
		return
	}
	var begin uint64 // of what both have
	for i := range r {
		if len(r[i].Events) > 0 {
			begin = max(begin, r[i].Events[0].At)
		}
	}
	for i := range r {
		r[i].Events = slices.DeleteFunc(slices.Clone(r[i].Events), func(e trace.Event) bool { return e.At < begin })
		r[i].Events = r[i].Events[:min(len(r[i].Events), 400)]
	}
	b, err := json.MarshalIndent(r, "", " ")
	if err == nil {
		err = os.WriteFile(filepath.Join(*keep, filepath.Base(t.Name())+".events.json"), append(b, '\n'), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// sender is a socket that is not connected and sends to one address.
type sender struct {
	*net.UDPConn
	to netip.AddrPort
}

func (s sender) Write(b []byte) (int, error) { return s.WriteToUDPAddrPort(b, s.to) }

// talk has a client talk until it is stopped.
func talk(t *testing.T, network, server string) (stop func() error) {
	t.Helper()
	var conn net.Conn
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		var err error
		to := netip.AddrPortFrom(netip.MustParseAddr(server), testPort)
		conn, err = net.Dial(network+"4", to.String())
		if network == "udp" { // as netperf's client: not connected, and with the server's port
			var socket *net.UDPConn
			socket, err = net.ListenUDP("udp4", &net.UDPAddr{Port: testPort})
			conn = sender{socket, to}
		}
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	patience := 10 * time.Second
	if network == "udp" { // it may have been sent before the server was there
		patience = 200 * time.Millisecond
	}
	done := make(chan error, 1)
	go func() {
		buffer := make([]byte, 100)
		for {
			_ = conn.SetReadDeadline(time.Now().Add(patience))
			_, err := conn.Write([]byte("echo"))
			if err == nil {
				_, err = conn.Read(buffer)
			}
			switch {
			case errors.Is(err, net.ErrClosed):
				done <- nil
				return
			case network == "udp" && (errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, unix.ECONNREFUSED)):
			case err != nil:
				done <- err
				return
			}
		}
	}()
	return func() error {
		_ = conn.Close()
		return <-done
	}
}

// wantEcho checks the way over a pair of devices: the client's, and the server's, in either direction.
func wantEcho(t *testing.T, p trace.Path, hooks []string) {
	t.Helper()
	var got []string
	for _, s := range p.Stages {
		if s.Hook == "net_dev_start_xmit" || s.Hook == "netif_receive_skb" {
			got = append(got, strings.Join([]string{s.Direction, s.Side, s.Lane, s.Hook}, " "))
		}
		if s.Payload != 4 && s.Payload != 0 {
			t.Errorf("%s: %d B, want 4", s.Hook, s.Payload)
		}
		if s.Hook == "netif_receive_skb" && s.Softirq != "NET_RX" {
			t.Errorf("received in softirq %q, want NET_RX", s.Softirq)
		}
	}
	want := []string{
		"request client ebtrace0 net_dev_start_xmit", "request server ebtrace1 netif_receive_skb",
		"response server ebtrace1 net_dev_start_xmit", "response client ebtrace0 netif_receive_skb",
	}
	if !slices.Equal(got, want) {
		t.Errorf("devices %q, want %q", got, want)
	}
	if p.Whole.Softirqs != 2 || p.Whole.Devices != 2 || p.Whole.Namespaces != 2 {
		t.Errorf("counts %+v, want 2 softirqs, devices and namespaces", p.Whole)
	}
	// Of a kernel that lets them be seen.
	for name, want := range map[string]int{"ip_output": 2, "ip_rcv": 2, "ip_local_deliver": 2, "sk_data_ready": 2, "bpf:onlooker": 1} {
		n := 0
		for _, s := range p.Stages {
			if s.Hook == name {
				n++
			}
		}
		if slices.Contains(hooks, name) && n != want {
			t.Errorf("%s: %d times, want %d", name, n, want)
		}
	}
	if slices.Contains(hooks, "tcp_sendmsg") && !slices.Contains(hooks, "bpf:onlooker") {
		t.Error("functions may be watched and the program on the device is not")
	}
	if len(p.Programs) != 1 || p.Programs[0].Name != "onlooker" || p.Programs[0].Device != "ebtrace0" || p.Programs[0].Hook != "egress" ||
		p.Programs[0].Runs < 0.8 || p.Programs[0].Runs > 2.2 { // acknowledgements pass it, too
		t.Errorf("programs %+v, want the one on ebtrace0's egress, once for each request", p.Programs)
	}
}

// wantTunnelled checks the way through a bridge and a tunnel: tunnelled on the wire and nowhere before or behind it.
func wantTunnelled(t *testing.T, p trace.Path, hooks []string) {
	t.Helper()
	count := map[string]int{}
	for _, s := range p.Stages {
		count[s.Hook]++
		onWire := strings.HasPrefix(s.Lane, "ebtrace")
		if onWire && !s.Tunnelled || s.Tunnelled && s.Kind != "" && !onWire {
			t.Errorf("%s on %s: tunnelled %v", s.Hook, s.Lane, s.Tunnelled)
		}
		if onWire || s.Kind == "vxlan" {
			count[s.Direction+" "+s.Side+" "+s.Kind]++
		}
	}
	for _, direction := range []string{trace.Request, trace.Response} {
		for _, side := range []string{econbench.ClientHost, econbench.ServerHost} {
			for _, kind := range []string{"veth", "vxlan"} {
				if count[direction+" "+side+" "+kind] == 0 {
					t.Errorf("%s passes no %s on %s", direction, kind, side)
				}
			}
		}
	}
	for _, name := range []string{"vxlan_rcv", "br_handle_frame_finish"} {
		if slices.Contains(hooks, name) && count[name] != 2 {
			t.Errorf("%s: %d times, want 2", name, count[name])
		}
	}
}

// What can't be is refused in words, and leaves nothing.
func TestRefusals(t *testing.T) {
	needRights(t)
	for want, order := range map[string]trace.Order{
		"0 events: want 1 to":           {PID: os.Getpid()},
		"container's network namespace": {PID: 1 << 22, Events: 1},
		"network namespace /none":       {PID: os.Getpid(), Events: 1, Netns: []string{"/none"}},
	} {
		if x, err := Start(order); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v %v, want %q", order, x, err, want)
		}
	}
}
