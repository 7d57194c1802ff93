// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/econbench/econbench"
	generator "github.com/econbench/econbench/internal/load"
)

// The files in testdata/load and testdata/h2load are what the generator and h2load 1.64 wrote in the tool image, untouched, in trials of 2 s.

// playedResult is what comes of a workload whose client is played.
func playedResult(t *testing.T, w econbench.Workload, given econbench.Params, play func([]string) econbench.Output) (econbench.Result, econbench.Flows, error) {
	t.Helper()
	p, err := w.Params(given)
	if err != nil {
		t.Fatal(err)
	}
	load, err := w.Start(t.Context(), &box{play: play}, p, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	r, err := load.Wait(t.Context())
	return r, load.Flows(), err
}

// byName are samples by metric, each of which may be there once.
func byName(t *testing.T, samples []econbench.Sample) map[string]float64 {
	t.Helper()
	m := map[string]float64{}
	for _, s := range samples {
		if _, twice := m[s.Metric]; twice {
			t.Errorf("%s twice", s.Metric)
		}
		m[s.Metric] = s.Value
	}
	return m
}

// TestGenerated draws from recorded reports what happened in a window: all that is promised, and nothing else.
func TestGenerated(t *testing.T) {
	for _, test := range []struct {
		workload     econbench.Workload
		given        econbench.Params
		file         string
		transactions string
		lacks        []string // what so few answers can't tell
	}{
		{Memcached{}, nil, "load/memcached.json", "transactions", []string{"latency_p9999"}},
		{Memcached{}, econbench.Params{"rate": "500"}, "load/memcached-open.json", "transactions", []string{"latency_p9999", "latency_p999"}},
		{Nginx{}, nil, "load/nginx.json", ToolTransactions, []string{"latency_p9999"}},
		{NginxConn{}, nil, "load/nginx_conn.json", ToolTransactions, []string{"latency_p9999", "latency_p999"}},
		{NginxH2{}, nil, "h2load/1.64.0.txt", "transactions", []string{"latency_p9999"}},
	} {
		out := recorded(t, test.file)
		r, flows, err := playedResult(t, test.workload, test.given, func([]string) econbench.Output { return econbench.Output{Stdout: out} })
		if err != nil {
			t.Errorf("%s: %v", test.file, err)
			continue
		}
		report, err := generator.ReadReport(out[max(0, bytes.LastIndex(out, []byte("\n{"))+1):])
		if err != nil {
			t.Fatal(err)
		}
		window := econbench.HostWindow{Start: time.Unix(0, report.Start).Add(310 * time.Millisecond), Seconds: 2}
		samples, _, err := r.Within(window)
		if err != nil {
			t.Errorf("%s: %v", test.file, err)
			continue
		}
		got := byName(t, samples)
		p, _ := test.workload.Params(test.given)
		want := append([]string{test.transactions, "latency_p50", "latency_p90", "latency_p99", "latency_mean"}, test.workload.(econbench.Measured).Metrics(p)...)
		for _, name := range want {
			_, ok := got[name]
			if lacks := strings.Contains(strings.Join(test.lacks, " ")+" ", name+" "); ok == lacks {
				t.Errorf("%s: %s there: %v", test.file, name, ok)
			}
		}
		if len(got) != len(want)-len(test.lacks) {
			t.Errorf("%s: %v, want %v", test.file, got, want)
		}
		if n := got[test.transactions]; n < 100 || got["latency_p50"] <= 0 || got["latency_p50"] > got["latency_p90"] || got["latency_p90"] > got["latency_p99"] || got["latency_p99"] > got["latency_max"] {
			t.Errorf("%s: %v", test.file, got)
		}
		if flows.ByClient != (test.transactions == "transactions") || flows.ByClient == (flows.RequestBytes > 0) {
			t.Errorf("%s: flows %+v", test.file, flows)
		}
		if _, _, err := r.Within(econbench.HostWindow{Start: window.Start, Seconds: 20}); err == nil {
			t.Errorf("%s: a window beyond the end: no error", test.file)
		}
	}
}

func TestGeneratorFails(t *testing.T) {
	good := string(recorded(t, "load/memcached.json"))
	for _, test := range []struct {
		out  econbench.Output
		want string
	}{
		{econbench.Output{Stderr: []byte("econbench: memcached: answer \"ERROR\" to get of key \"0\"\n"), ExitCode: 1}, `load generator: exit code 1: "econbench: memcached: answer`},
		{econbench.Output{}, "load generator: load report: unexpected end of JSON input"},
		{econbench.Output{Stdout: []byte(good[:len(good)/2])}, "load generator: load report: unexpected end of JSON input"},
		{econbench.Output{Stdout: []byte(strings.Replace(good, `"load":1`, `"load":2`, 1))}, "load generator: load report: version 2, want 1"},
	} {
		r, _, err := playedResult(t, Memcached{}, nil, func([]string) econbench.Output { return test.out })
		if err == nil || !strings.HasPrefix(err.Error(), test.want) || !bytes.Equal(r.Log, append(bytes.Clone(test.out.Stdout), test.out.Stderr...)) {
			t.Errorf("got %v, want %s", err, test.want)
		}
	}
	r, _, err := playedResult(t, Memcached{}, nil, func([]string) econbench.Output {
		return econbench.Output{Stdout: []byte(strings.Replace(good, `"errors":0,"gets"`, `"errors":3,"first_error":"why","gets"`, 1))}
	})
	if err != nil || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "3 requests of ") || !strings.HasSuffix(r.Warnings[0], "went wrong, the first one: why") {
		t.Errorf("%v, %q", err, r.Warnings)
	}
}

// TestGeneratorDoubts: what tells of the generator and not of the path is said.
func TestGeneratorDoubts(t *testing.T) {
	hist := func(ns int64) *hdrhistogram.Histogram {
		h := hdrhistogram.New(1, int64(time.Minute), 3)
		if err := h.RecordValues(ns, 1000); err != nil {
			t.Fatal(err)
		}
		return h
	}
	sound := generator.Cut{Seconds: 2, Answered: 1000, Due: 1000, CPUUser: 0.2, CPUSys: 1, Latency: hist(100_000), Lag: hist(9_000)}
	for _, test := range []struct {
		change func(*generator.Cut, *generator.Report)
		want   string
	}{
		{func(*generator.Cut, *generator.Report) {}, ""},
		{func(c *generator.Cut, _ *generator.Report) { c.CPUSys = 1.75 }, "busy for 98 % of the time, 10 % in its own code"},
		{func(c *generator.Cut, r *generator.Report) { c.CPUSys, r.Threads = 1.75, 2 }, ""},
		{func(c *generator.Cut, _ *generator.Report) { c.Lag = hist(11_000) }, "were sent 11.0 µs late or more"},
		{func(c *generator.Cut, r *generator.Report) { c.Lag, r.Open = hist(11_000), false }, ""},
		{func(c *generator.Cut, _ *generator.Report) { c.Answered = 900 }, "10 % were not answered in it"},
		{func(c *generator.Cut, _ *generator.Report) { c.Answered, c.Errors = 900, 100 }, ""},
		{func(c *generator.Cut, _ *generator.Report) { c.Beyond = 1 }, "1 answers took longer than a histogram holds"},
	} {
		c, r := sound, generator.Report{Open: true, Threads: 1}
		test.change(&c, &r)
		doubts := generatorDoubts(&r, c)
		if test.want == "" && len(doubts) != 0 || test.want != "" && (len(doubts) != 1 || !strings.Contains(doubts[0], test.want)) {
			t.Errorf("got %q, want %q", doubts, test.want)
		}
	}
}

// TestNginxAnswer holds the computed size against answers of nginx with that configuration: 1244 B and 151 B.
func TestNginxAnswer(t *testing.T) {
	for size, want := range map[int]int{0: 151, 1024: 1244} {
		if got := nginxAnswer(size); got != want {
			t.Errorf("size %d: %d, want %d", size, got, want)
		}
	}
}

// TestRequestBytes: all paths of a size ask with as many bytes, and the flows have that many.
func TestRequestBytes(t *testing.T) {
	for _, w := range []econbench.Workload{Nginx{}, NginxConn{}} {
		var line string
		_, flows, _ := playedResult(t, w, econbench.Params{"size": "64"}, func(argv []string) econbench.Output {
			line = strings.Join(argv, " ")
			return econbench.Output{}
		})
		for _, path := range nginxPaths(64) {
			request := generator.HTTPRequest(fmt.Sprintf("127.0.0.1:%d", flows.ServerPort), path, w.Name() == "nginx_conn")
			if len(request) != flows.RequestBytes || !strings.Contains(line, path) {
				t.Errorf("%s: %q of %d bytes, flows say %d; %s", w.Name(), request, len(request), flows.RequestBytes, line)
			}
		}
	}
}

func TestReadH2load(t *testing.T) {
	good := string(recorded(t, "h2load/1.64.0.txt"))
	edited := func(old, new string) []byte {
		s := strings.Replace(good, old, new, 1)
		if s == good {
			t.Fatalf("recorded output has no %q", old)
		}
		return []byte(s)
	}
	for _, test := range []struct {
		stdout []byte
		want   string // error, or warning
	}{
		{[]byte(good), ""},
		{edited("0 failed", "7 failed"), " 7 failed, 0 errored, 0 timeout"},
		{edited(" done,", "0 done,"), "in its log"},
		{edited("requests: ", "requests:"), "output: no sum of requests"},
		{edited("\n{", "{"), "output: no sum of requests, or no report"},
		{edited("\n{", "\n{{"), "load report: "},
		{nil, "output: no sum of requests, or no report behind it: no output"},
	} {
		r, err := readH2load(test.stdout)
		told := fmt.Sprint(err)
		if err == nil {
			told = strings.Join(r.Warnings, " ")
		}
		if test.want == "" && told != "" || !strings.Contains(told, test.want) {
			t.Errorf("got %s, want %s", told, test.want)
		}
	}
}

func TestReadWrk(t *testing.T) {
	good := string(recorded(t, "wrk/4.1.0.txt"))
	edited := func(old, new string) econbench.Output {
		s := strings.Replace(good, old, new, 1)
		if s == good {
			t.Fatalf("recorded output has no %q", old)
		}
		return econbench.Output{Stdout: []byte(s)}
	}
	for name, test := range map[string]struct {
		out  econbench.Output
		want string // beginning
	}{
		"good": {econbench.Output{Stdout: []byte(good)},
			"tool_transactions=1252.1 errors=0 latency_p50=0.00246 latency_p90=0.02073 latency_p99=0.05696 latency_mean=0.00701 latency_max=0.07751"},
		"404": {econbench.Output{Stdout: recorded(t, "wrk/4.1.0-404.txt")},
			"tool_transactions=0 errors=968.468 wrk: Non-2xx or 3xx responses: 1075 wrk: such answers are in its percentiles, which are left out therefore"},
		"closed": {econbench.Output{Stdout: recorded(t, "wrk/4.1.0-closed.txt")},
			`error: output: "  0 requests in 1.03s, 0.00B read": want requests and a time above 0`},
		"some timeouts": {edited("Requests/sec", "  Socket errors: connect 0, read 1, write 0, timeout 308\nRequests/sec"),
			"tool_transactions=1252.1 errors=100 latency_p50=0.00246"},
		"refused":   {econbench.Output{Stderr: []byte("unable to connect to 127.0.0.1:1 Connection refused\n"), ExitCode: 1}, `error: exit code 1: "unable to connect to 127.0.0.1:1 Connection refused"`},
		"truncated": {econbench.Output{Stdout: []byte(good[:300])}, "error: exit code 0: "},
		"no shares": {edited("     90%", "     9x%"), "error: output: 3 percentiles of 4"},
		"no unit":   {edited("56.96ms", "56.96"), `error: output: latency_p99: "56.96": want a time as in 123.45us`},
		"nan":       {edited("7.01ms", "-nan"), `error: output: latency_mean: "-nan": want a time`},
	} {
		if got := told(readWrk(test.out)); !strings.HasPrefix(got, test.want) {
			t.Errorf("%s:\n got %s\nwant %s", name, got, test.want)
		}
	}
}

func FuzzReadWrk(f *testing.F) {
	for _, name := range []string{"wrk/4.1.0.txt", "wrk/4.1.0-404.txt", "wrk/4.1.0-closed.txt"} {
		f.Add(recorded(f, name))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		samples, warnings, err := readWrk(econbench.Output{Stdout: b})
		for _, s := range samples {
			if err == nil && !(s.Value >= 0 && s.Value < 1e30) {
				t.Errorf("%s=%g", s.Metric, s.Value)
			}
		}
		if strings.Contains(told(nil, warnings, err), "\n") {
			t.Errorf("several lines: %q, %v", warnings, err)
		}
	})
}

func FuzzReadH2load(f *testing.F) {
	f.Add([]byte("requests: 1 total, 1 started, 1 done, 1 succeeded, 0 failed, 0 errored, 0 timeout\n\n" +
		`{"load":1,"threads":1,"start":5,"slice_length":0.025,"elapsed":1,"answered":1,"slices":[{"start":5,"answered":1}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := readH2load(b); err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("several lines: %v", err)
		}
	})
}
