// SPDX-License-Identifier: Apache-2.0

package tune

import (
	"errors"
	"fmt"
	"slices"

	"github.com/econbench/econbench/internal/netspace"
	"github.com/econbench/econbench/internal/nft"
)

// KindForward is a rule that lets the frames of a bridge pass iptables' FORWARD, in the agent's own network namespace. It is
// no tuning that a controller can ask for: whoever makes a bridge by Link has it made.
const KindForward Kind = "forward"

// bridgeNetfilter hands bridged IPv4 packets to iptables; without br_netfilter there is no such file.
const bridgeNetfilter = "net.bridge.bridge-nf-call-iptables"

// Forward lets frames from one port of a bridge to another pass where bridged packets meet iptables' rules and Docker's policy
// is to drop what it does not know. It does as flannel and CNI's firewall do, by a rule of its own (nft.AcceptForward); the
// sysctl would change the paths of others' bridges. Undo removes the rule.
func (j *Journal) Forward(bridge string) (*Applied, error) {
	a := &Applied{journal: j}
	need, err := j.needsForward()
	if err != nil || !need {
		a.Done = []string{"forward " + bridge + ": bridged packets meet no rules, nothing to change"}
		return a, err
	}
	c := &change{Kind: KindForward, Name: bridge, Before: absent, After: present, Netns: &j.netns}
	a, err = j.announce(c, "forward "+bridge+": accepted before iptables' other rules", func() error { return j.at(c, c.apply) })
	if errors.Is(err, nft.ErrNoForward) {
		return &Applied{journal: j, Done: []string{"forward " + bridge + ": no such rules, nothing to change"}}, nil
	}
	return a, err
}

// needsForward says whether bridged packets meet rules that can be added to.
func (j *Journal) needsForward() (need bool, err error) {
	err = netspace.In(j.ns, func() error {
		on, err := readSysctl(swapDots(bridgeNetfilter))
		if errors.Is(err, errGone) || err == nil && on != "1" {
			return nil // no br_netfilter, or it is told to let go
		}
		if err != nil {
			return err
		}
		legacy, err := nft.LegacyTables()
		if err != nil {
			return err
		}
		if need = true; slices.Contains(legacy, forwardTable) {
			return fmt.Errorf("%s: bridged packets meet iptables-legacy's rules here, which can't be added to: want iptables-nft, or %s=0", KindForward, bridgeNetfilter)
		}
		return nil
	})
	return need, err
}

// forwardTable is the legacy table with a chain FORWARD that Docker writes to.
const forwardTable = "filter"

func readForward(bridge string) (state string, err error) {
	c, err := nft.Here()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	accepts, err := c.AcceptsForward(bridge)
	switch {
	case errors.Is(err, nft.ErrNoForward):
		return "", fmt.Errorf("forward %s: %w: %w", bridge, errGone, err)
	case err != nil:
		return "", err
	case accepts:
		return present, nil
	}
	return absent, nil
}

func writeForward(bridge, state string) (err error) {
	c, err := nft.Here()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if state == present {
		return c.AcceptForward(bridge)
	}
	return c.DropForward(bridge)
}
