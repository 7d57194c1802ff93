// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

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

// sweepOwn removes what this run made and did not remove, without a word: a manager lists a network for a moment after
// its removal. The agents are not among it: their leases end last.
func (l *Lab) sweepOwn(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, docker.StepTimeout, fmt.Errorf("not swept in %v", docker.StepTimeout))
	defer cancel()
	s := &sweeper{keep: "", spare: AgentName, engines: []*docker.Engine{l.hosts[0].engine, l.hosts[1].engine}}
	for _, e := range s.engines {
		s.containers(ctx, e)
	}
	s.networks(ctx, l.swarm.manager.engine)
	return errors.Join(s.errs...)
}

// Sweep removes everything on leased engines that carries the label of a run other than keep: containers, networks and
// memberships of swarms. It says what it removed.
func Sweep(ctx context.Context, keep string, engines ...*docker.Engine) (removed []string, err error) {
	s := &sweeper{keep: keep, engines: engines}
	for _, e := range engines {
		s.containers(ctx, e)
	}
	for _, e := range engines {
		state, err := e.Swarm(ctx)
		s.errs = append(s.errs, err)
		if state.Manager {
			s.networks(ctx, e)
			s.members(ctx, e, state)
		}
	}
	return s.removed, errors.Join(s.errs...)
}

// sweeper goes on after errors.
type sweeper struct {
	keep    string // run whose things stay
	spare   string // name of a container that stays whosever it is
	engines []*docker.Engine
	removed []string
	errs    []error
}

// dead says whether labels are those of a run that is not the one to keep.
func (s *sweeper) dead(labels map[string]string) bool {
	run := labels[docker.LabelRun]
	return run != "" && run != s.keep
}

// held says whether a network is that of a run on one of the engines at hand. A swarm shows the networks of all its nodes,
// and other runs may be at work on others.
func (s *sweeper) held(labels map[string]string) bool {
	ids := strings.Split(labels[docker.LabelHosts], ",")
	return slices.ContainsFunc(s.engines, func(e *docker.Engine) bool { return slices.Contains(ids, e.ID()) })
}

func (s *sweeper) note(e *docker.Engine, what string, err error) {
	if err != nil {
		s.errs = append(s.errs, err)
		return
	}
	s.removed = append(s.removed, fmt.Sprintf("%s on %s", what, e.Host()))
}

func (s *sweeper) containers(ctx context.Context, e *docker.Engine) {
	list, err := e.Labelled(ctx, docker.LabelRun)
	s.errs = append(s.errs, err)
	for _, c := range list {
		if s.dead(c.Labels) && c.Name != s.spare {
			s.note(e, "container "+c.Name, e.Remove(ctx, c.ID))
		}
	}
}

func (s *sweeper) networks(ctx context.Context, manager *docker.Engine) {
	list, err := manager.LabelledNetworks(ctx, docker.LabelRun)
	s.errs = append(s.errs, err)
	for _, n := range list {
		if s.dead(n.Labels) && s.held(n.Labels) {
			s.note(manager, "network "+n.Name, removeNetwork(ctx, manager, n.ID, n.Name))
		}
	}
}

// members takes those engines out of the manager's swarm that a dead run brought there: all of a swarm that it made, or
// the one that it joined to another's. Engines that are in no swarm or in one of their own are left alone.
func (s *sweeper) members(ctx context.Context, manager *docker.Engine, state docker.Swarm) {
	nodes, err := manager.Nodes(ctx)
	s.errs = append(s.errs, err)
	made := s.dead(state.Labels)
	for _, e := range s.engines {
		its, err := e.Swarm(ctx)
		s.errs = append(s.errs, err)
		labels, known := nodes[its.NodeID]
		if !known || e == manager || !(made || s.dead(labels)) {
			continue
		}
		s.note(e, "membership of a swarm", e.SwarmLeave(ctx))
		if !made {
			s.errs = append(s.errs, manager.NodeRemove(ctx, its.NodeID))
		}
		s.unbridge(ctx, e, labels, state.Labels)
	}
	if made {
		s.note(manager, "a dead run's swarm", manager.SwarmLeave(ctx))
		s.unbridge(ctx, manager, state.Labels)
	}
}

// unbridge removes the engine's gateway bridge if any of the labels says that it had none before.
func (s *sweeper) unbridge(ctx context.Context, e *docker.Engine, labels ...map[string]string) {
	for _, l := range labels {
		unbridge(ctx, e, strings.Split(l[docker.LabelBare], ","), func(format string, args ...any) {
			s.errs = append(s.errs, fmt.Errorf(format, args...))
		})
	}
}
