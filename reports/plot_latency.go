// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"math"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// percentile is a metric that is one.
type percentile struct {
	metric string
	label  string
	one    float64 // one request in so many is slower
}

var latencyPercentiles = []percentile{
	{"latency_p50", "50%", 2}, {"latency_p90", "90%", 10}, {"latency_p99", "99%", 100},
	{"latency_p999", "99.9%", 1000}, {"latency_p9999", "99.99%", 10000},
}

// curve is an arm's latency: the medians over the trials of each percentile, with their intervals.
type curve struct {
	arm    string
	look   armLook
	points []curvePoint
}

type curvePoint struct {
	percentile
	median    float64
	low, high *float64
}

func curvesOf(cells []Cell, looks map[string]armLook) (list []curve) {
	for _, c := range cells {
		k := curve{arm: shorten(clean(c.Arm.String())), look: looks[c.Arm.String()]}
		for _, q := range latencyPercentiles {
			if m := c.Metrics[q.metric]; loggable(m.Median) {
				p := curvePoint{percentile: q, median: *m.Median}
				if loggable(m.Low) && loggable(m.High) {
					p.low, p.high = m.Low, m.High
				}
				k.points = append(k.points, p)
			}
		}
		if len(k.points) > 1 {
			list = append(list, k)
		}
	}
	return list
}

// latencyFigure draws latency over percentiles as HdrHistogram's plots do: the further right, the rarer.
func latencyFigure(title string, curves []curve) (figure, bool) {
	if len(curves) == 0 {
		return figure{}, false
	}
	low, high, last := math.Inf(1), 0.0, 2.0
	for _, k := range curves {
		for _, p := range k.points {
			low, high, last = math.Min(low, p.median), math.Max(high, p.median), math.Max(last, p.one)
			if p.low != nil {
				low, high = math.Min(low, *p.low), math.Max(high, *p.high)
			}
		}
	}
	scale := scaleFor("latency", "s", math.Sqrt(low*high))
	from, to := low*scale.factor/1.15, high*scale.factor*1.15
	var keys []keyItem
	var words []string
	for _, k := range curves {
		keys = append(keys, keyItem{k.arm, func(c *draw.Canvas, at vg.Point) {
			c.StrokeLine2(strokeOf(k.look.ink, 1.4, k.look.dashes...), at.X-11, at.Y, at.X+11, at.Y)
			mark(c, k.look.shape, k.look.ink, 3, at)
		}})
		var said []string
		for _, p := range k.points {
			said = append(said, p.label+" "+show(p.metric, "s", &p.median))
		}
		words = append(words, k.arm+": "+strings.Join(said, ", "))
	}
	keyHeight := layKey(keys, plotWidth-8, nil)
	f := figure{
		title: "Latency percentiles", of: title, note: "medians of the trials' percentiles, with the medians' intervals; both axes logarithmic",
		about: "A curve for each arm: so much of the requests took no longer. " + strings.Join(words, "; ") + ".",
		width: plotWidth, height: 220 + keyHeight,
	}
	f.draw = func(c draw.Canvas) {
		p := newPlot()
		p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
		p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 1.7, last*1.2, from, to
		var x []plot.Tick
		for _, q := range latencyPercentiles {
			if q.one <= last {
				x = append(x, plot.Tick{Value: q.one, Label: q.label})
			}
		}
		y := logTicks(from, to)
		p.X.Tick.Marker, p.Y.Tick.Marker = plot.ConstantTicks(x), plot.ConstantTicks(y)
		p.X.Label.Text = "share of the requests that took no longer"
		p.Y.Label.Text = "latency, " + scale.unit + "; lower is better"
		p.Add(grid{x: x, y: y}, curveLines{curves, scale.factor})
		key := draw.Crop(c, 4, -4, c.Max.Y-c.Min.Y-keyHeight-2, -2)
		layKey(keys, key.Max.X-key.Min.X, &key)
		p.Draw(draw.Crop(c, 6, -14, 2, -keyHeight-8))
	}
	return f, true
}

// logTicks are 1, 2 and 5 times powers of ten, fewer where there are many decades and more where there is not one.
func logTicks(low, high float64) (list []plot.Tick) {
	times, every := []float64{1, 2, 5}, 1
	decades := math.Log10(high / low)
	switch {
	case decades > 2.2:
		times, every = times[:1], max(1, int(decades/5))
	case decades < 0.8:
		times = []float64{1, 1.5, 2, 3, 4, 5, 7}
	}
	for e := math.Floor(math.Log10(low)); e <= math.Ceil(math.Log10(high)); e++ {
		if int(e)%every != 0 {
			continue
		}
		for _, t := range times {
			if v := t * math.Pow(10, e); v >= low*(1-1e-9) && v <= high*(1+1e-9) {
				list = append(list, plot.Tick{Value: v, Label: tickLabel(v)})
			}
		}
	}
	if len(list) < 2 { // less than an octave
		return niceTicks(low, high, 4)
	}
	return list
}

func tickLabel(v float64) string {
	if v >= 1e6 || v < 1e-3 {
		return fmt.Sprintf("%.3g", v)
	}
	return fmt.Sprintf("%.6g", v)
}

type curveLines struct {
	curves []curve
	factor float64
}

func (l curveLines) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	apart := min(2.4, 16/vg.Length(max(1, len(l.curves)-1))) // so that intervals of arms that are alike are all seen
	for i, k := range l.curves {
		aside := (vg.Length(i) - vg.Length(len(l.curves)-1)/2) * apart
		var points []vg.Point
		for _, q := range k.points {
			at := vg.Point{X: x(q.one) + aside, Y: y(q.median * l.factor)}
			points = append(points, at)
			if q.low != nil {
				c.StrokeLine2(strokeOf(k.look.ink, 1), at.X, y(*q.low*l.factor), at.X, y(*q.high*l.factor))
			}
		}
		c.StrokeLines(strokeOf(k.look.ink, 1.4, k.look.dashes...), points)
		mark(&c, k.look.shape, k.look.ink, 2.8, points...)
	}
}

// looksOf gives each arm of the plan, and those that only trials know, a look of its own, the same everywhere.
func looksOf(s *Summary) map[string]armLook {
	looks := make(map[string]armLook)
	var order []string
	for _, a := range s.Plan.Arms {
		order = append(order, a.String())
	}
	for _, c := range s.Cells {
		order = append(order, c.Arm.String())
	}
	for _, a := range order {
		if _, known := looks[a]; !known {
			looks[a] = lookOf(len(looks))
		}
	}
	return looks
}
