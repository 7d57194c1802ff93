/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Next hops on the wire: the hardware addresses that frames to them have. The kernel is asked for them once in a term of 20 ms, a CPU and next
 * hop; bpf_redirect_neigh(), which asks for each frame, is 0.04 to 0.1 us of a packet more (docs/speed.md). Another address counts 20 ms late.
 */
#ifndef ECONBENCH_HOP_H
#define ECONBENCH_HOP_H

#include "overlay.h"
#include "shortcut.h"

/* A next hop, by CPU, with the term of shortcuts. */
struct hop {
	__u64 until; /* jiffies */
	__be32 next_hop;
	__u8 mac[ETH_ALEN], own_mac[ETH_ALEN];
	__u8 known; /* else it is for the neighbour's table to find, and its state machine */
};

#define HOPS 64

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct hop);
	__uint(max_entries, HOPS);
} hops SEC(".maps");

/* Looks a next hop up, which is done once a term: the packet for which it is done goes by the neighbour's table all the same, so that an address
 * that was not confirmed lately is asked for again. */
static __always_inline void find_hop(struct __sk_buff *skb, struct hop *hop, __be32 next_hop)
{
	struct bpf_fib_lookup at = {.family = 2 /* AF_INET */, .ifindex = wire_ifindex, .ipv4_src = tunnel_addr, .ipv4_dst = next_hop};

	hop->known = bpf_fib_lookup(skb, &at, sizeof(at), BPF_FIB_LOOKUP_OUTPUT) == BPF_FIB_LKUP_RET_SUCCESS &&
		     at.ifindex == wire_ifindex && at.ipv4_dst == next_hop;
	hop->next_hop = next_hop;
	hop->until = bpf_jiffies64() + shortcut_term;
	__builtin_memcpy(hop->mac, at.dmac, ETH_ALEN);
	__builtin_memcpy(hop->own_mac, at.smac, ETH_ALEN);
}

/* Where a next hop is kept, whosever it is at present; NULL: none are. */
static __always_inline struct hop *hop_at(__be32 next_hop)
{
	__u32 place = (bpf_ntohl(next_hop) * 0x9e3779b1U) >> 26; /* of HOPS */

	return shortcut_term ? bpf_map_lookup_elem(&hops, &place) : NULL;
}

/* What is known of a next hop now, or NULL. A program in a container has no more than that: the kernel would look in the container. */
static __always_inline const struct hop *known_hop(__be32 next_hop)
{
	const struct hop *hop = hop_at(next_hop);

	return hop && hop->known && hop->next_hop == next_hop && bpf_jiffies64() < hop->until ? hop : NULL;
}

/* Gives a frame the addresses that it needs on the wire. */
static __always_inline bool put_addresses(struct __sk_buff *skb, const struct hop *hop)
{
	struct ethhdr *eth = data(skb);

	if ((void *)(eth + 1) > data_end(skb))
		return false;
	__builtin_memcpy(eth->h_dest, hop->mac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, hop->own_mac, ETH_ALEN);
	return true;
}

/* Whether a frame has the addresses now that it needs on the wire; on the host's side. */
static __always_inline bool address_frame(struct __sk_buff *skb, __be32 next_hop)
{
	struct hop *hop = hop_at(next_hop);

	if (!hop)
		return false;
	if (bpf_jiffies64() >= hop->until) {
		find_hop(skb, hop, next_hop);
		return false;
	}
	return hop->known && hop->next_hop == next_hop && put_addresses(skb, hop);
}

#endif
