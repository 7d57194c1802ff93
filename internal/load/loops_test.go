// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// asServer makes the test's program a server of its own, so that a benchmark's CPU time is the client's alone.
const asServer = "ECONBENCH_LOAD_TEST_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(asServer) != "" {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(l.Addr())
		go func() { // ends with whoever started it
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		}()
		serveAll(l, missAll)
		return
	}
	os.Exit(m.Run())
}

// missAll answers each get with a miss.
func missAll(c net.Conn) {
	in := bufio.NewReader(c)
	for {
		if _, err := in.ReadSlice('\n'); err != nil {
			return
		}
		if _, err := io.WriteString(c, "END\r\n"); err != nil {
			return
		}
	}
}

func serveAll(l net.Listener, serve func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			serve(c)
		}()
	}
}

func startServer(b *testing.B) netip.AddrPort {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asServer+"=1", "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		stdin.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return netip.MustParseAddrPort(strings.TrimSpace(line))
}

// BenchmarkLoops holds the event loop against what one would write first in Go: a goroutine for each connection, with reads that
// its netpoller wakes. Both ask a server in another process in a closed loop. Run it with -cpu 1, as an endpoint has one CPU.
func BenchmarkLoops(b *testing.B) {
	server := startServer(b)
	for _, connections := range []int{1, 32} {
		for name, drive := range map[string]func(*testing.B, Options) *recorder{"epoll": byEpoll, "goroutines": byGoroutines} {
			b.Run(fmt.Sprintf("%s/%d", name, connections), func(b *testing.B) {
				o := Options{Protocol: Memcached, Server: server, Connections: connections, Threads: 1, Pipeline: 1, Duration: time.Second,
					Keys: 1, GetShare: 1, KeySize: Fixed(30), Value: Fixed(1)}
				for range b.N {
					before := processUsage()
					r := drive(b, o)
					after := processUsage()
					n := float64(r.total().answered)
					b.ReportMetric((after.user+after.system-before.user-before.system)/n*1e9, "cpu-ns/request")
					b.ReportMetric(n/o.Duration.Seconds(), "requests/s")
				}
			})
		}
	}
}

func byEpoll(b *testing.B, o Options) *recorder {
	b.Helper()
	space, choose, sent := newKeyspace(o), newChooser(o, 0), [2]int{}
	w, err := newWorker(o, 0, func(int) session { return newMemcached(space, choose, &sent) })
	if err != nil {
		b.Fatal(err)
	}
	defer w.close()
	w.begin = time.Now()
	ended := make(chan error)
	go func() { ended <- w.run() }() // the thread is locked to it and ends with it
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	w.record.roll(o.Duration + sliceLength)
	return w.record
}

func byGoroutines(b *testing.B, o Options) *recorder {
	b.Helper()
	r := newRecorder(o.Duration, processUsage)
	var lock sync.Mutex
	var all sync.WaitGroup
	begin := time.Now()
	for range o.Connections {
		c, err := net.Dial("tcp4", o.Server.String())
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		all.Go(func() {
			request, buf := append(append([]byte("get "), keyOf(0, 30)...), "\r\n"...), make([]byte, 4096)
			for began := time.Since(begin); began < o.Duration; {
				if _, err := c.Write(request); err != nil {
					b.Error(err)
					return
				}
				n, err := c.Read(buf)
				if err != nil || !bytes.Equal(buf[:n], []byte("END\r\n")) {
					b.Errorf("%v, %q", err, buf[:n])
					return
				}
				now := time.Since(begin)
				lock.Lock()
				r.roll(now)
				r.now.answered++
				r.latency.add(now - began)
				lock.Unlock()
				began = now
			}
		})
	}
	all.Wait()
	r.roll(time.Since(begin) + sliceLength)
	return r
}
