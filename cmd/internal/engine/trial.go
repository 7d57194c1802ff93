// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/agentproto"
)

const (
	// appearTimeout bounds the time until a client's flows carry payload, appearPerFlow how much more of it many need.
	appearTimeout = 10 * time.Second
	appearPerFlow = 100 * time.Millisecond
	// slack is added to deadlines of steps that take a planned time.
	slack = 20 * time.Second
	// margin is how much longer than warm-up and window a client runs, round trips to the agents aside: its data must flow
	// until both hosts have read.
	margin = 200 * time.Millisecond
	// bulkMargin is that of bulk, which leaves no CPU to the engines that tell the agents to begin: with 200 ms 1 of 300 clients had
	// ended before its host had read.
	bulkMargin = 500 * time.Millisecond
	// toolTolerance is how far a tool's mean over its whole run may lie from the counters over the window, as a share.
	toolTolerance = 0.15
)

// try does one trial: get the cell to work, count on both hosts over the window, wait for the client, derive.
func (e *Engine) try(ctx context.Context, t *econbench.Trial) (log []byte, err error) {
	window := e.plan.Warmup.Duration() + e.plan.Duration.Duration()
	w, err := e.putToWork(ctx, t.Cell, window+marginOf(named(e.Parts.Workloads, t.Workload))+2*e.Lab.RoundTrip())
	defer func() { t.Phases = &w.phases }()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close(context.WithoutCancel(ctx))) }()
	t.Apart, t.Metrics = w.apart, e.expected(t.Cell, w.load.Flows())
	counted, result, err := e.observe(ctx, w, window)
	counted.Apart = t.Apart
	t.Hosts, t.Warnings = windowsOf(counted), append(t.Warnings, result.Warnings...)
	if err != nil {
		return result.Log, err // what one host counted, and who had doubts, may say why
	}
	if result.Within != nil {
		samples, doubts, err := result.Within(counted.Client)
		if err != nil {
			return result.Log, err
		}
		result.Samples = append(result.Samples, samples...)
		t.Warnings = append(t.Warnings, doubts...)
	}
	e.fill(t, pathOf(w.bed, w.attached), e.carriedBy(w.attached, counted, t.Cell), counted, result)
	for _, a := range []econbench.Attachment{w.activated, w.attached} {
		if p, ok := a.(econbench.Prover); ok {
			for _, failure := range p.Prove(counted) {
				t.Proof.Failures = append(t.Proof.Failures, failure)
				t.Invalid = append(t.Invalid, "path: "+failure)
			}
		}
	}
	w.phases.Finish += w.lap()
	return result.Log, nil
}

// attachOptions are the plan's with what an arm says of its fast path.
func attachOptions(p econbench.Plan, a econbench.Arm) econbench.AttachOptions {
	o := p.Attach
	o.Setting = a.Setting
	return o
}

// marginOf is how much longer than warm-up and window a workload's client runs.
func marginOf(w econbench.Workload) time.Duration {
	if isBulk(w) {
		return bulkMargin
	}
	return margin
}

// appearWithin bounds the time until flows carry payload.
func appearWithin(f econbench.Flows) time.Duration {
	within := appearTimeout
	for _, set := range f.Sets() {
		within += time.Duration(set.Count) * appearPerFlow
	}
	return within
}

func isBulk(w econbench.Workload) bool {
	b, ok := w.(econbench.Bulk)
	return ok && b.Bulk()
}

// observe lets both agents count while the client runs, has it end when both have, and gathers what it says. A client that fails ends
// the counting, as does a server that ends.
func (e *Engine) observe(ctx context.Context, at *atWork, busy time.Duration) (w econbench.Window, r econbench.Result, err error) {
	ctx, done := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if _, err := at.server.Wait(ctx); ctx.Err() == nil {
			done(&serverEnded{err})
		}
	}()
	g, counting := errgroup.WithContext(ctx)
	limit := appearWithin(at.load.Flows()) + busy + slack
	counting, cancel := context.WithTimeoutCause(counting, limit, fmt.Errorf("trial not over in %v", limit))
	defer cancel()
	var doubts []string
	g.Go(func() (err error) {
		w, doubts, err = e.countBoth(counting, at.bed, at.load.Flows(), handles(at.attached))
		at.counted(w, e.plan.Warmup)
		if ender, ok := at.load.(econbench.Ender); ok && err == nil {
			err = ender.End(counting, at.bed)
		}
		return err
	})
	g.Go(func() (err error) {
		r, err = at.load.Wait(counting)
		return err
	})
	err = g.Wait()
	var ended *serverEnded
	if errors.As(context.Cause(ctx), &ended) {
		err = ended // whatever came of it
	}
	done(nil)
	<-watched
	at.phases.Finish = at.lap()
	r.Warnings = append(r.Warnings, doubts...)
	return w, r, err
}

// countBoth asks both hosts' agents for a window at the same time.
func (e *Engine) countBoth(ctx context.Context, b *bed, flows econbench.Flows, handle func(host string) int) (w econbench.Window, doubts []string, err error) {
	w = econbench.Window{Flows: flows, SharedKernel: e.Lab.SharedKernel()}
	w.ClientCPUs, w.ServerCPUs = e.Lab.Client().Facts().CPUs, e.Lab.Server().Facts().CPUs
	g, ctx := errgroup.WithContext(ctx)
	var told [2][]string
	for i, end := range []econbench.Endpoint{b.Client(), b.Server()} {
		g.Go(func() (err error) {
			var got agentproto.WindowReply
			got, err = e.count(ctx, end, b.others(end.Host.Name(), flows), flows, handle(end.Host.Name()))
			*[]*econbench.HostWindow{&w.Client, &w.Server}[i], told[i] = got.Window, got.Warnings
			return err
		})
	}
	err = g.Wait()
	for i, host := range []string{econbench.ClientHost, econbench.ServerHost} {
		for _, doubt := range told[i] {
			doubts = append(doubts, host+": "+doubt)
		}
	}
	return w, doubts, err
}

// count asks one host's agent for a window.
func (e *Engine) count(ctx context.Context, end econbench.Endpoint, others []int, flows econbench.Flows, handle int) (r agentproto.WindowReply, err error) {
	host := end.Host
	err = host.Agent().Call(ctx, agentproto.OpWindow, agentproto.WindowArgs{
		Scope: econbench.Scope{
			PID: end.Container.PID(), Others: others, Side: host.Name(), Flows: flows, CPUs: host.Facts().CPUs, Devices: e.watched(host.Name()), Handle: handle,
		},
		Readers:  namesOf(e.collectors()),
		Midway:   namesOf(workCollectors(e.collectors())),
		Appear:   econbench.SecondsOf(appearWithin(flows)),
		Warmup:   e.plan.Warmup,
		Duration: e.plan.Duration,
	}, &r)
	return r, err
}

// windowsOf are the windows of the hosts that counted.
func windowsOf(w econbench.Window) map[string]econbench.HostWindow {
	hosts := map[string]econbench.HostWindow{}
	for name, window := range map[string]econbench.HostWindow{econbench.ClientHost: w.Client, econbench.ServerHost: w.Server} {
		if window.Seconds > 0 {
			hosts[name] = window
		}
	}
	return hosts
}

// fill turns what was counted and said into the trial's record.
func (e *Engine) fill(t *econbench.Trial, path econbench.Path, list []econbench.Carried, w econbench.Window, r econbench.Result) {
	said := map[string]float64{}
	samples := r.Samples
	for _, c := range e.collectors() {
		got, doubts := c.Samples(w)
		samples = append(samples, got...)
		t.Warnings = append(t.Warnings, doubts...)
	}
	for _, s := range samples {
		if _, ok := e.plan.Metric(s.Metric); !ok {
			said[s.Metric] = s.Value
			continue
		}
		t.Metrics[s.Metric] = &s.Value
	}
	t.Metrics["halves"] = e.halves(w, r.Within)
	derive(t.Metrics, w.Flows)
	if list != nil {
		carrierMetrics(list, t.Metrics)
	}
	t.Warnings = append(t.Warnings, crossCheck(t.Metrics, said)...)
	views, doubts := e.views()
	t.Warnings = append(t.Warnings, doubts...)
	t.Proof = prove(path, views, w, list)
	for _, failure := range t.Proof.Failures {
		t.Invalid = append(t.Invalid, "path: "+failure)
	}
	wrong, doubts := e.checkCongestionControl(w.Flows, t.Hosts)
	t.Invalid, t.Warnings = append(t.Invalid, wrong...), append(t.Warnings, doubts...)
}

func workCollectors(all []econbench.Collector) (list []econbench.WorkCollector) {
	for _, c := range all {
		if w, ok := c.(econbench.WorkCollector); ok {
			list = append(list, w)
		}
	}
	return list
}

// halves is the rate of work over the first half of the window by that over the second; null when it is not known. within is the
// client's knowledge of its transactions, where nobody else has any.
func (e *Engine) halves(w econbench.Window, within func(econbench.HostWindow) ([]econbench.Sample, []string, error)) *float64 {
	early, late := w, w
	var ok, also bool
	early.Client, late.Client, ok = w.Client.Halves()
	if early.Server, late.Server, also = w.Server.Halves(); !ok || !also {
		return nil
	}
	draw := []func(econbench.Window) []econbench.Sample{}
	for _, c := range workCollectors(e.Parts.Collectors) {
		draw = append(draw, func(w econbench.Window) []econbench.Sample { s, _ := c.Samples(w); return s })
	}
	if w.Flows.ByClient && within != nil {
		draw = append(draw, func(w econbench.Window) []econbench.Sample { s, _, _ := within(w.Client); return s })
	}
	for _, samples := range draw {
		first, second := samples(early), samples(late)
		for _, metric := range []string{"transactions", "throughput"} { // of bulk beside requests it is the requests that count
			if a, b := sampleOf(first, metric), sampleOf(second, metric); a > 0 && b > 0 {
				ratio := a / b
				return &ratio
			}
		}
	}
	return nil
}

func sampleOf(samples []econbench.Sample, metric string) float64 {
	for _, s := range samples {
		if s.Metric == metric {
			return s.Value
		}
	}
	return 0
}

// checkCongestionControl holds what the flows ran against what the plan wants in all arms. Both ends count: a server's
// sockets take their algorithm from their own side's route. Datagrams have none. Of connections that come and go some are
// looked at; where none was met, that is a doubt.
func (e *Engine) checkCongestionControl(f econbench.Flows, hosts map[string]econbench.HostWindow) (wrong, doubts []string) {
	want := e.plan.CongestionControl
	if f.Kind == econbench.DatagramFlows || want == "" {
		return nil, nil
	}
	for _, host := range []string{econbench.ClientHost, econbench.ServerHost} {
		got := hosts[host].Notes[econbench.NoteCongestionControl]
		switch {
		case got == "" && f.Kind == econbench.ConnectFlows:
			doubts = append(doubts, fmt.Sprintf("congestion control: no connection of %s's was alive when looked at", host))
		case got != want:
			wrong = append(wrong, fmt.Sprintf("congestion control: %s's flows run %q, want %q", host, got, want))
		}
	}
	return wrong, doubts
}

// expected lists the metrics that a trial of a cell with such flows should have: those nobody delivers stay null.
func (e *Engine) expected(c econbench.Cell, f econbench.Flows) map[string]*float64 {
	names := []string{"cpu", "cpu_client", "cpu_server", "softirq", "steal", "run_delay",
		"cpu_of_client", "cpu_of_server", "cpu_of_rest", "agent_cpu", "psi_cpu", "context_switches", "drops"}
	if e.plan.CPU == econbench.CPUExact {
		names = append(names, "cpu_exact", "cpu_exact_task", "cpu_exact_softirq", "cpu_exact_irq", "cpu_exact_idling")
	}
	if e.plan.Histograms {
		names = append(names, "softirq_delay_p50", "softirq_delay_p99")
		if f.Kind != econbench.DatagramFlows {
			names = append(names, "receive_delay_p50", "receive_delay_p99", "receive_matched")
		}
	}
	if f.Kind != econbench.ConnectFlows { // their namespace counts segments, data or not
		names = append(names, "packets", "cpu_per_packet")
	}
	if f.Kind != econbench.DatagramFlows {
		names = append(names, "retransmits", "out_of_order")
	}
	names = append(names, waysOf(f)...)
	switch {
	case f.Beside != nil: // the CPU is spent on both kinds of work, and can't be told apart
		names = append(names, "transactions", "latency_p50", "latency_p90", "latency_p99", "latency_mean", "throughput")
		names = append(names, waysOf(*f.Beside)...)
	case f.Transactions():
		names = append(names, "transactions", "latency_p50", "latency_p90", "latency_p99", "latency_mean", "cpu_per_transaction",
			"switches_per_transaction")
	case f.Kind == econbench.DatagramFlows:
		names = append(names, "throughput", "cpu_per_byte", "offered", "loss")
	default:
		names = append(names, "throughput", "cpu_per_byte")
	}
	if w, ok := named(e.Parts.Workloads, c.Workload).(econbench.Measured); ok {
		names = append(names, w.Metrics(c.Params)...)
	}
	m := make(map[string]*float64, len(names))
	for _, n := range names {
		m[n] = nil
	}
	return m
}

// derive computes what a unit of work took, where both are known and it was spent on that kind of work alone.
func derive(m map[string]*float64, f econbench.Flows) {
	for per, of := range map[string][2]string{
		"cpu_per_transaction": {"cpu", "transactions"}, "cpu_per_byte": {"cpu", "throughput"}, "cpu_per_packet": {"cpu", "packets"},
		"switches_per_transaction": {"context_switches", "transactions"},
	} {
		if f.Beside != nil && of[1] != "packets" {
			continue
		}
		if took, done := m[of[0]], m[of[1]]; took != nil && done != nil && *done > 0 {
			v := *took / *done
			m[per] = &v
		}
	}
}

// crossCheck compares a tool's own mean with the kernel's counters over the window.
func crossCheck(m map[string]*float64, said map[string]float64) (warnings []string) {
	for _, name := range []string{"throughput", "transactions", "offered"} {
		tool, ok := said["tool_"+name]
		if !ok || m[name] == nil || *m[name] <= 0 {
			continue
		}
		if off := tool/(*m[name]) - 1; math.Abs(off) > toolTolerance {
			warnings = append(warnings, fmt.Sprintf("%s: the tool's mean over its whole run is %+.0f %% off the counters over the window", name, 100*off))
		}
	}
	return warnings
}
