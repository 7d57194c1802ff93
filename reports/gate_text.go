// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/econbench/econbench/internal/names"
)

// gateFormats is the one list of a gate's formats. The first is the default.
var gateFormats = []struct {
	name   string
	render func(*Gate, io.Writer) error
}{
	{"text", (*Gate).text}, {"markdown", (*Gate).markdown}, {"json", (*Gate).json}, {"junit", (*Gate).junit}, {"github", (*Gate).github},
}

// GateFormats lists the formats that a gate can be rendered in, the default first.
func GateFormats() (list []string) {
	for _, f := range gateFormats {
		list = append(list, f.name)
	}
	return list
}

// Render writes the gate in one of GateFormats; an unknown one is an error before anything is written.
func (g *Gate) Render(w io.Writer, format string) error {
	for _, f := range gateFormats {
		if f.name == format {
			if err := f.render(g, w); err != nil {
				return fmt.Errorf("render gate as %s: %w", format, err)
			}
			return nil
		}
	}
	return names.Unknown("gate format", format, GateFormats())
}

// ReadGate is the inverse of the JSON.
func ReadGate(content []byte) (*Gate, error) {
	var version struct{ Schema *int }
	if err := json.Unmarshal(content, &version); err != nil {
		return nil, err
	}
	if version.Schema == nil || *version.Schema != GateSchema {
		return nil, fmt.Errorf("no gate of schema %d, the one that this econbench reads", GateSchema)
	}
	g := new(Gate)
	return g, json.Unmarshal(content, g)
}

// Headline is what the gate comes to, on one line.
func (g *Gate) Headline() string {
	s := fmt.Sprintf("gate %.4g%% against run %s: %s", 100*g.Share, clean(g.Old.Run), g.Verdict)
	if g.Verdict == GateIncomparable {
		return s + ": the runs differ in what decides figures"
	}
	var parts []string
	for _, v := range []GateVerdict{GateRegressed, GateSuspect, GateUnmeasured, GatePassed} {
		if n := g.count(v); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, v))
		}
	}
	if len(parts) > 0 {
		s += fmt.Sprintf(": %s of %s", strings.Join(parts, ", "), counted(len(g.Cells), "cell"))
	}
	return s
}

func (g *Gate) count(v GateVerdict) (n int) {
	for _, c := range g.Cells {
		if c.Verdict == v {
			n++
		}
	}
	return n
}

// Lines are the cells that somebody has to look at, the gravest first, a line each; then what differs and what was not measured.
func (g *Gate) Lines() (lines []string) {
	for i := len(gravity) - 1; i > 0; i-- {
		for _, c := range g.Cells {
			if c.Verdict == gravity[i] {
				lines = append(lines, string(c.Verdict)+": "+c.line())
			}
		}
	}
	for _, d := range g.Differences {
		lines = append(lines, "differs: "+clean(d.String()))
	}
	for _, p := range g.Problems {
		lines = append(lines, "unmeasured: "+clean(p))
	}
	return lines
}

// passedLines are the cells that got through and of which there is something to say.
func (g *Gate) passedLines() (lines []string) {
	for _, c := range g.Cells {
		if c.Verdict == GatePassed && c.Reason != "" {
			lines = append(lines, string(c.Verdict)+": "+c.line())
		}
	}
	return lines
}

// line is a cell with all that its verdict rests on.
func (c GatedCell) line() string {
	s := clean(c.cell() + " · " + heading(c.Metric))
	if c.Old.Median != nil || c.New.Median != nil {
		s += " " + show(c.Metric, c.Unit, c.Old.Median) + " → " + show(c.Metric, c.Unit, c.New.Median)
	}
	if t := c.Planned.text(); t != "" {
		s += ", by its ratio to the baseline " + t
	}
	if t := c.Confirm.text(); t != "" {
		s += map[bool]string{true: "; confirmed by ", false: "; not confirmed by "}[c.Verdict == GateRegressed] +
			counted(c.Confirm.Blocks, "extra block") + ": " + t
	}
	if c.Reason != "" {
		s += " (" + clean(c.Reason) + ")"
	}
	return s
}

// cell names arm or arms, workload and parameters.
func (c GatedCell) cell() string {
	arm := ComparedCell{Arm: c.Arm, NewArm: c.NewArm}.name()
	return strings.TrimSpace(arm + " " + c.Workload + " " + c.Params.String())
}

func (s *GateStep) text() string {
	if s == nil || s.Change == nil || s.Change.Factor == nil {
		return ""
	}
	return showChange(s.Change, true) + " p " + showP(MetricChange{Ratio: s.Change, Carrier: CarrierRatio, PHolm: s.PHolm})
}

// notes are what has to be known besides.
func (g *Gate) notes() (lines []string) {
	if len(g.OnlyOld) > 0 {
		lines = append(lines, "in the old run alone, not judged: "+strings.Join(cellLines(g.OnlyOld), ", "))
	}
	if d := differenceLines(g.Noted); len(d) > 0 {
		lines = append(lines, "the runs differ in: "+strings.Join(d, "; "))
	}
	return lines
}

func (g *Gate) text(w io.Writer) error {
	var b bytes.Buffer
	wrap(&b, "", g.Headline())
	for _, l := range append(g.Lines(), append(g.passedLines(), g.notes()...)...) {
		wrap(&b, "  ", l)
	}
	b.WriteByte('\n')
	wrap(&b, "", g.legend())
	return writeTrimmed(w, b.Bytes())
}

// legend says what the words mean.
func (g *Gate) legend() string {
	return fmt.Sprintf("A loss of %.4g%% or more of a primary metric's ratio to the baseline, significant after Holm's correction, is suspect; it has "+
		"regressed when extra blocks, by themselves, say the same. unmeasured: the interval is wider than ±%.4[1]g%%, or the data lack. The "+
		"baseline itself is not judged: levels drift from run to run.", 100*g.Share)
}

func (g *Gate) markdown(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "**%s**\n", escape(g.Headline()))
	list := func(lines []string) {
		if len(lines) > 0 {
			b.WriteByte('\n')
		}
		for _, l := range lines {
			fmt.Fprintf(&b, "- %s\n", escape(l))
		}
	}
	list(g.Lines())
	if len(g.Cells) > 0 {
		b.WriteByte('\n')
		drawMarkdown(&b, g.columns())
	}
	list(append(g.passedLines(), g.notes()...))
	fmt.Fprintf(&b, "\n%s\n", escape(g.legend()))
	return writeTrimmed(w, b.Bytes())
}

// columns are a table of all cells.
func (g *Gate) columns() []column {
	per := func(f func(GatedCell) string) (out []string) {
		for _, c := range g.Cells {
			out = append(out, f(c))
		}
		return out
	}
	return []column{
		{header: "verdict", left: true, cells: per(func(c GatedCell) string { return string(c.Verdict) })},
		{header: "cell", left: true, cells: per(func(c GatedCell) string { return clean(c.cell()) })},
		{header: "metric", left: true, cells: per(func(c GatedCell) string { return clean(heading(c.Metric)) })},
		{header: "old", cells: per(func(c GatedCell) string { return show(c.Metric, c.Unit, c.Old.Median) })},
		{header: "new", cells: per(func(c GatedCell) string { return show(c.Metric, c.Unit, c.New.Median) })},
		{header: "change of the ratio", cells: per(func(c GatedCell) string { return c.Planned.text() })},
		{header: "in extra blocks", cells: per(func(c GatedCell) string { return c.Confirm.text() })},
	}
}

func (g *Gate) json(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(g)
}

// junit writes a case per cell, and one for the run as a whole. A failure is a regression, an error what could not be judged.
func (g *Gate) junit(w io.Writer) error {
	whole := junitCase{Name: "measured", Class: "econbench.gate", Out: textOf(append([]string{g.Headline()}, g.notes()...)...)}
	if list := append(differenceLines(g.Differences), g.Problems...); len(list) > 0 {
		kind := GateUnmeasured
		if g.Verdict == GateIncomparable {
			kind = GateIncomparable
		}
		whole.Error = &junitOutcome{Message: clean(strings.Join(list, "; ")), Type: string(kind)}
	}
	suite := junitSuite{Name: fmt.Sprintf("gate %.4g%% against run %s", 100*g.Share, g.Old.Run), Cases: []junitCase{whole}}
	suite.Properties = properties("verdict", string(g.Verdict), "old", g.Old.Run, "new", g.New.Run, "old_version", g.Old.Version, "new_version", g.New.Version)
	for _, c := range g.Cells {
		arm := ComparedCell{Arm: c.Arm, NewArm: c.NewArm}.name()
		k := junitCase{Name: clean(arm), Class: junitClass(c.Workload, c.Params), Out: textOf(c.line())}
		switch c.Verdict {
		case GateRegressed:
			k.Failure = &junitOutcome{Message: c.line(), Type: string(c.Verdict)}
		case GateSuspect, GateUnmeasured:
			k.Error = &junitOutcome{Message: c.line(), Type: string(c.Verdict)}
		}
		suite.Cases = append(suite.Cases, k)
	}
	return writeJUnit(w, "econbench gate", []junitSuite{suite})
}

// github is the gate for $GITHUB_STEP_SUMMARY.
func (g *Gate) github(w io.Writer) error {
	page := stepSummary{limit: summaryLimit, whole: "econbench compare OLD NEW --gate SHARE -f markdown"}
	page.text("## %s\n", escape(g.Headline()))
	page.bullets("", g.Lines())
	if len(g.Cells) > 0 {
		page.table("### cells", g.columns(), "")
	}
	page.folded("Passed, with something to say", g.passedLines())
	page.folded("Besides", g.notes())
	page.text("\n%s\n", escape(g.legend()))
	return page.write(w)
}

// Regressions name the cells that have regressed, for an error of one line.
func (g *Gate) Regressions() (list []string) {
	for _, c := range g.Cells {
		if c.Verdict == GateRegressed {
			list = append(list, clean(c.cell()))
		}
	}
	slices.Sort(list)
	return list
}

// Unjudged are what is not known, in few words each.
func (g *Gate) Unjudged() (list []string) {
	for _, v := range []GateVerdict{GateSuspect, GateUnmeasured} {
		for _, c := range g.Cells {
			if c.Verdict == v {
				list = append(list, clean(fmt.Sprintf("%s %s: %s", v, c.cell(), c.Reason)))
			}
		}
	}
	return append(list, g.Problems...)
}
