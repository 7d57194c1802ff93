// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/econbench/econbench/reports"
)

const nightlyFolder = "../../docs/examples/nightly"

// fakeEconbench stands for the program in tests of the script around it: it notes its arguments, makes what the script looks at, and
// ends with the code that the test wants of each command. FAKE_UP is how many runs it takes until one can be gone on with; FAKE_SLOW has
// it wait for a signal, and take things down for a moment.
const fakeEconbench = `#!/usr/bin/env bash
echo "$*" >>"$FAKE/calls"
command=$1 dir= out=
while (($#)); do
	case $1 in -o) out=$2 ;; --resume) dir=$2 ;; esac
	shift
done
case $command in
run)
	dir=${dir:-$out}
	if (($(grep -c '^run ' "$FAKE/calls") < ${FAKE_UP:-0})); then exit 1; fi
	mkdir -p "$dir"
	against=
	if [[ -e $FAKE/gated ]]; then
		against='"against": {
    "gate": 0.05
  },
  '
		printf '{\n  "schema": 1,\n  "verdict": "%s",\n  "share": 0.05\n}\n' "${FAKE_VERDICT:-passed}" >"$dir/gate.json"
	fi
	if [[ -n ${FAKE_SLOW:-} ]]; then
		trap 'echo TERM >>"$FAKE/signals"' TERM
		grep -m 1 SigIgn /proc/self/status >"$FAKE/ignored"
		: >"$FAKE/up"
		until [[ -e $FAKE/signals ]]; do sleep 0.02; done
		sleep 0.3
	fi
	printf '{\n  %s"status": "%s"\n}\n' "$against" "${FAKE_STATUS:-complete}" >"$dir/run.json"
	: >>"$dir/trials.jsonl"
	if [[ -n ${FAKE_KILLED:-} ]]; then kill -TERM $PPID; fi
	exit "${FAKE_RUN:-0}"
	;;
gate)
	if [[ -n $out && -z ${FAKE_NO_PAGE:-} ]]; then echo gate >"$out"; fi
	exit "${FAKE_GATE:-0}"
	;;
history) exit "${FAKE_HISTORY:-0}" ;;
report)
	if [[ -z $out ]]; then echo "<testsuites name=\"econbench\" tests=\"2\" failures=\"${FAKE_FAILURES:-0}\" errors=\"0\">"; fi
	exit "${FAKE_REPORT:-0}"
	;;
esac
exit 1
`

// nightlyScript is the script in a folder of its own, with a program that only plays.
type nightlyScript struct {
	t         *testing.T
	dir, fake string
}

func newNightly(t *testing.T) *nightlyScript {
	t.Helper()
	n := &nightlyScript{t, filepath.Join(t.TempDir(), "nights"), t.TempDir()}
	if err := os.WriteFile(filepath.Join(n.fake, "econbench"), []byte(fakeEconbench), 0o755); err != nil {
		t.Fatal(err)
	}
	return n
}

// run runs the script, wants an exit code, and returns what it called the program with and what it said.
func (n *nightlyScript) run(want int, env []string, args ...string) (calls []string, said string) {
	n.t.Helper()
	os.Remove(filepath.Join(n.fake, "calls"))
	cmd := exec.Command(filepath.Join(nightlyFolder, "econbench-nightly"), args...)
	cmd.Env = append(os.Environ(), "PATH="+n.fake+":"+os.Getenv("PATH"), "NIGHTLY_DIR="+n.dir, "FAKE="+n.fake)
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		n.t.Fatal(err)
	}
	body, _ := os.ReadFile(filepath.Join(n.fake, "calls")) // none was made
	calls = strings.Split(strings.TrimSpace(strings.ReplaceAll(string(body), n.dir, "DIR")), "\n")
	if got := cmd.ProcessState.ExitCode(); got != want {
		n.t.Errorf("%v %v: exit code %d, want %d\n%s%s", env, args, got, want, out, strings.Join(calls, "\n"))
	}
	return calls, string(out)
}

// gate has all later runs be judged by a gate.
func (n *nightlyScript) gate() {
	n.t.Helper()
	if err := os.WriteFile(filepath.Join(n.fake, "gated"), nil, 0o644); err != nil {
		n.t.Fatal(err)
	}
}

// link is where a link of the folder points to; "" without one.
func (n *nightlyScript) link(name string) string {
	to, _ := os.Readlink(filepath.Join(n.dir, name)) // "" it is
	return to
}

// make makes a night that was measured before.
func (n *nightlyScript) make(name, status string) {
	n.t.Helper()
	dir := filepath.Join(n.dir, "runs", name)
	err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "run.json"), fmt.Appendf(nil, "{\n  \"status\": %q\n}\n", status), 0o644),
		os.WriteFile(filepath.Join(dir, "trials.jsonl"), nil, 0o644))
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *nightlyScript) point(name, to string) {
	n.t.Helper()
	if err := os.Symlink(to, filepath.Join(n.dir, name)); err != nil {
		n.t.Fatal(err)
	}
}

var nightName = regexp.MustCompile(`runs/2\d{7}-\d{6}`)

// TestNightlyNights: the first good night becomes the reference, which later ones are held against and which never moves by itself.
func TestNightlyNights(t *testing.T) {
	n := newNightly(t)
	if n.run(1, []string{"FAKE_RUN=1"}); n.link("reference") != "" {
		t.Error("a night that could not be measured is the reference")
	}
	hosts := "NIGHTLY_HOSTS=ssh://a,ssh://b"
	calls, _ := n.run(0, []string{hosts, "NIGHTLY_FLAGS=--blocks 12 --wire mtu-frames"})
	if want := "run --suite nightly --hosts ssh://a,ssh://b --blocks 12 --wire mtu-frames -o DIR/runs/"; !strings.HasPrefix(calls[0], want) {
		t.Errorf("called %q, want %s", calls[0], want)
	}
	n.make("20250101-000000", "complete")
	if err := os.Remove(filepath.Join(n.dir, "reference")); err != nil {
		t.Fatal(err)
	}
	n.point("reference", "runs/20250101-000000")
	n.gate()
	if err := os.WriteFile(filepath.Join(n.dir, "acknowledged.yaml"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	output := filepath.Join(n.fake, "output")
	calls, _ = n.run(0, []string{"NIGHTLY_GATE=3%", "GITHUB_OUTPUT=" + output})
	for i := range calls {
		calls[i] = nightName.ReplaceAllString(calls[i], "runs/NIGHT")
	}
	want := []string{
		"run --suite nightly --baseline-run DIR/runs/NIGHT --gate 3% -o DIR/runs/NIGHT",
		"report DIR/runs/NIGHT -f github -o DIR/runs/NIGHT/summary.md",
		"report DIR/runs/NIGHT -f html -o DIR/runs/NIGHT/report.html",
		"gate DIR/runs/NIGHT -f github -o DIR/runs/NIGHT/gate.md",
		"gate DIR/runs/NIGHT -f junit -o DIR/runs/NIGHT/gate.xml",
		"history DIR/runs --gate --acknowledged DIR/acknowledged.yaml -f html -o DIR/history.html",
	}
	if !slices.Equal(calls, want) {
		t.Errorf("called\n%s\nwant\n%s", strings.Join(calls, "\n"), strings.Join(want, "\n"))
	}
	if n.link("reference") != "runs/20250101-000000" || n.link("latest") == "" || n.link("current") != "" {
		t.Errorf("reference %q, latest %q, current %q", n.link("reference"), n.link("latest"), n.link("current"))
	}
	told, err := os.ReadFile(output)
	if want := fmt.Sprintf("night=%s\ngate=passed\nhistory=0\n", filepath.Join(n.dir, n.link("latest"))); err != nil || string(told) != want {
		t.Errorf("a workflow is told %q, %v, want %q", told, err, want)
	}
	n.run(1, []string{"FAKE_NO_PAGE=1"}) // that a page is missing
	n.run(0, []string{"FAKE_GATE=1"})    // is no matter of the exit code that gate has for the run's sake
	n.run(0, nil, "accept", "20250101-000000")
	n.run(1, nil, "accept", "20250102-000000")
	n.run(1, nil, "acept")
}

// TestNightlyExitCodes: a regression is 2 whoever found it, and nothing hides what could not be measured.
func TestNightlyExitCodes(t *testing.T) {
	for _, c := range []struct {
		run, history, report, want int
	}{
		{0, 0, 0, 0}, {2, 0, 0, 2}, {1, 0, 0, 1}, {0, 2, 0, 2}, {1, 2, 0, 2}, {2, 1, 0, 2}, {0, 1, 0, 1}, {0, 0, 1, 1}, {2, 0, 1, 2}, {137, 0, 0, 1},
	} {
		n := newNightly(t)
		n.run(c.want, []string{fmt.Sprint("FAKE_RUN=", c.run), fmt.Sprint("FAKE_HISTORY=", c.history), fmt.Sprint("FAKE_REPORT=", c.report)})
	}
}

// TestNightlyBrokenOff: what was broken off is gone on with, before anything new; what can't be gone on with stands in nobody's way.
func TestNightlyBrokenOff(t *testing.T) {
	n := newNightly(t)
	n.run(1, []string{"FAKE_STATUS=interrupted", "FAKE_RUN=1", "FAKE_KILLED=1"})
	night := n.link("current")
	if night == "" || n.link("latest") != "" {
		t.Fatalf("current %q, latest %q: want what was broken off to wait", night, n.link("latest"))
	}
	calls, _ := n.run(2, []string{"FAKE_RUN=2", "NIGHTLY_HOSTS=ssh://a,ssh://b"}, "resume")
	if calls[0] != "run --resume DIR/"+night+" --hosts ssh://a,ssh://b" || n.link("current") != "" || n.link("latest") != night {
		t.Errorf("called %q, current %q, latest %q", calls, n.link("current"), n.link("latest"))
	}
	if calls, _ := n.run(0, nil, "resume"); calls[0] != "" {
		t.Errorf("nothing was broken off, and called was %q", calls)
	}

	n.make("20250101-000000", "running")
	n.point("current", "runs/20250101-000000")
	refused := []string{"FAKE_STATUS=running", "FAKE_RUN=3"}
	calls, said := n.run(1, refused, "resume")
	if len(calls) != 1 || n.link("current") != "" || !strings.Contains(said, "can't be gone on with, and stays as it is") {
		t.Errorf("called %q, current %q, said %s", calls, n.link("current"), said)
	}
	n.point("current", "runs/20250101-000000")
	if calls, _ := n.run(1, refused); len(calls) < 2 || !strings.HasPrefix(calls[1], "run --suite nightly ") {
		t.Errorf("no new night after one that can't be gone on with: %q", calls)
	}
	n.point("current", "runs/20250109-000000") // killed before it began
	if calls, _ := n.run(0, nil); !strings.HasPrefix(calls[0], "run --suite nightly ") {
		t.Errorf("no new night after one that never was: %q", calls)
	}
}

// TestNightlyNotYet: hosts that are not up yet are no reason to give a night up. The start by a boot waits for them.
func TestNightlyNotYet(t *testing.T) {
	n := newNightly(t)
	n.make("20250101-000000", "running")
	n.point("current", "runs/20250101-000000")
	down := []string{"FAKE_UP=99", "NIGHTLY_PAUSE=0"}
	calls, said := n.run(1, down)
	if len(calls) != 1 || n.link("current") == "" || !strings.Contains(said, "could not be gone on with yet") {
		t.Errorf("called %q, current %q, said %s", calls, n.link("current"), said)
	}
	if calls, _ = n.run(1, down, "resume"); len(calls) != 5 || n.link("current") == "" {
		t.Errorf("called %q, current %q: want it tried five times, and kept", calls, n.link("current"))
	}
	flags := "NIGHTLY_FLAGS=--blocks 12 --underlay 10.0.0.1,10.0.0.2 --tls-dir=/tls -p nginx.rate=50% --cache-dir /cache --profile"
	calls, _ = n.run(0, []string{"FAKE_UP=3", "NIGHTLY_PAUSE=0", flags}, "resume")
	want := "run --resume DIR/runs/20250101-000000 --underlay 10.0.0.1,10.0.0.2 --tls-dir=/tls --cache-dir /cache --profile"
	if len(calls) < 4 || calls[2] != want || n.link("current") != "" {
		t.Errorf("called %q, current %q, want a third call %s", calls, n.link("current"), want)
	}
}

// TestNightlyToldLater: a night that is complete and was killed before it was told of has its exit code by its record.
func TestNightlyToldLater(t *testing.T) {
	for _, c := range []struct {
		gated bool
		env   []string
		want  int
	}{
		{false, nil, 0}, {false, []string{"FAKE_FAILURES=1"}, 1}, {false, []string{"FAKE_REPORT=1"}, 1},
		{true, nil, 0}, {true, []string{"FAKE_GATE=1"}, 1}, {true, []string{"FAKE_GATE=2"}, 2},
	} {
		n := newNightly(t)
		if c.gated {
			n.gate()
		}
		n.run(0, nil)
		n.point("current", n.link("latest"))
		calls, _ := n.run(c.want, c.env)
		if slices.ContainsFunc(calls, func(call string) bool { return strings.HasPrefix(call, "run ") }) || n.link("current") != "" {
			t.Errorf("%+v: called %q, current %q", c, calls, n.link("current"))
		}
		// What could not be judged at its end for want of room is no night that passed.
		if !c.gated {
			continue
		}
		if err := os.Remove(filepath.Join(n.dir, n.link("latest"), "gate.json")); err != nil {
			t.Fatal(err)
		}
		n.point("current", n.link("latest"))
		n.run(1, []string{"FAKE_GATE=1"})
	}
}

// TestNightlyReference: a reference that leads nowhere is not the same as none.
func TestNightlyReference(t *testing.T) {
	n := newNightly(t)
	n.run(0, nil)
	if err := os.RemoveAll(filepath.Join(n.dir, n.link("reference"))); err != nil {
		t.Fatal(err)
	}
	was := n.link("reference")
	calls, said := n.run(1, nil)
	if calls[0] != "" || n.link("reference") != was || !strings.Contains(said, "the reference leads nowhere") {
		t.Errorf("called %q, reference %q, said %s", calls, n.link("reference"), said)
	}
	n.make("20250101-000000", "complete") // nor does a night become it that was begun before
	n.point("current", "runs/20250101-000000")
	if n.run(0, nil); n.link("reference") != was {
		t.Errorf("reference %q, was %q", n.link("reference"), was)
	}
}

// TestNightlySignals: one signal to the script alone, or to all that a terminal has in the foreground, reaches the program once, and the
// script waits until that has taken everything down.
func TestNightlySignals(t *testing.T) {
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, syscall.SIGHUP, syscall.SIGINT) // else the script would ignore what nohup or a shell's & has this process ignore
	defer signal.Stop(heard)
	for name, send := range map[string]func(pid int) error{
		"script": func(pid int) error { return syscall.Kill(pid, syscall.SIGTERM) },
		"group":  func(pid int) error { return syscall.Kill(-pid, syscall.SIGHUP) },
	} {
		n := newNightly(t)
		cmd := exec.Command(filepath.Join(nightlyFolder, "econbench-nightly"))
		cmd.Env = append(os.Environ(), "PATH="+n.fake+":"+os.Getenv("PATH"), "NIGHTLY_DIR="+n.dir, "FAKE="+n.fake, "FAKE_SLOW=1", "FAKE_STATUS=interrupted", "FAKE_RUN=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		limit := time.Now().Add(30 * time.Second)
		for empty := true; empty; time.Sleep(10 * time.Millisecond) {
			_, err := os.Stat(filepath.Join(n.fake, "up"))
			if empty = err != nil; time.Now().After(limit) {
				_ = cmd.Process.Kill() // it is over
				t.Fatalf("%s: nothing was started", name)
			}
		}
		if err := send(cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
		release := time.AfterFunc(20*time.Second, func() { _ = os.WriteFile(filepath.Join(n.fake, "signals"), []byte("none came"), 0o644) })
		err := cmd.Wait()
		release.Stop()
		signals, _ := os.ReadFile(filepath.Join(n.fake, "signals"))      // none: ""
		ignored, _ := os.ReadFile(filepath.Join(n.fake, "ignored"))      // none: ""
		if !strings.HasSuffix(strings.TrimSpace(string(ignored)), "0") { // the last digit is HUP, INT, QUIT
			t.Errorf("%s: signals that are ignored: %s", name, ignored)
		}
		night := n.link("current")
		record, _ := os.ReadFile(filepath.Join(n.dir, night, "run.json")) // none: ""
		if code := cmd.ProcessState.ExitCode(); code != 1 || string(signals) != "TERM\n" || !strings.Contains(string(record), "interrupted") || night == "" {
			t.Errorf("%s: exit code %d (%v), signals %q, current %q, record %s", name, code, err, signals, night, record)
		}
	}
}

// TestNightlyLockAndSweep: two nights don't measure each other, and the oldest ones go, but for the reference.
func TestNightlyLockAndSweep(t *testing.T) {
	n := newNightly(t)
	for i := range 6 {
		n.make(fmt.Sprintf("2025010%d-000000", i), "complete")
	}
	n.point("reference", "runs/20250101-000000")
	n.run(0, []string{"NIGHTLY_KEEP=3"})
	entries, err := os.ReadDir(filepath.Join(n.dir, "runs"))
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name()[:8])
	}
	if want := []string{"20250101", "20250104", "20250105"}; len(left) != 4 || !slices.Equal(left[:3], want) {
		t.Errorf("left are %q, want %q and tonight's", left, want)
	}
	holder := exec.Command("flock", filepath.Join(n.dir, "lock"), "sh", "-c", "echo held; read x")
	stdin, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fscan(stdout, new(string)); err != nil {
		t.Fatal(err)
	}
	for code, args := range map[int][]string{1: nil, 0: {"resume"}} { // who measures has begun with what was broken off
		if calls, said := n.run(code, nil, args...); calls[0] != "" || !strings.Contains(said, "another night is being measured") {
			t.Errorf("called %q, said %s", calls, said)
		}
	}
	if err := errors.Join(stdin.Close(), holder.Wait()); err != nil && !strings.Contains(err.Error(), "exit status") {
		t.Error(err)
	}
}

// TestNightlySweepFails: a night that can't be removed hides nothing, and is told of once.
func TestNightlySweepFails(t *testing.T) {
	n := newNightly(t)
	for i := range 3 {
		n.make(fmt.Sprintf("2025010%d-000000", i), "complete")
	}
	if err := os.WriteFile(filepath.Join(n.fake, "rm"), []byte("#!/bin/sh\ncase $1 in -rf) exit 1 ;; esac\nexec /bin/rm \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for run, want := range map[int]int{2: 2, 0: 1} {
		n.run(want, []string{"NIGHTLY_KEEP=1", fmt.Sprint("FAKE_RUN=", run)})
		if n.link("current") != "" {
			t.Errorf("current %q", n.link("current"))
		}
	}
}

// TestNightlyUnits: systemd takes the units as they are, but for where programs are.
func TestNightlyUnits(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skipf("units are not looked at: %v", err)
	}
	dir := t.TempDir()
	units, err := filepath.Glob(filepath.Join(nightlyFolder, "*.[st]*"))
	if err != nil || len(units) != 4 {
		t.Fatalf("units: %q %v, want 4", units, err)
	}
	var copies []string
	for _, unit := range units {
		body, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.NewReplacer("/usr/local/bin/econbench-nightly", "/bin/true", "man:econbench-run(1)", "file:/none").Replace(string(body))
		copies = append(copies, filepath.Join(dir, filepath.Base(unit)))
		if err := os.WriteFile(copies[len(copies)-1], []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for file, lines := range map[string][]string{
		"econbench-nightly.service":        {"\nAfter=network-online.target econbench-nightly-resume.service\n", "\nKillMode=mixed\n"},
		"econbench-nightly-resume.service": {"\nKillMode=mixed\n"},
	} {
		for _, line := range lines {
			if body, err := os.ReadFile(filepath.Join(dir, file)); err != nil || !strings.Contains(string(body), line) {
				t.Errorf("%s: %v, want %q", file, err, line)
			}
		}
	}
	out, err := exec.Command("systemd-analyze", append([]string{"verify", "--man=no", "--recursive-errors=no"}, copies...)...).CombinedOutput()
	if err != nil || strings.Contains(string(out), dir) { // what it has to say of the machine's own units is none of ours
		t.Errorf("%v\n%s", err, out)
	}
}

// commandLine is a command of an example that calls the program, in scripts also as eb, up to what a shell takes for its end. In documents
// examples are indented by four blanks.
var (
	exampleLine = regexp.MustCompile(`(?m)^(?:    |\t+)(.*)$`)
	commandLine = regexp.MustCompile(`(?:^|&&|\|\||[|;($])\s*(?:[#$] )?(?:if |then |elif )?(?:! )?(?:[A-Z_]+=\S+ )*(?:econbench|eb) ([^#\n|>&;)…]*)`)
)

// commandsOf finds all of them.
func commandsOf(text string) (list []string) {
	plain := strings.NewReplacer(`"${against[@]}"`, "", `"${flags[@]}"`, "", `"${again[@]}"`, "", `"${known[@]}"`, "", `${hosts:+--hosts`, "--hosts", `"$hosts"}`, "a,b",
		"${NIGHTLY_SUITE:-nightly}", "nightly", `"`, "", "$gate", "5%", "$1", "github")
	for _, line := range exampleLine.FindAllStringSubmatch(text, -1) {
		for _, m := range commandLine.FindAllStringSubmatch(strings.TrimSpace(plain.Replace(line[1])), -1) {
			list = append(list, m[1])
		}
	}
	return list
}

// TestNightlyCommands: every command line of docs/nightly.md and of the script is one that the program knows, flags and formats and all. Most
// of them need two machines, or nights; what they do together the other tests here show with a program that only plays, and TestRunGate
// on a lab.
func TestNightlyCommands(t *testing.T) {
	seen := map[string]int{}
	for _, file := range []string{"../../docs/nightly.md", filepath.Join(nightlyFolder, "econbench-nightly")} {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range commandsOf(string(body)) {
			words := strings.Fields(text)
			if err := parses(rootCommand(), words); err != nil {
				t.Errorf("%s: econbench %s: %v", file, strings.Join(words, " "), err)
			}
			seen[words[0]]++
		}
	}
	for command, least := range map[string]int{"run": 6, "compare": 2, "gate": 4, "report": 4, "history": 2, "doctor": 1, "calibrate": 1} {
		if seen[command] < least {
			t.Errorf("%d examples of %s were found, want %d or more", seen[command], command, least)
		}
	}
}

// TestNightlyCommandsAreFound: what stands behind a prompt, a && or an assignment is one, and what is wrong about it is seen.
func TestNightlyCommandsAreFound(t *testing.T) {
	got := commandsOf("    # econbench run --blocks 6 …\n    A=b econbench doctor && econbench gate DIR -f o\ntext: econbench list\n\tif ! eb report \"$dir\" -f csv | grep x\n\tx=$(eb history a) || true\n")
	for i := range got {
		got[i] = strings.TrimSpace(got[i])
	}
	if want := []string{"run --blocks 6", "doctor", "gate DIR -f o", "report $dir -f csv", "history a"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	for _, bad := range []string{"gate DIR -f o", "compare A B --gate 5% -f csv", "compare A B -f openmetrics", "history A -f junit", "report A -f cs", "run --nosuch"} {
		if parses(rootCommand(), strings.Fields(bad)) == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// parses looks a command line up without carrying it out.
func parses(root *cobra.Command, words []string) error {
	cmd, rest, err := root.Find(words)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if f := cmd.Flags().Lookup("format"); f != nil && f.Changed {
		allowed := map[string][]string{"compare": reports.ComparisonFormats(), "gate": reports.GateFormats(), "history": reports.HistoryFormats(), "calibrate": {"text", "json"}}
		for _, r := range reports.All() {
			allowed["report"] = append(allowed["report"], r.Name())
		}
		list := allowed[cmd.Name()]
		if cmd.Flags().Changed("gate") && cmd.Name() == "compare" {
			list = reports.GateFormats()
		}
		if !slices.Contains(list, f.Value.String()) {
			return fmt.Errorf("format %s is none of: %q", f.Value, list)
		}
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}
