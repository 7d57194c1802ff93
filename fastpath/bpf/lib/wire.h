/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What comes by the wire in a tunnel, as the tables have it: whose it is, from whom, and of which flow.
 */
#ifndef ECONBENCH_WIRE_H
#define ECONBENCH_WIRE_H

#include "flow.h"
#include "tunnel.h"

struct arrival {
	struct flow_key key;
	const struct delivery *to;
	const struct peer *from; /* NULL: nobody that is known */
	struct flow *flow;	 /* likewise */
	enum tag how;		 /* it is delivered */
};

/* Whether an encapsulated packet is for a container of ours, as far as one can tell. */
static __always_inline bool ours(const struct outer *o, const struct iphdr *ip, struct arrival *at)
{
	struct address local = {o->vxlan.vni, ip->daddr};

	at->to = bpf_map_lookup_elem(&endpoints, &local);
	return at->to && o->eth.h_proto == bpf_htons(ETH_P_IP);
}

static __always_inline bool is_syn(const struct iphdr *ip, const void *end)
{
	const struct tcphdr *tcp = (const void *)(ip + 1);

	return ip->protocol == IPPROTO_TCP && (const void *)(tcp + 1) <= end && TCP_FLAGS(tcp) & TCP_SYN;
}

/* Whether it is sound, and of a flow that this host's side established or of a connection that nothing is remembered of, with a sender
 * that lives where it came from: a reason to bail, or BAILS. That the flow was heard is noted. */
static __always_inline enum bail judge_arrival(struct __sk_buff *skb, const struct control *c, const struct outer *o, const struct iphdr *ip,
					       struct arrival *at)
{
	struct address remote = {o->vxlan.vni, ip->saddr};
	enum bail why = judge_received(skb, c, o, ip, at->to->mac);
	struct ports ports;

	if (why != BAILS)
		return why;
	ports = ports_of(ip, data_end(skb));
	at->key = (struct flow_key){o->vxlan.vni, ip->daddr, ip->saddr, ports.dest, ports.source, ip->protocol};
	at->from = bpf_map_lookup_elem(&peers, &remote);
	at->flow = is_syn(ip, data_end(skb)) ? NULL : flow_of(&at->key, at->to->endpoint);
	at->how = at->flow ? TAG_ARRIVES : TAG_PASSES;
	if (at->how == TAG_PASSES && !(c->unruled && ip->protocol == IPPROTO_TCP))
		return BAIL_FLOW;
	if (at->from && (at->from->host != o->ip.saddr || !same_mac(o->eth.h_source, at->from->mac)))
		return BAIL_SPOOFED;
	return !at->flow || heard(at->flow, at->from) ? BAILS : BAIL_FLOW;
}

#endif
