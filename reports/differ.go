// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/econbench/econbench"
)

// RunDifference is a fact in which two runs differ.
type RunDifference struct {
	Fact string `json:"fact"` // "kernel.release of client"
	Old  string `json:"old"`
	New  string `json:"new"`
}

// String is the difference in words.
func (d RunDifference) String() string { return fmt.Sprintf("%s: %q, was %q", d.Fact, d.New, d.Old) }

// ErrDiffer is wrapped by Compare's error when runs differ in what decides their figures.
var ErrDiffer = errors.New("runs differ in what decides their figures")

// differences are the facts in which two runs differ: those that decide figures by themselves, so that a change would be
// laid to the wrong cause, and those to be told of.
func differences(old, new *econbench.Run) (decisive, noted []RunDifference) {
	add := addDifference
	for _, role := range roles(old, new) {
		a, recorded := old.Hosts[role]
		b, recordedToo := new.Hosts[role]
		if recorded != recordedToo {
			say := map[bool]string{true: "recorded", false: "not recorded"}
			add(&decisive, "facts of "+role, say[recorded], say[recordedToo])
			continue
		}
		for _, d := range b.Differences(a) {
			add(&decisive, d.Fact+" of "+role, d.Was, d.Now)
		}
		for _, d := range b.Differences(a, econbench.ClassSubject) { // what one may want to compare
			add(&noted, d.Fact+" of "+role, d.Was, d.Now)
		}
	}
	add(&decisive, "lab", old.Lab, new.Lab)
	add(&decisive, "image", old.Image, new.Image)
	ofPlan, notedOfPlan := planDifferences(old.Plan, new.Plan)
	add(&noted, "version", old.Version, new.Version)
	return append(decisive, ofPlan...), append(noted, notedOfPlan...)
}

func addDifference(list *[]RunDifference, fact, a, b string) {
	if a != b {
		*list = append(*list, RunDifference{fact, a, b})
	}
}

// planDifferences are those of two plans, which are known before anything is measured. Which arms and workloads they have is none: what
// both have is compared.
func planDifferences(p, q econbench.Plan) (decisive, noted []RunDifference) {
	add := addDifference
	add(&decisive, "placement", string(p.Placement), string(q.Placement))
	add(&decisive, "wire", string(p.Wire), string(q.Wire))
	add(&decisive, "congestion_control", p.CongestionControl, q.CongestionControl)
	add(&decisive, "internal", strconv.FormatBool(p.Internal), strconv.FormatBool(q.Internal))
	add(&decisive, "duration", showSeconds(p.Duration), showSeconds(q.Duration))
	add(&decisive, "warmup", showSeconds(p.Warmup), showSeconds(q.Warmup))
	add(&decisive, "cpu", string(p.CPU), string(q.CPU))
	add(&decisive, "histograms", strconv.FormatBool(p.Histograms), strconv.FormatBool(q.Histograms))
	add(&decisive, "attach.lane", p.Attach.Lane, q.Attach.Lane)
	add(&decisive, "attach.hook", p.Attach.Hook, q.Attach.Hook)
	add(&decisive, "attach.max_flows", strconv.Itoa(p.Attach.MaxFlows), strconv.Itoa(q.Attach.MaxFlows))
	add(&decisive, "attach.without", p.Attach.Without, q.Attach.Without)
	for _, name := range programNames(p, q) {
		add(&decisive, "program "+name, definition(p, name), definition(q, name))
	}
	for _, w := range q.Workloads {
		for _, was := range p.Workloads {
			if w.Name == was.Name && w.Params.String() == was.Params.String() && w.Rate > 0 && was.Rate > 0 {
				add(&noted, "rate of "+w.Name, showRate(was.Rate), showRate(w.Rate))
			}
		}
	}
	add(&noted, "baseline", p.Baseline.String(), q.Baseline.String())
	add(&noted, "rebuild_every", strconv.Itoa(p.RebuildEvery), strconv.Itoa(q.RebuildEvery))
	return decisive, noted
}

// otherLoad says that a cell's load was another one in the old run, where a share of what the slowest arm does was asked for; "" if it was
// not. Half of what a slower overlay does is a smaller load, at which its latency looks as before.
func otherLoad(old, new econbench.Plan, c econbench.Cell) string {
	rate := func(p econbench.Plan) float64 { // a whole number is what workloads are given
		for _, w := range p.Workloads {
			if w.Name == c.Workload && w.Params.String() == c.Params.String() {
				return math.Round(w.Rate)
			}
		}
		return 0
	}
	was, now := rate(old), rate(new)
	if was == now {
		return ""
	}
	return fmt.Sprintf("at another load, %s, was %s: --baseline-run measures at the old run's", showRate(now), showRate(was))
}

func showRate(rate float64) string { return strconv.FormatFloat(rate, 'g', 6, 64) + "/s" }

// programNames are the workloads that both plans define and measure: what only one has is compared with nothing.
func programNames(p, q econbench.Plan) (both []string) {
	for _, a := range p.Programs {
		if slices.ContainsFunc(q.Programs, func(b econbench.Program) bool { return a.Name == b.Name }) && measures(p, a.Name) && measures(q, a.Name) {
			both = append(both, a.Name)
		}
	}
	return both
}

func measures(p econbench.Plan, workload string) bool {
	return slices.ContainsFunc(p.Workloads, func(w econbench.PlannedWorkload) bool { return w.Name == workload })
}

// definition is what decides a program's figures: its defaults are in the workloads' parameters, and words for people change nothing.
func definition(p econbench.Plan, name string) string {
	for _, def := range p.Programs {
		if def.Name != name {
			continue
		}
		def.Help, def.Params = "", nil
		def.Metrics = slices.Clone(def.Metrics)
		for i := range def.Metrics {
			def.Metrics[i].Help = ""
		}
		text, _ := json.Marshal(def) // text and numbers that were read from JSON or YAML
		return string(text)
	}
	return ""
}

// roles of the hosts that either run tells of.
func roles(old, new *econbench.Run) []string {
	all := maps.Clone(old.Hosts)
	if all == nil {
		all = make(map[string]econbench.HostFacts)
	}
	maps.Copy(all, new.Hosts)
	return slices.Sorted(maps.Keys(all))
}

// refusal names every decisive difference on a line of its own.
func refusal(old, new string, list []RunDifference) error {
	var b strings.Builder
	for _, d := range list {
		fmt.Fprintf(&b, "\n  %s: %q in %s, %q in %s", clean(d.Fact), d.Old, old, d.New, new)
	}
	return fmt.Errorf("compare %s with %s: %w; --force compares them all the same, and marks the result:%s", new, old, ErrDiffer, b.String())
}
