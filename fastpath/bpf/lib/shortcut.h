/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Shortcuts on the way out: what the last look into the tables found for a flow, by CPU, so that its next packets need none. A table of
 * SHORTCUTS entries a CPU, as ECON's are; a flow has one place in it and takes it from whoever has it.
 *
 * A shortcut holds for a TERM of 20 ms, and only as long as nothing has changed: neither peers and containers (the agent's generation)
 * nor what a fast path has agreed on (voids). So all that the tables decide is decided anew fifty times a second, the lease too, and
 * what is least used there is known.
 *
 * from_container hands what it found over to from_lane in skb->cb, which survives the way between them (qdisc_skb_cb's data, which
 * neither macvlan nor netkit touch), with a token: 64 random bits of this container's programs. A frame without it is one that the
 * container put into the lane by itself, and is judged there from the beginning. Nothing but a BPF program can write that field.
 *
 * Concurrency: per CPU, with softirqs off.
 */
#ifndef ECONBENCH_SHORTCUT_H
#define ECONBENCH_SHORTCUT_H

#include "control.h"
#include "flow.h"
#include "tag.h"

#define SHORTCUTS 1024
#define SHORTCUTS_SHIFT 54 /* of a hash of 64 bits */

const volatile __u64 shortcut_term; /* TERM, in jiffies; 0: none are taken */
const volatile __u64 shortcut_token;

#define SAYS_NOTHING bpf_htons(0xff3f) /* of an outer identification: xmasq's words are in the bits left out */

struct way_out {
	struct flow_key key;
	__u32 generation;
	__u64 until; /* jiffies */
	__be32 host;
	__be32 next_hop;
	__u32 voids;
	__u32 sum; /* what the other addresses make of a checksum, of packets that go without encapsulation */
	__u8 mac[ETH_ALEN];
	__u8 ttl;
	__u8 masked;
	__u64 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct way_out);
	__uint(max_entries, SHORTCUTS);
} ways_out SEC(".maps");

/* How often what was agreed on has become void. */
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

	if (!way || !same_flow(&way->key, key) || way->generation != c->generation || way->voids != times_voided() ||
	    bpf_jiffies64() >= way->until || c->mode != MODE_ON || (way->masked && way->ttl != ttl))
		return NULL;
	return (void *)(eth + 1) <= data_end(skb) && same_mac(eth->h_dest, way->mac) ? way : NULL;
}

/* Tells from_lane what is known. */
static __always_inline void hand_over(struct __sk_buff *skb, const struct way_out *way)
{
	skb->cb[0] = shortcut_token;
	skb->cb[1] = (shortcut_token >> 32) ^ way->masked;
	skb->cb[2] = way->host;
	skb->cb[3] = way->next_hop;
	skb->cb[4] = way->sum;
}

/* The same of a packet of no flow: its peer is all that is to know. */
static __always_inline void hand_over_passing(struct __sk_buff *skb, const struct peer *to)
{
	skb->cb[0] = shortcut_token;
	skb->cb[1] = shortcut_token >> 32;
	skb->cb[2] = to->host;
	skb->cb[3] = to->next_hop;
	skb->cb[4] = bpf_get_prandom_u32() & SAYS_NOTHING;
}

/* Whether a frame has been judged, and its way is in skb->cb. */
static __always_inline bool handed_over(struct __sk_buff *skb, bool masked)
{
	if (!shortcut_term || skb->cb[0] != (__u32)shortcut_token || skb->cb[1] != (__u32)((shortcut_token >> 32) ^ masked))
		return false;
	skb->cb[0] = 0;
	return true;
}

/* What has to be the same still when a way is remembered: read before any table is looked into. */
struct basis {
	__u32 generation, voids;
	bool judged; /* by from_container, not put into the lane by whomever */
};

static __always_inline struct basis basis(const struct __sk_buff *skb, const struct control *c)
{
	return (struct basis){
		*(const volatile __u32 *)&c->generation, times_voided(), shortcut_term && skb->tc_index == tag_of(TAG_LEAVES, container_vni),
	};
}

/* Remembers the way of a flow. */
static __always_inline void remember_way(const struct basis *on, const struct flow_key *key, const struct peer *to, __u32 sum)
{
	struct way_out *way = on->judged ? way_out(key) : NULL;

	if (!way)
		return;
	*way = (struct way_out){
		.key = *key, .generation = on->generation, .until = bpf_jiffies64() + shortcut_term, .host = to->host, .next_hop = to->next_hop,
		.voids = on->voids, .sum = sum,
	};
	__builtin_memcpy(way->mac, to->mac, ETH_ALEN);
}

/* And of one that goes without encapsulation: of packets with that TTL. */
static __always_inline void remember_masked(const struct basis *on, const struct flow_key *key, const struct peer *to, __u32 sum, __u8 ttl)
{
	struct way_out *way = on->judged ? way_out(key) : NULL;

	remember_way(on, key, to, sum);
	if (way) {
		way->ttl = ttl;
		way->masked = true;
	}
}

/* Whether a frame whose way is known is the container's still: whoever has CAP_NET_ADMIN there can change frames on their way into the lane. */
static __always_inline bool of_container(struct __sk_buff *skb)
{
	struct ethhdr *eth = data(skb);
	struct iphdr *ip = (void *)(eth + 1);

	return (void *)(ip + 1) <= data_end(skb) && is_mac(eth->h_source, container_mac) && ip->saddr == container_addr && *(__u8 *)ip == 0x45;
}

#endif
