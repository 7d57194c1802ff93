// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"fmt"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
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
	for what, subscribe := range map[string]func() error{
		"sandbox's neighbours": func() error {
			return netlink.NeighSubscribeWithOptions(neighbours, f.stop, netlink.NeighSubscribeOptions{Namespace: &sandbox, ErrorCallback: lost})
		},
		"sandbox's devices": func() error {
			return netlink.LinkSubscribeWithOptions(links, f.stop, netlink.LinkSubscribeOptions{Namespace: &sandbox, ErrorCallback: lost})
		},
		"host's routes": func() error {
			return netlink.RouteSubscribeWithOptions(routes, f.stop, netlink.RouteSubscribeOptions{Namespace: &host, ErrorCallback: lost})
		},
		"host's devices": func() error {
			return netlink.LinkSubscribeWithOptions(devices, f.stop, netlink.LinkSubscribeOptions{Namespace: &host, ErrorCallback: lost})
		},
	} {
		if err := subscribe(); err != nil {
			close(f.stop)
			return nil, fmt.Errorf("follow the %s: %w", what, err)
		}
	}
	go drain(f, neighbours)
	go drain(f, links)
	go drain(f, routes)
	go drain(f, devices)
	return f, nil
}

// drain pokes for each notification until the subscription ends.
func drain[T any](f *follower, updates <-chan T) {
	for range updates {
		f.poke()
	}
	f.poke() // at the end too: broken, or nobody listens any more
}

func (f *follower) poke() {
	select {
	case f.changed <- struct{}{}:
	default: // somebody will look, and has not begun to
	}
}

func (f *follower) close() { close(f.stop) }
