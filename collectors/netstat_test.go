// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/econbench/econbench"
)

func TestNetstatReader(t *testing.T) {
	got := readOnce(t, netstatReader{"testdata/proc"}, econbench.Scope{PID: 100})
	for name, want := range map[string]float64{
		"Udp.InErrors": 774776, "Udp.RcvbufErrors": 774776, "Udp.SndbufErrors": 0, "Tcp.RetransSegs": 3, "Tcp.OutRsts": 35,
		"TcpExt.TCPTimeouts": 1, "TcpExt.TCPSynRetrans": 2, "TcpExt.ListenDrops": 0, "IpExt.InTruncatedPkts": 0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s: %v (there: %v), want %v", name, v, ok, want)
		}
	}
	if _, ok := got["TcpExt.TCPOFOQueue"]; ok {
		t.Error("a counter that the kernel does not have was read")
	}
}

// TestNetstatOfThisKernel: what drops are made of is there, by these names.
func TestNetstatOfThisKernel(t *testing.T) {
	s := newSandbox(t)
	got := readOnce(t, netstatReader{"/proc"}, econbench.Scope{PID: s.pid})
	for _, name := range append(droppedPackets, "TcpExt.TCPOFOQueue", "TcpExt.TCPTimeouts", "TcpExt.TCPLostRetransmit", "TcpExt.TCPDSACKRecv",
		"TcpExt.PruneCalled", "TcpExt.ListenOverflows", "Tcp.RetransSegs", "Udp.SndbufErrors") {
		if _, ok := got[name]; !ok && name != "TcpExt.TCPRcvQDrop" { // Linux 5.1
			t.Errorf("no counter %s", name)
		}
	}
}

func TestNetstatSamples(t *testing.T) {
	at := func(seconds econbench.Seconds, ofo, backlog, softnet float64) econbench.HostWindow {
		return econbench.HostWindow{Seconds: seconds, Counters: map[string]econbench.Counters{
			"netstat": {"TcpExt.TCPOFOQueue": ofo, "TcpExt.TCPBacklogDrop": backlog, "TcpExt.ListenOverflows": 99, "TcpExt.TCPTimeouts": 0},
			"softnet": {"cpu0.dropped": softnet, "cpu1.dropped": softnet}}}
	}
	w := econbench.Window{Client: at(2, 4, 2, 0), Server: at(1, 0, 3, 7), ClientCPUs: []int{0}, ServerCPUs: []int{1}, SharedKernel: true}
	samples, warnings := Netstat{}.Samples(w)
	same(t, values(samples), map[string]float64{"out_of_order": 2, "drops": 1 + 3 + 7})
	if len(warnings) > 0 {
		t.Errorf("warnings %q", warnings)
	}
	w.Server.Counters["netstat"]["TcpExt.TCPTimeouts"] = 2
	_, warnings = Netstat{}.Samples(w)
	same(t, warnings, []string{"netstat: server: 2 TCP timers ran out in the endpoint's namespace: a flow stood still for 200 ms or more"})

	w.Flows.Kind = econbench.DatagramFlows
	samples, _ = Netstat{}.Samples(w)
	same(t, values(samples), map[string]float64{"drops": 11})
	w.Client.Counters = nil
	if samples, _ = (Netstat{}).Samples(w); len(samples) > 0 {
		t.Errorf("one host was not counted: %v", samples)
	}
}

func TestNetstatNamesWhatIsWrong(t *testing.T) {
	for _, test := range []struct{ old, new, want string }{
		{"Tcp: 1 200", "Tcp: 200", `line "Tcp: 200 `}, {"Tcp: 1 200", "Udp: 1 200", `line "Udp: 1 200`}, {"Udp: 5653678 3", "Udp: 5653678 x", `Udp.NoPorts: `},
		{"UdpLite: 0 0 0 0 0 0 0 0 0\n", "", "7 lines: want pairs"},
	} {
		proc := copyProc(t)
		name := filepath.Join(proc, "100/net/snmp")
		edit(t, name, test.old, test.new)
		if _, err := (netstatReader{proc}).Open(econbench.Scope{PID: 100}); err == nil || !strings.HasPrefix(err.Error(), "netstat: "+name+": "+test.want) {
			t.Errorf("%q for %q: error %v, want one that begins with %s", test.new, test.old, err, test.want)
		}
	}
}

func FuzzParseNetCounters(f *testing.F) {
	recorded, err := os.ReadFile("testdata/proc/100/net/snmp")
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{string(recorded), "", "\n\n", "Tcp: A\nTcp: 1", "Tcp: RetransSegs\nTcp:", ": \n: "} {
		f.Add([]byte(s))
	}
	wanted := wantedCounters{"Tcp": {"RetransSegs": "Tcp.RetransSegs"}}
	f.Fuzz(func(t *testing.T, b []byte) {
		to := econbench.Counters{}
		_ = parseNetCounters(b, wanted, to)
		for name := range to {
			if name != "Tcp.RetransSegs" {
				t.Errorf("%q gave %s", b, name)
			}
		}
	})
}
