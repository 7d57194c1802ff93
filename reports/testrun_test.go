// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/econbench/econbench"
)

func arm(s string) econbench.Arm {
	a, err := econbench.ParseArm(s)
	if err != nil {
		panic(err)
	}
	return a
}

func ptr(v float64) *float64 { return &v }

// sampleRun is made up, with the effects and the noise that facts of real labs suggest: always the same one.
func sampleRun(blocks int) *econbench.Run {
	run := &econbench.Run{
		Schema: econbench.Schema, ID: "20260102-030405-ab12", Version: "v0.1.0", Lab: "emulated",
		Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Status: econbench.StatusComplete,
		Command: []string{"econbench", "run", "--seed", "7"},
		Plan: econbench.Plan{
			Suite: "quick", Arms: []econbench.Arm{arm("host"), arm("overlay"), arm("overlay+oncache")}, Baseline: arm("host"),
			Workloads: []econbench.PlannedWorkload{
				{Name: "tcp_stream", Params: econbench.Params{"streams": "1", "message": "131072"}, Primary: "throughput"},
				{Name: "tcp_rr", Params: econbench.Params{"request": "1", "response": "1"}, Primary: "transactions"},
			},
			Blocks: blocks, Duration: 2, Warmup: 0.5, Seed: 7, RebuildEvery: 5,
			Placement: econbench.Split, Wire: econbench.WireDefault, CongestionControl: "cubic",
		},
	}
	random := rand.New(rand.NewPCG(1, 2))
	for b := range blocks {
		for i, c := range run.Plan.Cells() {
			run.Trials = append(run.Trials, sampleTrial(run.ID, b, i, c, random))
		}
	}
	return run
}

// speeds of the arms in units of the host's.
var speeds = map[string][2]float64{"host": {1, 1}, "overlay": {0.54, 0.59}, "overlay+oncache": {0.80, 0.995}}

func sampleTrial(run string, block, position int, c econbench.Cell, random *rand.Rand) econbench.Trial {
	noise := func(cv float64) float64 { return math.Exp(cv * random.NormFloat64()) }
	t := econbench.Trial{Schema: 1, Run: run, Block: block, Position: position, Cell: c, Valid: true, Elapsed: 3}
	speed := speeds[c.Arm.String()]
	cpu := 1.98 * noise(0.002)
	t.Metrics = map[string]*float64{"cpu": ptr(cpu), "retransmits": nil}
	if c.Workload == "tcp_stream" {
		rate := 34e9 / 8 * speed[0] * noise(0.03)
		t.Metrics["throughput"], t.Metrics["cpu_per_byte"] = &rate, ptr(cpu/rate)
		return t
	}
	rate := 56.9e3 * speed[1] * noise(0.01)
	t.Metrics["transactions"], t.Metrics["cpu_per_transaction"] = &rate, ptr(cpu/rate)
	t.Metrics["latency_p50"] = ptr(math.Round(0.95/rate*1e6) / 1e6)
	t.Metrics["latency_p99"] = ptr(math.Round(1.6/rate*1e6) / 1e6)
	return t
}

// golden holds an output against the file of that name in testdata, or rewrites that with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s -want +got (go test -update rewrites):\n%s", path, diff)
	}
}
