// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"encoding/csv"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestBenchstat gives the same values to benchstat, in its own format, and to compare: medians, p and, where benchstat's
// interval is symmetric, its half width have to agree to the digits that it prints.
func TestBenchstat(t *testing.T) {
	if testing.Short() {
		t.Skip("builds benchstat")
	}
	random := rand.New(rand.NewPCG(31, 32))
	dir := t.TempDir()
	for _, c := range []struct {
		n, m  int
		shift float64
	}{{10, 10, 1.00}, {9, 9, 1.02}, {12, 12, 0.99}, {7, 10, 1.01}, {20, 15, 1.005}, {60, 70, 1.002}} {
		draw := func(n int, shift float64) (values []float64) {
			for range n {
				values = append(values, math.Round(5e4*shift*math.Exp(0.01*random.NormFloat64())*100)/100)
			}
			return values
		}
		old, new := draw(c.n, 1), draw(c.m, c.shift)
		m := comparedCell(t, compareRuns(t, rrRun(old, nil), rrRun(new, nil), CompareOptions{}), "host", "tcp_rr").Metrics["transactions"]
		theirs := benchstat(t, writeBenchmarks(t, dir, "old", old), writeBenchmarks(t, dir, "new", new))
		near(t, "old median", *m.Old.Median, theirs.old, 1e-9**m.Old.Median)
		near(t, "new median", *m.New.Median, theirs.new, 1e-9**m.New.Median)
		near(t, "p", *m.Absolute.P, theirs.p, 0.0005+1e-9)
		if c.n == 9 || c.n == 12 { // 2nd to 8th, 3rd to 10th: theirs are ours
			far := math.Max(*m.Old.High / *m.Old.Median - 1, 1 - *m.Old.Low / *m.Old.Median)
			near(t, "interval", far, theirs.width, 0.005+1e-9)
		}
	}
}

func writeBenchmarks(t *testing.T, dir, name string, values []float64) string {
	t.Helper()
	var b strings.Builder
	for _, v := range values {
		fmt.Fprintf(&b, "BenchmarkTransactions 1 %v trans/s\n", v)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

type benchstatRow struct{ old, width, new, p float64 }

// benchstat runs the version that tools/go.mod names.
func benchstat(t *testing.T, old, new string) (r benchstatRow) {
	t.Helper()
	cmd := exec.Command("go", "tool", "-modfile=../tools/go.mod", "benchstat", "-format=csv", old, new)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("benchstat: %v: %s", err, stderr.String())
	}
	read := csv.NewReader(strings.NewReader(string(out)))
	read.FieldsPerRecord = -1
	rows, err := read.ReadAll()
	if err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	for _, row := range rows {
		if row[0] != "Transactions" || len(row) < 7 {
			continue
		}
		number := func(s string) float64 {
			v, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
			if err != nil {
				t.Fatalf("%q: %v", row, err)
			}
			return v
		}
		p, _, _ := strings.Cut(strings.TrimPrefix(row[6], "p="), " ")
		return benchstatRow{old: number(row[1]), width: number(row[2]) / 100, new: number(row[3]), p: number(p)}
	}
	t.Fatalf("no row in %s", out)
	return r
}
