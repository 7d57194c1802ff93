/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * VXLAN as a fast path writes and reads it: what a kernel's vxlan device would send, but for the UDP checksum, and what it would take.
 */
#ifndef ECONBENCH_TUNNEL_H
#define ECONBENCH_TUNNEL_H

#include "account.h"
#include "control.h"
#include "judge.h"
#include "overlay.h"
#include "tag.h"

/* The kernel's own choice of an outer source port: udp_flow_src_port() in include/net/udp.h. */
static __always_inline __be16 source_port(__u32 hash)
{
	hash ^= hash << 16;
	return bpf_htons((((__u64)hash * (source_port_max - source_port_min)) >> 32) + source_port_min);
}

/* ECN as RFC 6040 has it for encapsulation in the kernel's way (INET_ECN_encapsulate()): the inner bits, with ECT(0) for
 * congestion experienced. A vxlan device of Docker's sets no other bit. */
static __always_inline __u8 outer_tos(__u8 inner)
{
	return (inner & 3) == 3 ? 2 : inner & 3;
}

static __always_inline void write_outer(struct outer *o, __u32 frame_len, __u8 tos, __u32 hash, __be32 to, __be16 id)
{
	o->ip = (struct iphdr){
		.version = 4,
		.ihl = 5,
		.tos = outer_tos(tos),
		.tot_len = bpf_htons(frame_len - ETH_HLEN),
		.id = id,
		.ttl = 64,
		.protocol = IPPROTO_UDP,
		.saddr = tunnel_addr,
		.daddr = to,
	};
	o->ip.check = ip_sum(&o->ip);
	o->udp.source = source_port(hash);
	o->udp.dest = tunnel_port;
	o->udp.len = bpf_htons(frame_len - ETH_HLEN - sizeof(struct iphdr));
	o->udp.check = 0;
	o->vxlan.flags = VXLAN_FLAGS;
	o->vxlan.vni = container_vni;
}

#define ENCAP_FLAGS                                                                                                    \
	(BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP |                       \
	 BPF_F_ADJ_ROOM_ENCAP_L2(ETH_HLEN) | BPF_F_ADJ_ROOM_ENCAP_L2_ETH)

/* Puts the outer header before a frame for a container on that host; false: it can't be had, and the frame may be broken. id is the
 * outer header's identification: fragments are allowed, as the kernel allows them. */
static __always_inline bool encapsulate(struct __sk_buff *skb, __be32 host, __be16 id)
{
	__u32 hash = bpf_get_hash_recalc(skb); /* of the inner packet: once encapsulated it would be that of the tunnel */
	struct ethhdr *eth = data(skb);
	struct iphdr *ip = (void *)(eth + 1);
	__u32 len = skb->len;
	struct outer *o;
	__u8 tos;

	if ((void *)(ip + 1) > data_end(skb))
		return false;
	tos = ip->tos;
	if (bpf_skb_adjust_room(skb, OUTER_LEN, BPF_ADJ_ROOM_MAC, ENCAP_FLAGS))
		return false;
	eth = data(skb);
	o = (void *)(eth + 1);
	if ((void *)(o + 1) > data_end(skb))
		return false;
	o->eth = *eth;
	write_outer(o, len + OUTER_LEN, tos, hash, host, id);
	return true;
}

/* Whether decapsulation might have to change the inner ECN bits (INET_ECN_decapsulate()): congestion experienced on the way,
 * or ECT(1) put on ECT(0), a milder sign of the same by RFC 6040, which the kernel passes on. */
static __always_inline bool marked_on_the_way(__u8 outer, __u8 inner)
{
	return (outer & 3) == 3 || ((outer & 3) == 1 && (inner & 3) == 2);
}

/* What the kernel should judge of an outer header; lengths count for what is no super-frame or one of at most 64 kB. */
static __always_inline enum bail judge_outer(const struct outer *o, const struct iphdr *inner, __u32 frame_len)
{
	__u32 len = frame_len - ETH_HLEN;

	if (o->ip.frag_off & bpf_htons(IP_FRAGMENT))
		return BAIL_FRAGMENT;
	if (bpf_ntohs(o->ip.tot_len) != len || bpf_ntohs(o->udp.len) != len - sizeof(o->ip))
		return BAIL_LENGTH;
	if (o->vxlan.flags != VXLAN_FLAGS || marked_on_the_way(o->ip.tos, inner->tos) || ip_sum(&o->ip))
		return BAIL_OUTER;
	return BAILS;
}

/* Takes the outer header off. The outer Ethernet header is what stays, and becomes the inner one. */
static __always_inline bool decapsulate(struct __sk_buff *skb, struct ethhdr inner)
{
	struct ethhdr *eth;

	if (bpf_skb_adjust_room(skb, -(__s32)OUTER_LEN, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO))
		return false;
	eth = data(skb);
	if ((void *)(eth + 1) <= data_end(skb))
		*eth = inner;
	return true;
}

/* The outer header of a packet of our tunnel for this host, or NULL. This is all that other traffic costs. */
static __always_inline struct outer *tunnelled(struct __sk_buff *skb)
{
	struct outer *o;

	if (skb->protocol != bpf_htons(ETH_P_IP) || skb->pkt_type != 0 /* PACKET_HOST */ || skb->vlan_present)
		return NULL;
	if (!linear(skb, ETH_HLEN + sizeof(struct iphdr) + sizeof(struct udphdr)))
		return NULL;
	o = data(skb) + ETH_HLEN;
	if ((void *)&o->vxlan > data_end(skb) || *(__u8 *)o != 0x45 || o->ip.protocol != IPPROTO_UDP ||
	    o->ip.daddr != tunnel_addr || o->udp.dest != tunnel_port)
		return NULL;
	if (!linear(skb, ETH_HLEN + OUTER_LEN + sizeof(struct iphdr) + sizeof(struct udphdr)))
		return NULL;
	o = data(skb) + ETH_HLEN;
	if ((void *)(o + 1) + sizeof(struct iphdr) + sizeof(struct udphdr) > data_end(skb))
		return NULL;
	return o;
}

/* Whether a packet is what it seems to be, for the container with this hardware address: a reason to bail, or BAILS. Neither the outer
 * checksum nor the lease is looked at. */
static __always_inline enum bail judge_received(struct __sk_buff *skb, const struct control *c, const struct outer *o,
						const struct iphdr *ip, const __u8 *mac)
{
	enum bail why = judge_outer(o, ip, skb->len);

	if (why == BAILS)
		why = judge(ip, data_end(skb));
	if (why == BAIL_FLAGS && passes(c, ip))
		why = BAILS;
	if (why != BAILS)
		return why;
	if (bpf_ntohs(ip->tot_len) != bpf_ntohs(o->ip.tot_len) - OUTER_LEN)
		return BAIL_LENGTH;
	return same_mac(o->eth.h_dest, mac) ? BAILS : BAIL_ADDRESS;
}

/* Whether a packet of an established flow can be delivered without its tunnel's device: a reason to bail, or BAILS. */
static __always_inline enum bail judge_carried(const struct __sk_buff *skb, const struct outer *o, __u8 protocol)
{
	/* Docker's vxlan devices send a UDP checksum, so this came by the kernel's path of a host without a fast path or of a
	 * flow that it does not know yet. Only the kernel can verify it; the flow has been noted all the same. */
	if (o->udp.check)
		return BAIL_OUTER;
	/* The tunnel's GSO type stays on a decapsulated super-frame. TCP takes it whole; UDP without UDP_GRO would have it
	 * segmented, as the tunnel's packet that it no longer is (udp_unexpected_gso()). */
	return skb->gso_size && protocol == IPPROTO_UDP ? BAIL_SUPERFRAME : BAILS;
}

/* Counts a packet that may be delivered, by the device whose other end is in the container, and delivers it; known: that its sender is. */
static __always_inline int deliver(struct __sk_buff *skb, struct direction *d, const struct control *c, const struct outer *o,
				   __u32 ifindex, enum tag how, bool known, __u32 segs)
{
	__be32 vni = o->vxlan.vni;

	d->eligible += segs;
	if (known && c->mode == MODE_DRY) {
		d->dry += segs;
		return NEXT;
	}
	if (!known || !decapsulate(skb, o->eth)) {
		d->misses += segs;
		return NEXT;
	}
	d->hits += segs;
	d->hit_bytes += skb->len;
	tag(skb, how, vni);
	return bpf_redirect_peer(ifindex, 0);
}

#endif
