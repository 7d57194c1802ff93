// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/names"
)

// comparisonFormats is the one list of a comparison's formats. The first is the default.
var comparisonFormats = []struct {
	name   string
	render func(*Comparison, io.Writer) error
}{
	{"text", (*Comparison).text}, {"markdown", (*Comparison).markdown}, {"csv", (*Comparison).csv}, {"json", (*Comparison).json},
	{"junit", (*Comparison).junit}, {"github", (*Comparison).github},
}

// ComparisonFormats lists the formats that a comparison can be rendered in, the default first.
func ComparisonFormats() (list []string) {
	for _, f := range comparisonFormats {
		list = append(list, f.name)
	}
	return list
}

// Render writes the comparison in one of ComparisonFormats; an unknown one is an error before anything is written.
func (c *Comparison) Render(w io.Writer, format string) error {
	for _, f := range comparisonFormats {
		if f.name == format {
			if err := f.render(c, w); err != nil {
				return fmt.Errorf("render comparison as %s: %w", format, err)
			}
			return nil
		}
	}
	return names.Unknown("comparison format", format, ComparisonFormats())
}

func (c *Comparison) text(w io.Writer) error {
	var b bytes.Buffer
	for _, r := range c.Runs {
		wrap(&b, "", r.line())
	}
	paint := Text{}.painter(w)
	for _, p := range c.Pairs {
		if b.WriteByte('\n'); len(c.Pairs) > 1 {
			wrap(&b, "", clean(p.New)+" compared with "+clean(p.Old)+":")
			b.WriteByte('\n')
		}
		if len(p.Forced) > 0 {
			wrap(&b, "", p.forcedLine())
			b.WriteByte('\n')
		}
		for i, t := range compareTables(p) {
			if i > 0 {
				b.WriteByte('\n')
			}
			wrap(&b, "", strings.Join(nonEmpty(t.title), " · "))
			for _, cols := range t.fit(textWidth - 1) {
				if err := drawText(&b, cols, paint); err != nil {
					return err
				}
			}
		}
		section(&b, "in "+clean(p.Old)+" alone, not compared:", cellLines(p.OnlyOld))
		section(&b, "in "+clean(p.New)+" alone, not compared:", cellLines(p.OnlyNew))
		section(&b, "the runs differ in:", differenceLines(p.Noted))
		section(&b, "warnings:", noteLines(p.Warnings))
	}
	for _, r := range c.Runs {
		section(&b, "invalid trials of "+clean(r.Label)+", which do not count:", noteLines(r.invalid))
		section(&b, "warnings of "+clean(r.Label)+":", noteLines(r.doubts()))
	}
	b.WriteByte('\n')
	wrap(&b, "", c.legend())
	return writeTrimmed(w, b.Bytes())
}

// line names the run and how it ended.
func (r ComparedRun) line() string {
	return clean(r.Label) + ": " + runLine(&Summary{Run: r.Run, Version: r.Version, Lab: r.Lab, Status: r.Status, Error: r.Error,
		Planned: r.Planned, Attempted: r.Attempted})
}

// doubts are the warnings that are not about invalid trials.
func (r ComparedRun) doubts() []Note { return r.Warnings[:len(r.Warnings)-len(r.invalid)] }

// forcedLine marks what was compared in spite of a difference.
func (p RunPair) forcedLine() string {
	return "forced: the runs differ in what decides figures: " + strings.Join(differenceLines(p.Forced), "; ")
}

// legend explains the signs, once, below everything.
func (c *Comparison) legend() string {
	by, none := "the ratio where there is one", " none: a change of levels, which drift from run to run; p takes blocks as "+
		"independent and knows nothing of that (--absolute judges all the same);"
	if c.Absolute {
		by, none = "absolute values, as asked for", ""
	}
	return fmt.Sprintf("Medians over blocks, ± half their interval; change: median of all quotients new/old, with its interval; "+
		"vs: the same of the ratios to the baseline in the same block; intervals cover at least %.3g%%. by: which of the two carries p, n "+
		"and verdict: %s. p: Mann-Whitney, after Holm's correction; n: blocks, old+new. ~: no significant change, or one below %.3g%%;%s "+
		"inconclusive: the data cannot tell. Behind the verdict: changes of what is described, ? if the data cannot tell.",
		100*c.Confidence, by, 100*c.MinEffect, none)
}

func cellLines(cells []econbench.Cell) (lines []string) {
	for _, c := range cells {
		lines = append(lines, clean(c.String()))
	}
	return lines
}

func differenceLines(list []RunDifference) (lines []string) {
	for _, d := range list {
		lines = append(lines, clean(d.String()))
	}
	return lines
}

func noteLines(list []Note) (lines []string) {
	for _, n := range list {
		lines = append(lines, clean(n.Text))
	}
	return lines
}

func (c *Comparison) markdown(w io.Writer) error {
	var b bytes.Buffer
	for _, r := range c.Runs {
		fmt.Fprintf(&b, "- %s\n", escape(r.line()))
	}
	list := func(head string, lines []string) {
		if len(lines) > 0 {
			fmt.Fprintf(&b, "\n%s\n\n", escape(head))
		}
		for _, l := range lines {
			fmt.Fprintf(&b, "- %s\n", escape(l))
		}
	}
	for _, p := range c.Pairs {
		if len(c.Pairs) > 1 {
			fmt.Fprintf(&b, "\n## %s compared with %s\n", escape(clean(p.New)), escape(clean(p.Old)))
		}
		if len(p.Forced) > 0 {
			fmt.Fprintf(&b, "\n**%s**\n", escape(p.forcedLine()))
		}
		for _, t := range compareTables(p) {
			title := nonEmpty(t.title)
			fmt.Fprintf(&b, "\n### %s\n\n", escape(title[0]))
			if len(title) > 1 {
				fmt.Fprintf(&b, "%s\n\n", escape(strings.Join(title[1:], " · ")))
			}
			drawMarkdown(&b, t.columns)
		}
		list("In "+clean(p.Old)+" alone, not compared:", cellLines(p.OnlyOld))
		list("In "+clean(p.New)+" alone, not compared:", cellLines(p.OnlyNew))
		list("The runs differ in:", differenceLines(p.Noted))
		list("Warnings:", noteLines(p.Warnings))
	}
	for _, r := range c.Runs {
		list("Invalid trials of "+clean(r.Label)+", which do not count:", noteLines(r.invalid))
		list("Warnings of "+clean(r.Label)+":", noteLines(r.doubts()))
	}
	fmt.Fprintf(&b, "\n%s\n", escape(c.legend()))
	return writeTrimmed(w, b.Bytes())
}

var comparisonHeader = []string{
	"old", "new", "forced", "arm", "new_arm", "workload", "params", "metric", "unit", "better", "primary",
	"old_n", "old_median", "old_low", "old_high", "old_ratio", "new_n", "new_median", "new_low", "new_high", "new_ratio",
	"change", "change_low", "change_high", "change_p", "ratio_change", "ratio_change_low", "ratio_change_high", "ratio_change_p",
	"carrier", "p_holm", "verdict", "reason",
}

// csv writes a row per cell and metric; cells that are in one run alone have a row whose reason says so.
func (c *Comparison) csv(w io.Writer) error {
	out := csv.NewWriter(w)
	out.Write(comparisonHeader) // errors are kept for Error below
	for _, p := range c.Pairs {
		forced := strings.Join(differenceLines(p.Forced), "; ")
		for _, cell := range p.Cells {
			for _, name := range slices.Sorted(maps.Keys(cell.Metrics)) {
				head := []string{p.Old, p.New, forced, cell.Arm.String(), cell.NewArm.String(), cell.Workload, cell.Params.String(), name}
				out.Write(append(head, changeRow(cell.Metrics[name])...))
			}
		}
		alone := func(cells []econbench.Cell, label string) {
			for _, cell := range cells {
				row := make([]string, len(comparisonHeader))
				copy(row, []string{p.Old, p.New, forced, cell.Arm.String(), cell.Arm.String(), cell.Workload, cell.Params.String()})
				row[len(row)-1] = "in " + label + " alone"
				out.Write(row)
			}
		}
		alone(p.OnlyOld, p.Old)
		alone(p.OnlyNew, p.New)
	}
	out.Flush()
	return out.Error()
}

func changeRow(m MetricChange) []string {
	row := []string{m.Unit, string(m.Better), strconv.FormatBool(m.Primary)}
	for _, l := range []Level{m.Old, m.New} {
		row = append(row, strconv.Itoa(l.N), exact(l.Median), exact(l.Low), exact(l.High), exact(l.Ratio))
	}
	for _, c := range []*Change{m.Absolute, m.Ratio} {
		if c == nil {
			c = new(Change)
		}
		row = append(row, exact(c.Factor), exact(c.Low), exact(c.High), exact(c.P))
	}
	return append(row, string(m.Carrier), exact(m.PHolm), string(m.Verdict), m.Reason)
}

func (c *Comparison) json(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(c)
}
