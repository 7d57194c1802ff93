// SPDX-License-Identifier: Apache-2.0

// Package profile makes pictures of where CPU time goes: it joins the stacks that both hosts' agents sampled (Join), writes and
// reads them in Brendan Gregg's folded format, draws them as flame graphs (SVG without scripts), and sets two arms against each
// other, by the work that they did in the time.
//
// It is pure: stacks in, text and pictures out. Sampling is package profiler's, in the hosts.
package profile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/econbench/econbench"
)

// Order asks an agent to sample the stacks of what the scope's CPUs do, once the scope's flows carry payload: at the same time as a
// window of counters that has the same warm-up and duration.
type Order struct {
	Scope     econbench.Scope   `json:"scope"`
	Frequency float64           `json:"frequency"` // of samples on each CPU, 1/s
	Appear    econbench.Seconds `json:"appear"`    // deadline for the flows to carry payload
	Warmup    econbench.Seconds `json:"warmup"`
	Duration  econbench.Seconds `json:"duration"`
}

// Owners of samples: whose the task was that a CPU had.
const (
	OwnerHost   = "host"   // a process of the agent's host
	OwnerKernel = "kernel" // no process: the idle task, a kernel thread
	OwnerOther  = "other"  // a process that the agent's PID namespace does not show
)

// Recording is what one agent sampled. A frame is told once; stacks have their numbers.
type Recording struct {
	Side       string    `json:"side"`
	CPUs       []int     `json:"cpus"`
	Frequency  float64   `json:"frequency"` // 1/s
	Window     float64   `json:"window"`    // s
	Samples    int       `json:"samples"`
	Lost       int       `json:"lost"`       // samples that there was no room for
	Throttled  int       `json:"throttled"`  // times that the kernel stopped a CPU's sampling for a while
	Unresolved int       `json:"unresolved"` // samples of the work whose innermost function has no name
	Frames     []string  `json:"frames"`
	Stacks     []Counted `json:"stacks"`
}

// Counted is a stack, its root first, and how often it was sampled.
type Counted struct {
	Owner  string `json:"owner"`
	Frames []int  `json:"frames"`
	Count  int    `json:"count"`
}

// Stack is a stack by its frames' names, its root first.
type Stack struct {
	Frames []string
	Count  int
}

// Frames in the place of a process, with nothing on them, of time that is told apart: it is no part of an arm's cost.
const (
	Idle   = "[idle]"   // a CPU that waits for work
	Others = "[others]" // processes that are not the host's, and kernel threads that do no network's work
	Agent  = "[agent]"  // which counts and samples
)

// Interrupted is in the place of a process where the network's softirqs interrupted one of Others or Agent: they do the arm's work all the same.
const Interrupted = "[interrupted]"

// Machine is the root of what is neither host's alone, on a CPU that both share.
const Machine = "machine"

// Schema is the version of Profile's JSON.
const Schema = 1

// Profile is where the CPU time of one arm went, with what one has to know to read it.
type Profile struct {
	Schema       int                 `json:"schema"`
	Version      string              `json:"version"` // of econbench
	Arm          econbench.Arm       `json:"arm"`
	Baseline     econbench.Arm       `json:"baseline"` // that it is set against
	Workload     string              `json:"workload"`
	Params       econbench.Params    `json:"params"`
	Lab          string              `json:"lab"` // "emulated" or "real"
	Kernel       string              `json:"kernel"`
	Placement    econbench.Placement `json:"placement"`
	Wire         econbench.Wire      `json:"wire"`
	Frequency    float64             `json:"frequency"`    // of samples on each CPU, 1/s
	Window       float64             `json:"window"`       // s; the shorter of the hosts'
	Transactions *float64            `json:"transactions"` // 1/s, while it was sampled; null: not counted
	Throughput   *float64            `json:"throughput"`   // B/s, likewise
	Carried      []econbench.Carried `json:"carried"`      // by the fast path, likewise
	Sampled      []Sampled           `json:"sampled"`
	Warnings     []string            `json:"warnings"`

	Stacks []Stack `json:"-"` // the .folded file beside
}

// Sampled says how one host was sampled.
type Sampled struct {
	Side       string  `json:"side"`
	CPUs       []int   `json:"cpus"`
	Window     float64 `json:"window"` // s
	Samples    int     `json:"samples"`
	Lost       int     `json:"lost"`
	Throttled  int     `json:"throttled"`
	Unresolved int     `json:"unresolved"`
}

// Join makes one list of both hosts' stacks, each under its host's role. On a CPU that both hosts share both agents sampled the same
// time: then each host's processes come from its own agent, the kernel's own from the client's, and what is left over, which no
// agent can name, is told as a number.
func Join(client, server Recording) (list []Stack, sampled []Sampled) {
	for _, r := range []Recording{client, server} {
		sampled = append(sampled, Sampled{Side: r.Side, CPUs: r.CPUs, Window: r.Window, Samples: r.Samples, Lost: r.Lost,
			Throttled: r.Throttled, Unresolved: r.Unresolved})
	}
	if !slices.Equal(client.CPUs, server.CPUs) || !client.sharesKernel(server) {
		return Merge(append(client.under(client.Side, OwnerHost, OwnerKernel, OwnerOther), server.under(server.Side, OwnerHost, OwnerKernel, OwnerOther)...)), sampled
	}
	list = append(client.under(client.Side, OwnerHost), server.under(server.Side, OwnerHost)...)
	list = append(list, client.under(Machine, OwnerKernel)...)
	if rest := client.count(OwnerOther) - server.count(OwnerHost); rest > 0 {
		list = append(list, Stack{Frames: []string{Machine, Others}, Count: rest})
	}
	return Merge(list), sampled
}

// sharesKernel: two machines with CPUs of the same numbers see none of each other's processes, but on one machine each agent sees
// the other host's as nobody's.
func (r Recording) sharesKernel(with Recording) bool {
	return r.count(OwnerOther) > 0 && with.count(OwnerOther) > 0
}

func (r Recording) count(owner string) (n int) {
	for _, s := range r.Stacks {
		if s.Owner == owner {
			n += s.Count
		}
	}
	return n
}

// under are the stacks of some owners, by name, under a root. A number that no frame has is left out: recordings cross a border.
func (r Recording) under(root string, owners ...string) (list []Stack) {
	for _, s := range r.Stacks {
		if !slices.Contains(owners, s.Owner) {
			continue
		}
		frames := []string{root}
		for _, n := range s.Frames {
			if n >= 0 && n < len(r.Frames) {
				frames = append(frames, r.Frames[n])
			}
		}
		list = append(list, Stack{Frames: frames, Count: s.Count})
	}
	return list
}

// Merge adds up stacks that are the same, and orders them.
func Merge(list []Stack) []Stack {
	counts := map[string]int{}
	for _, s := range list {
		counts[strings.Join(clean(s.Frames), ";")] += s.Count
	}
	merged := make([]Stack, 0, len(counts))
	for text, count := range counts {
		merged = append(merged, Stack{Frames: strings.Split(text, ";"), Count: count})
	}
	slices.SortFunc(merged, func(a, b Stack) int { return slices.Compare(a.Frames, b.Frames) })
	return merged
}

// clean keeps what separates frames, and lines, out of frames: a process may call itself anything.
func clean(frames []string) []string {
	list := make([]string, len(frames))
	for i, f := range frames {
		list[i] = strings.Map(func(r rune) rune {
			switch {
			case r == ';':
				return ':'
			case r < ' ' || r == 0x7f || r == 0xfffd:
				return '?'
			}
			return r
		}, f)
		if list[i] = strings.TrimSpace(list[i]); list[i] == "" {
			list[i] = "[unknown]"
		}
	}
	return list
}

// Apart is how the samples part: of the arm's work, and by the frames of what is told apart from it.
func (p *Profile) Apart() (work int, apart map[string]int) {
	apart = map[string]int{}
	for _, s := range p.Stacks {
		if s.apart() {
			apart[s.Frames[1]] += s.Count
		} else {
			work += s.Count
		}
	}
	return work, apart
}

func (s Stack) apart() bool {
	return len(s.Frames) == 2 && (s.Frames[1] == Idle || s.Frames[1] == Others || s.Frames[1] == Agent)
}

// Unit is what cost is told by.
type Unit struct {
	Name  string  // "ns per transaction"
	Short string  // "ns"
	Of    float64 // what one sample is, in that unit
	key   string
}

// Unit is CPU time for each transaction; where there are none, for each byte received; where neither was counted, for each second.
func (p *Profile) Unit() Unit {
	sample := 0.0 // s of CPU time in each second that a sample stands for
	if p.Frequency > 0 && p.Window > 0 {
		sample = 1 / p.Frequency / p.Window
	}
	switch {
	case p.Transactions != nil && *p.Transactions > 0:
		return Unit{"ns per transaction", "ns", sample / *p.Transactions * 1e9, "transactions"}
	case p.Throughput != nil && *p.Throughput > 0:
		return Unit{"ns per kB of payload", "ns", sample / *p.Throughput * 1e12, "throughput"}
	}
	return Unit{"µs in each second", "µs", sample * 1e6, ""}
}

// Doubt finds what stands against a profile: too few samples, or too many of them without a name.
func (p *Profile) Doubt() (doubts []string) {
	for _, s := range p.Sampled {
		due := p.Frequency * s.Window * float64(len(s.CPUs))
		if due > 0 && float64(s.Samples) < 0.95*due {
			doubts = append(doubts, fmt.Sprintf("%s: %d samples of %.0f that were due: something took the CPUs away, a hypervisor say", s.Side, s.Samples, due))
		}
		if s.Lost > 0 || s.Throttled > 0 {
			doubts = append(doubts, fmt.Sprintf("%s: %d samples found no room, and the kernel stopped sampling %d times", s.Side, s.Lost, s.Throttled))
		}
		if s.Samples > 0 && float64(s.Unresolved) > 0.05*float64(s.Samples) {
			doubts = append(doubts, fmt.Sprintf("%s: %.0f %% of the samples are of functions without a name", s.Side, 100*float64(s.Unresolved)/float64(s.Samples)))
		}
	}
	if work, apart := p.Apart(); float64(apart[Others]) > 0.02*float64(work) {
		doubts = append(doubts, fmt.Sprintf("others' processes took CPU time, %.0f %% of the work's: it is left out, but they made the work wait and took its caches",
			100*float64(apart[Others])/float64(max(work, 1))))
	}
	if p.Unit().key == "" {
		doubts = append(doubts, "the work done was not counted: costs are by time, and a faster arm seems to cost more")
	}
	return doubts
}

// Title names the arm and its work.
func (p *Profile) Title() string {
	return strings.TrimSpace(p.Arm.String() + " · " + p.Workload + " " + p.Params.String())
}
