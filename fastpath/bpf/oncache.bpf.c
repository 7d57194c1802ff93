// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * oncache: an encapsulation cache for VXLAN overlays, after ONCache (Wang et al.), which caches per destination what the
 * overlay would find out anew for each packet: the outer header on the way out, the device to deliver to on the way in.
 *
 * A packet's journey, from container A to container B on another host:
 *
 *	A's eth0, egress      from_container: an established flow to a known peer leaves by the lane, the rest as always
 *	lane ─► host's end    from_lane: is this a frame that A may send? then it gets its outer header and leaves by the NIC
 *	══ wire ══            an ordinary VXLAN packet: the other host may have a fast path or not
 *	NIC, ingress          from_wire: from a known peer, for a known container, of a flow that B's side has established:
 *	                      the outer header comes off and the frame is delivered to the lane's other end, in B
 *
 * The kernel's path would have gone A's eth0 ─► sandbox's bridge ─► vxlan device ─► NIC, and back up the same way.
 *
 * To a container C next door, on the same host and network, the lane's end leads to that of C's lane, and there is nothing to
 * encapsulate: from_lane of A, then from_lane of C, which lets it pass, and C's stack. The kernel's path: A's eth0 ─► bridge ─► C's.
 *
 * What opens or closes a TCP connection goes the same way where no rule stands on the kernel's (struct control's unruled); what is of no
 * flow that is remembered arrives by to_container, which knows for which device.
 *
 * On any doubt the packet goes on as it came (NEXT), untouched. The caches are filled by the agent from the sandbox's
 * neighbour and forwarding tables (peers, endpoints) and by from_container (flows). A flow is known to be established by
 * its own socket (TCP), or when it has been seen in both directions (UDP, and ICMP's echo with its identifier for ports). Nothing is done once the agent has stopped
 * renewing its lease: caches that nobody keeps are not trusted.
 *
 * Concurrency: peers and endpoints are written by the agent alone; a flow's state only grows, by stores of one value at a time.
 * Kernels from 5.15 on: bpf_redirect_neigh and bpf_redirect_peer (5.10), bpf_ktime_get_coarse_ns (5.11),
 * BPF_F_ADJ_ROOM_ENCAP_L2_ETH (5.13).
 */
#include <linux/types.h>

struct flow {
	__u32 state;
	__u32 endpoint;
};

#include "account.h"
#include "container.h"
#include "control.h"
#include "flow.h"
#include "lane.h"
#include "tunnel.h"
#include "wire.h"

/* Egress of the container's own device. */
SEC("tc")
int from_container(struct __sk_buff *skb)
{
	return leave_by_lane(skb, false);
}

/* Where frames come out of a lane, on the host's side. Nothing else may use that device: what is not sent is dropped. */
SEC("tc")
int from_lane(struct __sk_buff *skb)
{
	__u32 segs = segments(skb), len = skb->len;
	struct account *a = account();
	struct control *c = control();
	struct flow_key key = {};
	struct address to = {};
	struct ethhdr *eth;
	struct peer *peer;
	struct term term;
	__be32 next_hop;
	bool mine;

	if (!a || !c)
		return TC_ACT_SHOT;
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
	if ((void *)(eth + 1) > data_end(skb) || !same_mac(eth->h_dest, peer->mac))
		return refuse(a, segs);
	next_hop = peer->next_hop;
	if (mine)
		remember_way(&term, &key, peer, 0, 0, false);
	if (!encapsulate(skb, peer->host, bpf_get_prandom_u32()))
		return fail(a, segs);
	return send(skb, a, next_hop, len, segs);
}

/* Ingress of the wire's device. */
SEC("tc")
int from_wire(struct __sk_buff *skb)
{
	struct control *c = control();
	struct account *a = account();
	__u32 segs = segments(skb);
	const struct words silence = {};
	const struct way_home *way;
	struct arrival at = {};
	struct term term;
	struct outer *o;
	struct iphdr *ip;
	enum bail why;

	o = tunnelled(skb);
	if (!o || !a || !c || c->mode == MODE_OFF)
		return NEXT;
	ip = (void *)(o + 1);
	if ((void *)(ip + 1) + sizeof(struct udphdr) > data_end(skb))
		return NEXT;
	way = known_home(skb, c, o, ip, &silence);
	if (way)
		return deliver_home(skb, a, c, o, ip, way, segs);
	term = new_term(c);
	if (!ours(o, ip, &at))
		return NEXT;
	a->ingress.seen += segs;
	why = judge_arrival(skb, c, o, ip, &at);
	if (why == BAILS)
		remember_arrival(&term, &at, &silence);
	if (why == BAILS)
		why = judge_carried(skb, o, at.key.protocol);
	if (why != BAILS)
		return bail(&a->ingress, why, segs);
	return deliver(skb, &a->ingress, c, o, door(&at), at.how, at.from, segs);
}

char _license[] SEC("license") = "Dual BSD/GPL";
