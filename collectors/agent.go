// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
)

// Agent is the CPU time of the agent's own process in s: user and system. It is read beside /proc/stat, so it is the part of cpu that
// observing has: what is read in the window's middle, the conversation with the controller, a fast path's upkeep, and the runtime. The
// rest of the two rounds of reading lies outside of the window in which work and CPU are counted: see window in cmd/internal/agent.
// Programs in the kernel are not in it: what those cost falls on whom they interrupt.
type Agent struct{}

var _ econbench.Collector = Agent{}

// dearAgent is the share of the window, on one CPU, that all observing together may take without a doubt being told.
const dearAgent = 0.005

func (Agent) Name() string { return "agent" }
func (Agent) Help() string {
	return "CPU time that observing took: the agents' own (getrusage); warns above 0.5 % of the window on one CPU"
}

// Samples takes the dearer one of the two agents.
func (Agent) Samples(w econbench.Window) (samples []econbench.Sample, warnings []string) {
	client, server := hosts(w)
	most, counted := 0.0, true
	for _, h := range []host{client, server} {
		user, ok := h.rate("agent", "user")
		system, also := h.rate("agent", "system")
		counted = counted && ok && also
		most = max(most, user+system)
		if user+system > dearAgent {
			warnings = append(warnings, fmt.Sprintf("agent: %s: observing took %.2f %% of the window on one CPU, over %.1f %%", h.name, 100*(user+system), 100*dearAgent))
		}
	}
	if counted {
		samples = append(samples, econbench.Sample{Metric: "agent_cpu", Value: most})
	}
	return samples, warnings
}

type agentReader struct{}

func (agentReader) Name() string { return "agent" }

func (agentReader) Open(econbench.Scope) (econbench.Reading, error) { return agentReading{}, nil }

type agentReading struct{}

func (agentReading) Close() error { return nil }

// Read asks for all threads of this process. The sum is exact, to the scheduler's clock; its split is sampled by the tick.
func (agentReading) Read() (econbench.Counters, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	return econbench.Counters{
		"user":   time.Duration(u.Utime.Nano()).Seconds(),
		"system": time.Duration(u.Stime.Nano()).Seconds(),
	}, nil
}
