// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"maps"
	"slices"
	"strings"

	"github.com/econbench/econbench"
)

// OverlayStatus is what an attached fast path says of itself.
type OverlayStatus struct {
	Sandbox   string `json:"sandbox"` // "": in the host's own namespace, by its vxlan device
	Tunnel    string `json:"tunnel,omitempty"`
	Mechanism string `json:"mechanism"` // of the hook at the underlay's device
	Mode      string `json:"mode"`      // on, off, dry
	// Connections says that what opens and closes TCP connections is carried, too: no rule stands on the kernel's path.
	Connections bool               `json:"connections"`
	Containers  []ContainerStatus  `json:"containers"`
	Peers       int                `json:"peers"`     // containers on other hosts
	Flows       int                `json:"flows"`     // known
	MaxFlows    int                `json:"max_flows"` // at most so many: the least used ones give way
	MapBytes    map[string]uint64  `json:"map_bytes"` // the kernel's memory that each map takes, by its name
	Refused     map[string]string  `json:"refused"`
	Error       string             `json:"error,omitempty"` // why the caches are not kept at present
	Counters    econbench.Counters `json:"counters"`
	Items       []FlowStatus       `json:"items,omitempty"` // each flow, where asked for
}

// ContainerStatus is a container on the fast path.
type ContainerStatus struct {
	Address string `json:"address"`
	Device  string `json:"device"`
	Lane    string `json:"lane"`
	// Arrives is where what comes by the lane arrives: arrivesLane, or arrivesDevice where the container's rules ask for devices.
	Arrives string `json:"arrives"`
	// Untracked says that its name server's rules are withdrawn, with the setting "untracked"; Tracked, why its connections are tracked all the
	// same. Neither: they are as the engine left them, or it has no rules.
	Untracked bool   `json:"untracked,omitempty"`
	Tracked   string `json:"tracked,omitempty"`
	// Direct says that it has a direct way to the wire, with the setting "direct"; Indirect, why it has none all the same.
	Direct   bool   `json:"direct,omitempty"`
	Indirect string `json:"indirect,omitempty"`
}

const (
	arrivesLane   = "lane"   // on the lane's device
	arrivesDevice = "device" // on the container's own on the network
)

// Status is OverlayStatus.
func (o *overlay) Status() (any, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.known(o.status(), false)
}

// status is what the agent knows by itself.
func (o *overlay) status() OverlayStatus {
	s := OverlayStatus{Sandbox: o.cfg.Sandbox, Tunnel: o.cfg.Tunnel, Mechanism: mechanismOf(o.onWire), Mode: o.control.mode.String(), Connections: o.control.unruled, Containers: []ContainerStatus{}, Peers: len(o.remotes), MaxFlows: o.progs.room("flows"), Refused: maps.Clone(o.refused)}
	for _, e := range o.endpoints {
		c := ContainerStatus{Address: e.addr.String(), Device: e.device, Lane: e.lane.kind(), Arrives: arrivesLane, Untracked: e.names != nil && e.names.rules != nil && e.tracked == "", Tracked: e.tracked,
			Direct: e.direct.inUse(), Indirect: e.direct.indirect}
		if e.byDevice {
			c.Arrives = arrivesDevice
		}
		s.Containers = append(s.Containers, c)
	}
	if o.syncErr != nil {
		s.Error = o.syncErr.Error()
	}
	return s
}

var _ econbench.Noter = (*overlay)(nil)

// Notes say which kinds of lanes are in use, and why containers are tracked, or have no direct way, that should not be so.
func (o *overlay) Notes() map[string]string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var kinds, tracked, indirect []string
	for _, c := range o.status().Containers {
		kind := c.Lane
		if c.Arrives == arrivesDevice {
			kind += " (device)"
		}
		kinds = append(kinds, kind)
		if c.Tracked != "" {
			tracked = append(tracked, c.Address+": "+c.Tracked)
		}
		if c.Indirect != "" {
			indirect = append(indirect, c.Address+": "+c.Indirect)
		}
	}
	slices.Sort(kinds)
	notes := map[string]string{econbench.NoteLane: strings.Join(slices.Compact(kinds), ", ")}
	if len(tracked) > 0 {
		notes[econbench.NoteTracked] = strings.Join(tracked, "; ")
	}
	if len(indirect) > 0 {
		notes[econbench.NoteIndirect] = strings.Join(indirect, "; ")
	}
	return notes
}

// Items is OverlayStatus with each flow.
func (o *overlay) Items() (any, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.known(o.status(), true)
}

// known adds what the programs know and have counted.
func (o *overlay) known(s OverlayStatus, items bool) (_ OverlayStatus, err error) {
	if s.Counters, err = o.Read(); err != nil {
		return s, err
	}
	if s.MapBytes, err = o.progs.mapBytes(); err != nil {
		return s, err
	}
	flows, err := o.progs.flows()
	s.Flows = len(flows)
	if items {
		s.Items = o.itemize(flows)
	}
	return s, err
}
