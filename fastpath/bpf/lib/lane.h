/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The host's end of a container's lane, both ways. Whoever has CAP_NET_RAW in the container can put any frame into it, past the
 * programs on the container's own device: what it may not send is dropped here.
 */
#ifndef ECONBENCH_LANE_H
#define ECONBENCH_LANE_H

#include "account.h"
#include "direct.h"
#include "flow.h"
#include "hop.h"
#include "judge.h"
#include "shortcut.h"
#include "tag.h"
#include "tunnel.h"

/* A program that answers by the device it received on (IP_PKTINFO's ipi_ifindex) sends by the lane's receiving end. Its flow takes the
 * kernel's path from then on: one datagram is lost, the next is received on the container's own device. */
static __always_inline void never_again(const struct flow_key *key)
{
	struct flow *flow = flow_of(key, endpoint);

	if (flow && flow->state != FLOW_REFUSED) {
		flow->state = FLOW_REFUSED;
		void_shortcuts();
	}
}

/* Whether a frame that came out of the lane is one that the container might send by its own device, to whomever: key says to
 * whom. Whoever has CAP_NET_RAW in there can put any frame into the lane, past from_container. */
static __always_inline bool may_send(struct __sk_buff *skb, const struct control *c, struct flow_key *key)
{
	enum bail why;
	struct ports ports;
	struct ethhdr *eth;
	struct iphdr *ip;

	if (skb->protocol != bpf_htons(ETH_P_IP) || skb->vlan_present ||
	    !linear(skb, sizeof(*eth) + sizeof(*ip) + sizeof(struct udphdr)))
		return false;
	eth = data(skb);
	ip = (void *)(eth + 1);
	if ((void *)(ip + 1) + sizeof(struct udphdr) > data_end(skb))
		return false;
	why = judge(ip, data_end(skb));
	if (expired(c) || (why != BAILS && !(why == BAIL_FLAGS && passes(c, ip))) || ip->saddr != container_addr ||
	    bpf_ntohs(ip->tot_len) != (__u16)(skb->len - ETH_HLEN) || (skb->gso_size == 0 && skb->len > max_frame))
		return false;
	ports = ports_of(ip, data_end(skb));
	*key = (struct flow_key){container_vni, container_addr, ip->daddr, ports.source, ports.dest, ip->protocol};
	if (lane_kind != LANE_MACVLAN && is_mac(eth->h_source, lane_mac))
		never_again(key);
	return eth->h_proto == bpf_htons(ETH_P_IP) && is_mac(eth->h_source, container_mac);
}

/* The flow of a frame with the container's address for its source; false: it has no other, or is no whole packet of IPv4. */
static __always_inline bool flow_sent(struct __sk_buff *skb, struct flow_key *key)
{
	struct ports ports;
	struct ethhdr *eth;
	struct iphdr *ip;

	if (!linear(skb, sizeof(*eth) + sizeof(*ip) + sizeof(struct udphdr)))
		return false;
	eth = data(skb);
	ip = (void *)(eth + 1);
	if ((void *)(ip + 1) + sizeof(struct udphdr) > data_end(skb) || skb->protocol != bpf_htons(ETH_P_IP) || *(__u8 *)ip != 0x45 ||
	    ip->saddr != container_addr)
		return false;
	ports = ports_of(ip, data_end(skb));
	*key = (struct flow_key){container_vni, container_addr, ip->daddr, ports.source, ports.dest, ip->protocol};
	return true;
}

static __always_inline int refuse(struct account *a, __u32 segs)
{
	a->refused += segs;
	return TC_ACT_SHOT;
}

/* Set by from_lane of a container for that of the one next door, and gone where the frame enters its namespace. */
#define NEXT_DOOR 0x65636f6e

/* A frame for a container next door: by its lane's end, as if it had come from the wire. */
static __always_inline int send_next_door(struct __sk_buff *skb, struct account *a, const struct flow_key *key, __u32 segs)
{
	struct address to = {container_vni, key->remote};
	struct delivery *next_door = bpf_map_lookup_elem(&endpoints, &to);
	struct ethhdr *eth = data(skb);

	if (!next_door || next_door->endpoint == endpoint || (void *)(eth + 1) > data_end(skb) ||
	    !same_mac(eth->h_dest, next_door->mac) || !answered(next_door, key))
		return refuse(a, segs);
	__builtin_memcpy(eth->h_dest, next_door->lane_mac, ETH_ALEN); /* the device takes no other */
	skb->mark = NEXT_DOOR;
	tag(skb, TAG_ARRIVES, container_vni);
	a->egress.hits += segs;
	a->egress.hit_bytes += skb->len;
	if (lane_kind != LANE_GATEWAY)
		return bpf_redirect(next_door->ifindex, 0);
	skb->mark = 0; /* no program of that lane looks at it: it goes straight in, for which Linux before 6.15 wants the type set */
	return bpf_skb_change_type(skb, 0 /* PACKET_HOST */) ? TC_ACT_SHOT : bpf_redirect_peer(next_door->ifindex, 0);
}

/* Whether a frame is no business of from_lane's: it goes to where it was going. To the gateway goes all that from_container did not send
 * this way, but for a flow's answer by the wrong device: it has been received by this one since it was carried, and the gateway is
 * never to see it. */
static __always_inline bool for_gateway(struct __sk_buff *skb)
{
	struct flow_key key = {};

	return !untag(skb, TAG_LEAVES) && (!flow_sent(skb, &key) || !flow_of(&key, endpoint));
}

/* Whether a frame comes from a container next door, for this one, or is none that a fast path sent at all. Who forges the first in
 * this container's own lane, marks need CAP_NET_RAW there, sends it to itself, past rules that name devices if the lane has two pairs. */
static __always_inline bool from_next_door(struct __sk_buff *skb)
{
	struct ethhdr *eth = data(skb);
	struct iphdr *ip = (void *)(eth + 1);

	if (lane_kind == LANE_GATEWAY)
		return for_gateway(skb);
	if (lane_kind == LANE_NETKIT)
		return false; /* what comes to its container does not pass here, and to go on is to come up in the host's stack */
	return skb->mark == NEXT_DOOR && (void *)(ip + 1) <= data_end(skb) && is_mac(eth->h_dest, lane_mac) && ip->daddr == container_addr;
}

/* Sends a frame on by the wire. */
static __always_inline int send(struct __sk_buff *skb, struct account *a, __be32 next_hop, __u32 len, __u32 segs)
{
	struct bpf_redir_neigh hop = {.nh_family = 2 /* AF_INET */, .ipv4_nh = next_hop};

	count_sent(skb, a, len, segs);
	if (address_frame(skb, next_hop))
		return bpf_redirect(wire_ifindex, 0);
	return bpf_redirect_neigh(wire_ifindex, &hop, sizeof(hop), 0);
}

/* Encapsulates and sends a frame whose way was handed over. */
static __always_inline int send_as_known(struct __sk_buff *skb, struct account *a, __u32 segs)
{
	__be32 host = skb->cb[2], next_hop = skb->cb[3];
	__be16 id = skb->cb[4];
	__u32 len = skb->len;

	if (!encapsulate(skb, host, id))
		return fail(a, segs);
	return send(skb, a, next_hop, len, segs);
}

/* Whether the container's rules tell devices apart: all that arrives goes up by its own. */
volatile bool by_device;

/* Whether a TCP packet is for a socket that takes it from whatever device. One that begins a connection is for whichever of those that
 * listen the stack will choose. */
static __always_inline bool any_device(struct __sk_buff *skb)
{
	struct iphdr *ip = data(skb) + ETH_HLEN;
	struct tcphdr *tcp = (void *)(ip + 1);
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk;
	bool any;

	if ((void *)(tcp + 1) > data_end(skb) || ip->protocol != IPPROTO_TCP || TCP_FLAGS(tcp) & TCP_SYN)
		return false;
	tuple.ipv4.saddr = ip->saddr;
	tuple.ipv4.daddr = ip->daddr;
	tuple.ipv4.sport = tcp->source;
	tuple.ipv4.dport = tcp->dest;
	sk = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return false;
	any = !sk->bound_dev_if && sk->state != BPF_TCP_LISTEN;
	bpf_sk_release(sk);
	return any;
}

/* The lane's receiving end, ingress, in the container, or that of a second pair for what has to be looked at here: what may be for a socket that is bound to a device goes up as if by the container's
 * own, and so does everything for a container whose rules tell devices apart. It costs a trip through the backlog; fastpath/owndevice.go
 * has the figure. */
SEC("tc")
int to_container(struct __sk_buff *skb)
{
	struct iphdr *ip = data(skb) + ETH_HLEN;
	struct ethhdr *eth;
	bool passes;
	__u16 *to;

	if (lane_kind == LANE_GATEWAY && ((void *)(ip + 1) > data_end(skb) || ip->daddr != container_addr))
		return NEXT; /* another network's */
	passes = untag(skb, TAG_PASSES);
	if (!by_device && (!passes || any_device(skb)))
		return NEXT;
	if (!passes && !untag(skb, TAG_ARRIVES) && lane_kind == LANE_GATEWAY)
		return NEXT;
	eth = data(skb);
	to = (__u16 *)eth->h_dest;
	if ((void *)(eth + 1) > data_end(skb))
		return TC_ACT_SHOT;
	to[0] = container_mac[0]; /* from next door it has the receiving end's */
	to[1] = container_mac[1];
	to[2] = container_mac[2];
	return bpf_redirect(own_ifindex, BPF_F_INGRESS);
}

/* Into a netkit pair, or a lane's second one, from the host's side, whose end there is open to whatever in the host sends by every device: what comes
 * from next door goes in, and nothing else. What comes from the wire does not pass here. */
SEC("tc")
int to_lane(struct __sk_buff *skb)
{
	return skb->tc_index == tag_of(TAG_ARRIVES, container_vni) ? TC_ACT_OK : TC_ACT_SHOT;
}

/* The host's end of a macvlan's pair, ingress. A frame that a container puts into the lane's receiving end would come up in the
 * host's stack. Attached so that it stays as long as the device does, whatever becomes of the agent. */
SEC("tc")
int drop(struct __sk_buff *skb)
{
	struct flow_key key = {};

	if (flow_sent(skb, &key))
		never_again(&key);
	return TC_ACT_SHOT;
}

#endif
