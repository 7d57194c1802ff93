/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What the fast paths know of packets: Ethernet, IPv4, TCP, UDP, ICMP, and VXLAN as Linux writes it (RFC 7348). IPv4 alone: what is
 * something else is left to the kernel's path.
 */
#ifndef ECONBENCH_PACKET_H
#define ECONBENCH_PACKET_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* The packet goes on to the next program and, in the end, up or down the stack as if there were no fast path. It is both
 * TCX_NEXT (Linux 6.6) and what a direct-action classifier returns for no match. */
#define NEXT TC_ACT_UNSPEC

#define IP_FRAGMENT 0x3fff /* more fragments to come, or not the first */

/* From tcp_flags on the wire: everything but ACK, PSH, ECE and CWR opens, closes or is out of band. */
#define TCP_NO_DATA_FLAGS 0x27 /* FIN, SYN, RST, URG */
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_URG 0x20
#define TCP_FLAGS(tcp) (((const __u8 *)(tcp))[13])

struct vxlan {
	__be32 flags;
	__be32 vni; /* in the upper 24 bits */
};

#define VXLAN_FLAGS bpf_htonl(0x08000000) /* a VNI and nothing else: with any reserved bit set the kernel drops */

/* The headers of one encapsulated packet, as they lie in a linear buffer. */
struct outer {
	struct iphdr ip;
	struct udphdr udp;
	struct vxlan vxlan;
	struct ethhdr eth; /* inner */
} __attribute__((packed));

#define OUTER_LEN sizeof(struct outer) /* 50 */

/* ICMP's echo. (linux/icmp.h wants the C library's headers.) */
struct echo {
	__u8 type, code;
	__sum16 check;
	__be16 id, sequence;
};

#define ECHO_REPLY 0
#define ECHO_REQUEST 8

/* Ports lie at the same place in TCP and UDP. */
struct ports {
	__be16 source, dest;
};

static __always_inline bool same_mac(const __u8 *a, const __u8 *b)
{
	return *(const __u16 *)a == *(const __u16 *)b && *(const __u16 *)(a + 2) == *(const __u16 *)(b + 2) &&
	       *(const __u16 *)(a + 4) == *(const __u16 *)(b + 4);
}

/* The one's complement sum of an IPv4 header without options; 0 when its checksum holds. */
static __always_inline __u16 ip_sum(const struct iphdr *ip)
{
	const __u16 *w = (const __u16 *)ip;
	__u32 sum = w[0] + w[1] + w[2] + w[3] + w[4] + w[5] + w[6] + w[7] + w[8] + w[9];

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* A super-frame counts as the segments it stands for, so that both directions and all hooks count in one unit. */
static __always_inline __u32 segments(const struct __sk_buff *skb)
{
	return skb->gso_segs > 1 ? skb->gso_segs : 1;
}

static __always_inline void *data(const struct __sk_buff *skb) { return (void *)(long)skb->data; }
static __always_inline void *data_end(const struct __sk_buff *skb) { return (void *)(long)skb->data_end; }

/* Makes the first len bytes linear; true when they are. */
static __always_inline bool linear(struct __sk_buff *skb, __u32 len)
{
	if (data(skb) + len <= data_end(skb))
		return true;
	return !bpf_skb_pull_data(skb, len) && data(skb) + len <= data_end(skb);
}

#endif
