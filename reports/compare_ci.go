// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/econbench/econbench"
)

// junit writes a suite for each pair of runs, a case for each cell. Unlike in a run's report, to be worse is a failure: whether something became
// worse is what a comparison is asked.
func (c *Comparison) junit(w io.Writer) error {
	var suites []junitSuite
	for i, p := range c.Pairs {
		r := c.Runs[i+1]
		suite := junitSuite{Name: p.New + " compared with " + p.Old, Timestamp: junitTime(r.Started)}
		about := []string{"old", c.Runs[0].Run, "new", r.Run, "old_version", c.Runs[0].Version, "new_version", r.Version,
			"forced", strings.Join(differenceLines(p.Forced), "; "), "noted", strings.Join(differenceLines(p.Noted), "; ")}
		for _, cell := range p.Cells {
			suite.Cases = append(suite.Cases, junitChange(p, cell))
			about = append(about, cell.junitFigures()...)
		}
		suite.Properties = properties(about...)
		for _, only := range p.OnlyOld {
			suite.Cases = append(suite.Cases, junitCase{Name: only.Arm.String(), Class: junitClass(only.Workload, only.Params),
				Error: &junitOutcome{Message: "could not compare: not in " + p.New, Type: "missing"}})
		}
		for _, only := range p.OnlyNew {
			suite.Cases = append(suite.Cases, junitCase{Name: only.Arm.String(), Class: junitClass(only.Workload, only.Params),
				Skipped: &junitOutcome{Message: "not in " + p.Old}})
		}
		lines := append(noteLines(p.Warnings), labelled(c.Runs[0])...)
		suite.Out = textOf(append(lines, labelled(r)...)...)
		suites = append(suites, suite)
	}
	return writeJUnit(w, "econbench compare", suites)
}

func junitClass(workload string, params econbench.Params) string {
	return "econbench." + clean(strings.TrimSpace(workload+" "+params.String()))
}

// labelled are a run's warnings with its label.
func labelled(r ComparedRun) (lines []string) {
	for _, n := range r.Warnings {
		lines = append(lines, clean(r.Label)+": "+clean(n.String()))
	}
	return lines
}

// junitChange is a cell that both runs have.
func junitChange(p RunPair, c ComparedCell) junitCase {
	m, ok := c.Metrics[c.primary]
	test := junitCase{Name: c.name(), Class: junitClass(c.Workload, c.Params)}
	if !ok {
		test.Error = &junitOutcome{Message: "could not compare: no primary metric was collected", Type: "not collected"}
		return test
	}
	switch {
	case m.Old.N > 0 && m.New.N == 0:
		test.Error = &junitOutcome{Message: "could not compare: " + m.Reason, Type: "not collected"}
	case m.Old.N == 0:
		test.Skipped = &junitOutcome{Message: m.Reason}
	case m.Verdict == VerdictWorse:
		test.Failure = &junitOutcome{Message: m.line(c, p), Type: string(VerdictWorse)}
	}
	return test
}

// junitFigures are pairs of name and value: what the verdict on the cell rests on.
func (c ComparedCell) junitFigures() []string {
	m, ok := c.Metrics[c.primary]
	if !ok {
		return nil
	}
	pairs := []string{"primary", c.primary, "unit", m.Unit, "better", string(m.Better), "verdict", string(m.Verdict), "reason", m.Reason, "carrier", string(m.Carrier),
		"old.median", exact(m.Old.Median), "old.n", strconv.Itoa(m.Old.N), "new.median", exact(m.New.Median), "new.n", strconv.Itoa(m.New.N)}
	if ch := m.carried(); ch != nil {
		pairs = append(pairs, "change", exact(ch.Factor), "change_low", exact(ch.Low), "change_high", exact(ch.High), "p", exact(ch.P), "p_holm", exact(m.PHolm))
	}
	return prefixed(strings.TrimSpace(c.Workload+" "+c.Params.String())+"/"+c.name(), pairs)
}

// line is a change in words: "worse: overlay in tcp_rr request=1 response=1, transactions -5.1% [-6.0, -4.2] by ratio".
func (m MetricChange) line(c ComparedCell, p RunPair) string {
	line := fmt.Sprintf("%s: %s in %s, %s %s by %s", m.Verdict, clean(c.name()), clean(strings.TrimSpace(c.Workload+" "+c.Params.String())), clean(c.primary),
		showChange(m.carried(), true), map[Carrier]string{CarrierRatio: "ratio", CarrierAbsolute: "absolute values"}[m.Carrier])
	if m.Reason != "" && m.Verdict != VerdictNone {
		line += " (" + clean(m.Reason) + ")"
	}
	if len(p.Forced) > 0 {
		line += " (forced)"
	}
	return line
}

// github is the comparison for $GITHUB_STEP_SUMMARY.
func (c *Comparison) github(w io.Writer) error {
	page := stepSummary{limit: summaryLimit, whole: "econbench compare OLD NEW -f markdown"}
	for _, p := range c.Pairs {
		counts := make(map[string]int)
		var lines []string
		for _, v := range []Verdict{VerdictWorse, VerdictInconclusive, VerdictSame, VerdictBetter, VerdictNone} {
			for _, cell := range p.Cells {
				if m, ok := cell.Metrics[cell.primary]; ok && m.Verdict == v {
					counts[string(v)]++
					lines = append(lines, m.line(cell, p))
				}
			}
		}
		head := strings.Join(countedVerdicts(counts, clean(p.Old)), "")
		if head == "" {
			head = "nothing was compared"
		}
		page.text("## %s: %s\n", escape(clean(p.New)), escape(head))
		if len(p.Forced) > 0 {
			page.text("\n**%s**\n", escape(p.forcedLine()))
		}
		page.bullets("", lines)
		for _, t := range compareTables(p) {
			page.table("### "+escape(t.title[0]), t.columns, "")
		}
		page.folded("In "+clean(p.Old)+" alone", cellLines(p.OnlyOld))
		page.folded("In "+clean(p.New)+" alone", cellLines(p.OnlyNew))
		page.folded("The runs differ in", differenceLines(p.Noted))
		page.folded("Warnings", noteLines(p.Warnings))
	}
	for _, r := range c.Runs {
		page.text("\n%s\n", escape(r.line()))
		page.folded("Warnings of "+clean(r.Label), labelled(r))
	}
	page.text("\n%s\n", escape(c.legend()))
	return page.write(w)
}
