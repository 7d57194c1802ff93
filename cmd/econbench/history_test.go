// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/rundir"
)

// makeNights makes run directories of tcp_rr on host and overlay, one a night from 2026-01-01 on. From NIGHT on, counted from 1, the
// overlay's ratio is FACTOR times what it was; or hosts have another KERNEL; or that night alone is what WORD says: "killed", or
// "invalid".
//
//	nights DIR COUNT [NIGHT:FACTOR|NIGHT:kernel=KERNEL|NIGHT:killed|NIGHT:invalid]…
func makeNights(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: nights DIR COUNT [NIGHT:WHAT]…")
	}
	count, err := strconv.Atoi(args[1])
	ts.Check(err)
	random := rand.New(rand.NewPCG(7, 7))
	ratio, kernel := 0.6, "6.1.0"
	for night := 1; night <= count; night++ {
		killed, valid := false, true
		for _, a := range args[2:] {
			at, what, _ := strings.Cut(a, ":")
			if at != strconv.Itoa(night) {
				continue
			}
			name, isKernel := strings.CutPrefix(what, "kernel=")
			switch {
			case isKernel:
				kernel = name
			case what == "killed":
				killed = true
			case what == "invalid":
				valid = false
			default:
				f, err := strconv.ParseFloat(what, 64)
				ts.Check(err)
				ratio *= f
			}
		}
		ts.Check(writeNight(ts.MkAbs(args[0]), night, kernel, ratio*math.Exp(0.004*random.NormFloat64()), killed, valid, random))
	}
}

func writeNight(dir string, night int, kernel string, ratio float64, killed, valid bool, random *rand.Rand) error {
	began := time.Date(2026, 1, night, 2, 0, 0, 0, time.UTC)
	params := econbench.Params{"request": "1"}
	host, overlay := econbench.Arm{Topology: "host"}, econbench.Arm{Topology: "overlay"}
	facts := econbench.HostFacts{Kernel: kernel, Fingerprint: econbench.Fingerprint{"kernel.release": kernel}}
	run := econbench.Run{
		Schema: econbench.Schema, ID: began.Format("20060102-150405-") + fmt.Sprintf("%04x", night), Version: "v0.1.0", Started: began,
		Status: econbench.StatusComplete, Lab: "emulated",
		Plan: econbench.Plan{Arms: []econbench.Arm{host, overlay}, Baseline: host, Blocks: 6, Duration: 1,
			Workloads: []econbench.PlannedWorkload{{Name: "tcp_rr", Params: params, Primary: "transactions"}}},
		Hosts: map[string]econbench.HostFacts{econbench.ClientHost: facts, econbench.ServerHost: facts},
	}
	if killed {
		run.Status = econbench.StatusRunning
	}
	var trials bytes.Buffer
	for block := range run.Plan.Blocks {
		rate := 5e4 * math.Exp(0.02*random.NormFloat64())
		for _, arm := range run.Plan.Arms {
			v := rate
			if arm == overlay {
				v *= ratio
			}
			line, err := json.Marshal(econbench.Trial{Schema: econbench.Schema, Run: run.ID, Block: block, Valid: valid,
				Cell: econbench.Cell{Arm: arm, Workload: "tcp_rr", Params: params}, Metrics: map[string]*float64{"transactions": &v}})
			if err != nil {
				return err
			}
			trials.Write(append(line, '\n'))
		}
	}
	folder := filepath.Join(dir, run.ID)
	body, err := json.Marshal(run)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, rundir.RunFile), body, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, rundir.TrialsFile), trials.Bytes(), 0o644)
}

// exits runs the program and checks its exit code, which testscript does not tell from any other.
//
//	exits CODE ARG…
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE ARG…")
	}
	got := "0"
	if err := ts.Exec("econbench", args[1:]...); err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("%q: exit status %s, want %s", args[1:], got, args[0])
	}
}

// TestRunFinder: a folder that can't be looked into is named, and ends nothing; one that is a run by its name is a night.
func TestRunFinder(t *testing.T) {
	dir := t.TempDir()
	for _, sub := range []string{"lost+found", "20260101-020000-0001", "20260102-020000-0002", "b/20260103-020000-0003"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "20260101-020000-0001", rundir.RunFile), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	f := runFinder{readDir: func(name string) ([]os.DirEntry, error) { // root may read everything
		if strings.HasSuffix(name, "lost+found") || strings.HasSuffix(name, "0002") {
			return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrPermission}
		}
		return os.ReadDir(name)
	}}
	found, err := f.within(dir)
	var names []string
	for _, name := range found {
		names = append(names, filepath.Base(name))
	}
	if got := strings.Join(names, " "); err != nil || got != "20260101-020000-0001 20260102-020000-0002 20260103-020000-0003" {
		t.Errorf("found %s, %v", got, err)
	}
	if len(f.unread) != 1 || !strings.Contains(f.unread[0], "lost+found: permission denied") {
		t.Errorf("unread: %q", f.unread)
	}
	f.readDir = func(string) ([]os.DirEntry, error) { return nil, os.ErrPermission }
	if _, err := f.within(dir); err == nil {
		t.Error("nothing could be looked into, and that is no error")
	}
}

// TestParseAcknowledged: what is wrong with a file is said on one line, with its place.
func TestParseAcknowledged(t *testing.T) {
	for text, want := range map[string]string{
		"changes:\n  - night: 2026-01-22\n    reson: x\n": `known.yaml:3:5: unknown key "reson": did you mean "reason"?`,
		"change: []\n":              `known.yaml:1:1: unknown key "change": did you mean "changes"?`,
		"changes:\n  - reason: x\n": "known.yaml:2:5: no night: want a date",
		"changes:\n  - night: 2026-13-22\n    reason: x\n":                `known.yaml:2:12: found "2026-13-22", want a date`,
		"changes:\n  - night: 22.1.2026\n    reason: x\n":                 `known.yaml:2:12: found "22.1.2026", want a date`,
		"changes:\n  - night: 2026-01-22\n":                               "known.yaml:2:5: no reason: want a word",
		"changes:\n  - night: 2026-01-22\n    reason: \"\"\n":             "known.yaml:3:13: no reason: want a word",
		"changes:\n  - {night: 2026-01-22, reason: x, tolerance: 90}\n":   "found 90, want 0 to 14 nights",
		"changes:\n  - {night: 2026-01-22, reason: x, tolerance: some}\n": `known.yaml:2:47: found "some", want a whole number`,
		"changes:\n  - {night: 2026-01-22, reason: x, arm: \"[\"}\n":      `known.yaml:2:41: found "[", want a pattern`,
		"changes:\n  - night: 2026-01-22\n\treason: x\n":                  "known.yaml:3:",
		"changes: 7\n":      "known.yaml:1:10: found ",
		"changes:\n  - 7\n": "known.yaml:2:5: found ",
	} {
		_, err := parseAcknowledged("known.yaml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "acknowledged changes known.yaml:") {
			t.Errorf("%q: %v\nwant %s", text, err, want)
		}
	}
	for text, want := range map[string]int{"": 0, "# none yet\n": 0, "changes: []\n": 0, "changes:\n": 0,
		"changes:\n  - night: 2026-01-22\n    reason: x\n  - {night: 20260122-030405-ab12, reason: y, arm: overlay+econ, tolerance: 0, link: z}\n": 2} {
		list, err := parseAcknowledged("known.yaml", []byte(text))
		if err != nil || len(list) != want {
			t.Errorf("%q: %v, %v", text, list, err)
		}
		if want == 2 && (list[0].Place != "known.yaml:2" || list[0].Tolerance != defaultTolerance || list[1].Place != "known.yaml:4" || list[1].Tolerance != 0 || list[1].Night != "20260122-030405-ab12") {
			t.Errorf("%+v", list)
		}
	}
}

// FuzzParseAcknowledged: whatever is in the file, there is an error or a list, and no panic.
func FuzzParseAcknowledged(f *testing.F) {
	f.Add([]byte("changes:\n  - night: 2026-01-22\n    reason: x\n"))
	f.Add([]byte("changes: [{night: a, arm: '[', reason: *x}]"))
	f.Add([]byte("changes: &a [*a]"))
	f.Add([]byte("- changes"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := parseAcknowledged("known.yaml", text); err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: more than one line: %v", text, err)
		}
	})
}
