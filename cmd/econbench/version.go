// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/agentproto"
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "print the versions of the program, its records and its agents' messages",
		Example: "  econbench version",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "econbench %s\n%s %s/%s\nrun directory schema %d\nagent messages %d\n", versionString(),
				runtime.Version(), runtime.GOOS, runtime.GOARCH, econbench.Schema, agentproto.Version)
			return err
		},
	}
}
