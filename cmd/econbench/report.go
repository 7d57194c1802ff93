// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/econbench/econbench/internal/rundir"
	"github.com/econbench/econbench/reports"
)

// plotDirectory leaves the plots of a run directory in a folder.
func plotDirectory(dir, folder string) error {
	r, err := rundir.Load(dir)
	if err != nil {
		return err
	}
	return leavePlots(r, folder)
}

func reportCommand() *cobra.Command {
	var format, out, plots string
	cmd := &cobra.Command{
		Use:   "report DIR",
		Short: "render a run directory, on any machine, without Docker or root",
		Long: `report renders a run directory. Where its machine was calibrated before it was measured, it quotes what the run recorded of
that: the smallest effect that the machine sees. Else it quotes what this machine's store of calibrations knows of the run's
machine, if that is anything: see calibrate.

The page (-f html) is one file that needs no other: it also shows what a gate came to, the traces in DIR/traces and the profiles
in DIR/profiles, if there are any. --plots leaves its plots as SVG and PNG, for papers, whatever the format.

Formats:
` + formatHelp(),
		Example: `  econbench report econbench-runs/20261122-040347-3fa2
  econbench report night-1 -f json -o night-1.json
  econbench report night-1 -f html -o night-1.html
  econbench report night-1 --plots figures
  econbench report night-1 -f benchfmt -o night-1.txt && benchstat -col /arm night-1.txt
  econbench report night-1 -f openmetrics -o /var/lib/node_exporter/textfile/econbench.prom
  econbench report night-1 -f github >> "$GITHUB_STEP_SUMMARY"`,
		Args: oneArg("run directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			warn := func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), "econbench: warning:", text) }
			if _, err := reports.Named(strings.TrimSpace(format)); err != nil {
				return err
			}
			if plots != "" {
				if err := plotDirectory(args[0], plots); err != nil {
					return err
				}
			}
			return renderTo(cmd.OutOrStdout(), out, "report", func(w io.Writer) error { return printReport(w, args[0], format, warn) })
		},
	}
	var formats string
	for i, r := range reports.All() {
		if i > 0 {
			formats += ", "
		}
		formats += r.Name()
	}
	cmd.Flags().StringVarP(&format, "format", "f", reports.All()[0].Name(), "`format`: "+formats)
	cmd.Flags().StringVar(&plots, "plots", "", "`folder` for the plots, as SVG and PNG; it is made")
	cmd.Flags().StringVarP(&out, "output", "o", "", "`file` to write (default: standard output)")
	return cmd
}

// formatHelp is a line a format.
func formatHelp() string {
	var b strings.Builder
	for _, r := range reports.All() {
		fmt.Fprintf(&b, "  %-15s %s\n", r.Name(), r.Help())
	}
	return strings.TrimSuffix(b.String(), "\n")
}
