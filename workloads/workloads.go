// SPDX-License-Identifier: Apache-2.0

// Package workloads holds the program pairs that put load on a path: one file a workload, named as the user types it. Those that
// suites define are in program_*.go.
//
// A workload knows a tool's command line and how to read what the tool prints. It runs both programs inside the testbed's
// containers through econbench.Container and sees no engine. It counts no work: the kernel's own counters do that, at the
// receiver and over exactly the window (collectors/sockets.go, snmp.go). What the tool itself claims is handed on as samples named
// tool_… so that the two can be checked against each other.
//
// It refuses to pin, to tune and to retry: placement is the lab's business, and a trial that failed is a failed trial.
package workloads

import "github.com/econbench/econbench"

// Samples in which a tool states its own mean rate over its whole run, start-up and warm-up included. They are no metrics:
// they are there to be compared with the kernel's counters.
const (
	ToolThroughput   = econbench.ClaimThroughput
	ToolTransactions = econbench.ClaimTransactions
	ToolOffered      = econbench.ClaimOffered
)

// All lists every workload. Adding one is a file and a line here.
func All() []econbench.Workload {
	return []econbench.Workload{
		TCPStream{},
		tcpRR,
		tcpCRR,
		UDPStream{},
		udpRR,
		Memcached{},
		Nginx{},
		NginxConn{},
		NginxH2{},
		Postgres{},
		Mice{},
	}
}
