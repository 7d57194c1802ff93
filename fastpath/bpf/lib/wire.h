/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What comes by the wire in a tunnel, as the tables have it: whose it is, from whom, and of which flow.
 */
#ifndef ECONBENCH_WIRE_H
#define ECONBENCH_WIRE_H

#include "flow.h"
#include "shortcut.h"
#include "tunnel.h"

struct arrival {
	struct flow_key key;
	const struct delivery *to;
	const struct peer *from; /* NULL: nobody that is known */
	struct flow *flow;	 /* likewise */
	enum tag how;		 /* it is delivered */
};

/* The device by which it gets to its container. */
static __always_inline __u32 door(const struct arrival *at)
{
	return at->how == TAG_PASSES ? at->to->asked_ifindex : at->to->ifindex;
}

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
	if (expired(c))
		return BAIL_EXPIRED;
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

/* What encapsulated packets may say to each other's hosts besides: zero where nobody listens. */
struct words {
	__be16 id; /* of the outer header, as far as it says something */
	__u8 outer_ttl, inner_ttl;
	__u32 pad;
};

static __always_inline bool same_words(const struct words *a, const struct words *b)
{
	return a->id == b->id && a->outer_ttl == b->outer_ttl && a->inner_ttl == b->inner_ttl;
}

/* Shortcuts on the way in: what the last look found for an established flow, by CPU, with the terms of those on the way out. */
struct way_home {
	struct term term;
	struct flow_key key;
	__be32 host; /* the sender's, and */
	__u8 peer_mac[ETH_ALEN];
	__u8 mac[ETH_ALEN]; /* of the container */
	__u32 ifindex;
	struct words words;
	__u32 packets; /* that went this way, by whoever counts them */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct way_home);
	__uint(max_entries, SHORTCUTS);
} ways_home SEC(".maps");

/* A flow's place. */
static __always_inline struct way_home *way_home(const struct flow_key *key)
{
	__u32 place = place_of(key);

	return bpf_map_lookup_elem(&ways_home, &place);
}

/* The way of a packet whose flow was delivered lately and that says nothing new, or NULL. A SYN is never of a flow that is known. */
static __always_inline struct way_home *known_home(struct __sk_buff *skb, const struct control *c, const struct outer *o,
							 const struct iphdr *ip, const struct words *says)
{
	struct ports ports = ports_of(ip, data_end(skb));
	struct flow_key key = {o->vxlan.vni, ip->daddr, ip->saddr, ports.dest, ports.source, ip->protocol};
	struct way_home *way = way_home(&key);

	if (!way || !same_flow(&way->key, &key) || !holds(&way->term, c) || !same_words(&way->words, says) || o->udp.check || o->eth.h_proto != bpf_htons(ETH_P_IP) || is_syn(ip, data_end(skb)))
		return NULL;
	return way;
}

/* How many packets of a flow went the way that was known last; they are told once. */
static __always_inline __u32 take_packets_home(const struct flow_key *key)
{
	struct way_home *way = way_home(key);
	__u32 packets = 0;

	if (way && same_flow(&way->key, key)) {
		packets = way->packets;
		way->packets = 0;
	}
	return packets;
}

/* Delivers it, or leaves it to the kernel's path. */
static __always_inline int deliver_home(struct __sk_buff *skb, struct account *a, const struct control *c, const struct outer *o,
					const struct iphdr *ip, const struct way_home *way, __u32 segs)
{
	enum bail why = judge_received(skb, c, o, ip, way->mac);

	a->ingress.seen += segs;
	if (why == BAILS && (way->host != o->ip.saddr || !same_mac(o->eth.h_source, way->peer_mac)))
		why = BAIL_SPOOFED;
	if (why == BAILS)
		why = judge_carried(skb, o, way->key.protocol);
	if (why != BAILS)
		return bail(&a->ingress, why, segs);
	return deliver(skb, &a->ingress, c, o, way->ifindex, TAG_ARRIVES, true, segs);
}

/* Remembers the way of packets of an established flow, whose sender is known, that say the same. */
static __always_inline void remember_home(const struct term *term, const struct flow_key *key, __u32 ifindex, const __u8 *mac, __be32 host,
					  const __u8 *peer_mac, const struct words *says)
{
	struct way_home *way = shortcut_term ? way_home(key) : NULL;

	if (!way)
		return;
	*way = (struct way_home){
		.term = *term, .key = *key, .host = host, .ifindex = ifindex, .words = *says,
	};
	__builtin_memcpy(way->mac, mac, ETH_ALEN);
	__builtin_memcpy(way->peer_mac, peer_mac, ETH_ALEN);
}

/* The same of a packet that was judged; of one that is of no flow there is nothing to remember. */
static __always_inline void remember_arrival(const struct term *term, const struct arrival *at, const struct words *says)
{
	if (at->how == TAG_ARRIVES && at->from)
		remember_home(term, &at->key, at->to->ifindex, at->to->mac, at->from->host, at->from->mac, says);
}

#endif
