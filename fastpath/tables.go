// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/econbench/econbench"
)

// What is here bounds what a fast path remembers: all of its tables have a size from when they are loaded on, and none of them grows past it.

// flowTables are those that hold something for each flow, by the names that they have in the programs' C. Not each fast path has each.
// The least used of their entries give way, but for masks (bpf/lib/agree.h): what is known of a flow is learnt again with its next packets, which take the kernel's path.
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

// batch is how many entries a table is read by at once. One by one a million took 5 s, which is as long as a lease.
const batch = 4096

// readAll reads a hash table, some entries at a time into keys and values, which are slices of the same length, and calls do with the index of each;
// remove: what is read is taken out. What comes or goes meanwhile may be missed.
func readAll[K any](m *ebpf.Map, keys []K, values any, remove bool, do func(i int)) error {
	read := m.BatchLookup
	if remove {
		read = m.BatchLookupAndDelete
	}
	var at ebpf.MapBatchCursor
	for {
		n, err := read(&at, keys, values, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) { // which says that this was the last of it
			return err
		}
		for i := range n {
			do(i)
		}
		if err != nil {
			return nil
		}
	}
}

// removeAll takes keys out of a hash table, those that are still there.
func removeAll[K any](m *ebpf.Map, keys []K) error {
	for len(keys) > 0 {
		n, err := m.BatchDelete(keys, nil)
		if err == nil {
			return nil
		}
		if !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
		keys = keys[min(n+1, len(keys)):] // the one after those n is not there
	}
	return nil
}

// newValues makes n values for a map as arrays of bytes.
func newValues(m *ebpf.Map, n int) reflect.Value {
	array := reflect.ArrayOf(int(m.ValueSize()), reflect.TypeFor[byte]())
	return reflect.MakeSlice(reflect.SliceOf(array), n, n)
}

// bytesOf is one of them.
func bytesOf(values reflect.Value, i int) []byte {
	return values.Index(i).Slice(0, values.Index(i).Len()).Bytes()
}
