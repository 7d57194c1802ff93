// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/perf/benchfmt"

	"github.com/econbench/econbench"
)

// Benchfmt is the Go benchmark format, for benchstat and what else reads it (go.dev/design/14313-benchmark-format). A line is what
// a block says of a cell: nearly always a valid trial. benchstat's medians are then those of the other formats; its p is not, since it
// does not know of blocks.
type Benchfmt struct{}

var _ econbench.Report = Benchfmt{}

func (Benchfmt) Name() string { return "benchfmt" }
func (Benchfmt) Help() string {
	return "a line per valid trial, in Go's benchmark format, for benchstat -col /arm"
}

// Render writes what there is to know of the run as lines that readers skip, the units, then the trials, block by block.
func (Benchfmt) Render(w io.Writer, run *econbench.Run) error {
	s, data, err := summaryOf(run, Options{})
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w) // keeps its first error for Flush
	for _, line := range benchmarkNotes(s) {
		fmt.Fprintf(out, "# %s\n", line)
	}
	names := s.metricNames()
	records := benchfmt.NewWriter(out)
	for _, name := range names {
		if m := s.described(name); m.Better != econbench.Neither {
			key := benchfmt.UnitMetadataKey{Key: "better"}
			records.Write(&benchfmt.UnitMetadata{UnitMetadataKey: key, OrigUnit: benchmarkUnit(name, m.Unit), Value: string(m.Better)})
		}
	}
	writeBlocks(records, run, s, data, names)
	if err := out.Flush(); err != nil {
		return fmt.Errorf("render benchfmt: %w", err)
	}
	return nil
}

// described finds unit and direction of a metric that some cell names.
func (s *Summary) described(name string) Metric {
	for _, c := range s.Cells {
		if m, ok := c.Metrics[name]; ok {
			return m
		}
	}
	return Metric{}
}

// benchmarkNotes is what benchstat has no place for. None of it is configuration: benchstat makes a table of its own of every
// configuration, and two nights have different ids.
func benchmarkNotes(s *Summary) []string {
	lines := []string{runLine(s)}
	if !s.Started.IsZero() {
		lines = append(lines, "started "+s.Started.UTC().Format(time.RFC3339))
	}
	for _, named := range [][2]string{{"suite", s.Plan.Suite}, {"baseline", s.Baseline.String()}} {
		if named[1] != "" {
			lines = append(lines, named[0]+" "+clean(named[1]))
		}
	}
	for _, l := range notesOf(s, true) {
		lines = append(lines, "invalid trials, which are left out: "+l)
	}
	for _, l := range notesOf(s, false) {
		lines = append(lines, "warning: "+l)
	}
	for i, l := range lines {
		if r := []rune(l); len(r) > 1000 { // Go's readers refuse lines above 64 KiB
			lines[i] = string(r[:1000]) + "…"
		}
	}
	return lines
}

// benchmarkConfig is what decides figures, as far as it goes on a few lines: runs that differ in it come out as different tables. The
// machine's key stands for all facts of the machine.
func benchmarkConfig(run *econbench.Run) (list []benchfmt.Config) {
	add := func(key, value string) {
		if value = strings.TrimSpace(visible(value)); value != "" {
			list = append(list, benchfmt.Config{Key: key, Value: []byte(value), File: true})
		}
	}
	add("lab", run.Lab)
	add("machine", run.MachineKey())
	for _, role := range []string{econbench.ClientHost, econbench.ServerHost} {
		add(role+"-cpu", run.Hosts[role].CPUModel)
		add(role+"-kernel", run.Hosts[role].Kernel)
	}
	p := finitePlan(run.Plan)
	add("placement", string(p.Placement))
	add("wire", string(p.Wire))
	add("congestion-control", p.CongestionControl)
	add("duration", showSeconds(p.Duration))
	add("warmup", showSeconds(p.Warmup))
	return list
}

// benchmarkCell is a cell on its way through the blocks: for each of its metrics the unit, the values, and which is next.
type benchmarkCell struct {
	name  benchfmt.Name
	units []string
	all   []series
	next  []int
}

// writeBlocks writes the lines: block by block, in each the workloads in the plan's order, in those the baseline first, since benchstat
// compares with the column that it meets first. What is written is not kept: there are as many lines as trials.
func writeBlocks(w *benchfmt.Writer, run *econbench.Run, s *Summary, data []*cellData, names []string) {
	var cells []*benchmarkCell
	blocks := make(map[int]bool)
	for _, d := range baselineFirst(data, s.Baseline) {
		c := &benchmarkCell{name: benchfmt.Name("Trial" + benchmarkName(d.cell))}
		for _, metric := range names {
			if values := d.values[metric]; len(values.blocks) > 0 {
				c.units, c.all = append(c.units, benchmarkUnit(metric, d.metric(metric).Unit)), append(c.all, values)
				for _, b := range values.blocks {
					blocks[b] = true
				}
			}
		}
		c.next = make([]int, len(c.all))
		cells = append(cells, c)
	}
	r := &benchfmt.Result{Config: benchmarkConfig(run), Iters: 1}
	for _, block := range slices.Sorted(maps.Keys(blocks)) {
		for _, c := range cells {
			if c.take(block, r) {
				w.Write(r)
			}
		}
	}
}

// take fills in what the block says of the cell, and says whether that is anything.
func (c *benchmarkCell) take(block int, r *benchfmt.Result) bool {
	r.Name, r.Values = c.name, r.Values[:0]
	for i, values := range c.all {
		if at := c.next[i]; at < len(values.blocks) && values.blocks[at] == block {
			r.Values = append(r.Values, benchfmt.Value{Value: values.values[at], Unit: c.units[i]})
			c.next[i]++
		}
	}
	return len(r.Values) > 0
}

// baselineFirst sorts the arms of each workload such that the baseline goes before the others.
func baselineFirst(data []*cellData, baseline econbench.Arm) []*cellData {
	order := make(map[cellKey]int)
	for _, d := range data {
		if k := keyOf(withArm(d.cell, baseline)); order[k] == 0 {
			order[k] = 1 + len(order)
		}
	}
	place := func(d *cellData) (int, int) {
		later := 1
		if d.cell.Arm.String() == baseline.String() {
			later = 0
		}
		return order[keyOf(withArm(d.cell, baseline))], later
	}
	sorted := slices.Clone(data)
	slices.SortStableFunc(sorted, func(a, b *cellData) int {
		x, first := place(a)
		y, second := place(b)
		return cmp.Or(cmp.Compare(x, y), cmp.Compare(first, second))
	})
	return sorted
}

// benchmarkName is the cell as a benchmark's sub-name: "/workload=tcp_rr/arm=overlay/request=1/response=1".
func benchmarkName(c econbench.Cell) string {
	name := "/workload=" + benchmarkPart(c.Workload) + "/arm=" + benchmarkPart(c.Arm.String())
	for _, k := range slices.Sorted(maps.Keys(c.Params)) {
		name += "/" + strings.ReplaceAll(benchmarkPart(k), "=", "%3D") + "=" + benchmarkPart(c.Params[k])
	}
	return name
}

// gomaxprocs is what a reader takes for the number of CPUs at the end of a name.
var gomaxprocs = regexp.MustCompile(`-([0-9]+)$`)

// benchmarkPart writes what would end a name, or one of its parts, as URLs do.
func benchmarkPart(s string) string {
	s = visible(s)
	var b strings.Builder
	for _, r := range s {
		if r == '%' || r == '/' || unicode.IsSpace(r) {
			fmt.Fprintf(&b, "%%%02X", string(r))
			continue
		}
		b.WriteRune(r)
	}
	return gomaxprocs.ReplaceAllString(b.String(), "%2D$1")
}

// benchmarkUnit is a unit as Go's benchmarks have them, with the metric's name in it, since benchstat tells metrics apart by their
// units alone: "throughput-B/s", "transactions/s", "latency_p50-sec".
func benchmarkUnit(metric, unit string) string {
	name := identifier(metric)
	if name == "ns" || name == "MB" { // which readers scale
		name += "_" + digest(name)
	}
	known := map[string]string{"s": "-sec", "s/s": "-sec/s", "1": "-ratio", "1/s": "/s", "": ""}
	if suffix, ok := known[unit]; ok {
		if strings.HasSuffix(name, "_ratio") {
			suffix = strings.TrimPrefix(suffix, "-ratio")
		}
		return name + suffix
	}
	return name + "-" + strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || !unicode.IsPrint(r) || r == '=' {
			return '_'
		}
		return r
	}, visible(unit))
}
