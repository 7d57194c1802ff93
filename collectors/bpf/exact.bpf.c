// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * exact: what each CPU spent its time on, to the nanosecond.
 *
 * Every instant of a CPU belongs to one context. Tracepoints say when it changes:
 *
 *	sched_switch                     the task: of a program, of the kernel (ksoftirqd too), or the idle task
 *	cpu_idle                         the idle task: asleep (halted or polling), or on its way there and back
 *	softirq_entry, softirq_exit      a softirq over whatever task it interrupted, or in ksoftirqd
 *	irq_handler_entry, _exit         a device's interrupt over all of these; on arm64 the timer's too
 *	call_function_entry, _exit, …    likewise the local APIC's on x86 and interrupts between CPUs on arm64, which have no
 *	                                 irq_handler; attached where the kernel has them (see exact.go)
 *
 * What the hardware and the entry code spend before and after a handler stays with the context that was interrupted.
 *
 * Three clocks nest. Interrupts are timed by the wall clock, softirqs by the wall clock less interrupts, tasks by the wall
 * clock less both: so each program writes what is its own and reads what is above it, none looks at what it interrupted, and
 * whatever happens the parts add up to the whole. An interrupt in the middle of a softirq's program may be given to the
 * context on the wrong side of that boundary, once, which lets a part go back by as much: parts are signed to their reader.
 *
 * Concurrency: interrupts don't nest and sched_switch has them off; a softirq interrupts no softirq. Not so with PREEMPT_RT,
 * where softirqs are preempted: this is not for it.
 *
 * tp_btf, since the task's fields are read in place: a tracepoint or raw_tp costs as much, and a call of probe_read for each
 * field. Kernels from 5.10 on with BTF: BPF_F_TEST_RUN_ON_CPU (5.10), by which the reader runs read_cpu.
 */
#include <linux/bpf.h>
#include <stddef.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

/* What is read of the kernel's task, wherever this kernel has it. */
struct task_struct {
	int pid;
	unsigned int flags;
} __attribute__((preserve_access_index));

#define PF_KTHREAD     0x00200000    /* include/linux/sched.h */
#define PWR_EVENT_EXIT ((__u32) - 1) /* include/trace/events/power.h */

/* Tasks, in the order of exact.go. */
enum kind { PROGRAM, KTHREAD, IDLE, ASLEEP, KINDS };

/* Whether a CPU is counted, and whether it has been asked what it runs since all programs were attached. */
enum state { IGNORED, UNASKED, ASKED };

/* One CPU. The reader makes an entry for each CPU up to the last one that it counts, those UNASKED. Two cache lines, as many
 * as a CPU fetches at once. */
struct cpu {
	__u32 state;
	__u32 kind;	     /* of the task that runs */
	__u64 irq;	     /* ns, as all that follows */
	__u64 irq_since;     /* wall clock; 0: in none */
	__u64 softirq;
	__u64 softirq_since; /* wall clock - irq; 0: in none */
	__u64 task_since;    /* wall clock - irq - softirq; 0: not known what runs */
	__u64 tasks[KINDS];
	__u64 pad[6];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct cpu);
	__uint(max_entries, 1);
} cpus SEC(".maps");

/* What read_cpu found, what is under way included. The parts add up to wall, but for what both began with. */
struct account {
	__u64 wall, irq, softirq;
	__u64 tasks[KINDS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct account);
	__uint(max_entries, 1);
} accounts SEC(".maps");

/* This CPU, if it is counted. */
static __always_inline struct cpu *here(void)
{
	__u32 id = bpf_get_smp_processor_id();
	struct cpu *c = bpf_map_lookup_elem(&cpus, &id);

	return c && c->state != IGNORED ? c : NULL;
}

static __always_inline enum kind kind_of(int pid, unsigned int flags)
{
	return pid == 0 ? IDLE : flags & PF_KTHREAD ? KTHREAD : PROGRAM;
}

/* The CPU goes on with a task of another kind. */
static __always_inline int become(struct cpu *c, enum kind kind)
{
	__u64 now = bpf_ktime_get_ns() - c->irq - c->softirq;

	if (c->task_since)
		c->tasks[c->kind & (KINDS - 1)] += now - c->task_since;
	c->task_since = now;
	c->kind = kind;
	return 0;
}

SEC("tp_btf/sched_switch")
int switched(__u64 *ctx) /* bool preempt, struct task_struct *prev, *next, … */
{
	struct task_struct *next = (void *)ctx[2];
	struct cpu *c = here();

	return c ? become(c, kind_of(next->pid, next->flags)) : 0;
}

SEC("tp_btf/cpu_idle")
int idled(__u64 *ctx) /* unsigned int state, cpu_id */
{
	struct cpu *c = here();

	return c ? become(c, (__u32)ctx[0] == PWR_EVENT_EXIT ? IDLE : ASLEEP) : 0;
}

SEC("tp_btf/softirq_entry")
int softirq_begins(void *ctx)
{
	struct cpu *c = here();

	if (c)
		c->softirq_since = bpf_ktime_get_ns() - c->irq;
	return 0;
}

SEC("tp_btf/softirq_exit")
int softirq_ends(void *ctx)
{
	struct cpu *c = here();

	if (c && c->softirq_since) {
		c->softirq += bpf_ktime_get_ns() - c->irq - c->softirq_since;
		c->softirq_since = 0;
	}
	return 0;
}

/* The next two are attached to each pair of tracepoints that an interrupt's handler has around it. */
SEC("tp_btf/irq_handler_entry")
int irq_begins(void *ctx)
{
	struct cpu *c = here();

	if (c)
		c->irq_since = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/irq_handler_exit")
int irq_ends(void *ctx)
{
	struct cpu *c = here();

	if (c && c->irq_since) {
		c->irq += bpf_ktime_get_ns() - c->irq_since;
		c->irq_since = 0;
	}
	return 0;
}

/* What runs here, for a CPU that may not switch before the window is over, or that switched while not all programs were
 * attached. The reader calls by an interrupt, which an idle task nearly always gets when it sleeps. */
static __always_inline enum kind running(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	unsigned int flags = BPF_CORE_READ(task, flags);
	enum kind kind = kind_of(BPF_CORE_READ(task, pid), flags);

	return kind == IDLE ? ASLEEP : kind;
}

/* Run by the reader on each CPU, in an interrupt unless it is the reader's own: so next to nothing changes meanwhile. */
SEC("raw_tp")
int read_cpu(void *ctx)
{
	__u32 id = bpf_get_smp_processor_id();
	struct account *r = bpf_map_lookup_elem(&accounts, &id);
	struct cpu *c = here();

	if (!r || !c)
		return 1;
	if (c->state == UNASKED) {
		become(c, running());
		c->state = ASKED;
	}
	r->wall = bpf_ktime_get_ns();
	r->irq = c->irq + (c->irq_since ? r->wall - c->irq_since : 0);
	r->softirq = c->softirq + (c->softirq_since ? r->wall - r->irq - c->softirq_since : 0);
	for (int i = 0; i < KINDS; i++)
		r->tasks[i] = c->tasks[i];
	r->tasks[c->kind & (KINDS - 1)] += r->wall - r->irq - r->softirq - c->task_since;
	return 0;
}

/* The kernel lets programs under the GPL alone call probe_read and read tasks. */
char _license[] SEC("license") = "Dual BSD/GPL";
