// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/econbench/econbench"
)

// TestRunApplications runs each server, in a closed or an open loop, on the host's network and on a fast path.
func TestRunApplications(t *testing.T) {
	sharedHosts(t)
	p := start(t, sharedLab(), tiny("--suite", writeSuite(t, `
arms: [host, overlay+oncache]
workloads:
  - {name: memcached, rate: 50%}
  - {name: nginx, size: 16k}
  - {name: nginx_conn}
  - {name: nginx_h2}
  - {name: postgres, scale: 1, clients: 2, script: tpcb, rate: 100}
`))...).want(0)
	run := p.run()
	allValid(t, run, 10)
	for _, tr := range run.Trials {
		wantAnswers(t, tr)
		if hits := tr.Metrics["hit_ratio"]; tr.Arm.Fastpath == "oncache" && (hits == nil || *hits < 0.99) {
			t.Errorf("%s: hit ratio %v", tr.Cell, hits)
		}
	}
	for _, w := range run.Plan.Workloads {
		if share := strings.HasSuffix(w.Params["rate"], "%"); share != (w.Rate > 0) {
			t.Errorf("%s %s: rate %v", w.Name, w.Params, w.Rate)
		}
	}
}

// wantAnswers checks that a trial of an application tells of its answers, and that its percentiles are in order.
func wantAnswers(t *testing.T, tr econbench.Trial) {
	t.Helper()
	for _, name := range []string{"transactions", "latency_p50", "latency_mean", "cpu_per_transaction"} {
		if v := tr.Metrics[name]; v == nil || *v <= 0 {
			t.Errorf("%s: %s is %v", tr.Cell, name, v)
		}
	}
	if v := tr.Metrics["errors"]; v == nil || *v != 0 {
		t.Errorf("%s: errors %v, want 0", tr.Cell, v)
	}
	last := 0.0
	for _, name := range []string{"latency_p50", "latency_p90", "latency_p99", "latency_p999", "latency_max"} {
		if v := tr.Metrics[name]; v != nil && *v < last {
			t.Errorf("%s: %s is %v, below the percentile before it, %v", tr.Cell, name, *v, last)
		} else if v != nil {
			last = *v
		}
	}
	open := tr.Params["rate"] != "0" && tr.Params["rate"] != ""
	if offered := tr.Metrics["offered"]; (offered != nil) != open {
		t.Errorf("%s: offered %v", tr.Cell, offered)
	}
}
