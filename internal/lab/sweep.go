// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"

	"github.com/econbench/econbench/internal/docker"
)

// sweep removes what dead runs left on the two engines. Both are leased, so whatever carries another run's label is dead.
func (l *Lab) sweep(ctx context.Context, _ [2]string) error {
	removed, err := Sweep(ctx, l.opt.Run, l.hosts[0].engine, l.hosts[1].engine)
	for _, what := range removed {
		l.opt.Progress("removed what a dead run had left: %s", what)
	}
	l.swept += len(removed)
	return err
}

// Sweep removes everything on leased engines that carries the label of a run other than keep: containers, swarms and
// networks. It says what it removed.
func Sweep(ctx context.Context, keep string, engines ...*docker.Engine) (removed []string, err error) {
	var errs []error
	note := func(e *docker.Engine, what string, err error) {
		if err != nil {
			errs = append(errs, err)
			return
		}
		removed = append(removed, fmt.Sprintf("%s on %s", what, e.Host()))
	}
	for _, e := range engines {
		list, err := e.Labelled(ctx, docker.LabelRun)
		errs = append(errs, err)
		for _, c := range list {
			if c.Labels[docker.LabelRun] != keep {
				note(e, "container "+c.Name, e.Remove(ctx, c.ID))
			}
		}
	}
	dead := false
	for _, e := range engines {
		s, err := e.Swarm(ctx)
		errs = append(errs, err)
		if !s.Manager {
			continue
		}
		if run := s.Labels[docker.LabelRun]; run != "" && run != keep {
			dead = true
		}
		list, err := e.LabelledNetworks(ctx, docker.LabelRun)
		errs = append(errs, err)
		for _, n := range list {
			if n.Labels[docker.LabelRun] != keep {
				o := &overlay{manager: &Host{engine: e}, id: n.ID, name: n.Name}
				note(e, "network "+n.Name, o.Close(ctx))
			}
		}
	}
	if dead {
		for _, e := range engines {
			note(e, "membership of a dead run's swarm", e.SwarmLeave(ctx))
		}
	}
	return removed, errors.Join(errs...)
}
