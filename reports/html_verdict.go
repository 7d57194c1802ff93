// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/econbench/econbench"
)

// armVerdict is what a run says of an arm, in sentences.
type armVerdict struct {
	Arm   string
	Mean  string // over the workloads; "" where there is one workload alone
	Lines []verdictLine
}

// verdictLine is a sentence about an arm under a workload.
type verdictLine struct {
	Workload string
	Badge    badge
	Text     string
	Reason   string // why there is no verdict
}

// badge is a verdict with a sign, so that colour is not its only carrier.
type badge struct{ Class, Sign, Word string }

func badgeOf(v Verdict) badge {
	switch v {
	case VerdictBetter:
		return badge{"better", "▲", "better"}
	case VerdictWorse:
		return badge{"worse", "▼", "worse"}
	case VerdictSame:
		return badge{"same", "", "~"}
	case VerdictInconclusive:
		return badge{"unclear", "?", "inconclusive"}
	}
	return badge{"none", "–", "no verdict"}
}

// against says in words what the verdict is about.
func (b badge) against(baseline string) badge {
	switch b.Class {
	case "better", "worse":
		b.Word += " than " + baseline
	case "same":
		b.Sign, b.Word = "~", "no significant difference to "+baseline
	}
	return b
}

// verdictsOf are the sentences about all arms but the baseline. Ratios to the baseline and verdicts are the summary's; what an arm gains
// on its own network, and how much of the gap to host it closes, are had as for published figures.
func verdictsOf(s *Summary, data []*cellData) (list []armVerdict) {
	beside := besideNetworks(s, data)
	means := make(map[string]string)
	for _, m := range s.Means {
		if m.told() {
			means[m.Arm.String()] = m.show()
		}
	}
	index := make(map[string]int)
	for _, c := range s.Cells {
		arm := c.Arm.String()
		if arm == s.Baseline.String() {
			continue
		}
		if _, known := index[arm]; !known {
			index[arm] = len(list)
			list = append(list, armVerdict{Arm: shorten(clean(arm)), Mean: means[arm]})
		}
		v := &list[index[arm]]
		v.Lines = append(v.Lines, sentence(c, s, beside[keyOf(econbench.Cell{Arm: c.Arm, Workload: c.Workload, Params: c.Params})]))
	}
	return list
}

// workloadName is a workload with those parameters that tell it from others of its name in the plan.
func workloadName(workload string, params econbench.Params, plan econbench.Plan) string {
	telling := econbench.Params{}
	for _, w := range plan.Workloads {
		for _, k := range slices.Concat(slices.Collect(maps.Keys(w.Params)), slices.Collect(maps.Keys(params))) {
			if v, has := params[k]; has && w.Name == workload && w.Params[k] != v {
				telling[k] = v
			}
		}
	}
	return workloadTitle(workload, telling)
}

// besideNetworks holds each arm that has a fast path against its own network without it, under every workload's primary metric.
func besideNetworks(s *Summary, data []*cellData) map[cellKey]Published {
	cells := make(map[cellKey]*cellData)
	for _, d := range data {
		cells[keyOf(d.cell)] = d
	}
	out := make(map[cellKey]Published)
	for _, w := range s.Plan.Workloads {
		for _, a := range s.Plan.Arms {
			if a.Fastpath == econbench.NoFastpath || a.Fastpath == "" {
				continue
			}
			network := econbench.Arm{Topology: a.Topology, Fastpath: econbench.NoFastpath}
			f := econbench.PublishedFigure{Workload: w.Name, Params: w.Params, Metric: w.Primary, Arm: a, Against: network}
			out[keyOf(econbench.Cell{Arm: a, Workload: w.Name, Params: w.Params})] = beside(f, w, s.Plan, cells, Options{}.withDefaults())
		}
	}
	return out
}

// sentence says what a cell comes to.
func sentence(c Cell, s *Summary, own Published) verdictLine {
	l := verdictLine{Workload: workloadName(c.Workload, c.Params, s.Plan), Badge: badgeOf(VerdictNone)}
	m := c.Metrics[c.primary]
	switch {
	case c.Valid+c.Invalid == 0:
		l.Text = "Nothing was measured: no trials."
		return l
	case c.Valid == 0:
		l.Text = fmt.Sprintf("Nothing can be said: all %s are invalid.", counted(c.Invalid, "trial"))
		for _, n := range c.Warnings {
			if n.Invalid {
				l.Reason = clean(n.Text)
				break
			}
		}
		return l
	case m.N == 0:
		l.Text = "Nothing can be said: " + clean(c.primary) + " was not collected."
		return l
	}
	what := noun(c.primary, m.Better)
	network := ""
	if own.Against.Topology != "" {
		network = own.Against.String()
	}
	var parts []string
	if network != "" && network != s.Baseline.String() && own.Measured != nil && own.Measured.Median != nil {
		parts = append(parts, fmt.Sprintf("%s the %s's %s%s", showPaired(own.Measured), clean(network), what, unproven(own.Measured)))
	}
	if r := m.Ratio; r != nil && r.Median != nil {
		parts = append(parts, fmt.Sprintf("%s the %s's %s", showRatio(r), clean(s.Baseline.String()), what))
	}
	if own.Gap != nil && own.Gap.Median != nil {
		parts = append(parts, "closes "+showShare(own.Gap)+" of the gap to host")
	}
	if len(parts) == 0 {
		parts = []string{show(c.primary, m.Unit, m.Median) + " " + what + ", with nothing to compare it with"}
	}
	l.Text = strings.Join(parts, "; ") + "."
	if c.Invalid > 0 {
		l.Text += fmt.Sprintf(" %d of %s invalid and not in it.", c.Invalid, counted(c.Valid+c.Invalid, "trial"))
	}
	if r := m.Ratio; r != nil {
		l.Badge = badgeOf(r.Verdict).against(clean(s.Baseline.String()))
		l.Reason = clean(r.Reason)
	}
	return l
}

// unproven is what has to be said of a ratio that no test is behind.
func unproven(p *Paired) string {
	switch {
	case p.Low == nil || p.High == nil:
		return " (too few blocks for an interval)"
	case *p.Low <= 1 && *p.High >= 1:
		return " (1 is in the interval: no difference is shown)"
	}
	return ""
}

// noun is a metric as part of a sentence.
func noun(metric string, better econbench.Better) string {
	name := heading(metric)
	if better == econbench.Lower {
		name += " (lower is better)"
	}
	return name
}

// banner is something that has to be said before anything else.
type banner struct {
	Class string // "bad", "doubt", "good"
	Head  string
	Text  string
}

// bannersOf are those about the run as a whole, the worst first. gate is what a gate came to; nil: there is none.
func bannersOf(s *Summary, gate *banner) (list []banner) {
	valid, invalid := 0, 0
	for _, c := range s.Cells {
		valid += c.Valid
		invalid += c.Invalid
	}
	done := fmt.Sprintf("%d of %s were attempted", s.Attempted, counted(s.Planned, "planned trial"))
	switch s.Status {
	case econbench.StatusComplete:
	case econbench.StatusFailed:
		list = append(list, banner{"bad", "The run failed.", sentences(done, clean(s.Error))})
	case econbench.StatusInterrupted:
		list = append(list, banner{"bad", "The run was interrupted.", sentences(done, clean(s.Error))})
	case econbench.StatusRunning:
		list = append(list, banner{"bad", "The run is not finished.", sentences("it is still going on, or was killed", done)})
	default:
		list = append(list, banner{"bad", "How the run ended is not recorded.", sentences(clean(string(s.Status)), done)})
	}
	switch {
	case s.Attempted == 0:
		list = append(list, banner{"bad", "The run has no trials.", "There is nothing to compare."})
	case valid == 0:
		list = append(list, banner{"bad", "No trial is valid.", "Nothing can be said of any arm; the reasons are below."})
	case invalid > 0:
		list = append(list, banner{"bad", fmt.Sprintf("%d of %s are invalid.", invalid, counted(valid+invalid, "trial")),
			"They count nowhere; those that have a value are marked × in the plots. The reasons are below."})
	}
	if gate != nil && gate.Class != "good" { // the last of those that are bad, or the first doubt
		list = append(list, *gate)
	}
	if s.Baseline.Topology == "" {
		list = append(list, banner{"doubt", "The plan names no baseline.", "There are no ratios and no verdicts."})
	}
	if n := len(notesOf(s, false)); n > 0 {
		list = append(list, banner{"doubt", fmt.Sprintf("There %s.", areWarnings(n)), "The trials that they are about count all the same; they are listed below."})
	}
	if len(list) == 0 {
		list = append(list, banner{"good", "The run is complete.", fmt.Sprintf("All %s are valid, and nothing is to be warned of.", counted(valid, "trial"))})
	}
	if gate != nil && gate.Class == "good" {
		list = append(list, *gate)
	}
	return list
}

func areWarnings(n int) string {
	if n == 1 {
		return "is 1 warning"
	}
	return "are " + counted(n, "warning")
}

// sentences makes sentences of what is not empty.
func sentences(parts ...string) string {
	var out []string
	for _, p := range nonEmpty(parts) {
		out = append(out, upper(strings.TrimRight(p, "."))+".")
	}
	return strings.Join(out, " ")
}

// upper begins with a capital.
func upper(s string) string {
	r := []rune(s)
	if len(r) == 0 {
		return s
	}
	return string(unicode.ToUpper(r[0])) + string(r[1:])
}
