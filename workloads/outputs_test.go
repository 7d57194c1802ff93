// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/econbench/econbench"
)

// The files in testdata are what the tools of Debian 12 (iperf3 3.12) and 13 (iperf3 3.18, netperf 2.7.1) wrote, untouched.

func recorded(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// told is samples and warnings, or the error, on one line.
func told(samples []econbench.Sample, warnings []string, err error) string {
	if err != nil {
		return "error: " + err.Error()
	}
	var parts []string
	for _, s := range samples {
		parts = append(parts, fmt.Sprintf("%s=%.6g", s.Metric, s.Value))
	}
	return strings.Join(append(parts, warnings...), " ")
}

func TestReadIperf3(t *testing.T) {
	good := recorded(t, "iperf3/3.18-1.json")
	edited := func(old, new string) []byte {
		s := strings.Replace(string(good), old, new, 1)
		if s == string(good) {
			t.Fatalf("recorded output has no %q", old)
		}
		return []byte(s)
	}
	for _, test := range []struct {
		name    string
		out     econbench.Output
		streams int
		want    string // beginning
	}{
		{"3.18, one", econbench.Output{Stdout: good}, 1, "tool_throughput=2.11683e+09"},
		{"3.18, four", econbench.Output{Stdout: recorded(t, "iperf3/3.18-4.json")}, 4, "tool_throughput=3.97629e+09"},
		{"3.12, one", econbench.Output{Stdout: recorded(t, "iperf3/3.12-1.json")}, 1, "tool_throughput=1.99748e+09"},
		{"3.12, four", econbench.Output{Stdout: recorded(t, "iperf3/3.12-4.json")}, 4, "tool_throughput=2.69763e+09"},
		{"UDP, one", econbench.Output{Stdout: recorded(t, "iperf3/3.18-udp-1.json")}, 1, "tool_throughput=2.79884e+07"},
		{"UDP, four", econbench.Output{Stdout: recorded(t, "iperf3/3.18-udp-4.json")}, 4, "tool_throughput=2.79719e+07"},
		{"UDP, but TCP ran", econbench.Output{Stdout: good}, 1, "error: output: reports 1 TCP streams, asked for 1 UDP"},
		{"other number of streams", econbench.Output{Stdout: good}, 2, "error: output: reports 1 TCP streams, asked for 2 TCP"},
		{"refused", econbench.Output{Stdout: recorded(t, "iperf3/3.18-refused.json"), ExitCode: 1}, 1,
			`error: "unable to connect to server - server may have stopped running`},
		{"refused, exit code 0", econbench.Output{Stdout: recorded(t, "iperf3/3.12-refused.json")}, 1,
			`error: "unable to connect to server: Connection refused"`},
		{"busy", econbench.Output{Stdout: recorded(t, "iperf3/3.18-busy.json"), ExitCode: 1}, 1,
			`error: "the server is busy running a test. try again later"`},
		{"server gone", econbench.Output{Stdout: recorded(t, "iperf3/3.18-server-gone.json"), ExitCode: 1}, 1,
			`error: "control socket has closed unexpectedly"`},
		{"empty", econbench.Output{}, 1, "error: output: unexpected end of JSON input: no output"},
		{"truncated", econbench.Output{Stdout: good[:len(good)/2]}, 1, "error: output: unexpected end of JSON input: "},
		{"killed", econbench.Output{Stdout: good[:len(good)/2], ExitCode: 137}, 1, "error: exit code 137: "},
		{"not started", econbench.Output{Stderr: []byte("exec: \"iperf3\": not found\n"), ExitCode: 127}, 1,
			`error: exit code 127: "exec: \"iperf3\": not found"`},
		{"garbage", econbench.Output{Stdout: []byte("iperf3: parameter error\n")}, 1, "error: output: invalid character"},
		{"nan", econbench.Output{Stdout: edited(`"sum_received":	{`, `"sum_received":	{"bits_per_second": nan,`)}, 1,
			"error: output: invalid character"},
		{"nothing received", econbench.Output{Stdout: edited(`"sum_received":	{`, `"sum_received":	{}, "x": {`)}, 1,
			"error: output: the receiver got 0 bytes"},
		{"new format", econbench.Output{Stdout: edited(`"sum_received":	{`, `"received":	{`)}, 1,
			"error: output: no start.test_start or end.sum_received in the report"},
		{"null", econbench.Output{Stdout: []byte("null")}, 1, "error: output: no start.test_start"},
	} {
		if got := told(iperf3{protocol: protocolOf(test.name), streams: test.streams}.read([]econbench.Output{test.out})); !strings.HasPrefix(got, test.want) || strings.Contains(got, "\n") {
			t.Errorf("%s:\n got %s\nwant %s", test.name, got, test.want)
		}
	}
}

// protocolOf is what a test's client was asked for.
func protocolOf(test string) string {
	if strings.HasPrefix(test, "UDP") {
		return "UDP"
	}
	return "TCP"
}

func TestReadNetperfRR(t *testing.T) {
	good := string(recorded(t, "netperf/2.7.1-1x1.txt"))
	edited := func(key, value string) econbench.Output {
		var b strings.Builder
		for line := range strings.Lines(good) {
			if strings.HasPrefix(line, key+"=") {
				line = value
			}
			b.WriteString(line)
		}
		return econbench.Output{Stdout: []byte(b.String())}
	}
	for _, test := range []struct {
		name string
		out  econbench.Output
		want string // beginning
	}{
		{"1x1", econbench.Output{Stdout: []byte(good)}, "tool_transactions=16900.5 latency_p50=6.9e-05 latency_p90=8.2e-05 latency_p99=0.000115 latency_mean=5.912e-05"},
		{"64k", econbench.Output{Stdout: recorded(t, "netperf/2.7.1-64kx64k.txt")}, "tool_transactions=10281.9 latency_p50=9.3e-05 latency_p90=0.000119 latency_p99=0.00017 latency_mean=9.718e-05"},
		{"refused", econbench.Output{Stdout: recorded(t, "netperf/2.7.1-refused.txt"), ExitCode: 255},
			`error: exit code 255: "establish_control could not establish the control connection from`},
		{"server gone", econbench.Output{Stderr: recorded(t, "netperf/2.7.1-server-gone.txt"), ExitCode: 1},
			`error: exit code 1: "netperf: send_omni: recv_data failed: Connection reset by peer"`},
		{"unknown selector", econbench.Output{Stdout: recorded(t, "netperf/2.7.1-unknown-selector.txt")},
			"error: output: no P50_LATENCY: truncated, or a netperf older than 2.7: "},
		{"empty", econbench.Output{}, "error: output: no TRANSACTION_RATE: truncated, or a netperf older than 2.7: no output"},
		{"truncated", econbench.Output{Stdout: []byte(good[:len(good)/2])}, "error: output: no P50_LATENCY: truncated"},
		{"terminated", econbench.Output{ExitCode: 143}, "error: exit code 143: no output"},
		{"complaint among values", econbench.Output{Stdout: []byte("recv_response: partial\n" + good), ExitCode: 1},
			`error: exit code 1: "recv_response: partial"`},
		{"no transactions", edited("TRANSACTION_RATE", "TRANSACTION_RATE=0.000\n"),
			`error: output: TRANSACTION_RATE="0.000", want a number above 0`},
		{"nan", edited("P99_LATENCY", "P99_LATENCY=-nan\n"), `error: output: P99_LATENCY="-nan", want a number above 0`},
		{"unit", edited("THROUGHPUT_UNITS", "THROUGHPUT_UNITS=10^6bits/s\n"),
			`error: output: THROUGHPUT_UNITS="10^6bits/s", want Trans/s`},
		{"stall", edited("MEAN_LATENCY", "MEAN_LATENCY=600\n"), "tool_transactions=16900.5 latency_p50=6.9e-05 latency_p90=8.2e-05 latency_p99=0.000115 latency_mean=0.0006 netperf: mean latency 600.0 µs does not fit"},
	} {
		if got := told(tcpRR.readAll([]econbench.Output{test.out}, 1)); !strings.HasPrefix(got, test.want) || strings.Contains(got, "\n") {
			t.Errorf("%s:\n got %s\nwant %s", test.name, got, test.want)
		}
	}
}

func FuzzReadIperf3(f *testing.F) {
	for _, name := range []string{"3.18-1", "3.12-4", "3.18-busy", "3.18-server-gone", "3.18-udp-4"} {
		f.Add(recorded(f, "iperf3/"+name+".json"))
	}
	f.Add([]byte(`{"start":{"test_start":{"protocol":"TCP","num_streams":1}},"end":{"sum_received":{"bytes":1,"bits_per_second":1e999}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, way := range ways {
			checkSamples(t)(iperf3{protocol: "TCP", streams: 1, way: way}.read([]econbench.Output{{Stdout: b}}))
			checkSamples(t)(iperf3{protocol: "UDP", streams: 1, way: way}.read([]econbench.Output{{Stdout: b}}))
		}
	})
}

// TestReadNetperf reads what the other tests print, alone and several clients together. In the stalls a rule of iptables
// dropped one datagram, or one SYN, on the server.
func TestReadNetperf(t *testing.T) {
	four := string(recorded(t, "netperf/2.7.1-4-flows.txt"))
	for _, test := range []struct {
		name  string
		of    netperf
		out   econbench.Output
		flows int
		want  string // beginning
	}{
		{"UDP", udpRR, econbench.Output{Stdout: recorded(t, "netperf/2.7.1-udp.txt")}, 1, "tool_transactions=33399.8 latency_p50=2.5e-05 latency_p90=2.8e-05 latency_p99=5.8e-05 latency_mean=2.986e-05"},
		{"UDP, a datagram dropped on its way", udpRR, econbench.Output{Stdout: recorded(t, "netperf/2.7.1-udp-stall.txt")}, 1,
			"error: stalled: 4491.4 transactions/s of 20.7 µs leave 1.81 of 2.00 s unaccounted for: a datagram was lost"},
		{"datagrams, 60 ms missing", udpRR, econbench.Output{Stdout: []byte("TRANSACTION_RATE=7000.2\nTHROUGHPUT_UNITS=Trans/s\nELAPSED_TIME=1.00\n" +
			"MEAN_LATENCY=134.6\nP50_LATENCY=130\nP90_LATENCY=150\nP99_LATENCY=200\nMAX_LATENCY=900\n")}, 1,
			"tool_transactions=7000.2 latency_p50=0.00013 latency_p90=0.00015 latency_p99=0.0002 latency_mean=0.0001346 netperf: 7000.2 transactions/s of 134.6 µs leave 0.06 of 1.00 s"},
		{"connections", tcpCRR, econbench.Output{Stdout: recorded(t, "netperf/2.7.1-crr.txt")}, 1, "tool_transactions=7152.22 latency_p50=0.000116"},
		{"connections, a SYN dropped", tcpCRR, econbench.Output{Stdout: recorded(t, "netperf/2.7.1-crr-stall.txt")}, 1,
			"error: stalled: a transaction took 1.01 s: a SYN was lost, or met a connection in TIME_WAIT"},
		{"connections, one slow", tcpCRR, econbench.Output{Stdout: []byte(strings.Replace(string(recorded(t, "netperf/2.7.1-crr.txt")), "=8574", "=310000", 1))}, 1,
			"tool_transactions=7152.22 latency_p50=0.000116 latency_p90=0.000153 latency_p99=0.000331 latency_mean=0.00013967 netperf: a transaction took 0.31 s"},
		{"connections, one never made", tcpCRR, econbench.Output{Stdout: recorded(t, "netperf/2.7.1-udp-stall.txt")}, 1,
			"error: stalled: the last transaction had not ended after 1.81 s"},
		{"four", tcpRR, econbench.Output{Stdout: []byte(four)}, 4,
			"tool_transactions=66496.8 latency_p50=6.2e-05 latency_p90=9.3e-05 latency_p99=0.000181 latency_mean=6.00378e-05"},
		{"four, asked for three", tcpRR, econbench.Output{Stdout: []byte(four)}, 3, "error: output: 4 clients, want 3"},
		{"four, one refused", tcpRR, econbench.Output{Stdout: recorded(t, "netperf/2.7.1-4-flows-refused.txt")}, 4,
			`error: exit code 255: "establish_control could not establish the control connection from`},
		{"four, truncated", tcpRR, econbench.Output{Stdout: []byte(four[:len(four)-60])}, 4, "error: output: no "},
		{"four, killed", tcpRR, econbench.Output{Stdout: []byte(four), ExitCode: 137}, 4, "error: exit code 137: "},
		{"four, no output", tcpRR, econbench.Output{}, 4, "error: exit code 0: no output"},
		{"four, no shell", tcpRR, econbench.Output{Stderr: []byte("exec: sh: not found"), ExitCode: 127}, 4, `error: exit code 127: "exec: sh: not found"`},
		{"four, garbage first", tcpRR, econbench.Output{Stdout: []byte("sh: 1: Cannot fork\n" + four)}, 4, "error: exit code 0: "},
		{"four, broken head", tcpRR, econbench.Output{Stdout: []byte(strings.Replace(four, "exit code 0", "exit code", 1))}, 4,
			`error: output: "1 exit code", want a client and its exit code`},
		{"one of four stalls", udpRR, econbench.Output{Stdout: []byte(strings.Replace(four, "MEAN_LATENCY=54.03", "MEAN_LATENCY=14.03", 1))}, 4,
			"error: stalled: 18478.7 transactions/s of 14.0 µs leave 0.74 of 1.00 s unaccounted for"},
	} {
		if got := told(test.of.readAll([]econbench.Output{test.out}, test.flows)); !strings.HasPrefix(got, test.want) || strings.Contains(got, "\n") {
			t.Errorf("%s:\n got %s\nwant %s", test.name, got, test.want)
		}
	}
}

func FuzzReadNetperfRR(f *testing.F) {
	for _, name := range []string{"1x1", "refused", "unknown-selector", "udp-stall", "crr-stall"} {
		f.Add(recorded(f, "netperf/2.7.1-"+name+".txt"))
	}
	f.Add([]byte("TRANSACTION_RATE=Inf\nP50_LATENCY=0x1p-3\n=\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, n := range []netperf{tcpRR, udpRR, tcpCRR} {
			checkSamples(t)(n.readAll([]econbench.Output{{Stdout: b}}, 1))
		}
	})
}

func FuzzReadNetperfFlows(f *testing.F) {
	for _, name := range []string{"4-flows", "4-flows-refused", "1x1"} {
		f.Add(recorded(f, "netperf/2.7.1-"+name+".txt"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for flows := range 4 {
			checkSamples(t)(tcpRR.readAll([]econbench.Output{{Stdout: b}}, 1+flows))
		}
	})
}

// checkSamples holds for any output: an error of one line, or samples that are all numbers above 0.
func checkSamples(t *testing.T) func([]econbench.Sample, []string, error) {
	return func(samples []econbench.Sample, _ []string, err error) {
		if err != nil {
			if len(samples) > 0 || strings.Contains(err.Error(), "\n") {
				t.Errorf("samples %v, error %q", samples, err)
			}
			return
		}
		if len(samples) == 0 {
			t.Error("neither samples nor an error")
		}
		for _, s := range samples {
			if !finite(s.Value) {
				t.Errorf("%s = %g", s.Metric, s.Value)
			}
		}
	}
}
