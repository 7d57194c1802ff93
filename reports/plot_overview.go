// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"math"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/econbench/econbench"
)

// gain is a row of the overview: a ratio to the baseline, turned such that above 1 is better. A row without one is a heading.
type gain struct {
	label             string
	look              armLook
	median, low, high float64 // low and high are NaN without an interval
	heading           bool
	verdict           Verdict
}

// gainsOf are the primary metric's ratios of all arms, by workload.
func gainsOf(s *Summary) (rows []gain) {
	looks := looksOf(s)
	order, groups := byWorkload(s.Cells, func(c Cell) econbench.Cell { return econbench.Cell{Workload: c.Workload, Params: c.Params} })
	for _, k := range order {
		head := false
		for _, c := range groups[k] {
			m := c.Metrics[c.primary]
			g, ok := gainOf(m)
			if !ok {
				continue
			}
			if !head {
				rows = append(rows, gain{label: shortTitle(workloadName(c.Workload, c.Params, s.Plan)) + ", " + heading(c.primary), heading: true})
				head = true
			}
			g.label, g.look = shorten(clean(c.Arm.String())), looks[c.Arm.String()]
			rows = append(rows, g)
		}
	}
	return rows
}

func gainOf(m Metric) (g gain, ok bool) {
	r := m.Ratio
	if r == nil || !loggable(r.Median) || m.Better == econbench.Neither {
		return g, false
	}
	g = gain{median: *r.Median, low: math.NaN(), high: math.NaN(), verdict: r.Verdict}
	if loggable(r.Low) && loggable(r.High) {
		g.low, g.high = *r.Low, *r.High
	}
	if m.Better == econbench.Lower {
		g.median, g.low, g.high = 1/g.median, 1/g.high, 1/g.low
	}
	return g, true
}

// shortTitle is a workload with its parameters as far as a plot has room.
func shortTitle(s string) string {
	const most = 44
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

const gainRow = vg.Length(16)

// overview shows all verdicts in one picture.
func overview(s *Summary) (figure, bool) {
	rows := gainsOf(s)
	if len(rows) == 0 {
		return figure{}, false
	}
	low, high := 1.0, 1.0
	var words []string
	for _, r := range rows {
		if r.heading {
			words = append(words, r.label)
			continue
		}
		for _, v := range []float64{r.median, r.low, r.high} {
			if isFinite(v) {
				low, high = math.Min(low, v), math.Max(high, v)
			}
		}
		words = append(words, fmt.Sprintf("%s %s× %s", r.label, factor(r.median, 2), r.verdict))
	}
	f := figure{
		file: "overview", title: "All arms against " + clean(s.Baseline.String()), note: "ratios with their intervals; where lower is better they are turned, so that right of 1 is better everywhere",
		about: "A row for each arm and workload. " + strings.Join(words, "; ") + ".",
		width: plotWidth, height: gainRow*vg.Length(len(rows)) + 46,
	}
	low, high = low/1.06, high*1.06
	f.draw = func(c draw.Canvas) {
		p := newPlot()
		p.X.Scale = plot.LogScale{}
		p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = low, high, 0, float64(len(rows))
		var ticks []plot.Tick
		if high/low < 4 {
			ticks = niceTicks(low, high, 4)
		} else {
			ticks = logTicks(low, high)
		}
		p.X.Tick.Marker = plot.ConstantTicks(ticks)
		p.X.Label.Text = "× " + shorten(clean(s.Baseline.String())) + "; right is better"
		p.HideY()
		p.Add(grid{x: ticks}, gainRows(rows))
		p.Draw(draw.Crop(c, overviewNames, -14, 2, -6))
	}
	return f, true
}

// overviewNames is the room for arms' names before the plot.
const overviewNames = vg.Length(128)

type gainRows []gain

func (rows gainRows) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	head, name := letter(smallLetters, inkText, true), letter(smallLetters, inkText, false)
	head.YAlign, name.YAlign, name.XAlign = text.YCenter, text.YCenter, text.XRight
	one := x(1)
	c.StrokeLine2(strokeOf(inkText, 1, 3, 2), one, c.Min.Y, one, c.Max.Y)
	for i, r := range rows {
		at := y(float64(len(rows)-1-i) + 0.5)
		if r.heading {
			label := r.label
			for room := c.Max.X - c.Min.X + overviewNames - 8; head.Width(label) > room && len(label) > 2; {
				runes := []rune(strings.TrimSuffix(label, "…"))
				label = string(runes[:len(runes)-1]) + "…"
			}
			write(&c, head, c.Min.X-overviewNames+4, at-1, label)
			continue
		}
		label := r.label
		for name.Width(label) > overviewNames-10 && len(label) > 2 {
			runes := []rune(strings.TrimSuffix(label, "…"))
			label = string(runes[:len(runes)-1]) + "…"
		}
		write(&c, name, c.Min.X-6, at, label)
		if isFinite(r.low) && isFinite(r.high) {
			c.StrokeLines(strokeOf(r.look.ink, 1.6), []vg.Point{{X: x(r.low), Y: at}, {X: x(r.high), Y: at}})
			c.StrokeLine2(strokeOf(r.look.ink, 1.6), x(r.low), at-3, x(r.low), at+3)
			c.StrokeLine2(strokeOf(r.look.ink, 1.6), x(r.high), at-3, x(r.high), at+3)
		}
		mark(&c, r.look.shape, r.look.ink, 3.4, vg.Point{X: x(r.median), Y: at})
	}
}
