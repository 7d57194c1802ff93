// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * xmasq: a fast path without encapsulation, after XMasq: while a packet is on the wire it has its hosts' addresses for its containers',
 * and the other side puts them back. That saves 50 bytes a frame, and the tunnel's segmentation and its undoing.
 *
 *	A's eth0, egress      from_container: an established flow to a known peer leaves by the lane
 *	lane ─► host's end    from_lane: addresses and TTL are rewritten if B has said that it will put them back; else it is encapsulated
 *	══ wire ══            an ordinary TCP or UDP packet between the hosts
 *	NIC, ingress          from_wire: the hosts' addresses, protocol and ports say whose it was; what is encapsulated is as for oncache
 *
 * Ports stay as they are, so segmentation, by whomever, leaves the key whole, and no field that means something to the packet is used up:
 * DSCP, ECN, identification and options arrive as they were sent. (XMasq's key is 6 bits of the TOS, or 12 of the identification.)
 *
 * What is agreed is agreed in band, by flow and direction, in what the kernel's vxlan device does not look at: the outer
 * identification of encapsulated packets says, with a hash of the flow, one of
 *
 *	OFFER      I can put addresses back
 *	READY      I will, for your packets of this flow: the key is yours alone
 *	CONFIRMED  and I have, lately
 *
 * A side believes the other after TRUST packets of this kind without one that is not: a kernel's identifications count up. It
 * masquerades while READY is fresh, one packet at a time until there is CONFIRMED: a wire that carries the tunnel and nothing else
 * costs PROBES packets a flow and minute. One packet in REFRESH stays encapsulated and says so anew, so whoever lost its memory is
 * noticed: by its silence within FRESH, by its first packet that says something else, by its host's RST or ICMP error.
 *
 * A key is given to one flow: others with the same ports between the same hosts stay encapsulated. So does one whose key would be the hosts' own:
 * their sockets are asked first, and again in each REFRESH, and a SYN ends it at once. What is under way by then is told apart all the same: masqueraded packets
 * are sent with TTL 255 and have to arrive with what is left of it when as much is taken off as from the encapsulated ones (RFC 5082). Hosts
 * send with 64, and what they forward for their containers, their NAT's packets too, has less than 255.
 *
 * Concurrency: as in oncache.bpf.c. All that is agreed may be lost at any time; what a flow remembers is single values.
 */
#include <linux/types.h>

struct flow {
	__u32 state;
	__u32 endpoint;
	__u64 told_at;	    /* when we last said something; all times are CLOCK_MONOTONIC, ns */
	__u64 ready_at;	    /* when READY was last heard */
	__u64 confirmed_at; /* and CONFIRMED */
	__u64 restored_at;  /* when we last put addresses back */
	__u64 probed_at;    /* when we masqueraded without CONFIRMED, and have not heard since what became of it */
	__u64 blocked_until;
	__u8 trust;	    /* packets that said something, at most TRUST */
	__u8 granted;	    /* the key is this flow's */
	__u8 told;	    /* what we last said */
	__u8 told_ttl;	    /* of the packet in which we said it: it will be put back, too */
	__u8 probes;	    /* of which nothing was put back */
	__u8 pad[3];
};

#include "account.h"
#include "container.h"
#include "control.h"
#include "flow.h"
#include "lane.h"
#include "tunnel.h"
#include "wire.h"

/* For tests and comparisons: without it this is oncache. */
const volatile bool masquerading = true;

#define MS 1000000ULL
#define REFRESH (20 * MS)
#define LATE (50 * MS)
#define FRESH (100 * MS)
#define LATELY (200 * MS)
#define IDLE (5000 * MS)     /* a key that was not used for so long may be another flow's */
#define BLOCKED (60000 * MS) /* a wire that carries none is tried again */
#define TRUST 6
#define PROBES 5
#define MASKED_TTL 255
#define ENCAP_TTL 64 /* of write_outer() */
#define LEAST_TTL (MASKED_TTL - ENCAP_TTL + 1)

#define WORDS bpf_htons(0xffc0)

/* What is said: bits 7 and 6 of the identification; below them segmentation counts, above them is a hash of the flow. */
enum {
	OFFER = 1,
	READY,
	CONFIRMED,
};

/* What is on the wire between two hosts. The maps of all networks of a host are one, by their name: a key is given once. */
struct mask_key {
	__be32 host; /* the other one */
	__be16 remote_port, local_port;
	__u32 protocol;
};

struct mask {
	__be32 vni;
	__be32 local, remote;
	__u32 endpoint;
	__u64 used_at;
	__u8 ttl;      /* to put back */
	__u8 wire_ttl; /* to arrive with */
	__u16 pad;
	__u32 pad2;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct mask_key);
	__type(value, struct mask);
	__uint(max_entries, 65536);
} masks SEC(".maps");

/* A hash of a flow and direction, the same on both sides. */
static __always_inline __u16 flow_tag(__be32 vni, __be32 src, __be32 dst, __be16 sport, __be16 dport, __u32 protocol)
{
	__u64 h = ((__u64)src << 32 | dst) * 0x9e3779b97f4a7c15ULL;

	h ^= h >> 29;
	h += ((__u64)sport << 48 | (__u64)dport << 32 | (vni ^ protocol));
	h *= 0xbf58476d1ce4e5b9ULL;
	return (h >> 40) & 0xff00;
}

static __always_inline bool maskable(__u32 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
}

static __always_inline struct mask_key mask_key_of(const struct flow_key *key, __be32 host)
{
	return (struct mask_key){host, key->remote_port, key->local_port, key->protocol};
}

/* Egress of the container's own device. */
SEC("tc")
int from_container(struct __sk_buff *skb)
{
	return leave_by_lane(skb, true);
}

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

/* Whether one packet more may go masqueraded: the other side puts them back, or it is time to try one. */
static __always_inline bool confirmed(struct flow *flow, __u64 now)
{
	if (now < flow->confirmed_at + LATELY)
		return true;
	if (now < flow->blocked_until || now < flow->probed_at + FRESH)
		return false;
	flow->probed_at = now;
	return true;
}

/* Hears that the other side is ready, and has put nothing back: that is no news of a packet that was just sent to try. */
static __always_inline void unconfirmed(struct flow *flow, __u64 now)
{
	if (!flow->probed_at || now < flow->probed_at + LATE)
		return;
	flow->probed_at = 0;
	if (++flow->probes < PROBES)
		return;
	flow->probes = 0;
	flow->blocked_until = now + BLOCKED;
}

/* What there is to say on a flow. */
static __always_inline __u8 word(const struct flow *flow, __u64 now)
{
	if (!flow->granted)
		return OFFER;
	return now < flow->restored_at + LATELY ? CONFIRMED : READY;
}

/* Whether a packet of a flow goes masqueraded: not if there is something new to say. */
static __always_inline bool masks_now(struct flow *flow, const struct control *c, __u8 ttl, __u64 now)
{
	return masquerading && c->mode == MODE_ON && flow->granted && flow->trust == TRUST && now < flow->ready_at + FRESH &&
	       now < flow->told_at + REFRESH && word(flow, now) == flow->told && ttl == flow->told_ttl && confirmed(flow, now);
}

/* What an encapsulated packet of a flow is to say, as its outer identification. */
static __always_inline __be16 say(struct flow *flow, const struct control *c, const struct flow_key *key, __u8 ttl, __u64 now)
{
	__u16 tag;

	if (!flow || !masquerading || c->mode != MODE_ON || !maskable(key->protocol))
		return bpf_get_prandom_u32();
	flow->told = word(flow, now);
	flow->told_at = now;
	flow->told_ttl = ttl;
	tag = flow_tag(key->vni, key->local, key->remote, key->local_port, key->remote_port, key->protocol);
	return bpf_htons(tag | flow->told << 6);
}

/* Sends a frame under the hosts' addresses. */
static __always_inline int send_masked(struct __sk_buff *skb, struct account *a, __u8 protocol, __be32 host, __be32 next_hop, __u32 sum, __u32 segs)
{
	if (!readdress(skb, protocol, tunnel_addr, host, sum, MASKED_TTL))
		return fail(a, segs);
	a->egress.masked += segs;
	return send(skb, a, next_hop, skb->len, segs);
}

/* The same of one whose way was handed over. */
static __always_inline int send_masked_as_known(struct __sk_buff *skb, struct account *a, __u32 segs)
{
	struct iphdr *ip = data(skb) + ETH_HLEN;

	if ((void *)(ip + 1) > data_end(skb))
		return refuse(a, segs);
	return send_masked(skb, a, ip->protocol, skb->cb[2], skb->cb[3], skb->cb[4], segs);
}

/* Whether all that a flow's packets say is the same for a while: there is nobody who hears, or nothing comes of it. */
static __always_inline bool monotonous(const struct flow *flow, __u64 now)
{
	return flow && (!flow->trust || now < flow->blocked_until);
}

/* Whether a packet neither opens nor closes a connection: what does is told from the hosts' own by its encapsulation. */
static __always_inline bool is_data(const struct iphdr *ip, const void *end)
{
	const struct tcphdr *tcp = (const void *)(ip + 1);

	return ip->protocol != IPPROTO_TCP || ((const void *)(tcp + 1) <= end && !(TCP_FLAGS(tcp) & TCP_NO_DATA_FLAGS));
}

/* Where frames come out of a lane, on the host's side. Nothing else may use that device: what is not sent is dropped. */
SEC("tc")
int from_lane(struct __sk_buff *skb)
{
	__u32 segs = segments(skb), len = skb->len, sum;
	struct account *a = account();
	struct control *c = control();
	struct flow_key key = {};
	struct address to = {};
	struct ethhdr *eth;
	struct flow *flow;
	struct peer *peer;
	struct iphdr *ip;
	struct term term;
	__be32 next_hop;
	__be16 id;
	bool mine;
	__u64 now;

	if (!a || !c)
		return TC_ACT_SHOT;
	if (handed_over(skb, true))
		return send_masked_as_known(skb, a, segs);
	if (handed_over(skb, false))
		return send_as_known(skb, a, skb->cb[4], segs);
	mine = judged(skb);
	term = new_term(c);
	if (from_next_door(skb))
		return NEXT;
	if (!may_send(skb, c, &key))
		return refuse(a, segs);
	to = (struct address){key.vni, key.remote};
	peer = bpf_map_lookup_elem(&peers, &to);
	if (!peer)
		return send_next_door(skb, a, &key, segs);
	eth = data(skb);
	ip = (void *)(eth + 1);
	if ((void *)(ip + 1) > data_end(skb) || !same_mac(eth->h_dest, peer->mac))
		return refuse(a, segs);
	next_hop = peer->next_hop;
	flow = flow_of(&key, endpoint);
	now = bpf_ktime_get_coarse_ns();
	if (flow && maskable(key.protocol) && is_data(ip, data_end(skb)) && masks_now(flow, c, ip->ttl, now)) {
		sum = sum_of(ip->saddr, ip->daddr, tunnel_addr, peer->host);
		if (mine && now < flow->confirmed_at + LATELY)
			remember_way(&term, &key, peer, sum, ip->ttl, true);
		return send_masked(skb, a, key.protocol, peer->host, next_hop, sum, segs);
	}
	id = say(flow, c, &key, ip->ttl, now);
	if (mine && monotonous(flow, now))
		remember_way(&term, &key, peer, id, ip->ttl, false);
	if (!encapsulate(skb, peer->host, id))
		return fail(a, segs);
	return send(skb, a, next_hop, len, segs);
}

/* Whether a host's own socket may get what comes with these addresses and ports. A socket that listens takes no data of connections
 * that it has not; what it accepts begins with a SYN. */
static __always_inline bool claimed(struct __sk_buff *skb, const struct mask_key *key)
{
	struct bpf_sock_tuple tuple = {.ipv4 = {key->host, tunnel_addr, key->remote_port, key->local_port}};
	struct bpf_sock *sk;
	bool yes;

	if (key->protocol == IPPROTO_TCP)
		sk = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	else
		sk = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return false;
	yes = key->protocol == IPPROTO_UDP || sk->state != BPF_TCP_LISTEN;
	bpf_sk_release(sk);
	return yes;
}

/* Whether a flow has its key, or can be given it now. */
static __always_inline bool grant(struct __sk_buff *skb, const struct flow_key *key, __u32 number, const struct outer *o, __u8 ttl, __u64 now)
{
	struct mask_key on_wire = mask_key_of(key, o->ip.saddr);
	struct mask *has = bpf_map_lookup_elem(&masks, &on_wire);
	struct mask mask = {
		.vni = key->vni, .local = key->local, .remote = key->remote, .endpoint = number, .used_at = now,
		.ttl = ttl, .wire_ttl = o->ip.ttl + (MASKED_TTL - ENCAP_TTL),
	};
	bool changes, ours = has && has->vni == key->vni && has->local == key->local && has->remote == key->remote && has->endpoint == number;

	if (o->ip.ttl > ENCAP_TTL || !o->ip.ttl || (has && !ours && now < has->used_at + IDLE))
		return false;
	if (claimed(skb, &on_wire))
		return false; /* what is under way is still put back: the hosts' own has another TTL */
	if (ours) {
		changes = has->ttl != ttl || has->wire_ttl != mask.wire_ttl;
		has->ttl = ttl;
		has->wire_ttl = mask.wire_ttl;
		has->used_at = now;
		if (changes)
			void_shortcuts();
		return true;
	}
	if (has)
		bpf_map_delete_elem(&masks, &on_wire);
	return !bpf_map_update_elem(&masks, &on_wire, &mask, BPF_NOEXIST);
}

/* Nothing is agreed on any more. */
static __always_inline void forget(struct flow *flow)
{
	bool agreed = flow->trust;

	flow->trust = flow->granted = 0;
	flow->ready_at = flow->confirmed_at = 0;
	if (agreed)
		void_shortcuts();
}

/* Hears what an encapsulated packet of an established flow, from where it should come, says. id is in host order. */
static __always_inline void hear(struct __sk_buff *skb, struct flow *flow, const struct control *c, const struct flow_key *key,
				 const struct outer *o, __u8 ttl)
{
	__u16 id = bpf_ntohs(o->ip.id), what = (id >> 6) & 3;
	__u64 now = bpf_ktime_get_coarse_ns();
	bool granted, less;

	if (!masquerading || c->mode != MODE_ON || !maskable(key->protocol))
		return;
	if (o->udp.check || !what ||
	    (id & 0xff00) != flow_tag(key->vni, key->remote, key->local, key->remote_port, key->local_port, key->protocol)) {
		forget(flow);
		return;
	}
	if (!(id & 0x3f) && flow->trust < TRUST && ++flow->trust == 1)
		void_shortcuts(); /* from now on there is something to say */
	if (flow->trust < TRUST)
		return;
	granted = grant(skb, key, flow->endpoint, o, ttl, now);
	less = (flow->granted && !granted) || (flow->ready_at && what < READY);
	flow->granted = granted;
	flow->ready_at = what >= READY ? now : 0;
	if (less)
		void_shortcuts();
	if (what == READY)
		unconfirmed(flow, now);
	if (what == CONFIRMED) {
		flow->confirmed_at = now;
		flow->probed_at = flow->probes = 0;
	}
}

/* An encapsulated packet. */
static __always_inline int from_tunnel(struct __sk_buff *skb, struct account *a, struct control *c, struct outer *o, __u32 segs)
{
	struct iphdr *ip = (void *)(o + 1);
	struct words says = {};
	const struct way_home *way;
	struct arrival at = {};
	struct term term;
	enum bail why;

	if ((void *)(ip + 1) + sizeof(struct udphdr) > data_end(skb))
		return NEXT;
	says = (struct words){o->ip.id & WORDS, o->ip.ttl, ip->ttl, 0};
	way = known_home(skb, c, o, ip, &says);
	if (way)
		return deliver_home(skb, a, c, o, ip, way, segs);
	term = new_term(c);
	if (!ours(o, ip, &at))
		return NEXT;
	a->ingress.seen += segs;
	why = judge_arrival(skb, c, o, ip, &at);
	if (why == BAILS && at.from && at.flow) {
		hear(skb, at.flow, c, &at.key, o, ip->ttl);
		if (at.flow->trust == TRUST) /* until then each of them counts */
			remember_arrival(&term, &at, &says);
	}
	if (why == BAILS)
		why = judge_carried(skb, o, at.key.protocol);
	if (why != BAILS)
		return bail(&a->ingress, why, segs);
	return deliver(skb, &a->ingress, c, o, at.to->ifindex, at.how, at.from, segs);
}

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

static __always_inline bool knows(const struct way_in *way, const struct control *c, const struct mask_key *key)
{
	return way->key.host == key->host && way->key.remote_port == key->remote_port && way->key.local_port == key->local_port &&
	       way->key.protocol == key->protocol && holds(&way->term, c);
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

/* Remembers that a key's packets are put back. */
static __always_inline void note_restored(const struct mask_key *key, struct mask *mask)
{
	struct flow *flow = flow_behind(key, mask);
	bool news;

	mask->used_at = bpf_ktime_get_coarse_ns();
	if (!flow)
		return;
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
	enum bail why;

	if (!place)
		return NEXT;
	if (!knows(place, c, key)) {
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
		note_restored(key, mask);
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

	if (!linear(skb, ETH_HLEN + sizeof(*ip) + sizeof(*tcp)) && !linear(skb, ETH_HLEN + sizeof(*ip) + sizeof(struct udphdr)))
		return NEXT;
	ip = data(skb) + ETH_HLEN;
	if ((void *)(ip + 1) + sizeof(struct udphdr) > data_end(skb) || *(__u8 *)ip != 0x45 || ip->daddr != tunnel_addr)
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

/* Ingress of the wire's device. What was masqueraded on our word is restored in any mode. */
SEC("tc")
int from_wire(struct __sk_buff *skb)
{
	struct control *c = control();
	struct account *a = account();
	__u32 segs = segments(skb);
	struct outer *o;

	if (!a || !c)
		return NEXT;
	if (skb->protocol != bpf_htons(ETH_P_IP) || skb->pkt_type != 0 /* PACKET_HOST */ || skb->vlan_present)
		return NEXT;
	o = tunnelled(skb);
	if (!o)
		return from_host(skb, a, c, segs);
	return c->mode == MODE_OFF ? NEXT : from_tunnel(skb, a, c, o, segs);
}

char _license[] SEC("license") = "Dual BSD/GPL";
