// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"html"
	"image/color"
	"math"
	"regexp"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// plottedNights is how many a plot shows, the newest: more of them are no wider than a hair. All are in the other formats.
const plottedNights = 400

// Size of a series' plot.
const historyWidth, historyHeight = vg.Length(720), vg.Length(190)

// historyInks are the colours of a plot by what they are for. A plot is drawn with these; on the page they are CSS variables, which
// have others in a dark scheme.
var historyInks = []struct {
	variable string
	colour   color.RGBA
}{
	{"--ink", color.RGBA{0x1a, 0x1a, 0x1b, 0xff}}, {"--soft", color.RGBA{0x59, 0x59, 0x5b, 0xff}}, {"--grid", color.RGBA{0xe2, 0xe2, 0xe3, 0xff}},
	{"--night", color.RGBA{0x00, 0x72, 0xb2, 0xff}}, {"--worse", color.RGBA{0xc0, 0x4a, 0x01, 0xff}}, {"--ground", color.RGBA{0xff, 0xff, 0xfe, 0xff}},
}

func historyInk(variable string) color.RGBA {
	at := slices.IndexFunc(historyInks, func(i struct {
		variable string
		colour   color.RGBA
	}) bool {
		return i.variable == variable
	})
	return historyInks[at].colour
}

// historyPlot draws a series.
type historyPlot struct {
	h         *History
	s         *HistorySeries
	from      int // first night that is shown
	low, high float64
}

// plotOf is the series as an SVG element of a page.
func (h *History) plotOf(s *HistorySeries, id int) string {
	f := &historyPlot{h: h, s: s, from: max(0, len(h.Nights)-plottedNights)}
	f.scale()
	c := vgsvg.New(historyWidth, historyHeight)
	f.plot().Draw(draw.New(c))
	var b strings.Builder
	_, _ = c.WriteTo(&b) // a builder takes all
	_, body, _ := strings.Cut(b.String(), "<svg")
	_, body, _ = strings.Cut(body, ">")
	body, _, _ = strings.Cut(body, "</svg>")
	body = historyFont.ReplaceAllString(strings.ReplaceAll(body, "\n\t", " "), "")
	for _, i := range historyInks {
		body = strings.ReplaceAll(body, fmt.Sprintf(":#%02X%02X%02X", i.colour.R, i.colour.G, i.colour.B), ":var("+i.variable+")")
	}
	return fmt.Sprintf(`<svg class="plot" viewBox="0 0 %g %g" role="img" aria-labelledby="series%d">%s</svg>`,
		float64(historyWidth), float64(historyHeight), id, "<title>"+html.EscapeString(clean(s.title()+", night by night"))+"</title>"+body)
}

// historyFont is what vgsvg writes for each text; the page says it once.
var historyFont = regexp.MustCompile(`font-family:[^;"]*;|font-variant:[a-z]*;|font-weight:[a-z]*;|font-style:[a-z]*;`)

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
}

func (f *historyPlot) plot() *plot.Plot {
	p := plot.New()
	p.BackgroundColor = color.Transparent
	p.X.Min, p.X.Max = float64(f.from)-0.5, float64(len(f.h.Nights))-0.5
	p.Y.Min, p.Y.Max = f.low, f.high
	p.X.Tick.Marker, p.Y.Tick.Marker = f.dates(), f.values()
	p.X.Padding, p.Y.Padding = 0, 0
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.LineStyle.Color, axis.Tick.LineStyle.Color = historyInk("--soft"), historyInk("--soft")
		axis.Tick.Label.Color, axis.Tick.Label.Font.Size = historyInk("--ink"), 9
		axis.LineStyle.Width, axis.Tick.LineStyle.Width = 0.5, 0.5
	}
	p.Add(f)
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

// values are the ticks of the values, in human units.
func (f *historyPlot) values() plot.ConstantTicks {
	var ticks plot.ConstantTicks
	for _, t := range (plot.DefaultTicks{}).Ticks(f.low, f.high) {
		if !t.IsMinor() && t.Value >= f.low && t.Value <= f.high {
			ticks = append(ticks, plot.Tick{Value: t.Value, Label: f.s.show(t.Value)})
		}
	}
	return ticks
}

// Plot draws what is on the axes.
func (f *historyPlot) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	style := func(variable string, width vg.Length, dashes ...vg.Length) draw.LineStyle {
		return draw.LineStyle{Color: historyInk(variable), Width: width, Dashes: dashes}
	}
	var rules vg.Path
	for _, t := range f.values() {
		rules.Move(vg.Point{X: c.Min.X, Y: y(t.Value)})
		rules.Line(vg.Point{X: c.Max.X, Y: y(t.Value)})
	}
	stroke(&c, rules, style("--grid", 0.5))
	f.setups(&c, x, style("--soft", 0.7, 1, 2))
	f.nights(&c, x, y)
	for _, t := range f.s.Tracks {
		var levels vg.Path
		for _, seg := range t.Segments {
			if seg.Last >= f.from {
				levels.Move(vg.Point{X: max(c.Min.X, x(float64(seg.First)-0.4)), Y: y(seg.Level)})
				levels.Line(vg.Point{X: x(float64(seg.Last) + 0.4), Y: y(seg.Level)})
			}
		}
		stroke(&c, levels, style("--ink", 1.4))
		for _, change := range t.Changes {
			if change.Night >= f.from {
				f.change(&c, x(float64(change.Night)-0.5), change)
			}
		}
	}
}

func stroke(c *draw.Canvas, path vg.Path, style draw.LineStyle) {
	if len(path) > 0 {
		c.SetLineStyle(style)
		c.Stroke(path)
	}
}

// setups draws where the fingerprint changed for good, or for the first time.
func (f *historyPlot) setups(c *draw.Canvas, x func(float64) vg.Length, style draw.LineStyle) {
	for _, s := range f.h.Setups[min(1, len(f.h.Setups)):] {
		if s.First < f.from || len(f.h.Setups) > 12 {
			continue
		}
		at := x(float64(s.First) - 0.5)
		var path vg.Path
		path.Move(vg.Point{X: at, Y: c.Min.Y})
		path.Line(vg.Point{X: at, Y: c.Max.Y})
		stroke(c, path, style)
		f.label(c, at+2, c.Min.Y+2, "--soft", fmt.Sprintf("setup %d", s.Number))
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
			gaps.Move(vg.Point{X: at - 2, Y: c.Min.Y})
			gaps.Line(vg.Point{X: at + 2, Y: c.Min.Y + 4})
			gaps.Move(vg.Point{X: at - 2, Y: c.Min.Y + 4})
			gaps.Line(vg.Point{X: at + 2, Y: c.Min.Y})
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
		nightMark(path, vg.Point{X: at, Y: within(*p.Value)}, *p.Value < f.low, *p.Value > f.high)
	}
	stroke(c, bars, draw.LineStyle{Color: historyInk("--night"), Width: 0.5})
	if len(hollow) > 0 {
		c.SetColor(historyInk("--ground"))
		c.Fill(hollow)
		stroke(c, hollow, draw.LineStyle{Color: historyInk("--night"), Width: 0.8})
	}
	if len(filled) > 0 {
		c.SetColor(historyInk("--night"))
		c.Fill(filled)
	}
	stroke(c, gaps, draw.LineStyle{Color: historyInk("--soft"), Width: 0.8})
}

// nightMark is a square, or an arrow to where the value is.
func nightMark(path *vg.Path, at vg.Point, below, above bool) {
	const r = vg.Length(1.7)
	corners := []vg.Point{{X: -r, Y: -r}, {X: r, Y: -r}, {X: r, Y: r}, {X: -r, Y: r}}
	switch {
	case below:
		corners = []vg.Point{{X: 0, Y: 0}, {X: 3, Y: 6}, {X: -3, Y: 6}}
	case above:
		corners = []vg.Point{{X: 0, Y: 0}, {X: 3, Y: -6}, {X: -3, Y: -6}}
	}
	for i, p := range corners {
		if p = at.Add(p); i == 0 {
			path.Move(p)
		} else {
			path.Line(p)
		}
	}
	path.Close()
}

// change draws where a level changed, with the verdict in words: colours are not needed to read it.
func (f *historyPlot) change(c *draw.Canvas, at vg.Length, change HistoryChange) {
	variable, text := "--soft", percent(change.Factor)+"%"
	if change.Verdict.directed() {
		text += " " + string(change.Verdict)
	}
	if change.Verdict == VerdictWorse {
		variable = "--worse"
	}
	if change.Acknowledged != nil {
		variable, text = "--soft", text+", known"
	}
	var path vg.Path
	path.Move(vg.Point{X: at, Y: c.Min.Y})
	path.Line(vg.Point{X: at, Y: c.Max.Y})
	stroke(c, path, draw.LineStyle{Color: historyInk(variable), Width: 1, Dashes: []vg.Length{4, 2}})
	f.label(c, at+2, c.Max.Y-9, variable, text)
}

func (f *historyPlot) label(c *draw.Canvas, x, y vg.Length, variable, text string) {
	style := plot.New().X.Tick.Label
	style.Color, style.Font.Size, style.XAlign, style.YAlign = historyInk(variable), 8.5, draw.XLeft, draw.YBottom
	if w := style.Width(text); x+w > c.Max.X { // no room to the right
		x -= w + 4
	}
	c.FillText(style, vg.Point{X: x, Y: y}, text)
}
