// SPDX-License-Identifier: Apache-2.0

package econbench

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Schema is the version of run.json and trials.jsonl that this package reads and writes. A reader refuses a newer one.
const Schema = 1

// Seconds is a span of time as it is stored: a plain number of seconds.
type Seconds float64

// Duration converts to the standard library's type.
func (s Seconds) Duration() time.Duration { return time.Duration(float64(s) * float64(time.Second)) }

// SecondsOf converts from the standard library's type.
func SecondsOf(d time.Duration) Seconds { return Seconds(d.Seconds()) }

// NoFastpath is the name of the fast path that changes nothing. It is an arm's fast path like any other and is left out
// when the arm is written.
const NoFastpath = "none"

// Arm is a topology with a fast path attached to it.
type Arm struct {
	Topology string
	Fastpath string // NoFastpath, never ""
	Setting  string // of the fast path, in its own words; "" where it has none
	Copy     int    // 2 and up: the same arm once more, to be held against itself; 0: the first
}

// ParseArm reads "host", "overlay+oncache", "overlay+handicap:250ns" or "overlay#2". Whether the parts exist is not its
// business.
func ParseArm(s string) (Arm, error) {
	bad := func() (Arm, error) {
		return Arm{}, fmt.Errorf("arm %q: want TOPOLOGY or TOPOLOGY+FASTPATH, as in \"overlay\", \"overlay+oncache\" or \"overlay+handicap:250ns\"; "+
			"with #2 behind it the same arm a second time", s)
	}
	a := Arm{Fastpath: NoFastpath}
	rest, number, copied := strings.Cut(s, "#")
	if copied {
		var err error
		if a.Copy, err = strconv.Atoi(number); err != nil || a.Copy < 2 || a.Copy > MaxCopies || strconv.Itoa(a.Copy) != number {
			return bad()
		}
	}
	topology, fastpath, plus := strings.Cut(rest, "+")
	a.Topology = topology
	if plus {
		var set bool
		a.Fastpath, a.Setting, set = strings.Cut(fastpath, ":")
		if a.Fastpath == "" || set && a.Setting == "" {
			return bad()
		}
	}
	if topology == "" || strings.ContainsAny(topology, ":") || strings.Contains(fastpath, "+") {
		return bad()
	}
	return a, nil
}

// MaxCopies is the largest number that an arm may have behind "#".
const MaxCopies = 99

// String writes the arm as ParseArm reads it.
func (a Arm) String() string {
	s := a.Topology
	if a.Fastpath != "" && a.Fastpath != NoFastpath {
		s += "+" + a.Fastpath
		if a.Setting != "" {
			s += ":" + a.Setting
		}
	}
	if a.Copy != 0 {
		s += "#" + strconv.Itoa(a.Copy)
	}
	return s
}

// MarshalText makes an arm a string in JSON.
func (a Arm) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (a *Arm) UnmarshalText(b []byte) (err error) {
	*a, err = ParseArm(string(b))
	return err
}

// Params are a workload's parameters by name. Values are written as the user types them, sizes and counts in base units.
type Params map[string]string

// String is "k=v k=v", sorted by key: equal parameters are equal strings.
func (p Params) String() string {
	parts := make([]string, 0, len(p))
	for _, k := range slices.Sorted(maps.Keys(p)) {
		parts = append(parts, k+"="+p[k])
	}
	return strings.Join(parts, " ")
}

// Cell is what one trial measures: an arm under a workload with its parameters.
type Cell struct {
	Arm      Arm    `json:"arm"`
	Workload string `json:"workload"`
	Params   Params `json:"params"`
}

// String is the cell on one line, for progress and errors.
func (c Cell) String() string {
	return strings.TrimSpace(c.Arm.String() + " " + c.Workload + " " + c.Params.String())
}

// Placement says which CPUs the two hosts' work runs on.
type Placement string

const (
	// Split gives each host CPUs of its own, for its programs and for the softirq work of its end of the wire.
	Split Placement = "split"
	// Shared puts both hosts on one and the same CPU, so that a rate is the total cost of the path. One kernel only.
	Shared Placement = "shared"
)

// Wire says what frames the underlay carries.
type Wire string

const (
	// WireDefault leaves the underlay device's offloads as they were found.
	WireDefault Wire = "default"
	// WireMTUFrames switches segmentation offloads off, so that no frame is larger than the MTU.
	WireMTUFrames Wire = "mtu-frames"
)

// CPUMethod says how CPU time is counted.
type CPUMethod string

const (
	// CPUStat is what the kernel counts anyway (/proc/stat). What reports show as cpu is always this.
	CPUStat CPUMethod = "stat"
	// CPUExact times every change of context beside it, for the metrics cpu_exact… and for checking cpu. It slows the
	// workload down a little.
	CPUExact CPUMethod = "exact"
)

// PlannedWorkload is a workload as the plan asks for it, with every parameter written out.
type PlannedWorkload struct {
	Name    string `json:"name"`
	Params  Params `json:"params"`
	Primary string `json:"primary"` // the metric that carries the verdict
	// Rate is what a rate that was given as a share came to, 1/s, before the first block: see Paced. 0: none was given so, or the
	// run has not begun.
	Rate float64 `json:"rate,omitempty"`
}

// Plan is everything that decides what a run measures. Two runs of one plan differ in nothing that the user chose.
type Plan struct {
	Suite             string            `json:"suite"`
	Arms              []Arm             `json:"arms"`
	Baseline          Arm               `json:"baseline"`
	Workloads         []PlannedWorkload `json:"workloads"`
	Blocks            int               `json:"blocks"`
	Duration          Seconds           `json:"duration"` // the window of one trial
	Warmup            Seconds           `json:"warmup"`   // between the first payload and the window
	Seed              uint64            `json:"seed"`     // of the order within the blocks
	RebuildEvery      int               `json:"rebuild_every"`
	Placement         Placement         `json:"placement"`
	Wire              Wire              `json:"wire"`
	CongestionControl string            `json:"congestion_control"`
	CPU               CPUMethod         `json:"cpu,omitempty"`
	Histograms        bool              `json:"histograms,omitempty"` // delays counted in the kernel, at some cost to the workload
	Internal          bool              `json:"internal"`             // the overlay network is an --internal one
	Attach            AttachOptions     `json:"attach"`
	Programs          []Program         `json:"programs,omitempty"`  // workloads that the suite defines
	Published         []PublishedFigure `json:"published,omitempty"` // to be shown beside what is measured
}

// AttachOptions are choices of how fast paths are attached; the zero value is what is best on each host's kernel.
type AttachOptions struct {
	Lane string `json:"lane,omitempty"` // kind of way around the network's sandbox
	Hook string `json:"hook,omitempty"` // mechanism that attaches programs: HookTCX, HookFilter
	// MaxFlows is how many flows a fast path remembers on each host and network, at most MostFlows: the least used give way. 0: 65536.
	MaxFlows int `json:"max_flows,omitempty"`
	// Without takes a part away, for those who want to see the path proof fail: Egress, Ingress, WithoutLearning.
	Without string `json:"without,omitempty"`
	// Setting is the arm's, for a fast path that has one.
	Setting string `json:"-"`
}

// Mechanisms that attach programs to a device's hooks.
const (
	HookTCX    = "tcx"    // Linux 6.6: a link, which ends with the agent
	HookFilter = "filter" // a classifier on a clsact queueing discipline, which outlives it
)

// Bounds of AttachOptions.MaxFlows.
const (
	LeastFlows = 1 << 10
	MostFlows  = 1 << 22
)

// WithoutLearning leaves a fast path's caches cold.
const WithoutLearning = "learning"

// Cells lists the plan's cells: the cross product of workloads and arms, in the order given.
func (p Plan) Cells() []Cell {
	var cells []Cell
	for _, w := range p.Workloads {
		for _, a := range p.Arms {
			cells = append(cells, Cell{Arm: a, Workload: w.Name, Params: w.Params})
		}
	}
	return cells
}

// HostFacts is what an agent found out about its host before the first trial.
type HostFacts struct {
	Hostname   string   `json:"hostname"`
	BootID     string   `json:"boot_id"` // two hosts with the same one share a kernel
	Kernel     string   `json:"kernel"`
	CPUModel   string   `json:"cpu_model"`
	OnlineCPUs []int    `json:"online_cpus"` // threads of a core side by side, so that halves of the list share no core
	CPUs       []int    `json:"cpus"`        // those that this run's placement gave to the host
	Engine     string   `json:"engine"`
	Underlay   string   `json:"underlay"` // address on the wire
	WireDevice string   `json:"wire_device"`
	WireDriver string   `json:"wire_driver"`
	MTU        int      `json:"mtu"`
	BTF        bool     `json:"btf"`
	Tunings    []string `json:"tunings"` // what was changed for the run and is put back after it
	// Fingerprint is all that may move a figure on this host, by name: see fingerprint.go. What the host does not have, or
	// does not tell, is absent.
	Fingerprint Fingerprint `json:"fingerprint,omitempty"`
}

// MarshalJSON writes lists without elements as such: null would say that nobody looked.
func (f HostFacts) MarshalJSON() ([]byte, error) {
	type plain HostFacts
	f.OnlineCPUs, f.CPUs, f.Tunings = listed(f.OnlineCPUs), listed(f.CPUs), listed(f.Tunings)
	return json.Marshal(plain(f))
}

func listed[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// Status says how a run ended.
type Status string

const (
	StatusRunning     Status = "running"     // still going on, or killed without a chance to say so
	StatusComplete    Status = "complete"    // every planned trial was attempted
	StatusInterrupted Status = "interrupted" // the user stopped it
	StatusFailed      Status = "failed"      // it could not go on; Run.Error says why
)

// Run is run.json with the trials of trials.jsonl beside it.
type Run struct {
	Schema   int                  `json:"schema"`
	ID       string               `json:"run"`
	Version  string               `json:"version"` // of econbench
	Command  []string             `json:"command"`
	Started  time.Time            `json:"started"`
	Finished *time.Time           `json:"finished"`
	Status   Status               `json:"status"`
	Error    string               `json:"error,omitempty"`
	Lab      string               `json:"lab"`   // "emulated" or "real"
	Image    string               `json:"image"` // reference and content digest of the tool image
	Plan     Plan                 `json:"plan"`
	Hosts    map[string]HostFacts `json:"hosts"` // by role: ClientHost, ServerHost
	Resumed  []Resumption         `json:"resumed,omitempty"`
	Rulers   []Ruler              `json:"rulers,omitempty"` // what was known of the machine's noise when the run began
	// Against is the run that this one is held against when it is over; null: none.
	Against *Against `json:"against,omitempty"`

	Trials     []Trial  `json:"-"`
	Extra      []Trial  `json:"-"` // of blocks beyond the plan's, which confirm what a gate suspects and count nowhere else
	Superseded []Trial  `json:"-"` // of a block that a later part of the run measured anew: recorded, but they count nowhere
	Warnings   []string `json:"-"` // of whoever read the run directory: a torn line, say
}

// Against is what a run is held against: another run, by a gate or without one.
type Against struct {
	Dir  string    `json:"dir"` // the other run's directory, an absolute path
	Run  string    `json:"run"` // its id
	Arms []ArmPair `json:"arms,omitempty"`
	// Gate is the loss, as a share, from which on a primary metric has regressed; 0: the runs are compared and nothing fails.
	Gate float64 `json:"gate,omitempty"`
	// ConfirmBlocks is how many blocks beyond the plan's confirm what the gate suspects.
	ConfirmBlocks int `json:"confirm_blocks,omitempty"`
}

// ArmPair names an arm of one run and the one of another that it is compared with.
type ArmPair struct {
	Old Arm `json:"old"`
	New Arm `json:"new"`
}

// Resumption says that a run which had ended early was taken up again. The rest of Run is about its first part, but for
// how it ended, which is about the last one.
type Resumption struct {
	Started time.Time            `json:"started"`
	Version string               `json:"version"`
	Command []string             `json:"command"`
	Hosts   map[string]HostFacts `json:"hosts"`  // as they were then; null: there was nothing left to measure
	Before  Ending               `json:"before"` // how the part before it ended
}

// Ending is how a part of a run ended.
type Ending struct {
	Status   Status     `json:"status"` // StatusRunning: it was killed
	Finished *time.Time `json:"finished"`
	Error    string     `json:"error,omitempty"`
}

// Names of the two hosts' roles, as they stand in Run.Hosts and Trial.Hosts.
const (
	ClientHost = "client"
	ServerHost = "server"
)

// Counters are what one collector read: base-unit numbers by name. In a trial they are differences over the window.
type Counters map[string]float64

// HostWindow is what one host's agent counted over its window.
type HostWindow struct {
	Start    time.Time           `json:"start"`   // wall clock
	Seconds  Seconds             `json:"window"`  // monotonic length
	Reading  Seconds             `json:"reading"` // the longer of the two rounds of reading: so far may counters lie apart
	Counters map[string]Counters `json:"counters"`
	Notes    map[string]string   `json:"notes,omitempty"` // what collectors found that is no number
	Early    *EarlyWindow        `json:"early,omitempty"` // the window's first half, as far as it was read by itself
}

// EarlyWindow is what collectors of work counted over the first half of a window.
type EarlyWindow struct {
	Seconds  Seconds             `json:"window"`
	Counters map[string]Counters `json:"counters"`
}

// Halves cuts a window at its middle reading; false when there was none. The halves have what was read then, and no more.
func (h HostWindow) Halves() (early, late HostWindow, ok bool) {
	if h.Early == nil || h.Early.Seconds <= 0 || h.Early.Seconds >= h.Seconds {
		return early, late, false
	}
	early = HostWindow{Start: h.Start, Seconds: h.Early.Seconds, Counters: h.Early.Counters}
	late = HostWindow{Start: h.Start.Add(h.Early.Seconds.Duration()), Seconds: h.Seconds - h.Early.Seconds, Counters: map[string]Counters{}}
	for collector, first := range h.Early.Counters {
		rest := Counters{}
		for name, v := range h.Counters[collector] {
			rest[name] = v - first[name]
		}
		late.Counters[collector] = rest
	}
	return early, late, true
}

// PathProof says which way the packets of a trial went, by device counters alone.
type PathProof struct {
	PayloadToServer float64   `json:"payload_to_server"` // B that the server's sockets received in the window
	PayloadToClient float64   `json:"payload_to_client"` // B
	Through         []string  `json:"through"`           // roles of the devices that had to carry it
	Around          []string  `json:"around"`            // roles of the devices that had to stay flat
	Carried         []Carried `json:"carried,omitempty"` // by the fast path's own counters; none where none carries packets
	Failures        []string  `json:"failures"`          // what did not hold; empty: proven
}

// Carried is what a fast path counted in the window on one host in one direction, in segments.
type Carried struct {
	Host      string   `json:"host"`
	Direction string   `json:"direction"` // Egress or Ingress, seen from the endpoint
	Seen      float64  `json:"seen"`      // at the endpoint's device
	Eligible  float64  `json:"eligible"`  // of these, what the fast path promises to carry
	Hits      float64  `json:"hits"`      // carried
	HitRatio  *float64 `json:"hit_ratio"` // hits / eligible; null when nothing was eligible
	Coverage  *float64 `json:"coverage"`  // hits / seen; null when nothing was seen
	Demanded  float64  `json:"demanded"`  // least coverage, by the workload; 0: none
}

// MarshalJSON writes lists without elements as such: a proven trial has no failures, which is not null.
func (p PathProof) MarshalJSON() ([]byte, error) {
	type plain PathProof
	p.Through, p.Around, p.Failures = listed(p.Through), listed(p.Around), listed(p.Failures)
	return json.Marshal(plain(p))
}

// Phases are what a trial's time went to, one after the other; those that it did not reach are 0. Trials that are older than them have none.
type Phases struct {
	Attach Seconds `json:"attach"` // topology activated, fast path attached, receive steering set
	Start  Seconds `json:"start"`  // client program started, what its server keeps for it made
	Appear Seconds `json:"appear"` // until all flows carried payload, with the readings of counters before and after the window
	Warmup Seconds `json:"warmup"`
	Window Seconds `json:"window"`
	Finish Seconds `json:"finish"` // from the window's end on both hosts until the client had said what it measured
	Detach Seconds `json:"detach"` // all of it taken back
}

// Trial is one measurement of one cell: a line of trials.jsonl.
type Trial struct {
	Schema   int    `json:"schema"`
	Run      string `json:"run"`
	Block    int    `json:"block"`           // from 0
	Position int    `json:"position"`        // place in the block's shuffled order, from 0
	Build    int    `json:"build"`           // trials with the same number share one build of the topologies
	Part     int    `json:"part"`            // how often the run had been resumed by then
	Extra    bool   `json:"extra,omitempty"` // of a block beyond the plan's, which confirms what a gate suspects
	Cell
	Start    time.Time             `json:"start"`
	Elapsed  Seconds               `json:"elapsed"`            // of the whole trial, set-up and warm-up included
	Overhead Seconds               `json:"overhead,omitempty"` // of these, what neither warm-up nor window is
	Phases   *Phases               `json:"phases,omitempty"`
	Apart    bool                  `json:"apart"`   // each host's CPUs did that host's work and no other's
	Metrics  map[string]*float64   `json:"metrics"` // null: not collected
	Hosts    map[string]HostWindow `json:"hosts"`
	Proof    *PathProof            `json:"proof"`
	Valid    bool                  `json:"valid"`
	Invalid  []string              `json:"invalid,omitempty"`  // why it does not count
	Warnings []string              `json:"warnings,omitempty"` // doubts; it counts
	Log      string                `json:"log,omitempty"`      // file under logs/ with the tools' whole output
}
