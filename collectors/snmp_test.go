// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/econbench/econbench"
)

func datagrams(port uint16, count int) econbench.Flows {
	return econbench.Flows{Kind: econbench.DatagramFlows, ServerPort: port, Ports: count, Count: count, RequestBytes: 1, ResponseBytes: 1}
}

func connects(count int) econbench.Flows {
	return econbench.Flows{Kind: econbench.ConnectFlows, ServerPort: 25702, Ports: count, Count: count, RequestBytes: 1, ResponseBytes: 1}
}

// The files of testdata/proc/100/net have the shape of Linux 6.18.
func TestSnmpReader(t *testing.T) {
	got := readOnce(t, snmpReader{"testdata/proc"}, econbench.Scope{PID: 100, Flows: datagrams(25502, 1)})
	same(t, got, econbench.Counters{
		"Udp.InDatagrams": 5653678, "Udp.OutDatagrams": 272599, "Udp.InErrors": 774776, "Udp.RcvbufErrors": 774776,
		"Udp.SndbufErrors": 0, "Udp.NoPorts": 3,
		"Tcp.ActiveOpens": 61, "Tcp.PassiveOpens": 61977, "Tcp.AttemptFails": 1, "Tcp.InSegs": 659126, "Tcp.OutSegs": 659265,
		"Tcp.RetransSegs": 3, "Ip.FragCreates": 0, "TcpExt.TCPSynRetrans": 2, "TcpExt.ListenOverflows": 0,
	})
	if got = readOnce(t, snmpReader{"testdata/proc"}, econbench.Scope{PID: 100}); len(got) > 0 {
		t.Errorf("flows that last: %v", got)
	}
}

// A kernel without a counter leaves it out, rather than to say 0.
func TestSnmpReaderOfAnotherKernel(t *testing.T) {
	proc := copyProc(t)
	edit(t, filepath.Join(proc, "100/net/snmp"), " RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors\nUdp: 5653678 3 774776 272599 774776 0 0 0 0", "\nUdp: 5653678 3 774776 272599")
	edit(t, filepath.Join(proc, "100/net/netstat"), "TCPSynRetrans", "TCPNewName")
	got := readOnce(t, snmpReader{proc}, econbench.Scope{PID: 100, Flows: datagrams(25502, 1)})
	for _, name := range []string{"Udp.RcvbufErrors", "TcpExt.TCPSynRetrans"} {
		if v, there := got[name]; there {
			t.Errorf("%s is %g", name, v)
		}
	}
	if got["Udp.InDatagrams"] != 5653678 {
		t.Errorf("%v", got)
	}
}

func TestSnmpReaderNamesWhatIsWrong(t *testing.T) {
	for _, test := range []struct{ file, old, new, want string }{
		{"100/net/snmp", "Udp: 5653678 3", "Udp: x 3", `"x"`},
		{"100/net/snmp", "Udp: 5653678 3", "Udp: 3", "Udp"},
		{"100/net/netstat", "TcpExt: 0 0", "TcpExt: 0", "TcpExt"},
	} {
		proc := copyProc(t)
		edit(t, filepath.Join(proc, test.file), test.old, test.new)
		reading, err := snmpReader{proc}.Open(econbench.Scope{PID: 100, Flows: datagrams(25502, 1)})
		if err == nil {
			_, err = reading.Read()
		}
		if err == nil || !strings.HasPrefix(err.Error(), "snmp: ") || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v does not name %s on one line", test.new, err, test.want)
		}
	}
	if _, err := (snmpReader{"testdata/proc"}).Open(econbench.Scope{PID: 7, Flows: datagrams(1, 1)}); err == nil || !strings.Contains(err.Error(), "process 7") {
		t.Errorf("no such process: %v", err)
	}
}

func TestUDPSockets(t *testing.T) {
	n, err := openNamespace("testdata/proc", 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		flows econbench.Flows
		want  int
	}{
		{datagrams(25502, 1), 1}, {datagrams(25502, 8), 2}, // by their own ports
		{datagrams(25203, 1), 1}, // by the one it is connected to
		{datagrams(25504, 8), 0},
	} {
		if got, err := n.udpSockets(test.flows); err != nil || got != test.want {
			t.Errorf("%+v: %d, %v, want %d", test.flows, got, err, test.want)
		}
	}
}

func TestWaitForDatagrams(t *testing.T) {
	for _, test := range []struct {
		flows econbench.Flows
		want  string
	}{
		{datagrams(25502, 3), "flows on port 25502, server's side: 2 of 3 sockets are there, 0 datagrams since: "},
		{datagrams(25502, 2), "flows on port 25502, server's side: 2 of 2 sockets are there, 0 datagrams since: "}, // none moves
		{connects(8), "flows on port 25702, server's side: 0 connections opened, 80 wanted: "},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Millisecond)
		err := waitForCounters(ctx, "testdata/proc", econbench.Scope{PID: 100, Side: econbench.ServerHost, Flows: test.flows})
		cancel()
		if err == nil || !strings.HasPrefix(err.Error(), test.want) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want %s…", err, test.want)
		}
	}
}

// TestSnmpOfDatagrams counts in a namespace of its own, whose counters are not the machine's.
func TestSnmpOfDatagrams(t *testing.T) {
	s := newSandbox(t)
	scope := econbench.Scope{PID: s.pid, Side: econbench.ServerHost, Flows: datagrams(25502, 1)}
	var server net.PacketConn
	var client net.Conn
	s.inside(t, func() (err error) {
		if server, err = net.ListenPacket("udp4", "127.0.0.1:25502"); err == nil {
			client, err = net.Dial("udp4", "127.0.0.1:25502")
		}
		return err
	})
	defer server.Close()
	defer client.Close()
	exchange := func(n int) {
		for range n {
			if _, err := client.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, _, err := server.ReadFrom(make([]byte, 10)); err != nil {
				t.Fatal(err)
			}
		}
	}
	waited := make(chan error, 1)
	go func() { waited <- WaitForFlows(t.Context(), scope) }()
	for under := false; !under; {
		exchange(1)
		select {
		case err := <-waited:
			if under = true; err != nil {
				t.Fatal(err)
			}
		case <-time.After(time.Millisecond):
		}
	}
	reading, err := snmpReader{"/proc"}.Open(scope)
	if err != nil {
		t.Fatal(err)
	}
	defer reading.Close()
	before := read(t, reading)
	exchange(100)
	got := difference(before, read(t, reading))
	if got["Udp.InDatagrams"] != 100 || got["Udp.OutDatagrams"] != 100 || got["Udp.InErrors"] != 0 || got["Tcp.InSegs"] != 0 {
		t.Errorf("%v", got)
	}
}

// TestSnmpOfConnections: connections that come and go are counted, and one that is alive names its algorithm.
func TestSnmpOfConnections(t *testing.T) {
	s := newSandbox(t)
	scope := econbench.Scope{PID: s.pid, Side: econbench.ServerHost, Flows: connects(1)}
	l := s.listen(t, "127.0.0.1:25702")
	reading, err := snmpReader{"/proc"}.Open(scope)
	if err != nil {
		t.Fatal(err)
	}
	defer reading.Close()
	if notes := reading.(econbench.Noter).Notes(); notes[econbench.NoteCongestionControl] != "" {
		t.Errorf("nobody is there, notes %v", notes)
	}
	before := read(t, reading)
	for range 20 {
		client, server := s.connect(t, l)
		send(t, client, server, 1)
		server.Close()
		client.Close()
	}
	alive, _ := s.connect(t, l)
	got := difference(before, read(t, reading))
	if got["Tcp.PassiveOpens"] != 21 || got["Tcp.ActiveOpens"] != 21 || got["Tcp.InSegs"] < 20*6 || got["Udp.InDatagrams"] != 0 {
		t.Errorf("%v", got)
	}
	if notes := reading.(econbench.Noter).Notes(); notes[econbench.NoteCongestionControl] == "" {
		t.Errorf("%v is alive, notes %v", alive.LocalAddr(), notes)
	}
}

// TestSocketsOfSeveralPorts: flows on adjacent ports are all found, and a neighbour's is not.
func TestSocketsOfSeveralPorts(t *testing.T) {
	s := newSandbox(t)
	flows := econbench.Flows{ServerPort: 25302, Ports: 2, Count: 2, RequestBytes: 1}
	for _, port := range []string{"25301", "25302", "25303", "25304"} {
		client, server := s.connect(t, s.listen(t, "127.0.0.1:"+port))
		send(t, client, server, 100)
		send(t, server, client, 1)
	}
	for _, side := range []string{econbench.ClientHost, econbench.ServerHost} {
		scope := econbench.Scope{PID: s.pid, Side: side, Flows: flows}
		if err := WaitForFlows(t.Context(), scope); err != nil {
			t.Fatal(err)
		}
		want := map[string]float64{econbench.ServerHost: 200, econbench.ClientHost: 2}[side]
		if got := read(t, open(t, scope)); got["bytes_received"] != want {
			t.Errorf("%s: %v, want %g B", side, got, want)
		}
	}
}

func TestSocketsHaveNothingToSayOfOthers(t *testing.T) {
	for _, f := range []econbench.Flows{datagrams(25502, 1), connects(1)} {
		reading, err := socketsReader{"/proc"}.Open(econbench.Scope{PID: 1 << 30, Flows: f})
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, reading); len(got) > 0 || reading.Close() != nil {
			t.Errorf("%s: %v", f.Kind, got)
		}
		if samples, warnings := (Sockets{}).Samples(econbench.Window{Flows: f}); len(samples)+len(warnings) > 0 {
			t.Errorf("%s: %v %v", f.Kind, samples, warnings)
		}
	}
}

func TestSnmpSamples(t *testing.T) {
	stream := econbench.Flows{Kind: econbench.DatagramFlows, ServerPort: 1, Count: 1, MessageBytes: 1000}
	for _, test := range []struct {
		name           string
		flows          econbench.Flows
		client, server econbench.Counters
		want           map[string]float64
		warn           string // in the one warning; "" none
	}{
		{"stream", stream, econbench.Counters{"Udp.OutDatagrams": 2000}, econbench.Counters{"Udp.InDatagrams": 1990},
			map[string]float64{"packets": 995, "throughput": 995_000, "offered": 1000, "loss": 0.005}, ""},
		{"stream of which some were lost", stream, econbench.Counters{"Udp.OutDatagrams": 2000}, econbench.Counters{"Udp.InDatagrams": 1500, "Udp.RcvbufErrors": 400},
			map[string]float64{"packets": 750, "throughput": 750_000, "offered": 1000, "loss": 0.25},
			"25.0 % of the datagrams were lost, 200 a second of them at a full socket"},
		{"more received than sent", stream, econbench.Counters{"Udp.OutDatagrams": 2000}, econbench.Counters{"Udp.InDatagrams": 2001},
			map[string]float64{"packets": 1000.5, "throughput": 1_000_500, "offered": 1000, "loss": 0}, ""},
		{"stream, client not counted", stream, nil, econbench.Counters{"Udp.InDatagrams": 2000},
			map[string]float64{"packets": 1000, "throughput": 1_000_000}, ""},
		{"stream, server not counted", stream, econbench.Counters{"Udp.OutDatagrams": 2000}, nil, map[string]float64{}, ""},
		{"fragments", stream, econbench.Counters{"Udp.OutDatagrams": 2000, "Ip.FragCreates": 4000}, econbench.Counters{"Udp.InDatagrams": 2000},
			map[string]float64{"packets": 1000, "throughput": 1_000_000, "offered": 1000, "loss": 0}, "client: 4000 fragments were sent"},
		{"requests", datagrams(1, 1), econbench.Counters{"Udp.OutDatagrams": 2000}, econbench.Counters{"Udp.InDatagrams": 2000},
			map[string]float64{"packets": 1000, "transactions": 1000}, ""},
		{"connections", connects(1), econbench.Counters{"Tcp.RetransSegs": 2}, econbench.Counters{"Tcp.PassiveOpens": 2000, "Tcp.RetransSegs": 4},
			map[string]float64{"transactions": 1000, "retransmits": 3}, ""},
		{"connections that stalled", connects(1), econbench.Counters{"TcpExt.TCPSynRetrans": 3}, econbench.Counters{"Tcp.PassiveOpens": 2},
			map[string]float64{"transactions": 1}, "client: 3 SYNs were sent again"},
		{"a full queue", connects(1), nil, econbench.Counters{"Tcp.PassiveOpens": 2, "TcpExt.ListenOverflows": 9},
			map[string]float64{"transactions": 1}, "server: 9 connections found the listener's queue full"},
		{"flows that last", econbench.Flows{ServerPort: 1, Count: 1}, nil, econbench.Counters{"Udp.InDatagrams": 2000, "Tcp.PassiveOpens": 1}, map[string]float64{}, ""},
	} {
		side := func(c econbench.Counters) econbench.HostWindow {
			return econbench.HostWindow{Seconds: 2, Counters: map[string]econbench.Counters{"snmp": c}}
		}
		samples, warnings := Snmp{}.Samples(econbench.Window{Client: side(test.client), Server: side(test.server), Flows: test.flows})
		same(t, values(samples), test.want)
		if joined := strings.Join(warnings, "; "); (joined == "") != (test.warn == "") || !strings.Contains(joined, test.warn) || len(warnings) > 1 {
			t.Errorf("%s: warnings %q, want %q", test.name, joined, test.warn)
		}
		for _, s := range samples {
			if _, ok := econbench.MetricNamed(s.Metric); !ok {
				t.Errorf("%s: no metric %q", test.name, s.Metric)
			}
		}
	}
}
