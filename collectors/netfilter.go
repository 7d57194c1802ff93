// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"errors"
	"strings"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/netspace"
	"github.com/econbench/econbench/internal/nft"
)

// Netfilter notes which nftables' tables are in effect on IPv4 packets in the endpoint's network namespace, the engine's by
// iptables-nft included. It counts nothing: it looks once the window is over, so that it costs the window nothing.
type Netfilter struct{}

var _ econbench.Collector = Netfilter{}

func (Netfilter) Name() string { return "netfilter" }
func (Netfilter) Help() string {
	return "which nftables' tables, iptables' included, are in effect in the endpoint's network namespace"
}

// Samples has none: the note is the topologies' to judge.
func (Netfilter) Samples(econbench.Window) ([]econbench.Sample, []string) { return nil, nil }

type netfilterReader struct{}

func (netfilterReader) Name() string { return "netfilter" }

func (netfilterReader) Open(s econbench.Scope) (econbench.Reading, error) {
	return netfilterReading{pid: s.PID}, nil
}

type netfilterReading struct {
	Nothing
	pid int
}

var _ econbench.Noter = netfilterReading{}

// Notes leaves out what can't be read: a kernel without nf_tables has nothing in effect, but that is not for sure.
func (r netfilterReading) Notes() map[string]string {
	tables, err := tablesOf(r.pid)
	if err != nil {
		return nil
	}
	var names []string
	for _, t := range tables {
		if t.Hooked && !t.Dormant {
			names = append(names, t.Name)
		}
	}
	return map[string]string{econbench.NoteNetfilter: strings.Join(names, ", ")}
}

func tablesOf(pid int) (tables []nft.Table, err error) {
	ns, _, err := netspace.OfProcess(pid)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	c, err := nft.Dial(ns)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return c.Tables()
}
