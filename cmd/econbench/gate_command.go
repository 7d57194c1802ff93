// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/econbench/econbench/internal/names"
	"github.com/econbench/econbench/internal/rundir"
	"github.com/econbench/econbench/reports"
)

func gateCommand() *cobra.Command {
	var format, out string
	cmd := &cobra.Command{
		Use:   "gate DIR",
		Short: "show what a run's gate came to, as the run recorded it",
		Long: `gate renders the gate.json that run --gate left in a run directory: its verdict against the older run, by the share and the arms of then,
whatever became of that run since. compare --gate judges anew instead, and needs both runs. Neither needs Docker or root.

The exit code is the gate's: 2 a regression, 1 something could not be judged, 0 otherwise. What that is stands in the output.`,
		Example: `  econbench gate night-2
  econbench gate night-2 -f github >> "$GITHUB_STEP_SUMMARY"
  econbench gate night-2 -f junit -o gate.xml`,
		Args: oneArg("run directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(reports.GateFormats(), format) {
				return names.Unknown("format of a gate", format, reports.GateFormats())
			}
			g, err := recordedGate(args[0])
			if err != nil {
				return err
			}
			if err := renderTo(cmd.OutOrStdout(), out, "gate", func(w io.Writer) error { return g.Render(w, format) }); err != nil {
				return err
			}
			if code := gateCode(g); code != 0 {
				return exitError{code: code} // it has been told
			}
			return nil
		},
	}
	formats := reports.GateFormats()
	cmd.Flags().StringVarP(&format, "format", "f", formats[0], "`format`: "+strings.Join(formats, ", "))
	cmd.Flags().StringVarP(&out, "output", "o", "", "`file` to write (default: standard output)")
	return cmd
}

// recordedGate reads a run's gate.json. A run without one either had no gate, or was not judged yet.
func recordedGate(dir string) (*reports.Gate, error) {
	run, err := rundir.Load(dir)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, rundir.GateFile)
	body, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && (run.Against == nil || run.Against.Gate == 0):
		return nil, fmt.Errorf("gate %s: run %s was measured without a gate; compare --gate holds it against another one", dir, run.ID)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("gate %s: run %s was not judged yet: it is %s; see econbench run --resume", dir, run.ID, run.Status)
	case err != nil:
		return nil, err
	}
	g, err := reports.ReadGate(body)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if g.New.Run != run.ID {
		return nil, fmt.Errorf("read %s: it is about run %s, and this is run %s", path, g.New.Run, run.ID)
	}
	return g, nil
}

// gateCode is the exit code that a gate asks for where nothing else went wrong.
func gateCode(g *reports.Gate) int {
	switch {
	case g.Failed():
		return exitGate
	case !g.Measured():
		return 1
	}
	return 0
}
