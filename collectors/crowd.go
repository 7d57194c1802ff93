// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/econbench/econbench"
)

// A workload's clients may be several containers of one host. Where each has a network namespace of its own, all of these are
// read and added up; where they share the host's, it is read once.

// namespacesOf are processes of the scope's containers, one for each network namespace.
func namespacesOf(proc string, s econbench.Scope) (pids []int, err error) {
	var known []os.FileInfo
	for _, pid := range s.PIDs() {
		if len(s.Others) == 0 {
			return []int{pid}, nil
		}
		ns, err := os.Stat(filepath.Join(proc, strconv.Itoa(pid), "ns/net"))
		if err != nil {
			return nil, fmt.Errorf("network namespace of process %d: %w", pid, err)
		}
		again := false
		for _, k := range known {
			again = again || os.SameFile(k, ns)
		}
		if !again {
			known, pids = append(known, ns), append(pids, pid)
		}
	}
	return pids, nil
}

// diags are sock_diag sockets, one in each network namespace.
type diags []*diag

func openDiags(proc string, s econbench.Scope) (all diags, err error) {
	pids, err := namespacesOf(proc, s)
	if err != nil {
		return nil, err
	}
	for _, pid := range pids {
		d, err := openDiag(proc, pid)
		if err != nil {
			all.close()
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

func (all diags) close() {
	for _, d := range all {
		d.close()
	}
}

// established is that of all namespaces.
func (all diags) established(side string, f econbench.Flows) (sockets []tcpSocket, err error) {
	for _, d := range all {
		found, err := d.established(side, f)
		if err != nil {
			return nil, err
		}
		for i := range found {
			found[i].found = d
		}
		sockets = append(sockets, found...)
	}
	return sockets, nil
}

// namespaces are network namespaces whose counters are added up.
type namespaces []namespace

func openNamespaces(proc string, s econbench.Scope) (all namespaces, err error) {
	pids, err := namespacesOf(proc, s)
	if err != nil {
		return nil, err
	}
	for _, pid := range pids {
		n, err := openNamespace(proc, pid)
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, nil
}

// counters are the sums; a counter that any namespace lacks is left out.
func (all namespaces) counters() (sum econbench.Counters, err error) {
	for _, n := range all {
		c, err := n.counters()
		if err != nil {
			return nil, err
		}
		if sum == nil {
			sum = c
			continue
		}
		addTo(sum, c)
	}
	if sum == nil {
		return nil, errors.New("no network namespace")
	}
	return sum, nil
}

// udpSockets is that of all namespaces.
func (all namespaces) udpSockets(f econbench.Flows) (count int, err error) {
	for _, n := range all {
		more, err := n.udpSockets(f)
		if err != nil {
			return count, err
		}
		count += more
	}
	return count, nil
}

// addTo adds counters up; a counter that either lacks is left out.
func addTo(sum, more econbench.Counters) {
	for name := range sum {
		v, ok := more[name]
		if !ok {
			delete(sum, name)
			continue
		}
		sum[name] += v
	}
}

// each opens a reading for each of some processes, whose counters are added up.
func each(pids []int, open func(pid int) (econbench.Reading, error)) (econbench.Reading, error) {
	var all summed
	for _, pid := range pids {
		one, err := open(pid)
		if err != nil {
			return nil, errors.Join(err, all.Close())
		}
		all = append(all, one)
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return all, nil
}

// summed are readings of equal counters.
type summed []econbench.Reading

func (all summed) Close() error {
	var errs []error
	for _, one := range all {
		errs = append(errs, one.Close())
	}
	return errors.Join(errs...)
}

func (all summed) Read() (sum econbench.Counters, err error) {
	for _, one := range all {
		c, err := one.Read()
		switch {
		case err != nil:
			return nil, err
		case sum == nil:
			sum = c
		default:
			addTo(sum, c)
		}
	}
	return sum, nil
}
