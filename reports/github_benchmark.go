// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/econbench/econbench"
)

// GitHubBenchmark is the input of github.com/benchmark-action/github-action-benchmark, of its tools customBiggerIsBetter and
// customSmallerIsBetter. That action takes one direction for a whole file, so there is a format for each of them; metrics of which neither way is
// better are in none.
//
// The action compares a figure with the one before it, without a test, and levels drift from day to day. So next to a level stands its ratio to
// the baseline of the same block, which is what an alert should be set upon.
type GitHubBenchmark struct {
	Better econbench.Better // the direction of all that is in the file: Higher or Lower
}

var _ econbench.Report = GitHubBenchmark{}

// Name is after the action's own names of its tools.
func (f GitHubBenchmark) Name() string {
	if f.Better == econbench.Lower {
		return "github-smaller"
	}
	return "github-bigger"
}

// Help says which of the two it is.
func (f GitHubBenchmark) Help() string {
	if f.Better == econbench.Lower {
		return "JSON for github-action-benchmark's tool customSmallerIsBetter"
	}
	return "JSON for github-action-benchmark's tool customBiggerIsBetter"
}

// actionBenchmark is an entry as the action reads it.
type actionBenchmark struct {
	Name  string  `json:"name"`
	Unit  string  `json:"unit"`
	Value float64 `json:"value"`
	Range string  `json:"range,omitempty"`
	Extra string  `json:"extra,omitempty"`
}

// Render writes a list: what the tables show, as far as it has the direction.
func (f GitHubBenchmark) Render(w io.Writer, run *econbench.Run) error {
	s, err := Summarise(run)
	if err != nil {
		return err
	}
	list := []actionBenchmark{}
	_, groups := byWorkload(s.Cells, func(c Cell) econbench.Cell { return econbench.Cell{Workload: c.Workload, Params: c.Params} })
	for _, c := range s.Cells {
		group := groups[clean(strings.TrimSpace(c.Workload+" "+c.Params.String()))]
		primary, _ := shownPrimary(group, s.Plan)
		for _, name := range append([]string{primary}, describing(group, primary, s.Plan.OwnMetrics())...) {
			if m, ok := c.Metrics[name]; ok && m.Median != nil && m.Better == f.Better {
				list = append(list, actionBenchmarks(s, c, name, m)...)
			}
		}
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(list); err != nil {
		return fmt.Errorf("render %s: %w", f.Name(), err)
	}
	return nil
}

// actionBenchmarks are a metric's level and, for an arm that is compared, its ratio to the baseline. The name is what the action knows a
// figure by from one day to the next.
func actionBenchmarks(s *Summary, c Cell, name string, m Metric) []actionBenchmark {
	title := clean(strings.TrimSpace(c.Workload+" "+c.Params.String())) + " | " + clean(c.Arm.String()) + " | " + clean(name)
	about := fmt.Sprintf("run %s, %s valid, %d invalid", clean(s.Run), counted(c.Valid, "trial"), c.Invalid)
	level := actionBenchmark{Name: title, Unit: m.Unit, Value: *m.Median, Extra: about}
	if m.Low != nil && m.High != nil {
		level.Range = exact(m.Low) + " … " + exact(m.High)
	}
	list := []actionBenchmark{level}
	if r := m.Ratio; r != nil && r.Median != nil {
		ratio := actionBenchmark{Name: title + " vs " + clean(s.Baseline.String()), Unit: "×", Value: *r.Median, Extra: about + ", " + string(r.Verdict)}
		if r.Low != nil && r.High != nil {
			ratio.Range = exact(r.Low) + " … " + exact(r.High)
		}
		if r.Reason != "" {
			ratio.Extra += ": " + clean(r.Reason)
		}
		list = append(list, ratio)
	}
	return list
}
