// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/econbench/econbench"
)

// RenderText writes the calibration for people: a table for each workload, a row for each length of run.
func (c *Calibration) RenderText(w io.Writer) error {
	var b bytes.Buffer
	machine := clean(c.Machine)
	if machine == "" {
		machine = "without a fingerprint"
	}
	wrap(&b, "", fmt.Sprintf("calibration of machine %s: %s held against itself · placement %s · wire %s · pool %s, econbench %s", machine,
		clean(c.Arm.String()), clean(string(c.Placement)), clean(string(c.Wire)), clean(c.Run), clean(c.Version)))
	for _, one := range c.Workloads {
		b.WriteByte('\n')
		wrap(&b, "", strings.Join(nonEmpty([]string{clean(one.Workload + " " + one.Params.String()), clean(one.Primary),
			counted(one.Blocks, "block"), fmt.Sprintf("a trial takes %.2f s", float64(one.Trial)),
			fmt.Sprintf("ratios of equal arms spread by %.1f%%", 100*one.Spread),
			fmt.Sprintf("over the whole pool %s, p %.2g", showRatio(one.AA), valueOr(one.AA.P, 1))}), " · "))
		for _, cols := range pack(one.columns(), textWidth-1) {
			if err := drawText(&b, cols, func(s string) string { return s }); err != nil {
				return fmt.Errorf("render calibration: %w", err)
			}
		}
	}
	b.WriteByte('\n')
	wrap(&b, "", fmt.Sprintf("A run of so many minutes spends them on two arms of one workload. False alarms: runs that tell an arm from itself, whose names are "+
		"drawn anew. Sees: the smallest effect that %.0f%% of the runs find. Behind a plant its true size over the whole pool, and the runs that found "+
		"it%s. Each rate is of %d runs resampled from the pool in stretches of %s. In brackets, %.3g%%: what %d pools drawn from this one give, %d runs of each, "+
		"or the exact bounds of the resampling where those are wider.",
		100*c.Power, c.against(), c.Runs, counted(c.Segment, "block"), 100*c.Confidence, c.Pools, c.PoolRuns))
	return writeTrimmed(w, b.Bytes())
}

// against says what plants are held against, where that is not the bare arm.
func (c *Calibration) against() string {
	for _, one := range c.Workloads {
		for _, p := range one.Plants {
			if p.Against != c.Arm {
				against := clean(p.Against.String())
				return fmt.Sprintf(", held against %s; %s itself against %s: what being attached costs", against, against, clean(c.Arm.String()))
			}
		}
	}
	return ""
}

func valueOr(v *float64, otherwise float64) float64 {
	if v == nil {
		return otherwise
	}
	return *v
}

func (one CalibratedWorkload) columns() []column {
	cols := []column{{header: "run of"}, {header: "blocks"}, {header: "false alarms"}, {header: "sees"}}
	for i, l := range one.Lengths {
		for k, text := range []string{fmt.Sprintf("%g min", l.Minutes), fmt.Sprint(l.Blocks), l.FalseAlarms.show(), l.showSees()} {
			cols[k].cells = append(cols[k].cells, text)
		}
		for k, p := range one.Plants {
			if i == 0 {
				cols = append(cols, column{header: fmt.Sprintf("%s %+.1f%%", shorten(p.name()), 100*(valueOr(p.Ratio.Median, 1)-1))})
			}
			cols[4+k].cells = append(cols[4+k].cells, p.Found[i].show())
		}
	}
	return cols
}

// name is a handicap's time alone, so that a table of four has room; the legend calls them plants.
func (p Plant) name() string {
	if p.Arm.Fastpath == "handicap" {
		return clean(p.Arm.Setting)
	}
	return clean(p.Arm.Fastpath + ":" + p.Arm.Setting)
}

// show has the wider one of the two intervals at either end; JSON has both.
func (r Rate) show() string { return showBounded(r.bounded()) }

func showBounded(b econbench.Bounded) string {
	return showPercent(b.Share) + "% [" + showPercent(b.Low) + ", " + showPercent(b.High) + "]"
}

// bounded has the wider interval's end on either side. A calibration from before there were pools' bounds has the other one alone.
func (r Rate) bounded() econbench.Bounded {
	b := econbench.Bounded{Share: r.Share, Low: r.Low, High: r.High}
	if r.PoolHigh > 0 {
		b.Low, b.High = min(b.Low, r.PoolLow), max(b.High, r.PoolHigh)
	}
	return b
}

func (l CalibratedLength) showSees() string {
	beyond := fmt.Sprintf(">%.0f", 100*seesAtMost)
	show := func(v *float64) string {
		if v == nil {
			return beyond
		}
		return showPercent(*v)
	}
	return show(l.Sees) + "% [" + show(l.SeesLow) + ", " + show(l.SeesHigh) + "]"
}

// showPercent is a share in percent, with a decimal where that tells something. What is not quite all is not rounded up to it.
func showPercent(share float64) string {
	switch v := 100 * share; {
	case v < 9.95:
		return fmt.Sprintf("%.1f", v)
	case v >= 99.5 && v < 100:
		return ">99"
	default:
		return fmt.Sprintf("%.0f", v)
	}
}

// RenderJSON writes the calibration for programs: docs/formats.md.
func (c *Calibration) RenderJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(c); err != nil {
		return fmt.Errorf("render calibration: %w", err)
	}
	return nil
}
