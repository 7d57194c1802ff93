// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/rundir"
)

// patience is how long anything that a test waits for may take. Nothing here asserts speed.
const patience = 90 * time.Second

// program is the shipped program at work.
type program struct {
	t      *testing.T
	cmd    *exec.Cmd
	dir    string // where it runs
	stdout bytes.Buffer

	mu     sync.Mutex
	stderr bytes.Buffer
	ended  chan struct{}
	err    error
}

// start runs the program on the lab at root.
func start(t *testing.T, root string, args ...string) *program {
	t.Helper()
	cmd := shipped(args...)
	cmd.Env = append(cmd.Env, "ECONBENCH_LAB="+root) // the last one counts
	return startCommand(t, cmd)
}

func startCommand(t *testing.T, cmd *exec.Cmd) *program {
	t.Helper()
	p := &program{t: t, cmd: cmd, ended: make(chan struct{})}
	if cmd.Dir == "" {
		cmd.Dir = t.TempDir()
	}
	p.dir = cmd.Dir
	cmd.Stdout = &p.stdout
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.follow(stderr)
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // ended already, if all went well
		<-p.ended
	})
	return p
}

func (p *program) follow(stderr io.Reader) {
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		p.mu.Lock()
		p.stderr.WriteString(lines.Text() + "\n")
		p.mu.Unlock()
	}
	p.err = p.cmd.Wait()
	close(p.ended)
}

func (p *program) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

// until waits for the program to say something on its standard error.
func (p *program) until(text string) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); !strings.Contains(p.said(), text); time.Sleep(time.Millisecond) {
		select {
		case <-p.ended:
			if strings.Contains(p.said(), text) {
				return
			}
			p.t.Fatalf("it ended before it said %q:\n%s", text, p.said())
		default:
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("it did not say %q:\n%s", text, p.said())
		}
	}
}

func (p *program) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// interrupt does as Ctrl-C does; where that is ignored, as by what a shell started in the background, the next best.
func (p *program) interrupt() {
	p.t.Helper()
	s := syscall.SIGINT
	if signal.Ignored(s) {
		s = syscall.SIGTERM
	}
	p.signal(s)
}

// wait returns the exit code; -1 for death by a signal.
func (p *program) wait() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(2 * patience):
		p.t.Fatalf("it did not end:\n%s", p.said())
	}
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		p.t.Fatal(p.err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// want waits for the end and checks the exit code.
func (p *program) want(code int) *program {
	p.t.Helper()
	if got := p.wait(); got != code {
		p.t.Errorf("%v: exit code %d, want %d\n%s%s", p.cmd.Args[1:], got, code, p.stdout.String(), p.said())
	}
	return p
}

// errors are the lines that begin as errors do.
func (p *program) errors() (lines []string) {
	for line := range strings.Lines(p.said()) {
		if text, ok := strings.CutPrefix(line, "econbench: "); ok {
			lines = append(lines, strings.TrimSpace(text))
		}
	}
	return lines
}

// wantError checks that there is one error, on one line, with all of the texts in it.
func (p *program) wantError(texts ...string) {
	p.t.Helper()
	got := p.errors()
	if len(got) != 1 {
		p.t.Errorf("%d lines of errors, want 1:\n%s", len(got), p.said())
	}
	for _, text := range texts {
		if !strings.Contains(strings.Join(got, "\n"), text) {
			p.t.Errorf("error %q: want %q in it", got, text)
		}
	}
}

// run is the run directory, the only one in the folder where the program ran.
func (p *program) run() *econbench.Run {
	p.t.Helper()
	found, err := filepath.Glob(filepath.Join(p.dir, "econbench-runs", "*"))
	if err != nil || len(found) != 1 {
		p.t.Fatalf("run directories: %q %v, want one\n%s", found, err, p.said())
	}
	run, err := rundir.Load(found[0])
	if err != nil {
		p.t.Fatal(err)
	}
	if len(run.Warnings) > 0 {
		p.t.Errorf("run directory: %q", run.Warnings)
	}
	return run
}

// unlucky says whether a run failed for nothing but datagrams that the machine lost, as one does that is held up for a while: netperf waits for the answer
// in vain. That says nothing of the program but that it noticed.
func (p *program) unlucky() bool {
	p.t.Helper()
	if p.wait() != 1 {
		return false
	}
	lost := 0
	for _, tr := range p.run().Trials {
		for _, why := range tr.Invalid {
			if !strings.Contains(why, "a datagram was lost") {
				return false
			}
			lost++
		}
	}
	if lost > 0 {
		p.t.Logf("%v: %d datagrams lost:\n%s", p.cmd.Args[1:], lost, p.said())
	}
	return lost > 0
}

// allValid checks that the run has that many trials and that each counts, and returns those that do: what others lack would end a test.
func allValid(t *testing.T, run *econbench.Run, trials int) (valid []econbench.Trial) {
	t.Helper()
	if len(run.Trials) != trials || run.Status != econbench.StatusComplete {
		t.Errorf("%d trials, status %s (%s), want %d and complete", len(run.Trials), run.Status, run.Error, trials)
	}
	for _, tr := range run.Trials {
		if !tr.Valid {
			t.Errorf("trial %d.%d %s: %q", tr.Block, tr.Position, tr.Cell, tr.Invalid)
			continue
		}
		valid = append(valid, tr)
		if tr.Proof == nil || len(tr.Proof.Through) == 0 || tr.Proof.PayloadToServer == 0 {
			t.Errorf("trial %d.%d %s: proof %+v", tr.Block, tr.Position, tr.Cell, tr.Proof)
		}
	}
	return valid
}

// tiny makes a run as short as a run can be.
func tiny(args ...string) []string {
	return append([]string{"run", "--blocks", "1", "--duration", "600ms", "--warmup", "100ms"}, args...)
}
