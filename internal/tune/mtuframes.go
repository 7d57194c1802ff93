// SPDX-License-Identifier: Apache-2.0

package tune

// MTUFrames switches off every segmentation offload of a device, so that no frame it sends is larger than its MTU, as
// with a NIC without offloads. Each end of a wire wants its own.
//
// The patterns cover what this kernel knows and the device has: tx-tcp*-segmentation, tx-udp-segmentation,
// tx-udp_tnl-*, tx-generic-segmentation (which alone changes nothing measurable), tx-gso-partial, tx-gso-list and so on
// (netdev_features_strings, net/ethtool/common.c).
//
// Receive offload (GRO) is left as found, which on a veth is off. Tried on Linux 6.18, two virtual CPUs, two namespaces
// joined by a veth with RPS to the receiver's CPU, iperf3 with one stream and a 1-byte TCP ping-pong, programs pinned,
// cpu_dma_latency 0, MTU-sized frames, runs of 2 s; medians of 6 runs (CPU: of 3), ranges elsewhere. Others worked on the
// machine: ping-pongs of 24k–29k, which came with GRO off in some noisy runs, are left out.
//
//	path   GRO       Gbit/s        sender's CPU  receiver's CPU  frames dropped per million   ping-pong 1/s
//	host   off       14.4          0.70          0.90            15–63 (receiver's backlog)   87k–107k
//	host   on        14.4          0.97          0.79            3–330 (veth's ring)          90k–104k
//	host   threaded  7–17          0.81          0.82            6,200–9,300 (ring)           500, 90k, 92k
//	vxlan  off       12.0          0.64          0.83            3–85                         89k–96k
//	vxlan  on        12.0          0.96          0.74            2–63                         83k–86k
//	vxlan  threaded  8–16          0.83          0.90            5,100–8,800 (ring)           600, 1k, 79k
//
// Throughput is the same, as the sender is what bounds it. What differs is whose CPU does the receiver's GRO: a veth's
// NAPI runs where the frame was sent, before RPS sees it, so GRO "on" bills the receiving host's work to the sending
// one; a real NIC does it on the receiver's CPU. Threaded NAPI could be bound there, but the veth's ring of 256 frames
// (VETH_RING_SIZE, drivers/net/veth.c) then overflows. Without GRO the work lands on the right host, at 0.16 to 0.23 cores
// less in all than with it. What this model lacks is the receiver's gain from merging on the host's path; on the
// overlay's the vxlan device merges inner frames by itself (gro_cells) in any case.
func MTUFrames(device string) Tuning {
	return Tuning{Kind: KindOffloads, Device: device, Features: map[string]bool{
		"tx-*-segmentation": false,
		"tx-gso-*":          false,
	}}
}
