// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"github.com/econbench/econbench/internal/load"
)

// loadCommand is the client of workloads whose load generator is econbench's own; it runs in the client endpoint's container.
func loadCommand() *cobra.Command {
	return &cobra.Command{
		Use: load.Command, Hidden: true, DisableFlagParsing: true,
		Short: "put load on a memcached or HTTP server and time its answers (started by econbench)",
		RunE: func(cmd *cobra.Command, args []string) error {
			return load.Main(cmd.Context(), args, cmd.OutOrStdout())
		},
	}
}
