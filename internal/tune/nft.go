// SPDX-License-Identifier: Apache-2.0

package tune

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/vishvananda/netns"

	"github.com/econbench/econbench/internal/netspace"
	"github.com/econbench/econbench/internal/nft"
)

// Rules are taken out of effect by a flag of their table (NFT_TABLE_F_DORMANT): one message unhooks all its chains, rules and
// counters stay as they are, and clearing the flag hooks them again. Tried and not done: taking rules out and restoring them, which
// loses counters and whatever somebody adds meanwhile; a table of ours that accepts before them, since accepting ends only the
// chain that does it (nf_hook_slow goes on to the next).

// States of a table.
const (
	awake   = "awake"
	dormant = "dormant"
)

// dormantChanges finds the tables that a tuning puts to sleep, in the calling thread's network namespace: those with base
// chains that see IPv4 packets. One that is dormant already stays so.
func dormantChanges(Tuning) (changes []*change, err error) {
	legacy, err := nft.LegacyTables()
	if err != nil {
		return nil, err
	}
	if len(legacy) > 0 {
		return nil, fmt.Errorf("%s: iptables-legacy has tables here (%s), which can't be taken out of effect: want rules of iptables-nft or nft alone",
			KindDormant, strings.Join(legacy, ", "))
	}
	tables, err := tables()
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		switch {
		case !t.Hooked:
		case t.Owned && !t.Dormant:
			return nil, fmt.Errorf("%s: nft table %s belongs to another program (netlink port %d), which alone can change it: want it without the owner flag",
				KindDormant, t.Name, t.Owner)
		default:
			changes = append(changes, &change{Kind: KindDormant, Name: t.Name, Before: stateOf(t), After: dormant})
		}
	}
	return changes, nil
}

func tables() (all []nft.Table, err error) {
	c, err := nft.Here()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return c.Tables()
}

// checkDormant makes sure that nothing is left in effect: tables that appeared while others were put to sleep.
func checkDormant() error {
	all, err := tables()
	if err != nil {
		return err
	}
	for _, t := range all {
		if t.Hooked && !t.Dormant && t.Name != nft.OwnTable {
			return fmt.Errorf("%s: nft table %s is in effect all the same", KindDormant, t.Name)
		}
	}
	return nil
}

// readTable says whether a table is in effect.
func readTable(name string) (state string, err error) {
	c, err := nft.Here()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	t, err := c.Table(name)
	switch {
	case errors.Is(err, nft.ErrNoTable):
		return "", fmt.Errorf("nft table %s: %w", name, errGone)
	case err != nil:
		return "", err
	}
	return stateOf(t), nil
}

func stateOf(t nft.Table) string {
	if t.Dormant {
		return dormant
	}
	return awake
}

func writeTable(name, state string) (err error) {
	c, err := nft.Here()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	err = c.SetDormant(name, state == dormant)
	if errors.Is(err, nft.ErrNoTable) {
		return fmt.Errorf("nft table %s: %w", name, errGone)
	}
	return err
}

// holdNoTrack keeps packets from and to a peer from being tracked until it is closed.
func (j *Journal) holdNoTrack(t Tuning) (_ io.Closer, err error) {
	ns := j.ns
	if t.PID != 0 {
		var other netns.NsHandle
		if other, _, err = netspace.OfProcess(t.PID); err != nil {
			return nil, fmt.Errorf("%s: process %d (CAP_SYS_PTRACE): %w", t.Kind, t.PID, err)
		}
		defer other.Close()
		ns = other
	}
	c, err := nft.Dial(ns)
	if err != nil {
		return nil, err
	}
	if err := c.NoTrack(t.Destination); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}
