// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * handicap: a fast path that is slower on purpose, by a known time. Whoever measures with it knows what should be found.
 *
 * A packet's journey is the kernel's own. At the egress of the wire's device, the last hook before the driver, each frame waits
 * until the CPU has gone round a loop as often as the agent ordered, and goes on untouched.
 *
 * The loop counts its turns and reads no clock. A clock that costs 20 to 40 ns a reading can't stop at 30 ns; and a count is work
 * as the rest of the path is: it takes longer at a lower frequency, as the rest does, and what an interrupt takes is not taken off
 * it. Each turn needs what the last one stored, so that no CPU does two at a time. What a turn takes is measured by the
 * agent before it attaches the program (BPF_PROG_TEST_RUN).
 *
 * Nothing is done, nor counted, once the agent has stopped renewing its order: a filter that a killed agent left slows nobody.
 *
 * Concurrency: the order is written by the agent alone. The hook runs with softirqs disabled, so a CPU's tally has one writer.
 * Kernels from 5.17 on: bpf_loop.
 */
#include "packet.h"

struct order {
	__u64 until; /* CLOCK_MONOTONIC, ns */
	__u32 turns; /* of the loop for a frame; bpf_loop makes at most 2^23 */
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct order);
	__uint(max_entries, 1);
} orders SEC(".maps");

/* One CPU's counts. */
struct tally {
	__u64 frames;	/* as the device was given them: a super-frame is one */
	__u64 segments; /* that they stand for: what the device counts lies in between, by where it is that they are taken apart */
	__u64 turns;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct tally);
	__uint(max_entries, 1);
} tallies SEC(".maps");

static int turn(__u32 i, void *last)
{
	__u64 *x = last;

	*x += i;
	return 0;
}

/* Egress of the wire's device. */
SEC("tc")
int burn(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct order *order = bpf_map_lookup_elem(&orders, &zero);
	struct tally *tally = bpf_map_lookup_elem(&tallies, &zero);
	__u64 x = 0;
	long made;

	if (!order || !tally || bpf_ktime_get_coarse_ns() > order->until)
		return NEXT;
	tally->frames++;
	tally->segments += segments(skb);
	made = bpf_loop(order->turns, turn, &x, 0);
	if (made > 0)
		tally->turns += made;
	return NEXT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
