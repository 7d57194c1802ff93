// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * oncache: an encapsulation cache for VXLAN overlays, after ONCache (Wang et al.), which caches per destination what the
 * overlay would find out anew for each packet: the outer header on the way out, the device to deliver to on the way in.
 *
 * A packet's journey, from container A to container B on another host:
 *
 *	A's eth0, egress      from_container: an established flow to a known peer leaves by the lane, the rest as always
 *	lane ─► host's end    from_lane: is this a frame that A may send? then it gets its outer header and leaves by the NIC
 *	══ wire ══            an ordinary VXLAN packet: the other host may have a fast path or not
 *	NIC, ingress          from_wire: from a known peer, for a known container, of a flow that B's side has established:
 *	                      the outer header comes off and the frame is delivered to the lane's other end, in B
 *
 * The kernel's path would have gone A's eth0 ─► sandbox's bridge ─► vxlan device ─► NIC, and back up the same way.
 *
 * To a container C next door, on the same host and network, the lane's end leads to that of C's lane, and there is nothing to
 * encapsulate: from_lane of A, then from_lane of C, which lets it pass, and C's stack. The kernel's path: A's eth0 ─► bridge ─► C's.
 *
 * On any doubt the packet goes on as it came (NEXT), untouched. The caches are filled by the agent from the sandbox's
 * neighbour and forwarding tables (peers, endpoints) and by from_container (flows). A flow is known to be established by
 * its own socket (TCP), or when it has been seen in both directions (UDP, and ICMP's echo with its identifier for ports). Nothing is done once the agent has stopped
 * renewing its lease: caches that nobody keeps are not trusted.
 *
 * Concurrency: peers and endpoints are written by the agent alone; a flow's state only grows, by stores of one value at a time.
 * Kernels from 5.15 on: bpf_redirect_neigh and bpf_redirect_peer (5.10), bpf_ktime_get_coarse_ns (5.11),
 * BPF_F_ADJ_ROOM_ENCAP_L2_ETH (5.13).
 */
#include "account.h"
#include "control.h"
#include "packet.h"

/* Of this host. */
const volatile __u32 wire_ifindex;
const volatile __be32 tunnel_addr; /* outer address of this host */
const volatile __be16 tunnel_port;
const volatile __u16 source_port_min, source_port_max; /* the kernel's range for outer source ports, max excluded */

/* Of one container: from_container and from_lane are loaded for each. */
const volatile __u32 endpoint;	   /* number, never used again */
const volatile __u32 lane_ifindex; /* in the container's namespace */
const volatile __be32 container_addr;
const volatile __u16 container_mac[ETH_ALEN / 2];
const volatile __be32 container_vni; /* as in the header: in the upper 24 bits */
const volatile __u16 lane_mac[ETH_ALEN / 2]; /* of the device in the container that takes frames in */
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
	__u8 mac[ETH_ALEN];
	__u8 lane_mac[ETH_ALEN]; /* of that other end */
};

/* An echo's flow has its identifier for both ports. */
struct flow_key {
	__u32 endpoint;
	__be32 remote;
	__be16 local_port, remote_port;
	__u32 protocol;
};

/* What is known of a flow. */
enum {
	FLOW_SENT = 1,	  /* a socket of the container that is bound to no device sent on it */
	FLOW_ESTABLISHED, /* and: its socket says so (TCP), or its peer was heard too (UDP) */
	FLOW_REFUSED,	  /* for good: its program answers by the device that a packet came in by (IP_PKTINFO) */
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

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct flow_key);
	__type(value, __u32);
	__uint(max_entries, 65536);
} flows SEC(".maps");

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

/* Whether a container next door has sent on a flow that this container sends on, as one that may take its lane. */
static __always_inline bool answered(const struct delivery *next_door, const struct flow_key *key)
{
	struct flow_key back = {next_door->endpoint, container_addr, key->remote_port, key->local_port, key->protocol};
	__u32 *seen = bpf_map_lookup_elem(&flows, &back);

	return seen && *seen != FLOW_REFUSED;
}

/* Whether both sides of a flow between two containers of this host have been seen: nobody comes by the wire to tell. */
static __always_inline bool met(const struct flow_key *key)
{
	struct address to = {container_vni, key->remote};
	struct delivery *next_door = bpf_map_lookup_elem(&endpoints, &to);

	return next_door && answered(next_door, key);
}

/* Remembers that the container sent on this flow; true when the flow is established. */
static __always_inline bool learn(const struct flow_key *key)
{
	__u32 *seen = bpf_map_lookup_elem(&flows, key);
	__u32 first = key->protocol == IPPROTO_TCP ? FLOW_ESTABLISHED : FLOW_SENT;

	if (seen) {
		if (*seen == FLOW_SENT && met(key))
			*seen = FLOW_ESTABLISHED;
		return *seen == FLOW_ESTABLISHED;
	}
	if (learning)
		bpf_map_update_elem(&flows, key, &first, BPF_NOEXIST);
	return first == FLOW_ESTABLISHED;
}

/* Whether a packet that the container sends is data of an established flow, and of which: a reason to bail, or BAILS. */
static __always_inline enum bail judge_sent(struct __sk_buff *skb, const struct control *c, struct flow_key *key)
{
	struct ports ports;
	struct iphdr *ip;
	enum bail why;

	if (skb->protocol != bpf_htons(ETH_P_IP) || skb->vlan_present)
		return BAIL_PROTOCOL;
	if (!linear(skb, ETH_HLEN + sizeof(*ip) + sizeof(struct udphdr)))
		return BAIL_LENGTH;
	ip = data(skb) + ETH_HLEN;
	if ((void *)(ip + 1) + sizeof(struct udphdr) > data_end(skb))
		return BAIL_LENGTH;
	ports = ports_of(ip, data_end(skb));
	key->remote = ip->daddr;
	key->local_port = ports.source;
	key->remote_port = ports.dest;
	key->protocol = ip->protocol;
	why = judge(ip, data_end(skb));
	if (why == BAIL_FLAGS && TCP_FLAGS(ip + 1) & TCP_SYN)
		bpf_map_delete_elem(&flows, key); /* another connection: its socket may be bound where the last one's was not */
	if (why != BAILS)
		return why;
	if (ip->saddr != container_addr)
		return BAIL_ADDRESS;
	if (skb->gso_size == 0 && skb->len > max_frame)
		return BAIL_LENGTH;
	why = ask_socket(skb, ip->protocol, ports);
	if (why == BAIL_BOUND)
		bpf_map_delete_elem(&flows, key);
	if (why != BAILS)
		return why;
	if (expired(c))
		return BAIL_EXPIRED;
	return learn(key) ? BAILS : BAIL_FLOW;
}

/* Egress of the container's own device. */
SEC("tc")
int from_container(struct __sk_buff *skb)
{
	struct address to = {.vni = container_vni};
	struct flow_key key = {.endpoint = endpoint};
	struct account *a = account();
	struct control *c = control();
	__u32 segs = segments(skb);
	struct delivery *next_door;
	struct direction *d;
	struct ethhdr *eth;
	struct peer *peer;
	const __u8 *mac;
	enum bail why;

	if (!a || !c || c->mode == MODE_OFF)
		return NEXT;
	d = &a->egress;
	d->seen += segs;
	why = judge_sent(skb, c, &key);
	if (why != BAILS)
		return bail(d, why, segs);
	to.ip = key.remote;
	peer = bpf_map_lookup_elem(&peers, &to);
	next_door = peer ? NULL : bpf_map_lookup_elem(&endpoints, &to);
	mac = peer ? peer->mac : next_door ? next_door->mac : NULL;
	eth = data(skb);
	if ((void *)(eth + 1) > data_end(skb) || (mac && !same_mac(eth->h_dest, mac)))
		return bail(d, BAIL_ADDRESS, segs);
	if (next_door && !answered(next_door, &key))
		return bail(d, BAIL_FLOW, segs);
	d->eligible += segs;
	if (!mac || !learning) {
		d->misses += segs;
		return NEXT;
	}
	if (c->mode == MODE_DRY) {
		d->dry += segs;
		return NEXT;
	}
	return bpf_redirect(lane_ifindex, 0);
}

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

static __always_inline void write_outer(struct outer *o, __u32 frame_len, __u8 tos, __u32 hash, __be32 to)
{
	o->ip = (struct iphdr){
		.version = 4,
		.ihl = 5,
		.tos = outer_tos(tos),
		.tot_len = bpf_htons(frame_len - ETH_HLEN),
		.id = bpf_get_prandom_u32(), /* fragments are allowed, as the kernel allows them */
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

/* Compared as it is, volatile: with that cast away the compiler knows that a constant without a value is 0. */
static __always_inline bool is_mac(const __u8 *mac, const volatile __u16 *ours)
{
	const __u16 *w = (const __u16 *)mac;

	return w[0] == ours[0] && w[1] == ours[1] && w[2] == ours[2];
}

/* Whether a frame that came out of the lane is one that the container might send by its own device, to whomever: key says to
 * whom. Whoever has CAP_NET_RAW in there can put any frame into the lane, past from_container. */
static __always_inline bool may_send(struct __sk_buff *skb, struct flow_key *key)
{
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
	if (judge(ip, data_end(skb)) != BAILS || ip->saddr != container_addr ||
	    bpf_ntohs(ip->tot_len) != (__u16)(skb->len - ETH_HLEN) || (skb->gso_size == 0 && skb->len > max_frame))
		return false;
	ports = ports_of(ip, data_end(skb));
	*key = (struct flow_key){endpoint, ip->daddr, ports.source, ports.dest, ip->protocol};
	return eth->h_proto == bpf_htons(ETH_P_IP) && is_mac(eth->h_source, container_mac);
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
	a->egress.hits += segs;
	a->egress.hit_bytes += skb->len;
	return bpf_redirect(next_door->ifindex, 0);
}

/* Whether a frame comes from a container next door, for this one. Who forges it in this container's own lane, marks need
 * CAP_NET_RAW there, sends it to itself. */
static __always_inline bool from_next_door(struct __sk_buff *skb)
{
	struct ethhdr *eth = data(skb);
	struct iphdr *ip = (void *)(eth + 1);

	return skb->mark == NEXT_DOOR && (void *)(ip + 1) <= data_end(skb) && is_mac(eth->h_dest, lane_mac) && ip->daddr == container_addr;
}

#define ENCAP_FLAGS                                                                                                    \
	(BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP |                       \
	 BPF_F_ADJ_ROOM_ENCAP_L2(ETH_HLEN) | BPF_F_ADJ_ROOM_ENCAP_L2_ETH)

/* Where frames come out of a lane, on the host's side. Nothing else may use that device: what is not sent is dropped. */
SEC("tc")
int from_lane(struct __sk_buff *skb)
{
	struct bpf_redir_neigh hop = {.nh_family = 2 /* AF_INET */};
	__u32 segs = segments(skb), len = skb->len, hash;
	struct address to = {.vni = container_vni};
	struct account *a = account();
	struct flow_key key = {};
	struct peer *peer;
	struct ethhdr *eth;
	struct outer *o;
	struct iphdr *ip;
	__be32 host;
	__u8 tos;

	if (!a)
		return TC_ACT_SHOT;
	if (from_next_door(skb))
		return NEXT;
	if (!may_send(skb, &key))
		return refuse(a, segs);
	to.ip = key.remote;
	peer = bpf_map_lookup_elem(&peers, &to);
	if (!peer)
		return send_next_door(skb, a, &key, segs);
	host = peer->host;
	hop.ipv4_nh = peer->next_hop;
	hash = bpf_get_hash_recalc(skb); /* of the inner packet: once encapsulated it would be that of the tunnel */
	eth = data(skb);
	ip = (void *)(eth + 1);
	if ((void *)(ip + 1) > data_end(skb) || !same_mac(eth->h_dest, peer->mac))
		return refuse(a, segs);
	tos = ip->tos;
	if (bpf_skb_adjust_room(skb, OUTER_LEN, BPF_ADJ_ROOM_MAC, ENCAP_FLAGS))
		goto failed;
	eth = data(skb);
	o = (void *)(eth + 1);
	if ((void *)(o + 1) > data_end(skb))
		goto failed;
	o->eth = *eth;
	write_outer(o, len + OUTER_LEN, tos, hash, host);
	skb->mark = 0; /* as on the way out of any namespace (skb_scrub_packet()) */
	a->egress.hits += segs;
	a->egress.hit_bytes += len;
	return bpf_redirect_neigh(wire_ifindex, &hop, sizeof(hop), 0);
failed:
	a->failed += segs;
	return TC_ACT_SHOT;
}

/* The host's end of the lane, ingress. A frame that a container puts into the lane's receiving end would come up in the
 * host's stack. Attached so that it stays as long as the device does, whatever becomes of the agent.
 *
 * A program that answers by the device it received on (IP_PKTINFO's ipi_ifindex) gets here, too. Its flow takes the kernel's
 * path from then on: one datagram is lost, the next is received on the container's own device. */
SEC("tc")
int drop(struct __sk_buff *skb)
{
	struct flow_key key = {.endpoint = endpoint};
	__u32 refused = FLOW_REFUSED;
	struct ports ports;
	struct ethhdr *eth;
	struct iphdr *ip;

	if (!linear(skb, sizeof(*eth) + sizeof(*ip) + sizeof(struct udphdr)))
		return TC_ACT_SHOT;
	eth = data(skb);
	ip = (void *)(eth + 1);
	if ((void *)(ip + 1) + sizeof(struct udphdr) > data_end(skb) || skb->protocol != bpf_htons(ETH_P_IP) || *(__u8 *)ip != 0x45 ||
	    ip->saddr != container_addr)
		return TC_ACT_SHOT;
	ports = ports_of(ip, data_end(skb));
	key.remote = ip->daddr;
	key.local_port = ports.source;
	key.remote_port = ports.dest;
	key.protocol = ip->protocol;
	bpf_map_update_elem(&flows, &key, &refused, BPF_EXIST);
	return TC_ACT_SHOT;
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

/* Whether a packet is what it seems to be, for this container: a reason to bail, or BAILS. The outer checksum is not looked at. */
static __always_inline enum bail judge_received(struct __sk_buff *skb, const struct control *c, const struct outer *o,
						const struct iphdr *ip, const struct delivery *to)
{
	enum bail why = judge_outer(o, ip, skb->len);

	if (why == BAILS)
		why = judge(ip, data_end(skb));
	if (why != BAILS)
		return why;
	if (bpf_ntohs(ip->tot_len) != bpf_ntohs(o->ip.tot_len) - OUTER_LEN)
		return BAIL_LENGTH;
	if (!same_mac(o->eth.h_dest, to->mac))
		return BAIL_ADDRESS;
	return expired(c) ? BAIL_EXPIRED : BAILS;
}

/* Whether its flow is one that this host's side established, with a sender that lives where it came from. */
static __always_inline enum bail judge_flow(const struct outer *o, const struct flow_key *key, const struct peer *from)
{
	__u32 *seen = bpf_map_lookup_elem(&flows, key);

	if (!seen)
		return BAIL_FLOW;
	if (from && (from->host != o->ip.saddr || !same_mac(o->eth.h_source, from->mac)))
		return BAIL_SPOOFED;
	if (*seen != FLOW_ESTABLISHED) {
		if (from && *seen == FLOW_SENT)
			*seen = FLOW_ESTABLISHED;
		return BAIL_FLOW;
	}
	/* Docker's vxlan devices send a UDP checksum, so this came by the kernel's path of a host without a fast path or of a
	 * flow that it does not know yet. Only the kernel can verify it; the flow has been noted above all the same. */
	return o->udp.check ? BAIL_OUTER : BAILS;
}

/* Ingress of the wire's device. */
SEC("tc")
int from_wire(struct __sk_buff *skb)
{
	struct address local = {}, remote = {};
	struct control *c = control();
	struct account *a = account();
	__u32 segs = segments(skb);
	struct flow_key key = {};
	struct delivery *to;
	struct direction *d;
	struct ports ports;
	struct outer *o;
	struct iphdr *ip;
	struct peer *from;
	enum bail why;

	o = tunnelled(skb);
	if (!o || !a || !c || c->mode == MODE_OFF)
		return NEXT;
	ip = (void *)(o + 1);
	if ((void *)(ip + 1) + sizeof(struct udphdr) > data_end(skb))
		return NEXT;
	local.vni = remote.vni = o->vxlan.vni;
	local.ip = ip->daddr;
	to = bpf_map_lookup_elem(&endpoints, &local);
	if (!to || o->eth.h_proto != bpf_htons(ETH_P_IP))
		return NEXT; /* of no container of ours, as far as one can tell */
	d = &a->ingress;
	d->seen += segs;
	why = judge_received(skb, c, o, ip, to);
	if (why != BAILS)
		return bail(d, why, segs);
	ports = ports_of(ip, data_end(skb));
	key = (struct flow_key){to->endpoint, ip->saddr, ports.dest, ports.source, ip->protocol};
	remote.ip = ip->saddr;
	from = bpf_map_lookup_elem(&peers, &remote);
	why = judge_flow(o, &key, from);
	/* The tunnel's GSO type stays on a decapsulated super-frame. TCP takes it whole; UDP without UDP_GRO would have it
	 * segmented, as the tunnel's packet that it no longer is (udp_unexpected_gso()). */
	if (why == BAILS && skb->gso_size && ip->protocol == IPPROTO_UDP)
		why = BAIL_SUPERFRAME;
	if (why != BAILS)
		return bail(d, why, segs);
	d->eligible += segs;
	if (from && c->mode == MODE_DRY) {
		d->dry += segs;
		return NEXT;
	}
	if (!from || !decapsulate(skb, o->eth)) {
		d->misses += segs;
		return NEXT;
	}
	d->hits += segs;
	d->hit_bytes += skb->len;
	return bpf_redirect_peer(to->ifindex, 0);
}

char _license[] SEC("license") = "Dual BSD/GPL";
