// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
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
	{"text", (*Gate).text}, {"markdown", (*Gate).markdown}, {"json", (*Gate).json}, {"junit", (*Gate).junit},
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
		lines = append(lines, "not measured: "+clean(p))
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

// gateSuite and what is in it are JUnit's XML as CI systems read it: a failure is a regression, an error what could not be judged.
type gateSuite struct {
	XMLName  xml.Name   `xml:"testsuite"`
	Name     string     `xml:"name,attr"`
	Tests    int        `xml:"tests,attr"`
	Failures int        `xml:"failures,attr"`
	Errors   int        `xml:"errors,attr"`
	Cases    []gateCase `xml:"testcase"`
}

type gateCase struct {
	Class   string       `xml:"classname,attr"`
	Name    string       `xml:"name,attr"`
	Failure *gateMessage `xml:"failure"`
	Error   *gateMessage `xml:"error"`
	Output  string       `xml:"system-out,omitempty"`
}

type gateMessage struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr"`
}

// junit writes a case per cell, and one for the run as a whole.
func (g *Gate) junit(w io.Writer) error {
	suite := gateSuite{Name: fmt.Sprintf("econbench gate %.4g%%", 100*g.Share)}
	for _, c := range g.Cells {
		k := gateCase{Class: "gate." + clean(c.Workload), Name: clean(c.cell() + " · " + c.Metric), Output: c.line()}
		switch c.Verdict {
		case GateRegressed:
			k.Failure = &gateMessage{c.line(), string(c.Verdict)}
		case GateSuspect, GateUnmeasured:
			k.Error = &gateMessage{c.line(), string(c.Verdict)}
		}
		suite.Cases = append(suite.Cases, k)
	}
	whole := gateCase{Class: "gate", Name: "run", Output: g.Headline()}
	if list := append(differenceLines(g.Differences), g.Problems...); len(list) > 0 {
		kind := GateUnmeasured
		if g.Verdict == GateIncomparable {
			kind = GateIncomparable
		}
		whole.Error = &gateMessage{clean(strings.Join(list, "; ")), string(kind)}
	}
	suite.Cases = append(suite.Cases, whole)
	for _, k := range suite.Cases {
		suite.Tests++
		if k.Failure != nil {
			suite.Failures++
		}
		if k.Error != nil {
			suite.Errors++
		}
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(suite); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
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
