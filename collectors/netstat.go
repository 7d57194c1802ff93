// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/econbench/econbench"
)

// Netstat is what did not go smoothly in the endpoint's network namespace: retransmissions and their reasons, segments out of
// order, what was dropped and where, by the kernel's own names (/proc/PID/net/snmp and netstat). Snmp counts work, of some kinds of
// flows; this is of all kinds.
//
// A namespace counts whatever goes on in it: the host's own also has the swarm's gossip and control connections.
type Netstat struct{}

var _ econbench.Collector = Netstat{}

// droppedPackets are the counters whose sum is drops: packets that arrived and that no program got, because they were broken or
// found a queue full. The kernel counts each in one of them. What an endpoint failed to send is not among them.
var droppedPackets = []string{
	"Ip.InHdrErrors", "Ip.InDiscards", // broken; no memory
	"Tcp.InErrs",                             // broken
	"TcpExt.TCPBacklogDrop",                  // the socket was in use, and its backlog full
	"TcpExt.TCPRcvQDrop", "TcpExt.RcvPruned", // the receive queue was full
	"TcpExt.TCPOFODrop",                            // the queue of segments out of order was full
	"TcpExt.ListenDrops", "TcpExt.TCPReqQFullDrop", // a listener's queues were full, ListenOverflows among them
	"Udp.InErrors", // broken, or the receive queue was full (RcvbufErrors)
}

func (Netstat) Name() string { return "netstat" }
func (Netstat) Help() string {
	return "retransmissions, segments out of order and drops in the endpoints' network namespaces (/proc/PID/net/snmp, netstat)"
}

func (Netstat) Samples(w econbench.Window) (samples []econbench.Sample, warnings []string) {
	client, server := hosts(w)
	if w.Flows.Kind != econbench.DatagramFlows {
		atClient, ok := client.rate("netstat", "TcpExt.TCPOFOQueue")
		atServer, also := server.rate("netstat", "TcpExt.TCPOFOQueue")
		if ok && also {
			samples = append(samples, econbench.Sample{Metric: "out_of_order", Value: atClient + atServer})
		}
	}
	var drops float64
	for _, h := range []host{client, server} {
		if len(h.Counters["netstat"]) == 0 || h.Seconds <= 0 {
			return samples, nil
		}
		for _, name := range droppedPackets {
			rate, _ := h.rate("netstat", name) // what this kernel has not it can't have dropped
			drops += rate
		}
		if backlog, ok := h.sumCPUs("softnet", "dropped"); ok { // the CPU's own queue, before any namespace
			drops += backlog / float64(h.Seconds)
		}
		if n := h.Counters["netstat"]["TcpExt.TCPTimeouts"]; n > 0 {
			warnings = append(warnings, fmt.Sprintf("netstat: %s: %.0f TCP timers ran out in the endpoint's namespace: a flow stood still for 200 ms or more", h.name, n))
		}
	}
	return append(samples, econbench.Sample{Metric: "drops", Value: drops}), warnings
}

// troubles are the counters that are kept, by file. What a kernel does not have is left out.
var troubles = map[string][]string{
	"snmp": {
		"Ip.InHdrErrors", "Ip.InAddrErrors", "Ip.InDiscards", "Ip.OutDiscards", "Ip.OutNoRoutes", "Ip.ReasmFails", "Ip.FragCreates",
		"Tcp.RetransSegs", "Tcp.InErrs", "Tcp.AttemptFails", "Tcp.EstabResets", "Tcp.OutRsts", "Tcp.InCsumErrors",
		"Udp.NoPorts", "Udp.InErrors", "Udp.RcvbufErrors", "Udp.SndbufErrors", "Udp.InCsumErrors", "Udp.MemErrors",
	},
	"netstat": {
		"IpExt.InNoRoutes", "IpExt.InTruncatedPkts", "IpExt.InCsumErrors", "IpExt.InCEPkts",
		"TcpExt.TCPOFOQueue", "TcpExt.TCPOFODrop", "TcpExt.TCPOFOMerge", "TcpExt.OfoPruned",
		"TcpExt.TCPTimeouts", "TcpExt.TCPLossProbes", "TcpExt.TCPFastRetrans", "TcpExt.TCPSlowStartRetrans", "TcpExt.TCPLostRetransmit",
		"TcpExt.TCPSynRetrans", "TcpExt.TCPRetransFail", "TcpExt.TCPSackRecovery", "TcpExt.TCPSACKReorder", "TcpExt.TCPTSReorder",
		"TcpExt.TCPDSACKRecv", "TcpExt.TCPDSACKOldSent", "TcpExt.TCPSpuriousRTOs", "TcpExt.TCPAbortOnTimeout",
		"TcpExt.ListenOverflows", "TcpExt.ListenDrops", "TcpExt.TCPReqQFullDrop", "TcpExt.TCPBacklogDrop", "TcpExt.TCPRcvQDrop",
		"TcpExt.PruneCalled", "TcpExt.RcvPruned", "TcpExt.TCPRcvCollapsed", "TcpExt.TCPMemoryPressures", "TcpExt.TCPToZeroWindowAdv",
	},
}

type netstatReader struct{ proc string }

func (netstatReader) Name() string { return "netstat" }

func (r netstatReader) Open(s econbench.Scope) (econbench.Reading, error) {
	reading := netstatReading{}
	for file, names := range troubles {
		wanted := wantedCounters{}
		for _, counter := range names {
			protocol, name, _ := strings.Cut(counter, ".")
			if wanted[protocol] == nil {
				wanted[protocol] = map[string]string{}
			}
			wanted[protocol][name] = counter
		}
		reading[filepath.Join(r.proc, strconv.Itoa(s.PID), "net", file)] = wanted
	}
	_, err := reading.Read()
	return reading, err
}

// netstatReading are the counters that are wanted of each file.
type netstatReading map[string]wantedCounters

// wantedCounters are counters by protocol and name.
type wantedCounters map[string]map[string]string

func (netstatReading) Close() error { return nil }

func (r netstatReading) Read() (econbench.Counters, error) {
	counters := econbench.Counters{}
	for name, wanted := range r {
		b, err := os.ReadFile(name)
		if err == nil {
			err = parseNetCounters(b, wanted, counters)
		}
		if err != nil {
			return nil, fmt.Errorf("netstat: %s: %w", name, err)
		}
	}
	return counters, nil
}

// parseNetCounters reads pairs of lines, "Tcp: NAME NAME" and "Tcp: 1 2", and keeps what is wanted. prometheus/procfs, which reads
// them for Snmp, gives nothing for TCPBacklogDrop and MemErrors.
func parseNetCounters(b []byte, wanted wantedCounters, to econbench.Counters) error {
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	if len(lines)%2 != 0 {
		return fmt.Errorf("%d lines: want pairs of names and values", len(lines))
	}
	for i := 0; i < len(lines); i += 2 {
		names, values := bytes.Fields(lines[i]), bytes.Fields(lines[i+1])
		if len(names) == 0 || len(names) != len(values) || !bytes.Equal(names[0], values[0]) || !bytes.HasSuffix(names[0], []byte(":")) {
			return fmt.Errorf("line %q: is not the values of line %q", lines[i+1], lines[i])
		}
		protocol := wanted[string(bytes.TrimSuffix(names[0], []byte(":")))]
		for at, name := range names[1:] {
			counter, ok := protocol[string(name)]
			if !ok {
				continue
			}
			n, err := strconv.ParseUint(string(values[at+1]), 10, 64)
			if err != nil {
				return fmt.Errorf("%s: %w", counter, err)
			}
			to[counter] = float64(n)
		}
	}
	return nil
}
