// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/reports"
)

// completeFlags lets shells complete the values of flags that take one of a few, in all commands. The scripts are cobra's:
// `econbench completion SHELL`.
func completeFlags(root *cobra.Command) {
	known, err := makeListing("") // which fails for a suite's sake alone
	if err != nil {
		return
	}
	values := map[string][]string{
		"suite": known.Suites, "workload": listedNames(known.Workloads), "arm": known.Arms, "baseline": known.Arms,
		"placement": {string(econbench.Split), string(econbench.Shared)}, "wire": {string(econbench.WireDefault), string(econbench.WireMTUFrames)},
		"cpu": {string(econbench.CPUStat), string(econbench.CPUExact)}, "hook": {econbench.HookTCX, econbench.HookFilter},
	}
	formats := map[string][]string{"report": listedNames(known.Formats), "compare": reports.ComparisonFormats(), "history": reports.HistoryFormats(),
		"gate": reports.GateFormats(), "calibrate": {"text", "json"}}
	for _, format := range reports.GateFormats() {
		if !slices.Contains(formats["compare"], format) {
			formats["compare"] = append(formats["compare"], format)
		}
	}
	for _, c := range root.Commands() {
		completeBy(c, values)
		if list := formats[c.Name()]; list != nil {
			completeBy(c, map[string][]string{"format": list})
		} else {
			completeOutput(c)
		}
	}
}

// completeOutput completes the -o of commands that tell what they found: for others it is a file.
func completeOutput(cmd *cobra.Command) {
	if f := cmd.Flags().Lookup("output"); f != nil && f.Usage == outputUsage {
		_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	}
	for _, below := range cmd.Commands() {
		completeOutput(below)
	}
}

// completeBy completes a command's flags of those names, and those of the commands below it.
func completeBy(cmd *cobra.Command, values map[string][]string) {
	for name, list := range values {
		directive := cobra.ShellCompDirectiveNoFileComp
		if name == "suite" {
			directive = cobra.ShellCompDirectiveDefault // or a file
		}
		if cmd.Flags().Lookup(name) != nil {
			_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(list, directive)) // fails for what is registered already
		}
	}
	for _, below := range cmd.Commands() {
		completeBy(below, values)
	}
}

func listedNames(list []listed) (names []string) {
	for _, l := range list {
		names = append(names, l.Name)
	}
	return names
}
