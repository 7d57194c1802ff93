// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"bytes"
	"fmt"
	"image/color"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/perf/benchfmt"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// writeScale adds figures to a file for benchstat, a line a block, and draws all that are in it: each path may have been timed by itself.
func writeScale(name string, all []scaleFigure) error {
	if name == "" {
		return nil
	}
	f, err := os.OpenFile(name+".txt", os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, g := range all {
		for i, d := range g.blocks {
			if _, err := fmt.Fprintf(f, "BenchmarkScale/path=%s/of=%s/n=%d/round=%s\t%d\t%d ns/packet\t%d ns/packet-of-one\n",
				dashes.Replace(g.path), dashes.Replace(g.axis), g.size, g.round, *costRounds, d.Nanoseconds(), g.ones[i].Nanoseconds()); err != nil {
				return err
			}
		}
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if all, err = readScale(f, name); err != nil {
		return err
	}
	return plotScale(name+".svg", all)
}

// Names as benchmarks' configurations have them, and back.
var dashes, spaces = strings.NewReplacer(" ", "-"), strings.NewReplacer("-", " ")

// readScale reads what writeScale wrote.
func readScale(from io.Reader, name string) (all []scaleFigure, err error) {
	figures := map[string]*scaleFigure{}
	r := benchfmt.NewReader(from, name)
	for r.Scan() {
		line, ok := r.Result().(*benchfmt.Result)
		if !ok {
			return nil, fmt.Errorf("%s: %v", name, r.Result())
		}
		f := figures[line.Name.String()]
		if f == nil {
			f = &scaleFigure{}
			figures[line.Name.String()] = f
			if _, err := fmt.Sscanf(strings.ReplaceAll(line.Name.String(), "/", " "), "Scale path=%s of=%s n=%d round=%s", &f.path, &f.axis, &f.size, &f.round); err != nil {
				return nil, fmt.Errorf("%s: %q: %w", name, line.Name, err)
			}
			f.path, f.axis = spaces.Replace(f.path), spaces.Replace(f.axis)
		}
		for unit, list := range map[string]*[]time.Duration{"sec/packet": &f.blocks, "sec/packet-of-one": &f.ones} {
			v, _ := line.Value(unit)
			*list = append(*list, time.Duration(v*1e9))
		}
	}
	for _, f := range figures {
		all = append(all, *f)
	}
	return all, r.Err()
}

// scaleInks are Okabe and Ito's, as in reports, and each path has a dash of its own.
var scaleInks = map[string]draw.LineStyle{
	"host":    {Color: color.RGBA{0x11, 0x11, 0x11, 0xff}, Width: 1.2, Dashes: []vg.Length{2, 2}},
	"oncache": {Color: color.RGBA{0x00, 0x72, 0xb2, 0xff}, Width: 1.2},
	"econ":    {Color: color.RGBA{0xd5, 0x5e, 0x00, 0xff}, Width: 1.2, Dashes: []vg.Length{6, 2.5}},
	"xmasq":   {Color: color.RGBA{0x00, 0x8f, 0x68, 0xff}, Width: 1.2, Dashes: []vg.Length{8, 2, 2, 2}},
}

// plotScale draws figures into a file.
func plotScale(name string, all []scaleFigure) error {
	canvas := vgsvg.New(vg.Points(620), vg.Points(420))
	drawScale(draw.New(canvas), all)
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return err
	}
	return os.WriteFile(name, b.Bytes(), 0o644)
}

// drawScale draws what a packet costs in relation to that at one, a panel for each thing that there is more of.
func drawScale(canvas draw.Canvas, all []scaleFigure) {
	const perRow = 3
	titles := [][2]string{{"peers", "peers known"}, {"containers", "and containers of this host"}, {"flows known", "and flows known"},
		{"flows", "flows in turn, few sockets"}, {"sockets", "flows in turn, a socket each"}, {"connections", "TCP connections in turn"}}
	var panels []*plot.Plot
	most := 1.1
	for i, title := range titles {
		p, highest := scalePanel(title[0], all)
		p.Title.Text, most = title[1], max(most, highest)
		if i%perRow > 0 {
			p.Y.Label.Text = ""
		}
		panels = append(panels, p)
	}
	canvas.SetColor(color.White)
	canvas.Fill(canvas.Rectangle.Path())
	rows := slices.Collect(slices.Chunk(panels, perRow))
	for i, row := range plot.Align(rows, draw.Tiles{Rows: len(rows), Cols: perRow, PadX: 12, PadY: 16, PadLeft: 6, PadRight: 10, PadTop: 6, PadBottom: 6}, canvas) {
		for j, c := range row {
			rows[i][j].Y.Min, rows[i][j].Y.Max = 0.9, most*1.03
			rows[i][j].Draw(c)
		}
	}
}

// scalePanel is the plot of one thing, and the highest value in it. What was measured of the hosts' own beside each path is one line.
func scalePanel(axis string, all []scaleFigure) (p *plot.Plot, highest float64) {
	lines := map[string]map[int][]float64{}
	for _, f := range all {
		path, _, _ := strings.Cut(f.path, " ")
		if f.axis != axis || f.round != "udp" && axis != "connections" {
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
		for _, short := range [][2]string{{"000000", "M"}, {"000", "k"}} {
			if rest, long := strings.CutSuffix(label, short[0]); long {
				label = rest + short[1]
			}
		}
		list = append(list, plot.Tick{Value: n, Label: label})
	}
	return list
}

// TestScaleFiles reads back what is written, in two turns, and draws it.
func TestScaleFiles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "scale")
	var all []scaleFigure
	for _, path := range []string{"host beside xmasq", "xmasq"} {
		f := scaleFigure{path: path, axis: "flows known", round: "udp", size: 1000, blocks: []time.Duration{2 * time.Microsecond, 3000}, ones: []time.Duration{1000, 1500}}
		all = append(all, f)
		if err := writeScale(name, []scaleFigure{f}); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(name + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := readScale(f, name)
	slices.SortFunc(got, func(a, b scaleFigure) int { return strings.Compare(a.path, b.path) })
	if err != nil || !reflect.DeepEqual(got, all) {
		t.Errorf("%+v, %v; want %+v", got, err, all)
	}
	if svg, err := os.ReadFile(name + ".svg"); err != nil || !bytes.Contains(svg, []byte("<svg")) {
		t.Errorf("plot: %.80s, %v", svg, err)
	}
}
