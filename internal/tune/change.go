// SPDX-License-Identifier: Apache-2.0

package tune

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/econbench/econbench/internal/netspace"
	"github.com/econbench/econbench/internal/nft"
)

// ErrChanged says that a value was no longer the one this package had set when it was to be put back. Somebody else
// changed it, and it was left alone.
var ErrChanged = errors.New("changed by somebody else since")

// errGone says that what was changed is no more: device, queue, namespace. Nothing is left to put back.
var errGone = errors.New("not there")

// change is one value of the host: where it is, what it was, what it becomes. Every tuning that is not held by a file
// descriptor comes down to some of these, and these are what the journal holds. Values are compared as text, so each
// kind's get returns one text per state.
type change struct {
	Kind    Kind         `json:"kind"`
	Netns   *netspace.ID `json:"netns,omitempty"`   // nil: the value belongs to no network namespace
	Device  string       `json:"device,omitempty"`  // of rps and offloads
	Ifindex int          `json:"ifindex,omitempty"` // of Device: a name is used again, an index hardly
	Name    string       `json:"name"`              // sysctl file, queue, feature, destination, nft table, device, bridge or address
	Table   int          `json:"table,omitempty"`   // routing table of congestion-control
	Space   string       `json:"space,omitempty"`   // path of a container's namespace in the engine's mount namespace
	Before  string       `json:"before"`
	After   string       `json:"after"`

	pid   int    // in whose namespace; 0: the journal's own, or that of Space
	space *Space // of Space, held; nil: it is to be opened

	generation uint32 // of the rules to be withdrawn
}

// target is equal for two changes of one and the same value.
func (c *change) target() string {
	var ns netspace.ID
	if c.Netns != nil {
		ns = *c.Netns
	}
	return fmt.Sprint(c.Kind, ns, c.Ifindex, c.Table, " ", c.Name)
}

// check finds what is wrong with a change that was read from a journal: nothing there may lead to a file or device
// other than those that a tuning could have named.
func (c *change) check() error {
	switch c.Kind {
	case KindSysctl:
		// Joined by slashes, a file is a key too, unless a dot comes first.
		if file, err := sysctlFile(c.Name); err != nil || file != c.Name {
			return fmt.Errorf("sysctl file %q: want one below %s", c.Name, procSys)
		}
		return nil
	case KindCongestionControl:
		if a, err := netip.ParseAddr(c.Name); err != nil || !a.Is4() {
			return fmt.Errorf("congestion control to %q: want an IPv4 address", c.Name)
		}
		return nil
	case KindRPS:
		if !strings.HasPrefix(c.Name, "rx-") || strings.ContainsAny(c.Name, "/\x00") {
			return fmt.Errorf("rps queue %q: want one like rx-0", c.Name)
		}
		return checkDevice(c.Kind, c.Device)
	case KindOffloads:
		return checkDevice(c.Kind, c.Device)
	case KindLink:
		if err := checkLinkName(c.Name); err != nil || c.Space == "" {
			return err
		}
		return c.checkSpace()
	case KindForward:
		return checkLinkName(c.Name)
	case KindDormant:
		return nft.CheckName(c.Name)
	case KindRules:
		return c.checkRules()
	}
	return fmt.Errorf("change of kind %q: unknown", c.Kind)
}

// get reads the value as it is now, in the calling thread's network namespace.
func (c *change) get() (string, error) {
	if c.Device != "" {
		if err := c.sameDevice(); err != nil {
			return "", err
		}
	}
	switch c.Kind {
	case KindSysctl:
		return readSysctl(c.Name)
	case KindRPS:
		return readRPS(c.Device, c.Name)
	case KindCongestionControl:
		return readRoute(c.Name, c.Table)
	case KindOffloads:
		return readFeature(c.Device, c.Name)
	case KindLink:
		return readLink(c.Name)
	case KindForward:
		return readForward(c.Name)
	case KindDormant:
		return readTable(c.Name)
	case KindRules:
		return c.readRules()
	}
	return "", fmt.Errorf("change of kind %q: unknown", c.Kind)
}

// set writes a value in the calling thread's network namespace.
func (c *change) set(value string) error {
	switch c.Kind {
	case KindSysctl:
		return writeSysctl(c.Name, value)
	case KindRPS:
		return writeRPS(c.Device, c.Name, value)
	case KindCongestionControl:
		return writeRoute(c.Name, c.Table, value)
	case KindOffloads:
		return writeFeature(c.Device, c.Name, value)
	case KindLink:
		return writeLink(c.Name, value)
	case KindForward:
		return writeForward(c.Name, value)
	case KindDormant:
		return writeTable(c.Name, value)
	case KindRules:
		return c.writeRules(value)
	}
	return fmt.Errorf("change of kind %q: unknown", c.Kind)
}

// sameDevice fails with errGone when the device is no more or its name is another's now.
func (c *change) sameDevice() error {
	ifi, err := device(c.Kind, c.Device)
	if err != nil {
		return err
	}
	if c.Ifindex != 0 && ifi.Index != c.Ifindex {
		return fmt.Errorf("%s: device %q: %w: index was %d, a device of that name has %d", c.Kind, c.Device, errGone, c.Ifindex, ifi.Index)
	}
	return nil
}

// subject names what is changed, for people.
func (c *change) subject() string {
	switch c.Kind {
	case KindSysctl:
		return "sysctl " + swapDots(c.Name)
	case KindCongestionControl:
		return "congestion-control to " + c.Name
	case KindLink, KindForward:
		if c.Space != "" {
			return fmt.Sprintf("%s %s in %s", c.Kind, c.Name, c.Space)
		}
		return string(c.Kind) + " " + c.Name
	case KindDormant:
		return "nft table " + c.Name
	case KindRules:
		return fmt.Sprintf("rules about %s in %s", c.Name, c.Space)
	}
	return fmt.Sprintf("%s %s %s", c.Kind, c.Device, c.Name)
}

// step writes "0 → 1", as seen from one value to another.
func (c *change) step(from, to string) string {
	if from == to {
		return c.shown(to) + " (as found)"
	}
	return c.shown(from) + " → " + c.shown(to)
}

func (c *change) shown(value string) string {
	switch {
	case c.Kind == KindRules && value == "":
		return "withdrawn"
	case c.Kind == KindRules:
		return "there"
	case value != "":
		return value
	case c.Kind == KindCongestionControl:
		return "the host's"
	}
	return `""`
}

// apply writes the value and makes sure that the kernel took it as it is.
func (c *change) apply() error {
	if c.Before == c.After {
		return nil
	}
	if err := c.set(c.After); err != nil {
		return err
	}
	found, err := c.get()
	if err != nil {
		return err
	}
	if found != c.After {
		return fmt.Errorf("%s: wrote %s, kernel made it %s", c.subject(), c.shown(c.After), c.shown(found))
	}
	switch c.Kind {
	case KindOffloads:
		return checkFeature(c.Device, c.Name, c.After)
	case KindCongestionControl:
		return checkRoute(c.Name, c.After)
	}
	return nil
}

// revert takes back an apply that failed, whatever it left.
func (c *change) revert() error {
	found, err := c.get()
	if errors.Is(err, errGone) || (err == nil && found == c.Before) {
		return nil
	}
	if err == nil {
		err = c.set(c.Before)
	}
	if err != nil {
		return fmt.Errorf("undo %s: %w", c.subject(), err)
	}
	return nil
}

// undo puts the value back. What is gone, or back already, is fine.
func (c *change) undo() (outcome string, err error) {
	found, err := c.get()
	switch {
	case errors.Is(err, errGone):
		return c.subject() + ": gone, nothing to put back", nil
	case err != nil:
		return "", fmt.Errorf("undo %s: %w", c.subject(), err)
	case found == c.Before:
		return fmt.Sprintf("%s %s: was back already", c.subject(), c.shown(found)), nil
	case found != c.After:
		return "", fmt.Errorf("undo %s: set %s → %s, now %s: %w, left alone",
			c.subject(), c.shown(c.Before), c.shown(c.After), c.shown(found), ErrChanged)
	}
	if err := c.set(c.Before); err != nil && !errors.Is(err, errGone) {
		return "", fmt.Errorf("undo %s: %w", c.subject(), err)
	}
	return fmt.Sprintf("%s %s", c.subject(), c.step(c.After, c.Before)), nil
}
