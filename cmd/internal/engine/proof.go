// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"slices"

	"github.com/econbench/econbench"
)

const (
	// wireRole is the role of the underlay's device, which every path goes through.
	wireRole = "wire"
	// carriedShare is the least share of the payload that a device on the path must have counted, apart from what may have
	// moved while the agent was reading.
	carriedShare = 0.98
	// flightPerFlow is how far a flow's bytes may be under way at either end of the window, in bytes: counted by a device
	// and not yet by a socket, which counts what is in order or acknowledged. At most half the payload is forgiven.
	flightPerFlow = 2 << 20
	// overhead is the most that a segment's headers, tunnel's included, or a bare acknowledgement add on the wire, in bytes.
	overhead = 200
	// surplus is the share of the payload that retransmissions and other traffic may add to the wire's count.
	surplus = 0.05
	// idle is the share of the wire's bytes that a device off the path may count and still be called flat.
	idle = 0.01
	// chatter is what neighbour discovery, gossip and the like may cost in one window, in bytes.
	chatter = 64 << 10
	// fewestACKs is how many pure acknowledgements are worth looking for.
	fewestACKs = 10
	// ackFrames is the least number of frames per pure acknowledgement. GRO merges none (a stream's 15401 were 15402 frames
	// at the vxlan device); the rest is for hardware that does.
	ackFrames = 0.5
)

// slowStatistics are drivers whose devices report counters that are refreshed about once a second, in seconds: firmware
// writes them to memory by timer, and reading them takes what is there. (drivers/net/ethernet/broadcom, Linux 6.12.)
var slowStatistics = map[string]float64{
	"bnxt_en": 1, // bnxt.h: BNXT_DEF_STATS_COAL_TICKS, 1000000 µs
	"bnx2x":   1, // bnx2x_main.c: bnx2x_timer asks for statistics, current_interval is HZ
	"tg3":     1, // tg3.h: DEFAULT_STAT_COAL_TICKS, 1000000 µs
}

// view is what the engine could see of a host.
type view struct {
	roles []string // of the devices counted there
	stale float64  // by so many seconds the wire's counters may lag
}

// views are what is counted on each host, with the doubts that come of how.
func (e *Engine) views() (views map[string]view, doubts []string) {
	views = map[string]view{}
	for _, host := range []econbench.Host{e.Lab.Client(), e.Lab.Server()} {
		driver := host.Facts().WireDriver
		v := view{stale: slowStatistics[driver]}
		for _, d := range e.watched(host.Name()) {
			v.roles = append(v.roles, d.Role)
		}
		if views[host.Name()] = v; v.stale > 0 {
			doubts = append(doubts, fmt.Sprintf("path: %s: %s refreshes the wire's counters about every %g s: what they prove is as coarse",
				host.Name(), driver, v.stale))
		}
	}
	return views, doubts
}

// prove compares, host by host and direction by direction, what the workload received and sent in the window with what
// the devices counted in the same window. Both ends are looked at, so a packet that took another way is missed somewhere.
// list is what a fast path carried by its own counters, where one does.
func prove(p econbench.Path, views map[string]view, w econbench.Window, list []econbench.Carried) *econbench.PathProof {
	proof := &econbench.PathProof{Through: p.Through, Around: []string{}, Carried: list, Failures: proveCarried(list, w)}
	for _, side := range []struct {
		host string
		econbench.HostWindow
	}{{econbench.ClientHost, w.Client}, {econbench.ServerHost, w.Server}} {
		h := witness{host: side.host, window: side.HostWindow, view: views[side.host], flows: w.Flows, through: p.Through, bypassed: bypassed(list, side.host)}
		h.devices = side.Counters["devices"]
		for _, role := range h.view.roles {
			if !slices.Contains(p.Through, role) {
				h.around = append(h.around, role)
			}
		}
		in, out, err := workOf(w, side.host)
		if err != nil {
			h.fail("%v", err)
		} else {
			h.testify(in, out)
		}
		for _, role := range h.around {
			if !slices.Contains(proof.Around, role) {
				proof.Around = append(proof.Around, role)
			}
		}
		proof.Failures = append(proof.Failures, h.failures...)
		if side.host == econbench.ServerHost {
			proof.PayloadToServer, proof.PayloadToClient = in.payload, out.payload
		}
	}
	return proof
}

// witness is one host's part of the proof.
type witness struct {
	host            string
	window          econbench.HostWindow
	view            view
	flows           econbench.Flows
	through, around []string
	bypassed        map[string]float64 // segments that a fast path left to the kernel's path, by direction
	devices         econbench.Counters
	failures        []string
}

// fail notes what does not hold, once.
func (h *witness) fail(format string, args ...any) {
	if text := h.host + ": " + fmt.Sprintf(format, args...); !slices.Contains(h.failures, text) {
		h.failures = append(h.failures, text)
	}
}

func (h *witness) testify(in, out work) {
	if h.devices == nil {
		h.fail("devices were not counted")
		return
	}
	if in.payload+out.payload == 0 {
		h.fail("no payload moved in the window")
	}
	for _, way := range []struct{ d, back work }{{in, out}, {out, in}} {
		for _, role := range h.through {
			h.onPath(role, way.d)
		}
		h.nothingElse(way.d, way.back)
	}
}

// apart is the share of the window by which the windows of the role's counters and the sockets' may differ.
func (h *witness) apart(role string) float64 {
	apart := float64(h.window.Reading)
	if role == wireRole {
		apart += h.view.stale
	}
	return apart / max(float64(h.window.Seconds), 1e-9)
}

// counted says what a device counted that has to have been counted.
func (h *witness) counted(role, counter string) (n float64, ok bool) {
	if n, ok = h.devices[role+"."+counter]; !ok {
		h.fail("%s was not counted", role)
	}
	return n, ok
}

// onPath checks that a device on the path carried what the workload sent or received: payload by its bytes; what takes a
// frame of its own by frames, since a byte or two of payload would drown in other traffic's bytes; and where there is no
// payload, acknowledgements by theirs.
func (h *witness) onPath(role string, d work) {
	bytes, ok := h.counted(role, d.name+"_bytes")
	frames, also := h.counted(role, d.name+"_packets")
	if !ok || !also {
		return
	}
	refused := h.refused(role, d)
	frames, bytes = frames+refused, bytes+refused*d.datagram
	share := max(0, carriedShare-h.apart(role))
	if least := max(0, d.payload*share-d.flight()); bytes < least {
		h.fail("%s %s %.0f B, payload accounts for at least %.0f B", role, d.name, bytes, least)
	}
	if least := d.acks * share * ackFrames; d.payload == 0 && d.acks >= fewestACKs && frames < least {
		h.fail("%s %s %.0f frames, acknowledgements account for at least %.0f", role, d.name, frames, least)
	}
	if least := d.frames * share; frames < least {
		h.fail("%s %s %.0f frames, at least %.0f were needed", role, d.name, frames, least)
	}
}

// refused is how many datagrams a device was given to send and could not: they went this way and are in no other counter.
// (A veth whose peer's backlog is full counts tx_dropped; a vxlan device above it, tx_errors: 7 % on a crowded machine.) TCP
// sends again what is lost, and needs no allowance.
func (h *witness) refused(role string, d work) float64 {
	if d.datagram == 0 || d.name != "tx" {
		return 0
	}
	return h.devices[role+".tx_dropped"] + h.devices[role+".tx_errors"]
}

// nothingElse checks that the wire carried the workload alone, and that devices off the path stayed flat. Headers are
// allowed for by the workload's segments: by the device's frames, foreign ones would pay for themselves. Acknowledgements come in
// bursts, up to one for each segment: while an agent is held up between two readings, more than their mean may pass.
func (h *witness) nothingElse(d, back work) {
	wire, ok := h.counted(wireRole, d.name+"_bytes")
	if !ok {
		return
	}
	most := (d.payload+d.lost+overhead*d.segments)*(1+surplus+h.apart(wireRole)) + chatter
	if d.name == "tx" {
		most += d.flight()
	}
	if d.payload == 0 {
		most += overhead * back.segments * h.apart(wireRole)
	}
	if wire > most {
		h.fail("wire %s %.0f B, payload accounts for at most %.0f B", d.name, wire, most)
	}
	for _, role := range h.around {
		if n, ok := h.counted(role, d.name+"_bytes"); ok && n > idle*wire+chatter+overhead*h.bypassed[d.name] {
			h.fail("%s %s %.0f B, should be flat", role, d.name, n)
		}
		h.noRequests(role, d)
	}
}
