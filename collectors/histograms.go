// SPDX-License-Identifier: Apache-2.0

package collectors

//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -cflags "-O2 -Wall -Wextra -Werror -Wno-unused-parameter -I ../fastpath/bpf/lib" histograms bpf/histograms.bpf.c

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"github.com/vishvananda/netlink"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/netspace"
)

// Histograms are how long what arrives is kept waiting, counted by BPF programs in the kernel (bpf/histograms.bpf.c says what is seen):
//
//	cpu0.net_rx.0.000011264    softirqs that waited for so long, in s, and less than the next bucket's bound, from raised to begun
//	cpu0.net_tx.…              likewise
//	receive.…                  TCP segments that waited for so long, from the wire's driver until a program of the endpoint's copied them
//	reads                      segments that those programs copied, whether or not they were seen at the wire
//
// Buckets of which nothing was counted are absent. A bound is at most an eighth below the next one, and percentiles are read off as if
// what is in a bucket were spread evenly over it.
//
// It is not in every run, since each packet and each softirq then costs more (docs/measuring.md).
type Histograms struct{}

var (
	_ econbench.Collector = Histograms{}
	_ econbench.Costly    = Histograms{}
)

func (Histograms) Name() string { return "histograms" }
func (Histograms) Help() string {
	return "delays from softirq raised to begun, from the wire to a program's read, by BPF; costs time itself: with --histograms"
}

// Wanted is what --histograms says.
func (Histograms) Wanted(p econbench.Plan) bool { return p.Histograms }

// unmatched is the share of reads without a packet seen at the wire from which on a trial says so.
const unmatched = 0.9

func (Histograms) Samples(w econbench.Window) (samples []econbench.Sample, warnings []string) {
	client, server := hosts(w)
	softirq, receive, reads := histogram{}, histogram{}, 0.0
	for _, h := range []host{client, server} {
		counters := h.Counters["histograms"]
		if len(counters) == 0 {
			return nil, nil // the plan did not ask for it
		}
		for _, cpu := range h.cpus {
			softirq.add(counters, perCPU(cpu, "net_rx."))
		}
		if w.Flows.Kind != econbench.DatagramFlows { // the tool's control connection would be all there is
			receive.add(counters, "receive.")
			reads += counters["reads"]
		}
	}
	for _, of := range []struct {
		name string
		histogram
	}{{"softirq_delay", softirq}, {"receive_delay", receive}} {
		for suffix, share := range map[string]float64{"_p50": 0.5, "_p99": 0.99} {
			if v, ok := of.percentile(share); ok {
				samples = append(samples, econbench.Sample{Metric: of.name + suffix, Value: v})
			}
		}
	}
	if reads > 0 {
		matched := receive.total() / reads
		samples = append(samples, econbench.Sample{Metric: "receive_matched", Value: matched})
		if matched < 1-unmatched {
			warnings = append(warnings, fmt.Sprintf("histograms: only %.0f %% of what programs read was seen at the wire: receive_delay is of that alone", 100*matched))
		}
	}
	return samples, warnings
}

// histogram is how many fell into a bucket, by its number.
type histogram map[int]float64

// add takes counters in whose names go on with a bucket's lower bound in s.
func (h histogram) add(counters econbench.Counters, prefix string) {
	for name, n := range counters {
		if bound, ok := strings.CutPrefix(name, prefix); ok {
			if s, err := strconv.ParseFloat(bound, 64); err == nil {
				h[bucketOf(uint64(s*1e9+0.5))] += n
			}
		}
	}
}

func (h histogram) total() (sum float64) {
	for _, n := range h {
		sum += n
	}
	return sum
}

// percentile is the delay in s that so large a share is not above; false without any.
func (h histogram) percentile(share float64) (float64, bool) {
	left := share * h.total()
	for _, bucket := range slices.Sorted(maps.Keys(h)) {
		n := h[bucket]
		if n > 0 && left <= n {
			low, high := float64(boundOf(bucket)), float64(boundOf(bucket+1))
			return (low + (high-low)*left/n) / 1e9, true
		}
		left -= n
	}
	return 0, false
}

// parts are how many buckets a power of two has, as a power of two.
const parts = 3

// bucketOf is the bucket of a delay in ns, as bucket_of counts but for the last bucket, which has no upper bound there.
func bucketOf(ns uint64) int {
	log := 0
	for ns>>log > 1 {
		log++
	}
	if log < parts {
		return int(ns)
	}
	return (log-parts+1)<<parts + int(ns>>(log-parts))&(1<<parts-1)
}

// boundOf is a bucket's lower bound in ns.
func boundOf(bucket int) uint64 {
	if bucket < 1<<parts {
		return uint64(bucket)
	}
	return uint64(1<<parts+bucket&(1<<parts-1)) << (bucket>>parts - 1)
}

type histogramsReader struct{}

func (histogramsReader) Name() string { return "histograms" }

// Open attaches the programs, which count from then on.
func (histogramsReader) Open(s econbench.Scope) (_ econbench.Reading, err error) {
	r := &histogramsReading{cpus: s.CPUs}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("histograms: %w", err), r.Close())
		}
	}()
	if len(s.CPUs) == 0 {
		return nil, errors.New("no CPUs to count")
	}
	if _, err := btf.LoadKernelSpec(); err != nil {
		return nil, fmt.Errorf("kernel's types: %w: want Linux 5.10 or newer with CONFIG_DEBUG_INFO_BTF; leave --histograms away", err)
	}
	where, err := whereToLook(s)
	if err != nil {
		return nil, err
	}
	if err := r.load(where); err != nil {
		return nil, err
	}
	return r, r.attach()
}

// whereToLook finds out what the programs have to know of the host, by their variables' names. A probe's scope names neither
// container nor devices: then nothing is a packet of the host's.
func whereToLook(s econbench.Scope) (map[string]any, error) {
	own, id, err := netspace.Own()
	if err != nil {
		return nil, err
	}
	own.Close()
	where := map[string]any{"host_netns": uint32(id.Inode)}
	if s.PID != 0 {
		ns, id, err := netspace.OfProcess(s.PID)
		if err != nil {
			return nil, fmt.Errorf("network namespace of process %d: %w", s.PID, err)
		}
		ns.Close()
		where["endpoint_netns"] = uint32(id.Inode)
	}
	var wires [maxWires]int32
	count := 0
	for _, d := range s.Devices {
		if d.Role != "wire" || d.Netns != "" {
			continue
		}
		found, err := withLower(d.Name)
		if err != nil {
			return nil, fmt.Errorf("device wire (%s): %w", d.Name, err)
		}
		count += copy(wires[count:], found)
	}
	where["wires"], where["wires_count"] = wires, uint32(count)
	return where, nil
}

// maxWires is MAX_WIRES.
const maxWires = 8

// withLower are the indexes of a device of this thread's network namespace and of all that it stands upon: ports of a bond, what a VLAN
// is of. Drivers know these alone.
func withLower(name string) (indexes []int32, err error) {
	all, err := netspace.Whole(netlink.LinkList)
	if err != nil {
		return nil, err
	}
	top := slices.IndexFunc(all, func(l netlink.Link) bool { return l.Attrs().Name == name })
	if top < 0 {
		return nil, errors.New("no such device")
	}
	for next := []netlink.Link{all[top]}; len(next) > 0; {
		upper, vlan := next[0].Attrs(), next[0].Type() == "vlan"
		next = next[1:]
		if slices.Contains(indexes, int32(upper.Index)) {
			continue
		}
		indexes = append(indexes, int32(upper.Index))
		for _, l := range all {
			if a := l.Attrs(); a.MasterIndex == upper.Index || vlan && a.Index == upper.ParentIndex {
				next = append(next, l)
			}
		}
	}
	return indexes, nil
}

// arrivals are the tracepoints behind drivers, of which each driver calls one.
var arrivals = []string{"netif_rx", "napi_gro_receive_entry", "napi_gro_frags_entry", "netif_receive_skb_entry", "netif_receive_skb_list_entry"}

// progArrived is the program that each of them gets a copy of.
const progArrived = "arrived"

type histogramsReading struct {
	cpus  []int
	coll  *ebpf.Collection
	links []link.Link
}

func (r *histogramsReading) load(where map[string]any) error {
	if err := rlimit.RemoveMemlock(); err != nil { // before 5.11, and there a few pages may fit all the same
		fmt.Fprintln(os.Stderr, "histograms:", err)
	}
	spec, err := loadHistograms()
	if err != nil {
		return err
	}
	for name, value := range where {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("program's variable %s: %w", name, err)
		}
	}
	spec.Maps["cpus"].MaxEntries = uint32(slices.Max(r.cpus) + 1)
	arrived := spec.Programs[progArrived]
	delete(spec.Programs, progArrived)
	for _, tracepoint := range arrivals {
		if traced(tracepoint) {
			spec.Programs[tracepoint] = attachedTo(arrived, tracepoint)
		}
	}
	r.coll, err = ebpf.NewCollection(spec)
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("load programs: %w (CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN, are needed)", err)
	}
	if err != nil {
		return fmt.Errorf("load programs: %w", err)
	}
	for _, cpu := range r.cpus {
		if err := r.coll.Maps["cpus"].Put(uint32(cpu), &histogramsCpu{Counted: 1}); err != nil {
			return fmt.Errorf("CPU %d: %w", cpu, err)
		}
	}
	return nil
}

func (r *histogramsReading) attach() error {
	for _, name := range slices.Sorted(maps.Keys(r.coll.Programs)) {
		l, err := link.AttachTracing(link.TracingOptions{Program: r.coll.Programs[name]})
		if err != nil {
			return fmt.Errorf("attach %s: %w", name, err)
		}
		r.links = append(r.links, l)
	}
	return nil
}

// histogramNames are those of enum kind, in its order.
var histogramNames = [...]string{"net_tx", "net_rx", "receive"}

func (r *histogramsReading) Read() (econbench.Counters, error) {
	counters := econbench.Counters{"reads": 0}
	for _, cpu := range r.cpus {
		var c histogramsCpu
		if err := r.coll.Maps["cpus"].Lookup(uint32(cpu), &c); err != nil {
			return nil, fmt.Errorf("histograms: CPU %d: %w", cpu, err)
		}
		counters["reads"] += float64(c.Reads)
		for kind, buckets := range c.Counts {
			for bucket, n := range buckets {
				if n == 0 {
					continue
				}
				name := fmt.Sprintf("%s.%.9f", histogramNames[kind], float64(boundOf(bucket))/1e9)
				if histogramNames[kind] != "receive" {
					name = perCPU(cpu, name)
				}
				counters[name] += float64(n)
			}
		}
	}
	return counters, nil
}

// Close detaches the programs before it lets go of what they count in.
func (r *histogramsReading) Close() (err error) {
	for _, l := range slices.Backward(r.links) {
		err = errors.Join(err, l.Close())
	}
	if r.coll != nil {
		r.coll.Close()
	}
	r.links, r.coll = nil, nil
	return err
}
