// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"bytes"
	"image/color"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// dashed is a name as benchmarks' configurations have it.
func dashed(s string) string { return strings.ReplaceAll(s, " ", "-") }

// scaleInks are Okabe and Ito's, as in reports, and each path has a dash of its own.
var scaleInks = map[string]draw.LineStyle{
	"host":    {Color: color.RGBA{0x11, 0x11, 0x11, 0xff}, Width: 1.2, Dashes: []vg.Length{2, 2}},
	"oncache": {Color: color.RGBA{0x00, 0x72, 0xb2, 0xff}, Width: 1.2},
	"econ":    {Color: color.RGBA{0xd5, 0x5e, 0x00, 0xff}, Width: 1.2, Dashes: []vg.Length{6, 2.5}},
	"xmasq":   {Color: color.RGBA{0x00, 0x8f, 0x68, 0xff}, Width: 1.2, Dashes: []vg.Length{8, 2, 2, 2}},
}

// plotScale draws what a packet of UDP costs in relation to that at one, a panel for each thing that there is more of.
func plotScale(name string, all []scaleFigure) error {
	titles := map[string]string{"peers": "peers known", "containers": "and containers of this host", "flows known": "and flows known",
		"flows": "flows in turn, few sockets", "sockets": "flows in turn, a socket each"}
	var panels []*plot.Plot
	most := 1.1
	for _, axis := range []string{"peers", "containers", "flows known", "flows", "sockets"} {
		p, highest := scalePanel(axis, all)
		p.Title.Text, most = titles[axis], max(most, highest)
		panels = append(panels, p)
	}
	for i, p := range panels {
		p.Y.Min, p.Y.Max = 0.9, most*1.03
		if i > 0 {
			p.Y.Label.Text = ""
		}
	}
	canvas := vgsvg.New(vg.Points(900), vg.Points(250))
	rows := [][]*plot.Plot{panels}
	for i, c := range plot.Align(rows, draw.Tiles{Rows: 1, Cols: len(panels), PadX: vg.Points(10), PadLeft: 4, PadRight: 8, PadTop: 4, PadBottom: 4}, draw.New(canvas))[0] {
		panels[i].Draw(c)
	}
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return err
	}
	return os.WriteFile(name, b.Bytes(), 0o644)
}

// scalePanel is the plot of one thing, and the highest value in it. What was measured of the hosts' own beside each path is one line.
func scalePanel(axis string, all []scaleFigure) (p *plot.Plot, highest float64) {
	lines := map[string]map[int][]float64{}
	for _, f := range all {
		path, _, _ := strings.Cut(f.path, " ")
		if f.axis != axis || f.round != "udp" {
			continue
		}
		if lines[path] == nil {
			lines[path] = map[int][]float64{}
		}
		over, _, _ := f.over()
		lines[path][f.size] = append(lines[path][f.size], over)
	}
	p = plot.New()
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, decades{}
	p.X.Min, p.X.Max, p.Y.Label.Text = 1, 10, "a packet's cost, to that at one"
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	for _, path := range []string{"host", "oncache", "econ", "xmasq"} {
		var points plotter.XYs
		for size, overs := range lines[path] {
			slices.Sort(overs)
			points = append(points, plotter.XY{X: float64(size), Y: overs[len(overs)/2]})
			p.X.Max, highest = max(p.X.Max, float64(size)), max(highest, overs[len(overs)/2])
		}
		if len(points) == 0 {
			continue
		}
		slices.SortFunc(points, func(a, b plotter.XY) int { return int(a.X - b.X) })
		line := &plotter.Line{XYs: points, LineStyle: scaleInks[path]}
		p.Add(line)
		p.Legend.Add(path, line)
	}
	return p, highest
}

// decades marks powers of ten, in words that are short.
type decades struct{}

func (decades) Ticks(low, high float64) (list []plot.Tick) {
	for n := math.Pow(10, math.Ceil(math.Log10(low)-1e-9)); n <= high*1.0001; n *= 10 {
		label := strconv.FormatFloat(n, 'f', 0, 64)
		label = strings.Replace(strings.Replace(label, "000000", "M", 1), "000", "k", 1)
		list = append(list, plot.Tick{Value: n, Label: label})
	}
	return list
}
