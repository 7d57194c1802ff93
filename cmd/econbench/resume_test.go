// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/cmd/internal/engine"
	"github.com/econbench/econbench/internal/rundir"
	"github.com/econbench/econbench/reports"
)

// leaves makes a run directory as a run leaves it that ended early, on the program's own version:
//
//	leaves DIR TRIALS [KEY=VALUE…]
//
// status=killed leaves run.json as SIGKILL does; status=held goes on holding the run until the script ends.
func leaves(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: leaves DIR TRIALS [KEY=VALUE…]")
	}
	ts.Check(ts.Exec("econbench", "version"))
	version, _, _ := strings.Cut(strings.TrimPrefix(ts.ReadFile("stdout"), "econbench "), "\n")
	trials, err := strconv.Atoi(args[1])
	ts.Check(err)
	host, overlay := econbench.Arm{Topology: "host", Fastpath: "none"}, econbench.Arm{Topology: "overlay", Fastpath: "none"}
	r := &econbench.Run{ID: "r1", Version: version, Started: time.Unix(1e9, 0).UTC(), Status: econbench.StatusRunning}
	r.Plan = econbench.Plan{
		Suite: "quick", Arms: []econbench.Arm{host, overlay}, Baseline: host, Blocks: 3, Duration: 1.5, Warmup: 0.25, Seed: 7,
		RebuildEvery: 2, Placement: econbench.Split, Wire: econbench.WireDefault, CongestionControl: "cubic",
		Workloads: []econbench.PlannedWorkload{{Name: "tcp_rr"}},
	}
	r.Plan, err = resolve(r.Plan)
	ts.Check(err)
	p := r.Plan
	r.Plan.Workloads = slices.Clone(p.Workloads)
	status := econbench.StatusInterrupted
	for _, arg := range args[2:] {
		key, value, _ := strings.Cut(arg, "=")
		switch key {
		case "status":
			status = econbench.Status(value)
		case "version":
			r.Version = value
		case "lab":
			r.Lab = value
		case "seed": // which is not the trials'
			r.Plan.Seed = 8
		case "workload":
			r.Plan.Workloads[0].Name = value
		}
	}
	dir, err := rundir.Create(ts.MkAbs(args[0]), r)
	ts.Check(err)
	for i := range trials {
		block := i / len(p.Cells())
		ts.Check(dir.Append(econbench.Trial{Block: block, Position: i % len(p.Cells()), Cell: engine.Order(p, block)[i%len(p.Cells())], Valid: true}))
	}
	switch status {
	case "held":
		ts.Defer(func() { ts.Check(dir.Close()) })
	case "killed":
		ts.Check(dir.Close())
	default:
		ts.Check(dir.Finish(status, nil))
	}
}

// A run goes on only on what it began on, and the error names all that differs.
func TestSameHosts(t *testing.T) {
	facts := func(kernel, engine string) econbench.HostFacts {
		return econbench.HostFacts{BootID: kernel + engine, Kernel: kernel, Engine: engine, CPUs: []int{0}}
	}
	on := func(lab, image string, client, server econbench.HostFacts) econbench.Run {
		return econbench.Run{ID: "r1", Lab: lab, Image: image, Hosts: map[string]econbench.HostFacts{"client": client, "server": server}}
	}
	was := on("emulated", "sha256:1", facts("6.1", "20"), facts("6.1", "20"))
	rebooted := facts("6.1", "20")
	rebooted.BootID = "another"
	was.Hosts["client"] = marked(facts("6.1", "20"), econbench.Fingerprint{"bpf.oncache": "01", "cpu.governor": "performance", "nic.bus": "1"})
	for want, now := range map[string]econbench.Run{
		"": on("emulated", "sha256:1", rebooted, rebooted),
		`what it began on: client: kernel.release is "6.2", was "6.1"; server: docker.version is "28", was "20"$`: on("emulated", "sha256:1", facts("6.2", "20"), facts("6.1", "28")),
		`lab is "real", was "emulated"$`: on("real", "sha256:1", rebooted, rebooted),
		`: client: bpf.oncache is "02", was "01"; client: cpu.governor is "powersave", was "performance"$`: on("emulated", "sha256:1",
			marked(rebooted, econbench.Fingerprint{"bpf.oncache": "02", "cpu.governor": "powersave", "nic.bus": "2"}), rebooted),
		`image is "sha256:2", was "sha256:1"$`: on("emulated", "sha256:2", rebooted, rebooted),
	} {
		err := sameHosts(&was, now)
		if (err == nil) != (want == "") || (err != nil && !regexp.MustCompile(want).MatchString(err.Error())) {
			t.Errorf("error %v, want %q", err, want)
		}
		// As it comes out of a measurement, beside other errors: tonight's hosts are tomorrow's.
		if r := (refusal{}); err != nil && !errors.As(errors.Join(cause(t.Context(), err), errors.New("taking down failed")), &r) {
			t.Errorf("%v is no refusal for good", err)
		}
	}
}

func marked(h econbench.HostFacts, f econbench.Fingerprint) econbench.HostFacts {
	h.Fingerprint = f
	return h
}

// A run that is taken up again keeps how it ended before.
func TestTakeUp(t *testing.T) {
	ended := time.Unix(1e9, 0)
	r := econbench.Run{Status: econbench.StatusFailed, Error: "engine gone", Finished: &ended}
	takeUp(&r, time.Unix(2e9, 0))
	if r.Status != econbench.StatusRunning || r.Error != "" || r.Finished != nil || len(r.Resumed) != 1 {
		t.Fatalf("run %+v", r)
	}
	if b := r.Resumed[0].Before; b.Status != econbench.StatusFailed || b.Error != "engine gone" || b.Finished != &ended {
		t.Errorf("before: %+v", b)
	}
}

func TestResumeCommand(t *testing.T) {
	f := runFlags{labFlags: labFlags{hosts: []string{"ssh://root@a", "ssh://root@b"}, cacheDir: "/my cache"}}
	want := `econbench run --resume night-1 --hosts ssh://root@a,ssh://root@b --cache-dir '/my cache'`
	if got := f.resumeCommand("night-1"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for word, want := range map[string]string{"": "''", "a*": "'a*'", "it's": `'it'\''s'`, "/a-b_c.d": "/a-b_c.d"} {
		if got := reports.ShellWord(word); got != want {
			t.Errorf("%q is written %s, want %s", word, got, want)
		}
	}
}

// A job that can't begin leaves the run as it was, and one with nothing left to measure ends it.
func TestJobBegins(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run")
	host := econbench.Arm{Topology: "host", Fastpath: "none"}
	dir, err := rundir.Create(path, &econbench.Run{
		ID: "r1", Status: econbench.StatusRunning, Plan: econbench.Plan{Arms: []econbench.Arm{host}, Baseline: host},
	})
	if err = errors.Join(err, dir.Finish(econbench.StatusFailed, errors.New("engine gone"))); err != nil {
		t.Fatal(err)
	}
	dir, was, err := rundir.Resume(path)
	if err != nil {
		t.Fatal(err)
	}
	j := &job{dir: dir, was: was}
	if err := errors.Join(j.begin(nil, newProgress(io.Discard, true)), dir.Finish(econbench.StatusComplete, nil)); err != nil || !j.begun {
		t.Fatalf("begun %v, error %v", j.begun, err)
	}
	got, err := rundir.Load(path)
	if err != nil || got.Status != econbench.StatusComplete || got.Resumed[0].Before.Error != "engine gone" || got.Resumed[0].Hosts != nil {
		t.Errorf("run %+v, error %v", got, err)
	}
}
