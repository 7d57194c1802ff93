// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"

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
			return f.clean(cmd)
		},
	}
	f.register(cmd)
	return cmd
}

// clean removes dead emulated labs, and what dead runs left on the engines given, or on those of the lab that is up.
func (f labFlags) clean(cmd *cobra.Command) error {
	ctx, p := cmd.Context(), newProgress(cmd.ErrOrStderr(), false)
	removed, err := lab.Clean(ctx, labOptions())
	for _, what := range removed {
		p.Stepf("removed %s", what)
	}
	if errors.Is(err, lab.ErrLive) {
		err = nil
	}
	if len(f.hosts) == 0 {
		up, none := lab.Current(ctx, labOptions())
		switch {
		case errors.Is(none, lab.ErrNone):
			return err
		case none != nil: // a run's own lab, or one that is broken
			return errors.Join(err, none)
		}
		hosts := up.Hosts()
		f.hosts = hosts[:]
	}
	return errors.Join(err, f.sweep(ctx, p))
}

// sweep leases both engines as a run does: their agents undo what stands in journals, and all of dead runs is removed.
func (f labFlags) sweep(ctx context.Context, p *progress) error {
	s, err := openSession(ctx, sessionOptions{
		labFlags: f, run: newRunID(), placement: econbench.Split, sweepOnly: true, progress: p.Stepf,
	})
	if err != nil {
		return err
	}
	return s.Close(context.WithoutCancel(ctx))
}
