// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/econbench/econbench/internal/docker"
	"github.com/econbench/econbench/internal/lab"
)

// labOptions are where this machine's emulated lab lives. $ECONBENCH_LAB moves it, so that tests and a kept lab don't meet.
func labOptions() lab.Options {
	return lab.Options{Root: os.Getenv("ECONBENCH_LAB"), Version: versionString()}
}

func labCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "keep an emulated lab up for many runs",
		Long: `lab keeps two Docker engines running on this machine, each in namespaces of its own, joined by a wire. econbench run
uses them while they are up.`,
		Example: "  econbench lab up\n  econbench run && econbench run --placement shared\n  econbench lab down",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(labUpCommand(), labDownCommand(), labStatusCommand())
	return cmd
}

func labUpCommand() *cobra.Command {
	var mtu, gid int
	var cacheDir string
	cmd := &cobra.Command{
		Use:     "up",
		Short:   "start the engines and load the tool image into them",
		Example: "  econbench lab up\n  econbench run && econbench run --placement shared\n  econbench lab down",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			ctx, start := cmd.Context(), time.Now()
			p := newProgress(cmd.ErrOrStderr(), false)
			img, err := toolImage(ctx, "", cacheDir, p.Stepf)
			if err != nil {
				return err
			}
			opt := labOptions()
			opt.Keep, opt.MTU, opt.SocketGID, opt.Progress = true, mtu, gid, p.Step
			up, err := lab.Up(ctx, opt)
			if err != nil {
				return err
			}
			defer func() {
				// Closing lets go of a kept lab; only Down ends one that is of no use.
				err = errors.Join(err, up.Close(context.WithoutCancel(ctx)))
				if err != nil {
					err = errors.Join(err, lab.Down(context.WithoutCancel(ctx), opt))
				}
			}()
			for _, host := range up.Hosts() {
				if err := loadImage(ctx, host, img, p); err != nil {
					return err
				}
			}
			hosts := up.Hosts()
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "up in %.1f s: %s,%s\n", time.Since(start).Seconds(), hosts[0], hosts[1])
			return err
		},
	}
	cmd.Flags().IntVar(&mtu, "mtu", lab.DefaultMTU, "`bytes` of a frame on the wire")
	cmd.Flags().IntVar(&gid, "socket-gid", 0, "`group` that may use the engines' sockets (that is: be root on this machine)")
	cmd.Flags().StringVar(&cacheDir, "cache-dir", "", "`folder` for packages and images")
	return cmd
}

func loadImage(ctx context.Context, host string, img lab.ToolImage, p *progress) error {
	e, err := docker.Dial(ctx, host, "")
	if err != nil {
		return err
	}
	return errors.Join(img.LoadInto(ctx, e, p.Stepf), e.Close())
}

func labDownCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "down",
		Short:   "stop the engines and remove all that was theirs",
		Long:    `down takes down the lab that ` + "`econbench lab up`" + ` made, with all that is in its engines. It refuses while a run uses it.`,
		Example: "  econbench lab down",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			start := time.Now()
			opt := labOptions()
			opt.InUse = leased
			if err := lab.Down(cmd.Context(), opt); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "down in %.1f s\n", time.Since(start).Seconds())
			return err
		},
	}
}

// leased refuses to take down a lab that a run is using.
func leased(ctx context.Context, s lab.State) error {
	for _, h := range s.Hosts {
		e, err := docker.Dial(ctx, h.Socket, "")
		if err != nil {
			continue // a broken engine holds nobody up
		}
		holder, found, err := e.Inspect(ctx, lab.AgentName, "")
		if err := errors.Join(err, e.Close()); err != nil {
			continue
		}
		if found && holder.Running {
			return fmt.Errorf("engine %s: %w by run %s of %s", h.Socket, lab.ErrLeased, holder.Labels[docker.LabelRun], holder.Labels[docker.LabelHolder])
		}
	}
	return nil
}

func labStatusCommand() *cobra.Command {
	var format outputFlag
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "say whether an emulated lab is up, and whose it is",
		Example: "  econbench lab status\n  econbench lab status -o json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := format.check(); err != nil {
				return err
			}
			s, err := lab.Status(cmd.Context(), labOptions())
			if err != nil {
				return err
			}
			return format.write(cmd.OutOrStdout(), s, func(w io.Writer) error { return printLab(w, s) })
		},
	}
	format.register(cmd)
	return cmd
}

func printLab(w io.Writer, s lab.State) error {
	fmt.Fprintf(w, "%s", s.Phase)
	if s.Phase != lab.PhaseNone {
		fmt.Fprintf(w, ", held by %s since %s", s.Holder, s.Created.Local().Format(time.DateTime))
	}
	fmt.Fprintln(w)
	for _, h := range s.Hosts {
		fmt.Fprintf(w, "  %s  %s  %s\n", h.Name, h.Address, h.Socket)
	}
	for _, r := range s.Remains {
		fmt.Fprintf(w, "  left behind: %s (econbench clean removes it)\n", r)
	}
	return nil
}
