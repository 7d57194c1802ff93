// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/names"
	"github.com/econbench/econbench/internal/rundir"
	"github.com/econbench/econbench/reports"
)

// historyFlags are what the user says to `history`.
type historyFlags struct {
	format, out, acknowledged        string
	gate, absolute                   bool
	alpha, minEffect                 share
	minSegment                       int
	maxAge                           time.Duration
	arms, workloads, metrics, across []string
}

func historyCommand() *cobra.Command {
	f := historyFlags{alpha: reports.DefaultHistoryAlpha, minEffect: reports.DefaultMinEffect, minSegment: reports.DefaultMinSegment}
	cmd := &cobra.Command{
		Use:   "history DIR…",
		Short: "what changed over many nights, and since when; a gate for nightly jobs",
		Long: `history lays run directories side by side, by time, and looks for nights from which on a level is another. A DIR is a run
directory, or one that has them somewhere in it. It needs neither Docker nor root.

Each arm's primary metric is one value a night: the median ratio to the baseline of the same block. Changes are looked for
among nights that differ in nothing that decides figures; where kernel, CPUs, placement, duration … change, that is said and
is never a regression. A level lasts --min-segment nights at least, so that a spike is none.

--gate makes the exit code tell: 2 if a level is worse than what was there before and nobody acknowledged that, 1 if the
newest night could not be measured, 0 otherwise. Both at once are 2. --acknowledged names a file of known changes:

  changes:
    - night: 2026-01-22          # or a run's id
      workload: tcp_*            # patterns; what is left out is any
      arm: overlay+econ
      tolerance: 2               # nights to either side; 2 unless said
      reason: GRO is off since 6.8
      link: https://…

What is not acknowledged is printed so that it can be pasted there.`,
		Example: `  econbench history nights/
  econbench history --gate --acknowledged known.yaml nights/ -f markdown
  econbench history nights/ -f html -o history.html
  econbench history --across 'kernel.*' nights/      # the kernel is what is tested`,
		Args: someArgs("run directory"),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd.OutOrStdout(), args) },
	}
	formats := reports.HistoryFormats()
	cmd.Flags().StringVarP(&f.format, "format", "f", formats[0], "`format`: "+strings.Join(formats, ", "))
	cmd.Flags().StringVarP(&f.out, "output", "o", "", "`file` to write (default: standard output)")
	cmd.Flags().BoolVar(&f.gate, "gate", false, "exit with 2 for a regression that nobody acknowledged, with 1 if the newest night could not be measured")
	cmd.Flags().StringVar(&f.acknowledged, "acknowledged", "", "`file` of known changes")
	cmd.Flags().Var(&f.minEffect, "min-effect", "least `change` that gets a verdict")
	cmd.Flags().Var(&f.alpha, "alpha", "`chance` that nights without changes show any")
	cmd.Flags().IntVar(&f.minSegment, "min-segment", f.minSegment, "`nights` that a level lasts at least")
	cmd.Flags().BoolVar(&f.absolute, "absolute", false, "absolute values carry all verdicts, drift and all, not ratios to the baseline")
	cmd.Flags().StringSliceVar(&f.arms, "arm", nil, "this `arm` alone")
	cmd.Flags().StringSliceVar(&f.workloads, "workload", nil, "this `workload` alone")
	cmd.Flags().StringSliceVar(&f.metrics, "metric", nil, "show this `metric` too; the gate looks at the primary ones alone")
	cmd.Flags().StringSliceVar(&f.across, "across", nil, "`fact` of the fingerprint or the plan that may differ within a series, or a pattern of such")
	cmd.Flags().DurationVar(&f.maxAge, "max-age", 0, "`time` within which the newest run must have begun, for the gate (default: whenever)")
	return cmd
}

func (f historyFlags) run(w io.Writer, args []string) error {
	if !slices.Contains(reports.HistoryFormats(), f.format) {
		return names.Unknown("history format", f.format, reports.HistoryFormats())
	}
	o, err := f.options()
	if err != nil {
		return err
	}
	dirs, unread, err := runDirectories(args)
	if err != nil {
		return err
	}
	nights, err := loadNights(dirs, o)
	if err != nil {
		return err
	}
	h, err := reports.NewHistory(nights, o)
	if err != nil {
		return err
	}
	for _, text := range unread {
		h.Warnings = append(h.Warnings, reports.Note{Text: text})
	}
	written := renderTo(w, f.out, "history", func(w io.Writer) error { return h.Render(w, f.format) })
	if !f.gate || h.Gate.Exit == 0 {
		return written
	}
	return exitError{h.Gate.Exit, errors.Join(errors.New(h.GateText()), written)} // a full disk hides no regression
}

func (f historyFlags) options() (o reports.HistoryOptions, err error) {
	o = reports.HistoryOptions{
		MinSegment: f.minSegment, Absolute: f.absolute, Workloads: f.workloads, Metrics: f.metrics, Across: f.across, MaxAge: f.maxAge, Now: time.Now(),
	}
	o.Alpha, o.MinEffect = float64(f.alpha), float64(f.minEffect)
	switch {
	case o.Alpha <= 0:
		return o, fmt.Errorf("flag --alpha: %q: want more than 0", f.alpha.String())
	case f.minSegment < 2:
		return o, fmt.Errorf("flag --min-segment: %q: want 2 nights or more", strconv.Itoa(f.minSegment))
	case f.maxAge < 0:
		return o, fmt.Errorf("flag --max-age: %q: want more than 0", f.maxAge)
	}
	if o.MinEffect == 0 {
		o.MinEffect = -1 // any
	}
	if o.Arms, err = parseArms(f.arms); err != nil {
		return o, fmt.Errorf("flag --arm: %w", err)
	}
	if f.acknowledged != "" {
		o.Acknowledged, err = loadAcknowledged(f.acknowledged)
	}
	return o, err
}

// runDirectories finds the run directories that the arguments are or have in them, each once, and names the folders within that could
// not be looked into.
func runDirectories(args []string) (dirs, unread []string, err error) {
	seen := make(map[string]bool)
	for _, a := range args {
		info, err := os.Stat(a)
		if err != nil {
			return nil, nil, fmt.Errorf("history: %w", err)
		}
		if !info.IsDir() {
			return nil, nil, fmt.Errorf("history: %s is a file; want a run directory, or one that has run directories in it", a)
		}
		f := runFinder{readDir: os.ReadDir}
		found, err := f.within(a)
		if err != nil {
			return nil, nil, fmt.Errorf("history: %w", err)
		}
		unread = append(unread, f.unread...)
		if len(found) == 0 {
			return nil, nil, fmt.Errorf("history: no run directory in %s; want a folder with %s in it, as `econbench run` writes it", a, rundir.RunFile)
		}
		for _, dir := range found {
			if !seen[dir] {
				seen[dir] = true
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs, unread, nil
}

// runFinder looks for run directories.
type runFinder struct {
	readDir func(string) ([]os.DirEntry, error)
	unread  []string // warnings: folders that could not be looked into, and are no runs by their names
}

// within looks into folders until they are run directories. Links are not followed: one called "latest" would count twice. A folder
// with trials and without a run.json is one that lost it. One that can't be looked into (lost+found) is named, and does not end the rest.
func (f *runFinder) within(dir string) (found []string, err error) {
	entries, err := f.readDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if name := e.Name(); !e.IsDir() && (name == rundir.RunFile || name == rundir.TrialsFile) {
			return []string{filepath.Clean(dir)}, nil
		}
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		within, err := f.within(filepath.Join(dir, e.Name()))
		isRun := startedAt(e.Name()) != (time.Time{})
		if err != nil && !isRun {
			f.unread = append(f.unread, fmt.Sprintf("could not be looked into: %v; runs in it are not in this history", err))
		}
		if len(within) == 0 && isRun { // a run that was killed before it wrote anything, or that can't be read
			within = []string{filepath.Join(dir, e.Name())}
		}
		found = append(found, within...)
	}
	return found, nil
}

// loadNights reads run directories, some at a time, and keeps of each what a history needs.
func loadNights(dirs []string, o reports.HistoryOptions) ([]reports.Night, error) {
	nights := make([]reports.Night, len(dirs))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, dir := range dirs {
		g.Go(func() error {
			var run *econbench.Run
			run, err := rundir.Load(dir)
			if err != nil {
				nights[i] = reports.UnreadNight(dir, startedAt(filepath.Base(dir)), err)
				return nil
			}
			nights[i], err = reports.NewNight(dir, run, o)
			return err
		})
	}
	return nights, g.Wait()
}

// runFolder is how `econbench run` names its folders.
var runFolder = regexp.MustCompile(`^([0-9]{8}-[0-9]{6})(-|$)`)

// startedAt reads a folder's name; the zero time if it says none.
func startedAt(name string) (t time.Time) {
	if m := runFolder.FindStringSubmatch(name); m != nil {
		t, _ = time.Parse("20060102-150405", m[1]) // zero: no time
	}
	return t
}
