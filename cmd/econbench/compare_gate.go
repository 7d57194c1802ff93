// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/econbench/econbench/internal/names"
	"github.com/econbench/econbench/internal/rundir"
	"github.com/econbench/econbench/reports"
)

// gated says whether the comparison is to be judged by a gate, and whether the other flags go with that. A gate has verdicts of its own:
// its share is the width and the effect that counts, and what can't be compared is not compared by force.
func (f compareFlags) gated(cmd *cobra.Command) (bool, error) {
	given := cmd.Flags().Changed
	if !given("gate") {
		if given("confirm") {
			return false, fmt.Errorf("flag --confirm: wants --gate beside it")
		}
		return false, nil
	}
	for _, flag := range []string{"threshold", "min-effect", "absolute", "force"} {
		if given(flag) {
			return false, fmt.Errorf("flag --%s: does not go with --gate, which judges ratios to the baseline by its own share", flag)
		}
	}
	if f.gate <= 0 {
		return false, fmt.Errorf("flag --gate: %q: want more than 0", f.gate.String())
	}
	if !slices.Contains(reports.GateFormats(), f.format) {
		return false, names.Unknown("format of a gate", f.format, reports.GateFormats())
	}
	return true, nil
}

// runGate holds the second run against the first.
func (f compareFlags) runGate(w io.Writer, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("compare --gate wants two run directories, the old one and the new one, got %d", len(args))
	}
	f.threshold = f.gate // of no use here, but options wants one
	o, err := f.options()
	if err != nil {
		return err
	}
	runs, err := loadLabelled(args)
	if err != nil {
		return err
	}
	gate := reports.GateOptions{Share: float64(f.gate), Arms: o.Arms, Workloads: o.Workloads}
	if f.confirm != "" {
		by, err := rundir.Load(f.confirm)
		if err != nil {
			return fmt.Errorf("confirm: %w", err)
		}
		gate.Confirm = reports.Labelled{Label: f.confirm, Run: by}
	}
	g, err := reports.NewGate(runs[0], runs[1], gate)
	if err != nil {
		return err
	}
	err = renderTo(w, f.out, "compare", func(w io.Writer) error {
		if words := f.format == "text" || f.format == "markdown"; words && g.Comparison != nil {
			if err := errors.Join(g.Comparison.Render(w, f.format), newline(w)); err != nil {
				return err
			}
		}
		return g.Render(w, f.format)
	})
	return gateError(g, err)
}
