// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench/internal/netspace"
	"github.com/econbench/econbench/internal/nft"
)

// What arrives by a lane arrives on another device than the container's own on the network. To a container whose rules tell devices apart
// that would make a difference, so for such a one to_container passes it on to its own device. It is a trip through the backlog more: .27 µs
// of a packet's 5.5 (TestCosts; with a rule of nftables .45, most of which any path has), and so not for all. What opens a connection or is
// of none that is remembered takes it for every container: its socket may be bound to that device.

// arrive tells to_container what to do with what is of a flow, as the container's rules are now.
func (e *endpoint) arrive() error {
	asks, err := asksForInput(e.ns)
	if err != nil {
		return fmt.Errorf("rules: %w", err)
	}
	if asks == e.byDevice {
		return nil
	}
	if err := e.setByDevice.Set(asks); err != nil {
		return fmt.Errorf("program's variable %s: %w", varByDevice, err)
	}
	e.byDevice = asks
	return nil
}

// deliver has what comes for a container delivered to where its rules want it looked at.
func (o *overlay) deliver(e *endpoint) error {
	err := o.progs.setEndpoint(e.local, e.number, e.lane, e.byDevice)
	if err == nil {
		e.delivered = e.byDevice
	}
	return err
}

// asksForInput says whether a container's rules may judge a packet by the device that it came in by. Of iptables-legacy's tables nat alone
// does not matter: flows begin on the kernel's path, or on the container's own device.
func asksForInput(container netns.NsHandle) (asks bool, err error) {
	err = rulesOf(container, func(legacy []string, c *nft.Conn) (err error) {
		asks = slices.ContainsFunc(legacy, func(table string) bool { return table != "nat" })
		if !asks && c != nil {
			asks, err = c.AsksForInput()
		}
		return err
	})
	return asks, err
}

// rulesOf has somebody look at the rules of a namespace: the tables of iptables-legacy, and nftables'; nil: the kernel has none of these.
func rulesOf(ns netns.NsHandle, look func(legacy []string, c *nft.Conn) error) error {
	var legacy []string
	err := netspace.In(ns, func() (err error) {
		legacy, err = nft.LegacyTables()
		return err
	})
	if err != nil {
		return err
	}
	c, err := nft.Dial(ns)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return look(legacy, nil)
	}
	if err != nil {
		return err
	}
	defer c.Close()
	return look(legacy, c)
}

// unruled says whether a packet on the kernel's path between containers and tunnel meets no rule: in a sandbox of Docker's where no chain of
// nftables is hooked, and no table of iptables-legacy is there. A host's own namespace is where rules are made in more ways than can be looked at
// (ebtables, programs on devices), and counts as ruled.
func (o *overlay) unruled() (bool, error) {
	if o.sandbox == nil || o.cfg.Tunnel != "" {
		return false, nil
	}
	ruled := false
	err := rulesOf(o.sandbox.ns, func(legacy []string, c *nft.Conn) (err error) {
		ruled = len(legacy) > 0
		if !ruled && c != nil {
			ruled, err = c.Hooked()
		}
		return err
	})
	return !ruled && err == nil, err
}

// followRules looks again at what nothing tells of: the containers' rules, and who is in them. One that is just leaving has none that matter.
func (o *overlay) followRules() error {
	errs := []error{o.straighten()}
	for _, e := range o.endpoints {
		if e.closing {
			continue
		}
		o.untrack(e)
		err := e.arrive()
		if e.delivered != e.byDevice {
			err = errors.Join(err, o.deliver(e))
		}
		if err != nil && o.present(e.local) {
			errs = append(errs, fmt.Errorf("container %s (%s): %w", e.addr, e.name, err))
		}
	}
	return errors.Join(errs...)
}
