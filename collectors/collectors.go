// SPDX-License-Identifier: Apache-2.0

// Package collectors holds what is counted while a workload runs: one file a collector, named as it stands in the record.
//
// A collector has two halves in its file. The reader is the agent's: it reads kernel counters inside one host, at the
// start and at the end of the window, and knows nothing of trials. The collector is the controller's: a pure function from
// the differences to metrics and warnings. They meet in econbench.Counters alone, whose names are those in the trial's
// record.
//
// Nothing here changes the host that it reads. A reader takes well under a millisecond as a rule (see BenchmarkReaders),
// since its own work falls into the window that it measures. What was not collected is left out, never 0.
package collectors

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/econbench/econbench"
)

// All lists the controller's halves. Adding a collector is a file, a line here and a line in Readers.
func All() []econbench.Collector {
	return []econbench.Collector{
		Sockets{},
		Snmp{},
		Stat{},
		Agent{}, // beside stat, whose window is its
		Exact{},
		Histograms{},
		Softirqs{},
		Softnet{},
		Devices{},
		Schedstat{},
		Switches{},
		Cgroup{},
		Psi{},
		Netstat{},
		Interrupts{},
		Netfilter{},
		Fastpath{},
	}
}

// Readers lists the agent's halves, those first that decide what the window's work was.
func Readers() []econbench.Reader { return readersOf("/proc") }

// readersOf reads another /proc, for tests.
func readersOf(proc string) []econbench.Reader {
	return []econbench.Reader{
		socketsReader{proc},
		snmpReader{proc},
		statReader{proc},
		agentReader{},
		exactReader{},
		histogramsReader{},
		softirqsReader{proc},
		softnetReader{proc},
		devicesReader{proc},
		schedstatReader{proc},
		switchesReader{proc},
		cgroupReader{proc},
		psiReader{proc},
		netstatReader{proc},
		interruptsReader{proc},
		netfilterReader{},
	}
}

// lookPause is the pause between two looks for flows. A look takes 2.4 ms on a machine with many connections, and 10 where tcp_crr has left tens of
// thousands of them. A pause in proportion had windows begin up to 0.2 s later there, and 5 of 60 trials of tcp_rr end before their window did.
const lookPause = 5 * time.Millisecond

// poll looks until nothing is missing any more. Its error when the context ends is what was missing at last.
func poll(ctx context.Context, look func() (missing string, err error)) error {
	for {
		missing, err := look()
		if err != nil {
			return fmt.Errorf("flows: %w", err)
		}
		if missing == "" {
			return nil
		}
		select {
		case <-time.After(lookPause):
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", missing, context.Cause(ctx))
		}
	}
}

// WaitForFlows returns as soon as the scope's data flows are under way, or with an error that says how far they were when
// the context ended.
func WaitForFlows(ctx context.Context, s econbench.Scope) error {
	if s.Flows.Kind == econbench.LastingFlows {
		return waitForSockets(ctx, s)
	}
	return waitForCounters(ctx, "/proc", s)
}

// Nothing is the reading of a reader that has nothing to say of the scope's kind of flows.
type Nothing struct{}

func (Nothing) Read() (econbench.Counters, error) { return econbench.Counters{}, nil }
func (Nothing) Close() error                      { return nil }

// host is one end of a window.
type host struct {
	name string
	econbench.HostWindow
	cpus []int // that this host answers for
}

// hosts returns both ends. On a shared kernel a CPU that both hosts were given is the client's to answer for, so that a sum
// over both counts it once.
func hosts(w econbench.Window) (client, server host) {
	client = host{econbench.ClientHost, w.Client, w.ClientCPUs}
	server = host{econbench.ServerHost, w.Server, w.ServerCPUs}
	if w.SharedKernel {
		server.cpus = slices.DeleteFunc(slices.Clone(server.cpus), func(cpu int) bool { return slices.Contains(w.ClientCPUs, cpu) })
	}
	return client, server
}

// separate says whether per-CPU figures can be told apart by host.
func separate(w econbench.Window) bool {
	_, server := hosts(w)
	return w.Apart && len(server.cpus) == len(w.ServerCPUs)
}

// rate is a counter's difference per second of the host's window; false when it was not collected.
func (h host) rate(collector, counter string) (float64, bool) {
	v, ok := h.Counters[collector][counter]
	if !ok || h.Seconds <= 0 {
		return 0, false
	}
	return v / float64(h.Seconds), true
}

// sumCPUs adds one per-CPU counter up over the host's CPUs; false when any of them lacks it.
func (h host) sumCPUs(collector, counter string) (sum float64, ok bool) {
	for _, cpu := range h.cpus {
		v, ok := h.Counters[collector][perCPU(cpu, counter)]
		if !ok {
			return 0, false
		}
		sum += v
	}
	return sum, len(h.Counters[collector]) > 0
}

// perCPU names a CPU's counter.
func perCPU(cpu int, counter string) string { return fmt.Sprintf("cpu%d.%s", cpu, counter) }
