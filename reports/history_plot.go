// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// plottedNights is how many a plot shows, the newest: more of them are no wider than a hair. All are in the other formats.
const plottedNights = 400

// Size of a series' plot. It is wider than a run's: nights side by side. On a narrow screen it is scrolled.
const historyWidth, historyHeight = vg.Length(720), vg.Length(190)

// historyPlot draws a series.
type historyPlot struct {
	h         *History
	s         *HistorySeries
	from      int // first night that is shown
	low, high float64
	ticks     []plot.Tick // of values
}

// figureOf is the plot of a series; about says in words what is seen.
func (h *History) figureOf(s *HistorySeries, about string) figure {
	f := &historyPlot{h: h, s: s, from: max(0, len(h.Nights)-plottedNights)}
	f.scale()
	return figure{
		title: s.title() + ", night by night", about: "A mark for each night and a line for each level. " + upper(about) + ".",
		width: historyWidth, height: historyHeight,
		draw: func(c draw.Canvas) { f.plot().Draw(draw.Crop(c, 0, -14, 0, -2)) },
	}
}

// scale chooses what range is shown: all levels, and four standard deviations or a fiftieth to both sides. A spike that is further off is
// drawn at the edge, with an arrow.
func (f *historyPlot) scale() {
	f.low, f.high = math.Inf(1), math.Inf(-1)
	for _, t := range f.s.Tracks {
		low, high := f.h.extent(t, f.s.Points)
		if len(t.Segments) == 0 {
			continue
		}
		pad := max((high-low)/6, 0.01)
		f.low, f.high = min(f.low, math.Exp(low-pad)), max(f.high, math.Exp(high+pad))
	}
	if !(f.low < f.high) || !isFinite(f.high-f.low) || !isFinite(f.low) {
		f.low, f.high = 0, 1
	}
	for _, t := range niceTicks(f.low, f.high, 4) {
		f.ticks = append(f.ticks, plot.Tick{Value: t.Value, Label: f.s.show(t.Value)})
	}
}

func (f *historyPlot) plot() *plot.Plot {
	p := newPlot()
	p.X.Min, p.X.Max = float64(f.from)-0.5, float64(len(f.h.Nights))-0.5
	p.Y.Min, p.Y.Max = f.low, f.high
	p.X.Tick.Marker, p.Y.Tick.Marker = f.dates(), plot.ConstantTicks(f.ticks)
	p.Add(grid{y: f.ticks}, f)
	return p
}

// dates are about eight ticks.
func (f *historyPlot) dates() plot.ConstantTicks {
	var ticks plot.ConstantTicks
	step := max(1, (len(f.h.Nights)-f.from+7)/8)
	for i := f.from; i < len(f.h.Nights); i += step {
		name := f.h.Nights[i].name()
		if r := []rune(name); len(r) > 12 {
			name = string(r[:11]) + "…"
		}
		ticks = append(ticks, plot.Tick{Value: float64(i), Label: name})
	}
	return ticks
}

// Plot draws what is on the axes.
func (f *historyPlot) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	f.setups(&c, x)
	f.nights(&c, x, y)
	top := labels{c: &c, y: c.Max.Y - labelRow, step: -labelRow}
	for _, t := range f.s.Tracks {
		var levels vg.Path
		for _, seg := range t.Segments {
			if seg.Last >= f.from {
				levels.Move(vg.Point{X: max(c.Min.X, x(float64(seg.First)-0.4)), Y: y(seg.Level)})
				levels.Line(vg.Point{X: x(float64(seg.Last) + 0.4), Y: y(seg.Level)})
			}
		}
		stroke(&c, levels, strokeOf(inkText, 1.4))
		for _, change := range t.Changes {
			if change.Night >= f.from {
				f.change(&c, x(float64(change.Night)-0.5), change, &top)
			}
		}
	}
}

// setups draws where the fingerprint changed for good, or for the first time.
func (f *historyPlot) setups(c *draw.Canvas, x func(float64) vg.Length) {
	bottom := labels{c: c, y: c.Min.Y + 2, step: labelRow}
	for _, s := range f.h.Setups[min(1, len(f.h.Setups)):] {
		if s.First < f.from || len(f.h.Setups) > 12 {
			continue
		}
		at := x(float64(s.First) - 0.5)
		c.StrokeLine2(strokeOf(inkSoft, 0.7, 1, 2), at, c.Min.Y, at, c.Max.Y)
		bottom.write(at+2, inkSoft, fmt.Sprintf("setup %d", s.Number))
	}
}

// nights draws each night's value and interval: filled on the newest setup, hollow on others. All of a kind are one path.
func (f *historyPlot) nights(c *draw.Canvas, x, y func(float64) vg.Length) {
	var bars, filled, hollow, gaps vg.Path
	newest := f.s.newest().Setup
	within := func(v float64) vg.Length { return min(max(y(v), c.Min.Y), c.Max.Y) }
	for _, p := range f.s.Points {
		if p.Night < f.from {
			continue
		}
		at := x(float64(p.Night))
		if p.Value == nil {
			shapeCross.add(&gaps, vg.Point{X: at, Y: c.Min.Y + 2}, 2)
			continue
		}
		if p.Low != nil && p.High != nil {
			bars.Move(vg.Point{X: at, Y: within(*p.Low)})
			bars.Line(vg.Point{X: at, Y: within(*p.High)})
		}
		path := &hollow
		if f.h.Nights[p.Night].Setup == newest {
			path = &filled
		}
		switch {
		case *p.Value < f.low: // an arrow to where the value is
			shapeWedge.add(path, vg.Point{X: at, Y: c.Min.Y + 3}, 3)
		case *p.Value > f.high:
			shapeTriangle.add(path, vg.Point{X: at, Y: c.Max.Y - 3}, 3)
		default:
			shapeSquare.add(path, vg.Point{X: at, Y: y(*p.Value)}, 1.9)
		}
	}
	stroke(c, bars, strokeOf(inkNight, 0.5))
	if len(hollow) > 0 {
		c.SetColor(inkGround.light)
		c.Fill(hollow)
		stroke(c, hollow, strokeOf(inkNight, 0.8))
	}
	if len(filled) > 0 {
		c.SetColor(inkNight.light)
		c.Fill(filled)
	}
	stroke(c, gaps, strokeOf(inkSoft, 0.8))
}

// change draws where a level changed, with the verdict in words: colours are not needed to read it.
func (f *historyPlot) change(c *draw.Canvas, at vg.Length, change HistoryChange, top *labels) {
	colour, text := inkSoft, percent(change.Factor)+"%"
	if change.Verdict.directed() {
		text += " " + string(change.Verdict)
	}
	if change.Verdict == VerdictWorse {
		colour = inkWorse
	}
	if change.Acknowledged != nil {
		colour, text = inkSoft, text+", known"
	}
	c.StrokeLine2(strokeOf(colour, 1, 4, 2), at, c.Min.Y, at, c.Max.Y)
	top.write(at+2, colour, text)
}

const labelRow = vg.Length(11)

// labels are words beside lines, in rows from an edge on, such that none lies on another.
type labels struct {
	c       *draw.Canvas
	y, step vg.Length
	rows    [mostLabelRows][][2]vg.Length // from, to
}

// mostLabelRows is how many rows there are; what has no room in them is not written, for the list beside the plot has it.
const mostLabelRows = 5

func (l *labels) write(x vg.Length, colour ink, text string) {
	style := letter(smallLetters, colour, false)
	width := style.Width(text)
	if x+width > l.c.Max.X { // no room to the right
		x -= width + 4
	}
	for i, row := range l.rows {
		free := true
		for _, taken := range row {
			free = free && (x > taken[1]+3 || x+width < taken[0]-3)
		}
		if free {
			l.rows[i] = append(row, [2]vg.Length{x, x + width})
			write(l.c, style, x, l.y+l.step*vg.Length(i), text)
			return
		}
	}
}
