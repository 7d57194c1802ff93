// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/system"

	"github.com/econbench/econbench"
)

// Fingerprint is what the engine told of itself when it was dialled, as far as it may move a figure.
func (e *Engine) Fingerprint() econbench.Fingerprint { return fingerprint(e.info) }

func fingerprint(i system.Info) econbench.Fingerprint {
	security := slices.Clone(i.SecurityOptions)
	slices.Sort(security)
	f := econbench.Fingerprint{
		"docker.version":        i.ServerVersion,
		"docker.storage":        i.Driver,
		"docker.cgroup_driver":  i.CgroupDriver,
		"docker.cgroup_version": i.CgroupVersion,
		"docker.security":       strings.Join(security, " "),
		"docker.runtime":        i.DefaultRuntime,
		"docker.runc":           i.RuncCommit.ID,
		"docker.experimental":   strconv.FormatBool(i.ExperimentalBuild),
		"docker.containers":     strconv.Itoa(i.ContainersRunning),
		"machine.os":            i.OperatingSystem,
	}
	if i.FirewallBackend != nil { // since Docker 28.2
		f["docker.firewall"] = i.FirewallBackend.Driver
	}
	for name, value := range f {
		if value == "" {
			delete(f, name)
		}
	}
	return f
}
