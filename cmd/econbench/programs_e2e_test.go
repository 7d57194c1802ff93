// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRunPrograms runs the workloads that the suites in docs/examples define, over all three kinds of arms, and what goes wrong with one.
func TestRunPrograms(t *testing.T) {
	sharedHosts(t)
	for _, test := range []struct {
		suite, workload string
		args            []string
		metrics         []string
	}{
		{"redis", "redis", []string{"-p", "redis.connections=2"}, []string{"transactions", "latency_mean", "cpu_per_transaction"}},
		{"sockperf", "sockperf", []string{"-p", "sockperf.size=64"}, []string{"transactions", "latency_p50", "latency_p9999", "dropped"}},
	} {
		file, err := filepath.Abs("../../docs/examples/" + test.suite + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		// Two entries of a suite that a parameter makes equal would be given twice: one stays.
		args := append(tiny("--suite", oneWorkload(t, file, test.workload)), test.args...)
		p := start(t, sharedLab(), args...).want(0)
		run := p.run()
		allValid(t, run, 3)
		for _, tr := range run.Trials {
			for _, name := range test.metrics {
				if v := tr.Metrics[name]; v == nil || *v < 0 || *v == 0 && name != "dropped" {
					t.Errorf("%s: %s is %v", tr.Cell, name, v)
				}
			}
			if hits := tr.Metrics["hit_ratio"]; tr.Arm.Fastpath == "oncache" && (hits == nil || *hits < 0.99) {
				t.Errorf("%s: hit ratio %v", tr.Cell, hits)
			}
		}
		// A report needs the run directory alone.
		csv := startCommand(t, shipped("report", filepath.Join(p.dir, "econbench-runs", run.ID), "-f", "csv")).want(0).stdout.String()
		if test.suite == "sockperf" && !strings.Contains(csv, ",dropped,1,lower,") {
			t.Errorf("report without unit and direction of its own metric:\n%s", csv)
		}
	}
}

// TestRunProgramsFail: a server that does not start and a client that says nothing fail their own trials, and say so.
func TestRunProgramsFail(t *testing.T) {
	sharedHosts(t)
	p := start(t, sharedLab(), tiny("--suite", writeSuite(t, `
programs:
  - name: serverless
    server: [sh, -c, "echo no such file >&2; exit 3"]
    client: [sleep, "{seconds}"]
    port: 26400
    flows: {kind: lasting}
    primary: throughput
  - name: speechless
    server: [iperf3, -s, -B, "{server}", -p, "{port}"]
    client: [iperf3, -c, "{server}", -p, "{port}", -t, "{seconds}"]
    port: 26401
    ready: {line: "^Server listening on 26401"}
    flows: {kind: lasting}
    metrics: [{name: speed, regexp: 'speed: (\d+)', unit: 1/s, better: higher, help: how fast it says it was}]
    primary: throughput
arms: [host]
workloads: [{name: serverless}, {name: speechless}]
`))...).want(1)
	for _, tr := range p.run().Trials {
		want := map[string]string{
			"serverless": `server of serverless: sh server: exit code 3: "no such file"`,
			"speechless": `iperf3 client: metric speed: regexp "speed: (\\d+)" matches nothing that the client printed; its last lines: `,
		}[tr.Workload]
		if tr.Valid || !strings.Contains(strings.Join(tr.Invalid, "\n"), want) {
			t.Errorf("%s: valid %t, %q, want %q", tr.Cell, tr.Valid, tr.Invalid, want)
		}
	}
}

// oneWorkload is a suite with the first of its workloads alone.
func oneWorkload(t *testing.T, file, name string) string {
	t.Helper()
	body, err := suiteText(file)
	if err != nil {
		t.Fatal(err)
	}
	before, _, found := strings.Cut(string(body), "\nworkloads:\n")
	if !found {
		t.Fatalf("%s: no list of workloads", file)
	}
	return writeSuite(t, before+"\nworkloads:\n  - {name: "+name+"}\n")
}

// writeSuite writes a suite file.
func writeSuite(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "suite.yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}
