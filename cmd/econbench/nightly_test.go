// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

const nightlyFolder = "../../docs/examples/nightly"

// fakeEconbench stands for the program in tests of the script around it: it notes its arguments, makes what the script looks at, and
// ends with the code that the test wants of each command.
const fakeEconbench = `#!/usr/bin/env bash
echo "$*" >>"$FAKE/calls"
dir=
case $1 in
run)
	while (($#)); do
		case $1 in -o | --resume) dir=$2 ;; esac
		shift
	done
	mkdir -p "$dir"
	printf '{\n  "status": "%s"\n}\n' "${FAKE_STATUS:-complete}" >"$dir/run.json"
	: >>"$dir/trials.jsonl"
	if [[ -e $FAKE/gated ]]; then echo '{}' >"$dir/gate.json"; fi
	if [[ -n ${FAKE_KILLED:-} ]]; then kill -TERM $PPID; fi
	exit "${FAKE_RUN:-0}"
	;;
compare) exit "${FAKE_COMPARE:-0}" ;;
history) exit "${FAKE_HISTORY:-0}" ;;
report) exit "${FAKE_REPORT:-0}" ;;
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
	if err := os.WriteFile(filepath.Join(n.fake, "gated"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.dir, "acknowledged.yaml"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	calls, _ = n.run(0, []string{"NIGHTLY_GATE=3%"})
	for i := range calls {
		calls[i] = nightName.ReplaceAllString(calls[i], "runs/NIGHT")
	}
	want := []string{
		"run --suite nightly --baseline-run DIR/runs/NIGHT --gate 3% -o DIR/runs/NIGHT",
		"report DIR/runs/NIGHT -f github -o DIR/runs/NIGHT/summary.md",
		"report DIR/runs/NIGHT -f html -o DIR/runs/NIGHT/report.html",
		"compare DIR/reference DIR/runs/NIGHT --gate 3% -f github -o DIR/runs/NIGHT/gate.md",
		"compare DIR/reference DIR/runs/NIGHT --gate 3% -f junit -o DIR/runs/NIGHT/gate.xml",
		"history DIR/runs --gate --acknowledged DIR/acknowledged.yaml -f html -o DIR/history.html",
	}
	if !slices.Equal(calls, want) {
		t.Errorf("called\n%s\nwant\n%s", strings.Join(calls, "\n"), strings.Join(want, "\n"))
	}
	if n.link("reference") != "runs/20250101-000000" || n.link("latest") == "" || n.link("current") != "" {
		t.Errorf("reference %q, latest %q, current %q", n.link("reference"), n.link("latest"), n.link("current"))
	}
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
	refused := []string{"FAKE_STATUS=running", "FAKE_RUN=1"}
	calls, said := n.run(1, refused, "resume")
	if len(calls) != 1 || n.link("current") != "" || !strings.Contains(said, "could not be gone on with, and stays as it is") {
		t.Errorf("called %q, current %q, said %s", calls, n.link("current"), said)
	}
	n.point("current", "runs/20250101-000000")
	if calls, _ := n.run(1, refused); len(calls) < 2 || !strings.HasPrefix(calls[1], "run --suite nightly ") {
		t.Errorf("no new night after one that can't be gone on with: %q", calls)
	}

	// Complete, and killed before it was told of: its record has the exit code.
	n.make("20250102-000000", "complete")
	for _, file := range []string{"gate.json", "trials.jsonl"} {
		if err := os.WriteFile(filepath.Join(n.dir, "runs/20250102-000000", file), []byte(`{"valid":false}`), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for code, want := range map[int]int{0: 1, 2: 2} { // trials that don't count are 1
		n.point("current", "runs/20250102-000000")
		if calls, _ := n.run(want, []string{fmt.Sprint("FAKE_COMPARE=", code)}); slices.ContainsFunc(calls, func(c string) bool { return strings.HasPrefix(c, "run ") }) {
			t.Errorf("called %q", calls)
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
	if calls, said := n.run(1, nil); calls[0] != "" || !strings.Contains(said, "another night is being measured") {
		t.Errorf("called %q, said %s", calls, said)
	}
	if err := errors.Join(stdin.Close(), holder.Wait()); err != nil && !strings.Contains(err.Error(), "exit status") {
		t.Error(err)
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
	out, err := exec.Command("systemd-analyze", append([]string{"verify", "--man=no", "--recursive-errors=no"}, copies...)...).CombinedOutput()
	if err != nil || strings.Contains(string(out), dir) { // what it has to say of the machine's own units is none of ours
		t.Errorf("%v\n%s", err, out)
	}
}

// commandLine is a line of an example that calls the program; in scripts also as eb.
var commandLine = regexp.MustCompile(`(?m)^(?:    |\t)+(?:#? ?[A-Z_]+=\S+ )*(?:econbench|eb) ([^#\n|>&]*)`)

// TestNightlyCommands: every command line of docs/nightly.md and of the script is one that the program knows, flags and all. Most of them
// need two machines, or nights; what they do together the other tests here show with a program that only plays, and TestRunGate on a lab.
func TestNightlyCommands(t *testing.T) {
	seen := map[string]bool{}
	for _, file := range []string{"../../docs/nightly.md", filepath.Join(nightlyFolder, "econbench-nightly")} {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range commandLine.FindAllStringSubmatch(string(body), -1) {
			words := strings.Fields(strings.NewReplacer(`"${against[@]}"`, "", `"${flags[@]}"`, "", `"${known[@]}"`, "", `${hosts:+--hosts`, "--hosts", `"$hosts"}`, "a,b",
				"${NIGHTLY_SUITE:-nightly}", "nightly", `"`, "", "$gate", "5%", "|| code=$?", "", "|| true", "", "2", "2").Replace(m[1]))
			if err := parses(rootCommand(), words); err != nil {
				t.Errorf("%s: econbench %s: %v", file, strings.Join(words, " "), err)
			}
			seen[words[0]] = true
		}
	}
	for _, command := range []string{"run", "compare", "report", "history", "doctor", "calibrate"} {
		if !seen[command] {
			t.Errorf("no example of %s was found", command)
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
	if f := cmd.Flags().Lookup("format"); f != nil && f.Changed && !strings.Contains(f.Usage, f.Value.String()) {
		return fmt.Errorf("format %s is none of: %s", f.Value, f.Usage)
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}
