// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/econbench/econbench"
)

func suiteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "suite",
		Short: "list the suites; show or check one",
		Long: `suite lists the suites that are built in. A suite is a plan as YAML; a file of your own is one as well: begin with the
text that ` + "`econbench suite show`" + ` prints.`,
		Example: `  econbench suite
  econbench suite show quick > mine.yaml
  econbench suite check mine.yaml && econbench run --suite mine.yaml`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return listSuites(cmd.OutOrStdout()) },
	}
	cmd.AddCommand(suiteShowCommand(), suiteCheckCommand())
	return cmd
}

func listSuites(w io.Writer) error {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, name := range suiteNames() {
		s, err := loadSuite(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(tab, "%s\t%s\t%s\n", name, s.about(), extent(s.plan))
	}
	return tab.Flush()
}

// about is the suite's first line without its name, if it is a comment as in quick.yaml.
func (s *suite) about() string {
	line, _, _ := strings.Cut(string(s.text), "\n")
	text, isComment := strings.CutPrefix(line, "#")
	if !isComment {
		return ""
	}
	return strings.TrimPrefix(strings.TrimSpace(text), s.place+": ")
}

// extent says how much a plan is to measure.
func extent(p econbench.Plan) string {
	return fmt.Sprintf("%d blocks of %d cells = %d trials, about %v on a lab that is up", p.Blocks, len(p.Cells()),
		p.Blocks*len(p.Cells()), parts().Estimate(p).Round(time.Second))
}

func suiteShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "show NAME|FILE",
		Short:   "print a suite's YAML as it is, comments and all",
		Example: "  econbench suite show quick\n  econbench suite show quick > mine.yaml",
		Args:    oneArg("suite"),
		RunE: func(cmd *cobra.Command, args []string) error {
			body, err := suiteText(args[0])
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(body)
			return err
		},
	}
}

func suiteCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE...",
		Short: "say how much a suite measures, or all that is wrong with it",
		Long: `check says of each suite how many cells and trials it has and about how long they take, or, with file, line and column,
what is wrong with it. Names of built-in suites do as well. Exit code 1 if anything is wrong.`,
		Example: "  econbench suite check mine.yaml\n  econbench suite check suites/*.yaml",
		Args:    someArgs("suite"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var wrong []error
			for _, name := range args {
				s, err := loadSuite(name)
				if err == nil {
					err = errors.Join(s.errors()...)
				}
				if err != nil {
					wrong = append(wrong, err)
					continue
				}
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: ok: %s\n", name, extent(s.plan)); err != nil {
					return err
				}
			}
			return errors.Join(wrong...)
		},
	}
}
