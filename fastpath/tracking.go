// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netns"

	"github.com/econbench/econbench/internal/tune"
)

const (
	bridgeNetfilter = "net.bridge.bridge-nf-call-iptables"
	beLiberal       = "net.netfilter.nf_conntrack_tcp_be_liberal"
)

// tracking has connection tracking put up with TCP flows of which it sees the beginning and the end alone. In the host's own namespace
// bridged packets are tracked where br_netfilter is loaded; those on a fast path are not, so that a FIN is far beyond the window that it
// knows of: invalid, which many a firewall drops (firewalld's and kube-proxy's rules do). A sandbox of Docker's has no rules.
type tracking struct {
	journal *tune.Journal
	applied []*tune.Applied
}

// relax does so unless it is done already, and again when somebody else has undone it: an agent of another network, at its end.
func (t *tracking) relax(host netns.NsHandle) error {
	if v, err := tune.SysctlIn(host, bridgeNetfilter); err != nil || v != "1" {
		return nil // no br_netfilter, or it is told to let go
	}
	if v, err := tune.SysctlIn(host, beLiberal); err != nil || v != "0" {
		return nil // nothing is tracked by this kernel, or it is so already
	}
	a, err := t.journal.Apply(context.Background(), []tune.Tuning{tune.Sysctl(0, beLiberal, "1")})
	if err != nil {
		return fmt.Errorf("connection tracking: %w", err)
	}
	t.applied = append(t.applied, a)
	return nil
}

// close puts back what was found. One that somebody else has changed meanwhile is theirs.
func (t *tracking) close() error {
	var errs []error
	for _, a := range slices.Backward(t.applied) {
		if err := a.Undo(); !errors.Is(err, tune.ErrChanged) {
			errs = append(errs, err)
		}
	}
	t.applied = nil
	return errors.Join(errs...)
}
