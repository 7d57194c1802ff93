// SPDX-License-Identifier: Apache-2.0

package econbench

import (
	"fmt"
	"slices"
)

// Program is a workload that a suite file defines: command lines, and how to read what they print. It is data and travels with
// the plan, so that a run can be resumed and reported on without the file.
//
// Words of the command lines may have placeholders: {server} (its address), {port}; in the client's also {seconds} (whole ones, that
// it has to run for) and {PARAM}, a parameter; {PARAM*seconds} is its product with the seconds, for programs that are told how often and
// not how long. {{ is a brace.
type Program struct {
	Name    string          `json:"name"`
	Help    string          `json:"help"`
	Image   string          `json:"image,omitempty"` // recipe of the image that has the programs; "": the usual one
	Server  []string        `json:"server"`          // words; no shell reads them
	Client  []string        `json:"client"`
	Exit    []int           `json:"exit,omitempty"` // codes with which the client ends when all is well; none: 0
	Params  Params          `json:"params"`         // with their defaults
	Port    int             `json:"port"`
	Ready   Readiness       `json:"ready"`
	Flows   ProgramFlows    `json:"flows"`
	Covered *Coverage       `json:"coverage,omitempty"` // nil: what such flows let a fast path carry
	Metrics []ProgramMetric `json:"metrics"`
	Primary string          `json:"primary"` // the metric that carries the verdict
}

// Readiness says when a server can be used.
type Readiness struct {
	Listens string `json:"listens,omitempty"` // "tcp" or "udp": when a socket has the port
	Line    string `json:"line,omitempty"`    // when it has printed a line that matches the regular expression
}

// ProgramFlows are Flows as a suite says them. Numbers are written out, or "{PARAM}".
type ProgramFlows struct {
	Kind     string `json:"kind"` // "lasting", "datagrams", "connects", "by_client"
	Count    string `json:"count"`
	Request  string `json:"request,omitempty"`  // B
	Response string `json:"response,omitempty"` // B
	Message  string `json:"message,omitempty"`  // B
}

// ProgramMetric is a number that a program's client prints, and where. One of Regexp, JSON and CSV says so.
type ProgramMetric struct {
	Name   string   `json:"name"`
	Regexp string   `json:"regexp,omitempty"` // with one group, which is the number; its last match counts
	JSON   string   `json:"json,omitempty"`   // a path as gjson takes it: "jobs.0.lat.mean"
	CSV    *CSVCell `json:"csv,omitempty"`
	Scale  float64  `json:"scale"` // the metric's base unit by the printed one: 1e-6 where µs are printed

	// Of metrics that econbench does not know:
	Unit   string `json:"unit,omitempty"`
	Better string `json:"better,omitempty"` // "higher", "lower" or "neither"
	Help   string `json:"help,omitempty"`
}

// How is the place where the number is, as users wrote it.
func (m ProgramMetric) How() string {
	switch {
	case m.Regexp != "":
		return fmt.Sprintf("regexp %q", m.Regexp)
	case m.JSON != "":
		return fmt.Sprintf("json %q", m.JSON)
	case m.CSV != nil && m.CSV.Row != "":
		return fmt.Sprintf("csv column %q row %q", m.CSV.Column, m.CSV.Row)
	case m.CSV != nil:
		return fmt.Sprintf("csv column %q", m.CSV.Column)
	}
	return "nothing"
}

// CSVCell is a place in comma-separated values.
type CSVCell struct {
	Column string `json:"column"`        // its name in the header, or its number from 1
	Row    string `json:"row,omitempty"` // its first column's text, or its number from 1 below the header; "": the last one
}

// BetterNeither is how a suite says Neither.
const BetterNeither = "neither"

// Metric is the metric as reports see it; of one that econbench knows, what it knows.
func (m ProgramMetric) Metric() Metric {
	if known, ok := MetricNamed(m.Name); ok {
		return known
	}
	own := Metric{Name: m.Name, Unit: m.Unit, Better: Better(m.Better), Help: m.Help}
	if m.Better == BetterNeither {
		own.Better = Neither
	}
	return own
}

// OwnMetrics are those that the plan's programs bring along and econbench does not know, each once, in the plan's order.
func (p Plan) OwnMetrics() (own []Metric) {
	for _, program := range p.Programs {
		for _, m := range program.Metrics {
			_, known := MetricNamed(m.Name)
			if !known && !IsClaim(m.Name) && !slices.ContainsFunc(own, func(o Metric) bool { return o.Name == m.Name }) {
				own = append(own, m.Metric())
			}
		}
	}
	return own
}

// Metric finds a metric by name, econbench's or one that the plan's programs bring along.
func (p Plan) Metric(name string) (Metric, bool) {
	if m, ok := MetricNamed(name); ok {
		return m, true
	}
	for _, m := range p.OwnMetrics() {
		if m.Name == name {
			return m, true
		}
	}
	return Metric{}, false
}

// Claims of a tool about its own whole run, start-up and warm-up included. They are no metrics: trials hold them against the kernel's counters.
const (
	ClaimThroughput   = "tool_throughput"   // B/s, received
	ClaimTransactions = "tool_transactions" // 1/s
	ClaimOffered      = "tool_offered"      // datagrams/s, sent
)

// IsClaim says whether a sample is a claim and no metric.
func IsClaim(name string) bool {
	return name == ClaimThroughput || name == ClaimTransactions || name == ClaimOffered
}
