// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"math"
	"testing"

	"github.com/econbench/econbench"
)

// pacedWork counts transactions at the server, as collectors of work do.
type pacedWork struct{ econbench.Collector }

func (pacedWork) Name() string { return "sockets" }
func (pacedWork) CountsWork()  {}
func (pacedWork) Samples(w econbench.Window) ([]econbench.Sample, []string) {
	return []econbench.Sample{{Metric: "transactions", Value: w.Server.Counters["sockets"]["n"] / float64(w.Server.Seconds)}}, nil
}

func TestHalvesOfATrial(t *testing.T) {
	host := func(early float64) econbench.HostWindow {
		return econbench.HostWindow{Seconds: 2, Counters: map[string]econbench.Counters{"sockets": {"n": 100}},
			Early: &econbench.EarlyWindow{Seconds: 1, Counters: map[string]econbench.Counters{"sockets": {"n": early}}}}
	}
	e := &Engine{Parts: Parts{Collectors: []econbench.Collector{pacedWork{}}}}
	got := e.halves(econbench.Window{Client: host(1), Server: host(45)}, nil)
	if got == nil || math.Abs(*got-45.0/55) > 1e-12 {
		t.Errorf("halves %v, want 45/55", got)
	}
	for name, w := range map[string]econbench.Window{
		"one host not read midway": {Client: econbench.HostWindow{Seconds: 2}, Server: host(45)},
		"nothing done by then":     {Client: host(0), Server: host(0)},
	} {
		if got := e.halves(w, nil); got != nil {
			t.Errorf("%s: %v, want null", name, *got)
		}
	}
}
