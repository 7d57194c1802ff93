// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * econ: a cache by flow, after ECON (Expedited Container Overlay Network, a patch to Linux 5.15), which remembers for each flow its
 * ultimate destination, a socket or a device, and skips every stage between. As far as programs at hooks can go, that is:
 *
 *	A's eth0, egress      from_container: the socket itself remembers (departures) that its flow is established, and whereto
 *	lane ─► host's end    from_lane: the same memory has the outer header's addresses: no table is searched
 *	══ wire ══            an ordinary VXLAN packet
 *	NIC, ingress          from_wire: one search by network, addresses and ports finds the device to deliver to, the socket that
 *	                      the flow ends in, and who alone may send on it
 *	lane's end in B       into_container: the packet is given its socket (where that is asked for)
 *
 * A flow's first packets take the kernel's path (UDP) or oncache's (TCP), and what is remembered is filled in by from_container out of the tables of
 * peers and endpoints, with their generation: as soon as one of them changes all of it is void, and filled in anew.
 *
 * A flow ends with its socket. What a socket remembers goes with it; what leads to it goes when its program lets go of it (released,
 * from inet_release()), TCP and UDP alike. ICMP's echoes have no socket that is theirs: they stay until they are the least used.
 *
 * Same-host pairs, doubts, captures, leases: as in oncache.bpf.c.
 *
 * Concurrency: a flow's value is replaced as a whole, but for its state. UDP sockets may send from several CPUs at once, so what a
 * socket remembers is copied under its lock.
 *
 * Kernels from 5.15 on, with cgroup v2 mounted anywhere or nowhere: sk_storage in tc programs (5.2), cgroup/sock_release (5.9).
 * fentry at inet_release() would do the same where the kernel has ftrace, which the one that this was written on has not.
 */
#include <linux/types.h>

struct flow {
	__u32 state;
	__u32 endpoint;
	__u32 generation; /* of the tables that the rest was filled in from; the first is 1 */
	__u32 ifindex;	  /* of the device whose other end is in the container */
	__u64 socket;	  /* its cookie; 0: none that the flow ends with */
	__be32 host;	  /* its peer's outer address */
	__u8 mac[6];
	__u8 peer_mac[6];
};

#include "account.h"
#include "container.h"
#include "control.h"
#include "flow.h"
#include "lane.h"
#include "tunnel.h"
#include "wire.h"

/* What a socket remembers of where it last sent to. */
struct way {
	__u64 until; /* CLOCK_MONOTONIC, ns: looked up anew, so that what leads to the socket stays known too */
	__u32 generation;
	__u32 endpoint;
	struct flow_key key;
	struct peer to;
};

struct departure {
	struct bpf_spin_lock lock;
	struct way way;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct departure);
} departures SEC(".maps");

/* Sockets that flows end in and that their programs have not let go of, by cookie. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, __u64);
	__type(value, __u8);
	__uint(max_entries, 65536);
} living SEC(".maps");

/* Sockets to give packets to. Only with into_container: to be in here changes a socket's operations (TCP_BPF_BASE). */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__type(key, struct flow_key);
	__type(value, __u64);
	__uint(max_entries, 65536);
} sockets SEC(".maps");

#define WAY_TERM 1000000000ULL

/* The way that the packet's socket remembers for this flow; false: none that can be trusted. */
static __always_inline bool remembered(struct __sk_buff *skb, const struct flow_key *key, __u32 generation, struct way *way)
{
	struct bpf_sock *sk = skb->sk;
	struct departure *d;

	if (!sk)
		return false;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return false;
	d = bpf_sk_storage_get(&departures, sk, NULL, 0);
	if (!d)
		return false;
	bpf_spin_lock(&d->lock);
	*way = d->way;
	bpf_spin_unlock(&d->lock);
	return way->generation == generation && way->endpoint == endpoint && same_flow(&way->key, key) &&
	       bpf_ktime_get_coarse_ns() < way->until;
}

/* Remembers where a flow leads, in both directions. generation was read before to was looked up. */
static __always_inline void remember(struct __sk_buff *skb, const struct flow_key *key, __u32 generation, const struct peer *to)
{
	struct address own = {key->vni, key->local};
	struct delivery *here = bpf_map_lookup_elem(&endpoints, &own);
	struct bpf_sock *sk = skb->sk;
	struct flow flow = {.state = FLOW_ESTABLISHED, .endpoint = endpoint, .generation = generation, .host = to->host};
	struct way way = {.generation = generation, .endpoint = endpoint, .key = *key, .to = *to};
	struct departure *d;
	__u8 yes = 1;

	if (!here || here->endpoint != endpoint || !sk)
		return;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return;
	flow.ifindex = here->ifindex;
	__builtin_memcpy(flow.mac, here->mac, ETH_ALEN);
	__builtin_memcpy(flow.peer_mac, to->mac, ETH_ALEN);
	way.until = bpf_ktime_get_coarse_ns() + WAY_TERM;
	if (key->protocol != IPPROTO_ICMP) {
		d = bpf_sk_storage_get(&departures, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
		if (!d)
			return;
		flow.socket = bpf_get_socket_cookie(skb);
		bpf_map_update_elem(&living, &flow.socket, &yes, BPF_ANY);
		bpf_spin_lock(&d->lock);
		d->way = way;
		bpf_spin_unlock(&d->lock);
	}
	bpf_map_update_elem(&flows, key, &flow, BPF_EXIST);
}

/* Egress of the container's own device. */
SEC("tc")
int from_container(struct __sk_buff *skb)
{
	struct account *a = account();
	struct control *c = control();
	__u32 segs = segments(skb), generation;
	struct destination to = {};
	struct onward onward = {};
	struct sent p = {};
	struct way way = {};
	struct ethhdr *eth;
	enum bail why;

	if (!a || !c || c->mode == MODE_OFF)
		return NEXT;
	generation = *(volatile __u32 *)&c->generation; /* before any table is looked into */
	a->egress.seen += segs;
	why = judge_sent(skb, c, &p);
	if (why != BAILS)
		return bail(&a->egress, why, segs);
	if (takes_shortcut(skb, c, &p, &onward, false))
		return leave_as_known(skb, a, c, &p.key, &onward, segs);
	eth = data(skb);
	if (!p.passing && !expired(c) && remembered(skb, &p.key, generation, &way) && (void *)(eth + 1) <= data_end(skb) && same_mac(eth->h_dest, way.to.mac))
		return leave(skb, &a->egress, c, true, segs);
	why = find_destination(skb, c, &p, &to);
	if (why != BAILS)
		return bail(&a->egress, why, segs);
	if (p.passing && to.peer) {
		onward = way_to(to.peer);
		return leave_as_known(skb, a, c, &p.key, &onward, segs);
	}
	if (to.peer)
		remember(skb, &p.key, generation, to.peer);
	return leave(skb, &a->egress, c, to.peer || to.next_door, segs);
}

/* Where frames come out of a lane, on the host's side. Nothing else may use that device: what is not sent is dropped. */
SEC("tc")
int from_lane(struct __sk_buff *skb)
{
	__u32 segs = segments(skb), len = skb->len;
	struct account *a = account();
	struct control *c = control();
	struct flow_key key = {};
	struct address to = {};
	struct way way = {};
	struct ethhdr *eth;
	struct peer *peer;
	struct term term;
	bool mine;

	if (!a || !c)
		return TC_ACT_SHOT;
	if (handed_over(skb, false))
		return send_as_known(skb, a, segs);
	mine = judged(skb);
	term = new_term(c);
	if (from_next_door(skb))
		return NEXT;
	if (!may_send(skb, c, &key))
		return refuse(a, segs);
	if (!remembered(skb, &key, c->generation, &way)) {
		to = (struct address){key.vni, key.remote};
		peer = bpf_map_lookup_elem(&peers, &to);
		if (!peer)
			return send_next_door(skb, a, &key, segs);
		way.to = *peer;
	}
	eth = data(skb);
	if ((void *)(eth + 1) > data_end(skb) || !same_mac(eth->h_dest, way.to.mac))
		return refuse(a, segs);
	if (mine)
		remember_way(&term, &key, &way.to, 0, 0, false);
	if (!encapsulate(skb, way.to.host, bpf_get_prandom_u32()))
		return fail(a, segs);
	return send(skb, a, way.to.next_hop, len, segs);
}

/* A packet of a flow of which it is not known yet where it leads: for who is sent to and hardly ever answers, it never is. It goes oncache's way,
 * by the tables of peers and containers. */
static __always_inline int look_up(struct __sk_buff *skb, struct account *a, const struct control *c, const struct outer *o, __u32 segs)
{
	const struct iphdr *ip = (const void *)(o + 1);
	struct arrival at = {};
	enum bail why;

	if ((const void *)(ip + 1) + sizeof(struct udphdr) > data_end(skb) || !ours(o, ip, &at))
		return NEXT;
	a->ingress.seen += segs;
	why = judge_arrival(skb, c, o, ip, &at);
	if (why == BAILS)
		why = judge_carried(skb, o, at.key.protocol);
	if (why != BAILS)
		return bail(&a->ingress, why, segs);
	return deliver(skb, &a->ingress, c, o, door(&at), at.how, at.from, segs);
}

/* Whether the socket that a flow ends in is still somebody's. */
static __always_inline bool lives(__u64 socket)
{
	return !socket || bpf_map_lookup_elem(&living, &socket);
}

/* Ingress of the wire's device. */
SEC("tc")
int from_wire(struct __sk_buff *skb)
{
	struct control *c = control();
	struct account *a = account();
	__u32 segs = segments(skb);
	struct flow_key key = {};
	const struct words silence = {};
	const struct way_home *way;
	struct flow *known, flow;
	struct ports ports;
	struct term term;
	struct outer *o;
	struct iphdr *ip;
	enum bail why;

	o = tunnelled(skb);
	if (!o || !a || !c || c->mode == MODE_OFF)
		return NEXT;
	ip = (void *)(o + 1);
	if ((void *)(ip + 1) + sizeof(struct udphdr) > data_end(skb))
		return NEXT;
	way = known_home(skb, c, o, ip, &silence);
	if (way)
		return deliver_home(skb, a, c, o, ip, way, segs);
	term = new_term(c);
	ports = ports_of(ip, data_end(skb));
	key = (struct flow_key){o->vxlan.vni, ip->daddr, ip->saddr, ports.dest, ports.source, ip->protocol};
	known = bpf_map_lookup_elem(&flows, &key);
	if (known && !lives(known->socket)) {
		bpf_map_delete_elem(&flows, &key);
		known = NULL;
	}
	if (!known || known->state != FLOW_ESTABLISHED || known->generation != c->generation || o->eth.h_proto != bpf_htons(ETH_P_IP) ||
	    is_syn(ip, data_end(skb)))
		return look_up(skb, a, c, o, segs);
	flow = *known;
	a->ingress.seen += segs;
	why = judge_received(skb, c, o, ip, flow.mac);
	if (why == BAILS && expired(c))
		why = BAIL_EXPIRED;
	if (why == BAILS && (flow.host != o->ip.saddr || !same_mac(o->eth.h_source, flow.peer_mac)))
		why = BAIL_SPOOFED;
	if (why == BAILS) {
		remember_home(&term, &key, flow.ifindex, flow.mac, flow.host, flow.peer_mac, &silence);
		why = judge_carried(skb, o, key.protocol);
	}
	if (why != BAILS)
		return bail(&a->ingress, why, segs);
	return deliver(skb, &a->ingress, c, o, flow.ifindex, TAG_ARRIVES, true, segs);
}

/* The socket that a packet is for, as the kernel would find it; it has to be released. */
static __always_inline struct bpf_sock *find(struct __sk_buff *skb, const struct flow_key *key)
{
	struct bpf_sock_tuple tuple = {.ipv4 = {key->remote, key->local, key->remote_port, key->local_port}};

	if (key->protocol == IPPROTO_TCP)
		return bpf_sk_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	return bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
}

/* Ingress of the lane's end in the container. What came by the wire is of an established flow; the stack still judges it, and so do
 * rules there: that a socket has been found is all that is spared. The tag is taken off: while this program is handed over from a filter to
 * tcx it stands there twice. */
SEC("tc")
int into_container(struct __sk_buff *skb)
{
	struct account *a = account();
	struct flow_key key = {};
	struct bpf_sock *sk;
	struct ports ports;
	struct iphdr *ip;

	if (!a || !untag(skb, TAG_ARRIVES) || skb->protocol != bpf_htons(ETH_P_IP) || !linear(skb, ETH_HLEN + sizeof(*ip) + sizeof(struct udphdr)))
		return NEXT;
	ip = data(skb) + ETH_HLEN;
	if ((void *)(ip + 1) + sizeof(struct udphdr) > data_end(skb) || ip->daddr != container_addr || judge(ip, data_end(skb)) != BAILS ||
	    ip->protocol == IPPROTO_ICMP)
		return NEXT;
	ports = ports_of(ip, data_end(skb));
	key = (struct flow_key){container_vni, ip->daddr, ip->saddr, ports.dest, ports.source, ip->protocol};
	sk = bpf_map_lookup_elem(&sockets, &key);
	if (sk) {
		if (!bpf_sk_assign(skb, sk, 0))
			a->assigned += segments(skb);
		bpf_sk_release(sk);
		return NEXT;
	}
	sk = find(skb, &key);
	if (!sk)
		return NEXT;
	if (key.protocol == IPPROTO_UDP || sk->state == BPF_TCP_ESTABLISHED)
		bpf_map_update_elem(&sockets, &key, sk, BPF_ANY);
	bpf_sk_release(sk);
	return NEXT;
}

/* A program of any container's has let go of a socket for the last time: at the root of the machine's cgroups. */
SEC("cgroup/sock_release")
int released(struct bpf_sock *sk)
{
	struct departure *d = bpf_sk_storage_get(&departures, sk, NULL, 0);
	struct flow_key key;
	__u64 cookie;

	if (!d)
		return 1; /* not one of a flow's */
	key = d->way.key; /* nobody writes it any more: whoever did had the socket, too */
	cookie = bpf_get_socket_cookie(sk);
	bpf_map_delete_elem(&living, &cookie);
	forget_flow(&key);
	return 1;
}

char _license[] SEC("license") = "Dual BSD/GPL";
