// SPDX-License-Identifier: Apache-2.0

package rundir

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/econbench/econbench"
)

func testRun() *econbench.Run {
	host := econbench.Arm{Topology: "host", Fastpath: econbench.NoFastpath}
	return &econbench.Run{
		ID: "r1", Version: "test", Command: []string{"econbench", "run"}, Started: time.Unix(1e9, 0).UTC(),
		Status: econbench.StatusRunning, Lab: "emulated",
		Plan: econbench.Plan{Suite: "quick", Arms: []econbench.Arm{host}, Baseline: host, Blocks: 1, Duration: 2,
			Workloads: []econbench.PlannedWorkload{{Name: "tcp_rr", Params: econbench.Params{"request": "1"}, Primary: "transactions"}}},
		Hosts: map[string]econbench.HostFacts{econbench.ClientHost: {Hostname: "a", OnlineCPUs: []int{0}, CPUs: []int{0}, Tunings: []string{}}},
	}
}

func testTrial(block int) econbench.Trial {
	v := 5e4
	return econbench.Trial{
		Block: block,
		Cell: econbench.Cell{Arm: econbench.Arm{Topology: "host", Fastpath: econbench.NoFastpath}, Workload: "tcp_rr",
			Params: econbench.Params{"request": "1"}},
		Start: time.Unix(1e9, 0).UTC(), Elapsed: 3, Valid: true,
		Metrics: map[string]*float64{"transactions": &v, "cpu": nil},
		Hosts: map[string]econbench.HostWindow{econbench.ClientHost: {Start: time.Unix(1e9, 0).UTC(), Seconds: 2,
			Counters: map[string]econbench.Counters{"stat": {"idle": 1.5}}}},
	}
}

func create(t *testing.T) (*Dir, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "out", "run")
	d, err := Create(dir, testRun())
	if err != nil {
		t.Fatal(err)
	}
	return d, dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, dir string) *econbench.Run {
	t.Helper()
	run, err := Load(dir)
	must(t, err)
	return run
}

func TestRoundTrip(t *testing.T) {
	d, dir := create(t)
	for b := range 3 {
		must(t, d.Append(testTrial(b)))
	}
	must(t, d.Update(func(r *econbench.Run) { r.Image = "sha256:1" }))
	if got := load(t, dir); got.Status != econbench.StatusRunning || got.Finished != nil || got.Image != "sha256:1" {
		t.Errorf("before Finish: %+v", got)
	}
	must(t, d.Finish(econbench.StatusFailed, errors.New("engine gone")))

	got := load(t, dir)
	if got.Finished == nil {
		t.Fatal("Finish set no time")
	}
	want := testRun()
	want.Schema, want.Image, want.Status, want.Error, want.Finished = 1, "sha256:1", econbench.StatusFailed, "engine gone", got.Finished
	for b := range 3 {
		tr := testTrial(b)
		tr.Schema, tr.Run = 1, "r1"
		want.Trials = append(want.Trials, tr)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if err := d.Append(testTrial(3)); err == nil {
		t.Error("Append after Finish: no error")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

func TestCreateRefuses(t *testing.T) {
	_, run := create(t)
	foreign := t.TempDir()
	must(t, os.WriteFile(filepath.Join(foreign, "thesis.tex"), nil, 0o644))
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o644))
	for dir, want := range map[string]string{
		run:     "holds a run already",
		foreign: `found "thesis.tex"`,
		file:    "not a directory",
	} {
		_, err := Create(dir, testRun())
		oneLine(t, err, dir, want)
	}
	if _, err := Create(foreign, testRun()); !errors.Is(err, ErrTaken) {
		t.Errorf("got %v, want ErrTaken", err)
	}
	if _, err := Create(t.TempDir(), testRun()); err != nil {
		t.Errorf("empty folder: %v", err)
	}
}

func oneLine(t *testing.T, err error, wants ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want one with %q", wants)
		return
	}
	for _, w := range wants {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q lacks %q", err, w)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error is not one line: %q", err)
	}
}

func TestNotFiniteBecomesNull(t *testing.T) {
	d, dir := create(t)
	tr := testTrial(0)
	nan, inf := math.NaN(), math.Inf(-1)
	tr.Metrics["cpu"], tr.Metrics["latency_p99"] = &nan, &inf
	tr.Hosts[econbench.ClientHost].Counters["stat"]["busy"] = nan
	tr.Proof = &econbench.PathProof{PayloadToServer: inf}
	tr.Elapsed = econbench.Seconds(nan)
	must(t, d.Append(tr))
	if tr.Metrics["cpu"] == nil || len(tr.Warnings) != 0 || len(tr.Hosts[econbench.ClientHost].Counters["stat"]) != 2 {
		t.Error("Append changed its argument")
	}
	got := load(t, dir).Trials[0]
	for _, m := range []string{"cpu", "latency_p99"} {
		if v, ok := got.Metrics[m]; !ok || v != nil {
			t.Errorf("%s: %v, %v; want null", m, v, ok)
		}
	}
	if got.Proof != nil || len(got.Warnings) != 5 {
		t.Errorf("proof %v, warnings %q", got.Proof, got.Warnings)
	}
}

// brokenFile writes the first n bytes and then fails as a full disk does; cutting may fail too.
type brokenFile struct {
	*os.File
	room  int
	stuck bool
}

func (f *brokenFile) Write(b []byte) (int, error) {
	if len(b) <= f.room {
		f.room -= len(b)
		return f.File.Write(b)
	}
	n, _ := f.File.Write(b[:f.room])
	f.room = 0
	return n, &os.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC}
}

func (f *brokenFile) Truncate(n int64) error {
	if f.stuck {
		return &os.PathError{Op: "truncate", Path: f.Name(), Err: syscall.EIO}
	}
	return f.File.Truncate(n)
}

func TestDiskFull(t *testing.T) {
	for _, stuck := range []bool{false, true} {
		d, dir := create(t)
		must(t, d.Append(testTrial(0)))
		full := &brokenFile{File: d.trials.file.(*os.File), room: 100, stuck: stuck}
		d.trials.file = full
		err := d.Append(testTrial(1))
		oneLine(t, err, filepath.Join(dir, TrialsFile), "no space left")
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%v is not ENOSPC", err)
		}
		if got := load(t, dir); len(got.Trials) != 1 || (len(got.Warnings) == 1) != stuck {
			t.Errorf("stuck %v: %d trials, warnings %q", stuck, len(got.Trials), got.Warnings)
		}
		full.room = 1 << 20
		if stuck {
			oneLine(t, d.Append(testTrial(2)), "cut a torn line off")
			full.stuck = false
		}
		must(t, d.Append(testTrial(3)))
		if got := load(t, dir); len(got.Trials) != 2 || got.Trials[1].Block != 3 || got.Warnings != nil {
			t.Errorf("stuck %v: %d trials, warnings %q", stuck, len(got.Trials), got.Warnings)
		}
	}
}

// TestRealDiskFull does it once more on a file system that is really full.
func TestRealDiskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small tmpfs needs root")
	}
	mnt := t.TempDir()
	if err := syscall.Mount("tmpfs", mnt, "tmpfs", 0, "size=64k"); errors.Is(err, syscall.EPERM) {
		t.Skip("mounting a small tmpfs needs CAP_SYS_ADMIN")
	} else if err != nil {
		t.Fatal(err)
	}
	defer syscall.Unmount(mnt, 0)
	dir := filepath.Join(mnt, "run")
	d, err := Create(dir, testRun())
	must(t, err)
	n := 0
	for err == nil && n < 1000 {
		if err = d.Append(testTrial(n)); err == nil {
			n++
		}
	}
	oneLine(t, err, dir, "no space left")
	if _, err := d.WriteLog("x.log", make([]byte, 1<<17)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("WriteLog: %v", err)
	}
	oneLine(t, d.Finish(econbench.StatusComplete, nil), dir)
	if got := load(t, dir); len(got.Trials) != n || got.Warnings != nil || got.Status != econbench.StatusRunning {
		t.Errorf("%d trials of %d, warnings %q, status %s", len(got.Trials), n, got.Warnings, got.Status)
	}
}

func lineOf(t *testing.T, block int, run string) string {
	t.Helper()
	tr := testTrial(block)
	tr.Schema, tr.Run = 1, run
	b, err := json.Marshal(tr)
	must(t, err)
	return string(b) + "\n"
}

func TestLoadBrokenLines(t *testing.T) {
	a, b := lineOf(t, 0, "r1"), lineOf(t, 1, "r1")
	for name, c := range map[string]struct {
		trials string
		want   int
		warns  []string
	}{
		"empty":        {"", 0, nil},
		"torn":         {a + b[:50], 1, []string{":2: last line is torn"}},
		"no newline":   {a + b[:len(b)-1], 2, nil},
		"zeros":        {a + "\x00\x00\x00", 1, []string{":2: last line is torn"}},
		"middle":       {a + "garbage\n" + b, 2, []string{":2: left out: invalid character"}},
		"wrong type":   {a + `{"block":"x"}` + "\n" + b, 2, []string{":2: left out: "}},
		"number":       {`{"metrics":{"cpu":1e999}}` + "\n" + b, 1, []string{":1: left out: number 1e999 of metrics is out of range"}},
		"NaN":          {`{"metrics":{"cpu":NaN}}` + "\n" + b, 1, []string{":1: left out: NaN is not a number in JSON"}},
		"infinite":     {`{"metrics":{"cpu": -Infinity}}` + "\n" + b, 1, []string{":1: left out: -Infinity is not a number in JSON"}},
		"no schema":    {strings.Replace(a, `"schema":1,`, "", 1) + b, 1, []string{":1: left out: no schema in it, or one older than 1"}},
		"blank":        {a + "\n\r\n" + b, 2, nil},
		"no cell":      {"{}\n" + b, 1, []string{":1: left out: no arm"}},
		"foreign":      {a + lineOf(t, 1, "r2"), 1, []string{`:2: left out: trial is of run "r2"`}},
		"only garbage": {strings.Repeat("x\n", 30), 0, append(make([]string, 20), "10 more broken lines")},
	} {
		t.Run(name, func(t *testing.T) {
			_, dir := create(t)
			must(t, os.WriteFile(filepath.Join(dir, TrialsFile), []byte(c.trials), 0o644))
			got := load(t, dir)
			if len(got.Trials) != c.want || len(got.Warnings) != len(c.warns) {
				t.Fatalf("%d trials, warnings %q", len(got.Trials), got.Warnings)
			}
			for i, w := range c.warns {
				if !strings.Contains(got.Warnings[i], w) || !strings.Contains(got.Warnings[i], dir) {
					t.Errorf("warning %q lacks %q or the path", got.Warnings[i], w)
				}
			}
		})
	}
}

func TestLoadErrors(t *testing.T) {
	with := func(runJSON string) string {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, RunFile), []byte(runJSON), 0o644))
		return dir
	}
	foreign := t.TempDir()
	must(t, os.WriteFile(filepath.Join(foreign, "thesis.tex"), nil, 0o644))
	folder := t.TempDir()
	must(t, os.Mkdir(filepath.Join(folder, RunFile), 0o755))
	for _, c := range []struct {
		dir   string
		is    error
		wants []string
	}{
		{filepath.Join(foreign, "none"), ErrNoRun, []string{"does not exist"}},
		{filepath.Join(foreign, "thesis.tex"), ErrNoRun, []string{"it is a file", RunFile}},
		{foreign, ErrNoRun, []string{`found "thesis.tex"`, "want run.json"}},
		{t.TempDir(), ErrNoRun, []string{"found nothing", "want run.json"}},
		{folder, nil, []string{"is a directory"}},
		{with(""), nil, []string{"run.json", "unexpected end"}},
		{with("{\n\"schema\": 1,\n oops}"), nil, []string{"run.json:3", "invalid character"}},
		{with("{\"schema\": 1,\n\"run\": 7}"), nil, []string{"run.json:2", "cannot unmarshal"}},
		{with("{}"), ErrSchema, []string{"no schema in it; want 1"}},
		{with(`{"schema":0}`), ErrSchema, []string{"schema 0 is older than 1"}},
		{with(`{"schema":7,"run":{"new":"shape"}}`), ErrSchema, []string{"schema 7 is newer than 1"}},
	} {
		_, err := Load(c.dir)
		oneLine(t, err, append(c.wants, c.dir)...)
		if c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%v is not %v", err, c.is)
		}
	}

	d, dir := create(t)
	must(t, d.Append(testTrial(0)))
	newer := strings.Replace(lineOf(t, 0, "r1"), `"schema":1`, `"schema":9`, 1)
	must(t, os.WriteFile(filepath.Join(dir, TrialsFile), []byte(newer), 0o644))
	_, err := Load(dir)
	oneLine(t, err, "trials.jsonl:1", "schema 9 is newer than 1")
	must(t, os.Remove(filepath.Join(dir, TrialsFile)))
	if got := load(t, dir); len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "missing") {
		t.Errorf("missing trials.jsonl: %q", got.Warnings)
	}
}

func TestWriteLog(t *testing.T) {
	d, dir := create(t)
	for _, c := range [][2]string{
		{"b00-overlay+oncache-tcp_rr.log", "logs/b00-overlay+oncache-tcp_rr.log"},
		{"b00-overlay+oncache-tcp_rr.log", "logs/b00-overlay+oncache-tcp_rr-2.log"},
		{"../../etc/passwd", "logs/_.._etc_passwd"},
		{"a b\x00µ.log", "logs/a_b__.log"},
		{"..", "logs/log"},
		{"", "logs/log-2"},
		{"-rf", "logs/rf"},
		{strings.Repeat("x", 300), "logs/" + strings.Repeat("x", 200)},
	} {
		rel, err := d.WriteLog(c[0], []byte(c[0]))
		if err != nil || rel != c[1] {
			t.Errorf("%q: %q, %v; want %q", c[0], rel, err, c[1])
			continue
		}
		if b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(rel))); err != nil || string(b) != c[0] {
			t.Errorf("%q: read back %q, %v", c[0], b, err)
		}
	}
}

// TestLongRun bounds the time of reading a run of 100,000 trials: 2 s on two virtual cores, 30 s before it is a failure.
func TestLongRun(t *testing.T) {
	const trials = 100_000
	_, dir := create(t)
	var b strings.Builder
	for i := range trials {
		tr := testTrial(i)
		tr.Schema, tr.Run = 1, "r1"
		for k := range 10 {
			tr.Hosts[econbench.ClientHost].Counters["stat"][fmt.Sprint("counter", k)] = float64(i * k)
		}
		line, err := json.Marshal(tr)
		must(t, err)
		b.Write(line)
		b.WriteByte('\n')
	}
	must(t, os.WriteFile(filepath.Join(dir, TrialsFile), []byte(b.String()), 0o644))
	start := time.Now()
	if got := load(t, dir); len(got.Trials) != trials {
		t.Errorf("%d trials", len(got.Trials))
	}
	took := time.Since(start)
	t.Logf("%d trials, %d MB: %v", trials, b.Len()>>20, took)
	if took > 30*time.Second {
		t.Errorf("took %v", took)
	}
}

func FuzzLoadTrials(f *testing.F) {
	for _, s := range []string{"", "{}\n", "x\n{", `{"run":"r1","arm":"host","workload":"w"}` + "\n", "\x00", `{"schema":2}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l := loader{path: "trials.jsonl", run: &econbench.Run{ID: "r1"}}
		if err := l.read(strings.NewReader(string(b))); err != nil && !errors.Is(err, ErrSchema) {
			t.Error(err)
		}
		for _, tr := range l.run.Trials {
			if _, err := json.Marshal(tr); err != nil {
				t.Errorf("cannot be written again: %v", err)
			}
		}
	})
}
