// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/agentproto"
)

// OverlayConfig is what an agent has to be told to attach a fast path to an overlay network in its host. All else it finds in
// the network's sandbox, or hears from the kernel.
type OverlayConfig struct {
	Sandbox  string     `json:"sandbox"`  // path in the engine's mount namespace
	Wire     string     `json:"wire"`     // the underlay's device; "": the one that has the address
	Underlay netip.Addr `json:"underlay"` // this host's address on it: outer address of its tunnels
	econbench.AttachOptions
}

// overlayAttachment is a fast path attached on both hosts of a testbed with an overlay network.
type overlayAttachment struct {
	ends []attachedEnd
}

type attachedEnd struct {
	host   econbench.Host
	handle int
}

var _ econbench.Carrier = (*overlayAttachment)(nil)

// attachOverlay attaches the fast path of that name to both hosts' sandboxes.
func attachOverlay(ctx context.Context, name string, tb econbench.Testbed, opt econbench.AttachOptions) (_ econbench.Attachment, err error) {
	a := &overlayAttachment{}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close(context.WithoutCancel(ctx)))
		}
	}()
	for _, end := range []econbench.Endpoint{tb.Client(), tb.Server()} {
		h := end.Host
		devices := tb.Path().Devices[h.Name()]
		i := slices.IndexFunc(devices, func(d econbench.Device) bool { return d.Kind == "vxlan" })
		if i < 0 {
			return nil, fmt.Errorf("%s: topology has no overlay network", h.Name())
		}
		cfg := OverlayConfig{Sandbox: devices[i].Netns, Wire: h.Facts().WireDevice, AttachOptions: opt}
		if cfg.Underlay, err = netip.ParseAddr(h.Facts().Underlay); err != nil {
			return nil, fmt.Errorf("%s: underlay address: %w", h.Name(), err)
		}
		body, err := json.Marshal(cfg)
		if err != nil {
			return nil, err
		}
		var r agentproto.AttachReply
		if err := h.Agent().Call(ctx, agentproto.OpAttach, agentproto.AttachArgs{Fastpath: name, Config: body}, &r); err != nil {
			return nil, err
		}
		a.ends = append(a.ends, attachedEnd{h, r.Handle})
	}
	return a, nil
}

// Handle is what the agent of a host knows the attachment by.
func (a *overlayAttachment) Handle(host string) int {
	for _, e := range a.ends {
		if e.host.Name() == host {
			return e.handle
		}
	}
	return 0
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

// Close detaches on both hosts, newest first.
func (a *overlayAttachment) Close(ctx context.Context) error {
	var errs []error
	for _, e := range slices.Backward(a.ends) {
		err := e.host.Agent().Call(ctx, agentproto.OpDetach, agentproto.DetachArgs{Handle: e.handle}, nil)
		if errors.Is(err, agentproto.ErrGone) {
			err = nil // it undid all when it went, or left a journal; who met its end first has told of it
		}
		errs = append(errs, err)
	}
	a.ends = nil
	return errors.Join(errs...)
}
