// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"regexp"
	"strings"
)

// programs are what the emulated lab starts, and what brings them.
var programs = []struct{ name, cost, fix string }{
	{"dockerd", "no engines", "apt-get install docker.io"},
	{"containerd", "engines can't start", "apt-get install containerd"},
	{"runc", "engines can't start containers", "apt-get install runc"},
	{"iptables", "engines can't start", "apt-get install iptables"},
}

func checkPrograms(ctx context.Context, m *machine) (all []Result) {
	for _, p := range programs {
		path, found := m.find(p.name)
		if !found {
			all = append(all, required(missing(p.name, "not in "+strings.Join(m.path, ":"), p.cost, p.fix))...)
			continue
		}
		if v := m.version(ctx, path); v != "" {
			path += " " + v
		}
		all = append(all, required(ok(p.name, path))...)
	}
	return all
}

var versionNumber = regexp.MustCompile(`\d+\.\d+[^\s,]*`)

// version is the first that a program's first line names; "" when it does not say.
func (m *machine) version(ctx context.Context, path string) string {
	out, err := m.run(ctx, path, "--version")
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(out, "\n")
	return versionNumber.FindString(line)
}
