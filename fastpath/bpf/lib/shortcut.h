/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Shortcuts: what the last look into the tables found for a flow, by CPU, so that its next packets need none. On the way out they are here;
 * those on the way in are in wire.h, and of what xmasq puts back in xmasq.bpf.c. A table of SHORTCUTS entries a CPU, as ECON's are; a
 * flow has one place in it and takes it from whoever has it.
 *
 * A shortcut holds for a term of 20 ms, and only as long as nothing has changed: neither peers and containers (the agent's generation)
 * nor what is known of flows or agreed on (voids, one for all flows of the network). So all that the tables decide is decided anew fifty
 * times a second, the lease too, and what is least used there is known. Whatever changes is changed first and voided then.
 *
 * from_container hands what it found over to from_lane in skb->cb, which survives the way between them (qdisc_skb_cb's data, which
 * neither macvlan nor netkit touch; a queueing discipline that writes there loses it), with a token: 64 random bits of this container's
 * programs, and the flow in them. A frame without it, or of another flow, is judged there from the beginning: the container may have put it into the lane by
 * itself, or, with CAP_NET_ADMIN, changed it on its way. None but a BPF program can write a token.
 *
 * Concurrency: per CPU, with softirqs off. The agent sets no term on kernels where that does not keep programs of one CPU apart (PREEMPT_RT).
 */
#ifndef ECONBENCH_SHORTCUT_H
#define ECONBENCH_SHORTCUT_H

#include "control.h"
#include "flow.h"
#include "judge.h"
#include "tag.h"

#define SHORTCUTS 1024
#define SHORTCUTS_SHIFT 54 /* of a hash of 64 bits */

const volatile __u64 shortcut_term; /* jiffies; 0: none are taken */
const volatile __u64 shortcut_token;

#define SAYS_NOTHING bpf_htons(0xff3f) /* of an outer identification: xmasq's words are in the bits left out */

/* How often what was known or agreed on has become void. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
} voids SEC(".maps");

static __always_inline __u32 *voided(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&voids, &zero);
}

static __always_inline __u32 times_voided(void)
{
	const volatile __u32 *n = voided();

	return n ? *n : 0;
}

static __always_inline void void_shortcuts(void)
{
	__u32 *n = voided();

	if (n)
		__sync_fetch_and_add(n, 1);
}

/* Forgets a flow, and all that was found for it. */
static __always_inline void forget_flow(const struct flow_key *key)
{
	if (!bpf_map_delete_elem(&flows, key))
		void_shortcuts();
}

/* What a shortcut was found under, and how long it holds. */
struct term {
	__u32 generation, voids;
	__u64 until; /* jiffies */
};

/* The term of what is about to be found: read before any table is looked into. */
static __always_inline struct term new_term(const struct control *c)
{
	return (struct term){*(const volatile __u32 *)&c->generation, times_voided(), bpf_jiffies64() + shortcut_term};
}

static __always_inline bool holds(const struct term *t, const struct control *c)
{
	return t->generation == c->generation && t->voids == times_voided() && bpf_jiffies64() < t->until;
}

struct way_out {
	struct term term;
	struct flow_key key;
	__be32 host;
	__be32 next_hop;
	__u32 word; /* of an encapsulated packet the outer identification, of another one what the other addresses make of its checksum */
	__u8 mac[ETH_ALEN];
	__u8 ttl; /* of packets that go this way; 0: any */
	__u8 masked; /* without encapsulation */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct way_out);
	__uint(max_entries, SHORTCUTS);
} ways_out SEC(".maps");

/* A flow's place in a table. */
static __always_inline __u32 place_of(const struct flow_key *key)
{
	__u64 h = ((__u64)key->local << 32 | key->remote) ^ ((__u64)key->local_port << 16 | key->remote_port) * 0x9e3779b97f4a7c15ULL ^ key->vni;

	return h * 0xbf58476d1ce4e5b9ULL >> SHORTCUTS_SHIFT;
}

static __always_inline struct way_out *way_out(const struct flow_key *key)
{
	__u32 place = place_of(key);

	return bpf_map_lookup_elem(&ways_out, &place);
}

static __always_inline bool same_flow(const struct flow_key *a, const struct flow_key *b)
{
	return a->remote == b->remote && a->local_port == b->local_port && a->remote_port == b->remote_port &&
	       a->protocol == b->protocol && a->local == b->local && a->vni == b->vni;
}

/* The way that is known of a flow's packet, or NULL. */
static __always_inline const struct way_out *known_way(struct __sk_buff *skb, const struct control *c, const struct flow_key *key, __u8 ttl)
{
	const struct way_out *way = way_out(key);
	struct ethhdr *eth = data(skb);

	if (!way || !same_flow(&way->key, key) || !holds(&way->term, c) || c->mode != MODE_ON || (way->ttl && way->ttl != ttl))
		return NULL;
	return (void *)(eth + 1) <= data_end(skb) && same_mac(eth->h_dest, way->mac) ? way : NULL;
}

/* The token's halves, with what a packet is of. */
static __always_inline __u32 token_of_ports(__be16 source, __be16 dest)
{
	return (__u32)shortcut_token ^ ((__u32)source << 16 | dest);
}

static __always_inline __u32 token_of_peer(__be32 remote, __u32 protocol, bool masked)
{
	return (__u32)(shortcut_token >> 32) ^ remote ^ protocol << 8 ^ masked;
}

/* Tells from_lane the way of a packet. */
static __always_inline void hand_over(struct __sk_buff *skb, const struct flow_key *key, __be32 host, __be32 next_hop, __u32 word, bool masked)
{
	skb->cb[0] = token_of_ports(key->local_port, key->remote_port);
	skb->cb[1] = token_of_peer(key->remote, key->protocol, masked);
	skb->cb[2] = host;
	skb->cb[3] = next_hop;
	skb->cb[4] = word;
}

/* Whether a frame is one of the container's, whole: what from_container's judgement of a packet does not say of its frame, or may have changed since. */
static __always_inline bool as_judged(const struct __sk_buff *skb, const struct ethhdr *eth, const struct iphdr *ip)
{
	return is_mac(eth->h_source, container_mac) && eth->h_proto == bpf_htons(ETH_P_IP) && *(const __u8 *)ip == 0x45 && ip->saddr == container_addr &&
	       !(ip->frag_off & bpf_htons(IP_FRAGMENT)) && bpf_ntohs(ip->tot_len) == (__u16)(skb->len - ETH_HLEN) &&
	       (skb->gso_size || skb->len <= max_frame);
}

/* Whether a frame is as from_container judged it, and its way is in skb->cb. */
static __always_inline bool handed_over(struct __sk_buff *skb, bool masked)
{
	struct ethhdr *eth = data(skb);
	struct iphdr *ip = (void *)(eth + 1);
	struct ports ports;

	if (!shortcut_term || skb->protocol != bpf_htons(ETH_P_IP) || skb->vlan_present || (void *)(ip + 1) + sizeof(struct udphdr) > data_end(skb))
		return false;
	ports = ports_of(ip, data_end(skb));
	if (skb->cb[0] != token_of_ports(ports.source, ports.dest) || skb->cb[1] != token_of_peer(ip->daddr, ip->protocol, masked))
		return false;
	return as_judged(skb, eth, ip);
}

/* Whether a frame was judged by from_container at all: it alone sets the tag. */
static __always_inline bool judged(const struct __sk_buff *skb)
{
	return skb->tc_index == tag_of(TAG_LEAVES, container_vni);
}

/* Remembers the way of a flow's packets; ttl: of those with that one alone, unless it is 0. */
static __always_inline void remember_way(const struct term *term, const struct flow_key *key, const struct peer *to, __u32 word, __u8 ttl, bool masked)
{
	struct way_out *way = shortcut_term ? way_out(key) : NULL;

	if (!way)
		return;
	*way = (struct way_out){
		.term = *term, .key = *key, .host = to->host, .next_hop = to->next_hop, .word = word, .ttl = ttl, .masked = masked,
	};
	__builtin_memcpy(way->mac, to->mac, ETH_ALEN);
}

#endif
