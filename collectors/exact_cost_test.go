// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
)

// BenchmarkExactCost is what counting costs a request-response on one CPU: two threads that send each other a datagram over
// loopback, so two changes of task and two softirqs a turn. The cases are what a CPU has of the emulated lab's two agents:
// none, one that counts it, another one that counts another CPU (split), two that count it (shared). Batches of the cases
// take turns and the best of each counts, 2 ms long: others on the machine make no batch faster.
//
//	go test ./collectors -run - -bench ExactCost -benchtime 500x
func BenchmarkExactCost(b *testing.B) {
	needBPF(b)
	cpu := pin(b)
	box := newSandbox(b)
	turn := box.pingPong(b, cpu)
	const turns = 100
	cases := []struct {
		name   string
		scopes [][]int
	}{{"none", nil}, {"one", [][]int{{cpu}}}, {"split", [][]int{{cpu}, {cpu + 1}}}, {"shared", [][]int{{cpu}, {cpu}}}}
	best := slices.Repeat([]time.Duration{time.Hour}, len(cases))
	for b.Loop() {
		for i, c := range cases {
			var readings []econbench.Reading
			for _, cpus := range c.scopes {
				r, err := exactReader{}.Open(econbench.Scope{CPUs: cpus})
				if err != nil {
					b.Fatal(err)
				}
				readings = append(readings, r)
			}
			for range 5 { // attaching is the dear part
				start := time.Now()
				for range turns {
					turn()
				}
				best[i] = min(best[i], time.Since(start))
			}
			for _, r := range readings {
				if err := r.Close(); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	for i, c := range cases {
		b.ReportMetric(float64(best[i].Nanoseconds())/turns, c.name+"-ns/turn")
	}
}

// pingPong has a thread on this one's CPU answer datagrams, and returns what sends one and takes the answer.
func (s sandbox) pingPong(b *testing.B, cpu int) (turn func()) {
	var near, far int
	s.inside(b, func() (err error) {
		if near, err = boundUDP(25205); err != nil {
			return err
		}
		if far, err = boundUDP(25206); err != nil {
			return err
		}
		if err = unix.Connect(near, loopback(25206)); err != nil {
			return err
		}
		return unix.Connect(far, loopback(25205))
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		var one unix.CPUSet
		one.Set(cpu)
		if err := unix.SchedSetaffinity(0, &one); err != nil {
			b.Error(err)
		}
		buf := make([]byte, 1)
		for {
			if n, err := unix.Read(far, buf); err != nil || n != 1 {
				return
			}
			if _, err := unix.Write(far, buf); err != nil {
				return
			}
		}
	}()
	b.Cleanup(func() {
		_ = unix.Shutdown(far, unix.SHUT_RDWR) // wakes the reader
		<-done
		unix.Close(near)
		unix.Close(far)
	})
	buf := make([]byte, 1)
	return func() {
		_, err := unix.Write(near, buf)
		if err == nil {
			_, err = unix.Read(near, buf)
		}
		if err != nil {
			b.Fatal(fmt.Errorf("turn: %w", err))
		}
	}
}

func loopback(port int) unix.Sockaddr {
	return &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
}

func boundUDP(port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, loopback(port)); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
