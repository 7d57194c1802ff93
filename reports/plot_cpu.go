// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/econbench/econbench"
)

// bar is an arm's CPU time, in cores.
type bar struct {
	label string
	look  armLook
	parts []float64
	whole *float64 // median of cpu
}

// barsOf are the arms of a workload that have a split.
func barsOf(cells []Cell, split cpuSplit, looks map[string]armLook) (bars []bar) {
	for _, c := range cells {
		row := split.rows[keyOf(econbench.Cell{Arm: c.Arm, Workload: c.Workload, Params: c.Params})]
		if row.trials == 0 {
			continue
		}
		b := bar{label: shorten(clean(c.Arm.String())), look: looks[c.Arm.String()], whole: c.Metrics["cpu"].Median}
		if !drawable(b.whole) {
			b.whole = nil
		}
		for part := range split.parts {
			b.parts = append(b.parts, row.mean(part))
		}
		if b.whole != nil {
			b.label += " · " + show("cpu", "cores", b.whole) + " cores busy"
		}
		bars = append(bars, b)
	}
	return bars
}

// cpuFigure stacks what the CPU time was spent on.
func cpuFigure(title string, split cpuSplit, bars []bar) (figure, bool) {
	if len(bars) == 0 || len(split.parts) == 0 {
		return figure{}, false
	}
	most := 0.0
	var words []string
	for _, b := range bars {
		sum := 0.0
		var said []string
		for i, v := range b.parts {
			sum += v
			said = append(said, fmt.Sprintf("%s %s", split.parts[i], plain(v)))
		}
		most = max(most, sum)
		if b.whole != nil {
			most = max(most, *b.whole)
		}
		words = append(words, b.label+": "+strings.Join(said, ", "))
	}
	if !(most > 0) {
		return figure{}, false
	}
	var keys []keyItem
	for i, name := range split.parts {
		keys = append(keys, keyItem{name, func(c *draw.Canvas, at vg.Point) {
			fillPart(c, i, vg.Rectangle{Min: vg.Point{X: at.X - 11, Y: at.Y - 5}, Max: vg.Point{X: at.X + 11, Y: at.Y + 5}})
		}})
	}
	keyHeight := layKey(keys, plotWidth-8, nil)
	f := figure{
		title: "CPU time of both hosts", of: title, note: "counted by " + split.note + "; the tall line is the median of cpu as a whole",
		about: "A stacked bar for each arm, in cores. " + strings.Join(words, "; ") + ".",
		width: plotWidth, height: barRow*vg.Length(len(bars)) + 40 + keyHeight,
	}
	f.draw = func(c draw.Canvas) {
		p := newPlot()
		p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, most*1.04, 0, float64(len(bars))
		ticks := niceTicks(0, p.X.Max, 5)
		p.X.Tick.Marker = plot.ConstantTicks(ticks)
		p.X.Label.Text = "CPU time, cores"
		p.HideY()
		p.Add(grid{x: ticks}, stackedBars(bars))
		key := draw.Crop(c, 4, -4, c.Max.Y-c.Min.Y-keyHeight-2, -2)
		layKey(keys, key.Max.X-key.Min.X, &key)
		p.Draw(draw.Crop(c, 10, -14, 2, -keyHeight-6))
	}
	return f, true
}

const barRow = vg.Length(36)

type stackedBars []bar

func (bars stackedBars) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	name := letter(letters, inkText, false)
	name.YAlign = text.YBottom
	for i, b := range bars {
		base := float64(len(bars) - 1 - i)
		top, bottom := y(base+0.56), y(base+0.12)
		mark(&c, b.look.shape, b.look.ink, 3.2, vg.Point{X: c.Min.X + 5, Y: y(base+0.62) + 4})
		write(&c, name, c.Min.X+13, y(base+0.62), b.label)
		from := 0.0
		for part, v := range b.parts {
			fillPart(&c, part, vg.Rectangle{Min: vg.Point{X: x(from), Y: bottom}, Max: vg.Point{X: x(from + v), Y: top}})
			from += v
		}
		if b.whole != nil {
			at := x(*b.whole)
			c.StrokeLine2(strokeOf(inkGround, 3.4), at, bottom-3, at, top+3)
			c.StrokeLine2(strokeOf(inkText, 1.6), at, bottom-3, at, top+3)
		}
	}
}

// fillPart fills a rectangle with a part's colour and hatch, and outlines it.
func fillPart(c *draw.Canvas, part int, r vg.Rectangle) {
	if r.Max.X-r.Min.X < 0.3 {
		return
	}
	corners := []vg.Point{r.Min, {X: r.Max.X, Y: r.Min.Y}, r.Max, {X: r.Min.X, Y: r.Max.Y}}
	c.FillPolygon(partInks[part%len(partInks)].light, corners)
	const step = 5
	hatch := strokeOf(inkText, 0.6)
	width, height := r.Max.X-r.Min.X, r.Max.Y-r.Min.Y
	switch part % len(partInks) {
	case 1, 3: // rising, falling
		for d := vg.Length(step / 2); d < width+height; d += step {
			// From the left or upper edge to the lower or right one, along x+y = d.
			x0, y0 := max(0, d-height), min(d, height)
			x1, y1 := min(d, width), max(0, d-width)
			if part%len(partInks) == 1 {
				y0, y1 = height-y0, height-y1
			}
			c.StrokeLine2(hatch, r.Min.X+x0, r.Min.Y+y0, r.Min.X+x1, r.Min.Y+y1)
		}
	case 2:
		for d := vg.Length(step / 2); d < width; d += step {
			c.StrokeLine2(hatch, r.Min.X+d, r.Min.Y, r.Min.X+d, r.Max.Y)
		}
	case 4:
		for d := vg.Length(step / 2); d < height; d += step {
			c.StrokeLine2(hatch, r.Min.X, r.Min.Y+d, r.Max.X, r.Min.Y+d)
		}
	}
	c.StrokeLines(strokeOf(inkText, 0.8), append(corners, r.Min))
}
