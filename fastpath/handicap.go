// SPDX-License-Identifier: Apache-2.0

package fastpath

//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -cflags "-O2 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-address-of-packed-member -I bpf/lib" handicap bpf/handicap.bpf.c

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/netspace"
)

// Handicap takes a set time off the CPU for each frame that leaves by the wire (see bpf/handicap.bpf.c): a planted effect, to see
// whether a run finds it. It carries no packets and changes no path, so it can be attached to every topology.
//
// The time is that of the whole program for one frame, as the wire's device is given it: a super-frame of segmentation offload
// is one frame. It is what the agent's CPU takes at its fastest (see pace), so with cold caches or a busy sibling thread it is
// longer, as the rest of the path is. A program that makes no turn takes some 20 ns: with less than that set a trial is
// invalid, but for 0s, which only counts.
type Handicap struct{}

var (
	_ econbench.Fastpath = Handicap{}
	_ econbench.Settable = Handicap{}
	_ econbench.Prover   = (*handicapAttachment)(nil)
)

// mostBurnt is the longest time for a frame; the program is neither interrupted by its own CPU's softirqs nor preempted meanwhile.
const mostBurnt = time.Millisecond

// Name is what the user types.
func (Handicap) Name() string { return "handicap" }

// Help is one line for lists.
func (Handicap) Help() string {
	return "slower on purpose, to see whether a run notices: burns the arm's time for each frame sent, as in overlay+handicap:250ns"
}

// CheckSetting wants a time.
func (h Handicap) CheckSetting(s string) error {
	_, err := h.time(s)
	return err
}

// time reads the setting: what each frame is to take.
func (Handicap) time(s string) (time.Duration, error) {
	if s == "" {
		return 0, errors.New("handicap: has no setting: want a time per frame, as in handicap:250ns")
	}
	d, err := time.ParseDuration(s)
	fraction := d == 0 && strings.ContainsAny(s, "123456789") // of a nanosecond
	if err != nil || fraction || d < 0 || d > mostBurnt {
		return 0, fmt.Errorf("handicap %q: want a time per frame from 0s to %v in whole nanoseconds, as in 250ns or 1us", s, mostBurnt)
	}
	return d, nil
}

// Attach attaches it on both hosts.
func (h Handicap) Attach(ctx context.Context, tb econbench.Testbed, opt econbench.AttachOptions) (econbench.Attachment, error) {
	d, err := h.time(opt.Setting)
	if err != nil {
		return nil, err
	}
	a, err := attachBoth(ctx, h.Name(), tb, false /* each finds out its CPU's pace */, func(host econbench.Host) (any, error) {
		return handicapConfig{Wire: host.Facts().WireDevice, Time: d, AttachOptions: opt}, nil
	})
	if err != nil {
		return nil, err
	}
	return &handicapAttachment{a, d}, nil
}

// handicapAttachment is a handicap on both hosts.
type handicapAttachment struct {
	attachment
	time time.Duration
}

// Counters of a handicap, beside those of each CPU: frames as the wire's device was given them, segments that they stand for,
// and the time that they took, s.
const (
	counterFrames   = "frames"
	counterSegments = "segments"
	counterBurnt    = "burnt"
)

const (
	// sentShare is the least share of what the wire's device sent that must have been held up, apart from what may have moved
	// while the agent was reading; sentAhead is how many segments may have been counted by the one and not yet by the other. Both
	// are those of the path proof.
	sentShare = 0.98
	sentAhead = 128
	// A frame's time may be off what was set by so much, as a share and in seconds: turns are whole, clocks read whole ns.
	burntShare, burntSlack = 0.1, 5e-9
)

// Prove holds the frames that were held up against those that the wire's device sent: neither path nor payload would tell that a
// handicap was not there. The device counts super-frames or what was made of them, and segments are never fewer than either.
func (a *handicapAttachment) Prove(w econbench.Window) (failures []string) {
	for _, side := range []struct {
		host string
		econbench.HostWindow
	}{{econbench.ClientHost, w.Client}, {econbench.ServerHost, w.Server}} {
		fail := func(format string, args ...any) {
			failures = append(failures, side.host+": handicap: "+fmt.Sprintf(format, args...))
		}
		own := side.Counters["fastpath"]
		sent, counted := side.Counters["devices"]["wire.tx_packets"]
		apart := float64(side.Reading) / max(float64(side.Seconds), 1e-9)
		switch least := sent*max(0, sentShare-apart) - sentAhead; {
		case !counted:
			fail("the wire's frames were not counted")
			continue
		case own[counterFrames] == 0:
			fail("held up no frame, the wire sent %.0f", sent)
			continue
		case own[counterSegments] < least:
			fail("held up %.0f segments, the wire's frames account for at least %.0f", own[counterSegments], least)
		}
		each := own[counterBurnt] / own[counterFrames]
		if want := a.time.Seconds(); a.time > 0 && math.Abs(each-want) > burntShare*want+burntSlack {
			fail("took %.0f ns a frame, want %.0f", each*1e9, want*1e9)
		}
	}
	return failures
}

// handicapConfig is what an agent has to be told.
type handicapConfig struct {
	Wire string        `json:"wire"`
	Time time.Duration `json:"time"` // ns
	econbench.AttachOptions
}

// handicapDriver is the agent's half.
type handicapDriver struct{ pace *pace }

func (handicapDriver) Name() string { return Handicap{}.Name() }

func (d handicapDriver) Attach(ctx context.Context, config json.RawMessage) (econbench.Attached, error) {
	var cfg handicapConfig
	if err := json.Unmarshal(config, &cfg); err != nil {
		return nil, fmt.Errorf("configuration %.80q: %w", config, err)
	}
	return attachHandicap(ctx, cfg, d.pace)
}

// handicapNeeds is the helper that came last of those used.
var handicapNeeds = []helperNeed{{asm.FnLoop, "5.17"}}

// progBurn is the program's name in its C.
const progBurn = "burn"

// burner is the handicap of one host.
type burner struct {
	cfg    handicapConfig
	pace   *pace
	hooks  attacher
	host   netns.NsHandle
	coll   *ebpf.Collection
	turns  uint32        // of the loop, for a frame
	each   time.Duration // what a frame takes with them
	onWire io.Closer     // nil: not attached

	stop    context.CancelFunc
	stopped chan struct{}
}

// attachHandicap attaches to the wire in the calling process's host. When it fails nothing is left.
func attachHandicap(ctx context.Context, cfg handicapConfig, p *pace) (_ econbench.Attached, err error) {
	b := &burner{cfg: cfg, pace: p, hooks: attacher{cfg.Hook, Handicap{}.Name()}, host: netns.None()}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.tearDown())
		}
	}()
	if err := b.hooks.check(); err != nil {
		return nil, err
	}
	if err := b.load(); err != nil {
		return nil, err
	}
	if b.host, _, err = netspace.Own(); err != nil {
		return nil, err
	}
	h, err := netlink.NewHandleAt(b.host, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	wire, err := h.LinkByName(cfg.Wire)
	if err != nil {
		return nil, fmt.Errorf("wire %q: %w", cfg.Wire, err)
	}
	if cfg.Without != econbench.Egress {
		at := point{b.host, wire.Attrs().Index, ebpf.AttachTCXEgress}
		if b.onWire, err = b.hooks.attach(at, b.coll.Programs[progBurn]); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	b.keep()
	return b, nil
}

// load loads the program, finds out how many turns take the time that was set, and orders them.
func (b *burner) load() (err error) {
	if err := checkHelpers(handicapNeeds); err != nil {
		return err
	}
	spec, err := loadHandicap()
	if err != nil {
		return err
	}
	if b.coll, err = loadPrograms(spec, nil, nil, progBurn); err != nil {
		return err
	}
	if err := b.pace.learn(b.measure); err != nil {
		return fmt.Errorf("measure the program: %w", err)
	}
	b.turns, b.each = b.pace.turns(b.cfg.Time)
	cpus, err := b.tallies()
	if err != nil {
		return err
	}
	clear(cpus) // of test runs' frames
	return errors.Join(b.coll.Maps["tallies"].Put(uint32(0), cpus), b.order(b.turns))
}

// order lets the program make so many turns for each frame, until the lease ends.
func (b *burner) order(turns uint32) error {
	until, err := leaseEnd()
	if err != nil {
		return err
	}
	return b.coll.Maps["orders"].Put(uint32(0), handicapOrder{Until: until, Turns: turns})
}

// measure says what the program takes for a frame with so many turns, by test runs of some 15 µs in all. They are timed in the kernel,
// in whole ns; what they need to call the program stands for what the hook needs to.
func (b *burner) measure(turns uint32) (time.Duration, error) {
	if err := b.order(turns); err != nil {
		return 0, err
	}
	frame := make([]byte, 64)
	frame[12], frame[13] = 0x88, 0xb5 // EtherType for local experiments (IEEE 802)
	_, took, err := b.coll.Programs[progBurn].Benchmark(frame, max(2, 10_000/int(turns+20)), nil)
	return took, err
}

// keep renews the order until the handicap is closed.
func (b *burner) keep() {
	ctx, stop := context.WithCancel(context.Background())
	b.stop, b.stopped = stop, make(chan struct{})
	go func() {
		defer close(b.stopped)
		clock := time.NewTicker(tick)
		defer clock.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-clock.C:
			}
			if err := b.order(b.turns); err != nil {
				fmt.Fprintln(os.Stderr, "agent: handicap:", err) // it ends with its lease unless the next one goes well
			}
		}
	}()
}

func (b *burner) tallies() (cpus []handicapTally, err error) {
	if err := b.coll.Maps["tallies"].Lookup(uint32(0), &cpus); err != nil {
		return nil, fmt.Errorf("counters: %w", err)
	}
	return cpus, nil
}

// Read reads the counters.
func (b *burner) Read() (econbench.Counters, error) {
	cpus, err := b.tallies()
	if err != nil {
		return nil, err
	}
	c := econbench.Counters{}
	for cpu, t := range cpus {
		c[counterFrames] += float64(t.Frames)
		c[counterSegments] += float64(t.Segments)
		c["turns"] += float64(t.Turns)
		c[counterBurnt] += float64(t.Frames) * b.each.Seconds()
		c[fmt.Sprintf("cpu%d.%s", cpu, counterFrames)] = float64(t.Frames)
	}
	return c, nil
}

// handicapStatus is what a handicap says of itself.
type handicapStatus struct {
	Wire      string             `json:"wire"`
	Mechanism string             `json:"mechanism"` // of the hook
	Set       econbench.Seconds  `json:"set"`       // what a frame is to take
	Each      econbench.Seconds  `json:"each"`      // what it took when measured
	Turns     uint32             `json:"turns"`     // of the loop
	Counters  econbench.Counters `json:"counters"`
}

// Status is handicapStatus.
func (b *burner) Status() (any, error) {
	s := handicapStatus{Wire: b.cfg.Wire, Mechanism: mechanismOf(b.onWire), Set: econbench.SecondsOf(b.cfg.Time), Each: econbench.SecondsOf(b.each), Turns: b.turns}
	var err error
	s.Counters, err = b.Read()
	return s, err
}

// Close detaches.
func (b *burner) Close() error {
	if b.stop != nil {
		b.stop()
		<-b.stopped
	}
	return b.tearDown()
}

func (b *burner) tearDown() error {
	var errs []error
	if b.onWire != nil {
		errs = append(errs, b.onWire.Close())
		b.onWire = nil
	}
	if b.coll != nil {
		b.coll.Close()
	}
	if b.host.IsOpen() {
		errs = append(errs, b.host.Close())
	}
	return errors.Join(errs...)
}
