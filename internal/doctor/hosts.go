// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"runtime"
	"strings"
)

func checkSSH(_ context.Context, m *machine) []Result {
	for _, h := range m.options.Hosts {
		if !strings.HasPrefix(h, "ssh://") {
			continue
		}
		if path, found := m.find("ssh"); found {
			return required(ok("ssh", path))
		}
		return required(missing("ssh", "not in "+strings.Join(m.path, ":"), "hosts ssh://… can't be reached", "apt-get install openssh-client"))
	}
	return nil
}

// checkHosts asks each given engine who it is, and holds the answers against each other.
func checkHosts(ctx context.Context, m *machine) (all []Result) {
	seen := map[string]string{} // engine id → host
	for _, host := range m.options.Hosts {
		f, err := m.engine(ctx, host)
		switch other, again := seen[f.id]; {
		case err != nil:
			all = append(all, required(missing(host, err.Error(), "this host can't be measured on", "start its engine, and see that you may use it"))...)
		case again:
			all = append(all, required(missing(host, "the same engine as "+other, "a lab is two engines", "name another"))...)
		case f.arch != runtime.GOARCH:
			all = append(all, required(missing(host, "a machine of architecture "+f.arch, "agents are this program, built for "+runtime.GOARCH,
				"run an econbench built for "+f.arch))...)
		default:
			all = append(all, required(m.judgeSwarm(host, f))...)
			seen[f.id] = host
		}
	}
	return all
}

func (m *machine) judgeSwarm(host string, f engineFacts) []Result {
	found := fmt.Sprintf("%s, Docker %s, ", f.name, f.version)
	switch {
	case !f.swarm.Member && !f.swarm.Out():
		return missing(host, found+"its membership of a swarm is "+f.swarm.State, "overlay networks can't be made", "docker swarm unlock or leave on that host")
	case f.swarm.Manager:
		return ok(host, found+"manager of a swarm, which is used")
	case f.swarm.Member:
		return ok(host, found+"worker of a swarm: the other host must manage it")
	}
	return ok(host, found+"in no swarm: one is made for a run and left after it")
}
