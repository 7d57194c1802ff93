// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/econbench/econbench"
)

// JUnit is what CI systems show as tests: a suite a workload, a case a cell. A case says whether its figures can be had and trusted, not
// whether they please: an arm that is worse than the baseline is a result, which stands in the case's properties.
type JUnit struct{}

var _ econbench.Report = JUnit{}

func (JUnit) Name() string { return "junit" }
func (JUnit) Help() string {
	return "XML for CI systems: a case per arm and workload, failed if trials are invalid or missing"
}

// The elements and their order are those that Jenkins' xUnit plugin (junit-10.xsd), which refuses all else, and Ant's schema both take. In the
// former a case has no properties, so a cell's figures are among its suite's.

type junitReport struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Name     string       `xml:"name,attr"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Errors   int          `xml:"errors,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name       string           `xml:"name,attr"`
	Tests      int              `xml:"tests,attr"`
	Failures   int              `xml:"failures,attr"`
	Errors     int              `xml:"errors,attr"`
	Skipped    int              `xml:"skipped,attr"`
	Time       string           `xml:"time,attr,omitempty"`
	Timestamp  string           `xml:"timestamp,attr,omitempty"`
	Properties *junitProperties `xml:"properties"`
	Cases      []junitCase      `xml:"testcase"`
	Out        *junitText       `xml:"system-out"`
}

type junitProperties struct {
	List []junitProperty `xml:"property"`
}

type junitProperty struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type junitCase struct {
	Name    string        `xml:"name,attr"`
	Class   string        `xml:"classname,attr"`
	Time    string        `xml:"time,attr,omitempty"`
	Skipped *junitOutcome `xml:"skipped"`
	Error   *junitOutcome `xml:"error"`
	Failure *junitOutcome `xml:"failure"`
	Out     *junitText    `xml:"system-out"`
}

type junitOutcome struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr,omitempty"`
	Text    string `xml:",cdata"`
}

// junitText is text of several lines, which stay readable in a CDATA section.
type junitText struct {
	Text string `xml:",cdata"`
}

// textOf is nil for no text.
func textOf(lines ...string) *junitText {
	if len(lines) == 0 {
		return nil
	}
	return &junitText{allowedInXML(strings.Join(lines, "\n") + "\n")}
}

// Render writes the suite of the run, then one for each workload.
func (JUnit) Render(w io.Writer, run *econbench.Run) error {
	s, err := Summarise(run)
	if err != nil {
		return err
	}
	took := make(map[cellKey]float64)
	for _, t := range run.Trials {
		if v := float64(t.Elapsed); v > 0 && isFinite(v) {
			took[keyOf(t.Cell)] += v
		}
	}
	suites := []junitSuite{junitRun(run, s)}
	order, groups := byWorkload(s.Cells, func(c Cell) econbench.Cell { return econbench.Cell{Workload: c.Workload, Params: c.Params} })
	drawn := tables(s)
	for i, title := range order {
		suite := junitSuite{Name: title, Timestamp: junitTime(s.Started)}
		total := 0.0
		var figures []string
		for _, c := range groups[title] {
			figures = append(figures, junitFigures(c)...)
			seconds := took[keyOf(econbench.Cell{Arm: c.Arm, Workload: c.Workload, Params: c.Params})]
			total += seconds
			suite.Cases = append(suite.Cases, junitCell(s, c, title, seconds))
		}
		suite.Time, suite.Properties = junitSeconds(total), properties(figures...)
		out, err := junitTable(drawn[i])
		if err != nil {
			return fmt.Errorf("render junit: %w", err)
		}
		suite.Out = textOf(out)
		suites = append(suites, suite)
	}
	if err := writeJUnit(w, "econbench", suites); err != nil {
		return fmt.Errorf("render junit: %w", err)
	}
	return nil
}

// junitRun is the run as a whole: it must have come to its end, or cells without trials would pass for skipped.
func junitRun(run *econbench.Run, s *Summary) junitSuite {
	c := junitCase{Name: "complete", Class: "econbench.run"}
	switch {
	case s.Status != econbench.StatusComplete:
		c.Error = &junitOutcome{Message: runLine(s), Type: "run " + string(s.Status)}
	case s.Attempted == 0:
		c.Skipped = &junitOutcome{Message: "the run has no trials"}
	}
	c.Out = textOf(noteLines(s.Warnings)...)
	suite := junitSuite{Name: "run " + s.Run, Timestamp: junitTime(s.Started), Cases: []junitCase{c}}
	suite.Properties = properties("run", s.Run, "version", s.Version, "suite", s.Plan.Suite, "status", string(s.Status), "lab", s.Lab, "machine", run.MachineKey(),
		"baseline", s.Baseline.String(), "blocks", strconv.Itoa(s.Plan.Blocks), "duration", showSeconds(s.Plan.Duration), "seed", strconv.FormatUint(s.Plan.Seed, 10),
		"placement", string(s.Plan.Placement), "wire", string(s.Plan.Wire), "congestion_control", s.Plan.CongestionControl,
		"planned", strconv.Itoa(s.Planned), "attempted", strconv.Itoa(s.Attempted), "command", commandLine(run.Command))
	return suite
}

// properties are pairs of name and value; those without a value are left out.
func properties(pairs ...string) *junitProperties {
	var p junitProperties
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			p.List = append(p.List, junitProperty{pairs[i], pairs[i+1]})
		}
	}
	if len(p.List) == 0 {
		return nil
	}
	return &p
}

// junitCell is an arm under a workload.
func junitCell(s *Summary, c Cell, title string, seconds float64) junitCase {
	test := junitCase{Name: c.Arm.String(), Class: "econbench." + title, Time: junitSeconds(seconds)}
	var invalid, doubts []string
	for _, n := range c.Warnings {
		if n.Invalid {
			invalid = append(invalid, n.Text+" ("+n.count()+")")
		} else {
			doubts = append(doubts, strings.TrimSpace(n.String()))
		}
	}
	primary, measured := c.Metrics[c.primary]
	switch {
	case c.Invalid > 0:
		test.Failure = &junitOutcome{Message: fmt.Sprintf("%d of %s invalid: %s", c.Invalid, counted(c.Valid+c.Invalid, "trial"), strings.Join(invalid, "; ")),
			Type: "invalid trials", Text: allowedInXML(strings.Join(invalid, "\n"))}
	case c.Valid == 0 && s.Status == econbench.StatusFailed:
		test.Error = &junitOutcome{Message: "could not measure: " + runLine(s), Type: "no trials"}
	case c.Valid == 0:
		test.Skipped = &junitOutcome{Message: "no trials"}
	case c.primary != "" && (!measured || primary.N == 0):
		test.Error = &junitOutcome{Message: "could not measure: primary metric " + c.primary + " was not collected", Type: "not collected"}
	}
	test.Out = textOf(doubts...)
	return test
}

// junitFigures are pairs of name and value: all figures of a cell, in base units, "overlay/throughput.median". What there is no number
// for has no value.
func junitFigures(c Cell) []string {
	pairs := []string{"primary", c.primary, "valid", strconv.Itoa(c.Valid), "invalid", strconv.Itoa(c.Invalid)}
	for _, name := range slices.Sorted(maps.Keys(c.Metrics)) {
		m := c.Metrics[name]
		better := string(m.Better)
		if m.Better == econbench.Neither {
			better = econbench.BetterNeither
		}
		pairs = append(pairs, name+".unit", m.Unit, name+".better", better, name+".n", strconv.Itoa(m.N),
			name+".median", exact(m.Median), name+".low", exact(m.Low), name+".high", exact(m.High))
		if r := m.Ratio; r != nil {
			pairs = append(pairs, name+".ratio", exact(r.Median), name+".ratio_low", exact(r.Low), name+".ratio_high", exact(r.High), name+".ratio_n", strconv.Itoa(r.N),
				name+".verdict", string(r.Verdict), name+".reason", r.Reason)
		}
	}
	return prefixed(c.Arm.String(), pairs)
}

// prefixed puts the name of a case before those of its properties.
func prefixed(name string, pairs []string) []string {
	for i := 0; i < len(pairs); i += 2 {
		pairs[i] = name + "/" + pairs[i]
	}
	return pairs
}

// junitTable is a workload's table as text.
func junitTable(t table) (string, error) {
	var b bytes.Buffer
	b.WriteString(strings.Join(nonEmpty(t.title), " · ") + "\n")
	for _, cols := range t.fit(textWidth - 1) {
		if err := drawText(&b, cols, func(s string) string { return s }); err != nil {
			return "", err
		}
	}
	if t.ruler != "" {
		b.WriteString(t.ruler + "\n")
	}
	return strings.TrimRight(b.String(), "\n"), nil
}

// junitTime is a time as XML Schema's dateTime in UTC, without a zone, as the format wants it.
func junitTime(t time.Time) string {
	if t.IsZero() || t.Year() < 0 || t.Year() > 9999 {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05")
}

func junitSeconds(v float64) string {
	if !isFinite(v) {
		return ""
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

// writeJUnit adds up what the cases came to, and writes the report.
func writeJUnit(w io.Writer, name string, suites []junitSuite) error {
	report := junitReport{Name: name, Suites: suites}
	for i := range report.Suites {
		s := &report.Suites[i]
		s.Tests = len(s.Cases)
		for _, c := range s.Cases {
			switch {
			case c.Failure != nil:
				s.Failures++
			case c.Error != nil:
				s.Errors++
			case c.Skipped != nil:
				s.Skipped++
			}
		}
		report.Tests, report.Failures, report.Errors = report.Tests+s.Tests, report.Failures+s.Failures, report.Errors+s.Errors
	}
	var b bytes.Buffer
	b.WriteString(xml.Header)
	e := xml.NewEncoder(&b)
	e.Indent("", "  ")
	if err := e.Encode(report); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err := w.Write(bytes.ReplaceAll(b.Bytes(), []byte("\uFFFD"), nil)) // what the encoder writes for a forbidden character in an attribute
	return err
}

// allowedInXML drops what XML 1.0 forbids, which may stand in a tool's output: its section 2.2.
func allowedInXML(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t', r == '\n', r >= 0x20 && r <= 0xD7FF, r >= 0xE000 && r < utf8.RuneError, r >= 0x10000:
			return r
		}
		return -1
	}, s)
}
