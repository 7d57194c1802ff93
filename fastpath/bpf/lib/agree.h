/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * xmasq: what the two sides of a flow say to each other, and what follows from it. xmasq.bpf.c tells the whole; it has defined struct flow.
 */
#ifndef ECONBENCH_AGREE_H
#define ECONBENCH_AGREE_H

#include "control.h"
#include "flow.h"
#include "readdress.h"
#include "shortcut.h"
#include "tunnel.h"
#include "wire.h"

/* For tests and comparisons: without it this is oncache. */
const volatile bool masquerading = true;

#define MS 1000000ULL
#define REFRESH (20 * MS)
#define LATE (50 * MS)
#define FRESH (100 * MS)
#define LATELY (200 * MS)
#define IDLE (5000 * MS)     /* a key that was not used for so long may be another flow's */
#define BLOCKED (60000 * MS) /* a wire that carries none is tried again */
#define TRUST 6
#define PROBES 5
#define ENCAP_TTL 64 /* of write_outer() */
#define LEAST_TTL (MASKED_TTL - ENCAP_TTL + 1)

#define WORDS bpf_htons(0xffc0)

/* What is said: bits 7 and 6 of the identification; below them segmentation counts, above them is a hash of the flow. */
enum {
	OFFER = 1,
	READY,
	CONFIRMED,
};

/* What is on the wire between two hosts. The maps of all networks of a host are one, by their name: a key is given once. */
struct mask_key {
	__be32 host; /* the other one */
	__be16 remote_port, local_port;
	__u32 protocol;
};

struct mask {
	__be32 vni;
	__be32 local, remote;
	__u32 endpoint;
	__u64 used_at;
	__u8 ttl;      /* to put back */
	__u8 wire_ttl; /* to arrive with */
	__u16 pad;
	__u32 pad2;
};

/* None gives way while it is in use: what the other side masquerades on our word would be lost. Who finds the table full stays encapsulated. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct mask_key);
	__type(value, struct mask);
	__uint(max_entries, 65536);
} masks SEC(".maps");

/* A hash of a flow and direction, the same on both sides. */
static __always_inline __u16 flow_tag(__be32 vni, __be32 src, __be32 dst, __be16 sport, __be16 dport, __u32 protocol)
{
	__u64 h = ((__u64)src << 32 | dst) * 0x9e3779b97f4a7c15ULL;

	h ^= h >> 29;
	h += ((__u64)sport << 48 | (__u64)dport << 32 | (vni ^ protocol));
	h *= 0xbf58476d1ce4e5b9ULL;
	return (h >> 40) & 0xff00;
}

static __always_inline bool maskable(__u32 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
}

static __always_inline struct mask_key mask_key_of(const struct flow_key *key, __be32 host)
{
	return (struct mask_key){host, key->remote_port, key->local_port, key->protocol};
}

/* Whether one packet more may go masqueraded: the other side puts them back, or it is time to try one. */
static __always_inline bool confirmed(struct flow *flow, __u64 now)
{
	if (now < flow->confirmed_at + LATELY)
		return true;
	if (now < flow->blocked_until || now < flow->probed_at + FRESH)
		return false;
	flow->probed_at = now;
	return true;
}

/* Hears that the other side is ready, and has put nothing back: that is no news of a packet that was just sent to try. */
static __always_inline void unconfirmed(struct flow *flow, __u64 now)
{
	if (!flow->probed_at || now < flow->probed_at + LATE)
		return;
	flow->probed_at = 0;
	if (++flow->probes < PROBES)
		return;
	flow->probes = 0;
	flow->blocked_until = now + BLOCKED;
}

/* What there is to say on a flow. */
static __always_inline __u8 word(const struct flow *flow, __u64 now)
{
	if (!flow->granted)
		return OFFER;
	return now < flow->restored_at + LATELY ? CONFIRMED : READY;
}

/* Whether a packet of a flow goes masqueraded: not if there is something new to say. */
static __always_inline bool masks_now(struct flow *flow, const struct control *c, __u8 ttl, __u64 now)
{
	return masquerading && c->mode == MODE_ON && flow->granted && flow->trust == TRUST && now < flow->ready_at + FRESH &&
	       now < flow->told_at + REFRESH && word(flow, now) == flow->told && ttl == flow->told_ttl && confirmed(flow, now);
}

/* What an encapsulated packet of a flow is to say, as its outer identification. */
static __always_inline __be16 say(struct flow *flow, const struct control *c, const struct flow_key *key, __u8 ttl, __u64 now)
{
	__u16 tag;

	if (!flow || !masquerading || c->mode != MODE_ON || !maskable(key->protocol))
		return bpf_get_prandom_u32();
	flow->told = word(flow, now);
	flow->told_at = now;
	flow->told_ttl = ttl;
	flow->unanswered = 0;
	tag = flow_tag(key->vni, key->local, key->remote, key->local_port, key->remote_port, key->protocol);
	return bpf_htons(tag | flow->told << 6);
}

/* Whether all that a flow's packets say is the same for a while: there is nobody who hears, or nothing comes of it. */
static __always_inline bool monotonous(const struct flow *flow, __u64 now)
{
	return flow && (!flow->trust || now < flow->blocked_until);
}

/* Whether a host's own socket may get what comes with these addresses and ports. A socket that listens takes no data of connections
 * that it has not; what it accepts begins with a SYN. */
static __always_inline bool claimed(struct __sk_buff *skb, const struct mask_key *key)
{
	struct bpf_sock_tuple tuple = {.ipv4 = {key->host, tunnel_addr, key->remote_port, key->local_port}};
	struct bpf_sock *sk;
	bool yes;

	if (key->protocol == IPPROTO_TCP)
		sk = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	else
		sk = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return false;
	yes = key->protocol == IPPROTO_UDP || sk->state != BPF_TCP_LISTEN;
	bpf_sk_release(sk);
	return yes;
}

/* Whether a flow has its key, or can be given it now. */
static __always_inline bool grant(struct __sk_buff *skb, const struct flow_key *key, __u32 number, const struct outer *o, __u8 ttl, __u64 now)
{
	struct mask_key on_wire = mask_key_of(key, o->ip.saddr);
	struct mask *has = bpf_map_lookup_elem(&masks, &on_wire);
	struct mask mask = {
		.vni = key->vni, .local = key->local, .remote = key->remote, .endpoint = number, .used_at = now,
		.ttl = ttl, .wire_ttl = o->ip.ttl + (MASKED_TTL - ENCAP_TTL),
	};
	bool changes, ours = has && has->vni == key->vni && has->local == key->local && has->remote == key->remote && has->endpoint == number;

	if (o->ip.ttl > ENCAP_TTL || !o->ip.ttl || (has && !ours && now < has->used_at + IDLE))
		return false;
	if (claimed(skb, &on_wire))
		return false; /* what is under way is still put back: the hosts' own has another TTL */
	if (ours) {
		changes = has->ttl != ttl || has->wire_ttl != mask.wire_ttl;
		has->ttl = ttl;
		has->wire_ttl = mask.wire_ttl;
		has->used_at = now;
		if (changes)
			void_shortcuts();
		return true;
	}
	if (has)
		bpf_map_delete_elem(&masks, &on_wire);
	return !bpf_map_update_elem(&masks, &on_wire, &mask, BPF_NOEXIST);
}

/* Nothing is agreed on any more. */
static __always_inline void forget(struct flow *flow)
{
	bool agreed = flow->trust;

	flow->trust = flow->granted = 0;
	flow->ready_at = flow->confirmed_at = 0;
	if (agreed)
		void_shortcuts();
}

/* Hears what an encapsulated packet of an established flow, from where it should come, says. id is in host order. */
static __always_inline void hear(struct __sk_buff *skb, struct flow *flow, const struct control *c, const struct flow_key *key,
				 const struct outer *o, __u8 ttl)
{
	__u16 id = bpf_ntohs(o->ip.id), what = (id >> 6) & 3;
	__u64 now = bpf_ktime_get_coarse_ns();
	bool granted, less;

	if (!masquerading || c->mode != MODE_ON || !maskable(key->protocol))
		return;
	if (o->udp.check || !what ||
	    (id & 0xff00) != flow_tag(key->vni, key->remote, key->local, key->remote_port, key->local_port, key->protocol)) {
		forget(flow);
		return;
	}
	if (!(id & 0x3f) && flow->trust < TRUST && ++flow->trust == 1)
		void_shortcuts(); /* from now on there is something to say */
	if (flow->trust < TRUST)
		return;
	granted = grant(skb, key, flow->endpoint, o, ttl, now);
	less = (flow->granted && !granted) || (flow->ready_at && what < READY);
	flow->granted = granted;
	flow->ready_at = what >= READY ? now : 0;
	if (less)
		void_shortcuts();
	if (what == READY)
		unconfirmed(flow, now);
	if (what == CONFIRMED) {
		flow->confirmed_at = now;
		flow->probed_at = flow->probes = 0;
	}
}

#endif
