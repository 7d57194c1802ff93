/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What every fast path over an overlay network knows of its host, of the container that a program is loaded for, and, in tables that
 * the agent alone writes, of the containers on other hosts (peers) and on this one (endpoints).
 */
#ifndef ECONBENCH_OVERLAY_H
#define ECONBENCH_OVERLAY_H

#include "packet.h"

/* Of this host. */
const volatile __u32 wire_ifindex;
const volatile __be32 tunnel_addr; /* outer address of this host */
const volatile __be16 tunnel_port;
const volatile __u16 source_port_min, source_port_max; /* the kernel's range for outer source ports, max excluded */

/* fastpath/lane.go has their names in the same order, and their drawings. */
enum lane_kind {
	LANE_MACVLAN, /* from_lane: egress of the host's end of a pair; nothing else uses that device */
	LANE_GATEWAY, /* ingress of the host's end of a pair that is the container's way to the gateway */
	LANE_NETKIT,  /* what the pair's end in the container transmits */
};

/* Of one container: from_container, from_lane and to_container are loaded for each. */
const volatile __u32 endpoint;	   /* number, never used again */
const volatile __u32 own_ifindex;  /* of its device on the network, in its namespace */
const volatile __u32 lane_ifindex; /* there, too */
const volatile __be32 container_addr;
const volatile __u16 container_mac[ETH_ALEN / 2];
const volatile __be32 container_vni; /* as in the header: in the upper 24 bits */
const volatile __u16 lane_mac[ETH_ALEN / 2]; /* of the device in the container that takes frames in */
const volatile enum lane_kind lane_kind;
const volatile __u32 max_frame;	     /* bytes that still fit the wire once encapsulated */

/* For tests that take a part away and look whether it is noticed. */
const volatile bool learning = true;

struct address {
	__be32 vni;
	__be32 ip;
};

/* A container on another host. */
struct peer {
	__be32 host;	 /* outer address */
	__be32 next_hop; /* towards it, by the wire */
	__u8 mac[ETH_ALEN];
	__u16 pad;
};

/* A container on this host. */
struct delivery {
	__u32 endpoint;
	__u32 ifindex; /* of the device whose other end is in the container */
	__u32 asked_ifindex; /* and of that for what to_container has to look at */
	__u8 mac[ETH_ALEN];
	__u8 lane_mac[ETH_ALEN]; /* of the first one's other end */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct address);
	__type(value, struct peer);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} peers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct address);
	__type(value, struct delivery);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} endpoints SEC(".maps");

/* Compared as it is, volatile: with that cast away the compiler knows that a constant without a value is 0. */
static __always_inline bool is_mac(const __u8 *mac, const volatile __u16 *ours)
{
	const __u16 *w = (const __u16 *)mac;

	return w[0] == ours[0] && w[1] == ours[1] && w[2] == ours[2];
}

#endif
