// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/reports"
)

// listed is one thing that can be named on the command line.
type listed struct {
	Name    string           `json:"name"`
	Help    string           `json:"help"`
	Primary string           `json:"primary,omitempty"`
	Params  econbench.Params `json:"params,omitempty"` // with their defaults
}

// listing is all that can be named.
type listing struct {
	Arms       []string           `json:"arms"` // that need no setting
	Topologies []listed           `json:"topologies"`
	Fastpaths  []listed           `json:"fastpaths"`
	Workloads  []listed           `json:"workloads"`
	Collectors []listed           `json:"collectors"`
	Suites     []string           `json:"suites"`
	Formats    []listed           `json:"formats"`
	Metrics    []econbench.Metric `json:"metrics"`
}

func listCommand() *cobra.Command {
	var format outputFlag
	var file string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "list arms, topologies, fast paths, workloads, collectors, suites, formats and metrics",
		Example: "  econbench list\n  econbench list -o json\n  econbench list --suite mine.yaml    # with the workloads and metrics that it defines",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := format.check(); err != nil {
				return err
			}
			l, err := makeListing(file)
			if err != nil {
				return err
			}
			return format.write(cmd.OutOrStdout(), l, l.print)
		},
	}
	format.register(cmd)
	cmd.Flags().StringVar(&file, "suite", "", "list also what this suite or YAML `file` defines")
	return cmd
}

// defined is what a suite defines; nothing of none.
func defined(file string) (p econbench.Plan, err error) {
	if file == "" {
		return p, nil
	}
	s, err := loadSuite(file)
	if err != nil {
		return p, err
	}
	if wrong := checkPrograms(s.plan); len(wrong) > 0 {
		return p, s.placed(wrong[0])
	}
	return s.plan, nil
}

func makeListing(suite string) (l listing, err error) {
	plan, err := defined(suite)
	if err != nil {
		return l, err
	}
	p := partsOf(plan)
	l.Topologies, l.Fastpaths = listNamed(p.Topologies), listNamed(p.Fastpaths)
	l.Collectors, l.Formats = listNamed(p.Collectors), listNamed(reports.All())
	for _, t := range p.Topologies {
		for _, f := range p.Fastpaths {
			if arm := (econbench.Arm{Topology: t.Name(), Fastpath: f.Name()}); p.CheckArm(arm) == nil {
				l.Arms = append(l.Arms, arm.String())
			}
		}
	}
	for _, w := range p.Workloads {
		params, err := w.Params(nil)
		if err != nil {
			return l, err
		}
		l.Workloads = append(l.Workloads, listed{w.Name(), w.Help(), w.Primary(), params})
	}
	l.Suites, l.Metrics = suiteNames(), slices.Concat(econbench.Metrics(), plan.OwnMetrics())
	return l, nil
}

func listNamed[P interface {
	Name() string
	Help() string
}](parts []P) (list []listed) {
	for _, p := range parts {
		list = append(list, listed{Name: p.Name(), Help: p.Help()})
	}
	return list
}

func (l listing) print(w io.Writer) error {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	section := func(title string, list []listed) {
		fmt.Fprintf(tab, "%s\n", title)
		for _, x := range list {
			fmt.Fprintf(tab, "  %s\t%s", x.Name, x.Help)
			if len(x.Params) > 0 {
				fmt.Fprintf(tab, " (%s; %s)", x.Primary, x.Params)
			}
			fmt.Fprintln(tab)
		}
	}
	section("topologies", l.Topologies)
	section("fast paths", l.Fastpaths)
	section("workloads", l.Workloads)
	section("collectors", l.Collectors)
	fmt.Fprintf(tab, "suites\n")
	for _, s := range l.Suites {
		fmt.Fprintf(tab, "  %s\n", s)
	}
	section("formats", l.Formats)
	fmt.Fprintf(tab, "metrics\n")
	for _, m := range l.Metrics {
		direction := ""
		if m.Better != econbench.Neither {
			direction = fmt.Sprintf(", %s is better", m.Better)
		}
		fmt.Fprintf(tab, "  %s\t%s%s: %s\n", m.Name, m.Unit, direction, m.Help)
	}
	return tab.Flush()
}
