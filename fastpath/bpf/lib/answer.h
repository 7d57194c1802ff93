/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * xmasq: a host's answer to datagrams that its container does not answer. What two sides agree on they say in packets that they send anyhow
 * (agree.h), so who only sends would never hear that the other side is ready, and all that he sends be encapsulated. For the container its host's
 * agent answers (fastpath/answer.go has the frame), when it is told so here, once in 20 ms, what the container's next packet would say.
 *
 * A flow has to be fast for that, so that what is sent back is little of what comes.
 */
#ifndef ECONBENCH_ANSWER_H
#define ECONBENCH_ANSWER_H

#include "agree.h"

#define ETH_P_ANSWER bpf_htons(0x88b5)
#define PACE (40 * MS) /* a flow's is looked at for */
#define DEFAULT_TTL 64

/* A flow's .unanswered: */
enum {
	HEARD = 1, /* since something was said last */
	ANSWERS,   /* the host does, for the container */
};

/* What the agent is to send. */
struct answer {
	__u64 at; /* CLOCK_MONOTONIC, ns */
	__be32 vni;
	__be32 host; /* the other one */
	__be32 local, remote;
	__be16 local_port, remote_port;
	__be16 source_port; /* the outer one */
	__be16 id;	    /* of the outer header: what is said */
	__u8 mac[ETH_ALEN]; /* of the container */
	__u8 ttl;	    /* of its packets */
	__u8 pad;
};

const struct answer *answer_type __attribute__((unused)); /* for bpf2go */

/* As many as there is room for: one that is not sent is missed 20 ms later. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} answers SEC(".maps");

/* To nobody: 01-80-C2-00-00-01, of MAC control. */
static __always_inline bool to_nobody(const __u8 *mac)
{
	return mac[0] == 0x01 && mac[1] == 0x80 && mac[2] == 0xc2 && !mac[3] && !mac[4] && mac[5] == 0x01;
}

/* A time in units of 1.05 ms, which wraps after 52 days. */
static __always_inline __u32 about_ms(__u64 now)
{
	return now >> 20;
}

/* Notes that so many packets of a flow came since this was last said, and whether that is one a millisecond. All CPUs count in one place, so some may be
 * missed; that is good enough. */
static __always_inline void note_pace(struct flow *flow, __u32 packets, __u64 now)
{
	__u32 long_ago = about_ms(now) - flow->since;

	flow->heard += packets;
	if (long_ago < about_ms(PACE))
		return;
	flow->fast = flow->heard >= long_ago;
	flow->heard = 0;
	flow->since = about_ms(now);
}

/* Whether a flow, of which a packet has just been heard, is to be answered by the host: the container has been silent for long, and for more than
 * one packet, as one that answers each would not be. */
static __always_inline bool owes_answer(struct flow *flow, const struct control *c, const struct flow_key *key, __u64 now)
{
	if (!masquerading || c->mode != MODE_ON || key->protocol != IPPROTO_UDP || flow->trust < TRUST || !flow->fast)
		return false;
	if (!flow->granted && flow->told <= OFFER)
		return false; /* nothing that the other side could go by, nor to be taken back */
	if (!flow->unanswered) {
		flow->unanswered = HEARD;
		return false;
	}
	return now >= flow->told_at + (flow->unanswered == ANSWERS ? REFRESH : LATE);
}

/* Has a packet of a flow, just heard, answered for the container if it is to be. */
static __always_inline void answer(struct account *a, const struct control *c, const struct arrival *at)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	const struct flow_key *key = &at->key;
	struct answer *answer;

	if (!owes_answer(at->flow, c, key, now))
		return;
	answer = bpf_ringbuf_reserve(&answers, sizeof(*answer), 0);
	if (!answer)
		return;
	*answer = (struct answer){
		.at = now, .vni = key->vni, .host = at->from->host, .local = key->local, .remote = key->remote, .local_port = key->local_port, .remote_port = key->remote_port,
		.source_port = source_port((__u32)key->local_port << 16 | key->remote_port), .ttl = at->flow->told_ttl ?: DEFAULT_TTL,
	};
	answer->id = say(at->flow, c, key, answer->ttl, now);
	__builtin_memcpy(answer->mac, at->to->mac, ETH_ALEN);
	bpf_ringbuf_submit(answer, 0);
	at->flow->unanswered = ANSWERS;
	a->answers++;
}

/* Hears what another host's agent says for its container. Nothing else goes to that address by a tunnel: bridges forward nothing to it. */
static __always_inline int hear_answer(struct __sk_buff *skb, const struct control *c, const struct outer *o)
{
	const struct iphdr *ip = (const void *)(o + 1);
	struct address local = {}, remote = {};
	const struct delivery *to;
	const struct peer *from;
	struct flow_key key;
	struct ports ports;
	struct flow *flow;

	if ((const void *)(ip + 1) + sizeof(struct udphdr) > data_end(skb) || !to_nobody(o->eth.h_dest))
		return NEXT;
	local = (struct address){o->vxlan.vni, ip->daddr};
	to = bpf_map_lookup_elem(&endpoints, &local);
	if (!to)
		return NEXT; /* another network's, or nobody's */
	remote = (struct address){o->vxlan.vni, ip->saddr};
	from = bpf_map_lookup_elem(&peers, &remote);
	ports = ports_of(ip, data_end(skb));
	key = (struct flow_key){o->vxlan.vni, ip->daddr, ip->saddr, ports.dest, ports.source, ip->protocol};
	flow = flow_of(&key, to->endpoint);
	if (flow && flow->state == FLOW_ESTABLISHED && from && from->host == o->ip.saddr && same_mac(o->eth.h_source, from->mac) &&
	    judge_outer(o, ip, skb->len) == BAILS && judge(ip, data_end(skb)) == BAILS && !expired(c))
		hear(skb, flow, c, &key, o, ip->ttl);
	return TC_ACT_SHOT;
}

#endif
