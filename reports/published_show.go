// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/econbench/econbench"
)

const publishedHead = "published figures, and what was measured here:"

// publishedText writes the section of the text report.
func publishedText(b *bytes.Buffer, s *Summary, paint func(string) string) error {
	if len(s.Published) == 0 {
		return nil
	}
	b.WriteString("\n" + publishedHead + "\n")
	for _, cols := range pack(publishedColumns(s.Published), textWidth-1) {
		if err := drawText(b, cols, paint); err != nil {
			return err
		}
	}
	for _, line := range publishedNotes(s.Published) {
		wrap(b, "  ", line)
	}
	b.WriteByte('\n')
	wrap(b, "", publishedLegend)
	return nil
}

// publishedMarkdown writes the section of the Markdown report.
func publishedMarkdown(b *bytes.Buffer, s *Summary) {
	if len(s.Published) == 0 {
		return
	}
	b.WriteString("\n### P" + publishedHead[1:len(publishedHead)-1] + "\n\n")
	drawMarkdown(b, publishedColumns(s.Published))
	b.WriteByte('\n')
	for _, line := range publishedNotes(s.Published) {
		fmt.Fprintf(b, "- %s\n", escape(line))
	}
	fmt.Fprintf(b, "\n%s\n", escape(publishedLegend))
}

const publishedLegend = "published: the ratio as its source gives it; measured: the same ratio here; host: that of the host's network; gap closed: " +
	"(arm − network) / (host − network), where the network is the arm's own without its fast path. Medians of the blocks [their intervals]."

// publishedColumns is a row for each figure and workload.
func publishedColumns(list []Published) []column {
	per := func(f func(Published) string) (cells []string) {
		for _, p := range list {
			cells = append(cells, f(p))
		}
		return cells
	}
	number := 0
	return []column{
		{header: "", left: true, cells: per(func(Published) string { number++; return strconv.Itoa(number) })},
		{header: "arm", left: true, cells: per(func(p Published) string { return shorten(clean(p.Arm.String())) })},
		{header: "workload", left: true, cells: per(func(p Published) string { return shorten(clean(p.Workload)) })},
		{header: "metric", left: true, cells: per(func(p Published) string { return heading(p.Metric) })},
		{header: "against", left: true, cells: per(func(p Published) string { return shorten(clean(p.Against.String())) })},
		{header: "published", cells: per(func(p Published) string { return showGain(p.PublishedFigure) })},
		{header: "measured", cells: per(func(p Published) string { return showPaired(p.Measured) })},
		{header: "host", cells: per(func(p Published) string { return showMedian(p.Host) })},
		{header: "gap closed", cells: per(func(p Published) string { return showShare(p.Gap) })},
	}
}

// showGain is a published ratio, or its range.
func showGain(f econbench.PublishedFigure) string {
	text := factor(f.Gain, 2)
	if f.UpTo != 0 {
		text += "–" + factor(f.UpTo, 2)
	}
	return text + "×"
}

func showPaired(p *Paired) string {
	if p == nil {
		return missing
	}
	return showRatio(&Ratio{Median: p.Median, Low: p.Low, High: p.High})
}

// showMedian leaves the interval away: CSV and JSON have it, and a note where something rests on it.
func showMedian(p *Paired) string {
	if p == nil {
		return missing
	}
	return showRatio(&Ratio{Median: p.Median})
}

// showShare is a share with its interval: "41% [38, 45]".
func showShare(p *Paired) string {
	if p == nil || p.Median == nil {
		return missing
	}
	text := fmt.Sprintf("%.0f%%", 100**p.Median)
	if p.Low != nil && p.High != nil {
		text += fmt.Sprintf(" [%.0f, %.0f]", 100**p.Low, 100**p.High)
	}
	return text
}

// publishedNotes say of each row where its figure is from and what there is to know.
func publishedNotes(list []Published) (lines []string) {
	for i, p := range list {
		parts := []string{clean(p.Source)}
		if len(p.PublishedFigure.Params)+len(p.Params) > 0 {
			parts = append(parts, clean(p.Workload+" "+p.Params.String()))
		}
		switch {
		case p.OutOfReach:
			parts = append(parts, "out of reach on this machine: even host comes to no more than "+showPaired(p.Host))
		case p.Reached == ReachedYes:
			parts = append(parts, "reached")
		case p.Reached == ReachedNo:
			parts = append(parts, "not reached")
		case p.Measured != nil && p.Measured.Low == nil:
			parts = append(parts, "too few blocks to say whether it is reached")
		case p.Reached == ReachedUnclear:
			parts = append(parts, "the data cannot tell whether it is reached")
		}
		if p.Note != "" {
			parts = append(parts, clean(p.Note))
		}
		lines = append(lines, fmt.Sprintf("%d: %s", i+1, strings.Join(parts, "; ")))
	}
	return lines
}

// publishedHeader are the columns that CSV has behind the others where the plan has published figures.
var publishedHeader = []string{
	"published", "published_up_to", "source", "reached", "gap_n", "gap", "gap_low", "gap_high", "gap_coverage",
	"host_n", "host", "host_low", "host_high", "host_coverage", "out_of_reach", "note",
}

func (s *Summary) csvHeader() []string {
	if len(s.Published) == 0 {
		return csvHeader
	}
	return slices.Concat(csvHeader, publishedHeader)
}

// padded makes a row as long as the header.
func (s *Summary) padded(row []string) []string {
	return append(row, make([]string, len(s.csvHeader())-len(row))...)
}

// csvRow is a published figure as a row: "baseline" is what it is against, and the ratio is to that.
func (p Published) csvRow(s *Summary) []string {
	row := make([]string, len(csvHeader), len(csvHeader)+len(publishedHeader))
	set := func(column, value string) { row[slices.Index(csvHeader, column)] = value }
	set("run", s.Run)
	set("baseline", p.Against.String())
	set("arm", p.Arm.String())
	set("workload", p.Workload)
	set("params", p.Params.String())
	set("metric", p.Metric)
	set("unit", p.unit)
	if m := p.Measured; m != nil {
		set("ratio_n", strconv.Itoa(m.N))
		set("ratio", exact(m.Median))
		set("ratio_low", exact(m.Low))
		set("ratio_high", exact(m.High))
		set("ratio_coverage", exact(&m.Coverage))
	}
	upTo := ""
	if p.UpTo != 0 {
		upTo = exact(&p.UpTo)
	}
	row = append(row, exact(&p.Gain), upTo, p.Source, string(p.Reached))
	row = append(append(row, p.Gap.csv()...), p.Host.csv()...)
	return append(row, strconv.FormatBool(p.OutOfReach), p.Note)
}

// csv are n, median, interval and coverage; empty where there is nothing.
func (p *Paired) csv() []string {
	if p == nil {
		return make([]string, 5)
	}
	return []string{strconv.Itoa(p.N), exact(p.Median), exact(p.Low), exact(p.High), exact(&p.Coverage)}
}
