/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * How from_lane tells what from_container sent into a lane that has other users too: the container's way to the gateway.
 *
 * The tag is skb->tc_index. Unlike skb->mark it survives the way between namespaces (skb_scrub_packet() leaves it alone), and nothing in
 * a container sets it without CAP_NET_ADMIN: what CAP_NET_RAW can put into that device comes without it and goes to the gateway as
 * ever. It says of which network the frame is, by the VNI, since a container may be on several by the same device.
 */
#ifndef ECONBENCH_TAG_H
#define ECONBENCH_TAG_H

#include "overlay.h"

static __always_inline __u16 lane_tag(void)
{
	return 0x8000 | (bpf_ntohl(container_vni) >> 8);
}

static __always_inline void tag(struct __sk_buff *skb)
{
	if (lane_kind == LANE_GATEWAY)
		skb->tc_index = lane_tag();
}

static __always_inline bool tagged(const struct __sk_buff *skb)
{
	return skb->tc_index == lane_tag();
}

#endif
