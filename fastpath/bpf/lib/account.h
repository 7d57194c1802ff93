/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What every fast path counts, in segments, per CPU and direction. Nothing is counted twice: of the packets that an
 * endpoint's device sees in a direction,
 *
 *	seen = hits + misses + dry + the sum of bails + those lost after the decision (refused and failed; egress alone)
 *	eligible = hits + misses + dry + lost
 */
#ifndef ECONBENCH_ACCOUNT_H
#define ECONBENCH_ACCOUNT_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* Why a packet is left to the kernel's path. fastpath/account.go has their names in the same order. */
enum bail {
	BAIL_PROTOCOL,	  /* not IPv4, or none of TCP, UDP and ICMP's echo */
	BAIL_OPTIONS,	  /* IP options */
	BAIL_FRAGMENT,	  /* a fragment */
	BAIL_CHECKSUM,	  /* that of the IPv4 header does not hold: bridges drop such a packet (br_netfilter) */
	BAIL_FLAGS,	  /* TCP's URG, or SYN, FIN, RST where rules stand on the kernel's path */
	BAIL_LENGTH,	  /* truncated, or lengths that contradict each other */
	BAIL_SOCKET,	  /* no full socket of this container sent it, or one whose ports are others: a tunnel, a raw socket */
	BAIL_BOUND,	  /* the socket is bound to a device, and the lane is another one */
	BAIL_FLOW,	  /* the flow is not established, or not known to be */
	BAIL_ADDRESS,	  /* hardware address of somebody else */
	BAIL_OUTER,	  /* outer header that the kernel should judge: checksums, congestion experienced, reserved bits */
	BAIL_SPOOFED,	  /* inner source does not live at the outer source */
	BAIL_SUPERFRAME,  /* UDP datagrams in one frame: once decapsulated the kernel could not take them apart */
	BAIL_EXPIRED,	  /* the agent has not been heard of, so what is cached may be stale */
	BAILS
};

struct direction {
	__u64 seen;
	__u64 eligible;
	__u64 hits;
	__u64 hit_bytes; /* of frames without encapsulation */
	__u64 misses;	 /* eligible, but the cache has no entry that serves them */
	__u64 dry;	 /* would have been hits: MODE_DRY */
	__u64 masked;	 /* of the hits: without encapsulation, under the hosts' addresses */
	__u64 direct;	 /* of the hits: by the direct way (egress alone) */
	__u64 bails[BAILS];
};

/* One CPU's counts. Programs of one CPU do not interrupt each other between the read and the write of a counter but for
 * softirqs over process context: the transmit hooks run with softirqs disabled, the receive hook in one. */
struct account {
	struct direction egress, ingress;
	__u64 refused; /* frames that came out of a lane and that its container may not send this way */
	__u64 failed;  /* frames that could not be encapsulated */
	__u64 assigned; /* of the ingress hits: given their socket */
	__u64 answers; /* that the agent was told to send for containers */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct account);
	__uint(max_entries, 1);
} accounts SEC(".maps");

static __always_inline struct account *account(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&accounts, &zero);
}

#endif
