// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"regexp"
	"strings"
)

// KernelSuffix ends the frames of kernel functions, as in perf's folded stacks: "tcp_sendmsg_[k]". Functions of BPF programs begin
// with BPFPrefix instead.
const (
	KernelSuffix = "_[k]"
	BPFPrefix    = "bpf:"
)

// Kind is what a frame belongs to.
type Kind string

// Kinds of frames, in the order of legends and tables.
const (
	KindUser      Kind = "programs"
	KindEntry     Kind = "system calls, interrupts"
	KindTransport Kind = "sockets, TCP, UDP"
	KindIP        Kind = "IP, routing"
	KindNetfilter Kind = "netfilter"
	KindCore      Kind = "packet core"
	KindTunnel    Kind = "tunnel, bridge"
	KindDriver    Kind = "drivers"
	KindBPF       Kind = "BPF"
	KindMemory    Kind = "memory, copying"
	KindScheduler Kind = "scheduler, timers"
	KindOther     Kind = "other kernel"
)

// Kinds are all of them.
func Kinds() []Kind {
	return []Kind{KindUser, KindEntry, KindTransport, KindIP, KindNetfilter, KindCore, KindTunnel, KindDriver, KindBPF, KindMemory, KindScheduler, KindOther}
}

// kernelKinds tell kernel functions by their names, the first that fits. They are guesses: a name says what most functions called so do.
var kernelKinds = []struct {
	kind Kind
	name *regexp.Regexp
}{
	{KindBPF, regexp.MustCompile(`^_*(bpf_|htab_|array_map|sk_skb|tcx_|cls_bpf|sch_handle_|tcf_|tc_run|htab|lookup_elem|skb_do_redirect|sock_ops|cgroup_bpf|percpu_array|lru_|lookup_nulls_elem|htab_)|_bpf_|_bpf$|htab_map|__htab`)},
	{KindNetfilter, regexp.MustCompile(`^_*(nf_|nft_|nfnl|ipt_|ip_tables|xt_|conntrack|iptable|ip6table|ipv4_conntrack|hash_conntrack|br_nf_|get_l4proto|tcp_in_window|tcp_packet|nf_nat|udp_packet|tcp_error)|nf_conntrack|_nat_`)},
	{KindTunnel, regexp.MustCompile(`^_*(vxlan|vni_filter|udp_tunnel|iptunnel|ip_tunnel|geneve|gre_|gro_cells|br_|fdb_|dev_forward|bridge|udp_gro|eth_gro|encap_|arp_process|arp_reduce|nbp_)|udp_tunnel|_vxlan|skb_tunnel|vxlan_`)},
	{KindDriver, regexp.MustCompile(`^_*(veth|macvlan|netkit|ipvlan|tun_|tap_|virtnet|virtio|virtqueue|vring|vp_|mlx|ixgbe|ice_|i40e|igb|igc|e1000|bnxt|ena_|gve_|hv_|netvsc|xennet|tg3|r8169|page_pool|napi_build|ptr_ring|loopback_xmit)|^start_xmit$`)},
	{KindEntry, regexp.MustCompile(`^_*(entry_|do_syscall|syscall_|x64_sys|x64_sys_call|se_sys|ia32_|asm_|sysvec|common_interrupt|irq_|irqentry|handle_softirqs|do_softirq|softirq|handle_irq|handle_edge|run_ksoftirqd|invoke_softirq|exc_|error_entry|ret_from|local_bh_enable|exit_to_user|call_function_single_interrupt|ct_|rcu_|do_IRQ|native_apic|flush_smp_call|smp_call|generic_smp|raise_softirq|send_call_function|native_send_call|x2apic|default_send_IPI|trigger_load|raw_callee_save|pvm_irq|pvm_hypercall|pvm_restore)|fred_|irq_enable|irq_disable`)},
	{KindScheduler, regexp.MustCompile(`^_*(sched|schedule|pick_|enqueue_|dequeue_|try_to_wake|ttwu|update_curr|update_load|update_rq|update_se|update_min|update_cfs|finish_task|switch_|prepare_task|set_next|put_prev|select_task|select_idle|wake_up|wake_|autoremove|default_wake|pollwake|ep_|prepare_to_wait|finish_wait|add_wait|remove_wait|wait_woken|woken_wake|place_entity|reweight|check_preempt|wakeup_preempt|resched|task_|cpu_startup|do_idle|tick_|hrtimer|timer|ktime|clockevents|lapic|tsc_|read_tsc|native_sched|kvm_clock|cpuidle|menu_|psi_|sugov|avg_vruntime|vruntime|entity_|yield|kthread|smpboot|worker_|process_one|perf_|run_timer|call_timer|mod_timer|get_nohz|nohz|quiet_vmstat|can_stop|need_update|leave_mm|cpu_idle|native_load_tls|native_write_msr|pvm_write_msr|write_msr|load_fixmap|fpregs|restore_fpregs|save_fpregs|os_xsave|pv_native_safe|update_ts|idle_|start_secondary|secondary_|rest_init|start_kernel|x86_64_start|cpuacct|mm_cid|futex|do_futex|dl_|rt_|balance_|newidle|sync_core|migrate|set_task|sg_|pelt|accumulate_sum|calc_|get_next_timer|get_cpu_|arch_cpu|default_idle|detach_if)|runqueue|_sched_|cfs_rq`)},
	{KindMemory, regexp.MustCompile(`^_*(kmem|kmalloc|kfree|kvfree|slab|slub|alloc_pages|free_pages|free_frozen|alloc_skb|get_page|put_page|page_frag|skb_page|copy_|rep_movs|memcpy|memset|memmove|memcmp|clear_page|check_object|virt_to|check_heap|usercopy|mod_memcg|mem_cgroup|refill_|obj_cgroup|try_charge|charge_|free_unref|rmqueue|get_random|import_|iov_iter|fault_in|handle_mm|do_anonymous|napi_skb_cache|skb_release_data|skb_free|kfree_skbmem|csum_partial|csum_and|folio|___slab|get_from_partial|setup_object|lru_add|vma_|mas_|mt_|do_user_addr|mmap|flush_tlb|ptep|pte_|pmd|native_set_p|set_pte|unmap_|zap_|tlb_|do_fault|filemap|next_uptodate|xas_|shmem)`)},
	{KindIP, regexp.MustCompile(`^_*(ip_|ip4_|ip6_|ipv4_|ipv6_|fib_|inet_lookup|inet_ehash|inet_addr|icmp|rt_|dst_|neigh|arp_|route|raw_local|find_exception|ip4|ip_finish|ip_rcv|udp4_lib_lookup|inet_select|l3mdev)|_rtable|_dst_`)},
	{KindTransport, regexp.MustCompile(`^_*(tcp|udp|inet|sock|sk_|sys_send|sys_recv|sys_sendto|sys_recvfrom|sk[b]?_copy|skb_copy_datagram|skb_set_owner|skb_recv|simple_copy|release_sock|lock_sock|security_sock|security_socket|aa_|apparmor|bbr|cubic|cubictcp|bictcp|datagram|import_single|fdget|sockfd|move_addr|wait_for_|sys_sendmsg|sys_recvmsg|vfs_|ksys_|new_sync|sys_read|sys_write|fput|fget|fd_|selinux|do_select|core_sys_select|do_sys_poll|poll_|tls_|minmax|prb_|secure_tcp|siphash|bpf_skops|lsm_)|_lsm_`)},
	{KindCore, regexp.MustCompile(`^_*(netif|dev_|napi|net_rx|net_tx|process_backlog|skb_|skb|sch_|qdisc|pfifo|fq_|gro_|inet_gro|netdev|validate_xmit|eth_|enqueue_to_backlog|rps_|get_rps|flow_|build_skb|consume_skb|kfree_skb|pskb|packet_|tpacket|xmit|dql|net_|deliver_|llc|vlan|harmonize|passthru|bulk_|loopback|ns_to|sock_wfree|csum)|_xmit|napi_`)},
}

// KindOf is what a frame belongs to, by its name alone.
func KindOf(frame string) Kind {
	if strings.HasPrefix(frame, BPFPrefix) {
		return KindBPF
	}
	name, kernel := strings.CutSuffix(frame, KernelSuffix)
	if !kernel {
		return KindUser
	}
	for _, k := range kernelKinds {
		if k.name.MatchString(name) {
			return k.kind
		}
	}
	return KindOther
}

// label is a frame's name for people.
func label(frame string) string { return strings.TrimSuffix(frame, KernelSuffix) }
