// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/econbench/econbench"
)

// trialValue is what a trial says of a metric.
type trialValue struct {
	block int
	v     float64
	valid bool
}

// maxPoints is how many trials of an arm a plot shows: more would hide each other, and a page of 100,000 trials could not be opened.
const maxPoints = 400

// strip is a row of a plot: an arm's trials, in the order of their blocks from top to bottom.
type strip struct {
	label  string
	median *float64
	low    *float64
	high   *float64
	look   armLook
	counts stripCounts
	values []trialValue // that are drawn
}

// stripCounts are trials of rows by what becomes of them.
type stripCounts struct {
	all     int // trials
	lacking int // of these, those without a value
	beyond  int // and those whose value no axis has a place for
	invalid int // and those of the rest that do not count
	thinned int // and those of the rest that are left out, since there are so many
}

func (c *stripCounts) add(o stripCounts) {
	c.all, c.lacking, c.beyond, c.invalid, c.thinned = c.all+o.all, c.lacking+o.lacking, c.beyond+o.beyond, c.invalid+o.invalid, c.thinned+o.thinned
}

// note says what is drawn, and what is not.
func (c stripCounts) note() string {
	drawn := c.all - c.lacking - c.beyond - c.thinned
	note := counted(c.all, "trial")
	if drawn < c.all {
		note = fmt.Sprintf("%d of %s drawn", drawn, counted(c.all, "trial"))
	}
	switch {
	case c.thinned > 0 && c.beyond > 0:
		note += ", evenly spaced, least and greatest that an axis has a place for among them"
	case c.thinned > 0:
		note += ", evenly spaced, least and greatest among them"
	}
	note += "; each arm's blocks from top to bottom"
	if c.lacking > 0 {
		note += fmt.Sprintf("; %d without a value", c.lacking)
	}
	if c.beyond > 0 {
		note += fmt.Sprintf("; %s beyond any axis", counted(c.beyond, "value"))
	}
	if c.invalid > 0 {
		note += fmt.Sprintf("; × invalid, do not count (%d)", c.invalid)
	}
	return note
}

// thin keeps at most so many values: the extremes, and between them evenly spaced in the order of blocks.
func thin(values []trialValue, most int) []trialValue {
	if len(values) <= most {
		return values
	}
	low, high := 0, 0
	for i, v := range values {
		if v.v < values[low].v {
			low = i
		}
		if v.v > values[high].v {
			high = i
		}
	}
	keep := map[int]bool{low: true, high: true}
	for i := range most - 2 {
		keep[i*(len(values)-1)/(most-3)] = true
	}
	out := make([]trialValue, 0, most)
	for i, v := range values {
		if keep[i] {
			out = append(out, v)
		}
	}
	return out
}

// stripsOf are the rows of a workload's metric.
func stripsOf(cells []Cell, metric string, trials map[cellKey]cellTrials, looks map[string]armLook) (rows []strip) {
	for _, c := range cells {
		m := c.Metrics[metric]
		key := keyOf(econbench.Cell{Arm: c.Arm, Workload: c.Workload, Params: c.Params})
		r := strip{label: shorten(clean(c.Arm.String())), median: m.Median, low: m.Low, high: m.High, look: looks[c.Arm.String()]}
		r.values, r.counts = trials[key].shown()
		if !drawable(r.median) {
			r.median = nil
		}
		if !drawable(r.low) || !drawable(r.high) {
			r.low, r.high = nil, nil
		}
		if m.Median != nil {
			r.label += " · " + showWithSpread(c, metric)
		} else {
			r.label += " · " + showVerdict(c, metric)
		}
		rows = append(rows, r)
	}
	return rows
}

// shown are the trials that a row shows, in the order of their blocks, and what becomes of the others.
func (t cellTrials) shown() (list []trialValue, n stripCounts) {
	n.all, n.lacking = len(t.values)+t.lacking, t.lacking
	list = slices.Clone(t.values)
	slices.SortStableFunc(list, func(a, b trialValue) int { return cmp.Compare(a.block, b.block) })
	list = slices.DeleteFunc(list, func(v trialValue) bool { return !drawable(&v.v) })
	n.beyond = len(t.values) - len(list)
	for _, v := range list {
		if !v.valid {
			n.invalid++
		}
	}
	drawn := thin(list, maxPoints)
	n.thinned = len(list) - len(drawn)
	return drawn, n
}

const stripRow = vg.Length(44)

// stripFigure shows every trial of every arm under a workload.
func stripFigure(title, metric string, m Metric, rows []strip) (figure, bool) {
	low, high, counts := extent(rows)
	if low > high {
		return figure{}, false
	}
	scale := scaleFor(metric, m.Unit, math.Max(math.Abs(low), math.Abs(high)))
	f := figure{
		title: upper(heading(metric)) + " of each trial", of: title, note: counts.note(),
		about: fmt.Sprintf("A row for each arm with a mark for each trial, its median and the median's interval. %s. The figures are in the table.", armsInWords(rows)),
		width: plotWidth, height: stripRow*vg.Length(len(rows)) + 40,
	}
	f.draw = func(c draw.Canvas) {
		p := newPlot()
		from, to := axisRange(low, high)
		p.X.Min, p.X.Max = from*scale.factor, to*scale.factor
		ticks := niceTicks(p.X.Min, p.X.Max, 5)
		p.X.Tick.Marker = plot.ConstantTicks(ticks)
		p.X.Label.Text = axisLabel(metric, scale, m.Better)
		p.Y.Min, p.Y.Max = 0, float64(len(rows))
		p.HideY()
		p.Add(grid{x: ticks}, stripRows{rows, scale.factor})
		if from > 0 {
			p.X.Label.Text += " (not from 0)"
		}
		p.Draw(draw.Crop(c, 10, -14, 2, -2))
	}
	return f, true
}

// armsInWords are the rows' labels, for those who do not see them.
func armsInWords(rows []strip) string {
	var list []string
	for _, r := range rows {
		list = append(list, r.label)
	}
	return strings.Join(list, "; ")
}

// axisLabel names what an axis shows, its unit and which way is better.
func axisLabel(metric string, scale axisScale, better econbench.Better) string {
	label := heading(metric)
	if unit := strings.TrimSpace(scale.unit); unit != "" && !strings.Contains(label, unit) {
		label += ", " + unit
	}
	if better != econbench.Neither {
		label += "; " + string(better) + " is better"
	}
	return label
}

// extent is what the rows' marks and intervals take.
func extent(rows []strip) (low, high float64, counts stripCounts) {
	low, high = math.Inf(1), math.Inf(-1)
	take := func(v float64) { low, high = math.Min(low, v), math.Max(high, v) }
	for _, r := range rows {
		counts.add(r.counts)
		for _, v := range r.values {
			take(v.v)
		}
		for _, v := range []*float64{r.low, r.high, r.median} {
			if v != nil {
				take(*v)
			}
		}
	}
	return low, high, counts
}

// axisRange begins at 0 unless that would leave more than half of the axis empty: then the axis says so.
func axisRange(low, high float64) (from, to float64) {
	switch {
	case low >= 0 && low <= high/2:
		from = 0
	default:
		from = low - (high-low)*0.06
		if low > 0 {
			from = math.Max(from, 0)
		}
	}
	to = high + (high-from)*0.03
	if !(to > from) {
		pad := math.Max(math.Abs(high)*0.05, 1e-12)
		from, to = low-pad, high+pad
		if low >= 0 {
			from = math.Max(from, 0)
		}
	}
	return from, to
}

// stripRows draws the rows.
type stripRows struct {
	rows   []strip
	factor float64
}

func (s stripRows) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	name := letter(letters, inkText, false)
	name.YAlign = text.YBottom
	for i, r := range s.rows {
		base := float64(len(s.rows) - 1 - i)
		top, bottom := y(base+0.58), y(base+0.10)
		mark(&c, r.look.shape, r.look.ink, 3.2, vg.Point{X: c.Min.X + 5, Y: y(base+0.66) + 4})
		write(&c, name, c.Min.X+13, y(base+0.66), r.label)
		var good, bad []vg.Point
		for j, v := range r.values {
			at := vg.Point{X: x(v.v * s.factor), Y: (top + bottom) / 2}
			if n := len(r.values); n > 1 {
				at.Y = top - (top-bottom)*vg.Length(j)/vg.Length(n-1)
			}
			if v.valid {
				good = append(good, at)
			} else {
				bad = append(bad, at)
			}
		}
		mark(&c, r.look.shape, r.look.ink, 2.1, good...)
		mark(&c, shapeCross, inkSoft, 2.4, bad...)
		s.interval(&c, r, x, top, bottom)
	}
}

// interval draws the median as a line across the row, and its interval as a bracket.
func (s stripRows) interval(c *draw.Canvas, r strip, x func(float64) vg.Length, top, bottom vg.Length) {
	if r.median == nil {
		return
	}
	at := x(*r.median * s.factor)
	c.StrokeLine2(strokeOf(inkGround, 3.4), at, bottom-3, at, top+3)
	c.StrokeLine2(strokeOf(inkText, 1.6), at, bottom-3, at, top+3)
	if r.low == nil || r.high == nil {
		return
	}
	from, to, y := x(*r.low*s.factor), x(*r.high*s.factor), bottom-3
	c.StrokeLines(strokeOf(inkText, 1.6), []vg.Point{{X: from, Y: y + 4}, {X: from, Y: y}, {X: to, Y: y}, {X: to, Y: y + 4}})
}
