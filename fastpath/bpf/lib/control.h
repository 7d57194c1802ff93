/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What an agent tells its programs while they are at work: how long what is cached may be trusted, and what to do.
 */
#ifndef ECONBENCH_CONTROL_H
#define ECONBENCH_CONTROL_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "packet.h"

/* fastpath/control.go has their names in the same order. */
enum mode {
	MODE_ON,
	MODE_OFF, /* as if nothing were attached: nothing is counted and nothing learnt */
	MODE_DRY, /* all is judged, learnt and counted, and the packet goes on as it came */
};

struct control {
	__u64 until; /* CLOCK_MONOTONIC, ns: an agent that is not heard of any more keeps no cache either */
	__u32 mode;
	__u32 generation; /* another one: what flows remember of peers and containers is void */
	__u32 unruled;	  /* no rule on the kernel's path asks about packets: connections may begin and end on the fast path */
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct control);
	__uint(max_entries, 1);
} controls SEC(".maps");

static __always_inline struct control *control(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&controls, &zero);
}

/* Whether a packet that judge() bails for its flags may be carried all the same. Urgent data is none that the stack should miss. */
static __always_inline bool passes(const struct control *c, const struct iphdr *ip)
{
	return c->unruled && !(TCP_FLAGS(ip + 1) & TCP_URG);
}

static __always_inline bool expired(const struct control *c)
{
	return bpf_ktime_get_coarse_ns() > c->until;
}

#endif
