/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The direct way: from a container's own device to the wire's in one step, by a device of the container's that stands upon the wire's
 * (fastpath/direct.go). What from_lane would do to a frame is done before the lane, so it is spared the lane, the device below it and a program.
 *
 * It is for packets whose way is known, to a next hop that is: all else takes the lane, and what is looked up for it there is what is known here.
 */
#ifndef ECONBENCH_DIRECT_H
#define ECONBENCH_DIRECT_H

#include "account.h"
#include "control.h"
#include "hop.h"
#include "readdress.h"
#include "shortcut.h"
#include "tunnel.h"

/* Whether there are any: without, from_container has no business in a packet, which costs each packet whose data is shared. */
const volatile bool direct_ways;

/* The device in the container; 0: it has none. The agent changes it while packets pass. */
volatile __u32 direct_ifindex;

/* How a packet gets to where it is going. */
struct onward {
	__be32 host;
	__be32 next_hop;
	__u32 word; /* as struct way_out has it */
	bool masked;
};

/* Counts a frame that goes out on the wire, and wipes what has no meaning there. */
static __always_inline void count_sent(struct __sk_buff *skb, struct account *a, __u32 len, __u32 segs)
{
	skb->mark = 0; /* as on the way out of any namespace (skb_scrub_packet()) */
	skb->priority = 0; /* as on the way through a pair (____dev_forward_skb()) */
	skb->tc_index = 0;
	skb->cb[0] = 0;
	a->egress.hits += segs;
	a->egress.hit_bytes += len;
}

static __always_inline int fail(struct account *a, __u32 segs)
{
	a->failed += segs;
	return TC_ACT_SHOT;
}

/* A packet's direct way: the device, and the next hop. */
struct direct {
	__u32 ifindex;
	const struct hop *hop; /* NULL: it takes the lane */
};

static __always_inline struct direct direct_way(const struct __sk_buff *skb, const struct control *c, const struct onward *to)
{
	const struct ethhdr *eth = data(skb);
	const struct iphdr *ip = (const void *)(eth + 1);
	struct direct way = {};

	if (!direct_ways || !learning || c->mode != MODE_ON || (const void *)(ip + 1) > data_end(skb) || !as_judged(skb, eth, ip))
		return way;
	way.ifindex = direct_ifindex;
	if (way.ifindex)
		way.hop = known_hop(to->next_hop);
	return way;
}

/* Sends an eligible packet. */
static __always_inline int send_directly(struct __sk_buff *skb, struct account *a, __u32 protocol, const struct onward *to, const struct direct *way, __u32 segs)
{
	__u32 len = skb->len;

	a->egress.eligible += segs;
	if (to->masked ? !readdress(skb, protocol, tunnel_addr, to->host, to->word, MASKED_TTL) : !encapsulate(skb, to->host, to->word))
		return fail(a, segs);
	if (!put_addresses(skb, way->hop))
		return fail(a, segs);
	if (to->masked)
		a->egress.masked += segs;
	a->egress.direct += segs;
	count_sent(skb, a, len, segs);
	return bpf_redirect(way->ifindex, 0);
}

#endif
