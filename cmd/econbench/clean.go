// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/lab"
)

func cleanCommand() *cobra.Command {
	var f labFlags
	cmd := &cobra.Command{
		Use:   "clean",
		Short: "remove whatever dead runs left on this machine, and on --hosts",
		Long: `clean removes what runs that were killed have left: emulated labs on this machine; with --hosts, containers, networks
and swarm memberships on those engines, and what their agents had changed in their hosts. It never touches what a live
run uses, and can be repeated.`,
		Example: "  econbench clean\n  econbench clean --hosts ssh://a,ssh://b",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.checkHosts(); err != nil {
				return err
			}
			removed, err := lab.Clean(cmd.Context(), lab.Options{})
			for _, what := range removed {
				fmt.Fprintln(cmd.OutOrStdout(), "removed", what)
			}
			if errors.Is(err, lab.ErrLive) {
				fmt.Fprintln(cmd.ErrOrStderr(), "left alone:", err)
				err = nil
			}
			if len(f.hosts) > 0 {
				err = errors.Join(err, cleanHosts(cmd, f))
			}
			if err == nil && len(removed) == 0 && len(f.hosts) == 0 {
				fmt.Fprintln(cmd.OutOrStdout(), "nothing to remove")
			}
			return err
		},
	}
	f.register(cmd)
	return cmd
}

// cleanHosts leases both engines as a run does: that undoes journals and removes everything of dead runs.
func cleanHosts(cmd *cobra.Command, f labFlags) error {
	p := newProgress(cmd.ErrOrStderr(), false)
	s, err := openSession(cmd.Context(), sessionOptions{
		labFlags: f, run: newRunID(), placement: econbench.Split, progress: p.Stepf,
	})
	if err != nil {
		return err
	}
	return s.Close(cmd.Context())
}
