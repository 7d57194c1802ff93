// SPDX-License-Identifier: Apache-2.0

// Package load puts load on a server and times its answers: econbench's own client for memcached and for HTTP/1.1.
//
// In a closed loop each connection sends its next request, or its next batch, when the last one was answered. In an open loop
// requests are due at moments of a Poisson process, whatever the server does; a request whose connection is busy waits for it, and
// a latency counts from the moment that the request was due. A server that stalls is so seen by all who would have asked it
// meanwhile (no coordinated omission), where a closed loop asks nothing.
//
// It runs in the client endpoint's container as a hidden command (Main) and writes one JSON document (Report): what happened in
// each slice of wall-clock time, so that whoever reads can take exactly those inside a window. It tells what it costs itself:
// its CPU time, and how late it was in sending.
//
// It refuses to judge: what a figure means is the reader's business (workloads). It imports no part of econbench.
package load
