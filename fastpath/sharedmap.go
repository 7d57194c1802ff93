// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strconv"
	"time"

	"github.com/cilium/ebpf"

	"github.com/econbench/econbench/internal/netspace"
)

// shareMap finds the map that all agents of this host share, or makes it: each network has an agent of its own, and what is told apart
// by the hosts' addresses alone has to be known to all of them. It is found by its name, which has the host's network namespace in it,
// since two hosts of an emulated lab have one kernel (its cookie, Linux 5.14). It goes with the last agent: nothing is pinned. Its size is the
// first one's choice.
func shareMap(spec *ebpf.MapSpec) (*ebpf.Map, error) {
	ns, id, err := netspace.Own()
	if err != nil {
		return nil, err
	}
	ns.Close()
	unlock, err := lockHost("econbench-" + spec.Name)
	if err != nil {
		return nil, err
	}
	defer unlock.Close()
	spec = spec.Copy()
	host := id.Cookie // never used again, unlike the inode
	if host == 0 {
		host = id.Inode
	}
	spec.Name = "eb" + spec.Name[:2] + strconv.FormatUint(host, 36) // at most 15 characters: BPF_OBJ_NAME_LEN
	const lingers, again = time.Second, 20 * time.Millisecond
	for end := time.Now().Add(lingers); ; time.Sleep(again) { // one of another size may be of an agent that has just ended
		m, err := mapNamed(spec)
		if err != nil {
			return nil, fmt.Errorf("look for it: %w", err)
		}
		if m == nil {
			return ebpf.NewMap(spec)
		}
		if m.MaxEntries() == spec.MaxEntries || time.Now().After(end) {
			return m, nil
		}
		m.Close()
	}
}

// mapNamed is the map of that name and shape, whatever its size; nil: there is none.
func mapNamed(spec *ebpf.MapSpec) (*ebpf.Map, error) {
	for at := ebpf.MapID(0); ; {
		next, err := ebpf.MapGetNextID(at)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		at = next
		m, err := ebpf.NewMapFromID(at)
		if err != nil {
			continue // gone meanwhile
		}
		info, err := m.Info()
		if err == nil && info.Name == spec.Name {
			alike := spec.Copy()
			if alike.MaxEntries = info.MaxEntries; alike.Compatible(m) == nil {
				return m, nil
			}
		}
		m.Close()
	}
}

// lockHost takes a lock that is the host's, and goes with its holder: an abstract socket of the network namespace.
func lockHost(name string) (io.Closer, error) {
	const wait, again = 10 * time.Second, 5 * time.Millisecond
	for end := time.Now().Add(wait); ; time.Sleep(again) {
		l, err := net.Listen("unix", "@"+name)
		if err == nil {
			return l, nil
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("lock %s: held by another agent for %v: %w", name, wait, err)
		}
	}
}
