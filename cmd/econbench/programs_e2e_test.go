// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRunPrograms runs workloads that the suites in docs/examples define, over all three kinds of arms, in one run.
func TestRunPrograms(t *testing.T) {
	sharedHosts(t)
	suite := "programs:\n" + programsOf(t, "redis") + programsOf(t, "sockperf") +
		"arms: [host, overlay, overlay+oncache]\nworkloads: [{name: redis, connections: 2}, {name: sockperf}]\n"
	p := start(t, sharedLab(), tiny("--suite", writeSuite(t, suite))...).want(0)
	run := p.run()
	allValid(t, run, 6)
	metrics := map[string][]string{
		"redis":    {"transactions", "latency_mean", "cpu_per_transaction"},
		"sockperf": {"transactions", "latency_p50", "latency_p9999", "dropped"},
	}
	for _, tr := range run.Trials {
		for _, name := range metrics[tr.Workload] {
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
	if !strings.Contains(csv, ",dropped,1,lower,") {
		t.Errorf("report without unit and direction of sockperf's own metric:\n%s", csv)
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
    server: [iperf3, -s, -B, "{server}", -p, "{port}", --forceflush]
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

// programsOf are the programs that an example defines.
func programsOf(t *testing.T, example string) string {
	t.Helper()
	body, err := suiteText("../../docs/examples/" + example + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(body), "\nprograms:\n")
	programs, _, found := strings.Cut(rest, "\narms:")
	if !found {
		t.Fatalf("%s: no programs before its arms", example)
	}
	return programs + "\n"
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
