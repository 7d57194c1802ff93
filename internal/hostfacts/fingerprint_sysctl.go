// SPDX-License-Identifier: Apache-2.0

package hostfacts

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/econbench/econbench"
)

// sysctls are those that move a figure, as they are in the host's network namespace. One that this kernel lacks, or that
// only the first network namespace has, is absent.
var sysctls = []string{
	// buffers and queues between device and socket
	"net.core.rmem_default", "net.core.rmem_max", "net.core.wmem_default", "net.core.wmem_max", "net.core.optmem_max",
	"net.core.netdev_budget", "net.core.netdev_budget_usecs", "net.core.netdev_max_backlog", "net.core.dev_weight",
	"net.core.default_qdisc", "net.core.somaxconn", "net.core.gro_normal_batch", "net.core.skb_defer_max",
	"net.core.high_order_alloc_disable", "net.core.mem_pcpu_rsv",
	"net.core.busy_poll", "net.core.busy_read", "net.core.rps_sock_flow_entries", "net.core.netdev_tstamp_prequeue",
	// how BPF programs run: without the JIT every fast path is another one
	"net.core.bpf_jit_enable", "net.core.bpf_jit_harden", "kernel.bpf_stats_enabled",
	// TCP and UDP
	"net.ipv4.tcp_congestion_control", "net.ipv4.tcp_available_congestion_control", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
	"net.ipv4.tcp_mem", "net.ipv4.udp_mem", "net.ipv4.udp_rmem_min", "net.ipv4.udp_wmem_min",
	"net.ipv4.tcp_sack", "net.ipv4.tcp_timestamps", "net.ipv4.tcp_window_scaling", "net.ipv4.tcp_ecn", "net.ipv4.tcp_adv_win_scale",
	"net.ipv4.tcp_moderate_rcvbuf", "net.ipv4.tcp_slow_start_after_idle", "net.ipv4.tcp_no_metrics_save", "net.ipv4.tcp_autocorking",
	"net.ipv4.tcp_limit_output_bytes", "net.ipv4.tcp_notsent_lowat", "net.ipv4.tcp_min_tso_segs", "net.ipv4.tcp_tso_win_divisor",
	"net.ipv4.tcp_tso_rtt_log", "net.ipv4.tcp_pacing_ss_ratio", "net.ipv4.tcp_pacing_ca_ratio", "net.ipv4.tcp_mtu_probing",
	"net.ipv4.tcp_early_demux", "net.ipv4.udp_early_demux", "net.ipv4.ip_early_demux", "net.ipv4.tcp_fastopen",
	"net.ipv4.tcp_tw_reuse", "net.ipv4.tcp_syncookies", "net.ipv4.tcp_max_syn_backlog", "net.ipv4.ip_local_port_range",
	"net.ipv4.tcp_comp_sack_delay_ns", "net.ipv4.tcp_comp_sack_nr", "net.ipv4.tcp_recovery",
	// what a forwarded packet passes
	"net.ipv4.ip_forward", "net.ipv4.conf.all.rp_filter", "net.ipv4.fib_multipath_hash_policy",
	"net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables", "net.bridge.bridge-nf-call-arptables",
	"net.netfilter.nf_conntrack_max", "net.netfilter.nf_conntrack_buckets", "net.netfilter.nf_conntrack_acct",
	"net.netfilter.nf_conntrack_checksum", "net.netfilter.nf_conntrack_timestamp",
	// where and when programs run
	"kernel.numa_balancing", "kernel.sched_autogroup_enabled", "kernel.sched_schedstats", "kernel.sched_energy_aware",
	"kernel.sched_rt_runtime_us", "kernel.sched_child_runs_first", "kernel.timer_migration", "kernel.watchdog", "kernel.nmi_watchdog",
	"kernel.perf_cpu_time_max_percent", "vm.stat_interval", "vm.zone_reclaim_mode", "vm.compaction_proactiveness",
}

// sysctlFacts are the settings above.
func sysctlFacts(t trees, _ string) (econbench.Fingerprint, error) {
	f := econbench.Fingerprint{}
	for _, name := range sysctls {
		value := text(t.proc, "sys", filepath.FromSlash(strings.ReplaceAll(name, ".", "/")))
		if strings.HasSuffix(name, "_available_congestion_control") { // listed as they were loaded
			algorithms := strings.Fields(value)
			slices.Sort(algorithms)
			value = strings.Join(algorithms, " ")
		}
		f["sysctl."+name] = value
	}
	return f, nil
}
