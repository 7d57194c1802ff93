// SPDX-License-Identifier: Apache-2.0

package rundir

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/econbench/econbench"
)

// abandon leaves a run as a kill does: the lock is free, run.json says running, trials.jsonl is as given.
func abandon(t *testing.T, trials string) string {
	t.Helper()
	d, dir := create(t)
	must(t, d.Close())
	must(t, os.WriteFile(filepath.Join(dir, TrialsFile), []byte(trials), 0o644))
	return dir
}

func resume(t *testing.T, dir string) (*Dir, *econbench.Run) {
	t.Helper()
	d, run, err := Resume(dir)
	must(t, err)
	t.Cleanup(func() { must(t, d.Close()) })
	return d, run
}

func files(t *testing.T, dir string) string {
	t.Helper()
	all := ""
	for _, name := range []string{RunFile, TrialsFile} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		all += string(b)
	}
	return all
}

// What a resumed run appends stands behind the last whole line, however the file ended; nothing whole is lost.
func TestResumeAppends(t *testing.T) {
	a, b := lineOf(t, 0, "r1"), lineOf(t, 1, "r1")
	for name, c := range map[string]struct {
		trials string
		blocks []int // of all trials after one of block 9 was appended
		warns  int
	}{
		"whole":          {a + b, []int{0, 1, 9}, 0},
		"empty":          {"", []int{9}, 0},
		"torn":           {a + b[:50], []int{0, 9}, 0},
		"torn first":     {a[:1], []int{9}, 0},
		"zeros":          {a + "\x00\x00\x00", []int{0, 9}, 0},
		"blanks":         {a + "  ", []int{0, 9}, 0},
		"no newline":     {a + b[:len(b)-1], []int{0, 1, 9}, 0},
		"broken middle":  {a + "x\n" + b, []int{0, 1, 9}, 1},
		"foreign at end": {a + strings.TrimSpace(lineOf(t, 1, "r2")), []int{0, 9}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := abandon(t, c.trials)
			d, _ := resume(t, dir)
			must(t, d.Append(testTrial(9)))
			got := load(t, dir)
			var blocks []int
			for _, tr := range got.Trials {
				blocks = append(blocks, tr.Block)
			}
			if diff := cmp.Diff(c.blocks, blocks); diff != "" || len(got.Warnings) != c.warns {
				t.Errorf("warnings %q, blocks -want +got:\n%s", got.Warnings, diff)
			}
			after, err := os.ReadFile(filepath.Join(dir, TrialsFile))
			must(t, err)
			whole := c.trials[:strings.LastIndex(c.trials, "\n")+1]
			if !strings.HasPrefix(string(after), whole) || !strings.HasSuffix(string(after), "\n") {
				t.Errorf("whole lines are gone, or the last one is none:\n%s", after)
			}
		})
	}
}

// A full disk leaves a last line without its newline as it was, and the next attempt still begins a line of its own.
func TestResumeOnFullDisk(t *testing.T) {
	a := lineOf(t, 0, "r1")
	dir := abandon(t, strings.TrimSpace(a))
	d, _ := resume(t, dir)
	full := &brokenFile{File: d.trials.file.(*os.File), room: 100}
	d.trials.file = full
	oneLine(t, d.Append(testTrial(1)), "no space left")
	if b, err := os.ReadFile(filepath.Join(dir, TrialsFile)); err != nil || string(b)+"\n" != a {
		t.Errorf("after the failure: %q %v", b, err)
	}
	full.room = 1 << 20
	must(t, d.Append(testTrial(2)))
	if got := load(t, dir); len(got.Trials) != 2 || got.Warnings != nil {
		t.Errorf("%d trials, warnings %q", len(got.Trials), got.Warnings)
	}
}

// Looking at a run that could be resumed changes nothing, not even a torn line.
func TestResumeAndClose(t *testing.T) {
	dir := abandon(t, lineOf(t, 0, "r1")+"{torn")
	before := files(t, dir)
	d, run, err := Resume(dir)
	must(t, err)
	if len(run.Trials) != 1 || len(run.Warnings) != 1 {
		t.Errorf("%d trials, warnings %q", len(run.Trials), run.Warnings)
	}
	must(t, d.Close())
	if after := files(t, dir); after != before {
		t.Errorf("was\n%s\nis\n%s", before, after)
	}
}

// The first part's record stays beside the second's.
func TestResumedRoundTrip(t *testing.T) {
	d, dir := create(t)
	must(t, d.Append(testTrial(0)))
	must(t, d.Finish(econbench.StatusFailed, errors.New("engine gone")))
	first := load(t, dir)

	d, run := resume(t, dir)
	r := econbench.Resumption{
		Started: time.Unix(2e9, 0).UTC(), Version: "test", Command: []string{"econbench", "run", "--resume", dir},
		Hosts:  map[string]econbench.HostFacts{econbench.ClientHost: {Hostname: "b", OnlineCPUs: []int{0}, CPUs: []int{0}, Tunings: []string{}}},
		Before: econbench.Ending{Status: run.Status, Finished: run.Finished, Error: run.Error},
	}
	must(t, d.Update(func(run *econbench.Run) {
		run.Resumed, run.Status, run.Finished, run.Error = append(run.Resumed, r), econbench.StatusRunning, nil, ""
	}))
	if got := load(t, dir); got.Status != econbench.StatusRunning || got.Finished != nil || got.Error != "" {
		t.Errorf("while it goes on: %+v", got)
	}
	must(t, d.Append(testTrial(1)))
	must(t, d.Finish(econbench.StatusComplete, nil))

	got := load(t, dir)
	if len(got.Trials) != 2 || got.Trials[0].Part != 0 || got.Trials[1].Part != 1 {
		t.Fatalf("trials %+v", got.Trials)
	}
	if len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "resumed at 2033-05-18T03:33:20Z") {
		t.Errorf("warnings %q", got.Warnings)
	}
	want := *first
	want.Status, want.Error, want.Finished, want.Resumed = econbench.StatusComplete, "", got.Finished, []econbench.Resumption{r}
	want.Trials, want.Warnings = got.Trials, got.Warnings
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if e := got.Resumed[0].Before; e.Error != "engine gone" || e.Finished == nil || e.Status != econbench.StatusFailed {
		t.Errorf("ending of the first part: %+v", e)
	}
}

func TestResumeRefuses(t *testing.T) {
	d, complete := create(t)
	must(t, d.Finish(econbench.StatusComplete, nil))
	must(t, os.Remove(filepath.Join(complete, TrialsFile)))
	_, held := create(t)
	foreign := t.TempDir()
	must(t, os.WriteFile(filepath.Join(foreign, "thesis.tex"), nil, 0o644))
	newer := abandon(t, strings.Replace(lineOf(t, 0, "r1"), `"schema":1`, `"schema":9`, 1))
	newest := t.TempDir()
	must(t, os.WriteFile(filepath.Join(newest, RunFile), []byte(`{"schema":7}`), 0o644))
	for _, c := range []struct {
		dir  string
		is   error
		want string
	}{
		{complete, ErrComplete, "nothing is left to measure"},
		{held, ErrHeld, "another process writes"},
		{foreign, ErrNoRun, `found "thesis.tex"`},
		{filepath.Join(foreign, "none"), ErrNoRun, "does not exist"},
		{newer, ErrSchema, "schema 9 is newer than 1"},
		{newest, ErrSchema, "schema 7 is newer than 1"},
	} {
		_, _, err := Resume(c.dir)
		oneLine(t, err, c.dir, c.want)
		if !errors.Is(err, c.is) {
			t.Errorf("%v is not %v", err, c.is)
		}
	}
	for _, dir := range []string{complete, foreign, newest} {
		if _, err := os.Stat(filepath.Join(dir, TrialsFile)); err == nil {
			t.Errorf("%s: trials.jsonl was made", dir)
		}
	}
	must(t, os.WriteFile(filepath.Join(newer, TrialsFile), nil, 0o644))
	if d, _, err := Resume(newer); err != nil {
		t.Errorf("a refusal kept the lock: %v", err)
	} else {
		must(t, d.Close())
	}
}

// held keeps a run's file from being closed when its last user is gone.
var held *Dir

// The lock of a process that was killed is gone, also where that process had started others, which live on.
func TestLockEndsWithItsProcess(t *testing.T) {
	if dir := os.Getenv("ECONBENCH_TEST_HOLD"); dir != "" {
		var err error
		if held, _, err = Resume(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		child := exec.Command("sleep", "60")
		must(t, child.Start())
		fmt.Println(child.Process.Pid)
		select {}
	}
	dir := abandon(t, "")
	holder := exec.Command(os.Args[0], "-test.run=^TestLockEndsWithItsProcess$")
	holder.Env = append(os.Environ(), "ECONBENCH_TEST_HOLD="+dir)
	out, err := holder.StdoutPipe()
	must(t, err)
	must(t, holder.Start())
	var child int
	if _, err := fmt.Fscan(out, &child); err != nil {
		t.Fatalf("the holder did not say its child: %v", err)
	}
	defer syscall.Kill(child, syscall.SIGKILL)
	_, _, err = Resume(dir)
	oneLine(t, err, "still going on")
	must(t, holder.Process.Kill())
	_ = holder.Wait() // it was killed
	if err := syscall.Kill(child, 0); err != nil {
		t.Fatalf("its child is gone as well: %v", err)
	}
	resume(t, dir)
}

// Where a block was measured twice the part that has most of it counts, the later of equals; the others are kept apart.
func TestSettle(t *testing.T) {
	at := func(block, part int) econbench.Trial { return econbench.Trial{Block: block, Part: part} }
	run := &econbench.Run{
		Resumed: make([]econbench.Resumption, 2),
		Trials: []econbench.Trial{
			at(0, 0), at(0, 0), // whole, once
			at(1, 0), at(1, 1), at(1, 1), // broken off, then whole
			at(2, 1), at(2, 1), at(2, 2), // the second attempt was cut short
			at(3, 1), at(3, 2), // equals
		},
	}
	all := len(run.Trials)
	settle(run)
	want := []econbench.Trial{at(0, 0), at(0, 0), at(1, 1), at(1, 1), at(2, 1), at(2, 1), at(3, 2)}
	if diff := cmp.Diff(want, run.Trials); diff != "" {
		t.Errorf("what counts: -want +got:\n%s", diff)
	}
	if len(run.Trials)+len(run.Superseded) != all {
		t.Errorf("%d count and %d do not, of %d", len(run.Trials), len(run.Superseded), all)
	}
	if len(run.Warnings) != 5 || !strings.Contains(run.Warnings[2], "block 1 was broken off and measured anew: trials of the lesser attempt that count nowhere: 1") {
		t.Errorf("warnings %q", run.Warnings)
	}
}

// Trials beyond the plan's blocks are kept apart from those that reports are about, also where such a block was measured twice.
func TestExtraTrials(t *testing.T) {
	d, dir := create(t)
	extra := func(block int) econbench.Trial {
		tr := testTrial(block)
		tr.Extra = true
		return tr
	}
	must(t, d.Append(testTrial(0)))
	must(t, d.Append(extra(1)))
	must(t, d.Append(extra(2)))
	must(t, d.Finish(econbench.StatusInterrupted, nil))
	d, _ = resume(t, dir)
	must(t, d.Update(func(r *econbench.Run) { r.Resumed = append(r.Resumed, econbench.Resumption{}) }))
	must(t, d.Append(extra(2)))
	must(t, d.WriteFile(GateFile, []byte("{}\n")))
	got := load(t, dir)
	if len(got.Trials) != 1 || len(got.Extra) != 2 || got.Extra[1].Part != 1 || len(got.Superseded) != 1 || !got.Superseded[0].Extra {
		t.Errorf("%d trials, extra %+v, superseded %+v", len(got.Trials), got.Extra, got.Superseded)
	}
	if b, err := os.ReadFile(filepath.Join(dir, GateFile)); err != nil || string(b) != "{}\n" {
		t.Errorf("%q %v", b, err)
	}
	oneLine(t, d.WriteFile("none/x", nil), "none/x", "no such file")
}
