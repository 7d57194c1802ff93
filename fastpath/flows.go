// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// flow is one that the programs know, as a container of this host sees it.
type flow struct {
	endpoint              uint32 // number of the container
	protocol              uint8
	remote                netip.Addr
	localPort, remotePort uint16
	state                 flowState
}

// flowState is what is known of a flow: enum of bpf/oncache.bpf.c.
type flowState uint32

func (s flowState) String() string {
	if names := [...]string{1: "sent", 2: "established", 3: "refused"}; int(s) < len(names) && s > 0 {
		return names[s]
	}
	return fmt.Sprintf("state %d", uint32(s))
}

// FlowStatus is a flow that a fast path knows.
type FlowStatus struct {
	Protocol string `json:"protocol"` // tcp, udp, icmp
	Local    string `json:"local"`    // address of the container on this host and its port, or an echo's identifier
	Remote   string `json:"remote"`
	State    string `json:"state"` // sent: by the container alone so far; established: may take the fast path; refused: for good
}

var protocols = map[uint8]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_ICMP: "icmp"}

// itemize names the flows of containers that are here; a flow outlives its container until it is the least used.
func (o *overlay) itemize(flows []flow) (list []FlowStatus) {
	local := map[uint32]netip.Addr{}
	for _, e := range o.endpoints {
		local[e.number] = e.addr
	}
	slices.SortFunc(flows, func(a, b flow) int {
		return cmp.Or(cmp.Compare(a.endpoint, b.endpoint), a.remote.Compare(b.remote), cmp.Compare(a.protocol, b.protocol),
			cmp.Compare(a.localPort, b.localPort), cmp.Compare(a.remotePort, b.remotePort))
	})
	for _, f := range flows {
		addr, here := local[f.endpoint]
		if !here {
			continue
		}
		list = append(list, FlowStatus{
			Protocol: protocols[f.protocol], Local: netip.AddrPortFrom(addr, f.localPort).String(),
			Remote: netip.AddrPortFrom(f.remote, f.remotePort).String(), State: f.state.String(),
		})
	}
	return list
}
