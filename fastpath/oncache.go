// SPDX-License-Identifier: Apache-2.0

package fastpath

//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -type account -cflags "-O2 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-address-of-packed-member -I bpf/lib" oncache bpf/oncache.bpf.c

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/tune"
)

// Oncache is an encapsulation cache after ONCache (see bpf/oncache.bpf.c for the packets' journey): outer headers by
// destination on the way out, devices by destination on the way in, for established flows of TCP and UDP over IPv4.
//
// Eligible is data (no SYN, FIN, RST or URG; no fragment; no IP options) of a flow that the sender's own socket calls
// established (TCP) or that has been seen in both directions (UDP), sent by a socket that is bound to no device; on the way
// in, data of a flow that this host's side has sent on as such. So the first packets of a flow, and those that open and close
// it, take the kernel's path, and with them whatever rules are looked up there for new flows.
type Oncache struct{}

var (
	_ econbench.Fastpath = Oncache{}
	_ econbench.Bound    = Oncache{}
)

// Name is what the user types.
func (Oncache) Name() string { return "oncache" }

// Help is one line for lists.
func (Oncache) Help() string {
	return "encapsulation cache (after ONCache): outer header and delivery device by destination, around the network's sandbox"
}

// Topologies are those that it can be attached to.
func (Oncache) Topologies() []string { return []string{"overlay"} }

// Attach attaches it on both hosts.
func (o Oncache) Attach(ctx context.Context, tb econbench.Testbed, opt econbench.AttachOptions) (econbench.Attachment, error) {
	return attachOverlay(ctx, o.Name(), tb, opt)
}

// oncacheDriver is the agent's half.
type oncacheDriver struct{ journal *tune.Journal }

func (oncacheDriver) Name() string { return Oncache{}.Name() }

func (d oncacheDriver) Attach(ctx context.Context, config json.RawMessage) (econbench.Attached, error) {
	var cfg OverlayConfig
	if err := json.Unmarshal(config, &cfg); err != nil {
		return nil, fmt.Errorf("configuration %.80q: %w", config, err)
	}
	return attachToSandbox(ctx, cfg, d.journal, &oncacheCache{})
}

// oncacheNeeds are the helpers that came last of those used, with the kernels that brought them.
var oncacheNeeds = []helperNeed{
	{asm.FnRedirectNeigh, "5.10"}, {asm.FnRedirectPeer, "5.10"}, {asm.FnKtimeGetCoarseNs, "5.11"},
}

// oncacheCache are the loaded programs and maps.
type oncacheCache struct {
	spec *ebpf.CollectionSpec
	coll *ebpf.Collection
	all  map[string]*ebpf.Map // of coll, for the programs of each endpoint
}

func wire32(a netip.Addr) uint32 { b := a.As4(); return binary.NativeEndian.Uint32(b[:]) }
func wire16(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}
func wireVNI(n uint32) uint32 {
	return binary.NativeEndian.Uint32(binary.BigEndian.AppendUint32(nil, n<<8))
}

type oncacheKey struct{ VNI, IP uint32 } // struct address

func keyOf(a address) oncacheKey { return oncacheKey{wireVNI(a.vni), wire32(a.addr)} }

func (p *oncacheCache) load(h hostSide) (err error) {
	if err := checkHelpers(oncacheNeeds); err != nil {
		return err
	}
	if p.spec, err = loadOncache(); err != nil {
		return err
	}
	err = setVariables(p.spec, map[string]any{
		"wire_ifindex": uint32(h.wire), "tunnel_addr": wire32(h.underlay), "tunnel_port": wire16(h.port),
		"source_port_min": h.sourcePorts[0], "source_port_max": h.sourcePorts[1], "learning": h.learning,
	})
	if err != nil {
		return err
	}
	common := p.spec.Copy()
	delete(common.Programs, "from_container")
	delete(common.Programs, "from_lane")
	delete(common.Programs, "drop")
	if p.coll, err = loadCollection(common, nil); err != nil {
		return err
	}
	p.all = map[string]*ebpf.Map{}
	for _, name := range []string{"accounts", "endpoints", "flows", "lease", "peers"} {
		p.all[name] = p.coll.Maps[name]
	}
	return nil
}

func (p *oncacheCache) close() {
	if p.coll != nil {
		p.coll.Close()
	}
}

func (p *oncacheCache) fromWire() *ebpf.Program { return p.coll.Programs["from_wire"] }

// drop is loaded by itself: the lane that it guards has to be there before the endpoint's other programs.
func (p *oncacheCache) drop(l local, number uint32) (*ebpf.Collection, *ebpf.Program, error) {
	spec := p.spec.Copy()
	for _, other := range []string{"from_wire", "from_container", "from_lane"} {
		delete(spec.Programs, other)
	}
	if err := setVariables(spec, map[string]any{"endpoint": number, "container_addr": wire32(l.addr)}); err != nil {
		return nil, nil, err
	}
	coll, err := loadCollection(spec, p.all)
	if err != nil {
		return nil, nil, err
	}
	return coll, coll.Programs["drop"], nil
}

func (p *oncacheCache) forEndpoint(l local, number uint32, lane lane) (*endpointPrograms, error) {
	spec := p.spec.Copy()
	delete(spec.Programs, "from_wire")
	delete(spec.Programs, "drop")
	err := setVariables(spec, map[string]any{
		"endpoint": number, "lane_ifindex": uint32(lane.inside()), "container_addr": wire32(l.addr), "container_mac": l.mac,
		"container_vni": wireVNI(l.vni), "max_frame": uint32(l.mtu + ethernetHeader),
	})
	if err != nil {
		return nil, err
	}
	coll, err := loadCollection(spec, p.all)
	if err != nil {
		return nil, err
	}
	return &endpointPrograms{coll, coll.Programs["from_container"], coll.Programs["from_lane"]}, nil
}

func (p *oncacheCache) setLease(until uint64) error {
	return p.all["lease"].Put(uint32(0), until)
}

func (p *oncacheCache) setRemote(a address, r remote, nextHop netip.Addr) error {
	return p.all["peers"].Put(keyOf(a), struct {
		Host, NextHop uint32
		MAC           [6]byte
		_             uint16
	}{Host: wire32(r.host), NextHop: wire32(nextHop), MAC: r.mac})
}

func (p *oncacheCache) dropRemote(a address) error {
	return ignoreMissing(p.all["peers"].Delete(keyOf(a)))
}

func (p *oncacheCache) setEndpoint(l local, number uint32, into int) error {
	return p.all["endpoints"].Put(keyOf(address{l.vni, l.addr}), struct {
		Endpoint, Ifindex uint32
		MAC               [6]byte
		_                 uint16
	}{Endpoint: number, Ifindex: uint32(into), MAC: l.mac})
}

func (p *oncacheCache) dropEndpoint(l local) error {
	return ignoreMissing(p.all["endpoints"].Delete(keyOf(address{l.vni, l.addr})))
}

func (p *oncacheCache) accounts() (cpus []account, err error) {
	var raw []oncacheAccount
	if err := p.all["accounts"].Lookup(uint32(0), &raw); err != nil {
		return nil, fmt.Errorf("counters: %w", err)
	}
	for _, r := range raw {
		e, i := r.Egress, r.Ingress
		cpus = append(cpus, account{
			direction{e.Seen, e.Eligible, e.Hits, e.HitBytes, e.Misses, e.Bails},
			direction{i.Seen, i.Eligible, i.Hits, i.HitBytes, i.Misses, i.Bails}, r.Refused, r.Failed,
		})
	}
	return cpus, nil
}

// flows counts the flows that are known.
func (p *oncacheCache) flows() (n int, err error) {
	var key [16]byte
	var state uint32
	for it := p.all["flows"].Iterate(); it.Next(&key, &state); n++ {
	}
	return n, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return err
}
