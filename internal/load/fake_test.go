// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fake is a memcached that can be told to misbehave. It serves data and control on one port.
type fake struct {
	mu         sync.Mutex
	items      map[string]string
	gets, sets int
	hits       int

	extraGets int                                    // that it claims to have served beside
	answer    func(n int, line, right string) string // of the n-th get, from 1 on; nil: the right one
}

// listen serves on loopback until the test is over.
func listen(t testing.TB, serve func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go serveAll(l, serve)
	return netip.MustParseAddrPort(l.Addr().String())
}

func (f *fake) serve(c net.Conn) {
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\r\n")
		answer, err := f.handle(line, in)
		if err != nil {
			return
		}
		if _, err := io.WriteString(c, answer); err != nil || answer == "" {
			return // "": it closes in the middle
		}
	}
}

func (f *fake) handle(line string, in *bufio.Reader) (string, error) {
	words := strings.Fields(line)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case line == "flush_all":
		f.items = map[string]string{}
		return "OK\r\n", nil
	case line == "stats":
		return fmt.Sprintf("STAT pid 1\r\nSTAT cmd_get %d\r\nSTAT cmd_set %d\r\nSTAT get_hits %d\r\nSTAT evictions 0\r\nEND\r\n", f.gets+f.extraGets*f.gets, f.sets, f.hits), nil
	case len(words) == 5 && words[0] == "set":
		size, _ := strconv.Atoi(words[4])
		b := make([]byte, size+2)
		if _, err := io.ReadFull(in, b); err != nil {
			return "", err
		}
		f.items[words[1]] = string(b[:size])
		f.sets++
		return "STORED\r\n", nil
	case len(words) == 2 && words[0] == "get":
		f.gets++
		right := "END\r\n"
		if v, ok := f.items[words[1]]; ok {
			f.hits++
			right = fmt.Sprintf("VALUE %s 0 %d\r\n%s\r\nEND\r\n", words[1], len(v), v)
		}
		if f.answer != nil {
			return f.answer(f.gets, line, right), nil
		}
		return right, nil
	}
	return "ERROR\r\n", nil
}

// memcachedOptions ask a fake for a fifth of a second.
func memcachedOptions(at netip.AddrPort) Options {
	return Options{Protocol: Memcached, Server: at, Control: at, Connections: 3, Threads: 1, Pipeline: 1, Duration: 200 * time.Millisecond,
		Keys: 50, GetShare: 0.8, KeySize: Sizes{Low: 5, High: 40}, Value: Sizes{Low: 1, High: 3000}}
}

func TestMemcached(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"closed":      func(*Options) {},
		"pipeline":    func(o *Options) { o.Pipeline = 8 },
		"two threads": func(o *Options) { o.Threads = 2 },
		"open":        func(o *Options) { o.Rate = 2000 },
		"ETC":         func(o *Options) { o.KeySize, o.Value, o.Zipf = Sizes{ETC: true}, Sizes{ETC: true}, 0.99 },
		"large":       func(o *Options) { o.Value = Fixed(600000); o.Keys = 3 },
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{}
			o := memcachedOptions(listen(t, f.serve))
			change(&o)
			r, err := Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if r.Answered == 0 || r.Answered != r.Gets+r.Sets || r.Hits != r.Gets || r.Errors != 0 || len(r.Warnings) != 0 || r.Gets != f.gets || r.Sets != f.sets-o.Keys {
				t.Errorf("report %+v; the server had %d gets, %d sets", r, f.gets, f.sets)
			}
			sum, lag := 0, 0
			whole := newHistogram()
			for _, s := range r.Slices {
				sum += s.Answered
				if err := merge(whole, s.Latency); err != nil {
					t.Error(err)
				}
				if s.Lag != "" {
					lag++
				}
			}
			if sum != r.Answered || int(whole.TotalCount()) != r.Answered || (lag > 0) != r.Open {
				t.Errorf("slices hold %d answers, %d latencies, %d lags; report: %d", sum, whole.TotalCount(), lag, r.Answered)
			}
		})
	}
}

// TestMemcachedMisbehaves: whatever is not the right answer ends the run with an error that quotes it.
func TestMemcachedMisbehaves(t *testing.T) {
	tenth := func(answer func(line, right string) string) func(int, string, string) string {
		return func(n int, line, right string) string {
			if n == 10 {
				return answer(line, right)
			}
			return right
		}
	}
	for name, test := range map[string]struct {
		answer func(int, string, string) string
		want   string
	}{
		"garbage":      {tenth(func(_, _ string) string { return "\x00\x01hello\r\n" }), `memcached: answer "\x00\x01hello" to get of key`},
		"server error": {tenth(func(_, _ string) string { return "SERVER_ERROR out of memory\r\n" }), `memcached: answer "SERVER_ERROR out of memory" to get of key`},
		"short value":  {tenth(func(_, right string) string { return strings.Replace(right, "\r\na", "\r\n", 1) }), "memcached: value of key "},
		"other size": {tenth(func(line, _ string) string { return "VALUE " + line[4:] + " 0 100000\r\n" }),
			`0 100000": want VALUE `},
		"other key": {tenth(func(_, _ string) string { return "VALUE nobody 0 1\r\nx\r\nEND\r\n" }), `memcached: answer "VALUE nobody 0 1": want VALUE `},
		"other value": {tenth(func(_, right string) string { return strings.Replace(right, "\r\na", "\r\nZ", 1) }),
			"memcached: value of key "},
		"closes":       {tenth(func(_, _ string) string { return "" }), "connection closed by the server, with 1 requests under way"},
		"endless line": {tenth(func(_, _ string) string { return strings.Repeat("x", 1000) }), "want a line"},
		"unasked":      {tenth(func(_, right string) string { return right + "END\r\n" }), "answer to no request: \"END\\r\\n\""},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{answer: test.answer}
			o := memcachedOptions(listen(t, f.serve))
			o.GetShare, o.Connections, o.Duration = 1, 1, time.Second
			_, err := Run(t.Context(), o)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// TestOtherClient: a server that did more than was asked of it from here had another client; one that did less is not to be believed.
func TestOtherClient(t *testing.T) {
	f := &fake{extraGets: 1}
	r, err := Run(t.Context(), memcachedOptions(listen(t, f.serve)))
	if err != nil || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "another client is at work") {
		t.Errorf("%v, %+v", err, r)
	}
	f = &fake{extraGets: -1}
	if _, err := Run(t.Context(), memcachedOptions(listen(t, f.serve))); err == nil || !strings.Contains(err.Error(), "did less than it answered") {
		t.Errorf("got %v", err)
	}
}

// stalls is a server that stops for a while, once, for all of its clients: the first get that comes so long after the first one.
type stalls struct {
	fake
	first atomic.Int64 // ns
	after time.Duration
	stall time.Duration
	once  sync.Once
}

func (s *stalls) serveStalling(c net.Conn) {
	s.mu.Lock()
	if s.answer == nil {
		s.answer = func(_ int, _, right string) string { // under the lock, so that everyone waits
			now := time.Now().UnixNano()
			s.first.CompareAndSwap(0, now)
			if time.Duration(now-s.first.Load()) >= s.after {
				s.once.Do(func() { time.Sleep(s.stall) })
			}
			return right
		}
	}
	s.mu.Unlock()
	s.serve(c)
}

// TestCoordinatedOmission: a server stalls once, for a fifth of the time. In an open loop all those requests are slow that were due
// meanwhile, a fifth of all; in a closed loop one a connection is, of thousands.
func TestCoordinatedOmission(t *testing.T) {
	const stall = 200 * time.Millisecond
	share := map[float64]float64{}
	for _, rate := range []float64{0, 1000} {
		s := &stalls{after: 300 * time.Millisecond, stall: stall}
		o := memcachedOptions(listen(t, s.serveStalling))
		o.Rate, o.Duration, o.GetShare, o.Value = rate, time.Second, 1, Fixed(100)
		r, err := Run(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		whole := newHistogram()
		for _, s := range r.Slices {
			if err := merge(whole, s.Latency); err != nil {
				t.Fatal(err)
			}
		}
		slow, waited := 0.0, 0
		for _, bar := range whole.Distribution() {
			if bar.From >= int64(stall/10) {
				slow += float64(bar.Count)
			}
			if bar.From >= int64(stall*9/10) {
				waited += int(bar.Count)
			}
		}
		share[rate] = slow / float64(whole.TotalCount())
		if whole.Max() < int64(stall*9/10) {
			t.Errorf("rate %g: longest %v: the stall of %v is not in it", rate, time.Duration(whole.Max()), stall)
		}
		if p99 := whole.ValueAtPercentile(99); rate > 0 && p99 < int64(stall/2) {
			t.Errorf("open loop: P99 %v, want the stall of %v to show in it", time.Duration(p99), stall)
		}
		if rate == 0 && waited > 3*o.Connections {
			t.Errorf("closed loop: %d requests took as long as the stall, of %d connections", waited, o.Connections)
		}
	}
	// A crowded machine makes more of the requests slow in either loop; the open one has those that were due in the stall at least.
	if share[1000] < 0.1 {
		t.Errorf("open loop: %.3f of the requests were slow, want about 0.2", share[1000])
	}
	t.Logf("slow: closed loop %.4f, open loop %.4f", share[0], share[1000])
}

// TestStalledForGood: a run ends though its answers do not come.
func TestStalledForGood(t *testing.T) {
	done := make(chan struct{})
	t.Cleanup(func() { close(done) })
	f := &fake{}
	at := listen(t, f.serve)
	o := memcachedOptions(at)
	o.Server = listen(t, func(net.Conn) { <-done })
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "3 requests were not answered within") {
		t.Errorf("got %v", err)
	}
}

// TestNobodyThere: connections that are refused say so.
func TestNobodyThere(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(l.Addr().String())
	l.Close()
	f := &fake{}
	o := memcachedOptions(at)
	o.Control = listen(t, f.serve)
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "connect to "+at.String()+": connection refused") {
		t.Errorf("got %v", err)
	}
}
