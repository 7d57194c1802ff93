// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/tune"
)

// cacheKind is what fast paths over an overlay differ by, as far as their caches are filled and read alike: bpf/lib has the maps
// that they share.
type cacheKind struct {
	spec    func() (*ebpf.CollectionSpec, error)
	needs   []helperNeed
	release string   // the program that hears of every socket that is closed on the machine; "": none
	inside  string   // the program at the ingress of a lane's end in its container; "": none
	counts  []string // counters that not every fast path has
	shared  string   // the map that all networks of a host share; "": none
	passes  bool     // it can carry what opens and closes connections
	// serve does for the programs what they can't, until it is closed; it is called in the host's network namespace. nil: there is nothing.
	serve func(maps map[string]*ebpf.Map, h hostSide) (io.Closer, error)
	// settle is called once the programs have been told to stand aside, before they are taken away; concerted: so have the other hosts'. nil: there is
	// nothing to wait for.
	settle func(_ *ebpf.Collection, concerted bool)
	// gone makes what says whether a value of the flows' map is of a flow that has ended by now; nil: they are taken out when they end.
	gone func(maps map[string]*ebpf.Map) (func(value []byte) bool, error)
	// tidy takes out of tables, now and then, what does not give way by itself; now is CLOCK_MONOTONIC, ns. nil: there is none.
	tidy func(maps map[string]*ebpf.Map, now uint64) error
}

// overlayDriver is the agent's half of a fast path over an overlay.
type overlayDriver struct {
	path    econbench.Fastpath
	journal *tune.Journal
	kind    func(setting string) cacheKind
}

// always is a fast path without settings.
func always(k cacheKind) func(string) cacheKind { return func(string) cacheKind { return k } }

func (d overlayDriver) Name() string { return d.path.Name() }

// Attach takes an OverlayConfig.
func (d overlayDriver) Attach(ctx context.Context, config json.RawMessage) (econbench.Attached, error) {
	var cfg OverlayConfig
	if err := json.Unmarshal(config, &cfg); err != nil {
		return nil, fmt.Errorf("configuration %.80q: %w", config, err)
	}
	return attachToSandbox(ctx, cfg, d.journal, &cache{cacheKind: d.kind(cfg.With)})
}

// overlayNeeds are the helpers that came last of those that bpf/lib uses, with the kernels that brought them.
var overlayNeeds = []helperNeed{
	{asm.FnRedirectNeigh, "5.10"}, {asm.FnRedirectPeer, "5.10"}, {asm.FnKtimeGetCoarseNs, "5.11"},
}

// cache are the loaded programs and maps of a fast path.
type cache struct {
	cacheKind
	collection *ebpf.CollectionSpec
	host       map[string]any   // variables that all programs share
	coll       *ebpf.Collection // the host's programs and the maps, which the programs of each endpoint use too
	released   io.Closer        // the program that hears of closed sockets, at work
	serving    io.Closer        // what serves them
	control    controlValue     // as the programs were last told
	tidied     uint64           // when it last was: CLOCK_MONOTONIC, ns
}

// Keys and values of the maps in bpf/lib, as bpf2go has made them for one fast path: they are the same for all (TestSharedMaps).
type (
	addressKey    = oncacheAddress
	peerValue     = oncachePeer
	deliveryValue = oncacheDelivery
	flowKey       = oncacheFlowKey
	controlValue  = oncacheControl
)

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

func keyOf(a address) addressKey { return addressKey{Vni: wireVNI(a.vni), Ip: wire32(a.addr)} }

func (p *cache) load(h hostSide) (err error) {
	if err := checkHelpers(p.needs); err != nil {
		return err
	}
	if p.collection, err = p.spec(); err != nil {
		return err
	}
	if err := sizeTables(p.collection, h.maxFlows); err != nil {
		return err
	}
	term, err := shortcutTerm()
	if err != nil {
		return err
	}
	p.host = map[string]any{
		"shortcut_term": term,
		"wire_ifindex":  uint32(h.wire), "tunnel_addr": wire32(h.underlay), "tunnel_port": wire16(h.port),
		"source_port_min": h.sourcePorts[0], "source_port_max": h.sourcePorts[1], "learning": h.learning, "direct_ways": h.direct,
	}
	p.control.Generation = 1 // 0 is that of what was never filled in
	programs := []string{progFromWire}
	if p.release != "" {
		programs = append(programs, p.release)
	}
	shared := map[string]*ebpf.Map{}
	if p.shared != "" {
		m, err := shareMap(p.collection.Maps[p.shared])
		if err != nil {
			return fmt.Errorf("map %s: %w", p.shared, err)
		}
		defer m.Close() // the collection has a descriptor of its own
		p.collection.Maps[p.shared].MaxEntries = m.MaxEntries()
		shared[p.shared] = m
	}
	if p.coll, err = loadPrograms(p.collection, shared, p.host, programs...); err != nil {
		return err
	}
	if p.release != "" {
		if p.released, err = attachToRoot(p.coll.Programs[p.release], ebpf.AttachCgroupInetSockRelease); err != nil {
			return err
		}
	}
	if p.serve != nil {
		p.serving, err = p.serve(p.coll.Maps, h)
	}
	return err
}

// attachToRoot attaches a program to the root of the machine's cgroups (v2), as far as the caller's cgroup namespace shows them.
// Where that hierarchy is mounted does not matter: a mount of its own is made, which nobody else sees.
func attachToRoot(prog *ebpf.Program, at ebpf.AttachType) (io.Closer, error) {
	root, err := cgroupRoot()
	if err != nil {
		return nil, fmt.Errorf("root of the cgroups (v2): %w", err)
	}
	defer root.Close()
	l, err := link.AttachRawLink(link.RawLinkOptions{Target: int(root.Fd()), Program: prog, Attach: at})
	if err != nil {
		return nil, fmt.Errorf("attach %s to the root of the cgroups (v2): %w", prog, err)
	}
	return l, nil
}

func cgroupRoot() (*os.File, error) {
	fs, err := unix.Fsopen("cgroup2", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, err
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "cgroup2"), nil
}

func (p *cache) close() (err error) {
	err = p.unserved()
	if p.released != nil {
		err = errors.Join(err, p.released.Close())
	}
	if p.coll != nil {
		p.coll.Close()
	}
	return err
}

// unserved ends what serves the programs.
func (p *cache) unserved() (err error) {
	if p.serving != nil {
		err = p.serving.Close()
		p.serving = nil
	}
	return err
}

func (p *cache) fromWire() *ebpf.Program { return p.coll.Programs[progFromWire] }

// stand says that programs stand aside from now on, and comes back when they may be taken away.
func (p *cache) stand(concerted bool) error {
	err := p.setControl(control{until: p.control.Until, mode: modeOff})
	unserved := p.unserved()
	if p.settle != nil && err == nil {
		p.settle(p.coll, concerted)
	}
	return errors.Join(err, unserved)
}

func (p *cache) within() string { return p.inside }

// forEndpoint loads programs of one container with its variables and the host's.
func (p *cache) forEndpoint(variables map[string]any, programs ...string) (*ebpf.Collection, error) {
	all := maps.Clone(p.host)
	maps.Copy(all, variables)
	shared := maps.Clone(p.coll.Maps)
	maps.DeleteFunc(shared, func(name string, m *ebpf.Map) bool { return name[0] == '.' }) // variables, of each program its own
	return loadPrograms(p.collection, shared, all, programs...)
}

// guards are loaded by themselves: the lane that they guard has to be there before the endpoint's other programs.
func (p *cache) guards(l local, number uint32, programs ...string) (*ebpf.Collection, error) {
	return p.forEndpoint(map[string]any{"endpoint": number, "container_addr": wire32(l.addr), "container_vni": wireVNI(l.vni)}, programs...)
}

func (p *cache) around(l local, number uint32, lane lane) (*ebpf.Collection, error) {
	programs := []string{progFromContainer, progFromLane, progToContainer, progToLane}
	if p.inside != "" {
		programs = append(programs, p.inside)
	}
	return p.forEndpoint(map[string]any{
		"shortcut_token": shortcutToken(),
		"endpoint":       number, "own_ifindex": uint32(l.ifindex), "lane_ifindex": uint32(lane.inside()), "container_addr": wire32(l.addr), "container_mac": l.mac,
		"container_vni": wireVNI(l.vni), "lane_mac": lane.mac(), "lane_kind": uint32(max(0, slices.Index(laneKinds(), lane.kind()))), "max_frame": uint32(l.mtu + ethernetHeader),
	}, programs...)
}

func (p *cache) setControl(c control) error {
	p.control.Until, p.control.Mode, p.control.Unruled = c.until, uint32(c.mode), 0
	if c.unruled && p.passes {
		p.control.Unruled = 1
	}
	return p.tell()
}

func (p *cache) tell() error { return p.coll.Maps["controls"].Put(uint32(0), p.control) }

// changed says that what is known of peers and containers is another thing than before: what flows remember of it is void. It comes
// after the change, so whoever reads the new generation reads new tables too.
func (p *cache) changed(err error) error {
	p.control.Generation++
	return errors.Join(err, p.tell())
}

func (p *cache) setRemote(a address, r remote, nextHop netip.Addr) error {
	return p.changed(p.coll.Maps["peers"].Put(keyOf(a), peerValue{Host: wire32(r.host), NextHop: wire32(nextHop), Mac: r.mac}))
}

func (p *cache) dropRemote(a address) error {
	return p.changed(ignoreMissing(p.coll.Maps["peers"].Delete(keyOf(a))))
}

func (p *cache) setEndpoint(l local, number uint32, lane lane, byDevice bool) error {
	asked, by := lane.asked()
	d := deliveryValue{Endpoint: number, Ifindex: uint32(lane.into()), AskedIfindex: uint32(asked), Mac: l.mac, LaneMac: lane.mac()}
	if byDevice {
		d.Ifindex, d.LaneMac = d.AskedIfindex, by.mac
	}
	return p.changed(p.coll.Maps["endpoints"].Put(keyOf(address{l.vni, l.addr}), d))
}

func (p *cache) dropEndpoint(l local) error {
	return p.changed(ignoreMissing(p.coll.Maps["endpoints"].Delete(keyOf(address{l.vni, l.addr}))))
}

func (p *cache) counters() (econbench.Counters, error) {
	var cpus []account
	if err := p.coll.Maps["accounts"].Lookup(uint32(0), &cpus); err != nil {
		return nil, fmt.Errorf("counters: %w", err)
	}
	return counters(cpus, p.counts), nil
}

// flows lists the flows that are known, about: they come and go meanwhile.
func (p *cache) flows() (list []flow, err error) {
	gone := func([]byte) bool { return false }
	if p.gone != nil {
		if gone, err = p.gone(p.coll.Maps); err != nil {
			return nil, fmt.Errorf("flows: %w", err)
		}
	}
	err = p.eachFlow(false, func(k flowKey, value []byte) {
		if gone(value) {
			return
		}
		list = append(list, flow{
			endpoint: binary.NativeEndian.Uint32(value[4:]), protocol: uint8(k.Protocol), remote: addrOf(k.Remote),
			localPort: portOf(k.LocalPort), remotePort: portOf(k.RemotePort), state: flowState(binary.NativeEndian.Uint32(value)),
		})
	})
	return list, err
}

// forgetFlows forgets the flows that are known. What becomes known meanwhile may stay.
func (p *cache) forgetFlows() error {
	return p.changed(p.eachFlow(true, func(flowKey, []byte) {}))
}

// eachFlow hands over struct flow, which is each fast path's own but for its beginning: state and endpoint; forget: it is taken out.
func (p *cache) eachFlow(forget bool, do func(key flowKey, value []byte)) error {
	m := p.coll.Maps["flows"]
	keys, values := make([]flowKey, batch), newValues(m, batch)
	if err := readAll(m, keys, values.Interface(), forget, func(i int) { do(keys[i], bytesOf(values, i)) }); err != nil {
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
