// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"fmt"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/econbench/econbench"
)

// What is here bounds what a fast path remembers: all of its tables have a size from when they are loaded on, and none of them grows past it.

// flowTables are those that hold something for each flow, by the names that they have in the programs' C. Not each fast path has each.
// The least used of their entries give way: what is known of a flow is learnt again with its next packets, which take the kernel's path.
var flowTables = []string{"flows", "masks", "living", "sockets"}

// sizeTables gives the tables of flows room for so many; 0: as many as their programs say.
func sizeTables(spec *ebpf.CollectionSpec, flows int) error {
	if flows < 0 || flows > econbench.MostFlows {
		return fmt.Errorf("flows to be remembered: %d: want at most %d", flows, econbench.MostFlows)
	}
	for name, m := range spec.Maps {
		if flows > 0 && slices.Contains(flowTables, name) {
			m.MaxEntries = uint32(flows)
		}
	}
	return nil
}

// room says how many entries a table has room for.
func (p *cache) room(table string) int { return int(p.collection.Maps[table].MaxEntries) }

// mapBytes is what the kernel says that each map takes of its memory, in bytes: what is preallocated, as for flows, at once and for good, what is
// not by the entries that there are. Before Linux 6.4 that is an estimate by the sizes of keys and values.
func (p *cache) mapBytes() (map[string]uint64, error) {
	all := map[string]uint64{}
	for name, m := range p.coll.Maps {
		info, err := m.Info()
		if err != nil {
			return nil, fmt.Errorf("map %s: %w", name, err)
		}
		if n, known := info.Memlock(); known {
			all[name] = n
		}
	}
	return all, nil
}

// tidy does what the kind has to, at most every so many ticks.
func (p *cache) tidy() error {
	if p.cacheKind.tidy == nil {
		return nil
	}
	now, err := monotonic()
	if err != nil || now < p.tidied+uint64(thorough*tick-tick/2) {
		return err
	}
	p.tidied = now
	return p.cacheKind.tidy(p.coll.Maps, now)
}
