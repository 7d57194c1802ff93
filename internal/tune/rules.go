// SPDX-License-Identifier: Apache-2.0

package tune

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path"

	"github.com/vishvananda/netns"

	"github.com/econbench/econbench/internal/netspace"
	"github.com/econbench/econbench/internal/nft"
)

// KindRules are a container's rules about one address, which somebody serves in their place for as long as they are away. It is no tuning
// that a controller can ask for.
const KindRules Kind = "nft-rules"

// Space is a container's network namespace: open, and where the next agent finds it if it is still the same.
type Space struct {
	NS   netns.NsHandle // held for as long as what is changed there stands
	ID   netspace.ID
	Path string // in the engine's mount namespace
}

// Withdraw takes a table out of a container that is all about one address. Undo restores it, unless rules about that address are there again by then:
// the engine has made them anew. ERESTART says that
// tables have changed since they were read.
func (j *Journal) Withdraw(at Space, about netip.Addr, rules nft.Confined) (*Applied, error) {
	before, err := json.Marshal(rules)
	if err != nil {
		return nil, err
	}
	c := &change{Kind: KindRules, Name: about.String(), Netns: &at.ID, Space: at.Path, Before: string(before), space: &at, generation: rules.Generation}
	return j.announce(c, fmt.Sprintf("nft table %s of %s withdrawn", rules.Table, at.Path), func() error { return j.at(c, c.apply) })
}

// inSpace runs f in the container's namespace of a change; errGone when there is no such container any more.
func (c *change) inSpace(f func() error) error {
	if c.space != nil {
		if id, err := netspace.Identify(c.space.NS); err == nil && id == *c.Netns { // it was not closed since
			return netspace.In(c.space.NS, f)
		}
	}
	file, err := netspace.AtPath(c.Space)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", c.subject(), errGone)
	}
	if err != nil {
		return err
	}
	defer file.Close()
	ns := netns.NsHandle(file.Fd())
	id, err := netspace.Identify(ns)
	if err == nil && id != *c.Netns {
		err = fmt.Errorf("%s: another container by now: %w", c.subject(), errGone)
	}
	if err != nil {
		return err
	}
	return netspace.In(ns, f)
}

// checkRules finds what is wrong with a change of this kind that was read from a journal.
func (c *change) checkRules() error {
	var rules nft.Confined
	if err := json.Unmarshal([]byte(c.Before), &rules); err != nil {
		return fmt.Errorf("rules about %s: %w", c.Name, err)
	}
	if a, err := netip.ParseAddr(c.Name); err != nil || !a.Is4() {
		return fmt.Errorf("rules about %q: want an IPv4 address", c.Name)
	}
	return errors.Join(c.checkSpace(), nft.CheckName(rules.Table))
}

// checkSpace finds what is wrong with where a change in a container is.
func (c *change) checkSpace() error {
	if !path.IsAbs(c.Space) || c.Netns == nil {
		return fmt.Errorf("%s: want a namespace's path and identity", c.subject())
	}
	return nil
}

// readRules is what stood before if as many rules about the address translate as did then, whoever made them; else nothing.
func (c *change) readRules() (text string, err error) {
	about, err := netip.ParseAddr(c.Name)
	if err != nil {
		return "", err
	}
	conn, err := nft.Here()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	var rules nft.Confined
	if err := json.Unmarshal([]byte(c.Before), &rules); err != nil {
		return "", err
	}
	if found, err := conn.Translations(about); err != nil || found < max(1, rules.Translations) {
		return "", err
	}
	return c.Before, nil
}

func (c *change) writeRules(text string) (err error) {
	var rules nft.Confined
	if err := json.Unmarshal([]byte(c.Before), &rules); err != nil {
		return err
	}
	conn, err := nft.Here()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if text == "" {
		rules.Generation = c.generation
		return conn.Withdraw(rules)
	}
	return conn.Restore(rules)
}
