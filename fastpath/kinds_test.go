// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"maps"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
)

// fastKind is a fast path over an overlay, as tests that hold for each of them take it.
type fastKind struct {
	name string
	cacheKind
	with string // settings that its agent is told of
}

// fastKinds are all of them, with their settings.
func fastKinds() []fastKind {
	return []fastKind{
		{"oncache", oncacheKind, ""}, {"econ", econKind, ""}, {"econ:" + econSockets, econOf(econSockets), ""}, {"xmasq", xmasqKind, ""},
		{"xmasq:" + settingDirect, xmasqKind, settingDirect},
	}
}

// eachKind runs a test for each of them.
func eachKind(t *testing.T, test func(*testing.T, fastKind)) {
	for _, k := range fastKinds() {
		t.Run(k.name, func(t *testing.T) { test(t, k) })
	}
}

// TestSharedMaps holds the maps that cache.go fills for every fast path against those whose types it took.
func TestSharedMaps(t *testing.T) {
	want, err := oncacheKind.spec()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range fastKinds() {
		spec, err := k.spec()
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range slices.Sorted(maps.Keys(want.Maps)) {
			if name[0] == '.' {
				continue
			}
			a, b := want.Maps[name], spec.Maps[name]
			if b == nil {
				t.Errorf("%s: no map %s", k.name, name)
				continue
			}
			if a.Type != b.Type || a.KeySize != b.KeySize || name != "flows" && a.ValueSize != b.ValueSize {
				t.Errorf("%s: map %s: %v, want %v", k.name, name, shape(b), shape(a))
			}
		}
	}
}

func shape(m *ebpf.MapSpec) []any { return []any{m.Type, m.KeySize, m.ValueSize} }
