// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"encoding/csv"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"

	"github.com/econbench/econbench"
)

// CSV is the summary for spreadsheets and data frames: a row per cell and metric, base units, empty where there is no
// number.
type CSV struct{}

var _ econbench.Report = CSV{}

func (CSV) Name() string { return "csv" }
func (CSV) Help() string { return "a row per arm, workload and metric, in base units" }

var csvHeader = []string{
	"run", "baseline", "arm", "workload", "params", "valid", "invalid", "metric", "unit", "better", "primary",
	"n", "median", "low", "high", "coverage", "ratio_n", "ratio", "ratio_low", "ratio_high", "ratio_coverage",
	"p", "p_holm", "verdict", "reason",
}

// Render writes the header and the rows, metrics in alphabetical order.
func (CSV) Render(w io.Writer, run *econbench.Run) error {
	s, err := Summarise(run)
	if err != nil {
		return err
	}
	c := csv.NewWriter(w)
	c.Write(s.csvHeader()) // errors are kept for Error below
	for _, cell := range s.Cells {
		for _, name := range slices.Sorted(maps.Keys(cell.Metrics)) {
			c.Write(s.padded(csvRow(s, cell, name, cell.Metrics[name])))
		}
	}
	for _, p := range s.Published {
		c.Write(p.csvRow(s))
	}
	c.Flush()
	if err := c.Error(); err != nil {
		return fmt.Errorf("render csv: %w", err)
	}
	return nil
}

func csvRow(s *Summary, c Cell, name string, m Metric) []string {
	row := []string{
		s.Run, s.Baseline.String(), c.Arm.String(), c.Workload, c.Params.String(), strconv.Itoa(c.Valid), strconv.Itoa(c.Invalid),
		name, m.Unit, string(m.Better), strconv.FormatBool(m.Primary),
		strconv.Itoa(m.N), exact(m.Median), exact(m.Low), exact(m.High), exact(&m.Coverage),
	}
	r := m.Ratio
	if r == nil {
		return append(row, make([]string, len(csvHeader)-len(row))...)
	}
	return append(row, strconv.Itoa(r.N), exact(r.Median), exact(r.Low), exact(r.High), exact(&r.Coverage),
		exact(r.P), exact(r.PHolm), string(r.Verdict), r.Reason)
}

// exact loses no bit of a number.
func exact(v *float64) string {
	if v == nil {
		return ""
	}
	return strconv.FormatFloat(*v, 'g', -1, 64)
}
