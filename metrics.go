// SPDX-License-Identifier: Apache-2.0

package econbench

// Better says which way a metric should move.
type Better string

const (
	Higher Better = "higher"
	Lower  Better = "lower"
	// Neither is of what describes and does not judge: a slower arm in a closed loop uses fewer cores and sends fewer packets.
	Neither Better = ""
)

// Metric describes a number that trials carry.
type Metric struct {
	Name   string `json:"name"`
	Unit   string `json:"unit"` // base unit: B/s, 1/s, s, 1, cores
	Better Better `json:"better"`
	Help   string `json:"help"`
}

// metrics is the one list of metric names. Their order is the order of columns.
var metrics = []Metric{
	{"throughput", "B/s", Higher, "payload received by the receiving program's sockets"},
	{"throughput_up", "B/s", Higher, "of throughput in both directions, from the client to the server"},
	{"throughput_down", "B/s", Higher, "of throughput in both directions, from the server to the client"},
	{"packets", "1/s", Neither, "data segments or datagrams received, counted at the receiver"},
	{"transactions", "1/s", Higher, "request-response pairs completed, counted at the server; by the client's program where they differ in size"},
	{"errors", "1/s", Lower, "requests that were not answered as they should have been; in no percentile"},
	{"offered", "1/s", Neither, "datagrams sent, counted at the sender; in an open loop, requests that were due"},
	{"loss", "1", Lower, "share of the datagrams sent that no program received"},
	{"latency_p50", "s", Lower, "median of the request's round-trip time as the client saw it"},
	{"latency_p90", "s", Lower, "90th percentile of the request's round-trip time"},
	{"latency_p99", "s", Lower, "99th percentile of the request's round-trip time"},
	{"latency_p999", "s", Lower, "99.9th percentile of the request's round-trip time"},
	{"latency_p9999", "s", Lower, "99.99th percentile of the request's round-trip time"},
	{"latency_max", "s", Lower, "longest round-trip time of a request"},
	{"latency_mean", "s", Lower, "mean of the request's round-trip time"},
	{"cpu", "cores", Neither, "CPU time spent busy per second, both hosts together"},
	{"cpu_client", "cores", Neither, "CPU time spent busy per second on the client's host; null when hosts share CPUs"},
	{"cpu_server", "cores", Neither, "CPU time spent busy per second on the server's host; null when hosts share CPUs"},
	{"cpu_per_transaction", "s", Lower, "busy CPU time of both hosts per transaction"},
	{"cpu_per_byte", "s", Lower, "busy CPU time of both hosts per byte of payload"},
	{"cpu_per_packet", "s", Lower, "busy CPU time of both hosts per data segment or datagram"},
	{"cpu_exact", "cores", Neither, "CPU time of tasks, softirqs and interrupts per second, both hosts together (each change of context timed)"},
	{"cpu_exact_task", "cores", Neither, "of cpu_exact, programs and kernel threads"},
	{"cpu_exact_softirq", "cores", Neither, "of cpu_exact, softirqs, in ksoftirqd too"},
	{"cpu_exact_irq", "cores", Neither, "of cpu_exact, handlers of interrupts"},
	{"cpu_exact_idling", "cores", Neither, "beside cpu_exact, the idle task on its way to sleep and back"},
	{"softirq", "cores", Neither, "CPU time accounted to softirq per second, both hosts together (sampled by the tick)"},
	{"cpu_of_client", "cores", Neither, "CPU time of the client's container per second, softirqs that interrupted it included"},
	{"cpu_of_server", "cores", Neither, "CPU time of the server's container per second, softirqs that interrupted it included"},
	{"cpu_of_rest", "cores", Neither, "cpu less that of both containers: kernel threads, softirqs and interrupts of idle CPUs, everybody else"},
	{"agent_cpu", "cores", Lower, "CPU time that observing took per second: the dearer of the two agents"},
	{"steal", "1", Lower, "share of wall time the hypervisor took away"},
	{"run_delay", "s/s", Lower, "time the workload's tasks waited for a CPU per second (schedstat)"},
	{"psi_cpu", "1", Lower, "share of the window in which some task of the machine waited for a CPU (PSI); of two machines the larger"},
	{"context_switches", "1/s", Neither, "switches away from the workload's tasks, voluntary or not, both hosts together"},
	{"switches_per_transaction", "1", Lower, "context switches of the workload's tasks per transaction"},
	{"softirq_delay_p50", "s", Lower, "median time from NET_RX softirq raised to begun, both hosts together (BPF, with --histograms)"},
	{"softirq_delay_p99", "s", Lower, "99th percentile of the time from NET_RX softirq raised to begun"},
	{"receive_delay_p50", "s", Lower, "median time from a TCP segment's arrival at the wire to the program's copying it, both hosts together (BPF, with --histograms)"},
	{"receive_delay_p99", "s", Lower, "99th percentile of the time from a TCP segment's arrival at the wire to the program's copying it"},
	{"receive_matched", "1", Neither, "TCP segments that programs read whose arrival was seen / all that they read"},
	{"retransmits", "1/s", Lower, "TCP segments retransmitted by the workload's flows"},
	{"out_of_order", "1/s", Lower, "TCP segments that arrived out of order, in the endpoints' network namespaces"},
	{"drops", "1/s", Lower, "packets that were broken or found a queue full, in the endpoints' namespaces and the hosts' backlogs"},
	{"generator_cpu", "cores", Neither, "CPU time of the load generator's own process per second"},
	{"generator_lag", "s", Lower, "99th percentile of how late the load generator itself was in sending, in an open loop"},
	{"halves", "1", Neither, "work in the first half of the window / in the second; below 1 it was still gaining pace"},
	{"hit_ratio", "1", Higher, "packets carried by the fast path / packets eligible for it"},
	{"coverage", "1", Higher, "packets carried by the fast path / packets seen at the endpoint's device"},
	{"masqueraded", "1", Higher, "packets carried without encapsulation / packets carried by the fast path (xmasq)"},
}

// Metrics lists every metric, in the order of columns.
func Metrics() []Metric { return append([]Metric(nil), metrics...) }

// MetricNamed finds a metric by name.
func MetricNamed(name string) (Metric, bool) {
	for _, m := range metrics {
		if m.Name == name {
			return m, true
		}
	}
	return Metric{}, false
}
