/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * How programs tell what others of them sent into a lane that has other users too: the container's way to the gateway.
 *
 * The tag is skb->tc_index. Unlike skb->mark it survives the way between namespaces (skb_scrub_packet() leaves it alone), and nothing in
 * a container sets it without CAP_NET_ADMIN: what CAP_NET_RAW can put into that device comes without it and goes to the gateway as
 * ever. It says of which network the frame is, by the VNI, since a container may be on several by the same device.
 */
#ifndef ECONBENCH_TAG_H
#define ECONBENCH_TAG_H

#include "overlay.h"

enum tag {
	TAG_LEAVES = 0x8000,  /* from_container's, for from_lane */
	TAG_ARRIVES = 0x4000, /* for to_container */
	TAG_PASSES = 0xc000,  /* likewise, of no flow that is remembered: nothing is known of the sockets that it may be for */
};

static __always_inline __u16 tag_of(enum tag way, __be32 vni)
{
	return way | (bpf_ntohl(vni) >> 8 & 0x3fff);
}

static __always_inline void tag(struct __sk_buff *skb, enum tag way, __be32 vni)
{
	skb->tc_index = tag_of(way, vni);
}

/* Whether a frame has the tag of this container's network; it is taken off: whoever forwards the packet one day forwards his own. */
static __always_inline bool untag(struct __sk_buff *skb, enum tag way)
{
	if (skb->tc_index != tag_of(way, container_vni))
		return false;
	skb->tc_index = 0;
	return true;
}

#endif
