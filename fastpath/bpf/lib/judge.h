/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Whether a packet is data that a fast path may carry: plain TCP, UDP or an echo over IPv4, whole, without options, its lengths and its
 * header's checksum in order. All else is for the kernel's path, which has an answer for it.
 */
#ifndef ECONBENCH_JUDGE_H
#define ECONBENCH_JUDGE_H

#include "account.h"
#include "packet.h"

static __always_inline int bail(struct direction *d, enum bail why, __u32 segs)
{
	d->bails[why] += segs;
	return NEXT;
}

/* Of ICMP only echoes pass: errors are for the kernel to make sense of. */
static __always_inline enum bail judge_echo(const struct iphdr *ip, const void *end)
{
	const struct echo *echo = (const void *)(ip + 1);

	if ((const void *)(echo + 1) > end || bpf_ntohs(ip->tot_len) < sizeof(*ip) + sizeof(*echo))
		return BAIL_LENGTH;
	if ((echo->type != ECHO_REQUEST && echo->type != ECHO_REPLY) || echo->code)
		return BAIL_PROTOCOL;
	return BAILS;
}

/* What tells flows of one protocol between two addresses apart. */
static __always_inline struct ports ports_of(const struct iphdr *ip, const void *end)
{
	const struct echo *echo = (const void *)(ip + 1);
	struct ports p = {};

	if ((const void *)(echo + 1) > end)
		return p;
	if (ip->protocol == IPPROTO_ICMP)
		p.source = p.dest = echo->id;
	else
		p = *(const struct ports *)echo;
	return p;
}

/* What is the matter with an IPv4 packet that begins at ip and whose first bytes, up to four of TCP's or UDP's header and
 * all of TCP's, are linear: a reason to bail, or BAILS. */
static __always_inline enum bail judge(const struct iphdr *ip, const void *end)
{
	const struct tcphdr *tcp = (const void *)(ip + 1);

	if (*(const __u8 *)ip != 0x45)
		return ip->version == 4 ? BAIL_OPTIONS : BAIL_PROTOCOL;
	if (ip->frag_off & bpf_htons(IP_FRAGMENT))
		return BAIL_FRAGMENT;
	if (ip_sum(ip))
		return BAIL_CHECKSUM;
	if (ip->protocol == IPPROTO_UDP)
		return bpf_ntohs(ip->tot_len) < sizeof(*ip) + sizeof(struct udphdr) ? BAIL_LENGTH : BAILS;
	if (ip->protocol == IPPROTO_ICMP)
		return judge_echo(ip, end);
	if (ip->protocol != IPPROTO_TCP)
		return BAIL_PROTOCOL;
	if ((const void *)(tcp + 1) > end || bpf_ntohs(ip->tot_len) < sizeof(*ip) + sizeof(*tcp))
		return BAIL_LENGTH;
	if (TCP_FLAGS(tcp) & TCP_NO_DATA_FLAGS)
		return BAIL_FLAGS;
	return BAILS;
}

/* Whether the sender's own socket says that this is data of a flow that may take the lane; a reason to bail, or BAILS.
 * The ports are compared since a tunnel's packet still belongs to the socket whose data it carries. An echo comes from a socket
 * of ICMP's own: a program's, or the stack's that answers. */
static __always_inline enum bail ask_socket(struct __sk_buff *skb, __u8 protocol, struct ports ports)
{
	struct bpf_sock *sk = skb->sk; /* loaded once: the verifier knows a pointer that was tested, not a field */

	if (!sk)
		return BAIL_SOCKET;
	sk = bpf_sk_fullsock(sk);
	if (!sk || sk->protocol != protocol || (protocol != IPPROTO_ICMP && sk->src_port != bpf_ntohs(ports.source)))
		return BAIL_SOCKET;
	if (sk->bound_dev_if)
		return BAIL_BOUND;
	if (protocol != IPPROTO_TCP)
		return BAILS;
	if (sk->dst_port != ports.dest)
		return BAIL_SOCKET;
	return sk->state == BPF_TCP_ESTABLISHED || sk->state == BPF_TCP_CLOSE_WAIT ? BAILS : BAIL_FLOW;
}

/* Whether a TCP packet that is no data of an established flow, or of one that has just begun, is the stack's own word on a connection of
 * this container: a reason to bail, or BAILS. It may come from what stands for a socket: a request for one (SYN, ACK), or the namespace's
 * own, which is of type SOCK_RAW (the last acknowledgement, and RST where the kernel does not name the socket that refuses). */
static __always_inline enum bail ask_connection(struct __sk_buff *skb, struct ports ports)
{
	struct bpf_sock *sk = skb->sk, *full;

	if (!sk)
		return BAIL_SOCKET;
	if (sk->bound_dev_if)
		return BAIL_BOUND;
	full = bpf_sk_fullsock(sk);
	if (full && full->protocol != IPPROTO_TCP)
		return BAIL_SOCKET;
	if (full && full->type == 3 /* SOCK_RAW */)
		return BAILS;
	return sk->src_port == bpf_ntohs(ports.source) && sk->dst_port == ports.dest ? BAILS : BAIL_SOCKET;
}

/* Segments that a connection sends before its flow is remembered: most of those that there are end sooner. Between containers of one host nothing is
 * carried before both have sent so many, so there it is fewer. */
#define YOUNG 8
#define YOUNG_NEXT_DOOR 4

static __always_inline bool is_young(struct __sk_buff *skb, __u32 age)
{
	struct bpf_sock *sk = skb->sk;
	struct bpf_tcp_sock *tcp;

	if (!sk)
		return false;
	tcp = bpf_tcp_sock(sk);
	return tcp && tcp->segs_out < age;
}

#endif
