// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/econbench/econbench/internal/doctor"
)

func doctorCommand() *cobra.Command {
	var f labFlags
	var format outputFlag
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "say what this machine can do, what is missing, what that costs and how to get it",
		Long: `doctor looks at rights, kernel, CPUs, programs, room and the tool image of this machine; with --hosts, at those two
engines instead of what only an emulated lab needs. It changes nothing: kernel features are tried in a network namespace
that is thrown away.
Exit code: 0 when econbench run can work, 1 when something that it needs is missing.`,
		Example: "  econbench doctor\n  econbench doctor --hosts ssh://a,ssh://b\n  econbench doctor -o json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := format.check(); err != nil {
				return err
			}
			if err := f.checkHosts(); err != nil {
				return err
			}
			all := doctor.Examine(cmd.Context(), doctor.Options{Hosts: f.hosts, TLSDir: f.tlsDir, CacheDir: f.cacheDir})
			text := func(w io.Writer) error { return doctor.Print(w, all) }
			if err := format.write(cmd.OutOrStdout(), all, text); err != nil {
				return err
			}
			return doctor.Ready(all)
		},
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&f.hosts, "hosts", nil, "two engines to look at: `A,B`, each unix:///path, tcp://name:port or ssh://[user@]name")
	fl.StringVar(&f.tlsDir, "tls-dir", "", "`folder` with ca.pem, cert.pem and key.pem for tcp:// (default: $DOCKER_CERT_PATH, ~/.docker)")
	fl.StringVar(&f.cacheDir, "cache-dir", "", "`folder` for packages and images")
	format.register(cmd)
	return cmd
}
