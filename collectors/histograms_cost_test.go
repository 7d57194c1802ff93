// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"net"
	"slices"
	"testing"
	"time"

	"github.com/econbench/econbench"
)

// BenchmarkHistogramsCost is what counting delays costs a request or a response on one CPU: a thread that sends itself a byte over a
// connection on the loopback device, so a packet, its softirq and its copy a turn. The cases are what a packet meets of the emulated lab's
// two agents: no programs, those of its host (one), and those of another host, too (two). Batches of the cases take turns and the best of
// each counts, about 1 ms long: others on the machine make no batch faster.
//
//	go test ./collectors -run - -bench HistogramsCost -benchtime 100x
func BenchmarkHistogramsCost(b *testing.B) {
	needBPF(b)
	pin(b)
	box, other := newSandbox(b), newSandbox(b)
	client, server := box.connect(b, box.listen(b, "127.0.0.1:25209"))
	fds := [2]int{rawFD(b, client.(*net.TCPConn)), rawFD(b, server.(*net.TCPConn))}
	const turns = 100
	cases := []struct {
		name  string
		hosts []sandbox
	}{{"none", nil}, {"one", []sandbox{box}}, {"two", []sandbox{box, other}}}
	best := slices.Repeat([]time.Duration{time.Hour}, len(cases))
	for b.Loop() {
		for i, c := range cases {
			var readings []econbench.Reading
			for _, host := range c.hosts {
				host.inside(b, func() error {
					r, err := histogramsReader{}.Open(econbench.Scope{PID: host.pid, CPUs: allCPUs(), Devices: []econbench.Device{{Role: "wire", Name: "lo"}}})
					readings = append(readings, r)
					return err
				})
			}
			box.inside(b, func() error {
				for range 5 { // attaching is the dear part
					start := time.Now()
					if err := takeTurns(fds, turns); err != nil {
						return err
					}
					best[i] = min(best[i], time.Since(start))
				}
				return nil
			})
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
