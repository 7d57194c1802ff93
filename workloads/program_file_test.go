// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"context"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/econbench/econbench"
)

// echo is a program whose every part is in use.
func echo() econbench.Program {
	return econbench.Program{
		Name: "echo", Server: []string{"echod", "--at={server}:{port}"}, Client: []string{"/opt/echo", "{{{server}}}", "{port}", "-t", "{seconds}", "-n", "{rate*seconds}", "{text}"},
		Params: econbench.Params{"size": "64", "rate": "1000", "text": "a b"}, Port: 26400, Primary: "transactions",
		Flows:   econbench.ProgramFlows{Kind: kindLasting, Count: "2", Request: "{size}", Response: "{size}"},
		Metrics: []econbench.ProgramMetric{{Name: "latency_p99", Regexp: `^p99 (\S+) us$`, Scale: 1e-6}, {Name: econbench.ClaimTransactions, Regexp: `rate=(\d+)`, Scale: 1}},
	}
}

func TestCheckPrograms(t *testing.T) {
	for _, wrong := range CheckPrograms([]econbench.Program{echo()}) {
		t.Errorf("%+v: %v", wrong, wrong.Err)
	}
	// Whatever a plan from a file may have, it is said and does not crash.
	for _, wrong := range []econbench.Program{{}, {Name: "x", Port: -1, Metrics: []econbench.ProgramMetric{{Name: "y", Scale: math.NaN()}}}} {
		if len(CheckPrograms([]econbench.Program{wrong})) < 5 {
			t.Errorf("%+v: found too little wrong", wrong)
		}
	}
}

// TestProgram runs the command lines as they are meant, without a shell.
func TestProgram(t *testing.T) {
	p := Program{echo()}
	box := &box{play: func(argv []string) econbench.Output {
		switch argv[0] {
		case "ss":
			return econbench.Output{Stdout: []byte("LISTEN 0 1 127.0.0.1:26400 0.0.0.0:*\n")}
		case "echod":
			return econbench.Output{ExitCode: -1}
		}
		return econbench.Output{Stdout: []byte("p99 7 us\np99 12.5 us\n"), Stderr: []byte("rate=31\n")}
	}}
	server, err := p.Serve(t.Context(), box)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close(context.Background())
	params, err := p.Params(econbench.Params{"size": "128"})
	if err != nil {
		t.Fatal(err)
	}
	load, err := p.Start(t.Context(), box, params, 1200*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	want := econbench.Flows{ServerPort: 26400, Count: 2, RequestBytes: 128, ResponseBytes: 128}
	if f := load.Flows(); f != want {
		t.Errorf("flows %+v, want %+v", f, want)
	}
	result, err := load.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := told(result.Samples, nil, nil); got != "latency_p99=1.25e-05 tool_transactions=31" {
		t.Errorf("samples %s", got)
	}
	lines := []string{"echod --at=127.0.0.1:26400", "ss -Hltn sport = :26400", "/opt/echo {127.0.0.1} 26400 -t 2 -n 2000 a b"}
	if !slices.Equal(box.lines, lines) {
		t.Errorf("ran %q\nwant %q", box.lines, lines)
	}
	if got := p.Metrics(nil); !slices.Equal(got, []string{"latency_p99"}) {
		t.Errorf("metrics %q: a claim is none", got)
	}
}

// TestProgramFails: what went wrong is said on one line, with what the client said last.
func TestProgramFails(t *testing.T) {
	for _, test := range []struct {
		out  econbench.Output
		want string
	}{
		{econbench.Output{ExitCode: 3, Stdout: []byte("a\n"), Stderr: []byte("one\n\ntwo\nthree\nfour\n")}, `echo client: exit code 3, want 0: "two", "three", "four"`},
		{econbench.Output{ExitCode: 1}, `echo client: exit code 1, want 0: no output`},
		{econbench.Output{Stdout: []byte("rate=3\np99 - us\n")}, `echo client: metric latency_p99: regexp "^p99 (\\S+) us$": found "-", want a number; its last lines: "rate=3", "p99 - us"`},
		{econbench.Output{Stdout: []byte("p99 Inf us\n")}, `found "Inf", want a number`},
		{econbench.Output{Stdout: []byte("p99 1 us\n")}, `echo client: metric tool_transactions: regexp "rate=(\\d+)" matches nothing that the client printed; its last lines: "p99 1 us"`},
	} {
		box := &box{play: func([]string) econbench.Output { return test.out }}
		p := Program{echo()}
		params, _ := p.Params(nil)
		load, err := p.Start(t.Context(), box, params, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if result, err := load.Wait(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") || len(result.Log) != len(test.out.Stdout)+len(test.out.Stderr) {
			t.Errorf("got  %v\nwant %s", err, test.want)
		}
	}
}

// chatty is a server whose output can be read while it runs.
type chatty struct {
	econbench.Process
	said string
}

func (c chatty) Printed() econbench.Output { return econbench.Output{Stderr: []byte(c.said)} }

func TestReadiness(t *testing.T) {
	def := echo()
	def.Ready = econbench.Readiness{Line: `^ready on (tcp|udp)$`}
	sign, err := (Program{def}).sign(nil)
	if err != nil {
		t.Fatal(err)
	}
	for said, want := range map[string]bool{"": false, "ready on tcp": false, "starting\r\nready on udp\r\n": true, "not ready on tcp\n": false} {
		if up, err := sign.look(t.Context(), chatty{said: said}); err != nil || up != want {
			t.Errorf("%q: %t, %v", said, up, err)
		}
	}
	if _, err := sign.look(t.Context(), &played{}); err == nil {
		t.Error("a process that tells nothing while it runs: no error")
	}
	for def, want := range map[string]string{kindLasting: "port 26400: not listening", kindDatagrams: "port 26400: no udp socket"} {
		p := Program{echo()}
		p.def.Flows.Kind = def
		if sign, err := p.sign(nil); err != nil || sign.missing != want {
			t.Errorf("%s: %q, %v", def, sign.missing, err)
		}
	}
	udp := Program{echo()}
	udp.def.Flows.Kind = kindDatagrams
	for found, want := range map[string]bool{"": false, "UNCONN 0 0 127.0.0.1:26400 0.0.0.0:*\n": true} {
		box := &box{play: func([]string) econbench.Output { return econbench.Output{Stdout: []byte(found)} }}
		sign, _ := udp.sign(box)
		if up, err := sign.look(t.Context(), nil); err != nil || up != want || box.lines[0] != "ss -Hlun sport = :26400" {
			t.Errorf("%q: %t, %v, by %q", found, up, err, box.lines)
		}
	}
}

func TestProgramServerThatDies(t *testing.T) {
	box := &box{play: func(argv []string) econbench.Output {
		if argv[0] == "ss" {
			return econbench.Output{}
		}
		return econbench.Output{ExitCode: 2, Stderr: []byte("no such option\n")}
	}}
	if _, err := (Program{echo()}).Serve(t.Context(), box); err == nil || err.Error() != `echod server: exit code 2: "no such option"` {
		t.Errorf("got %v", err)
	}
}

func TestProgramCoverage(t *testing.T) {
	for _, test := range []struct {
		kind, request string
		covered       *econbench.Coverage
		want          econbench.Coverage
	}{
		{kindLasting, "1", nil, econbench.Coverage{ToServer: nearlyAll, ToClient: nearlyAll}},
		{kindDatagrams, "", nil, econbench.Coverage{ToServer: nearlyAll}},
		{kindConnects, "1", nil, tcpCRR.coverage},
		{kindConnects, "1", &econbench.Coverage{}, econbench.Coverage{}},
	} {
		p := Program{econbench.Program{Flows: econbench.ProgramFlows{Kind: test.kind, Request: test.request}, Covered: test.covered}}
		if got := p.Coverage(nil); got != test.want {
			t.Errorf("%+v: %+v", test, got)
		}
	}
}

// TestExtract reads outputs that were recorded.
func TestExtract(t *testing.T) {
	p99 := func(row string) *econbench.CSVCell { return &econbench.CSVCell{Column: "p99_latency_ms", Row: row} }
	for _, test := range []struct {
		file string
		m    econbench.ProgramMetric
		want float64 // NaN: not there
	}{
		{"redis-8.0-csv.txt", econbench.ProgramMetric{CSV: p99("SET"), Scale: 1e-3}, 0.863e-3},
		{"redis-8.0-csv.txt", econbench.ProgramMetric{CSV: p99("1"), Scale: 1e-3}, 0.863e-3},
		{"redis-8.0-csv.txt", econbench.ProgramMetric{CSV: p99(""), Scale: 1}, 0.863},
		{"redis-8.0-csv.txt", econbench.ProgramMetric{CSV: &econbench.CSVCell{Column: "2", Row: "2"}, Scale: 1}, 9727.63},
		{"redis-8.0-csv.txt", econbench.ProgramMetric{CSV: p99("GET"), Scale: 1}, math.NaN()},
		{"redis-8.0-csv.txt", econbench.ProgramMetric{CSV: p99("2"), Scale: 1}, math.NaN()},
		{"redis-8.0-csv.txt", econbench.ProgramMetric{CSV: &econbench.CSVCell{Column: "9"}, Scale: 1}, math.NaN()},
		{"redis-8.0-timeout.txt", econbench.ProgramMetric{Regexp: `avg_msec=\S+ \(overall: ([\d.]+)\)`, Scale: 1e-3}, 0.065e-3}, // the last of several
		{"sockperf-3.7.txt", econbench.ProgramMetric{Regexp: `percentile 99\.000 = +([\d.]+)`, Scale: 2e-6}, 64.922e-6},
		{"sockperf-3.7.txt", econbench.ProgramMetric{Regexp: `Summary: Latency is ([\d.]+) usec$`, Scale: 2e-6}, 21.176e-6},
		{"sockperf-3.7-no-server.txt", econbench.ProgramMetric{Regexp: `Summary: Latency is ([\d.]+) usec`, Scale: 2e-6}, math.NaN()},
		{"../iperf3/3.18-1.json", econbench.ProgramMetric{JSON: "end.sum_received.bits_per_second", Scale: 0.125}, 0},
		{"../iperf3/3.18-4.json", econbench.ProgramMetric{JSON: "end.streams.#", Scale: 1}, 4},
		{"../iperf3/3.18-1.json", econbench.ProgramMetric{JSON: "end.sum_received", Scale: 1}, math.NaN()}, // an object
		{"../iperf3/3.18-1.json", econbench.ProgramMetric{JSON: "end.no.such", Scale: 1}, math.NaN()},
		{"sockperf-3.7.txt", econbench.ProgramMetric{JSON: "end", Scale: 1}, math.NaN()}, // no JSON
	} {
		b, err := os.ReadFile("testdata/programs/" + test.file)
		if err != nil {
			t.Fatal(err)
		}
		for _, out := range []econbench.Output{{Stdout: b}, {Stderr: b}} {
			got, err := extract(test.m, out)
			switch {
			case math.IsNaN(test.want) != (err != nil):
				t.Errorf("%s, %s: %v, %v", test.file, test.m.How(), got, err)
			case err == nil && test.want == 0 && got <= 0, err == nil && test.want != 0 && math.Abs(got/test.want-1) > 1e-9:
				t.Errorf("%s, %s: %v, want %v", test.file, test.m.How(), got, test.want)
			}
		}
	}
}

func TestExpand(t *testing.T) {
	values := map[string]string{wordServer: "10.0.0.1", wordPort: "80", wordSeconds: "3", "rate": "20", "path": "/a"}
	for word, want := range map[string]string{
		"{server}:{port}": "10.0.0.1:80", "{rate*seconds}": "60", "{{server}}": "{server}", `{{"a": {rate}}}`: `{"a": 20}`, "": "",
	} {
		if got, err := expand(word, values); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", word, got, err, want)
		}
	}
	for word, want := range map[string]string{
		"{": "not closed", "}": "closes nothing", "{x}": `unknown placeholder "x"`, "{}": `unknown placeholder ""`, "{path*seconds}": "want a whole number",
	} {
		if got, err := expand(word, values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, %v, want %q", word, got, err, want)
		}
	}
	values["rate"] = "9223372036854775807"
	if got, err := expand("{rate*seconds}", values); err == nil {
		t.Errorf("too large a product: %q", got)
	}
}

// FuzzExtract: whatever a client prints, there is a finite number or an error.
func FuzzExtract(f *testing.F) {
	for _, name := range []string{"redis-8.0-csv.txt", "sockperf-3.7.txt", "sockperf-3.7-no-server.txt", "../iperf3/3.18-refused.json"} {
		b, err := os.ReadFile("testdata/programs/" + name)
		if err != nil {
			f.Fatal(err)
		}
		for _, how := range []string{`= +([\d.]+)`, "p99_latency_ms", "end.sum.#", "a|@pretty"} {
			f.Add(b, how, "SET")
		}
	}
	f.Add([]byte("a,b\n\"x,1\n2,3"), "b", "-1")
	f.Add([]byte(`{"a":[{"b":1e999}]}`), "a.#.b|0", "")
	f.Fuzz(func(t *testing.T, printed []byte, how, row string) {
		for _, m := range []econbench.ProgramMetric{
			{Regexp: how, Scale: 1e-6}, {JSON: how, Scale: 1e300}, {CSV: &econbench.CSVCell{Column: how, Row: row}, Scale: 1},
		} {
			for _, out := range []econbench.Output{{Stdout: printed}, {Stderr: printed}} {
				if v, err := extract(m, out); err == nil && (math.IsNaN(v) || math.IsInf(v, 0)) {
					t.Errorf("%s: %v", m.How(), v)
				} else if err != nil && (v != 0 || strings.ContainsAny(err.Error(), "\n\r")) {
					t.Errorf("%s: %v with error %v", m.How(), v, err)
				}
			}
		}
	})
}

// FuzzExpand: what has no brace stays as it is, and no word makes it crash.
func FuzzExpand(f *testing.F) {
	for _, word := range []string{"{server}:{port}", "{{x}}", "{n*seconds}", "{", "}"} {
		f.Add(word)
	}
	f.Fuzz(func(t *testing.T, word string) {
		got, err := expand(word, map[string]string{wordServer: "s", wordPort: "1", wordSeconds: "2", "n": "3"})
		if !strings.ContainsAny(word, "{}") && (err != nil || got != word) {
			t.Errorf("%q: %q, %v", word, got, err)
		}
	})
}
