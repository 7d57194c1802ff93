// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/econbench/econbench/internal/lab"
)

func checkLab(ctx context.Context, m *machine) []Result {
	const name = "emulated lab"
	s, err := m.labIs(ctx)
	if err != nil {
		return warn(name, err.Error(), "a run may not be able to start one", "econbench clean")
	}
	since := s.Created.Local().Format(time.DateTime)
	switch {
	case s.Live && s.Keep && s.Phase == lab.PhaseUp:
		return ok(name, "up since "+since+": runs use it")
	case s.Live:
		return warn(name, fmt.Sprintf("held by %s since %s", s.Holder, since), "another run refuses to start meanwhile", "wait for it to end")
	case s.Phase == lab.PhaseDead:
		return warn(name, "remains of a dead one: "+strings.Join(s.Remains, ", "), "disk space; the next run removes them", "econbench clean")
	}
	return ok(name, "none up: a run starts its own")
}

// systemSockets are where a system's own engine listens.
var systemSockets = []string{"run/docker.sock", "var/run/docker.sock"}

// checkSystemEngine is for information: the emulated lab has engines of its own.
func checkSystemEngine(ctx context.Context, m *machine) []Result {
	const name = "system engine"
	for _, path := range systemSockets {
		if !m.isSocket(path) {
			continue
		}
		f, err := m.engine(ctx, "unix:///"+path)
		if err != nil {
			return ok(name, "socket /"+path+" is there, nobody answers: not needed")
		}
		return ok(name, fmt.Sprintf("Docker %s at /%s: not needed, left alone", f.version, path))
	}
	return ok(name, "none runs: not needed")
}
