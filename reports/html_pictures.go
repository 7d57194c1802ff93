// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"cmp"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/profile"
	"github.com/econbench/econbench/internal/trace"
)

// Folders of a run directory that have what was recorded beside trials.
const (
	// TracesFolder is where `econbench trace --output` has to leave its files for the page to show them.
	TracesFolder = "traces"
	// ProfilesFolder is where `econbench run --profile` leaves its files.
	ProfilesFolder = "profiles"
)

// Limits of what a page takes up: one that is too large is not opened. What is beyond them is named.
const (
	maxPictureFile = 16 << 20 // B, of a file to read
	maxPicture     = 1 << 20  // B, of one picture on the page
	maxPictures    = 8 << 20  // B, of all
	maxStages      = 2000     // of a trace; a path over five networks has a hundred
	maxCPU         = 1 << 13  // number of a CPU (CONFIG_NR_CPUS of distributions)
)

// picture is a trace or a profile on the page. It is drawn anew from the figures that were recorded: no drawing that lies in the folder
// gets onto the page.
type picture struct {
	Title string
	ID    string
	SVG   template.HTML
	Text  string // the same for who does not see it
	Files string // where the figures are
}

// pictures are all of one kind, and why others are not there.
type pictures struct {
	List    []picture
	Summary string
	LeftOut []string
}

// journeyOf draws the traces of a folder to one scale, in the order of the plan's arms.
func journeyOf(folder fs.FS, plan econbench.Plan, budget *int) (p pictures) {
	names, err := filesIn(folder, TracesFolder, ".json")
	if err != nil {
		p.LeftOut = append(p.LeftOut, clean(err.Error()))
	}
	var list []*trace.Picture
	var span econbench.Seconds
	from := make(map[*trace.Picture]string)
	for _, name := range names {
		if strings.HasSuffix(name, ".events.json") {
			continue
		}
		t, err := readTrace(folder, name)
		if err != nil {
			p.LeftOut = append(p.LeftOut, clean(fmt.Sprintf("%s: %v", name, err)))
			continue
		}
		list, from[t], span = append(list, t), name, max(span, t.Whole.Seconds)
	}
	slices.SortStableFunc(list, func(a, b *trace.Picture) int { return cmp.Compare(placeOf(plan, a.Arm), placeOf(plan, b.Arm)) })
	for i, t := range list {
		title := strings.TrimSpace(fmt.Sprintf("%s: the path of a request and its response, %s", t.Arm, strings.TrimSpace(t.Workload+" "+t.Params.String())))
		shown, err := pictureOf(title, fmt.Sprintf("journey-%d", i+1), func(w io.Writer) error { return t.RenderSVG(w, span) }, t.RenderText, budget)
		if err != nil {
			p.LeftOut = append(p.LeftOut, clean(fmt.Sprintf("%s: %v", from[t], err)))
			continue
		}
		shown.Files = clean(from[t])
		p.List = append(p.List, shown)
	}
	if len(list) > 1 {
		var b strings.Builder
		if trace.RenderSummary(&b, list) == nil {
			p.Summary = cleanText(b.String())
		}
	}
	return p
}

func readTrace(folder fs.FS, name string) (*trace.Picture, error) {
	b, err := readSmall(folder, name)
	if err != nil {
		return nil, err
	}
	t := new(trace.Picture)
	if err := json.Unmarshal(b, t); err != nil {
		return nil, err
	}
	switch {
	case t.Schema != trace.Schema:
		return nil, fmt.Errorf("schema %d: want %d", t.Schema, trace.Schema)
	case len(t.Stages) == 0 || len(t.Stages) > maxStages:
		return nil, fmt.Errorf("%s: want 1 to %d", counted(len(t.Stages), "stage"), maxStages)
	case slices.ContainsFunc(t.Stages, func(s trace.Stage) bool { return s.CPU < 0 || s.CPU >= maxCPU }):
		return nil, fmt.Errorf("a stage's CPU is none: want 0 to %d", maxCPU-1)
	}
	return t, nil
}

// flamesOf draws the profiles of a folder, and their differences from their baselines.
func flamesOf(folder fs.FS, plan econbench.Plan, budget *int) (p pictures) {
	names, err := filesIn(folder, ProfilesFolder, ".folded")
	if err != nil {
		p.LeftOut = append(p.LeftOut, clean(err.Error()))
	}
	var list []*profile.Profile
	from := make(map[*profile.Profile]string)
	for _, name := range names {
		if strings.HasSuffix(name, ".diff.folded") {
			continue
		}
		one, err := readProfile(folder, strings.TrimSuffix(name, ".folded"))
		if err != nil {
			p.LeftOut = append(p.LeftOut, clean(fmt.Sprintf("%s: %v", name, err)))
			continue
		}
		list, from[one] = append(list, one), name
	}
	slices.SortStableFunc(list, func(a, b *profile.Profile) int {
		return cmp.Or(strings.Compare(a.Workload, b.Workload), strings.Compare(a.Params.String(), b.Params.String()), cmp.Compare(placeOf(plan, a.Arm), placeOf(plan, b.Arm)))
	})
	for i, one := range list {
		add := func(title, id string, svg, text func(io.Writer) error) {
			shown, err := pictureOf(title, id, svg, text, budget)
			if err != nil {
				p.LeftOut = append(p.LeftOut, clean(fmt.Sprintf("%s, %s: %v", from[one], title, err)))
				return
			}
			shown.Files = clean(from[one])
			p.List = append(p.List, shown)
		}
		add("CPU time of "+one.Title(), fmt.Sprintf("flame-%d", i+1), one.RenderSVG, one.RenderText)
		if base := baseOf(list, one); base != nil {
			d := profile.Compare(base, one)
			add(fmt.Sprintf("What %s changes about %s", one.Title(), base.Arm), fmt.Sprintf("flame-%d-diff", i+1), d.RenderSVG, d.RenderText)
		}
	}
	return p
}

func baseOf(list []*profile.Profile, p *profile.Profile) *profile.Profile {
	for _, b := range list {
		if b != p && b.Arm == p.Baseline && p.Arm != p.Baseline && b.Workload == p.Workload && b.Params.String() == p.Params.String() {
			return b
		}
	}
	return nil
}

func readProfile(folder fs.FS, stem string) (*profile.Profile, error) {
	b, err := readSmall(folder, stem+".json")
	if err != nil {
		return nil, err
	}
	p := new(profile.Profile)
	if err := json.Unmarshal(b, p); err != nil {
		return nil, err
	}
	if p.Schema != profile.Schema {
		return nil, fmt.Errorf("schema %d: want %d", p.Schema, profile.Schema)
	}
	folded, err := readSmall(folder, stem+".folded")
	if err != nil {
		return nil, err
	}
	p.Stacks, err = profile.ParseFolded(bytes.NewReader(folded))
	return p, err
}

// placeOf is where the plan has an arm; behind all others if it has it not.
func placeOf(plan econbench.Plan, arm econbench.Arm) int {
	i := slices.IndexFunc(plan.Arms, func(a econbench.Arm) bool { return a.String() == arm.String() })
	if i < 0 {
		return len(plan.Arms)
	}
	return i
}

// filesIn are the files of a folder with an extension, sorted by name; none where there is no folder.
func filesIn(folder fs.FS, dir, extension string) (names []string, err error) {
	entries, err := fs.ReadDir(folder, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasSuffix(e.Name(), extension) {
			names = append(names, path.Join(dir, e.Name()))
		}
	}
	return names, err
}

func readSmall(folder fs.FS, name string) ([]byte, error) {
	f, err := folder.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPictureFile+1))
	if err == nil && len(b) > maxPictureFile {
		err = fmt.Errorf("larger than %d MiB", maxPictureFile>>20)
	}
	return b, err
}

// pictureOf makes a picture for the page, as far as there is room.
func pictureOf(title, id string, svg, text func(io.Writer) error, budget *int) (p picture, err error) {
	var b bytes.Buffer
	if err := svg(&b); err != nil {
		return p, err
	}
	if b.Len() > maxPicture || b.Len() > *budget {
		return p, fmt.Errorf("the picture has %d kB: the page has room for %d MB, and for 1 MB of each", b.Len()>>10, maxPictures>>20)
	}
	if err := harmless(b.Bytes()); err != nil {
		return p, fmt.Errorf("not drawn: %w", err)
	}
	*budget -= b.Len()
	var words strings.Builder
	if err := text(&words); err != nil {
		return p, err
	}
	title = clean(title)
	return picture{Title: title, ID: id, SVG: template.HTML(embedded(b.String(), id, title)), Text: cleanText(words.String())}, nil
}

// elements and attributes that our drawings are made of.
var (
	drawingElements = strings.Fields("svg title desc style defs marker path rect line circle g text")
	drawingNames    = strings.Fields("xmlns width height viewBox font-family font-size font-weight id x y x1 x2 y1 y2 cx cy r rx d fill fill-opacity stroke " +
		"stroke-width stroke-opacity class text-anchor refX refY markerWidth markerHeight orient marker-end")
)

// harmless makes sure that a drawing is nothing but one. It is our own, of figures that may be anybody's: should one of them ever get into
// it as more than text, the drawing is left out.
func harmless(svg []byte) error {
	d := xml.NewDecoder(bytes.NewReader(svg))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch t := token.(type) {
		case xml.StartElement:
			if !slices.Contains(drawingElements, t.Name.Local) {
				return fmt.Errorf("element %q", t.Name.Local)
			}
			for _, a := range t.Attr {
				if !slices.Contains(drawingNames, a.Name.Local) || strings.Contains(a.Value, "url(") && !strings.HasPrefix(a.Value, "url(#") {
					return fmt.Errorf("attribute %s=%q", a.Name.Local, a.Value)
				}
			}
		case xml.ProcInst, xml.Directive:
			return errors.New("a declaration")
		}
	}
}

// drawingInks are the colours of package trace's drawings, which know one scheme.
var drawingInks = strings.NewReplacer(
	`"#ffffff"`, `"var(--ground)"`, `"#222222"`, `"var(--ink)"`, `"#666666"`, `"var(--soft)"`, `"#000000"`, `"var(--ink)"`,
	`"#eef4fa"`, `"var(--client)"`, `"#fbf3ea"`, `"var(--server)"`, `"#0b67a8"`, `"var(--arm2)"`, `"#c65a00"`, `"var(--arm1)"`, `"#6b7f3a"`, `"var(--arm3)"`)

// embedded makes a drawing part of a page: its names are its own, its style holds for it alone, and it is in the page's colours.
func embedded(svg, id, title string) string {
	_, rest, _ := strings.Cut(svg, "<svg ")
	head, rest, _ := strings.Cut(rest, ">")
	if style, after, ok := strings.Cut(rest, "<style>"); ok {
		rules, after, _ := strings.Cut(after, "</style>")
		// Nested rules: text and classes of this drawing alone.
		rest = style + "<style>#" + id + "{" + rules + "}</style>" + after
	} else {
		rest = drawingInks.Replace(rest)
	}
	for _, name := range []string{trace.Request, trace.Response} {
		rest = strings.ReplaceAll(rest, `<marker id="`+name+`"`, `<marker id="`+id+`-`+name+`"`)
		rest = strings.ReplaceAll(rest, `"url(#`+name+`)"`, `"url(#`+id+`-`+name+`)"`)
	}
	return `<svg id="` + id + `" class="wide" role="img" aria-label="` + template.HTMLEscapeString(title) + `" ` + head + ">" + rest
}

// cleanText is clean for text of several lines.
func cleanText(s string) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(clean(l), " ")
	}
	return strings.Join(lines, "\n")
}
