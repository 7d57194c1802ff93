// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/agentproto"
)

// OverlayConfig is what an agent has to be told to attach a fast path to an overlay network in its host: one of Docker's by its
// sandbox, another by its vxlan device. All else it finds there, or hears from the kernel.
type OverlayConfig struct {
	Sandbox  string     `json:"sandbox,omitempty"` // path in the engine's mount namespace; "": Tunnel
	Tunnel   string     `json:"tunnel,omitempty"`  // vxlan device on a bridge, in the host's own namespace
	Spaces   string     `json:"spaces,omitempty"`  // of a Tunnel: folder of the containers' namespaces, in the engine's mount namespace
	Wire     string     `json:"wire"`              // the underlay's device; "": the one that has the address
	Underlay netip.Addr `json:"underlay,omitzero"` // this host's address on it: outer address of its tunnels; of a Tunnel may be left out: the device's own
	With     string     `json:"with,omitempty"`    // the fast path's setting
	econbench.AttachOptions
}

// network names what is attached to, for people and for filters' owners.
func (c OverlayConfig) network() string {
	if c.Tunnel != "" {
		return c.Tunnel
	}
	return path.Base(c.Sandbox)
}

// spaces is the folder of the containers' namespaces. Docker keeps sandboxes beside them.
func (c OverlayConfig) spaces() string {
	if c.Tunnel != "" {
		return c.Spaces
	}
	return path.Dir(c.Sandbox)
}

// place says where the network is read, for errors.
func (c OverlayConfig) place() string {
	if c.Tunnel != "" {
		return "vxlan device " + c.Tunnel
	}
	return "sandbox " + c.Sandbox
}

// attachment is a fast path at work on hosts of a testbed, by what their agents know it by.
type attachment struct {
	ends []attachedEnd
}

type attachedEnd struct {
	host   econbench.Host
	handle int
}

var _ econbench.Counted = (*attachment)(nil)

// attachBoth attaches the fast path of that name to both hosts of a testbed, each with the configuration that it needs, or to none; atOnce:
// to both at the same time.
func attachBoth(ctx context.Context, name string, tb econbench.Testbed, atOnce bool, config func(econbench.Host) (any, error)) (a attachment, err error) {
	hosts := []econbench.Host{tb.Client().Host, tb.Server().Host}
	handles, errs := make([]int, len(hosts)), make([]error, len(hosts))
	var g errgroup.Group
	if !atOnce {
		g.SetLimit(1)
	}
	for i, h := range hosts {
		g.Go(func() error { handles[i], errs[i] = attachTo(ctx, name, h, config); return errs[i] })
	}
	failed := g.Wait() // the first that did: as a rule they fail alike, or the second by waiting in vain
	for i, h := range hosts {
		if errs[i] == nil {
			a.ends = append(a.ends, attachedEnd{h, handles[i]})
		}
	}
	if failed != nil {
		return attachment{}, errors.Join(failed, a.Close(context.WithoutCancel(ctx)))
	}
	return a, nil
}

// attachTo attaches it to one host.
func attachTo(ctx context.Context, name string, h econbench.Host, config func(econbench.Host) (any, error)) (handle int, err error) {
	cfg, err := config(h)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", h.Name(), err)
	}
	body, err := json.Marshal(cfg)
	if err != nil {
		return 0, err
	}
	var r agentproto.AttachReply
	err = h.Agent().Call(ctx, agentproto.OpAttach, agentproto.AttachArgs{Fastpath: name, Config: body}, &r)
	return r.Handle, err
}

// Handle is what the agent of a host knows the attachment by.
func (a *attachment) Handle(host string) int {
	for _, e := range a.ends {
		if e.host.Name() == host {
			return e.handle
		}
	}
	return 0
}

// Close detaches on both hosts at once. Both stand aside before, so that neither has to wait until the other knows.
func (a *attachment) Close(ctx context.Context) error {
	aside := len(a.ends) > 1
	if aside {
		soon, cancel := context.WithTimeout(ctx, time.Second) // one that is hung is no reason to let the other go on
		aside = errors.Join(a.ask(soon, agentproto.OpAside, false)...) == nil
		cancel()
	}
	errs := a.ask(ctx, agentproto.OpDetach, aside)
	for i, err := range errs {
		if errors.Is(err, agentproto.ErrGone) { // it undid all when it went, or left a journal; who met its end first has told of it
			errs[i] = nil
		}
	}
	a.ends = nil
	return errors.Join(errs...)
}

// ask has both hosts do something about what is attached there, at once.
func (a *attachment) ask(ctx context.Context, op string, aside bool) []error {
	errs := make([]error, len(a.ends))
	var all sync.WaitGroup
	for i, e := range a.ends {
		all.Go(func() {
			errs[i] = e.host.Agent().Call(ctx, op, agentproto.DetachArgs{Handle: e.handle, Aside: aside}, nil)
		})
	}
	all.Wait()
	return errs
}

// overlayAttachment is a fast path attached on both hosts of a testbed with an overlay network.
type overlayAttachment struct {
	attachment
	setting string
}

var (
	_ econbench.Carrier = (*overlayAttachment)(nil)
	_ econbench.Prover  = (*overlayAttachment)(nil)
)

// side is what was counted on one host.
type side struct {
	host string
	econbench.HostWindow
}

func sidesOf(w econbench.Window) [2]side {
	return [2]side{{econbench.ClientHost, w.Client}, {econbench.ServerHost, w.Server}}
}

// Prove wants what the settings promise.
func (a *overlayAttachment) Prove(w econbench.Window) (failures []string) {
	with := settingsOf(a.setting)
	if with.has(settingUntracked) {
		failures = proveUntracked(w)
	}
	if with.has(settingDirect) {
		failures = append(failures, proveDirect(w)...)
	}
	return failures
}

// Topologies that a fast path over an overlay can be attached to: the path of their testbeds has a vxlan device, in a sandbox of Docker's
// or in the host's own namespace.
const (
	OnDocker = "overlay"
	OnPlain  = "vxlan"
)

func overlayTopologies() []string { return []string{OnDocker, OnPlain} }

// attachOverlay attaches the fast path of that name to both hosts' ends of a network.
func attachOverlay(ctx context.Context, name string, tb econbench.Testbed, opt econbench.AttachOptions) (*overlayAttachment, error) {
	a, err := attachBoth(ctx, name, tb, true, func(h econbench.Host) (any, error) {
		devices := tb.Path().Devices[h.Name()]
		i := slices.IndexFunc(devices, func(d econbench.Device) bool { return d.Kind == "vxlan" })
		if i < 0 {
			return nil, errors.New("topology has no overlay network")
		}
		underlay, err := netip.ParseAddr(h.Facts().Underlay)
		if err != nil {
			return nil, fmt.Errorf("underlay address: %w", err)
		}
		cfg := OverlayConfig{Sandbox: devices[i].Netns, Wire: h.Facts().WireDevice, Underlay: underlay, With: opt.Setting, AttachOptions: opt}
		if cfg.Sandbox == "" {
			cfg.Tunnel, cfg.Spaces = devices[i].Name, containerOn(tb, h).Sandboxes()
		}
		return cfg, nil
	})
	if err != nil {
		return nil, err
	}
	return &overlayAttachment{a, opt.Setting}, nil
}

// containerOn is the testbed's container on a host.
func containerOn(tb econbench.Testbed, h econbench.Host) econbench.Container {
	if tb.Server().Host.Name() == h.Name() {
		return tb.Server().Container
	}
	return tb.Client().Container
}

// Path leaves the tunnel's device out of the way: it is to stay flat.
func (*overlayAttachment) Path(p econbench.Path) econbench.Path {
	around := func(role string) bool {
		for _, devices := range p.Devices {
			for _, d := range devices {
				if d.Role == role && d.Kind == "vxlan" {
					return true
				}
			}
		}
		return false
	}
	p.Through = slices.DeleteFunc(slices.Clone(p.Through), around)
	return p
}
