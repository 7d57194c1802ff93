// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/econbench/econbench"
)

// heardBox takes signals down instead of sending them.
type heardBox struct {
	*box
	mu    sync.Mutex
	heard []string
}

func (b *heardBox) Client() econbench.Endpoint {
	return econbench.Endpoint{Container: b, Addr: b.box.endpoint().Addr}
}

func (b *heardBox) Server() econbench.Endpoint { return b.Client() }

func (b *heardBox) Signal(_ context.Context, s econbench.Signal) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.heard = append(b.heard, fmt.Sprintf("%s %d", s.Program, s.Number))
	if s.Forked && s.Quiet > 0 {
		b.heard[len(b.heard)-1] += " forked, when quiet"
	}
	return nil
}

func (b *heardBox) Idle(_ context.Context, port uint16, ports int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.heard = append(b.heard, fmt.Sprintf("idle %d %d", port, ports))
	return nil
}

// TestEnough: each client is told by the signal that it takes for the end of its time, and runs longer than asked if it is not.
func TestEnough(t *testing.T) {
	for _, test := range []struct {
		workload econbench.Workload
		given    econbench.Params
		want     []string
	}{
		{TCPStream{}, nil, []string{"iperf3 15", "idle 25201 1"}},
		{UDPStream{}, nil, []string{"iperf3 15", "idle 25221 1"}},
		{UDPStream{}, econbench.Params{"direction": "both"}, nil}, // it would claim half of what was sent, and half of what was received
		{tcpRR, econbench.Params{"flows": "8"}, []string{"netperf 14"}},
		{tcpCRR, nil, []string{"netperf 14", "netserver 14 forked, when quiet"}},
		{Mice{}, nil, []string{"netperf 14"}}, // which ends the elephants
		{Memcached{}, nil, []string{"econbench 14"}},
		{Nginx{}, econbench.Params{"client": clientWrk}, []string{"wrk 2"}},
		{NginxH2{}, nil, nil},
	} {
		p, err := test.workload.Params(test.given)
		if err != nil {
			t.Fatal(err)
		}
		b := &heardBox{box: &box{play: playRecorded}}
		load, err := test.workload.Start(t.Context(), b, p, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if err := load.(econbench.Ender).End(t.Context(), b); err != nil || !slices.Equal(b.heard, test.want) {
			t.Errorf("%s %s: %q, %v, want %q", test.workload.Name(), p, b.heard, err, test.want)
		}
		if err := load.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
