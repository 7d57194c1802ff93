/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * xmasq: other addresses for a packet's own.
 */
#ifndef ECONBENCH_READDRESS_H
#define ECONBENCH_READDRESS_H

#include "packet.h"

#define MASKED_TTL 255 /* of what is masqueraded, when it is sent */

/* What other addresses make of a sum over them. */
static __always_inline __u32 sum_of(__be32 from, __be32 from2, __be32 to, __be32 to2)
{
	__be32 before[2] = {from, from2}, after[2] = {to, to2};

	return bpf_csum_diff(before, sizeof(before), after, sizeof(after), 0);
}

/* Rewrites addresses and TTL, and makes the checksums right: the transport's is changed by what changed, whoever will compute it. */
static __always_inline bool readdress(struct __sk_buff *skb, __u8 protocol, __be32 saddr, __be32 daddr, __u32 sum, __u8 ttl)
{
	__u32 at = ETH_HLEN + sizeof(struct iphdr) +
		   (protocol == IPPROTO_TCP ? offsetof(struct tcphdr, check) : offsetof(struct udphdr, check));
	struct iphdr *ip;

	if (bpf_l4_csum_replace(skb, at, 0, sum, BPF_F_PSEUDO_HDR | (protocol == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0)))
		return false;
	ip = data(skb) + ETH_HLEN;
	if ((void *)(ip + 1) > data_end(skb))
		return false;
	ip->saddr = saddr;
	ip->daddr = daddr;
	ip->ttl = ttl;
	ip->check = 0;
	ip->check = ip_sum(ip);
	return true;
}

#endif
