// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/econbench/econbench"
)

// The command lines a workload may run. Changing one changes what is measured: look at it twice.
var commandLines = map[string][]string{
	"tcp_stream": {
		"iperf3 -s -B 127.0.0.1 -p 25201 -i 0 --rcv-timeout 10000",
		"ss -Hltn sport = :25201",
		"iperf3 -c 127.0.0.1 -p 25201 -J -i 0 -t 3 -P 1 -l 131072 --connect-timeout 3000",
	},
	"tcp_rr": {
		"netserver -D -4 -L 127.0.0.1 -p 25301",
		"ss -Hltn sport = :25301",
		"netperf -P 0 -4 -t TCP_RR -l 3 -H 127.0.0.1 -p 25301 -- -D -P ,25302 -r 1,1 -k " + selectors,
	},
	"tcp_crr": {
		"netserver -D -4 -L 127.0.0.1 -p 25701",
		"ss -Hltn sport = :25701",
		"netperf -P 0 -4 -t TCP_CRR -l 3 -H 127.0.0.1 -p 25701 -- -D -P ,25702 -p 10000,24976 -r 1,1 -k " + selectors,
	},
	"udp_stream": {
		"iperf3 -s -B 127.0.0.1 -p 25221 -i 0 --rcv-timeout 10000",
		"ss -Hltn sport = :25221",
		"iperf3 -c 127.0.0.1 -p 25221 -J -i 0 -t 3 -P 1 -u -l 1400 -b 224000000 -w 212992 --connect-timeout 3000",
	},
	"udp_rr": {
		"netserver -D -4 -L 127.0.0.1 -p 25501",
		"ss -Hltn sport = :25501",
		"netperf -P 0 -4 -t UDP_RR -l 3 -H 127.0.0.1 -p 25501 -- -P 25502,25502 -r 1,1 -k " + selectors,
	},
	"memcached": {
		"memcached -u memcache -U 0 -m 1024 -c 2048 -t 1 -l 127.0.0.1:25851,127.0.0.1:25852",
		"ss -Hltn sport = :25852",
		"/econbench load memcached --server 127.0.0.1:25852 --connections 4 --threads 1 --pipeline 1 --rate 0 --duration 2.7s --seed 1 " +
			"--control 127.0.0.1:25851 --keys 20000 --gets 0.9677 --key-size etc --value-size etc --zipf 0.99",
	},
	"nginx": {
		nginxLine("nginx", 25861, ""),
		"ss -Hltn sport = :25862",
		"/econbench load http --server 127.0.0.1:25862 --connections 4 --threads 1 --pipeline 1 --rate 0 --duration 2.7s --seed 1 " +
			"--control 127.0.0.1:25861 --paths /0001024/0,/0001024/1,/0001024/2,/0001024/3 --body 1024",
	},
	"nginx_conn": {
		nginxLine("nginx_conn", 25871, "sendfile off;"),
		"ss -Hltn sport = :25872",
		"/econbench load http --server 127.0.0.1:25872 --connections 4 --threads 1 --pipeline 1 --rate 0 --duration 2.7s --seed 1 " +
			"--control 127.0.0.1:25871 --paths /0001024/0,/0001024/1,/0001024/2,/0001024/3 --body 1024 --connect --ports 10000-24975",
	},
	"nginx_h2": {
		nginxLine("nginx_h2", 25881, "http2 on; sendfile off;"),
		"ss -Hltn sport = :25882",
		`sh -c log=/run/econbench/h2load.log; rm -f $log; "$@" --log-file=$log || exit $?; exec /econbench load h2load-log $log sh h2load -t 1 -c 4 -m 1 -D 700ms ` +
			"http://127.0.0.1:25882/0001024/0 http://127.0.0.1:25882/0001024/1 http://127.0.0.1:25882/0001024/2 http://127.0.0.1:25882/0001024/3",
	},
}

// nginxLine is the command line of a workload's nginx.
func nginxLine(name string, control int, http2 string) string {
	const line = `sh -c set -e; mkdir -p /run/econbench/NAME
for size in $2; do mkdir -p /run/econbench/NAME/$size; for i in $3; do head -c $size /dev/zero >/run/econbench/NAME/$size/$i; done; done
printf %s "$1" >/run/econbench/NAME/nginx.conf
exec nginx -p /run/econbench/NAME -e stderr -c /run/econbench/NAME/nginx.conf
 nginx daemon off;
user www-data;
worker_processes 1;
pid /run/econbench/NAME/nginx.pid;
events { worker_connections 4096; }
http {
	access_log off;
	server_tokens off;
	etag off;
	sendfile on;
	tcp_nopush on;
	tcp_nodelay on;
	keepalive_timeout 1h;
	keepalive_requests 1000000000;
	open_file_cache max=200 inactive=1h;
	default_type application/octet-stream;
	server {
		listen 127.0.0.1:PORT backlog=4096;
		HTTP2
		root /run/econbench/NAME;
		location /0000000/ { return 200 "ok"; }
	}
	server {
		listen 127.0.0.1:CONTROL;
		location = /status { stub_status; }
	}
}
 0000064 0000128 0000256 0000512 0001024 0002048 0004096 0008192 0016384 0032768 0065536 0131072 0262144 0524288 1048576 2097152 4194304 0 1 2 3`
	return strings.NewReplacer("NAME", name, "PORT", strconv.Itoa(control+1), "CONTROL", strconv.Itoa(control), "HTTP2", http2).Replace(line)
}

// miceLines are those of mice.
var miceLines = []string{
	"iperf3 -s -B 127.0.0.1 -p 25241 -i 0 --rcv-timeout 10000",
	"ss -Hltn sport = :25241",
	"netserver -D -4 -L 127.0.0.1 -p 26101",
	"ss -Hltn sport = :26101",
	"iperf3 -c 127.0.0.1 -p 25241 -J -i 0 -t 11 -P 1 -l 131072 --connect-timeout 3000",
	"ss -Htin state established dport = :25241",
	"netperf -P 0 -4 -t TCP_RR -l 3 -H 127.0.0.1 -p 26101 -- -D -P ,26102 -r 1,1 -k " + selectors,
}

func init() { commandLines["mice"] = miceLines }

const selectors = "TRANSACTION_RATE,THROUGHPUT_UNITS,ELAPSED_TIME,MEAN_LATENCY,P50_LATENCY,P90_LATENCY,P99_LATENCY,STDDEV_LATENCY,MAX_LATENCY"

// TestFlowsAtOnce: several flows are one program of the engine's, with a client on a port of its own for each, and with client
// ports of its own where connections come and go.
func TestFlowsAtOnce(t *testing.T) {
	for _, test := range []struct {
		workload econbench.Workload
		flows    string
		want     []string // in the script
	}{
		{tcpRR, "2", []string{"client 0 netperf -P 0 -4 -t TCP_RR -l 5 -H 127.0.0.1 -p 25301 -- -D -P ,25302 -r 1,1 -k " + selectors + " &\n",
			"client 1 netperf ", " -P ,25303 ", "&\nwait"}},
		{udpRR, "128", []string{"client 127 netperf ", " -P 25629,25629 "}},
		{tcpCRR, "2", []string{" -P ,25702 -p 10000,17488 ", " -P ,25703 -p 17488,24976 "}},
		{tcpCRR, "128", []string{" -P ,25829 -p 24859,24976 "}},
	} {
		box := &box{play: func([]string) econbench.Output { return econbench.Output{} }}
		p, err := test.workload.Params(econbench.Params{"flows": test.flows})
		if err != nil {
			t.Fatal(err)
		}
		load, err := test.workload.Start(t.Context(), box, p, 1995*time.Millisecond) // 5 ms a client are more than 2 s
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range test.want {
			if len(box.lines) != 1 || !strings.HasPrefix(box.lines[0], "sh -c client() {") || !strings.Contains(box.lines[0], want) {
				t.Errorf("%s: no %q in\n%s", test.workload.Name(), want, box.lines)
			}
		}
		if f := load.Flows(); strconv.Itoa(f.Count) != test.flows || f.Ports != f.Count || f.RequestBytes != 1 || f.ResponseBytes != 1 {
			t.Errorf("%s: flows %+v", test.workload.Name(), f)
		}
	}
}

// TestClientsTogether has a real shell run the script: every client's output and exit code comes back whole.
func TestClientsTogether(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("needs a shell")
	}
	p, err := startReal(together([][]string{{"echo", "one", "line"}, {"false"}, {"no-such-program"}}))
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all, err := apart(out, 3)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range all {
		got = append(got, fmt.Sprintf("%d %q", o.ExitCode, strings.TrimSpace(string(o.Stdout)[:min(8, len(o.Stdout))])))
	}
	slices.Sort(got)
	if want := []string{`0 "one line"`, `1 ""`, `127 "sh: 1: n"`}; got[0] != want[0] || got[1] != want[1] || !strings.HasPrefix(got[2], "127 ") {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestOfferedRate: iperf3 is told the bits of payload of one stream.
func TestOfferedRate(t *testing.T) {
	for _, test := range []struct {
		given econbench.Params
		want  string
	}{
		{econbench.Params{"rate": "1000", "message": "100"}, " -P 1 -u -l 100 -b 800000 "},
		{econbench.Params{"rate": "100000", "message": "1400", "streams": "8"}, " -P 8 -u -l 1400 -b 140000000 "},
	} {
		box := &box{play: playRecorded}
		p, err := UDPStream{}.Params(test.given)
		if err != nil {
			t.Fatal(err)
		}
		load, err := UDPStream{}.Start(t.Context(), box, p, time.Second)
		if err != nil || !strings.Contains(box.lines[0], test.want) {
			t.Fatalf("%v, %q: no %q", err, box.lines, test.want)
		}
		if f := load.Flows(); strconv.Itoa(f.MessageBytes) != p["message"] || f.RequestBytes != 0 || f.Kind != econbench.DatagramFlows {
			t.Errorf("flows %+v", f)
		}
	}
}

// TestCoverage: what a fast path is asked for lies between nothing and all, and is asked of the way that carries data.
func TestCoverage(t *testing.T) {
	for _, w := range All() {
		c := w.(econbench.Covered).Coverage(nil)
		if c.ToServer <= 0 || c.ToServer >= 1 || c.ToClient < 0 || c.ToClient >= 1 || (c.ToClient == 0) != (w.Name() == "udp_stream") {
			t.Errorf("%s: %+v", w.Name(), c)
		}
	}
}

// tools are the workloads whose programs do nothing but measure; applications have tests of their own.
func tools() []econbench.Workload {
	return slices.DeleteFunc(All(), func(w econbench.Workload) bool { return commandLines[w.Name()] == nil })
}

// TestRun serves and runs every workload twice on one server. Where the tools are installed it is they that run, over
// loopback; elsewhere, and where econbench's own generator is in the container, recorded outputs are played.
func TestRun(t *testing.T) {
	for _, w := range tools() {
		t.Run(w.Name(), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			box := newBox(w)
			server, err := w.Serve(ctx, box)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := errors.Join(server.Close(ctx), server.Close(ctx)); err != nil {
					t.Error(err)
				}
			}()
			for range 2 {
				runOnce(ctx, t, w, box)
			}
			if got := slices.Compact(slices.Sorted(slices.Values(box.lines))); !slices.Equal(got, slices.Sorted(slices.Values(commandLines[w.Name()]))) {
				t.Errorf("ran\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(commandLines[w.Name()], "\n\t"))
			}
		})
	}
}

func runOnce(ctx context.Context, t *testing.T, w econbench.Workload, box *box) {
	t.Helper()
	params, err := w.Params(nil)
	if err != nil {
		t.Fatal(err)
	}
	load, err := w.Start(ctx, box, params, 100*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if f := load.Flows(); f.ServerPort == 0 || strconv.Itoa(f.Count) != cmp.Or(params["connections"], "1") {
		t.Errorf("flows %+v", f)
	}
	result, err := load.Wait(ctx)
	if err != nil {
		t.Fatalf("%v; log:\n%s", err, result.Log)
	}
	if len(result.Samples) == 0 || len(result.Log) == 0 {
		t.Errorf("result %+v", result)
	}
	t.Log(told(result.Samples, result.Warnings, nil))
	if err := load.Close(ctx); err != nil {
		t.Error(err)
	}
}

// TestAborted kills a client in the middle; the server must serve the next one.
func TestAborted(t *testing.T) {
	for _, w := range tools() {
		t.Run(w.Name(), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			box := newBox(w)
			server, err := w.Serve(ctx, box)
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close(ctx)
			params, _ := w.Params(nil)
			load, err := w.Start(ctx, box, params, 5*time.Second) // abortedSeconds, less goesOn
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(200 * time.Millisecond) // some way into the test; nothing is waited for
			if err := load.Close(ctx); err != nil {
				t.Fatal(err)
			}
			if _, err := load.Wait(ctx); err == nil || strings.Contains(err.Error(), "\n") {
				t.Errorf("a killed client's error: %v", err)
			}
			runOnce(ctx, t, w, box)
		})
	}
}

func TestServerThatDoesNotCome(t *testing.T) {
	for _, test := range []struct {
		name string
		play func(argv []string) econbench.Output
		want string
	}{
		{"port taken", func(argv []string) econbench.Output {
			if argv[0] == "ss" {
				return econbench.Output{}
			}
			return econbench.Output{Stderr: []byte("iperf3: error - unable to start listener for connections: Address already in use\niperf3: exiting\n"), ExitCode: 1}
		}, `iperf3 server: exit code 1: "iperf3: error - unable to start listener for connections: Address already in use"`},
		{"no ss in the image", func(argv []string) econbench.Output {
			if argv[0] != "ss" {
				return econbench.Output{ExitCode: -1}
			}
			return econbench.Output{Stderr: []byte("exec: ss: not found\n"), ExitCode: 127}
		}, `iperf3 server: look for listener: ss: exit code 127: "exec: ss: not found"`},
	} {
		box := &box{play: test.play}
		if _, err := (TCPStream{}).Serve(t.Context(), box); err == nil || err.Error() != test.want {
			t.Errorf("%s:\n got %v\nwant %s", test.name, err, test.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (TCPStream{}).Serve(ctx, &box{play: playRecorded}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

func TestWholeSeconds(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "1", 500 * time.Millisecond: "1", time.Second: "1", 1800 * time.Millisecond: "2", 10*time.Second + 1: "11"} {
		if got := wholeSeconds(d); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
}

// box is a testbed whose two ends are one container on loopback.
type box struct {
	play func(argv []string) econbench.Output // nil: run the programs

	mu    sync.Mutex
	lines []string
}

// newBox runs the real programs if all of them are there. econbench's own client is in no folder of the machine's.
func newBox(w econbench.Workload) *box {
	if _, ok := w.(econbench.Generating); ok {
		return &box{play: playRecorded}
	}
	for _, tool := range []string{"iperf3", "netperf", "netserver", "ss"} {
		if _, err := exec.LookPath(tool); err != nil {
			return &box{play: playRecorded}
		}
	}
	return &box{}
}

// abortedSeconds is the run time of the client that TestAborted kills.
const abortedSeconds = "7"

// playRecorded answers as the tools did; a server, or a client to be killed (exit code -1), runs until it is closed.
func playRecorded(argv []string) econbench.Output {
	read := func(name string) econbench.Output {
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			return econbench.Output{Stderr: []byte(err.Error()), ExitCode: 1}
		}
		return econbench.Output{Stdout: b}
	}
	switch {
	case argv[0] == "ss":
		if argv[1] == "-Htin" {
			return read("ss/elephants-1.txt")
		}
		return econbench.Output{Stdout: []byte("LISTEN 0 4096 127.0.0.1" + argv[4] + " 0.0.0.0:*\n")}
	case argv[0] == "netserver" || slices.Contains(argv, "-s") || slices.Contains(argv, abortedSeconds) || slices.Contains(argv, "25241"):
		return econbench.Output{ExitCode: -1}
	case argv[0] == "memcached" || slices.Contains(argv, "nginx") || slices.Contains(argv, "7.6s") || slices.Contains(argv, "5600ms"): // and start-up time; h2load can't be told
		return econbench.Output{ExitCode: -1}
	case slices.Contains(argv, "memcached"):
		return read("load/memcached.json")
	case slices.Contains(argv, "--connect"):
		return read("load/nginx_conn.json")
	case slices.Contains(argv, "http"):
		return read("load/nginx.json")
	case slices.Contains(argv, "h2load"):
		return read("h2load/1.64.0.txt")
	case slices.Contains(argv, "UDP_RR"):
		return read("netperf/2.7.1-udp.txt")
	case slices.Contains(argv, "TCP_CRR"):
		return read("netperf/2.7.1-crr.txt")
	case argv[0] == "netperf":
		return read("netperf/2.7.1-1x1.txt")
	case slices.Contains(argv, "-u"):
		return read("iperf3/3.18-udp-1.json")
	default:
		return read("iperf3/3.18-1.json")
	}
}

func (b *box) Client() econbench.Endpoint  { return b.endpoint() }
func (b *box) Server() econbench.Endpoint  { return b.endpoint() }
func (b *box) Path() econbench.Path        { return econbench.Path{} }
func (b *box) ID() string                  { return "box" }
func (b *box) PID() int                    { return os.Getpid() }
func (b *box) Addr() netip.Addr            { return netip.Addr{} }
func (b *box) Sandboxes() string           { return "" }
func (b *box) Close(context.Context) error { return nil }
func (b *box) endpoint() econbench.Endpoint {
	return econbench.Endpoint{Container: b, Addr: netip.MustParseAddr("127.0.0.1")}
}

func (b *box) Start(ctx context.Context, argv ...string) (econbench.Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b.mu.Lock()
	b.lines = append(b.lines, strings.Join(argv, " "))
	b.mu.Unlock()
	if b.play != nil {
		return &played{out: b.play(argv), closed: make(chan struct{})}, nil
	}
	return startReal(argv)
}

type played struct {
	out    econbench.Output
	closed chan struct{}
	once   sync.Once
}

func (p *played) Wait(ctx context.Context) (econbench.Output, error) {
	if p.out.ExitCode != -1 {
		return p.out, ctx.Err()
	}
	select {
	case <-p.closed:
		return econbench.Output{ExitCode: 137}, nil
	case <-ctx.Done():
		return econbench.Output{}, ctx.Err()
	}
}

func (p *played) Close(context.Context) error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

type realProcess struct {
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	ended          chan struct{}
	err            error
}

func startReal(argv []string) (econbench.Process, error) {
	p := &realProcess{cmd: exec.Command(argv[0], argv[1:]...), ended: make(chan struct{})}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = nil, io.Writer(&p.stdout), io.Writer(&p.stderr)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	go func() {
		defer close(p.ended)
		var exit *exec.ExitError
		if err := p.cmd.Wait(); err != nil && !errors.As(err, &exit) {
			p.err = err
		}
	}()
	return p, nil
}

func (p *realProcess) Wait(ctx context.Context) (econbench.Output, error) {
	select {
	case <-p.ended:
		return econbench.Output{Stdout: p.stdout.Bytes(), Stderr: p.stderr.Bytes(), ExitCode: p.cmd.ProcessState.ExitCode()}, p.err
	case <-ctx.Done():
		return econbench.Output{}, ctx.Err()
	}
}

func (p *realProcess) Close(context.Context) error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.ended
	return nil
}
