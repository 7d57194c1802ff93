// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench/internal/tune"
)

// follower says when something may have changed that a cache was filled from: a sandbox's devices, neighbours and forwarding
// entries, and the host's routes and devices. What changed is not its business: whoever is told reads all of it again, and
// so is right even when notifications were lost.
type follower struct {
	changed chan struct{} // capacity 1
	stop    chan struct{}
	broken  atomic.Bool // a subscription ended: its socket's buffer overflowed, say
}

func follow(sandbox, host netns.NsHandle) (*follower, error) {
	f := &follower{changed: make(chan struct{}, 1), stop: make(chan struct{})}
	lost := func(error) { f.broken.Store(true) }
	neighbours, links := make(chan netlink.NeighUpdate), make(chan netlink.LinkUpdate)
	routes, devices := make(chan netlink.RouteUpdate), make(chan netlink.LinkUpdate)
	for _, s := range []struct {
		what      string
		subscribe func() error
		drain     func()
	}{
		{"sandbox's neighbours", func() error {
			return netlink.NeighSubscribeWithOptions(neighbours, f.stop, netlink.NeighSubscribeOptions{Namespace: &sandbox, ErrorCallback: lost})
		}, func() { drain(f, neighbours, nil) }},
		{"sandbox's devices", func() error {
			return netlink.LinkSubscribeWithOptions(links, f.stop, netlink.LinkSubscribeOptions{Namespace: &sandbox, ErrorCallback: lost})
		}, func() { drain(f, links, nil) }},
		{"host's routes", func() error {
			return netlink.RouteSubscribeWithOptions(routes, f.stop, netlink.RouteSubscribeOptions{Namespace: &host, ErrorCallback: lost})
		}, func() { drain(f, routes, nil) }},
		{"host's devices", func() error {
			return netlink.LinkSubscribeWithOptions(devices, f.stop, netlink.LinkSubscribeOptions{Namespace: &host, ErrorCallback: lost})
		}, func() { drain(f, devices, ourLane) }},
	} {
		if err := s.subscribe(); err != nil {
			close(f.stop) // those before it are drained to their end
			return nil, fmt.Errorf("follow the %s: %w", s.what, err)
		}
		go s.drain()
	}
	return f, nil
}

// ourLane is a device of a lane: it comes and goes because somebody is at work here already.
func ourLane(u netlink.LinkUpdate) bool { return strings.HasPrefix(u.Attrs().Name, tune.LinkPrefix) }

// drain pokes for each notification that is not to be ignored, until the subscription ends: one that nobody reads could not.
func drain[T any](f *follower, updates <-chan T, ignore func(T) bool) {
	for u := range updates {
		if ignore == nil || !ignore(u) {
			f.poke()
		}
	}
	f.poke() // at the end too: broken, or nobody listens any more
}

func (f *follower) poke() { poke(f.changed) }

func poke(changed chan struct{}) {
	select {
	case changed <- struct{}{}:
	default: // somebody will look, and has not begun to
	}
}

func (f *follower) close() { close(f.stop) }

// followDevices pokes when a container's own devices or addresses change, until it is undone. An engine that takes a container off a network takes
// its device out first, and the other end in the sandbox is removed much later: all that is heard of there meanwhile is a carrier that
// is lost, and that up to a second late (linkwatch). The socket keeps the container's namespace for as long as it is open.
func followDevices(ns netns.NsHandle, changed chan struct{}) (undo func() error, err error) {
	s, err := nl.SubscribeAt(ns, netns.None(), unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR)
	if err != nil {
		return nil, err
	}
	var done atomic.Bool
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			all, _, err := s.Receive()
			if done.Load() || err != nil && !errors.Is(err, unix.ENOBUFS) {
				return // everything is read again now and then, notified or not
			}
			if err != nil || slices.ContainsFunc(all, notOurs) {
				poke(changed)
			}
		}
	}()
	return func() error {
		done.Store(true)
		s.Close()
		<-ended
		return nil
	}, nil
}

// notOurs is a notification of something else than a lane's devices, which come and go because somebody is at work here already.
func notOurs(m syscall.NetlinkMessage) bool {
	if m.Header.Type != unix.RTM_NEWLINK && m.Header.Type != unix.RTM_DELLINK {
		return true
	}
	link, err := netlink.LinkDeserialize((*unix.NlMsghdr)(&m.Header), m.Data)
	return err != nil || !strings.HasPrefix(link.Attrs().Name, tune.LinkPrefix)
}
