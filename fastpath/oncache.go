// SPDX-License-Identifier: Apache-2.0

package fastpath

//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -cflags "-O2 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-address-of-packed-member -I bpf/lib" oncache bpf/oncache.bpf.c

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/tune"
)

// Oncache is an encapsulation cache after ONCache (see bpf/oncache.bpf.c for the packets' journey): outer headers by
// destination on the way out, devices by destination on the way in, for established flows of TCP, UDP and ICMP's echo over IPv4.
//
// Eligible is data (no SYN, FIN, RST or URG; no fragment; no IP options) of a flow that the sender's own socket calls
// established (TCP) or that has been seen in both directions (UDP, echoes), sent by a socket that is bound to no device; on the way
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
func (Oncache) Topologies() []string { return overlayTopologies() }

// Lanes are the kinds that it can take.
func (Oncache) Lanes() []string { return laneKinds() }

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
	host map[string]any   // variables that all programs share
	coll *ebpf.Collection // from_wire and the maps, which the programs of each endpoint use too
}

func wire32(a netip.Addr) uint32 { b := a.As4(); return binary.NativeEndian.Uint32(b[:]) }
func addrOf(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.NativeEndian.AppendUint32(nil, n)))
}
func portOf(n uint16) uint16 {
	return binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, n))
}
func wire16(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}
func wireVNI(n uint32) uint32 {
	return binary.NativeEndian.Uint32(binary.BigEndian.AppendUint32(nil, n<<8))
}

func keyOf(a address) oncacheAddress { return oncacheAddress{Vni: wireVNI(a.vni), Ip: wire32(a.addr)} }

func (p *oncacheCache) load(h hostSide) (err error) {
	if err := checkHelpers(oncacheNeeds); err != nil {
		return err
	}
	if p.spec, err = loadOncache(); err != nil {
		return err
	}
	p.host = map[string]any{
		"wire_ifindex": uint32(h.wire), "tunnel_addr": wire32(h.underlay), "tunnel_port": wire16(h.port),
		"source_port_min": h.sourcePorts[0], "source_port_max": h.sourcePorts[1], "learning": h.learning,
	}
	p.coll, err = loadPrograms(p.spec, nil, p.host, progFromWire)
	return err
}

func (p *oncacheCache) close() {
	if p.coll != nil {
		p.coll.Close()
	}
}

func (p *oncacheCache) fromWire() *ebpf.Program { return p.coll.Programs[progFromWire] }

// forEndpoint loads programs of one container with its variables and the host's.
func (p *oncacheCache) forEndpoint(variables map[string]any, programs ...string) (*ebpf.Collection, error) {
	all := maps.Clone(p.host)
	maps.Copy(all, variables)
	shared := map[string]*ebpf.Map{}
	for _, name := range []string{"accounts", "controls", "endpoints", "flows", "peers"} {
		shared[name] = p.coll.Maps[name]
	}
	return loadPrograms(p.spec, shared, all, programs...)
}

// drop is loaded by itself: the lane that it guards has to be there before the endpoint's other programs.
func (p *oncacheCache) drop(l local, number uint32) (*ebpf.Collection, error) {
	return p.forEndpoint(map[string]any{"endpoint": number, "container_addr": wire32(l.addr)}, progDrop)
}

func (p *oncacheCache) around(l local, number uint32, lane lane) (*ebpf.Collection, error) {
	return p.forEndpoint(map[string]any{
		"endpoint": number, "lane_ifindex": uint32(lane.inside()), "container_addr": wire32(l.addr), "container_mac": l.mac,
		"container_vni": wireVNI(l.vni), "lane_mac": lane.mac(), "max_frame": uint32(l.mtu + ethernetHeader),
	}, progFromContainer, progFromLane)
}

func (p *oncacheCache) setControl(c control) error {
	return p.coll.Maps["controls"].Put(uint32(0), oncacheControl{Until: c.until, Mode: uint32(c.mode)})
}

func (p *oncacheCache) setRemote(a address, r remote, nextHop netip.Addr) error {
	return p.coll.Maps["peers"].Put(keyOf(a), oncachePeer{Host: wire32(r.host), NextHop: wire32(nextHop), Mac: r.mac})
}

func (p *oncacheCache) dropRemote(a address) error {
	return ignoreMissing(p.coll.Maps["peers"].Delete(keyOf(a)))
}

func (p *oncacheCache) setEndpoint(l local, number uint32, lane lane) error {
	d := oncacheDelivery{Endpoint: number, Ifindex: uint32(lane.into()), Mac: l.mac, LaneMac: lane.mac()}
	return p.coll.Maps["endpoints"].Put(keyOf(address{l.vni, l.addr}), d)
}

func (p *oncacheCache) dropEndpoint(l local) error {
	return ignoreMissing(p.coll.Maps["endpoints"].Delete(keyOf(address{l.vni, l.addr})))
}

func (p *oncacheCache) accounts() (cpus []account, err error) {
	if err := p.coll.Maps["accounts"].Lookup(uint32(0), &cpus); err != nil {
		return nil, fmt.Errorf("counters: %w", err)
	}
	return cpus, nil
}

// flows lists the flows that are known, about: they come and go meanwhile.
func (p *oncacheCache) flows() (list []flow, err error) {
	err = p.eachFlow(func(k oncacheFlowKey, state uint32) {
		list = append(list, flow{
			endpoint: k.Endpoint, protocol: uint8(k.Protocol), remote: addrOf(k.Remote),
			localPort: portOf(k.LocalPort), remotePort: portOf(k.RemotePort), state: flowState(state),
		})
	})
	return list, err
}

// forgetFlows forgets the flows that are known. What becomes known meanwhile may stay.
func (p *oncacheCache) forgetFlows() error {
	var all []oncacheFlowKey // first, for an iteration starts over when the key that it stands at is gone
	err := p.eachFlow(func(k oncacheFlowKey, _ uint32) { all = append(all, k) })
	for _, key := range all {
		err = errors.Join(err, ignoreMissing(p.coll.Maps["flows"].Delete(key)))
	}
	return err
}

func (p *oncacheCache) eachFlow(do func(oncacheFlowKey, uint32)) error {
	var key oncacheFlowKey
	var state uint32
	it := p.coll.Maps["flows"].Iterate()
	for it.Next(&key, &state) {
		do(key, state)
	}
	if err := it.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return fmt.Errorf("flows: %w", err)
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return err
}
