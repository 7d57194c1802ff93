// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/econbench/econbench/internal/names"
)

// exitError is an error that has been told already, or that wants an exit code other than 1.
type exitError struct {
	code int
	error
}

// run is the program.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	cmd := rootCommand()
	cmd.SetArgs(args)
	cmd.SetIn(stdin)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	code := 1
	if e := (exitError{}); errors.As(err, &e) {
		code, err = e.code, e.error
	}
	if err != nil {
		for _, line := range strings.Split(err.Error(), "\n") {
			fmt.Fprintln(stderr, "econbench:", line)
		}
	}
	return code
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "econbench",
		Short: "compare the host's network with a container overlay, and with fast paths for it",
		Long: `econbench measures what a container overlay network costs against the host's own network, and what a fast path
wins back. It runs real programs over a real Docker swarm overlay between two engines, in interleaved blocks, and proves
by device counters which way the packets went.`,
		Example: `  econbench run                             # the quick suite on two engines started on this machine (root)
  econbench run --hosts ssh://a,ssh://b     # on two machines
  econbench run --workload tcp_rr --arm host,overlay --blocks 20
  econbench report econbench-runs/DIR -f json
  econbench compare night-1 night-2         # what changed from one run to the next
  econbench history --gate nights/          # what changed over many nights; fails for a regression
  econbench trace                           # what a request passes in each arm, stage by stage
  econbench profile                         # which functions take the CPU time, and what an arm changes about that
  econbench doctor                          # what this machine can and can't do
  econbench clean                           # remove what a killed run left`,
		SilenceUsage: true, SilenceErrors: true,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(runCommand(), reportCommand(), compareCommand(), gateCommand(), historyCommand(), calibrateCommand(), suiteCommand(), listCommand(), doctorCommand(), labCommand(), imageCommand(),
		cleanCommand(), versionCommand(), fastpathCommand(), traceCommand(), profileCommand(), agentCommand(), loadCommand(), stayCommand(), askCommand(), labInitCommand())
	root.AddCommand(manCommand())
	completeFlags(root)
	return root
}

// noArgs refuses arguments, with the subcommand that was probably meant.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var allowed []string
	for _, c := range cmd.Commands() {
		if !c.Hidden && c.Name() != "help" {
			allowed = append(allowed, c.Name())
		}
	}
	if len(allowed) > 0 {
		return names.Unknown("command", args[0], allowed)
	}
	return fmt.Errorf("%s takes no arguments, got %q: see %s --help", cmd.CommandPath(), args[0], cmd.CommandPath())
}

// oneArg wants exactly one argument.
func oneArg(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			return nil
		}
		return fmt.Errorf("%s wants one %s, got %d arguments: see %s --help", cmd.CommandPath(), what, len(args), cmd.CommandPath())
	}
}

// upToOneArg wants one argument or none.
func upToOneArg(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) <= 1 {
			return nil
		}
		return fmt.Errorf("%s wants one %s at most, got %d arguments: see %s --help", cmd.CommandPath(), what, len(args), cmd.CommandPath())
	}
}

// someArgs wants one argument or more.
func someArgs(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return nil
		}
		return fmt.Errorf("%s wants one %s or more, got none: see %s --help", cmd.CommandPath(), what, cmd.CommandPath())
	}
}
