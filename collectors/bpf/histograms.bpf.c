// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * histograms: how long what arrives is kept waiting, on one host.
 *
 *	softirq_raise → softirq_entry	a CPU's NET_RX or NET_TX: from the first raise since it last began until it begins
 *	arrival → copy			a packet: from when the wire's driver hands it up until a program in the endpoint's network
 *					namespace begins to copy it out of its socket. GRO, steering to another CPU, the backlog, the
 *					whole stack, the wait in the socket's queue and the program's way to a CPU are in it
 *
 * Arrival is the first that is seen of a packet behind its driver: netif_rx, or the entry to GRO or to the stack, whichever the driver
 * calls; each has a copy of the same program. The copy is skb_copy_datagram_iovec, which TCP calls for each packet that a program
 * reads. Both know the packet by its address.
 *
 * Not seen: datagrams, but for those with fragments: UDP copies a linear packet without passing a tracepoint (copy_linear_skb), and
 * frees it elsewhere (Linux 6.18); packets that were merged into another one (GRO; TCP merges into the last one of its queue), whose data counts as the
 * first one's; what is read in pieces, from its second piece on; what is not copied (splice, kTLS, a sockmap). An address is taken
 * again when a packet is freed unread, an acknowledgement, say: if the next one there came by no wire and a program of the
 * endpoint's reads it, its wait is the former's. Reads are counted, and those that could be matched, so that this can be judged.
 *
 * In an emulated lab two hosts share the kernel: each loads its own programs, which look at their host's CPUs, the wire's device in
 * their host's network namespace and the endpoint's network namespace.
 *
 * Histograms are of powers of two in eight parts each: a bucket is at most an eighth wider than what is in it.
 *
 * Concurrency: what a softirq counts is its CPU's own. Reads of one CPU may preempt each other and so count atomically. An entry of
 * arrivals may be overwritten by another packet's of the same hash while it is looked at: one wait may be a wrong one then, if the
 * two packets took the same hash within nanoseconds.
 *
 * tp_btf, since arguments are read in place. Kernels from 5.10 on with BTF.
 */
#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#define KERNEL __attribute__((preserve_access_index)) /* wherever this kernel has the field */

#define ETH_P_IP   0x0800
#define ETH_P_IPV6 0x86DD

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
	struct possible_net nd_net;
} KERNEL;

struct sk_buff {
	struct net_device *dev;
	__be16 protocol;
} KERNEL;

struct nsproxy {
	struct net *net_ns;
} KERNEL;

struct task_struct {
	struct nsproxy *nsproxy;
} KERNEL;

/* The wire's device and those below it (of a bond or a VLAN, which the driver knows nothing of), and their network namespace. */
#define MAX_WIRES 8
const volatile __s32 wires[MAX_WIRES];
const volatile __u32 wires_count;
const volatile __u32 host_netns;     /* inode number, as the next */
const volatile __u32 endpoint_netns; /* of the programs that read */

/* Histograms of a CPU, in the order of histograms.go. */
enum kind { NET_TX, NET_RX, RECEIVE, KINDS };
#define SOFTIRQ_NET_TX 2 /* include/linux/interrupt.h */
#define SOFTIRQ_NET_RX 3
#define BUCKETS	       256

/* One CPU. The reader makes an entry for each CPU up to the last one that it counts. */
struct cpu {
	__u64 counted;	 /* 1: it is the host's */
	__u64 raised[2]; /* ns, NET_TX and NET_RX: since when it waits; 0: it does not */
	__u64 reads;	 /* packets that programs of the endpoint's read here, seen before or not */
	__u64 counts[KINDS][BUCKETS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct cpu);
	__uint(max_entries, 1);
} cpus SEC(".maps");

/* Packets that arrived, by a hash of their address: an array is several times cheaper than a hash map, and what is lost where two
 * meet is one read that can't be matched. */
#define ARRIVALS_BITS 14
struct arrival {
	__u64 skb;
	__u64 at; /* ns */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct arrival);
	__uint(max_entries, 1 << ARRIVALS_BITS);
} arrivals SEC(".maps");

/* An argument as a number: with a packet's own pointer the verifier allows no arithmetic. */
static __always_inline __u64 number_of(__u64 *argument)
{
	__u64 number = 0;

	bpf_probe_read_kernel(&number, sizeof(number), argument);
	return number;
}

static __always_inline struct arrival *arrival_of(__u64 skb)
{
	__u32 slot = (skb * 0x9E3779B97F4A7C15ULL) >> (64 - ARRIVALS_BITS); /* Knuth's multiplicative hash */

	return bpf_map_lookup_elem(&arrivals, &slot);
}

/* This CPU, if it is counted. */
static __always_inline struct cpu *here(void)
{
	__u32 id = bpf_get_smp_processor_id();
	struct cpu *c = bpf_map_lookup_elem(&cpus, &id);

	return c && c->counted ? c : NULL;
}

/* Up to 8 ns a bucket each, then 8 of each power of two; the last one has all that is longer (17 s). */
static __always_inline __u32 bucket_of(__u64 ns)
{
	__u64 rest = ns;
	__u32 log = 0, bucket;

	for (int shift = 32; shift; shift /= 2) {
		if (rest >> shift) {
			rest >>= shift;
			log += shift;
		}
	}
	if (log < 3)
		return ns;
	bucket = (log - 2) * 8 + ((ns >> (log - 3)) & 7);
	return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

static __always_inline void count(struct cpu *c, enum kind kind, __u64 ns)
{
	__u32 bucket = bucket_of(ns) & (BUCKETS - 1);

	__sync_fetch_and_add(&c->counts[kind][bucket], 1);
}

/* Since when this CPU's softirq waits; NULL if it is none that is counted. */
static __always_inline __u64 *raised_at(struct cpu *c, __u32 softirq)
{
	if (softirq == SOFTIRQ_NET_TX)
		return &c->raised[NET_TX];
	if (softirq == SOFTIRQ_NET_RX)
		return &c->raised[NET_RX];
	return NULL;
}

SEC("tp_btf/softirq_raise")
int softirq_raised(__u64 *ctx) /* unsigned int vec_nr */
{
	__u32 softirq = ctx[0];
	struct cpu *c = softirq == SOFTIRQ_NET_TX || softirq == SOFTIRQ_NET_RX ? here() : NULL;
	__u64 *since = c ? raised_at(c, softirq) : NULL;

	if (since && !*since)
		*since = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/softirq_entry")
int softirq_begins(__u64 *ctx) /* unsigned int vec_nr */
{
	__u32 softirq = ctx[0];
	struct cpu *c = softirq == SOFTIRQ_NET_TX || softirq == SOFTIRQ_NET_RX ? here() : NULL;
	__u64 *since = c ? raised_at(c, softirq) : NULL;

	if (since && *since) {
		count(c, softirq == SOFTIRQ_NET_RX ? NET_RX : NET_TX, bpf_ktime_get_ns() - *since);
		*since = 0;
	}
	return 0;
}

static __always_inline bool is_wire(struct net_device *dev)
{
	for (__u32 i = 0; i < MAX_WIRES; i++) {
		if (i < wires_count && dev->ifindex == wires[i])
			return dev->nd_net.net->ns.inum == host_netns;
	}
	return false;
}

/* A copy of this is attached to each tracepoint behind drivers that the kernel has. */
SEC("tp_btf/netif_rx")
int arrived(__u64 *ctx) /* struct sk_buff *skb */
{
	struct sk_buff *skb = (void *)ctx[0];
	struct net_device *dev = skb->dev;
	struct arrival *a;
	__u64 address;

	if (!dev || !is_wire(dev))
		return 0;
	address = number_of(ctx);
	a = arrival_of(address);
	if (a) {
		a->at = bpf_ktime_get_ns();
		a->skb = address;
	}
	return 0;
}

SEC("tp_btf/skb_copy_datagram_iovec")
int copied(__u64 *ctx) /* struct sk_buff *skb, int len */
{
	struct sk_buff *skb = (void *)ctx[0];
	struct task_struct *task;
	struct arrival *a;
	struct cpu *c;
	__u64 address;

	if (skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6))
		return 0; /* a UNIX socket's, say */
	c = here();
	if (!c)
		return 0;
	task = (void *)bpf_get_current_task();
	if (BPF_CORE_READ(task, nsproxy, net_ns, ns.inum) != endpoint_netns)
		return 0;
	__sync_fetch_and_add(&c->reads, 1);
	address = number_of(ctx);
	a = arrival_of(address);
	if (!a || a->skb != address)
		return 0;
	a->skb = 0;
	count(c, RECEIVE, bpf_ktime_get_ns() - a->at);
	return 0;
}

/* The kernel lets programs under the GPL alone call probe_read and read tasks. */
char _license[] SEC("license") = "Dual BSD/GPL";
