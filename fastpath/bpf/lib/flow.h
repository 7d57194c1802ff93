/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Flows: what is known of each by what has been seen of it. Who includes this has defined struct flow, whose first two members are
 *
 *	__u32 state;
 *	__u32 endpoint; number of the container: another one under the same address is not it
 *
 * A flow's state only grows, by stores of one value at a time.
 */
#ifndef ECONBENCH_FLOW_H
#define ECONBENCH_FLOW_H

#include "overlay.h"

/* As the container on this host sees it. An echo's flow has its identifier for both ports. */
struct flow_key {
	__be32 vni;
	__be32 local, remote;
	__be16 local_port, remote_port;
	__u32 protocol;
};

/* What is known of a flow. fastpath/flows.go has their names in the same order. */
enum {
	FLOW_SENT = 1,	  /* a socket of the container that is bound to no device sent on it */
	FLOW_ESTABLISHED, /* and: its socket says so (TCP), or its peer was heard too (UDP) */
	FLOW_REFUSED,	  /* for good: its program answers by the device that a packet came in by (IP_PKTINFO) */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct flow_key);
	__type(value, struct flow);
	__uint(max_entries, 65536);
} flows SEC(".maps");

/* The flow of a container, if it is that container's and not that of one before it. */
static __always_inline struct flow *flow_of(const struct flow_key *key, __u32 number)
{
	struct flow *flow = bpf_map_lookup_elem(&flows, key);

	return flow && flow->endpoint == number ? flow : NULL;
}

/* Whether a container next door has sent on a flow that this container sends on, as one that may take its lane. */
static __always_inline bool answered(const struct delivery *next_door, const struct flow_key *key)
{
	struct flow_key back = {key->vni, key->remote, key->local, key->remote_port, key->local_port, key->protocol};
	struct flow *seen = flow_of(&back, next_door->endpoint);

	return seen && seen->state != FLOW_REFUSED;
}

/* Whether both sides of a flow between two containers of this host have been seen: nobody comes by the wire to tell. */
static __always_inline bool met(const struct flow_key *key)
{
	struct address to = {key->vni, key->remote};
	struct delivery *next_door = bpf_map_lookup_elem(&endpoints, &to);

	return next_door && answered(next_door, key);
}

/* Remembers that the container sent on this flow; returns the flow when it is established. */
static __always_inline struct flow *learn(const struct flow_key *key)
{
	struct flow *flow = flow_of(key, endpoint);
	struct flow first = {.state = key->protocol == IPPROTO_TCP ? FLOW_ESTABLISHED : FLOW_SENT, .endpoint = endpoint};

	if (!flow && learning) {
		bpf_map_update_elem(&flows, key, &first, BPF_ANY);
		flow = flow_of(key, endpoint);
	}
	if (flow && flow->state == FLOW_SENT && met(key))
		flow->state = FLOW_ESTABLISHED;
	return flow && flow->state == FLOW_ESTABLISHED ? flow : NULL;
}

/* learn, for who wants to know no more. Without learning, a TCP socket's word for it remains, and nobody to remember it. */
static __always_inline bool established(const struct flow_key *key)
{
	return learn(key) || (!learning && key->protocol == IPPROTO_TCP);
}

/* Remembers that the other side of a flow was heard; true when it was established before. */
static __always_inline bool heard(struct flow *flow, bool from_peer)
{
	if (flow->state == FLOW_ESTABLISHED)
		return true;
	if (from_peer && flow->state == FLOW_SENT)
		flow->state = FLOW_ESTABLISHED;
	return false;
}

#endif
