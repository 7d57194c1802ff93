// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/econbench/econbench/internal/names"
	"github.com/econbench/econbench/internal/rundir"
	"github.com/econbench/econbench/reports"
)

// compareFlags are what the user says to `compare`.
type compareFlags struct {
	format, out          string
	threshold, minEffect share
	gate                 share
	confirm              string // directory of a run whose blocks confirm what the gate suspects
	absolute, force      bool
	arms, workloads      []string
}

func compareCommand() *cobra.Command {
	f := compareFlags{threshold: 0.05, minEffect: reports.DefaultMinEffect}
	cmd := &cobra.Command{
		Use:   "compare [LABEL=]OLD [LABEL=]NEW …",
		Short: "compare runs: what changed from one to the next",
		Long: `compare holds run directories against the first of them, as benchstat does. It needs neither Docker nor root.

Levels drift between days and boots, and within minutes. So an arm's verdict rests on its ratio to the baseline of the same
block: the ratios of the one run against those of the other, by the Mann-Whitney U test, corrected over the workloads. The
baseline itself, and arms without one, have nothing but their absolute values: their change is shown and not judged, unless
--absolute asks for it or both are arms of one run. Both changes are shown.

Runs that differ in what decides figures (kernel, CPUs, placement, wire …) are refused, and every difference is named.

With --gate the exit code says what became of the primary metrics: 2 one has lost that share, and extra blocks confirmed it (those of
NEW, if it was measured by run --gate, or another run's, by --confirm); 1 something could not be judged: a suspect that nothing confirms, an
interval as wide as the gate, trials that are not valid, runs that can't be compared; 0 otherwise, improvements included.`,
		Example: `  econbench compare night-1 night-2
  econbench compare monday=night-1 tuesday=night-2 wednesday=night-3
  econbench compare night-1 night-1 --arm overlay=overlay+oncache   # two arms of one run
  econbench compare reference night-3 --gate 5%
  econbench compare reference night-3 --gate 5% --confirm night-3b   # whose blocks confirm what is suspect`,
		Args: someArgs("run directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			gated, err := f.gated(cmd)
			switch {
			case err != nil:
				return err
			case gated:
				return f.runGate(cmd.OutOrStdout(), args)
			}
			return f.run(cmd.OutOrStdout(), args)
		},
	}
	formats := reports.ComparisonFormats()
	cmd.Flags().StringVarP(&f.format, "format", "f", formats[0], "`format`: "+strings.Join(formats, ", ")+"; with --gate: "+strings.Join(reports.GateFormats(), ", "))
	cmd.Flags().StringVarP(&f.out, "output", "o", "", "`file` to write (default: standard output)")
	cmd.Flags().Var(&f.threshold, "threshold", "half an interval's `width` above which \"no change\" is inconclusive")
	cmd.Flags().Var(&f.minEffect, "min-effect", "least `change` that gets a verdict: boots and builds differ by themselves")
	cmd.Flags().Var(&f.gate, "gate", "`share` that no primary metric may lose from OLD to NEW: exit code 2")
	cmd.Flags().StringVar(&f.confirm, "confirm", "", "run `directory` whose blocks confirm what the gate suspects (default: NEW's extra blocks)")
	cmd.Flags().BoolVar(&f.absolute, "absolute", false, "absolute values carry all verdicts, drift and all, not ratios to the baseline")
	cmd.Flags().BoolVar(&f.force, "force", false, "compare runs that differ in what decides figures, and mark the result")
	cmd.Flags().StringSliceVar(&f.arms, "arm", nil, "compare this `arm` alone, or OLDARM=NEWARM: two different ones")
	cmd.Flags().StringSliceVar(&f.workloads, "workload", nil, "compare this `workload` alone")
	return cmd
}

func (f compareFlags) run(w io.Writer, args []string) error {
	if !slices.Contains(reports.ComparisonFormats(), f.format) {
		return names.Unknown("comparison format", f.format, reports.ComparisonFormats())
	}
	o, err := f.options()
	if err != nil {
		return err
	}
	runs, err := loadLabelled(args)
	if err != nil {
		return err
	}
	c, err := reports.Compare(runs, o)
	if err != nil {
		return err
	}
	return renderTo(w, f.out, "compare", func(w io.Writer) error { return c.Render(w, f.format) })
}

func (f compareFlags) options() (reports.CompareOptions, error) {
	o := reports.CompareOptions{Absolute: f.absolute, Force: f.force, Workloads: f.workloads}
	o.Threshold, o.MinEffect = float64(f.threshold), float64(f.minEffect)
	if o.Threshold <= 0 {
		return o, fmt.Errorf("flag --threshold: %q: want more than 0", f.threshold.String())
	}
	if o.MinEffect == 0 {
		o.MinEffect = -1 // any
	}
	for _, s := range f.arms {
		old, new, two := strings.Cut(s, "=")
		if !two {
			new = old
		}
		p, err := parsePair(old, new)
		if err != nil {
			return o, fmt.Errorf("flag --arm: %q: %w", s, err)
		}
		o.Arms = append(o.Arms, p)
	}
	return o, nil
}

// loadLabelled reads the runs. All that can't be read are named, not the first alone.
func loadLabelled(args []string) ([]reports.Labelled, error) {
	if len(args) < 2 {
		return nil, fmt.Errorf("compare wants two run directories or more, got one: %q", args[0])
	}
	runs, err := label(args)
	if err != nil {
		return nil, err
	}
	list := make([]reports.Labelled, len(runs))
	var problems []error
	for i, r := range runs {
		run, err := rundir.Load(r.path)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		list[i] = reports.Labelled{Label: r.label, Run: run}
	}
	return list, errors.Join(problems...)
}

// labelledPath is a column of the comparison.
type labelledPath struct{ label, path string }

// label reads LABEL=PATH, or a PATH alone: two of those are old and new; more are called by their folders' names, as far as
// these tell them apart. A folder that has "=" in its name is one.
func label(args []string) (list []labelledPath, err error) {
	for i, a := range args {
		l := labelledPath{path: a}
		name, path, labelled := strings.Cut(a, "=")
		if _, err := os.Stat(a); labelled && err != nil {
			if name == "" || path == "" {
				return nil, fmt.Errorf("run directory %q: want PATH or LABEL=PATH", a)
			}
			l = labelledPath{name, path}
		}
		if l.label == "" {
			l.label = defaultLabel(args, i)
		}
		for _, other := range list {
			if other.label == l.label {
				return nil, fmt.Errorf("label %q: given to %s and %s; want a label for each, as in LABEL=PATH", l.label, other.path, l.path)
			}
		}
		list = append(list, l)
	}
	return list, nil
}

func defaultLabel(args []string, i int) string {
	if len(args) == 2 {
		return []string{"old", "new"}[i]
	}
	base := filepath.Base(filepath.Clean(args[i]))
	for j, a := range args {
		if j != i && filepath.Base(filepath.Clean(a)) == base {
			return args[i]
		}
	}
	return base
}

// share is a flag's value between 0 and 1, written as "5%" or "0.05".
type share float64

// String is the share in percent.
func (s *share) String() string { return strconv.FormatFloat(100*float64(*s), 'g', 6, 64) + "%" }

// Type is what flagError knows the flag by.
func (s *share) Type() string { return "share" }

// Set reads the user's.
func (s *share) Set(text string) error {
	number, percent := strings.CutSuffix(strings.TrimSpace(text), "%")
	v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if percent {
		v /= 100
	}
	if err != nil || !(v >= 0 && v < 1) {
		return fmt.Errorf("want a share below 1")
	}
	*s = share(v)
	return nil
}
