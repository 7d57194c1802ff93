// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"testing"

	"github.com/docker/docker/api/types/system"
	"github.com/google/go-cmp/cmp"

	"github.com/econbench/econbench"
)

// An engine tells what it has, and each of it has a class.
func TestFingerprint(t *testing.T) {
	info := system.Info{
		ServerVersion: "28.5.2", Driver: "overlay2", CgroupDriver: "systemd", CgroupVersion: "2", DefaultRuntime: "runc", ContainersRunning: 3,
		SecurityOptions: []string{"name=seccomp,profile=builtin", "name=apparmor"}, RuncCommit: system.Commit{ID: "v1.3.3"},
		OperatingSystem: "Debian GNU/Linux 13 (trixie)", FirewallBackend: &system.FirewallInfo{Driver: "nftables"},
	}
	want := econbench.Fingerprint{
		"docker.version": "28.5.2", "docker.storage": "overlay2", "docker.cgroup_driver": "systemd", "docker.cgroup_version": "2",
		"docker.runtime": "runc", "docker.runc": "v1.3.3", "docker.security": "name=apparmor name=seccomp,profile=builtin",
		"docker.experimental": "false", "docker.firewall": "nftables", "docker.containers": "3", "machine.os": "Debian GNU/Linux 13 (trixie)",
	}
	if diff := cmp.Diff(want, fingerprint(info)); diff != "" {
		t.Error(diff)
	}
	for name := range want {
		if !econbench.KnownFact(name) {
			t.Errorf("fact %s has no class", name)
		}
	}
	if info.SecurityOptions[0] != "name=seccomp,profile=builtin" {
		t.Error("the engine's own list was sorted")
	}
	if diff := cmp.Diff(econbench.Fingerprint{"docker.containers": "0", "docker.experimental": "false"}, fingerprint(system.Info{})); diff != "" {
		t.Error(diff)
	}
}
