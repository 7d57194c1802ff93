// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * xmasq: a fast path without encapsulation, after XMasq: while a packet is on the wire it has its hosts' addresses for its containers',
 * and the other side puts them back. That saves 50 bytes a frame, and the tunnel's segmentation and its undoing.
 *
 *	A's eth0, egress      from_container: an established flow to a known peer leaves by the lane
 *	lane ─► host's end    from_lane: addresses and TTL are rewritten if B has said that it will put them back; else it is encapsulated
 *	══ wire ══            an ordinary TCP or UDP packet between the hosts
 *	NIC, ingress          from_wire: the hosts' addresses, protocol and ports say whose it was; what is encapsulated is as for oncache
 *
 * Ports stay as they are, so segmentation, by whomever, leaves the key whole, and no field that means something to the packet is used up:
 * DSCP, ECN, identification and options arrive as they were sent. (XMasq's key is 6 bits of the TOS, or 12 of the identification.)
 *
 * What is agreed is agreed in band, by flow and direction, in what the kernel's vxlan device does not look at: the outer
 * identification of encapsulated packets says, with a hash of the flow, one of
 *
 *	OFFER      I can put addresses back
 *	READY      I will, for your packets of this flow: the key is yours alone
 *	CONFIRMED  and I have, lately
 *
 * A side believes the other after TRUST packets of this kind without one that is not: a kernel's identifications count up. It
 * masquerades while READY is fresh, one packet at a time until there is CONFIRMED: a wire that carries the tunnel and nothing else
 * costs PROBES packets a flow and minute. One packet in REFRESH stays encapsulated and says so anew, so whoever lost its memory is
 * noticed: by its silence within FRESH, by its first packet that says something else, by its host's RST or ICMP error.
 *
 * Who is sent datagrams and does not answer says nothing: its host's agent does, in frames that are nothing else (answer.h).
 *
 * A key is given to one flow: others with the same ports between the same hosts stay encapsulated. So does one whose key would be the hosts' own:
 * their sockets are asked first, and again in each REFRESH, and a SYN ends it at once. What is under way by then is told apart all the same: masqueraded packets
 * are sent with TTL 255 and have to arrive with what is left of it when as much is taken off as from the encapsulated ones (RFC 5082). Hosts
 * send with 64, and what they forward for their containers, their NAT's packets too, has less than 255.
 *
 * Concurrency: as in oncache.bpf.c. All that is agreed may be lost at any time; what a flow remembers is single values.
 */
#include <linux/types.h>

struct flow {
	__u32 state;
	__u32 endpoint;
	__u64 told_at;	    /* when we last said something; all times are CLOCK_MONOTONIC, ns */
	__u64 ready_at;	    /* when READY was last heard */
	__u64 confirmed_at; /* and CONFIRMED */
	__u64 restored_at;  /* when we last put addresses back */
	__u64 probed_at;    /* when we masqueraded without CONFIRMED, and have not heard since what became of it */
	__u64 blocked_until;
	__u8 trust;	    /* packets that said something, at most TRUST */
	__u8 granted;	    /* the key is this flow's */
	__u8 told;	    /* what we last said */
	__u8 told_ttl;	    /* of the packet in which we said it: it will be put back, too */
	__u8 probes;	    /* of which nothing was put back */
	__u8 unanswered;    /* as answer.h has it; and */
	__u8 fast;
	__u8 pad;
	__u32 heard; /* packets, since */
	__u32 since; /* about_ms() */
};

#include "account.h"
#include "agree.h"
#include "answer.h"
#include "container.h"
#include "control.h"
#include "flow.h"
#include "lane.h"
#include "restore.h"
#include "tunnel.h"
#include "wire.h"

/* Egress of the container's own device. */
SEC("tc")
int from_container(struct __sk_buff *skb)
{
	return leave_by_lane(skb, true);
}

/* Sends a frame under the hosts' addresses. */
static __always_inline int send_masked(struct __sk_buff *skb, struct account *a, __u8 protocol, __be32 host, __be32 next_hop, __u32 sum, __u32 segs)
{
	if (!readdress(skb, protocol, tunnel_addr, host, sum, MASKED_TTL))
		return fail(a, segs);
	a->egress.masked += segs;
	return send(skb, a, next_hop, skb->len, segs);
}

/* The same of one whose way was handed over. */
static __always_inline int send_masked_as_known(struct __sk_buff *skb, struct account *a, __u32 segs)
{
	struct iphdr *ip = data(skb) + ETH_HLEN;

	if ((void *)(ip + 1) > data_end(skb))
		return refuse(a, segs);
	return send_masked(skb, a, ip->protocol, skb->cb[2], skb->cb[3], skb->cb[4], segs);
}

/* Whether a packet neither opens nor closes a connection: what does is told from the hosts' own by its encapsulation. */
static __always_inline bool is_data(const struct iphdr *ip, const void *end)
{
	const struct tcphdr *tcp = (const void *)(ip + 1);

	return ip->protocol != IPPROTO_TCP || ((const void *)(tcp + 1) <= end && !(TCP_FLAGS(tcp) & TCP_NO_DATA_FLAGS));
}

/* Where frames come out of a lane, on the host's side. Nothing else may use that device: what is not sent is dropped. */
SEC("tc")
int from_lane(struct __sk_buff *skb)
{
	__u32 segs = segments(skb), len = skb->len, sum;
	struct account *a = account();
	struct control *c = control();
	struct flow_key key = {};
	struct address to = {};
	struct ethhdr *eth;
	struct flow *flow;
	struct peer *peer;
	struct iphdr *ip;
	struct term term;
	__be32 next_hop;
	__be16 id;
	bool mine;
	__u64 now;

	if (!a || !c)
		return TC_ACT_SHOT;
	if (handed_over(skb, true))
		return send_masked_as_known(skb, a, segs);
	if (handed_over(skb, false))
		return send_as_known(skb, a, segs);
	mine = judged(skb);
	term = new_term(c);
	if (from_next_door(skb))
		return NEXT;
	if (!may_send(skb, c, &key))
		return refuse(a, segs);
	to = (struct address){key.vni, key.remote};
	peer = bpf_map_lookup_elem(&peers, &to);
	if (!peer)
		return send_next_door(skb, a, &key, segs);
	eth = data(skb);
	ip = (void *)(eth + 1);
	if ((void *)(ip + 1) > data_end(skb) || !same_mac(eth->h_dest, peer->mac))
		return refuse(a, segs);
	next_hop = peer->next_hop;
	flow = flow_of(&key, endpoint);
	now = bpf_ktime_get_coarse_ns();
	if (flow && maskable(key.protocol) && is_data(ip, data_end(skb)) && masks_now(flow, c, ip->ttl, now)) {
		sum = sum_of(ip->saddr, ip->daddr, tunnel_addr, peer->host);
		flow->unanswered = 0;
		if (mine && now < flow->confirmed_at + LATELY)
			remember_way(&term, &key, peer, sum, ip->ttl, true);
		return send_masked(skb, a, key.protocol, peer->host, next_hop, sum, segs);
	}
	id = say(flow, c, &key, ip->ttl, now);
	if (mine && monotonous(flow, now))
		remember_way(&term, &key, peer, id, ip->ttl, false);
	if (!encapsulate(skb, peer->host, id))
		return fail(a, segs);
	return send(skb, a, next_hop, len, segs);
}

/* An encapsulated packet. */
static __always_inline int from_tunnel(struct __sk_buff *skb, struct account *a, struct control *c, struct outer *o, __u32 segs)
{
	struct iphdr *ip = (void *)(o + 1);
	struct words says = {};
	struct way_home *way;
	struct arrival at = {};
	struct term term;
	enum bail why;

	if ((void *)(ip + 1) + sizeof(struct udphdr) > data_end(skb))
		return NEXT;
	if (o->eth.h_proto == ETH_P_ANSWER)
		return hear_answer(skb, c, o);
	says = (struct words){o->ip.id & WORDS, o->ip.ttl, ip->ttl, 0};
	way = known_home(skb, c, o, ip, &says);
	if (way) {
		way->packets += segs;
		return deliver_home(skb, a, c, o, ip, way, segs);
	}
	term = new_term(c);
	if (!ours(o, ip, &at))
		return NEXT;
	a->ingress.seen += segs;
	why = judge_arrival(skb, c, o, ip, &at);
	if (why == BAILS && at.from && at.flow) {
		hear(skb, at.flow, c, &at.key, o, ip->ttl);
		note_pace(at.flow, take_packets_home(&at.key) + segs, bpf_ktime_get_coarse_ns());
		if (at.flow->trust == TRUST) /* until then each of them counts */
			remember_arrival(&term, &at, &says);
		answer(a, c, &at);
	}
	if (why == BAILS)
		why = judge_carried(skb, o, at.key.protocol);
	if (why != BAILS)
		return bail(&a->ingress, why, segs);
	return deliver(skb, &a->ingress, c, o, door(&at), at.how, at.from, segs);
}

/* Ingress of the wire's device. What was masqueraded on our word is restored in any mode. */
SEC("tc")
int from_wire(struct __sk_buff *skb)
{
	struct control *c = control();
	struct account *a = account();
	__u32 segs = segments(skb);
	struct outer *o;

	if (!a || !c)
		return NEXT;
	if (skb->protocol != bpf_htons(ETH_P_IP) || skb->pkt_type != 0 /* PACKET_HOST */ || skb->vlan_present)
		return NEXT;
	o = tunnelled(skb);
	if (!o)
		return from_host(skb, a, c, segs);
	return c->mode == MODE_OFF ? NEXT : from_tunnel(skb, a, c, o, segs);
}

char _license[] SEC("license") = "Dual BSD/GPL";
