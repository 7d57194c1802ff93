// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"slices"

	"github.com/econbench/econbench"
)

const (
	// carried is the least share of the payload that a device on the path must have counted, apart from what may have
	// moved while the agent was reading.
	carried = 0.98
	// overhead is the most that a frame's headers, tunnel's included, or a bare acknowledgement add on the wire, in bytes.
	overhead = 200
	// surplus is the share of the payload that retransmissions and other traffic may add to the wire's count.
	surplus = 0.05
	// idle is the share of the wire's bytes that a device off the path may count and still be called flat.
	idle = 0.01
	// chatter is what neighbour discovery, gossip and the like may cost in one window, in bytes.
	chatter = 64 << 10
)

// prove compares, host by host and direction by direction, what the sockets received and sent in the window with what
// the devices counted in the same window. Both ends are looked at, so a packet that took another way is missed somewhere.
func prove(p econbench.Path, watched []string, w econbench.Window) *econbench.PathProof {
	proof := &econbench.PathProof{Through: p.Through}
	for _, role := range watched {
		if !slices.Contains(p.Through, role) {
			proof.Around = append(proof.Around, role)
		}
	}
	for _, side := range []struct {
		host string
		econbench.HostWindow
	}{{econbench.ClientHost, w.Client}, {econbench.ServerHost, w.Server}} {
		sockets, devices := side.Counters["sockets"], side.Counters["devices"]
		payload := map[string]float64{"rx": sockets["bytes_received"], "tx": sockets["bytes_acked"]}
		if side.host == econbench.ServerHost {
			proof.PayloadToServer, proof.PayloadToClient = payload["rx"], payload["tx"]
		}
		fail := func(format string, args ...any) {
			proof.Failures = append(proof.Failures, side.host+": "+fmt.Sprintf(format, args...))
		}
		if sockets == nil || devices == nil {
			fail("sockets or devices were not counted")
			continue
		}
		if payload["rx"]+payload["tx"] == 0 {
			fail("no payload moved in the window")
		}
		apart := float64(side.Reading / max(side.Seconds, 1e-9)) // share of the window by which two counters' windows may differ
		for _, dir := range []string{"rx", "tx"} {
			for _, role := range p.Through {
				through(fail, role, dir, payload[dir]*(carried-apart), devices)
			}
			wire := devices["wire."+dir+"_bytes"]
			if most := payload[dir]*(1+surplus+apart) + overhead*devices["wire."+dir+"_packets"] + chatter; wire > most {
				fail("wire %s %.0f B, payload accounts for at most %.0f B", dir, wire, most)
			}
			for _, role := range proof.Around {
				if n := devices[role+"."+dir+"_bytes"]; n > idle*wire+chatter {
					fail("%s %s %.0f B, should be flat", role, dir, n)
				}
			}
		}
		if n := w.Flows.RequestBytes; n > 0 {
			asked := map[string]float64{econbench.ServerHost: payload["rx"], econbench.ClientHost: payload["tx"]}[side.host]
			requests(fail, p.Through, (carried-apart)*asked/float64(n), devices)
		}
	}
	return proof
}

// through checks that a device on the path counted the payload, or the least of it that it must have.
func through(fail func(string, ...any), role, dir string, least float64, devices econbench.Counters) {
	n, ok := devices[role+"."+dir+"_bytes"]
	switch {
	case !ok:
		fail("%s was not counted", role)
	case n < least:
		fail("%s %s %.0f B, payload accounts for at least %.0f B", role, dir, n, least)
	}
}

// requests checks that no request or response went without a frame of its own: a byte or two of payload would drown in
// other traffic's bytes.
func requests(fail func(string, ...any), roles []string, least float64, devices econbench.Counters) {
	for _, role := range roles {
		for _, dir := range []string{"rx", "tx"} {
			if n := devices[role+"."+dir+"_packets"]; n < least {
				fail("%s %s %.0f frames, at least %.0f were needed", role, dir, n, least)
			}
		}
	}
}

// watchedRoles are the roles of all devices counted.
func (e *Engine) watchedRoles() (roles []string) {
	for _, host := range []string{econbench.ClientHost, econbench.ServerHost} {
		for _, d := range e.watched(host) {
			if !slices.Contains(roles, d.Role) {
				roles = append(roles, d.Role)
			}
		}
	}
	return roles
}
