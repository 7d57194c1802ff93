// SPDX-License-Identifier: Apache-2.0

package tune

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"

	"github.com/vishvananda/netlink"
)

// KindLink is a device that an agent makes in its own network namespace or a container's, where it outlives a killed agent. It is no tuning
// that a controller can ask for.
const KindLink Kind = "link"

// LinkPrefix begins the names of the devices that agents make. Nothing of another name is ever removed.
const LinkPrefix = "econb"

const (
	absent  = "absent"
	present = "present"
)

// Link journals that a device of that name is going to exist in the agent's network namespace and calls make, which makes
// it. Undo removes the device, and with it a peer or whatever stands upon it.
func (j *Journal) Link(name string, make func() error) (*Applied, error) {
	return j.announce(&change{Kind: KindLink, Name: name, Before: absent, After: present, Netns: &j.netns}, "link "+name+" made", make)
}

// LinkIn is Link for a device that make makes in a container's network namespace.
func (j *Journal) LinkIn(at Space, name string, make func() error) (*Applied, error) {
	c := &change{Kind: KindLink, Name: name, Before: absent, After: present, Netns: &at.ID, Space: at.Path, space: &at}
	return j.announce(c, fmt.Sprintf("link %s made in %s", name, at.Path), make)
}

// announce journals a change that make is going to bring about.
func (j *Journal) announce(c *change, done string, make func() error) (*Applied, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil, fmt.Errorf("journal: %w", fs.ErrClosed)
	}
	a := &Applied{journal: j, Done: []string{done}}
	j.lastID++
	s := &step{id: j.lastID, change: c}
	if err := j.log(record{Op: opDo, ID: s.id, Change: c}); err != nil {
		return nil, err
	}
	j.stand(a, s)
	if err := make(); err != nil {
		return nil, errors.Join(err, j.undo(a.steps))
	}
	return a, nil
}

func checkLinkName(name string) error {
	if !strings.HasPrefix(name, LinkPrefix) || len(name) > 15 || strings.ContainsAny(name, "/ \x00") {
		return fmt.Errorf("link %q: want a device's name that begins with %s", name, LinkPrefix)
	}
	return nil
}

// readLink says whether there is such a device.
func readLink(name string) (string, error) {
	_, err := net.InterfaceByName(name)
	if err == nil {
		return present, nil
	}
	all, listErr := net.Interfaces()
	if listErr != nil {
		return "", fmt.Errorf("link %s: %w", name, listErr)
	}
	for _, i := range all {
		if i.Name == name {
			return "", fmt.Errorf("link %s: %w", name, err)
		}
	}
	return absent, nil
}

// writeLink removes a device; to make one is its maker's business.
func writeLink(name, value string) error {
	if value != absent {
		return fmt.Errorf("link %s: can't be made %s", name, value)
	}
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return errGone
	}
	if err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	if err := netlink.LinkDel(link); err != nil {
		return fmt.Errorf("link %s: remove: %w", name, err)
	}
	return nil
}
