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
and swarm memberships on those engines, and what their agents had changed in their hosts. It keeps the tool image, which
saves the next run its making, never touches what a live run uses, and can be repeated.`,
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
		err = nil // said below, unless it is a kept lab, which is swept
	}
	if len(f.hosts) == 0 {
		up, none := lab.Current(ctx, labOptions())
		if none == nil {
			hosts := up.Hosts()
			f.hosts = hosts[:]
		} else if !errors.Is(none, lab.ErrNone) { // a run's own lab, or one that is broken
			err = errors.Join(err, none)
		}
	}
	swept := 0
	if len(f.hosts) > 0 {
		var sweepErr error
		swept, sweepErr = f.sweep(ctx, p)
		err = errors.Join(err, sweepErr)
	}
	if err == nil && len(removed)+swept == 0 {
		p.Step("nothing to remove")
	}
	return err
}

// sweep leases both engines as a run does: their agents undo what stands in journals, and all of dead runs is removed.
// It says how much that was.
func (f labFlags) sweep(ctx context.Context, p *progress) (swept int, err error) {
	s, err := openSession(ctx, sessionOptions{
		labFlags: f, run: newRunID(), placement: econbench.Split, sweepOnly: true, progress: p.Stepf,
	})
	if err != nil {
		return 0, err
	}
	return s.lab.Swept(), s.Close(context.WithoutCancel(ctx))
}
