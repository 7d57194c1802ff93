// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"image/color"
	"math"
	"strconv"

	xfont "golang.org/x/image/font"
	"golang.org/x/perf/benchunit"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// ink is a colour by what it is for. A plot is drawn in the light one; on the page it is a CSS variable, which has the dark one in the
// dark scheme. No two inks have one light colour, for that is how the page finds them again.
type ink struct {
	variable    string // of CSS
	light, dark color.RGBA
}

func rgb(hex uint32) color.RGBA {
	return color.RGBA{R: uint8(hex >> 16), G: uint8(hex >> 8), B: uint8(hex), A: 0xff}
}

// Inks of what is on every plot.
var (
	inkText   = ink{"--ink", rgb(0x1a1a1a), rgb(0xe8e8e8)}
	inkSoft   = ink{"--soft", rgb(0x595959), rgb(0xa9afb5)}
	inkGrid   = ink{"--grid", rgb(0xe2e2e2), rgb(0x31363b)}
	inkGround = ink{"--ground", rgb(0xffffff), rgb(0x14171a)}
)

// Inks of a history's plots. Words are written in the latter, so that it has a contrast of 4.5 to 1.
var (
	inkNight = armInks[2]
	inkWorse = ink{"--worse", rgb(0xb04100), rgb(0xf0803c)}
)

// armInks are Okabe and Ito's colours (Color Universal Design, 2008), which people with any colour vision tell apart, as dark on white and as
// light on black as it takes for a contrast of 3 to 1 (WCAG 2.2, 1.4.11). Each arm has a shape and a dash of its own as well.
var armInks = []ink{
	{"--arm0", rgb(0x111111), rgb(0xf0f0f0)}, // black
	{"--arm1", rgb(0xd55e00), rgb(0xe9762b)}, // vermillion
	{"--arm2", rgb(0x0072b2), rgb(0x56a9e0)}, // blue
	{"--arm3", rgb(0x008f68), rgb(0x1fbf92)}, // bluish green
	{"--arm4", rgb(0xa6558a), rgb(0xd98fbb)}, // reddish purple
	{"--arm5", rgb(0xa66f00), rgb(0xe69f00)}, // orange
	{"--arm6", rgb(0x3a8fbf), rgb(0x7cc6f2)}, // sky blue
}

// partInks fill the parts of a bar, each with a hatch of its own and an outline.
var partInks = []ink{
	{"--part0", rgb(0x9fc5e0), rgb(0x2f5f80)},
	{"--part1", rgb(0xf2c078), rgb(0x7d5a1e)},
	{"--part2", rgb(0xe79a86), rgb(0x8a4a38)},
	{"--part3", rgb(0xa8d5bf), rgb(0x2f6b54)},
	{"--part4", rgb(0xcfcfcf), rgb(0x50565c)},
}

// inks are all of them.
func inks() []ink {
	list := []ink{inkText, inkSoft, inkGrid, inkGround, inkWorse}
	return append(append(list, armInks...), partInks...)
}

// armLook is how an arm is drawn wherever it is.
type armLook struct {
	ink    ink
	shape  shape
	dashes []vg.Length
}

var armDashes = [][]vg.Length{nil, {6, 2.5}, {2, 2}, {8, 2, 2, 2}, {4, 1.5}, {1, 1.5}, {10, 3}}

// lookOf is that of the nth arm of the plan. Beyond the colours shapes go on, so that no two of 42 look the same.
func lookOf(n int) armLook {
	n = max(0, n)
	return armLook{ink: armInks[n%len(armInks)], shape: shape(n % int(shapes)), dashes: armDashes[n%len(armDashes)]}
}

// shape marks a point.
type shape int

const (
	shapeDisc shape = iota
	shapeSquare
	shapeTriangle
	shapeDiamond
	shapeRing
	shapeWedge
	shapes           // how many there are
	shapeCross shape = 100
)

// add puts a mark of half width r at a point into a path, so that all marks of a row are one element: of a thousand points a page
// would otherwise have a thousand elements.
func (s shape) add(p *vg.Path, at vg.Point, r vg.Length) {
	corner := func(x, y vg.Length) vg.Point { return vg.Point{X: at.X + x*r, Y: at.Y + y*r} }
	polygon := func(points ...vg.Point) {
		p.Move(points[0])
		for _, q := range points[1:] {
			p.Line(q)
		}
		p.Close()
	}
	switch s {
	case shapeDisc, shapeRing:
		p.Move(vg.Point{X: at.X + r, Y: at.Y})
		p.Arc(at, r, 0, 2*math.Pi)
		p.Close()
	case shapeSquare:
		polygon(corner(-.9, -.9), corner(.9, -.9), corner(.9, .9), corner(-.9, .9))
	case shapeTriangle:
		polygon(corner(-1.1, -.9), corner(1.1, -.9), corner(0, 1.1))
	case shapeWedge:
		polygon(corner(-1.1, .9), corner(1.1, .9), corner(0, -1.1))
	case shapeDiamond:
		polygon(corner(-1.2, 0), corner(0, -1.2), corner(1.2, 0), corner(0, 1.2))
	case shapeCross:
		p.Move(corner(-1, -1))
		p.Line(corner(1, 1))
		p.Move(corner(-1, 1))
		p.Line(corner(1, -1))
	}
}

// hollow marks are outlines.
func (s shape) hollow() bool { return s == shapeRing || s == shapeWedge || s == shapeCross }

// mark draws marks at points.
func mark(c *draw.Canvas, s shape, colour ink, r vg.Length, points ...vg.Point) {
	if len(points) == 0 {
		return
	}
	var p vg.Path
	for _, at := range points {
		s.add(&p, at, r)
	}
	c.SetColor(colour.light)
	if !s.hollow() {
		c.Fill(p)
		return
	}
	stroke(c, p, strokeOf(colour, 1))
}

// stroke draws a path, if there is anything on it.
func stroke(c *draw.Canvas, path vg.Path, style draw.LineStyle) {
	if len(path) > 0 {
		c.SetLineStyle(style)
		c.Stroke(path)
	}
}

func strokeOf(colour ink, width vg.Length, dashes ...vg.Length) draw.LineStyle {
	return draw.LineStyle{Color: colour.light, Width: width, Dashes: dashes}
}

// Sizes of letters: a plot is as wide as a phone's page, so that they are no smaller there than anywhere else.
const (
	letters      = vg.Length(10.5)
	smallLetters = vg.Length(9.5)
	plotWidth    = vg.Length(360)
)

func letter(size vg.Length, colour ink, bold bool) text.Style {
	f := font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}
	if bold {
		f.Weight = xfont.WeightBold
	}
	return text.Style{Color: colour.light, Font: f, Handler: plot.DefaultTextHandler}
}

// write writes a line of text and tells how wide it is.
func write(c *draw.Canvas, style text.Style, x, y vg.Length, s string) vg.Length {
	c.FillText(style, vg.Point{X: x, Y: y}, s)
	return style.Width(s)
}

// newPlot is an empty plot in our style: a frame of nothing but a line at the bottom, and a grid.
func newPlot() *plot.Plot {
	p := plot.New()
	p.BackgroundColor = nil
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Color, a.LineStyle.Color, a.LineStyle.Width = inkSoft.light, inkSoft.light, 0.8
		a.Label.TextStyle = letter(letters, inkText, false)
		a.Label.TextStyle.XAlign, a.Label.TextStyle.YAlign = text.XCenter, text.YBottom
		a.Label.Padding = 3
		a.Tick.Label.Color, a.Tick.Label.Font, a.Tick.Label.Handler = inkSoft.light, letter(smallLetters, inkSoft, false).Font, plot.DefaultTextHandler
		a.Tick.LineStyle.Color, a.Tick.LineStyle.Width, a.Tick.Length = inkSoft.light, 0.8, 4
		a.Padding = 0
	}
	p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = text.XCenter, text.YTop
	return p
}

// drawable values have a place on an axis: beyond them a unit's factor, or a sum, may be no number any more.
func drawable(v *float64) bool { return v != nil && math.Abs(*v) < 1e30 }

// loggable values have one on a logarithmic axis.
func loggable(v *float64) bool { return drawable(v) && *v > 1e-30 }

// axisScale turns base units into the axis's: value × factor, in unit.
type axisScale struct {
	factor float64
	unit   string
}

// scaleFor chooses one prefix for all values of an axis by the largest.
func scaleFor(metric, unit string, most float64) axisScale {
	s := scaleOf(metric, unit)
	a := axisScale{s.factor, s.unit}
	if most = math.Abs(most * s.factor); s.prefix && most >= 1e-9 && most < 1e15 {
		c := benchunit.CommonScale([]float64{most}, benchunit.Decimal)
		a.factor, a.unit = s.factor/c.Factor, c.Prefix+s.unit
	}
	if a.unit == "" && unit == "cores" {
		a.unit = unit
	}
	return a
}

// niceTicks are about so many round values between two others: multiples of 1, 2 or 5 times a power of ten.
func niceTicks(low, high float64, about int) (list []plot.Tick) {
	span := high - low
	if !(span > 0) || math.IsInf(span, 1) {
		return nil
	}
	step := math.Pow(10, math.Floor(math.Log10(span/float64(about))))
	for _, times := range []float64{1, 2, 5, 10} {
		if span/(step*times) <= float64(about)+1.5 {
			step *= times
			break
		}
	}
	digits := max(0, -int(math.Floor(math.Log10(step)+1e-9)))
	first := math.Ceil(low/step - 1e-9)
	for n := range 2*about + 4 { // bounded: beside huge values a step may be nothing
		v := (first+float64(n))*step + 0 // of -0
		if !(v <= high+step*1e-9) {
			break
		}
		label := strconv.FormatFloat(v, 'f', digits, 64)
		if v == 0 {
			label = "0"
		} else if math.Abs(v) >= 1e6 || digits > 4 {
			label = fmt.Sprintf("%.3g", v)
		}
		list = append(list, plot.Tick{Value: v, Label: label})
	}
	return list
}

// grid draws a line at each tick of the axes that have one.
type grid struct{ x, y []plot.Tick }

func (g grid) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	style := strokeOf(inkGrid, 0.8)
	for _, t := range g.x {
		if at := x(t.Value); c.ContainsX(at) {
			c.StrokeLine2(style, at, c.Min.Y, at, c.Max.Y)
		}
	}
	for _, t := range g.y {
		if at := y(t.Value); c.ContainsY(at) {
			c.StrokeLine2(style, c.Min.X, at, c.Max.X, at)
		}
	}
}

// keyItem is a line of a plot's key.
type keyItem struct {
	label string
	draw  func(c *draw.Canvas, at vg.Point) // within 22 by 10 around the point
}

const keyRow = vg.Length(15)

// layKey puts the items in rows of a width. It draws if there is a canvas, and tells how high they are.
func layKey(items []keyItem, width vg.Length, c *draw.Canvas) vg.Length {
	style := letter(smallLetters, inkText, false)
	style.YAlign = text.YCenter
	x, rows := vg.Length(0), 1
	for _, item := range items {
		need := 28 + style.Width(item.label) + 12
		if x > 0 && x+need > width {
			x = 0
			rows++
		}
		if c != nil {
			at := vg.Point{X: c.Min.X + x + 12, Y: c.Max.Y - keyRow*(vg.Length(rows)-0.5)}
			item.draw(c, at)
			write(c, style, at.X+16, at.Y, item.label)
		}
		x += need
	}
	if len(items) == 0 {
		return 0
	}
	return keyRow * vg.Length(rows)
}
