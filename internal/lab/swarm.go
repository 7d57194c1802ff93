// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/agentproto"
	"github.com/econbench/econbench/internal/docker"
)

// membership is the swarm that both engines are in, and how to put it back as it was found.
type membership struct {
	manager *Host
	guests  []*Host  // engines that this run brought in, in the order they came: they leave, and no other does
	made    bool     // by this run: nobody is left to forget a guest
	bare    []string // ids of engines that get their first gateway bridge by it
}

// labels mark the swarm or the node, so that a sweep puts back what a killed run could not.
func (m *membership) labels() map[string]string {
	labels := m.manager.labels("swarm")
	labels[docker.LabelBare] = strings.Join(m.bare, ",")
	return labels
}

// before looks at what the engine will have to give up again before it joins or makes a swarm, and whether it can.
func (m *membership) before(ctx context.Context, h *Host) error {
	if err := h.gossipFree(ctx); err != nil {
		return err
	}
	_, has, err := h.engine.InspectNetwork(ctx, docker.GatewayBridge)
	if err == nil && !has {
		m.bare = append(m.bare, h.engine.ID())
	}
	return err
}

// gossipPort is where the engines of a swarm tell each other of their overlays' containers (memberlist, TCP and UDP).
const gossipPort = 7946

// leaveTimeout is how long an engine that has just left a swarm may take to let go of gossipPort; half a second is usual.
const leaveTimeout = 5 * time.Second

// StuckError is an engine that holds gossipPort and is in no swarm. Engines end up so now and then when they leave one: if
// their farewell is not out within a second, they forget to close the sockets (seen with 20.10 in one of some fifty leaves on
// a busy machine; libnetwork's NetworkDB.Close, moby issue 31913). In the next swarm such an engine looks well, but has
// neither ingress network nor any overlay that works.
type StuckError struct {
	Engine  string // its URL
	Address netip.Addr
}

func (e *StuckError) Error() string {
	return fmt.Sprintf("engine %s: it is in no swarm, but port %d of %s is taken, without which its overlays don't work: an engine may "+
		"forget to close it when it leaves a swarm (moby issue 31913); restart the engine", e.Engine, gossipPort, e.Address)
}

// gossipFree waits until nobody holds the port that the engine needs in a swarm; a *StuckError when somebody goes on holding it.
func (h *Host) gossipFree(ctx context.Context) error {
	at := netip.AddrPortFrom(h.prefix.Addr(), gossipPort)
	taken := false // at the last answer
	err := poll(ctx, "gossip's port of "+h.engine.Host(), leaveTimeout, func(ctx context.Context) (bool, error) {
		err := h.agent.Call(ctx, agentproto.OpListens, at, &taken)
		return err == nil && !taken, err
	})
	if err != nil && ctx.Err() == nil && taken {
		return &StuckError{Engine: h.engine.Host(), Address: at.Addr()}
	}
	return err
}

// joinSwarm uses the swarm that is there, joins one engine to the other's, or makes one.
func (l *Lab) joinSwarm(ctx context.Context, _ [2]string) error {
	a, b := l.hosts[0], l.hosts[1]
	var state [2]docker.Swarm
	for i, h := range l.hosts {
		var err error
		if state[i], err = h.engine.Swarm(ctx); err != nil {
			return err
		}
		if !state[i].Member && !state[i].Out() {
			return fmt.Errorf("engine %s: its membership of a swarm is %q, want active or inactive: see docker info, and docker swarm unlock or leave",
				h.engine.Host(), state[i].State)
		}
	}
	switch {
	case state[0].Member && state[1].Member:
		return l.useSwarm(ctx, state)
	case state[0].Out() && state[1].Out():
		return l.makeSwarm(ctx)
	case state[1].Member:
		a, b = b, a
		state[0], state[1] = state[1], state[0]
	}
	if !state[0].Manager {
		return fmt.Errorf("engine %s: is a worker of a swarm that %s is not in: run from a manager, or take it out with docker swarm leave",
			a.engine.Host(), b.engine.Host())
	}
	return l.joinOther(ctx, a, b, state[0])
}

// useSwarm uses a swarm that both engines are members of; one of the two must manage it.
func (l *Lab) useSwarm(ctx context.Context, state [2]docker.Swarm) error {
	for i, h := range l.hosts {
		other := l.hosts[1-i]
		if !state[i].Manager {
			continue
		}
		known, _, err := h.engine.Node(ctx, state[1-i].NodeID)
		if err != nil {
			return err
		}
		if !known {
			return fmt.Errorf("engines %s and %s: each is in a swarm of its own: take one out with docker swarm leave",
				h.engine.Host(), other.engine.Host())
		}
		l.swarm = &membership{manager: h}
		for k, h := range l.hosts {
			if err := l.useAddress(h, state[k].NodeAddr); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("engines %s and %s: neither manages the swarm it is in: one of the two must", l.hosts[0].engine.Host(), l.hosts[1].engine.Host())
}

func (l *Lab) makeSwarm(ctx context.Context) error {
	if err := l.chooseUnderlay(); err != nil {
		return err
	}
	a, b := l.hosts[0], l.hosts[1]
	l.opt.Progress("making a swarm of %s and %s", a.engine.Host(), b.engine.Host())
	m := &membership{manager: a}
	if err := errors.Join(m.before(ctx, a), m.before(ctx, b)); err != nil {
		return err
	}
	l.swarm, m.made, m.guests = m, true, []*Host{a}
	if err := a.engine.SwarmInit(ctx, a.prefix.Addr(), OverlayPool, m.labels()); err != nil {
		return err
	}
	// SwarmInit of engines before 23.0 drops the labels.
	if err := a.engine.SwarmLabel(ctx, m.labels()); err != nil {
		return err
	}
	return l.addNode(ctx, a, b)
}

func (l *Lab) joinOther(ctx context.Context, manager, other *Host, state docker.Swarm) error {
	if err := l.useAddress(manager, state.NodeAddr); err != nil {
		return err
	}
	towards := func() error { return other.facing(manager) }
	if given := l.opt.Underlay[slices.Index(l.hosts[:], other)]; given.IsValid() {
		towards = func() error { return other.useUnderlay(given.String()) }
	}
	if err := towards(); err != nil {
		return err
	}
	l.opt.Progress("joining %s to the swarm of %s", other.engine.Host(), manager.engine.Host())
	m := &membership{manager: manager}
	if err := m.before(ctx, other); err != nil {
		return err
	}
	l.swarm = m
	return l.addNode(ctx, manager, other)
}

// addNode makes other a worker, marks it, and returns when the manager finds it ready.
func (l *Lab) addNode(ctx context.Context, manager, other *Host) error {
	token, err := manager.engine.SwarmJoinToken(ctx)
	if err != nil {
		return err
	}
	at := netip.AddrPortFrom(manager.prefix.Addr(), 2377).String()
	l.swarm.guests = append(l.swarm.guests, other) // it was out of any swarm: leaving can take it out of none but this
	if err := other.engine.SwarmJoin(ctx, other.prefix.Addr(), at, token); err != nil {
		return err
	}
	mine, err := other.engine.Swarm(ctx)
	if err != nil {
		return err
	}
	labelled := false
	if err := poll(ctx, "swarm node "+other.engine.Host()+" ready", docker.StepTimeout, func(ctx context.Context) (bool, error) {
		if !labelled { // fails while the manager itself is updating the node
			labelled = manager.engine.NodeLabel(ctx, mine.NodeID, l.swarm.labels()) == nil
		}
		_, ready, err := manager.engine.Node(ctx, mine.NodeID)
		return ready && labelled, err
	}); err != nil {
		return err
	}
	return l.settle(ctx)
}

// ingressTimeout is how long engines may take for what they do by themselves in a new swarm; it took them 3 to 7 s.
const ingressTimeout = 15 * time.Second

// settle waits until the engines that this run brought in have made their ingress networks. Until then they add rules to the host's
// namespace, in the middle of a trial if need be, and answer late. A swarm may have no ingress network: that is no error.
func (l *Lab) settle(ctx context.Context) error {
	for _, h := range l.swarm.guests {
		err := poll(ctx, "ingress network of "+h.engine.Host(), ingressTimeout, h.engine.IngressStands)
		if ctx.Err() != nil {
			return err
		}
		if err != nil {
			l.opt.Progress("going on without: %v", err)
		}
	}
	return nil
}

// restoreTimeout bounds the way out of a swarm, so that the agents get their turn to undo.
const restoreTimeout = 40 * time.Second

// restore takes out whom this run brought in, workers before the manager: as long as there is a manager of ours, a sweep
// can find what a killed run has not done.
func (m *membership) restore(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, restoreTimeout, fmt.Errorf("swarm not left in %v", restoreTimeout))
	defer cancel()
	var errs []error
	for _, h := range slices.Backward(m.guests) {
		state, err := h.engine.Swarm(ctx)
		if err == nil {
			err = h.engine.SwarmLeave(ctx)
		}
		errs = append(errs, err)
		if err != nil {
			continue
		}
		if !m.made && state.NodeID != "" {
			errs = append(errs, m.manager.engine.NodeRemove(ctx, state.NodeID))
		}
		unbridge(ctx, h.engine, m.bare, h.lab.opt.Progress)
	}
	return errors.Join(errs...)
}

// unbridge removes the gateway bridge of an engine that had none before it joined a swarm. Leaving takes it a moment to
// let go of the bridge, and now and then an engine forgets its own end of it there. One that can't be removed is said and
// left: it is harmless, and the engine takes it up again with its next swarm. (To disconnect that end by force was tried:
// it races with the engine's own release of the ingress network, which then stays.)
func unbridge(ctx context.Context, e *docker.Engine, bare []string, say func(string, ...any)) {
	if !slices.Contains(bare, e.ID()) {
		return
	}
	var last error
	_ = poll(ctx, "removal of "+docker.GatewayBridge, bridgeTimeout, func(ctx context.Context) (bool, error) {
		last = e.RemoveNetwork(ctx, docker.GatewayBridge)
		return last == nil || errors.Is(last, docker.ErrSilent), nil
	})
	if last != nil {
		say("left behind: %v", last)
	}
}

const bridgeTimeout = 2 * time.Second

// useAddress takes the address that the user gave for a host of an existing swarm, else the one that it advertises. (The
// engine does not tell a --data-path-addr: who has one must give it.)
func (l *Lab) useAddress(h *Host, advertised string) error {
	if given := l.opt.Underlay[slices.Index(l.hosts[:], h)]; given.IsValid() {
		return h.useUnderlay(given.String())
	}
	return h.useUnderlay(advertised)
}

// chooseUnderlay finds addresses of the two hosts that face each other: those that the user gave; else the one pair in a
// common network; else, when there is none, the addresses that the default routes leave by.
func (l *Lab) chooseUnderlay() error {
	a, b := l.hosts[0], l.hosts[1]
	if l.opt.Underlay[0].IsValid() {
		return errors.Join(a.useUnderlay(l.opt.Underlay[0].String()), b.useUnderlay(l.opt.Underlay[1].String()))
	}
	var pairs [][2]agentproto.Address
	for _, x := range a.hello.Addresses {
		for _, y := range b.hello.Addresses {
			px, py := netip.MustParsePrefix(x.Prefix), netip.MustParsePrefix(y.Prefix)
			if px.Masked() == py.Masked() && px.Addr() != py.Addr() {
				pairs = append(pairs, [2]agentproto.Address{x, y})
			}
		}
	}
	if len(pairs) == 1 {
		a.setUnderlay(pairs[0][0])
		b.setUnderlay(pairs[0][1])
		return nil
	}
	x, okX := defaultAddress(a.hello.Addresses)
	y, okY := defaultAddress(b.hello.Addresses)
	if len(pairs) > 1 || !okX || !okY || x.Prefix == y.Prefix {
		return fmt.Errorf("hosts %s and %s: no single pair of addresses faces each other (%s; %s): give --underlay ADDR,ADDR",
			a.engine.Host(), b.engine.Host(), addressList(a.hello.Addresses), addressList(b.hello.Addresses))
	}
	a.setUnderlay(x)
	b.setUnderlay(y)
	return nil
}

func defaultAddress(list []agentproto.Address) (agentproto.Address, bool) {
	for _, a := range list {
		if a.Default {
			return a, true
		}
	}
	return agentproto.Address{}, false
}

func addressList(list []agentproto.Address) string {
	if len(list) == 0 {
		return "none"
	}
	text := ""
	for i, a := range list {
		if i > 0 {
			text += ", "
		}
		text += a.Prefix + " on " + a.Device
	}
	return text
}

// useUnderlay takes the device that bears an address as the host's end of the wire.
func (h *Host) useUnderlay(addr string) error {
	for _, a := range h.hello.Addresses {
		if netip.MustParsePrefix(a.Prefix).Addr().String() == addr {
			h.setUnderlay(a)
			return nil
		}
	}
	return fmt.Errorf("engine %s: address %s is on none of its devices, which have %s", h.engine.Host(), addr, addressList(h.hello.Addresses))
}

// facing takes the address in the network of another host's end of the wire, else the default route's.
func (h *Host) facing(other *Host) error {
	for _, a := range h.hello.Addresses {
		if netip.MustParsePrefix(a.Prefix).Masked() == other.prefix.Masked() {
			h.setUnderlay(a)
			return nil
		}
	}
	if a, ok := defaultAddress(h.hello.Addresses); ok {
		h.setUnderlay(a)
		return nil
	}
	return fmt.Errorf("engine %s: no address towards %s: it has %s", h.engine.Host(), other.prefix, addressList(h.hello.Addresses))
}

func (h *Host) setUnderlay(a agentproto.Address) {
	h.prefix = netip.MustParsePrefix(a.Prefix)
	h.facts.Underlay, h.facts.WireDevice, h.facts.WireDriver, h.facts.MTU = h.prefix.Addr().String(), a.Device, a.Driver, a.MTU
}

var _ econbench.Overlay = (*overlay)(nil)
