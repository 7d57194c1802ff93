// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/rundir"
)

// writeBigRun makes a run directory of many blocks of two arms. Lines are the shortest that a trial can be.
func writeBigRun(t testing.TB, trials int, slower float64) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "big")
	run := rrRun(nil, nil)
	run.Schema, run.Plan.Blocks = econbench.Schema, trials/2
	b, err := json.Marshal(run)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, rundir.RunFile), b, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, rundir.TrialsFile))
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(f)
	random := rand.New(rand.NewPCG(21, math.Float64bits(slower)))
	for i := range trials {
		rate := 5e4 * math.Exp(0.01*random.NormFloat64())
		if i%2 == 1 {
			rate *= 0.6 * slower
		}
		fmt.Fprintf(w, `{"schema":1,"run":%q,"block":%d,"arm":%q,"workload":"tcp_rr","params":{"request":"1","response":"1"},`+
			`"metrics":{"transactions":%.1f},"valid":true}`+"\n", run.ID, i/2, run.Plan.Arms[i%2], rate)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func loadRun(t testing.TB, dir string) *econbench.Run {
	t.Helper()
	run, err := rundir.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// TestManyTrialsFromDisk: a tenth of a million trials are read, reported and compared, all of them.
func TestManyTrialsFromDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	const trials = 100_000
	old, new := loadRun(t, writeBigRun(t, trials, 1)), loadRun(t, writeBigRun(t, trials, 0.95))
	if out := render(t, Text{}, old); !strings.Contains(out, "100000 of 100000 trials") || !strings.Contains(out, "worse") {
		t.Error(out)
	}
	c, err := Compare([]Labelled{{"old", old}, {"new", new}}, CompareOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m := c.Pairs[0].Cells[1].Metrics["transactions"]
	near(t, "change", *m.Ratio.Factor, 0.95, 0.001)
	near(t, "coverage", m.Ratio.Coverage, 0.95, 1e-4)
	if m.Ratio.OldN != trials/2 || m.Verdict != VerdictWorse || *m.Ratio.Low > 0.95 || *m.Ratio.High < 0.95 || *m.Ratio.High-*m.Ratio.Low > 0.001 {
		t.Errorf("%+v %+v", m, m.Ratio)
	}
}

// TestEveryFormatOfManyTrials logs what a tenth of a million trials cost in each format, with as many metrics as trials have; the reading is left
// out. Time fails no test. Memory does, since it does not depend on how busy the machine is: all that is allocated, not what is held at once.
func TestEveryFormatOfManyTrials(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	run := sampleRun(16_667)
	metrics := econbench.Metrics()
	for i := range run.Trials {
		for at := 0; len(run.Trials[i].Metrics) < 24; at++ {
			if name := metrics[at].Name; run.Trials[i].Metrics[name] == nil {
				run.Trials[i].Metrics[name] = ptr(1 + float64((i*7919+at)%997)/1e4)
			}
		}
	}
	for _, r := range All() {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		var out counter
		if err := r.Render(&out, run); err != nil {
			t.Fatal(err)
		}
		took := time.Since(start)
		runtime.ReadMemStats(&after)
		allocated := float64(after.TotalAlloc-before.TotalAlloc) / (1 << 20)
		t.Logf("%-15s %5.2f s, %4.0f MiB allocated, %9d bytes, %6d lines", r.Name(), took.Seconds(), allocated, out.bytes, out.lines)
		if allocated > 300 {
			t.Errorf("%s: %.0f MiB allocated, want 300 or less", r.Name(), allocated)
		}
		if r.Name() == "benchfmt" && out.lines < len(run.Trials) {
			t.Errorf("benchfmt has %d lines, want one for each of %d trials", out.lines, len(run.Trials))
		}
	}
}

// counter counts what is written.
type counter struct{ bytes, lines int }

func (c *counter) Write(b []byte) (int, error) {
	c.bytes, c.lines = c.bytes+len(b), c.lines+bytes.Count(b, []byte("\n"))
	return len(b), nil
}

// BenchmarkMillion is what a million trials cost, read and reported, and compared with another million.
func BenchmarkMillion(b *testing.B) {
	old, new := writeBigRun(b, 1_000_000, 1), writeBigRun(b, 1_000_000, 0.95)
	b.Run("report", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := (Text{}).Render(io.Discard, loadRun(b, old)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("load", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			loadRun(b, old)
		}
	})
	b.Run("compare", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c, err := Compare([]Labelled{{"old", loadRun(b, old)}, {"new", loadRun(b, new)}}, CompareOptions{})
			if err == nil {
				err = c.Render(io.Discard, "text")
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}
