// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/econbench/econbench/internal/doctor"
	"github.com/econbench/econbench/internal/names"
)

func doctorCommand() *cobra.Command {
	var f labFlags
	var format string
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
			if format != "text" && format != "json" {
				return names.Unknown("output format", format, []string{"text", "json"})
			}
			if err := f.checkHosts(); err != nil {
				return err
			}
			all := doctor.Examine(cmd.Context(), doctor.Options{Hosts: f.hosts, TLSDir: f.tlsDir, CacheDir: f.cacheDir})
			ready := doctor.Ready(all)
			if err := printDoctor(cmd, format, all); err != nil {
				return err
			}
			return ready
		},
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&f.hosts, "hosts", nil, "two engines to look at: `A,B`, each unix:///path, tcp://name:port or ssh://[user@]name")
	fl.StringVar(&f.tlsDir, "tls-dir", "", "`folder` with ca.pem, cert.pem and key.pem for tcp:// (default: $DOCKER_CERT_PATH, ~/.docker)")
	fl.StringVar(&f.cacheDir, "cache-dir", "", "`folder` for packages and images")
	fl.StringVarP(&format, "output", "o", "text", "`format`: text, json")
	return cmd
}

func printDoctor(cmd *cobra.Command, format string, all []doctor.Result) error {
	if format == "text" {
		return doctor.Print(cmd.OutOrStdout(), all)
	}
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	if err := enc.Encode(all); err != nil {
		return fmt.Errorf("doctor: %w", err)
	}
	return nil
}
