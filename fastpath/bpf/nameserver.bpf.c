// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * nameserver: an engine's name server inside a container, without the connection tracking that the engine's rules for it bring.
 *
 * Docker's resolver listens on two ports of the container's own 127.0.0.11, one for UDP, one for TCP, and programs ask 127.0.0.11:53. Docker
 * joins them by four rules of NAT in the container, there and back for each, and with these the kernel tracks every connection that the container has. But a port for a port, on
 * one address that never leaves the container, is a translation that no state is needed for:
 *
 *	query	any -> 127.0.0.11:53	becomes	any -> 127.0.0.11:PORT
 *	answer	127.0.0.11:PORT -> any	becomes	127.0.0.11:53 -> any
 *
 * The hook is the egress of the container's loopback, by which both go. While the rules stand they come first, and nothing is left to be done
 * here. Queries under way when they are withdrawn are answered; those under way when they are restored may not be: the answer to what no rule saw
 * meets none of Docker's on its way back.
 *
 * What is not translated: the ports in the packet that an ICMP error quotes. Whoever asks by UDP while the resolver is gone waits for an answer
 * instead of hearing that it is refused.
 *
 * It is a netlink filter on purpose: it stays when the agent is killed, and queries are answered until the next one restores the rules.
 */
#include <stddef.h>

#include "packet.h"

#define NAME_SERVER bpf_htonl(0x7f00000b) /* 127.0.0.11 */
#define DOMAIN bpf_htons(53)

volatile const __be16 udp_port; /* that the resolver listens on */
volatile const __be16 tcp_port;

#define L4 (ETH_HLEN + sizeof(struct iphdr))

/* Puts a port in the place of another, where the transport's header has it. Its checksum goes along, or stays for the device to be made. */
static __always_inline void translate(struct __sk_buff *skb, __u8 protocol, __u32 at, __be16 from, __be16 to)
{
	if (protocol == IPPROTO_TCP)
		bpf_l4_csum_replace(skb, L4 + offsetof(struct tcphdr, check), from, to, sizeof(to));
	else
		bpf_l4_csum_replace(skb, L4 + offsetof(struct udphdr, check), from, to, BPF_F_MARK_MANGLED_0 | sizeof(to));
	bpf_skb_store_bytes(skb, L4 + at, &to, sizeof(to), 0);
}

/* Egress of the container's loopback. */
SEC("tc")
int name_server(struct __sk_buff *skb)
{
	struct iphdr *ip;
	struct ports *ports;
	__be16 listens;
	__u8 protocol;
	bool query, answer;

	if (skb->protocol != bpf_htons(ETH_P_IP) || !linear(skb, L4 + sizeof(*ports)))
		return NEXT;
	ip = data(skb) + ETH_HLEN;
	ports = data(skb) + L4;
	if ((void *)(ports + 1) > data_end(skb))
		return NEXT;
	protocol = ip->protocol;
	if (ip->ihl != 5 || ip->frag_off & bpf_htons(IP_FRAGMENT) || (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP))
		return NEXT;
	listens = protocol == IPPROTO_TCP ? tcp_port : udp_port;
	query = ip->daddr == NAME_SERVER && ports->dest == DOMAIN;
	answer = ip->saddr == NAME_SERVER && ports->source == listens;
	if (query)
		translate(skb, protocol, offsetof(struct ports, dest), DOMAIN, listens);
	if (answer)
		translate(skb, protocol, offsetof(struct ports, source), listens, DOMAIN);
	return NEXT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
