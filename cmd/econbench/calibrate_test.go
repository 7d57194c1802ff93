// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"testing"
	"time"

	"github.com/econbench/econbench"
)

// TestCalibratePlants: no two plants are one arm, and none is the handicap that burns nothing, however little a frame takes.
func TestCalibratePlants(t *testing.T) {
	for _, c := range []struct {
		path, program time.Duration
		want          []time.Duration
	}{
		{20 * time.Microsecond, 19, []time.Duration{219, 619, 2019}},
		{time.Microsecond, 20, []time.Duration{30, 50, 120}},
		{100, 20, []time.Duration{25, 30, 35}},
		{0, 0, []time.Duration{5, 10, 15}},
	} {
		if got := (frameCost{c.path, c.program}).plants(); !slices.Equal(got, c.want) {
			t.Errorf("%v a frame, %v of it the program's: %v, want %v", c.path, c.program, got, c.want)
		}
	}
}

// TestCalibratePool: a pool is sound for each topology, has all arms, and fills the time that it is given.
func TestCalibratePool(t *testing.T) {
	base, err := econbench.ParseArm("overlay")
	if err != nil {
		t.Fatal(err)
	}
	f := calibrateFlags{placement: string(econbench.Split), wire: string(econbench.WireDefault), spend: defaultSpend}
	plan, err := f.pool([]string{"tcp_rr"}, base, frameCost{path: 20 * time.Microsecond, program: 19})
	if err != nil {
		t.Fatal(err)
	}
	var arms []string
	for _, a := range plan.Arms {
		again, err := econbench.ParseArm(a.String())
		if err != nil || again != a {
			t.Errorf("arm %s: read back as %s, %v", a, again, err)
		}
		arms = append(arms, a.String())
	}
	want := []string{"overlay", "overlay#2", "overlay+handicap:0s", "overlay+handicap:219ns", "overlay+handicap:619ns", "overlay+handicap:2.019µs"}
	if !slices.Equal(arms, want) {
		t.Errorf("arms %q, want %q", arms, want)
	}
	if plan.Blocks < 25 || plan.Baseline != base {
		t.Errorf("%d blocks in %v, baseline %s", plan.Blocks, f.spend, plan.Baseline)
	}
	pilot, err := f.pilot([]string{"tcp_rr"}, base)
	if err != nil || len(pilot.Arms) != 2 || pilot.Arms[1] != plan.Arms[2] {
		t.Errorf("the pilot's arms are %v, %v; want the handicap that burns nothing", pilot.Arms, err)
	}
}
