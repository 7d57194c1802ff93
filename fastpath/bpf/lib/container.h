/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Egress of a container's own device: which packets leave by the lane.
 */
#ifndef ECONBENCH_CONTAINER_H
#define ECONBENCH_CONTAINER_H

#include "account.h"
#include "control.h"
#include "direct.h"
#include "flow.h"
#include "judge.h"
#include "shortcut.h"
#include "tag.h"

/* A packet that the container sends. */
struct sent {
	struct flow_key key;
	__u8 ttl;
	bool passing; /* it opens or closes a connection, or belongs to one that nothing is remembered of: its destination alone matters */
};

/* Whether it may take the lane: a reason to bail, or BAILS. */
static __always_inline enum bail judge_sent(struct __sk_buff *skb, const struct control *c, struct sent *p)
{
	struct ports ports;
	struct iphdr *ip;
	enum bail why;

	if (skb->protocol != bpf_htons(ETH_P_IP) || skb->vlan_present)
		return BAIL_PROTOCOL;
	if (!linear(skb, ETH_HLEN + sizeof(*ip) + sizeof(struct udphdr)))
		return BAIL_LENGTH;
	ip = data(skb) + ETH_HLEN;
	if ((void *)(ip + 1) + sizeof(struct udphdr) > data_end(skb))
		return BAIL_LENGTH;
	ports = ports_of(ip, data_end(skb));
	p->key = (struct flow_key){container_vni, container_addr, ip->daddr, ports.source, ports.dest, ip->protocol};
	p->ttl = ip->ttl;
	why = judge(ip, data_end(skb));
	p->passing = why == BAIL_FLAGS && passes(c, ip);
	if (why == BAIL_FLAGS && TCP_FLAGS(ip + 1) & TCP_SYN)
		forget_flow(&p->key); /* another connection: its socket may be bound where the last one's was not */
	if (why != BAILS && !p->passing)
		return why;
	if (ip->saddr != container_addr)
		return BAIL_ADDRESS;
	if (skb->gso_size == 0 && skb->len > max_frame)
		return BAIL_LENGTH;
	why = p->passing ? BAIL_FLOW : ask_socket(skb, ip->protocol, ports);
	if (c->unruled && p->key.protocol == IPPROTO_TCP && (why == BAIL_FLOW || why == BAIL_SOCKET)) {
		p->passing = true;
		why = ask_connection(skb, ports);
	}
	if (why == BAIL_BOUND)
		forget_flow(&p->key);
	return why;
}

/* Where a packet that may leave is going. */
struct destination {
	struct peer *peer;		    /* on another host, or */
	const struct delivery *next_door;   /* on this one; neither: to nobody that is known */
};

/* Whether a packet goes where its hardware address says: a reason to bail, or BAILS. */
static __always_inline enum bail judge_destination(struct __sk_buff *skb, const struct flow_key *key, struct destination *to)
{
	struct address at = {key->vni, key->remote};
	struct ethhdr *eth = data(skb);
	const __u8 *mac;

	to->peer = bpf_map_lookup_elem(&peers, &at);
	to->next_door = to->peer ? NULL : bpf_map_lookup_elem(&endpoints, &at);
	mac = to->peer ? to->peer->mac : to->next_door ? to->next_door->mac : NULL;
	return (void *)(eth + 1) > data_end(skb) || (mac && !same_mac(eth->h_dest, mac)) ? BAIL_ADDRESS : BAILS;
}

/* Counts a packet that may leave and sends it on its way; known: that there is one who takes it. */
static __always_inline int leave(struct __sk_buff *skb, struct direction *d, const struct control *c, bool known, __u32 segs)
{
	d->eligible += segs;
	if (!known || !learning || c->mode == MODE_DRY) {
		*(known && learning ? &d->dry : &d->misses) += segs;
		skb->cb[0] = 0; /* what was to be handed over */
		return NEXT;
	}
	tag(skb, TAG_LEAVES, container_vni);
	return bpf_redirect(lane_ifindex, 0);
}

/* Sends a packet on whose way is known: directly, or by the lane with its way handed over. */
static __always_inline int leave_as_known(struct __sk_buff *skb, struct account *a, const struct control *c, const struct flow_key *key,
					  const struct onward *to, __u32 segs)
{
	const struct direct way = direct_way(skb, c, to);

	if (way.hop)
		return send_directly(skb, a, key->protocol, to, &way, segs);
	hand_over(skb, key, to->host, to->next_hop, to->word, to->masked);
	return leave(skb, &a->egress, c, true, segs);
}

/* Whether a packet's way is known, and what it is; speaks: the way's word is one that is said, else any will do. */
static __always_inline bool takes_shortcut(struct __sk_buff *skb, const struct control *c, const struct sent *p, struct onward *to, bool speaks)
{
	const struct way_out *way = p->passing ? NULL : known_way(skb, c, &p->key, p->ttl);

	if (way)
		*to = (struct onward){way->host, way->next_hop, speaks ? way->word : bpf_get_prandom_u32(), speaks && way->masked};
	return way;
}

/* The way of a packet to a peer that is of no flow, and says nothing of one. */
static __always_inline struct onward way_to(const struct peer *peer)
{
	return (struct onward){peer->host, peer->next_hop, bpf_get_prandom_u32() & SAYS_NOTHING, false};
}

/* What the tables say of a packet that may leave: a reason to bail, or BAILS. */
static __always_inline enum bail find_destination(struct __sk_buff *skb, const struct control *c, struct sent *p, struct destination *to)
{
	enum bail why;

	if (expired(c))
		return BAIL_EXPIRED;
	why = judge_destination(skb, &p->key, to);
	if (!p->passing && c->unruled && p->key.protocol == IPPROTO_TCP)
		p->passing = is_young(skb, to->next_door ? YOUNG_NEXT_DOOR : YOUNG);
	if (!p->passing && !established(&p->key))
		return BAIL_FLOW;
	if (why == BAILS && to->next_door && (p->passing || !answered(to->next_door, &p->key)))
		return BAIL_FLOW;
	return why;
}

/* All of it, for a fast path that asks no more; speaks: it has something to say on every packet of a flow that it knows. */
static __always_inline int leave_by_lane(struct __sk_buff *skb, bool speaks)
{
	struct account *a = account();
	struct control *c = control();
	__u32 segs = segments(skb);
	struct destination to = {};
	struct onward onward = {};
	struct sent p = {};
	enum bail why;

	if (!a || !c || c->mode == MODE_OFF)
		return NEXT;
	a->egress.seen += segs;
	why = judge_sent(skb, c, &p);
	if (why != BAILS)
		return bail(&a->egress, why, segs);
	if (takes_shortcut(skb, c, &p, &onward, speaks))
		return leave_as_known(skb, a, c, &p.key, &onward, segs);
	why = find_destination(skb, c, &p, &to);
	if (why != BAILS)
		return bail(&a->egress, why, segs);
	if (p.passing && to.peer && !(speaks && flow_of(&p.key, endpoint))) {
		onward = way_to(to.peer);
		return leave_as_known(skb, a, c, &p.key, &onward, segs);
	}
	return leave(skb, &a->egress, c, to.peer || to.next_door, segs);
}

#endif
