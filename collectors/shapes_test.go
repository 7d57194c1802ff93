// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/econbench/econbench"
)

func shapesWindow(f econbench.Flows, collector string, client, server econbench.Counters) econbench.Window {
	side := func(c econbench.Counters) econbench.HostWindow {
		return econbench.HostWindow{Seconds: 2, Counters: map[string]econbench.Counters{collector: c}}
	}
	return econbench.Window{Flows: f, Client: side(client), Server: side(server)}
}

func metricsOf(samples []econbench.Sample) map[string]float64 {
	m := map[string]float64{}
	for _, s := range samples {
		m[s.Metric] = s.Value
	}
	return m
}

// TestThroughputByDirection: payload counts where it is received, and each direction by itself only where there are both.
func TestThroughputByDirection(t *testing.T) {
	client := econbench.Counters{"bytes_received": 300, "data_segs_in": 30, "retransmits": 2, "flows": 1}
	server := econbench.Counters{"bytes_received": 1000, "data_segs_in": 10, "retransmits": 4, "flows": 1}
	datagramsAtClient := econbench.Counters{"Udp.InDatagrams": 30, "Udp.OutDatagrams": 200}
	datagramsAtServer := econbench.Counters{"Udp.InDatagrams": 100, "Udp.OutDatagrams": 60}
	for _, test := range []struct {
		way           econbench.Way
		tcp, datagram map[string]float64
	}{
		{econbench.WayUp, map[string]float64{"throughput": 500, "packets": 5, "retransmits": 3},
			map[string]float64{"throughput": 500, "packets": 50, "offered": 100, "loss": 0.5}},
		{econbench.WayDown, map[string]float64{"throughput": 150, "packets": 15, "retransmits": 3},
			map[string]float64{"throughput": 150, "packets": 15, "offered": 30, "loss": 0.5}},
		{econbench.WayBoth, map[string]float64{"throughput": 650, "throughput_up": 500, "throughput_down": 150, "packets": 20, "retransmits": 3},
			map[string]float64{"throughput": 650, "throughput_up": 500, "throughput_down": 150, "packets": 65, "offered": 130, "loss": 0.5}},
	} {
		samples, _ := Sockets{}.Samples(shapesWindow(econbench.Flows{Count: 1, Way: test.way}, "sockets", client, server))
		alike(t, string(test.way)+" tcp", metricsOf(samples), test.tcp)
		f := econbench.Flows{Kind: econbench.DatagramFlows, Count: 1, MessageBytes: 10, Way: test.way}
		samples, _ = Snmp{}.Samples(shapesWindow(f, "snmp", datagramsAtClient, datagramsAtServer))
		alike(t, string(test.way)+" udp", metricsOf(samples), test.datagram)
	}
}

func alike(t *testing.T, what string, got, want map[string]float64) {
	t.Helper()
	for name, v := range want {
		if d := got[name] - v; d > 1e-9 || d < -1e-9 || len(got) != len(want) {
			t.Errorf("%s: %v, want %v", what, got, want)
			return
		}
	}
}

// TestWorkOfTwoSets: requests are transactions, bulk beside them is throughput; segments and retransmissions add up.
func TestWorkOfTwoSets(t *testing.T) {
	f := econbench.Flows{Count: 2, RequestBytes: 10, ResponseBytes: 10, Beside: &econbench.Flows{Count: 1, Way: econbench.WayDown}}
	w := shapesWindow(f, "sockets",
		econbench.Counters{"bytes_received": 400, "data_segs_in": 40, "retransmits": 0, "flows": 2,
			"beside.bytes_received": 9000, "beside.data_segs_in": 6, "beside.retransmits": 2, "beside.flows": 1},
		econbench.Counters{"bytes_received": 400, "data_segs_in": 40, "retransmits": 4, "flows": 2,
			"beside.bytes_received": 0, "beside.data_segs_in": 0, "beside.retransmits": 0, "beside.flows": 0})
	samples, warnings := Sockets{}.Samples(w)
	alike(t, "mice", metricsOf(samples), map[string]float64{"transactions": 20, "throughput": 4500, "packets": 23, "retransmits": 3})
	if len(warnings) != 1 || warnings[0] != "sockets: server: 0 of 1 beside flows carried payload in the window" {
		t.Errorf("%q", warnings)
	}
	delete(w.Client.Counters["sockets"], "beside.bytes_received")
	samples, _ = Sockets{}.Samples(w)
	if m := metricsOf(samples); m["transactions"] != 20 {
		t.Errorf("%v", m)
	} else if _, ok := m["throughput"]; ok {
		t.Errorf("throughput of what was not counted: %v", m)
	}
}

// TestSocketsOfTwoSets: neither set's sockets are taken for the other's, and both must flow.
func TestSocketsOfTwoSets(t *testing.T) {
	s := newSandbox(t)
	bulk, requests := s.listen(t, "127.0.0.1:25241"), s.listen(t, "127.0.0.1:26102")
	scope := econbench.Scope{PID: s.pid, Side: econbench.ServerHost, Flows: econbench.Flows{ServerPort: 26102, Count: 1, RequestBytes: 1,
		Beside: &econbench.Flows{ServerPort: 25241, Count: 1}}}
	patience := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		return WaitForFlows(ctx, scope)
	}
	mouse, mouseServer := s.connect(t, requests)
	send(t, mouse, mouseServer, 1)
	if err := patience(); err == nil || !strings.Contains(err.Error(), "flows on port 25241, server's side: 0 of 1 carry payload") {
		t.Errorf("no elephant: %v", err)
	}
	elephant, elephantServer := s.connect(t, bulk)
	send(t, elephant, elephantServer, 100000)
	if err := WaitForFlows(t.Context(), scope); err != nil {
		t.Fatal(err)
	}
	r := open(t, scope)
	before := read(t, r)
	send(t, mouse, mouseServer, 7)
	send(t, elephant, elephantServer, 50000)
	got := difference(before, read(t, r))
	if got["bytes_received"] != 7 || got["beside.bytes_received"] != 50000 || got["flows"] != 1 || got["beside.flows"] != 1 {
		t.Errorf("%v", got)
	}
	mouse.Close()
	mouseServer.Close()
	if _, err := r.Read(); err == nil || !strings.Contains(err.Error(), "port 26102: 1 of 1 flows closed between two reads") {
		t.Errorf("a mouse that ended: %v", err)
	}
}

// TestClientsInSeveralNamespaces: each namespace is read, and one that containers share is read once.
func TestClientsInSeveralNamespaces(t *testing.T) {
	a, b := newSandbox(t), newSandbox(t)
	roommate := exec.Command("nsenter", "--net="+b.path(), "sleep", "300")
	if err := roommate.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = roommate.Process.Kill()
		_ = roommate.Wait()
	})
	for ns := ""; ns == "" || ns != mustReadlink(t, b.path()); { // until nsenter is there
		ns = mustReadlink(t, "/proc/"+strconv.Itoa(roommate.Process.Pid)+"/ns/net")
	}
	scope := econbench.Scope{PID: a.pid, Others: []int{b.pid, roommate.Process.Pid}, Side: econbench.ClientHost,
		Flows: econbench.Flows{ServerPort: 25201, Count: 2}}
	pids, err := namespacesOf("/proc", scope)
	if err != nil || len(pids) != 2 || pids[0] != a.pid || pids[1] != b.pid {
		t.Fatalf("%v, %v, want %d and %d", pids, err, a.pid, b.pid)
	}
	atA, serverA := a.connect(t, a.listen(t, "127.0.0.1:25201"))
	send(t, atA, serverA, 100000)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := WaitForFlows(ctx, scope); err == nil || !strings.Contains(err.Error(), "1 of 2 carry payload") {
		t.Errorf("one client at work: %v", err)
	}
	atB, serverB := b.connect(t, b.listen(t, "127.0.0.1:25201"))
	send(t, atB, serverB, 100000)
	if err := WaitForFlows(t.Context(), scope); err != nil {
		t.Fatal(err)
	}
	r := open(t, scope)
	before := read(t, r)
	send(t, atA, serverA, 1000)
	send(t, atB, serverB, 234)
	if got := difference(before, read(t, r)); got["bytes_acked"] != 1234 || got["flows"] != 2 {
		t.Errorf("%v", got)
	}
	scope.Others = []int{1 << 30}
	if _, err := (socketsReader{"/proc"}).Open(scope); err == nil || !strings.Contains(err.Error(), "network namespace of process 1073741824") {
		t.Errorf("no such process: %v", err)
	}
}

func mustReadlink(t *testing.T, name string) string {
	t.Helper()
	to, err := os.Readlink(name)
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// TestDatagramsOfSeveralNamespaces: counters and sockets add up.
func TestDatagramsOfSeveralNamespaces(t *testing.T) {
	proc := t.TempDir()
	if err := os.CopyFS(proc, os.DirFS("testdata/proc")); err != nil {
		t.Fatal(err)
	}
	for pid, inode := range map[string]string{"100": "one", "101": "two", "102": "one"} {
		dir := filepath.Join(proc, pid)
		if pid != "100" {
			for _, name := range []string{"netstat", "snmp", "udp"} {
				b, err := os.ReadFile(filepath.Join(proc, "100/net", name))
				if err != nil {
					t.Fatal(err)
				}
				write(t, filepath.Join(dir, "net", name), string(b))
			}
		}
		write(t, filepath.Join(proc, inode), "")
		if err := os.MkdirAll(filepath.Join(dir, "ns"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(proc, inode), filepath.Join(dir, "ns/net")); err != nil {
			t.Fatal(err)
		}
	}
	one := readOnce(t, snmpReader{proc}, econbench.Scope{PID: 100, Flows: datagrams(25502, 1)})
	three := readOnce(t, snmpReader{proc}, econbench.Scope{PID: 100, Others: []int{101, 102}, Flows: datagrams(25502, 1)})
	for name, v := range one {
		if three[name] != 2*v {
			t.Errorf("%s: %g of two namespaces in three containers, want 2 × %g", name, three[name], v)
		}
	}
	if len(three) != len(one) || one["Udp.InDatagrams"] == 0 {
		t.Errorf("%v", three)
	}
}

// TestSchedstatOfSeveralContainers: tasks of each container's cgroup count.
func TestSchedstatOfSeveralContainers(t *testing.T) {
	first := readOnce(t, schedstatReader{"testdata/proc"}, econbench.Scope{PID: 100})
	other := readOnce(t, schedstatReader{"testdata/proc"}, econbench.Scope{PID: 102})
	both := readOnce(t, schedstatReader{"testdata/proc"}, econbench.Scope{PID: 100, Others: []int{102}})
	for _, name := range []string{"run_time", "run_delay", "timeslices"} {
		if d := both[name] - first[name] - other[name]; first[name] == 0 || other[name] == 0 || d > 1e-9 || d < -1e-9 {
			t.Errorf("%s: %g, want %g + %g", name, both[name], first[name], other[name])
		}
	}
}
