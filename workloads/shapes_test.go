// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"context"
	"errors"
	"math"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/econbench/econbench"
)

// The recorded outputs of directions and of ss are those of iperf3 3.12 and 3.18 over loopback, but for the kernel's release.

func TestReadIperf3Directions(t *testing.T) {
	for _, test := range []struct {
		file, protocol string
		streams        int
		direction      string
		want           string // beginning
	}{
		{"3.18-down-1", "TCP", 1, "down", "tool_throughput=2.37359e+08"},
		{"3.18-down-4", "TCP", 4, "down", "tool_throughput=2.35823e+08"},
		{"3.18-both-1", "TCP", 1, "both", "tool_throughput=1.81624e+08"}, // (720.4 + 732.6) Mbit/s
		{"3.18-both-4", "TCP", 4, "both", "tool_throughput=1.92361e+08"},
		{"3.12-down-1", "TCP", 1, "down", "tool_throughput="},
		{"3.12-both-2", "TCP", 2, "both", "tool_throughput="},
		{"3.18-udp-down-1", "UDP", 1, "down", "tool_throughput=1.6437e+07"},
		{"3.18-udp-both-1", "UDP", 1, "both", "tool_throughput=5.39294e+07"},

		// Clients that were told to end, which know of one end alone.
		{"3.18-told-up", "TCP", 1, "up", "tool_throughput=2.36939e+09"},
		{"3.18-told-down", "TCP", 1, "down", "tool_throughput=1.55554e+09"},
		{"3.18-told-both", "TCP", 1, "both", "tool_throughput=4.55146e+09"},
		{"3.18-told-udp", "UDP", 1, "up", "tool_offered=19999"},
		{"3.18-told-udpdown", "UDP", 1, "down", "tool_throughput=2.79"},

		{"3.18-1", "TCP", 1, "down", `error: output: reports reverse 0, asked for direction "down"`},
		{"3.18-down-1", "TCP", 1, "up", `error: output: reports reverse 1, asked for direction "up"`},
		{"3.18-1", "TCP", 1, "both", `error: output: sum_received_bidir_reverse is there: false, asked for direction "both"`},
		{"3.18-both-1", "TCP", 1, "up", `error: output: sum_received_bidir_reverse is there: true, asked for direction "up"`},
	} {
		r := iperf3{protocol: test.protocol, streams: test.streams, way: ways[test.direction]}
		got := told(r.read([]econbench.Output{{Stdout: recorded(t, "iperf3/"+test.file+".json")}}))
		if !strings.HasPrefix(got, test.want) || strings.Contains(got, "\n") {
			t.Errorf("%s %s:\n got %s\nwant %s", test.file, test.direction, got, test.want)
		}
	}
}

// One direction that received nothing is an error, whichever it is.
func TestReadIperf3OneDirectionStalled(t *testing.T) {
	good := string(recorded(t, "iperf3/3.18-both-1.json"))
	for _, sum := range []string{`"sum_received":	{`, `"sum_received_bidir_reverse":	{`} {
		stalled := strings.Replace(good, sum, sum+`}, "x": {`, 1)
		if _, err := readIperf3(econbench.Output{Stdout: []byte(stalled)}, "TCP", 1, econbench.WayBoth); err == nil ||
			!strings.Contains(err.Error(), "the receiver got 0 bytes") {
			t.Errorf("%s: %v", sum, err)
		}
	}
}

// Outputs of clients in several containers add up, and any that is wrong is the run's error.
func TestReadCrowds(t *testing.T) {
	one := econbench.Output{Stdout: recorded(t, "iperf3/3.18-1.json")}
	r := iperf3{protocol: "TCP", streams: 1}
	if got := told(r.read([]econbench.Output{one, one, one})); got != "tool_throughput=6.3505e+09" {
		t.Error(got)
	}
	refused := econbench.Output{Stdout: recorded(t, "iperf3/3.18-refused.json"), ExitCode: 1}
	if got := told(r.read([]econbench.Output{one, refused})); !strings.HasPrefix(got, `error: "unable to connect`) {
		t.Error(got)
	}
	four := econbench.Output{Stdout: recorded(t, "netperf/2.7.1-4-flows.txt")}
	if got := told(tcpRR.readAll([]econbench.Output{four, four}, 4)); !strings.HasPrefix(got,
		"tool_transactions=132994 latency_p50=6.2e-05 latency_p90=9.3e-05 latency_p99=0.000181 latency_mean=6.00378e-05") {
		t.Error(got)
	}
}

// crowdBox is a testbed with several clients, each a box of its own.
type crowdBox struct {
	*box
	clients []*box
}

func newCrowdBox(n int) crowdBox {
	c := crowdBox{box: &box{play: playRecorded}}
	for range n {
		c.clients = append(c.clients, &box{play: playRecorded})
	}
	return c
}

func (c crowdBox) Client() econbench.Endpoint { return c.clients[0].endpoint() }
func (c crowdBox) Clients() (ends []econbench.Endpoint) {
	for _, b := range c.clients {
		ends = append(ends, b.endpoint())
	}
	return ends
}

// TestClients: so many containers as asked for, no more, each with ports of its own.
func TestClients(t *testing.T) {
	for _, test := range []struct {
		workload econbench.Workload
		params   econbench.Params
		count    int
		want     []string // a part of each container's command line
	}{
		{TCPStream{}, econbench.Params{"clients": "2", "streams": "2"}, 4, []string{" -p 25201 ", " -p 25202 ", ""}},
		{TCPStream{}, econbench.Params{"clients": "2", "direction": "both"}, 4, []string{" --bidir ", " -p 25202 ", ""}},
		{TCPStream{}, econbench.Params{"direction": "down"}, 1, []string{" -R ", "", ""}},
		{UDPStream{}, econbench.Params{"clients": "3", "rate": "3000", "message": "100"}, 3, []string{" -b 800000 ", " -p 25222 ", " -p 25223 "}},
		{tcpRR, econbench.Params{"clients": "3"}, 3, []string{" -P ,25302 ", " -P ,25303 ", " -P ,25304 "}},
		{udpRR, econbench.Params{"clients": "2", "flows": "2"}, 4, []string{" -P 25503,25503 ", " -P 25504,25504 ", ""}},
		{tcpCRR, econbench.Params{"clients": "2"}, 2, []string{" -p 10000,17488 ", " -p 17488,24976 ", ""}},
	} {
		tb := newCrowdBox(3)
		p, err := test.workload.Params(test.params)
		if err != nil {
			t.Fatal(err)
		}
		load, err := test.workload.Start(t.Context(), tb, p, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		for i, b := range tb.clients {
			line := strings.Join(b.lines, "; ")
			if len(b.lines) > 1 || !strings.Contains(line, test.want[i]) || (line == "") != (test.want[i] == "") {
				t.Errorf("%s %s: client %d ran %q, want %q", test.workload.Name(), test.params, i, line, test.want[i])
			}
		}
		f := load.Flows()
		clients, _ := strconv.Atoi(p[econbench.ParamClients])
		if f.Count != test.count || f.Clients != clients || f.Way != ways[p["direction"]] {
			t.Errorf("%s %s: flows %+v, want %d of %d clients", test.workload.Name(), test.params, f, test.count, clients)
		}
	}
}

func TestMoreClientsThanThereAre(t *testing.T) {
	for _, w := range []econbench.Workload{TCPStream{}, tcpRR} {
		p, _ := w.Params(econbench.Params{"clients": "4"})
		if _, err := w.Start(t.Context(), newCrowdBox(3), p, time.Second); err == nil || !strings.HasSuffix(err.Error(), "topology has 3 client containers, want 4") {
			t.Errorf("%s: %v", w.Name(), err)
		}
	}
}

// TestServersForEachClient: iperf3 serves one client at a time. If one server ends all of it is over.
func TestServersForEachClient(t *testing.T) {
	tb := newCrowdBox(3)
	all, err := TCPStream{}.Serve(t.Context(), tb)
	if err != nil {
		t.Fatal(err)
	}
	group := all.(servers)
	for _, port := range []string{"25201", "25202", "25203"} {
		if !slices.ContainsFunc(tb.lines, func(l string) bool { return strings.HasPrefix(l, "iperf3 -s ") && strings.Contains(l, " -p "+port+" ") }) {
			t.Errorf("no server on port %s in %q", port, tb.lines)
		}
	}
	soon, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := all.Wait(soon); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("all at work: %v", err)
	}
	if err := group[1].(*server).proc.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := all.Wait(t.Context()); err == nil || !strings.Contains(err.Error(), "exit code 137") {
		t.Errorf("one ended: %v", err)
	}
	if err := errors.Join(all.Close(t.Context()), all.Close(t.Context())); err != nil {
		t.Error(err)
	}
}

// Of servers that are started together one that fails takes the others with it.
func TestServersThatDoNotAllCome(t *testing.T) {
	closed := &played{out: econbench.Output{ExitCode: -1}, closed: make(chan struct{})}
	_, err := serveAll(t.Context(),
		func(context.Context) (econbench.Process, error) { return closed, nil },
		func(context.Context) (econbench.Process, error) { return nil, errors.New("refused") })
	if err == nil || err.Error() != "refused" {
		t.Error(err)
	}
	select {
	case <-closed.closed:
	default:
		t.Error("the other server still runs")
	}
}

// TestManyFlowsWaitForEachOther: from sixteen on no client is at work while others are set up.
func TestManyFlowsWaitForEachOther(t *testing.T) {
	for flows, want := range map[int]string{1: " -l 4 -H ", 15: " -l 5 -H ", 16: " -l 5 -s $((begun+2>now?begun+2-now:1)) -H ",
		128: " -l 10 -s $((begun+3>now?begun+3-now:1)) -H "} {
		lines := tcpRR.argv(newCrowdBox(1).Server(), econbench.Params{"request": "1", "response": "1"}, flows, 1950*time.Millisecond)
		if got := strings.Join(lines[0], " "); len(lines) != flows || !strings.Contains(got, want) {
			t.Errorf("%d flows: %q, want %q", flows, got, want)
		}
	}
}

// TestWhatIsLeft has a real shell reckon: clients of one script wait until the same second, and for one at least.
func TestWhatIsLeft(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("needs a shell")
	}
	p, err := startReal(together([][]string{{"echo", leftOf(4 * time.Second)}, {"echo", leftOf(0), "$((now>=begun))"}}))
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all, err := apart(out, 2)
	if err != nil {
		t.Fatal(err)
	}
	said := []string{strings.TrimSpace(string(all[0].Stdout)), strings.TrimSpace(string(all[1].Stdout))}
	slices.Sort(said)
	if said[0] != "1 1" || said[1] != "4" && said[1] != "3" { // a second may have passed meanwhile
		t.Errorf("%q", said)
	}
}

func TestReadCarrying(t *testing.T) {
	for file, want := range map[string]int{"elephants-1": 1, "elephants-4": 4, "elephants-both": 2} {
		if got := readCarrying(recorded(t, "ss/"+file+".txt")); got != want {
			t.Errorf("%s: %d, want %d: the control connection is none", file, got, want)
		}
	}
	if got := readCarrying(nil); got != 0 {
		t.Errorf("nothing: %d", got)
	}
}

func FuzzReadCarrying(f *testing.F) {
	f.Add(recorded(f, "ss/elephants-both.txt"))
	f.Add([]byte("bytes_acked:99999999999999999999 bytes_received:-1\nbytes_acked:16384"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got := readCarrying(b); got < 0 || got > strings.Count(string(b), "bytes_") {
			t.Errorf("%d connections", got)
		}
	})
}

// TestMice: elephants first and longest, and the flows of both described.
func TestMice(t *testing.T) {
	b := &box{play: playRecorded}
	p, err := Mice{}.Params(econbench.Params{"direction": "down", "flows": "2", "request": "100", "response": "200"})
	if err != nil {
		t.Fatal(err)
	}
	load, err := Mice{}.Start(t.Context(), b, p, 1950*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"iperf3 -c 127.0.0.1 -p 25241 -J -i 0 -t 13 -P 1 -l 131072 -R ", "ss -Htin ", "sh -c client() {"}
	if !slices.EqualFunc(b.lines, want, strings.HasPrefix) || !strings.Contains(b.lines[2], "netperf -P 0 -4 -t TCP_RR -l 5 ") {
		t.Errorf("ran %q", b.lines)
	}
	f := load.Flows()
	if f.ServerPort != 26102 || f.Count != 2 || f.RequestBytes != 100 || f.ResponseBytes != 200 || !f.Transactions() {
		t.Errorf("mice %+v", f)
	}
	if e := f.Beside; e == nil || e.ServerPort != 25241 || e.Count != 1 || e.Way != econbench.WayDown || e.Transactions() || f.Has(e.ServerPort) {
		t.Errorf("elephants %+v", e)
	}
}

// TestMiceWithoutElephants: mice are not started when the elephants' client can't do its work, or ends.
func TestMiceWithoutElephants(t *testing.T) {
	for name, test := range map[string]struct{ file, want string }{
		"refused":       {"iperf3/3.18-refused.json", `iperf3 client: "unable to connect to server`},
		"ended at once": {"iperf3/3.18-1.json", "iperf3 client: ended before the mice: exit code 0"},
	} {
		b := &box{play: func(argv []string) econbench.Output {
			if argv[0] == "ss" {
				return econbench.Output{}
			}
			return econbench.Output{Stdout: recorded(t, test.file)}
		}}
		p, _ := Mice{}.Params(nil)
		if _, err := (Mice{}).Start(t.Context(), b, p, time.Second); err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
		if slices.ContainsFunc(b.lines, func(l string) bool { return strings.HasPrefix(l, "netperf") }) {
			t.Errorf("%s: mice were started: %q", name, b.lines)
		}
	}
}

// TestElephantsThatEndFirst: percentiles would be of a time without them too, so there are none. Else they end after the mice.
func TestElephantsThatEndFirst(t *testing.T) {
	for _, alive := range []bool{false, true} {
		elephants := &played{out: econbench.Output{Stdout: recorded(t, "iperf3/3.18-1.json")}, closed: make(chan struct{})}
		if alive {
			elephants.out.ExitCode = -1
		}
		l := &miceLoad{elephants: watchOver(t.Context(), elephants), mice: 1,
			proc: &played{out: econbench.Output{Stdout: recorded(t, "netperf/2.7.1-1x1.txt")}, closed: make(chan struct{})}}
		if !alive {
			<-l.elephants.ended
		}
		result, err := l.Wait(t.Context())
		if alive {
			if err != nil || math.Abs(sampled(result.Samples, "latency_p99")-115e-6) > 1e-9 {
				t.Errorf("%v, %v", result.Samples, err)
			}
			<-elephants.closed
		} else if err == nil || !strings.HasPrefix(err.Error(), "iperf3 client: ended before the mice: exit code 0: ") || len(result.Samples) > 0 {
			t.Errorf("%v, %v", result.Samples, err)
		}
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func sampled(samples []econbench.Sample, metric string) float64 {
	for _, s := range samples {
		if s.Metric == metric {
			return s.Value
		}
	}
	return 0
}
