/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * xmasq: packets without encapsulation, from under the containers' addresses to under the hosts' and back.
 */
#ifndef ECONBENCH_RESTORE_H
#define ECONBENCH_RESTORE_H

#include "account.h"
#include "agree.h"
#include "answer.h"
#include "judge.h"
#include "readdress.h"
#include "tag.h"

/* The flow that a key is given to, on this network. */
static __always_inline struct flow *flow_behind(const struct mask_key *on_wire, const struct mask *mask)
{
	struct flow_key key = {mask->vni, mask->local, mask->remote, on_wire->local_port, on_wire->remote_port, on_wire->protocol};

	return flow_of(&key, mask->endpoint);
}

/* Where a key's packets go, if it is one of this network's and its container is there still. */
static __always_inline struct delivery *delivery_of(const struct mask *mask)
{
	struct address local = {mask->vni, mask->local};
	struct delivery *to = bpf_map_lookup_elem(&endpoints, &local);

	return to && to->endpoint == mask->endpoint ? to : NULL;
}

/* What the last look into the tables found for a key, by CPU: shortcuts on the way in, with the terms of those on the way out. */
struct way_in {
	struct term term;
	struct mask_key key;
	__be32 remote, local; /* to put back */
	__u32 sum;
	__u32 ifindex;
	__be32 vni;
	__u8 mac[ETH_ALEN], peer_mac[ETH_ALEN];
	__u8 ttl, wire_ttl; /* as in struct mask */
	__u8 sound; /* the sender lives where it came from */
	__u8 kept;  /* the agent has been heard of */
	__u32 packets; /* that went this way */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct way_in);
	__uint(max_entries, SHORTCUTS);
} ways_in SEC(".maps");

static __always_inline struct way_in *way_in(const struct mask_key *key)
{
	__u64 h = ((__u64)key->host << 32 | (__u32)key->remote_port << 16 | key->local_port) * 0x9e3779b97f4a7c15ULL;
	__u32 place = h >> SHORTCUTS_SHIFT;

	return bpf_map_lookup_elem(&ways_in, &place);
}

static __always_inline bool same_key(const struct mask_key *a, const struct mask_key *b)
{
	return a->host == b->host && a->remote_port == b->remote_port && a->local_port == b->local_port && a->protocol == b->protocol;
}

static __always_inline bool knows(const struct way_in *way, const struct control *c, const struct mask_key *key)
{
	return same_key(&way->key, key) && holds(&way->term, c);
}

/* Looks into the tables for a key; NULL: it is nobody's on this network, else what it was given for. */
static __always_inline struct mask *find_way(struct way_in *way, const struct control *c, const struct mask_key *key)
{
	struct term term = new_term(c);
	struct mask *mask = bpf_map_lookup_elem(&masks, key);
	const struct delivery *to = mask ? delivery_of(mask) : NULL;
	struct address remote = {};
	const struct peer *from;

	if (!to)
		return NULL;
	remote = (struct address){mask->vni, mask->remote};
	from = bpf_map_lookup_elem(&peers, &remote);
	*way = (struct way_in){
		.term = term, .key = *key, .remote = mask->remote, .local = mask->local,
		.sum = sum_of(key->host, tunnel_addr, mask->remote, mask->local), .ifindex = to->ifindex, .vni = mask->vni,
		.ttl = mask->ttl, .wire_ttl = mask->wire_ttl, .sound = from && from->host == key->host, .kept = !expired(c),
	};
	__builtin_memcpy(way->mac, to->mac, ETH_ALEN);
	if (from)
		__builtin_memcpy(way->peer_mac, from->mac, ETH_ALEN);
	return mask;
}

/* Whether a masqueraded packet is one that the other side was told to send so: a reason to bail, or BAILS. Short frames are padded. */
static __always_inline enum bail judge_masked(struct __sk_buff *skb, const struct iphdr *ip, const struct way_in *way)
{
	__u32 len = skb->len - ETH_HLEN;
	enum bail why = judge(ip, data_end(skb));

	if (why != BAILS)
		return why;
	if (bpf_ntohs(ip->tot_len) != len && (skb->len > ETH_ZLEN || bpf_ntohs(ip->tot_len) > len))
		return BAIL_LENGTH;
	if (ip->ttl != way->wire_ttl || !way->sound)
		return BAIL_SPOOFED;
	return way->kept ? BAILS : BAIL_EXPIRED;
}

/* Remembers that a key's packets are put back, and how many in the last term. */
static __always_inline void note_restored(const struct mask_key *key, struct mask *mask, __u32 packets)
{
	struct flow *flow = flow_behind(key, mask);
	bool news;

	mask->used_at = bpf_ktime_get_coarse_ns();
	if (!flow)
		return;
	note_pace(flow, packets, mask->used_at);
	news = mask->used_at >= flow->restored_at + LATELY;
	flow->restored_at = mask->used_at;
	if (news)
		void_shortcuts(); /* to tell: CONFIRMED */
}

/* Puts the containers' addresses back and delivers. */
static __always_inline int restore(struct __sk_buff *skb, struct account *a, const struct control *c, const struct mask_key *key, __u32 segs)
{
	struct iphdr *ip = data(skb) + ETH_HLEN;
	struct way_in *place = way_in(key), found = {};
	const struct way_in *way = place;
	struct mask *mask = NULL;
	struct ethhdr *eth;
	__u32 packets = 0;
	enum bail why;

	if (!place)
		return NEXT;
	if (!knows(place, c, key)) {
		packets = same_key(&place->key, key) ? place->packets : 0;
		place->packets = 0;
		mask = find_way(&found, c, key);
		if (!mask)
			return NEXT; /* another network's, or nobody's */
		if (shortcut_term && found.kept)
			*place = found;
		way = &found;
	}
	if ((void *)(ip + 1) + sizeof(struct udphdr) > data_end(skb))
		return NEXT;
	a->ingress.seen += segs;
	why = judge_masked(skb, ip, way);
	if (why != BAILS)
		return bail(&a->ingress, why, segs);
	a->ingress.eligible += segs;
	if (mask)
		note_restored(key, mask, packets + segs);
	else
		place->packets += segs;
	if (!readdress(skb, key->protocol, way->remote, way->local, way->sum, way->ttl)) {
		a->ingress.misses += segs;
		return NEXT;
	}
	eth = data(skb);
	if ((void *)(eth + 1) > data_end(skb))
		return TC_ACT_SHOT;
	__builtin_memcpy(eth->h_dest, way->mac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, way->peer_mac, ETH_ALEN);
	a->ingress.hits += segs;
	a->ingress.masked += segs;
	a->ingress.hit_bytes += skb->len;
	tag(skb, TAG_ARRIVES, way->vni);
	return bpf_redirect_peer(way->ifindex, 0);
}

/* ICMP's errors (RFC 792), as much as is needed. */
struct icmp_error {
	__u8 type, code;
	__sum16 check;
	__be32 rest; /* the next hop's MTU in its lower half, of "fragmentation needed" (RFC 1191) */
	struct iphdr ip; /* of the packet that it is about */
	struct ports ports;
} __attribute__((packed));

#define ICMP_UNREACHABLE 3
#define ICMP_FRAGMENTATION_NEEDED 4
#define ICMP_QUENCH 4
#define ICMP_EXCEEDED 11
#define ICMP_PARAMETER 12

/* An error about a packet that we masqueraded. The path's MTU is for the container to know, whose packet it was: the addresses in it are put
 * back, with the header's checksum, so that the sum over them and with it ICMP's own stays. Anything else says that the other side is
 * not as we thought, which is nothing for the container: it is told by encapsulated packets. */
static __always_inline int about_masked(struct __sk_buff *skb, struct account *a)
{
	struct mask_key on_wire = {};
	struct icmp_error *error;
	struct delivery *to;
	struct mask *mask;
	struct flow *flow;
	struct ethhdr *eth;
	struct iphdr *ip;

	if (!linear(skb, ETH_HLEN + sizeof(*ip) + sizeof(*error)))
		return NEXT;
	eth = data(skb);
	ip = (void *)(eth + 1);
	error = (void *)(ip + 1);
	if ((void *)(error + 1) > data_end(skb) || *(__u8 *)ip != 0x45 || ip->frag_off & bpf_htons(IP_FRAGMENT) || ip_sum(ip))
		return NEXT;
	if (*(__u8 *)&error->ip != 0x45 || error->ip.saddr != tunnel_addr || error->ip.ttl < LEAST_TTL || !maskable(error->ip.protocol) ||
	    error->ip.frag_off & bpf_htons(IP_FRAGMENT) || ip_sum(&error->ip))
		return NEXT;
	if (error->type != ICMP_UNREACHABLE && error->type != ICMP_EXCEEDED && error->type != ICMP_PARAMETER && error->type != ICMP_QUENCH)
		return NEXT;
	on_wire = (struct mask_key){error->ip.daddr, error->ports.dest, error->ports.source, error->ip.protocol};
	mask = bpf_map_lookup_elem(&masks, &on_wire);
	to = mask ? delivery_of(mask) : NULL;
	if (!to)
		return NEXT;
	flow = flow_behind(&on_wire, mask);
	if (error->type != ICMP_UNREACHABLE || error->code != ICMP_FRAGMENTATION_NEEDED) {
		if (flow)
			forget(flow);
		return TC_ACT_SHOT;
	}
	ip->daddr = mask->local;
	ip->check = 0;
	ip->check = ip_sum(ip);
	error->ip.saddr = mask->local;
	error->ip.daddr = mask->remote;
	error->ip.check = 0;
	error->ip.check = ip_sum(&error->ip);
	__builtin_memcpy(eth->h_dest, to->mac, ETH_ALEN);
	a->ingress.seen++;
	a->ingress.eligible++;
	a->ingress.hits++;
	a->ingress.hit_bytes += skb->len;
	tag(skb, TAG_ARRIVES, mask->vni);
	return bpf_redirect_peer(to->ifindex, 0);
}

/* A packet for this host that is not of the tunnel's: one that was masqueraded, or the host's own. */
static __always_inline int from_host(struct __sk_buff *skb, struct account *a, const struct control *c, __u32 segs)
{
	const struct tcphdr *tcp;
	struct mask_key on_wire;
	const struct iphdr *ip;
	struct mask *mask;
	struct flow *flow;

	if (!linear(skb, ETH_HLEN + sizeof(*ip) + sizeof(struct udphdr)))
		return NEXT;
	ip = data(skb) + ETH_HLEN;
	if ((void *)(ip + 1) > data_end(skb) || *(__u8 *)ip != 0x45 || ip->daddr != tunnel_addr)
		return NEXT;
	if (ip->protocol == IPPROTO_TCP && !linear(skb, ETH_HLEN + sizeof(*ip) + sizeof(*tcp)))
		return NEXT; /* no whole header: for the stack to drop */
	ip = data(skb) + ETH_HLEN;
	if ((void *)(ip + 1) + sizeof(struct udphdr) > data_end(skb))
		return NEXT;
	if (ip->protocol == IPPROTO_ICMP)
		return about_masked(skb, a);
	tcp = (const void *)(ip + 1);
	if (!maskable(ip->protocol) || ip->frag_off & bpf_htons(IP_FRAGMENT))
		return NEXT;
	on_wire = (struct mask_key){ip->saddr, tcp->source, tcp->dest, ip->protocol};
	if (ip->ttl >= LEAST_TTL)
		return restore(skb, a, c, &on_wire, segs);
	if (ip->protocol != IPPROTO_TCP || (const void *)(tcp + 1) > data_end(skb) || !(TCP_FLAGS(tcp) & (TCP_SYN | TCP_RST)))
		return NEXT;
	/* The host's own: a connection that begins, or a RST from one who knows nothing of the flow. */
	mask = bpf_map_lookup_elem(&masks, &on_wire);
	flow = mask ? flow_behind(&on_wire, mask) : NULL;
	if (flow)
		forget(flow);
	return NEXT;
}

#endif
