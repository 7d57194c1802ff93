// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"fmt"
	"html"
	"regexp"
	"strings"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/econbench/econbench"
)

// figure is a plot that can be drawn on a page and into a file.
type figure struct {
	file          string // name without extension
	title         string // what it shows; the page's caption
	of            string // workload with its parameters
	about         string // what is seen, in words: for who does not see it
	note          string // for everybody, below it: how many points are drawn, say
	width, height vg.Length
	draw          func(draw.Canvas)
}

// name is what the plot is called where it stands alone.
func (f figure) name() string { return strings.Join(nonEmpty([]string{f.title, f.of}), ", ") }

// PlotFile is a plot as a file.
type PlotFile struct {
	Name string // within the folder
	Data []byte
}

// pngDPI is twice what a plot's size in points asks for on a screen of 96 dpi: 5 in are 960 px.
const pngDPI = 192

// Plots draws all plots of a run for papers: each as SVG and as PNG, on white.
func Plots(run *econbench.Run) (files []PlotFile, err error) {
	s, err := Summarise(run)
	if err != nil {
		return nil, err
	}
	var all []figure
	if f, ok := overview(s); ok {
		all = append(all, f)
	}
	for _, w := range workloadsOf(s, run) {
		all = append(all, w.figures...)
	}
	seen := make(map[string]int)
	for _, f := range all {
		name := f.file
		if seen[f.file]++; seen[f.file] > 1 { // names that differ in what a file's may not have
			name += fmt.Sprintf("~%d", seen[f.file])
		}
		b, err := f.png()
		if err != nil {
			return nil, fmt.Errorf("plot %s: %w", name, err)
		}
		files = append(files, PlotFile{name + ".svg", f.svg()}, PlotFile{name + ".png", b})
	}
	return files, nil
}

// fileName keeps what is safe in a file's name everywhere.
func fileName(parts ...string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("._-+=", r):
			return r
		}
		return '_'
	}, strings.Join(nonEmpty(parts), "-"))
	const most = 120
	return strings.TrimLeft(name[:min(len(name), most)], ".")
}

// png is the plot on white.
func (f figure) png() ([]byte, error) {
	c := vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(f.width, f.height), vgimg.UseDPI(pngDPI), vgimg.UseBackgroundColor(inkGround.light))}
	f.draw(draw.New(c))
	var b bytes.Buffer
	_, err := c.WriteTo(&b)
	return b.Bytes(), err
}

// body is what is between the tags of the plot's SVG.
func (f figure) body() string {
	c := vgsvg.New(f.width, f.height)
	f.draw(draw.New(c))
	var b strings.Builder
	_, _ = c.WriteTo(&b) // a builder takes all
	_, body, _ := strings.Cut(b.String(), "<svg")
	_, body, _ = strings.Cut(body, ">")
	body, _, _ = strings.Cut(body, "</svg>")
	return plainFont.ReplaceAllString(strings.ReplaceAll(body, "\n\t", " "), "")
}

// plainFont is what vgsvg writes for each text; the picture as a whole says it once.
var plainFont = regexp.MustCompile(`font-family:Liberation Sans;|font-variant:(normal|none);|font-weight:normal;|font-style:normal;`)

// pictureFont: Arial and Helvetica are as wide as Liberation Sans, by which the text is laid out.
const pictureFont = `Liberation Sans,Arial,Helvetica,sans-serif`

// svg is the plot as a file by itself.
func (f figure) svg() []byte {
	return fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" width="%gpt" height="%gpt" viewBox="0 0 %g %g" font-family="%s">
<title>%s</title>
<desc>%s</desc>
<rect width="100%%" height="100%%" fill="#ffffff"/>%s</svg>
`, f.width, f.height, f.width, f.height, pictureFont, html.EscapeString(f.name()), html.EscapeString(f.about), f.body())
}

// inline is the plot as an element of the page, in the page's colours.
func (f figure) inline(id string) string {
	return fmt.Sprintf(`<svg class="plot" viewBox="0 0 %g %g" role="img" aria-labelledby="%s-title" aria-describedby="%s-about"><title id="%s-title">%s</title><desc id="%s-about">%s</desc>%s</svg>`,
		f.width, f.height, id, id, id, html.EscapeString(f.name()), id, html.EscapeString(f.about), themed(f.body()))
}

// themed puts CSS variables in the place of inks.
func themed(svg string) string { return inkNames.Replace(svg) }

var inkNames = func() *strings.Replacer {
	var pairs []string
	for _, i := range inks() {
		pairs = append(pairs, ":"+hexOf(i), ":var("+i.variable+")")
	}
	return strings.NewReplacer(pairs...)
}()

// hexOf is an ink as vgsvg writes it, which rounds down.
func hexOf(i ink) string {
	r, g, b, a := i.light.RGBA()
	part := func(v uint32) int { return int(float64(v) * (255.0 / float64(a))) }
	return fmt.Sprintf("#%02X%02X%02X", part(r), part(g), part(b))
}
