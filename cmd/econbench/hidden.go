// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/cmd/internal/agent"
	"github.com/econbench/econbench/collectors"
	"github.com/econbench/econbench/fastpath"
	"github.com/econbench/econbench/internal/agentproto"
	"github.com/econbench/econbench/internal/lab"
)

// The commands that econbench starts itself with.

func agentCommand() *cobra.Command {
	return &cobra.Command{
		Use: "agent", Hidden: true, Args: noArgs,
		Short: "serve a controller from inside a host (started by econbench)",
		RunE: func(cmd *cobra.Command, _ []string) error {
			// A signal (docker stop, a host's shutdown) ends the conversation; the agent then undoes what it did.
			return agent.Run(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), agent.Options{
				Version: versionString(), JournalDir: lab.JournalDir, Readers: collectors.Readers(), Drivers: fastpath.Drivers,
				Objects: objects(),
			})
		},
	}
}

// stayCommand is the agent that keeps a fast path attached after the command that started it has ended.
func stayCommand() *cobra.Command {
	return &cobra.Command{
		Use: lab.StayCommand, Hidden: true, Args: noArgs,
		Short: "keep a fast path attached inside a host (started by econbench)",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return agent.Stay(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), agent.StatusSocket, agent.Options{
				Version: versionString(), JournalDir: lab.JournalDir, Drivers: fastpath.Drivers,
			})
		},
	}
}

// askCommand runs beside it, in the same container.
func askCommand() *cobra.Command {
	var request agentproto.StayRequest
	cmd := &cobra.Command{
		Use: lab.AskCommand, Hidden: true, Args: upToOneArg("order"),
		Short: "ask the agent that keeps a fast path attached, or tell it (started by econbench)",
		RunE: func(cmd *cobra.Command, args []string) error {
			request.Order = econbench.Order(strings.Join(args, ""))
			return agent.Ask(cmd.Context(), agent.StatusSocket, request, cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&request.Items, lab.AskItems, false, "each flow that is known, too")
	return cmd
}

func labInitCommand() *cobra.Command {
	return &cobra.Command{
		Use: lab.InitCommand, Hidden: true, DisableFlagParsing: true,
		Short: "be the first process of an emulated host (started by econbench)",
		RunE: func(cmd *cobra.Command, args []string) error {
			err := lab.InitMain(cmd.Context(), args)
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		},
	}
}
