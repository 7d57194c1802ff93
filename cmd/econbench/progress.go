// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/econbench/econbench"
)

// progress tells what goes on: one line that is rewritten on a terminal, plain lines elsewhere.
type progress struct {
	w        io.Writer
	quiet    bool
	terminal bool
	before   int // trials that earlier parts of the run had measured

	mu     sync.Mutex
	start  time.Time // of the program
	trials time.Time // of the first trial
	open   bool      // a line waits to be rewritten
}

func newProgress(w io.Writer, quiet bool) *progress {
	f, isFile := w.(*os.File)
	return &progress{w: w, quiet: quiet, terminal: isFile && term.IsTerminal(int(f.Fd())), start: time.Now()}
}

// Stepf tells of a step.
func (p *progress) Stepf(format string, args ...any) { p.Step(fmt.Sprintf(format, args...)) }

// Step tells of a step.
func (p *progress) Step(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.quiet {
		return
	}
	p.end()
	fmt.Fprintf(p.w, "%6.1fs  %s\n", time.Since(p.start).Seconds(), text)
}

// Trial tells of a trial that ended. A valid one's line gives way to the next on a terminal.
func (p *progress) Trial(done, total int, t econbench.Trial) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.quiet {
		return
	}
	p.end()
	if p.trials.IsZero() { // topologies are built a few times, not for each trial
		p.trials = time.Now().Add(-t.Elapsed.Duration())
	}
	left := time.Duration(float64(time.Since(p.trials)) / float64(done-p.before) * float64(total-done)).Round(time.Second)
	line := fmt.Sprintf("%6.1fs  trial %d/%d  block %d  %-10s %-12s  about %v left", time.Since(p.start).Seconds(), done, total, t.Block,
		t.Arm, t.Workload, left)
	if !t.Valid {
		fmt.Fprintf(p.w, "%s\n         not valid: %s\n", line, t.Invalid[0])
		return
	}
	if p.terminal {
		fmt.Fprintf(p.w, "\r\x1b[K%s", line)
		p.open = true
		return
	}
	fmt.Fprintln(p.w, line)
}

// again begins another count of trials, of which some were measured before.
func (p *progress) again(before int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.before, p.trials = before, time.Time{}
}

// end clears the line that waits to be rewritten.
func (p *progress) end() {
	if p.open {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.open = false
	}
}

// close leaves the terminal with a fresh line.
func (p *progress) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end()
}
