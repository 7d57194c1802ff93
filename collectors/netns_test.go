// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
)

// sandbox is a network namespace of our own, held by a sleeping process; nothing in it has a way out.
type sandbox struct{ pid int }

func newSandbox(t testing.TB) sandbox {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root (CAP_SYS_ADMIN) to make a network namespace")
	}
	holder := exec.Command("sleep", "300")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // Pdeathsig follows the thread
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = holder.Process.Kill()
		_ = holder.Wait() // says that it was killed
		runtime.UnlockOSThread()
	})
	s := sandbox{holder.Process.Pid}
	h := s.handle(t)
	lo, err := h.LinkByName("lo")
	if err == nil {
		err = h.LinkSetUp(lo)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s sandbox) path() string { return filepath.Join("/proc", strconv.Itoa(s.pid), "ns/net") }

func (s sandbox) handle(t testing.TB) *netlink.Handle {
	t.Helper()
	ns, err := netns.GetFromPath(s.path())
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// inside runs f on a thread in the namespace; sockets made there stay there.
func (s sandbox) inside(t testing.TB, f func() error) {
	t.Helper()
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.GetFromPath(s.path())
		if err == nil {
			err = netns.Set(ns)
			ns.Close()
		}
		if err == nil {
			err = f()
		}
		failed <- err
	}()
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
}

func (s sandbox) listen(t testing.TB, address string) net.Listener {
	t.Helper()
	var l net.Listener
	s.inside(t, func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	t.Cleanup(func() { l.Close() })
	return l
}

// connect opens a connection and returns both ends.
func (s sandbox) connect(t testing.TB, l net.Listener) (client, server net.Conn) {
	t.Helper()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	s.inside(t, func() (err error) {
		client, err = net.Dial("tcp4", "127.0.0.1:"+port)
		return err
	})
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		server.Close()
	})
	return client, server
}

func send(t testing.TB, from, to net.Conn, bytes int) {
	t.Helper()
	sent := make(chan error, 1)
	go func() {
		_, err := from.Write(make([]byte, bytes))
		sent <- err
	}()
	if _, err := io.ReadFull(to, make([]byte, bytes)); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}

func difference(before, after econbench.Counters) econbench.Counters {
	d := econbench.Counters{}
	for name := range after {
		d[name] = after[name] - before[name]
	}
	return d
}

func TestSockets(t *testing.T) {
	s := newSandbox(t)
	l := s.listen(t, "127.0.0.1:25201")
	control, controlServer := s.connect(t, l)
	send(t, control, controlServer, 500)
	flows := econbench.Flows{ServerPort: 25201, Count: 2}
	serverScope := econbench.Scope{PID: s.pid, Side: econbench.ServerHost, Flows: flows}
	clientScope := econbench.Scope{PID: s.pid, Side: econbench.ClientHost, Flows: flows}

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	err := WaitForFlows(ctx, serverScope)
	if want := "flows on port 25201, server's side: 0 of 2 carry payload, 1 connections: "; err == nil || !strings.HasPrefix(err.Error(), want) ||
		!errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want %s…", err, want)
	}

	var clients, servers [2]net.Conn
	for i := range clients {
		clients[i], servers[i] = s.connect(t, l)
		send(t, clients[i], servers[i], 100000)
	}
	for _, scope := range []econbench.Scope{serverScope, clientScope} {
		if err := WaitForFlows(t.Context(), scope); err != nil {
			t.Fatal(err)
		}
	}
	server, client := open(t, serverScope), open(t, clientScope)
	atServer, atClient := read(t, server), read(t, client)
	send(t, clients[0], servers[0], 1000000)
	send(t, servers[1], clients[1], 50)
	send(t, control, controlServer, 7000)
	gotServer, gotClient := difference(atServer, read(t, server)), difference(atClient, read(t, client))
	for _, test := range []struct {
		counters econbench.Counters
		name     string
		want     float64
	}{
		{gotServer, "bytes_received", 1000000}, {gotServer, "bytes_acked", 50}, {gotServer, "flows", 2}, {gotServer, "retransmits", 0},
		{gotServer, "data_segs_out", 1}, {gotClient, "bytes_received", 50}, {gotClient, "bytes_acked", 1000000}, {gotClient, "data_segs_in", 1},
	} {
		if got, ok := test.counters[test.name]; !ok || got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
	if gotServer["data_segs_in"] < 2 || gotServer["segs_in"] < gotServer["data_segs_in"] {
		t.Errorf("segments: %v", gotServer)
	}
}

func open(t testing.TB, s econbench.Scope) econbench.Reading {
	t.Helper()
	r, err := socketsReader{"/proc"}.Open(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func read(t testing.TB, r econbench.Reading) econbench.Counters {
	t.Helper()
	c, err := r.Read()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestSocketsThatChange: a window in which a flow closes or another takes its place has no difference to offer.
func TestSocketsThatChange(t *testing.T) {
	s := newSandbox(t)
	l := s.listen(t, "127.0.0.1:25201")
	scope := econbench.Scope{PID: s.pid, Side: econbench.ServerHost, Flows: econbench.Flows{ServerPort: 25201, Count: 1}}

	tooEarly := open(t, scope)
	if _, err := tooEarly.Read(); err == nil || !strings.Contains(err.Error(), "0 of 1 flows carry payload, 0 connections") {
		t.Errorf("no flows yet: %v", err)
	}
	client, server := s.connect(t, l)
	send(t, client, server, 100000)
	larger, closed, same := open(t, scope), open(t, scope), open(t, scope)
	for range 2 {
		read(t, larger)
		read(t, same)
	}
	read(t, closed)
	if err := same.Close(); err != nil {
		t.Errorf("the same flow: %v", err)
	}
	other, otherServer := s.connect(t, l)
	send(t, other, otherServer, 200000)
	if err := larger.Close(); err == nil || !strings.Contains(err.Error(), "flows changed within the window") {
		t.Errorf("a larger flow: %v", err)
	}
	other.Close()
	otherServer.Close()
	client.Close()
	server.Close()
	if _, err := closed.Read(); err == nil || !strings.Contains(err.Error(), "1 of 1 flows closed between two reads") {
		t.Errorf("closed flow: %v", err)
	}
}

// TestSocketsOfRequests: with requests, the first transaction is a flow under way, and dual-stack listeners are found too.
func TestSocketsOfRequests(t *testing.T) {
	s := newSandbox(t)
	l := s.listen(t, ":25302")
	client, server := s.connect(t, l)
	for _, side := range []string{econbench.ClientHost, econbench.ServerHost} {
		scope := econbench.Scope{PID: s.pid, Side: side, Flows: econbench.Flows{ServerPort: 25302, Count: 1, RequestBytes: 1}}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		if err := WaitForFlows(ctx, scope); side == econbench.ClientHost && err == nil {
			t.Error("a connection without a transaction counts as a flow under way")
		}
		cancel()
		send(t, client, server, 1)
		send(t, server, client, 1)
		if err := WaitForFlows(t.Context(), scope); err != nil {
			t.Error(err)
		}
	}
}

// TestSocketsNameTheirCongestionControl: what is noted is what each end's own socket runs.
func TestSocketsNameTheirCongestionControl(t *testing.T) {
	s := newSandbox(t)
	l := s.listen(t, "127.0.0.1:25201")
	client, server := s.connect(t, l)
	raw, err := server.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno") // always there, allowed to all
	}); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	send(t, client, server, 1<<20)
	scope := econbench.Scope{PID: s.pid, Side: econbench.ServerHost, Flows: econbench.Flows{ServerPort: 25201, Count: 1}}
	r, err := (socketsReader{"/proc"}).Open(scope)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Read(); err != nil {
		t.Fatal(err)
	}
	if got := r.(econbench.Noter).Notes()[econbench.NoteCongestionControl]; got != "reno" {
		t.Errorf("congestion control %q, want reno", got)
	}
}

func TestSocketsOfNobody(t *testing.T) {
	if _, err := (socketsReader{"/proc"}).Open(econbench.Scope{PID: 0}); err == nil {
		t.Error("no flows: no error")
	}
	scope := econbench.Scope{PID: 1 << 30, Flows: econbench.Flows{ServerPort: 1, Count: 1}}
	if _, err := (socketsReader{"/proc"}).Open(scope); err == nil || !strings.Contains(err.Error(), "network namespace of process 1073741824") {
		t.Errorf("no such process: %v", err)
	}
}

// TestDevices counts in a namespace that is reached by a path in an "engine's" root, behind an absolute symbolic link that
// means something else outside of it.
func TestDevices(t *testing.T) {
	s := newSandbox(t)
	proc := engineProc(t, s)
	h := s.handle(t)
	for _, link := range []netlink.Link{
		&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "a0"}, PeerName: "a1"},
		&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br7"}},
	} {
		if err := h.LinkAdd(link); err != nil {
			t.Fatal(err)
		}
	}
	lo := econbench.Device{Role: "wire", Netns: "/var/run/engine/netns/1-abc", Name: "lo"}
	bridge := econbench.Device{Role: "bridge", Netns: lo.Netns, Kind: "bridge"}
	reading, err := devicesReader{proc}.Open(econbench.Scope{Devices: []econbench.Device{lo, bridge}})
	if err != nil {
		t.Fatal(err)
	}
	defer reading.Close()
	before := read(t, reading)
	client, server := s.connect(t, s.listen(t, "127.0.0.1:25201"))
	send(t, client, server, 1000000)
	got := difference(before, read(t, reading))
	if got["wire.rx_bytes"] < 1000000 || got["wire.tx_packets"] < 16 || got["bridge.rx_bytes"] != 0 || len(got) != 16 {
		t.Errorf("%v", got)
	}
	found, err := openDevices(proc, []econbench.Device{bridge})
	if err != nil || found.devices[0].name != "br7" || found.devices[0].kind != "bridge" {
		t.Errorf("the bridge: %+v, %v", found, err)
	}
	found.Close()
	br7, _ := h.LinkByName("br7")
	if err := h.LinkDel(br7); err != nil {
		t.Fatal(err)
	}
	if _, err := reading.Read(); err == nil || !strings.Contains(err.Error(), "bridge (br7, index ") {
		t.Errorf("a device that went: %v", err)
	}
	for want, d := range map[string]econbench.Device{
		`device x: kind "veth" in /var/run/engine/netns/1-abc: want one device, found 2 [`:   {Role: "x", Netns: lo.Netns, Kind: "veth"},
		`device x: kind "vxlan" in /var/run/engine/netns/1-abc: want one device, found 0 []`: {Role: "x", Netns: lo.Netns, Kind: "vxlan"},
		`device x: nic9 in /var/run/engine/netns/1-abc: `:                                    {Role: "x", Netns: lo.Netns, Name: "nic9"},
		`device x: network namespace /var/run/engine/netns/2: under ` + proc + `/1/root: `:   {Role: "x", Netns: "/var/run/engine/netns/2", Name: "lo"},
		`device x: network namespace /var/run/stale: under ` + proc + `/1/root: not a name`:  {Role: "x", Netns: "/var/run/stale", Name: "lo"},
	} {
		if _, err := openDevices(proc, []econbench.Device{d}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

// engineProc is a /proc in which process 1's root has the namespace at /run/engine/netns/1-abc and /var/run → /run.
func engineProc(t *testing.T, s sandbox) string {
	t.Helper()
	proc := t.TempDir()
	root := filepath.Join(proc, "1/root")
	at := filepath.Join(root, "run/engine/netns/1-abc")
	write(t, at, "")
	write(t, filepath.Join(root, "run/stale"), "")
	if err := os.MkdirAll(filepath.Join(root, "var"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/run", filepath.Join(root, "var/run")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(s.path(), at, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, 0); err != nil {
			t.Error(err)
		}
	})
	return proc
}

func TestResolveDevicesOfTheHost(t *testing.T) {
	got, err := ResolveDevices([]econbench.Device{{Role: "wire", Name: "lo"}})
	if err != nil || got[0].Name != "lo" || got[0].Kind == "" {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzParseDiag(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, sizeofDiagMsg))
	f.Add(diagMessage(unix.AF_INET, 232))
	f.Add(diagMessage(unix.AF_INET6, 104))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseDiag(b); err == nil && s.String() == "" {
			t.Error("neither a socket nor an error")
		}
	})
}

// diagMessage is an inet_diag_msg with a TCP_INFO of so many bytes.
func diagMessage(family uint8, info int) []byte {
	b := make([]byte, sizeofDiagMsg+4+info)
	b[0] = family
	b[sizeofDiagMsg], b[sizeofDiagMsg+1], b[sizeofDiagMsg+2] = byte(4+info), byte((4+info)>>8), inetDiagInfo
	return b
}

func TestOldTCPInfo(t *testing.T) {
	if _, err := parseDiag(diagMessage(unix.AF_INET, 104)); err == nil || !strings.Contains(err.Error(), "needs Linux 4.6") {
		t.Errorf("got %v", err)
	}
	if _, err := parseDiag(diagMessage(unix.AF_INET, 160)); err != nil {
		t.Error(err)
	}
}

// BenchmarkReaders is what one host pays for one reading of everything, in CPU time; it falls into the window. There are as many
// processes as on a busy host besides, which are not the container's.
func BenchmarkReaders(b *testing.B) {
	const others = 500
	s := newSandbox(b)
	s.ownCgroup(b)
	crowd(b, others)
	client, server := s.connect(b, s.listen(b, "127.0.0.1:25201"))
	send(b, client, server, 100000)
	scope := econbench.Scope{PID: s.pid, Side: econbench.ServerHost, Flows: econbench.Flows{ServerPort: 25201, Count: 1},
		Devices: []econbench.Device{{Role: "wire", Name: "lo"}}, CPUs: allCPUs()}
	for _, r := range Readers() {
		b.Run(r.Name(), func(b *testing.B) {
			reading, err := r.Open(scope)
			if err != nil {
				b.Fatal(err)
			}
			defer reading.Close()
			began, n := processTime(b), 0
			for b.Loop() {
				if _, err := reading.Read(); err != nil {
					b.Fatal(err)
				}
				n++
			}
			b.ReportMetric(float64((processTime(b)-began).Nanoseconds())/float64(n), "cpu-ns/op")
		})
	}
}

// BenchmarkWindow is what one host pays for all readings of a window of 1.5 s, as the agent reads: all of it at both ends, what counts
// work in the middle. Caches are cold then, as others had the CPU meanwhile.
func BenchmarkWindow(b *testing.B) {
	s := newSandbox(b)
	s.ownCgroup(b)
	crowd(b, 500)
	client, server := s.connect(b, s.listen(b, "127.0.0.1:25201"))
	send(b, client, server, 100000)
	scope := econbench.Scope{PID: s.pid, Side: econbench.ServerHost, Flows: econbench.Flows{ServerPort: 25201, Count: 1},
		Devices: []econbench.Device{{Role: "wire", Name: "lo"}}, CPUs: allCPUs()}
	var all []econbench.Reading
	for _, r := range Readers() {
		if r.Name() == "exact" || r.Name() == "histograms" {
			continue // not in every run
		}
		reading, err := r.Open(scope)
		if err != nil {
			b.Fatal(err)
		}
		defer reading.Close()
		if p, ok := reading.(econbench.Preparer); ok {
			if err := p.Prepare(); err != nil {
				b.Fatal(err)
			}
		}
		all = append(all, reading)
	}
	n, took := 0, time.Duration(0)
	for b.Loop() {
		began := processTime(b)
		for _, round := range [][]econbench.Reading{all, all[:1], all} {
			for _, reading := range round {
				read(b, reading)
			}
			time.Sleep(750 * time.Millisecond)
		}
		took += processTime(b) - began
		n++
	}
	b.ReportMetric(float64(took.Microseconds())/1000/float64(n), "cpu-ms/window")
}

// processTime is the CPU time of this process, the garbage collector's in it.
func processTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// ownCgroup puts the sandbox's process into a cgroup of its own, as a container's is.
func (s sandbox) ownCgroup(b *testing.B) {
	b.Helper()
	dirs, err := cgroupOf("/proc", s.pid)
	if err != nil || dirs.unified == "" {
		b.Skipf("no cgroup of version 2 is shown (%v): needs root", err)
	}
	dir := filepath.Join(dirs.unified, "econbench-test-"+strconv.Itoa(s.pid))
	if err := os.Mkdir(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	move := func(to string) {
		if err := os.WriteFile(filepath.Join(to, "cgroup.procs"), []byte(strconv.Itoa(s.pid)), 0o644); err != nil {
			b.Error(err)
		}
	}
	b.Cleanup(func() {
		move(dirs.unified)
		if err := os.Remove(dir); err != nil {
			b.Error(err)
		}
	})
	move(dir)
}

// crowd starts processes that do nothing.
func crowd(b *testing.B, n int) {
	b.Helper()
	for range n {
		p := exec.Command("sleep", "600")
		p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // newSandbox holds this thread
		if err := p.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			_ = p.Process.Kill()
			_ = p.Wait() // says that it was killed
		})
	}
}
