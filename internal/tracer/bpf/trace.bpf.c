// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * trace: which way the packets of one flow go through one host, stage by stage.
 *
 * Each stage is a function of the kernel, a tracepoint or a program of a fast path, and has a copy of one of the programs
 * below, which differ in where the packet or the socket stands among the arguments (see hooks.go). A copy does four things:
 *
 *	whose?	the packet's device, or else its socket, is in one of this host's network namespaces: in an emulated lab two
 *		hosts share the kernel and so all of these hooks
 *	which?	a packet is known by its content, not by its address: headers are read where they are, plain or within a
 *		tunnel's; a socket by its ports. Segments without payload are nobody's request and nobody's response
 *	when?	the clock is read first, so that the tracing of a stage counts as time after it
 *	note	into the next free slot of an array, which is read when all is over: nobody is woken up for it
 *
 * Softirqs are no stages: a stage says in which one it happened, by when that began.
 *
 * Direct loads through the arguments' types wherever the verifier allows it, since a call of probe_read for each field would
 * cost more than all the rest; headers alone are read by probe_read. Functions want Linux 5.17 (bpf_get_func_ret) and a kernel that lets programs be
 * attached to them; tracepoints with BTF stand in for some, from 5.10 on, those of sockets from 6.3 on (see hooks.go).
 *
 * Concurrency: slots are taken atomically and written by who took them; softirq state belongs to its CPU.
 */
#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define KERNEL __attribute__((preserve_access_index)) /* wherever this kernel has the field */

#define ETH_HLEN    14
#define ETH_P_IP    0x0800
#define AF_INET	    2
#define AF_INET6    10
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define NAME_LEN    16 /* IFNAMSIZ */

struct ns_common {
	unsigned int inum;
} KERNEL;

struct net {
	struct ns_common ns;
} KERNEL;

struct possible_net {
	struct net *net;
} KERNEL;

struct net_device {
	int ifindex;
	char name[NAME_LEN];
	struct possible_net nd_net;
} KERNEL;

struct sock_common {
	__be32 skc_daddr, skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	struct possible_net skc_net;
} KERNEL;

struct sock {
	struct sock_common __sk_common;
} KERNEL;

struct sk_buff {
	struct sock *sk;
	struct net_device *dev;
	unsigned int len;
	__u16 network_header;
	unsigned char *head, *data;
} KERNEL;

struct nf_hook_state {
	__u8 hook, pf;
	struct net_device *in, *out;
	struct net *net;
} KERNEL;

struct task_struct {
	int pid;
} KERNEL;

/* The flow. Its packets have the first pair of addresses, or the second one where a fast path has put the hosts' in their place. */
struct pair {
	__be32 client, server;
};
const volatile struct pair pairs[2];
const volatile __u16 server_port; /* as the host has it */
const volatile __u8 protocol;
const volatile bool is_server; /* whose host this is */

enum direction { REQUEST, RESPONSE, NEITHER };

struct event {
	__u64 at;	     /* ns of the host's monotonic clock */
	__u64 softirq_since; /* likewise, of the softirq that it happened in; 0: in none */
	__u64 skb;
	__u32 netns; /* inode number */
	__u32 ifindex;
	__u32 payload; /* B */
	__s32 detail;  /* by hook: verdict, netfilter's family and hook, CPU, task */
	__u16 hook;
	__u16 cpu;
	__u8 direction;
	__u8 tunnelled;
	__u8 softirq; /* its number */
	__u8 pad;
	char device[NAME_LEN];
};

/* As long as the reader wants (events.go). */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct event);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
} events SEC(".maps");

__u32 slots;	 /* of events */
__u32 taken;	 /* of these, and of those that were not there any more */
__u32 recording; /* whether anything is to be noted */
__u64 sent;	 /* requests or responses that programs of this host sent, noted or not */

/* System calls that send, by the architecture's numbers. */
#define SEND_CALLS 4
const volatile long send_calls[SEND_CALLS];

/* This host's network namespaces, by inode number. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} namespaces SEC(".maps");

/* The tasks that use the flow's sockets. */
struct program {
	__u32 netns;
	__u32 direction; /* of what they read */
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct program);
	__uint(max_entries, 1024);
} programs SEC(".maps");

struct softirq {
	__u64 since;
	__u64 number;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct softirq);
	__uint(max_entries, 1);
} softirqs SEC(".maps");

/* Which hook this copy is at: the number is put in the place of this one as the copy is made. */
static __always_inline __u16 this_hook(void)
{
	__u64 id;

	asm volatile("%0 = 0x65636f6e62656e63 ll" : "=r"(id));
	return id;
}

static __always_inline bool ours(__u32 netns)
{
	return bpf_map_lookup_elem(&namespaces, &netns) != NULL;
}

/* The next free slot, with what does not depend on the hook. */
static __always_inline struct event *note(__u64 now, __u32 netns)
{
	__u32 zero = 0, slot = __sync_fetch_and_add(&taken, 1);
	struct softirq *s = bpf_map_lookup_elem(&softirqs, &zero);
	struct event *e;

	if (slot >= slots) {
		recording = 0;
		return NULL;
	}
	e = bpf_map_lookup_elem(&events, &slot);
	if (!e)
		return NULL;
	e->at = now;
	e->netns = netns;
	e->hook = this_hook();
	e->cpu = bpf_get_smp_processor_id();
	if (s) {
		e->softirq_since = s->since;
		e->softirq = s->number;
	}
	return e;
}

/* Headers of IPv4 without options and of what is in it, as far as they are read. */
struct headers {
	__u8 version;
	__u8 tos;
	__be16 length;
	__be32 id_and_fragment;
	__u8 ttl;
	__u8 protocol;
	__be16 check;
	__be32 source, destination;
	__be16 source_port, destination_port;
	__u8 rest[16];
};
#define IP_LEN	   20
#define TUNNEL_LEN (IP_LEN + 8 + 8 + ETH_HLEN) /* IP, UDP, VXLAN, Ethernet */

/* What is known of a packet. */
struct packet {
	enum direction direction;
	bool tunnelled;
	__u32 payload;
};

static __always_inline bool is_flow(const struct headers *h, struct packet *p)
{
	__be16 port = bpf_htons(server_port);
	__u32 before = IP_LEN + 8, length = bpf_ntohs(h->length);

	if (h->version != 0x45 || h->protocol != protocol)
		return false;
	p->direction = NEITHER;
	for (int i = 0; i < 2; i++) {
		if (h->source == pairs[i].client && h->destination == pairs[i].server && h->destination_port == port)
			p->direction = REQUEST;
		if (h->source == pairs[i].server && h->destination == pairs[i].client && h->source_port == port)
			p->direction = RESPONSE;
	}
	if (protocol == IPPROTO_TCP)
		before = IP_LEN + (h->rest[8] >> 4) * 4;
	if (p->direction == NEITHER || length <= before)
		return false;
	p->payload = length - before;
	return true;
}

/* Whether the flow's packet begins at an address, by itself or in a tunnel. */
static __always_inline bool begins_at(const unsigned char *ip, struct packet *p)
{
	struct headers h;

	p->tunnelled = false;
	if (bpf_probe_read_kernel(&h, sizeof(h), ip))
		return false;
	if (is_flow(&h, p))
		return true;
	if (h.version != 0x45 || h.protocol != IPPROTO_UDP)
		return false;
	p->tunnelled = true;
	return !bpf_probe_read_kernel(&h, sizeof(h), ip + TUNNEL_LEN) && is_flow(&h, p);
}

/* A packet begins with its link header, with its IP header, or has been taken apart further than that. */
static __always_inline bool is_of_flow(struct sk_buff *skb, struct packet *p)
{
	unsigned char *data = skb->data;
	__be16 type = 0;

	if (!bpf_probe_read_kernel(&type, sizeof(type), data + ETH_HLEN - 2) && type == bpf_htons(ETH_P_IP) &&
	    begins_at(data + ETH_HLEN, p))
		return true;
	return begins_at(skb->head + skb->network_header, p) || begins_at(data, p);
}

static __always_inline void name(struct event *e, struct net_device *dev)
{
	e->ifindex = dev->ifindex;
	bpf_probe_read_kernel(e->device, NAME_LEN, dev->name);
}

/* A stage that a packet passes. */
static __always_inline int stage(struct sk_buff *skb, __s32 detail)
{
	__u64 now = bpf_ktime_get_ns();
	struct net_device *dev;
	struct packet p;
	struct event *e;
	__u32 netns = 0;

	if (!recording)
		return 0;
	dev = skb->dev;
	if (dev) {
		netns = dev->nd_net.net->ns.inum;
	} else {
		struct sock *sk = skb->sk;

		if (sk)
			netns = sk->__sk_common.skc_net.net->ns.inum;
	}
	if (!ours(netns) || !is_of_flow(skb, &p))
		return 0;
	e = note(now, netns);
	if (!e)
		return 0;
	e->skb = (__u64)skb;
	e->detail = detail;
	e->payload = p.payload;
	e->direction = p.direction;
	e->tunnelled = p.tunnelled;
	if (dev)
		name(e, dev);
	return 0;
}

SEC("fentry/skb")
int packet_first(__u64 *ctx)
{
	return stage((void *)ctx[0], 0);
}

SEC("fentry/skb")
int packet_second(__u64 *ctx)
{
	return stage((void *)ctx[1], 0);
}

SEC("fentry/skb")
int packet_third(__u64 *ctx)
{
	return stage((void *)ctx[2], 0);
}

SEC("fentry/enqueue_to_backlog") /* skb, cpu */
int packet_to_cpu(__u64 *ctx)
{
	return stage((void *)ctx[0], (__s32)ctx[1]);
}

SEC("tp_btf/skb")
int packet_traced(__u64 *ctx)
{
	return stage((void *)ctx[0], 0);
}

SEC("fexit/program") /* a tc program's context, its verdict */
int packet_judged(__u64 *ctx)
{
	return stage((void *)ctx[0], (__s32)ctx[1]);
}

/* Netfilter has hooks before a packet has a device, and knows the namespace. */
SEC("fentry/nf_hook_slow") /* skb, state */
int packet_filtered(__u64 *ctx)
{
	__u64 now = bpf_ktime_get_ns();
	struct sk_buff *skb = (void *)ctx[0];
	struct nf_hook_state *state = (void *)ctx[1];
	struct net_device *dev;
	struct packet p;
	struct event *e;
	__u32 netns;

	if (!recording)
		return 0;
	netns = state->net->ns.inum;
	if (!ours(netns) || !is_of_flow(skb, &p))
		return 0;
	e = note(now, netns);
	if (!e)
		return 0;
	e->skb = (__u64)skb;
	e->detail = state->pf << 8 | state->hook;
	e->payload = p.payload;
	e->direction = p.direction;
	e->tunnelled = p.tunnelled;
	dev = state->out;
	if (!dev)
		dev = state->in;
	if (dev)
		name(e, dev);
	return 0;
}

/*
 * What a socket reads if it is one of the flow's: requests on the server's host, responses on the client's. A socket that is not
 * connected has no remote address; a client's is known then by its own port, which has to be the server's.
 */
static __always_inline enum direction reads(struct sock *sk)
{
	struct sock_common *c = &sk->__sk_common;
	__be32 own = is_server ? pairs[0].server : pairs[0].client, other = is_server ? pairs[0].client : pairs[0].server;
	__be32 local = c->skc_rcv_saddr, remote = c->skc_daddr;

	if (c->skc_family != AF_INET && c->skc_family != AF_INET6)
		return NEITHER;
	if ((local && local != own) || (remote && remote != other))
		return NEITHER;
	if (is_server)
		return c->skc_num == server_port ? REQUEST : NEITHER;
	if (remote)
		return c->skc_dport == bpf_htons(server_port) ? RESPONSE : NEITHER;
	return c->skc_num == server_port ? RESPONSE : NEITHER;
}

/* A stage that a socket's data pass. */
static __always_inline int socket_stage(struct sock *sk, bool sends, __u32 payload, __u64 skb)
{
	__u64 now = bpf_ktime_get_ns();
	enum direction reading;
	struct event *e;
	__u32 netns;

	if (!recording)
		return 0;
	netns = sk->__sk_common.skc_net.net->ns.inum;
	reading = reads(sk);
	if (reading == NEITHER || !ours(netns))
		return 0;
	e = note(now, netns);
	if (!e)
		return 0;
	e->skb = skb;
	e->payload = payload;
	e->direction = sends ? RESPONSE - reading : reading;
	return 0;
}

/* Who uses a socket of the flow: its being scheduled is a stage, and so are its system calls where its sends can't be seen. */
static __always_inline void learn(struct sock *sk)
{
	__u32 task = bpf_get_current_pid_tgid();
	struct program p = {.direction = reads(sk)};

	if (p.direction == NEITHER || bpf_map_lookup_elem(&programs, &task))
		return;
	p.netns = sk->__sk_common.skc_net.net->ns.inum;
	if (ours(p.netns))
		bpf_map_update_elem(&programs, &task, &p, BPF_ANY);
}

SEC("fentry/tcp_sendmsg") /* sk, msg, size */
int socket_sends(__u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];

	if (reads(sk) == NEITHER || !ours(sk->__sk_common.skc_net.net->ns.inum))
		return 0;
	learn(sk);
	__sync_fetch_and_add(&sent, 1);
	return socket_stage(sk, true, (__u32)ctx[2], 0);
}

/* A stage of a program's own. */
static __always_inline int task_stage(__u32 task, enum direction direction, struct program *p)
{
	struct event *e = note(bpf_ktime_get_ns(), p->netns);

	if (!e)
		return 0;
	e->direction = direction;
	e->detail = task;
	return 0;
}

SEC("tp_btf/sys_enter") /* regs, number */
int task_sends(__u64 *ctx)
{
	__u32 task = bpf_get_current_pid_tgid();
	struct program *p = bpf_map_lookup_elem(&programs, &task);
	bool sends = false;

	if (!p)
		return 0;
	for (int i = 0; i < SEND_CALLS; i++)
		if ((long)ctx[1] == send_calls[i])
			sends = true;
	if (!sends)
		return 0;
	__sync_fetch_and_add(&sent, 1);
	return recording ? task_stage(task, RESPONSE - p->direction, p) : 0;
}

SEC("fentry/__tcp_transmit_skb") /* sk, skb: no header yet */
int socket_transmits(__u64 *ctx)
{
	struct sk_buff *skb = (void *)ctx[1];
	__u32 payload = skb->len;

	return payload ? socket_stage((void *)ctx[0], true, payload, (__u64)skb) : 0;
}

SEC("fentry/sock_def_readable") /* sk */
int socket_readable(__u64 *ctx)
{
	return socket_stage((void *)ctx[0], false, 0, 0);
}

SEC("tp_btf/sk_data_ready") /* sk */
int socket_ready(__u64 *ctx)
{
	return socket_stage((void *)ctx[0], false, 0, 0);
}

SEC("fexit/tcp_recvmsg") /* sk, …; returns bytes or an error */
int socket_received(__u64 *ctx)
{
	__u64 got = 0;

	if (bpf_get_func_ret(ctx, &got) || (__s32)got <= 0)
		return 0;
	learn((void *)ctx[0]);
	return socket_stage((void *)ctx[0], false, (__u32)got, 0);
}

SEC("tp_btf/sock_recv_length") /* sk, bytes or an error, flags */
int socket_read(__u64 *ctx)
{
	__s32 got = (__s32)ctx[1];

	if (got <= 0)
		return 0;
	learn((void *)ctx[0]);
	return socket_stage((void *)ctx[0], false, got, 0);
}

SEC("tp_btf/tcp_probe") /* sk, skb: has a device no more */
int segment_received(__u64 *ctx)
{
	__u64 now = bpf_ktime_get_ns();
	struct sock *sk = (void *)ctx[0];
	struct sk_buff *skb = (void *)ctx[1];
	struct packet p;
	struct event *e;
	__u32 netns;

	if (!recording)
		return 0;
	netns = sk->__sk_common.skc_net.net->ns.inum;
	if (!ours(netns) || !is_of_flow(skb, &p))
		return 0;
	e = note(now, netns);
	if (!e)
		return 0;
	e->skb = (__u64)skb;
	e->payload = p.payload;
	e->direction = p.direction;
	return 0;
}

SEC("tp_btf/sched_switch") /* preempt, prev, next */
int task_runs(__u64 *ctx)
{
	struct task_struct *next = (void *)ctx[2];
	struct program *p;
	__u32 task;

	if (!recording)
		return 0;
	task = next->pid;
	p = bpf_map_lookup_elem(&programs, &task);
	return p ? task_stage(task, p->direction, p) : 0;
}

SEC("tp_btf/softirq_entry")
int softirq_begins(__u64 *ctx)
{
	__u32 zero = 0;
	struct softirq *s = bpf_map_lookup_elem(&softirqs, &zero);

	if (s) {
		s->since = bpf_ktime_get_ns();
		s->number = ctx[0];
	}
	return 0;
}

SEC("tp_btf/softirq_exit")
int softirq_ends(__u64 *ctx)
{
	__u32 zero = 0;
	struct softirq *s = bpf_map_lookup_elem(&softirqs, &zero);

	if (s)
		s->since = 0;
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
