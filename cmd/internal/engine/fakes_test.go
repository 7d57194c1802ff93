// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/agentproto"
)

// world is a lab, its parts and a recorder without engines, whose mishaps tests choose.
type world struct {
	mu        sync.Mutex
	events    []string // "build host", "close host", "trial overlay"
	trials    []econbench.Trial
	logs      map[string]string
	unhealthy error
	appendErr error
	buildErr  func(topology string) error
	loadErr   func(trial int) error
	serveErr  func(workload string) error                                      // nil: servers start
	serverEnd func(workload string) error                                      // not nil and an error: a server ends with it while a client runs
	within    func(econbench.HostWindow) ([]econbench.Sample, []string, error) // of clients that know when their transactions were
	attachErr error
	window    func(trial int, arm string, side string) agentproto.WindowReply
	served    []string // topologies
	started   int
	replanned econbench.Plan
	rates     []string      // of the paced workload's clients
	lasting   bool          // clients run until nobody waits for them any more
	ran       time.Duration // what the last client was asked to run for
	roundTrip time.Duration
	doubts    []string
	driver    string                        // of both hosts' wires
	countErr  map[string]error              // by side
	probeErr  map[string]error              // likewise
	readers   []string                      // those of the last window
	devices   map[string][]econbench.Device // of the overlay, by side; nil: the usual ones on both
	lastWords []string                      // warnings of a client that fails

	activated     bool // testbeds have to be activated, which goes as the following say
	activateErr   error
	deactivateErr error
	doubted       []string // failures of the activation's proof
}

func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, fmt.Sprintf(format, args...))
}

func (w *world) parts() Parts {
	return Parts{
		Topologies: []econbench.Topology{fakeTopology{w, "host"}, fakeTopology{w, "overlay"}},
		Fastpaths:  []econbench.Fastpath{fakeFastpath{w, econbench.NoFastpath}, fakeFastpath{w, "quicker"}},
		Workloads:  []econbench.Workload{fakeWorkload{w}, otherWorkload{fakeWorkload{w}}},
		Collectors: []econbench.Collector{fakeCollector{}, costlyCollector{}},
	}
}

func (w *world) engine() *Engine {
	return &Engine{Parts: w.parts(), Lab: w, Recorder: w, Progress: w, RunID: "test"}
}

func (w *world) Client() econbench.Host                           { return fakeHost{w, econbench.ClientHost} }
func (w *world) Server() econbench.Host                           { return fakeHost{w, econbench.ServerHost} }
func (w *world) SharedKernel() bool                               { return true }
func (w *world) Steer(_ context.Context, bulk bool) (bool, error) { return !bulk, nil }

func (w *world) RoundTrip() time.Duration { return w.roundTrip }
func (w *world) Doubts() []string         { return w.doubts }

func (w *world) Healthy(context.Context) error { return w.unhealthy }
func (w *world) Step(string)                   {}

func (w *world) Trial(int, int, econbench.Trial) {}

func (w *world) Append(t econbench.Trial) error {
	if w.appendErr != nil {
		return w.appendErr
	}
	w.note("trial %s", t.Arm)
	w.trials = append(w.trials, t)
	return nil
}

func (w *world) Replan(p econbench.Plan) error {
	w.note("replan")
	w.replanned = p
	return nil
}

func (w *world) WriteLog(name string, body []byte) (string, error) {
	if w.logs == nil {
		w.logs = map[string]string{}
	}
	w.logs[name] = string(body)
	return "logs/" + name, nil
}

type fakeHost struct {
	w    *world
	name string
}

func (h fakeHost) Name() string           { return h.name }
func (h fakeHost) Agent() econbench.Agent { return h }
func (h fakeHost) Note([]string)          {}
func (h fakeHost) Facts() econbench.HostFacts {
	return econbench.HostFacts{CPUs: []int{0}, WireDriver: h.w.driver}
}

func (h fakeHost) StartContainer(context.Context, econbench.ContainerSpec) (econbench.Container, error) {
	return nil, errors.New("not in this test")
}

func (h fakeHost) CreateOverlay(context.Context, econbench.OverlaySpec) (econbench.Overlay, error) {
	return nil, errors.New("not in this test")
}

func (h fakeHost) OtherContainers(context.Context) ([]string, error) {
	return nil, errors.New("not in this test")
}

// Call answers OpProbe and OpWindow by the world's rule, through JSON as a real agent would.
func (h fakeHost) Call(_ context.Context, op string, args, reply any) error {
	if probe, ok := args.(agentproto.ProbeArgs); ok && op == agentproto.OpProbe {
		h.w.note("probe %s %s", h.name, probe.Readers)
		return h.w.probeErr[h.name]
	}
	if op != agentproto.OpWindow {
		return fmt.Errorf("operation %s: not in this test", op)
	}
	if err := h.w.countErr[h.name]; err != nil {
		return err
	}
	scope := args.(agentproto.WindowArgs).Scope
	h.w.mu.Lock()
	h.w.readers = args.(agentproto.WindowArgs).Readers
	h.w.mu.Unlock()
	arm := "host"
	if scope.PID == 2 {
		arm = "overlay"
	}
	h.w.mu.Lock()
	n := h.w.started - 1
	h.w.mu.Unlock()
	got := soundWindow(arm, h.name)
	if h.w.window != nil {
		got = h.w.window(n, arm, h.name)
	}
	body, err := json.Marshal(got)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, reply)
}

// soundWindow is one second of 1000 requests of 10 bytes that took the way they should.
func soundWindow(arm, side string) agentproto.WindowReply {
	payload := econbench.Counters{"bytes_received": 10_000, "bytes_acked": 10_000,
		"data_segs_in": 1000, "segs_in": 1000, "data_segs_out": 1000, "segs_out": 1000}
	devices := econbench.Counters{}
	for _, dir := range []string{"rx", "tx"} {
		devices["wire."+dir+"_bytes"], devices["wire."+dir+"_packets"] = 80_000, 1000
		devices["vxlan."+dir+"_bytes"], devices["vxlan."+dir+"_packets"] = 0, 0
		if arm == "overlay" {
			devices["wire."+dir+"_bytes"] = 130_000
			devices["vxlan."+dir+"_bytes"], devices["vxlan."+dir+"_packets"] = 80_000, 1000
		}
	}
	return agentproto.WindowReply{Window: econbench.HostWindow{
		Start: time.Unix(1, 0), Seconds: 1,
		Counters: map[string]econbench.Counters{"sockets": payload, "devices": devices},
	}}
}

type fakeTopology struct {
	w    *world
	name string
}

func (t fakeTopology) Name() string { return t.name }
func (t fakeTopology) Help() string { return "" }

// basedTopology is another one, changed.
type basedTopology struct{ fakeTopology }

func (basedTopology) Base() string { return "host" }

func (t basedTopology) Build(_ context.Context, _ econbench.Lab, o econbench.BuildOptions) (econbench.Testbed, error) {
	t.w.note("build %s upon %s", t.name, o.Base.(fakeBed).name)
	return fakeBed(t.fakeTopology), nil
}

func (t fakeTopology) Build(context.Context, econbench.Lab, econbench.BuildOptions) (econbench.Testbed, error) {
	if t.w.buildErr != nil {
		if err := t.w.buildErr(t.name); err != nil {
			return nil, err
		}
	}
	t.w.note("build %s", t.name)
	if t.w.activated {
		return activatedBed{fakeBed(t)}, nil
	}
	return fakeBed(t), nil
}

// activatedBed is what it is in its own trials alone.
type activatedBed struct{ fakeBed }

func (b activatedBed) Activate(context.Context) (econbench.Attachment, error) {
	if b.w.activateErr != nil {
		return nil, b.w.activateErr
	}
	b.w.note("activate %s", b.name)
	return fakeActivation(b), nil
}

type fakeActivation struct{ fakeBed }

var _ econbench.Prover = fakeActivation{}

func (fakeActivation) Handle(string) int { return 0 }

func (a fakeActivation) Prove(econbench.Window) []string { return a.w.doubted }

func (a fakeActivation) Close(context.Context) error {
	a.w.note("deactivate %s", a.name)
	return a.w.deactivateErr
}

type fakeBed struct {
	w    *world
	name string
}

func (b fakeBed) Client() econbench.Endpoint {
	return econbench.Endpoint{Host: b.w.Client(), Container: fakeBox{b.name}}
}
func (b fakeBed) Server() econbench.Endpoint {
	return econbench.Endpoint{Host: b.w.Server(), Container: fakeBox{b.name}}
}

func (b fakeBed) Path() econbench.Path {
	p := econbench.Path{Devices: map[string][]econbench.Device{}, Through: []string{"wire"}}
	list := []econbench.Device{{Role: "wire"}}
	if b.name == "overlay" {
		p.Through = append(p.Through, "vxlan")
		list = append(list, econbench.Device{Role: "vxlan"})
	}
	p.Devices[econbench.ClientHost], p.Devices[econbench.ServerHost] = list, list
	if b.name == "overlay" && b.w.devices != nil {
		p.Devices = b.w.devices
	}
	return p
}

func (b fakeBed) Close(context.Context) error {
	b.w.note("close %s", b.name)
	return nil
}

type fakeBox struct{ name string }

func (fakeBox) ID() string                  { return "id" }
func (fakeBox) Addr() netip.Addr            { return netip.Addr{} }
func (fakeBox) Sandboxes() string           { return "" }
func (fakeBox) Close(context.Context) error { return nil }

func (b fakeBox) PID() int {
	if b.name == "overlay" {
		return 2
	}
	return 1
}

func (fakeBox) Start(context.Context, ...string) (econbench.Process, error) {
	return nil, errors.New("not in this test")
}

type fakeFastpath struct {
	w    *world
	name string
}

func (f fakeFastpath) Name() string { return f.name }
func (f fakeFastpath) Help() string { return "" }

func (f fakeFastpath) Attach(context.Context, econbench.Testbed, econbench.AttachOptions) (econbench.Attachment, error) {
	f.w.note("attach %s", f.name)
	if f.w.attachErr != nil {
		return nil, f.w.attachErr
	}
	return fakeAttachment(f), nil
}

type fakeAttachment fakeFastpath

func (a fakeAttachment) Close(context.Context) error {
	a.w.note("detach %s", a.name)
	return nil
}

type fakeWorkload struct{ w *world }

func (fakeWorkload) Name() string    { return "ask" }
func (fakeWorkload) Help() string    { return "" }
func (fakeWorkload) Primary() string { return "transactions" }

func (fakeWorkload) Params(given econbench.Params) (econbench.Params, error) {
	for k := range given {
		if k != "size" {
			return nil, fmt.Errorf("unknown parameter %q: allowed: size", k)
		}
	}
	if given["size"] == "" {
		return econbench.Params{"size": "10"}, nil
	}
	return given, nil
}

func (f fakeWorkload) Serve(_ context.Context, tb econbench.Testbed) (econbench.Process, error) {
	return f.serve(f.Name(), tb)
}

func (f fakeWorkload) serve(workload string, tb econbench.Testbed) (econbench.Process, error) {
	f.w.mu.Lock() // servers start at once
	f.w.served = append(f.w.served, tb.Client().Container.(fakeBox).name)
	f.w.mu.Unlock()
	if f.w.serveErr != nil {
		if err := f.w.serveErr(workload); err != nil {
			return nil, err
		}
	}
	return fakeServer{f.w, workload}, nil
}

// otherWorkload is another one with a server of its own.
type otherWorkload struct{ fakeWorkload }

func (otherWorkload) Name() string { return "tell" }

func (o otherWorkload) Serve(_ context.Context, tb econbench.Testbed) (econbench.Process, error) {
	return o.serve(o.Name(), tb)
}

type fakeServer struct {
	w        *world
	workload string
}

// Wait ends with the server, which does so as soon as it is waited for.
func (s fakeServer) Wait(ctx context.Context) (econbench.Output, error) {
	if s.w.serverEnd != nil {
		if err := s.w.serverEnd(s.workload); err != nil {
			return econbench.Output{}, err
		}
	}
	<-ctx.Done()
	return econbench.Output{}, ctx.Err()
}
func (fakeServer) Close(context.Context) error { return nil }

func (f fakeWorkload) Start(_ context.Context, _ econbench.Testbed, _ econbench.Params, d time.Duration) (econbench.Load, error) {
	return f.start(f.Name(), d)
}

func (o otherWorkload) Start(_ context.Context, _ econbench.Testbed, _ econbench.Params, d time.Duration) (econbench.Load, error) {
	return o.start(o.Name(), d)
}

func (f fakeWorkload) start(workload string, d time.Duration) (econbench.Load, error) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.w.started++
	f.w.ran = d
	return fakeLoad{f.w, f.w.started - 1, workload}, nil
}

type fakeLoad struct {
	w        *world
	n        int
	workload string
}

func (fakeLoad) Flows() econbench.Flows {
	return econbench.Flows{ServerPort: 1, Count: 1, RequestBytes: 10}
}

func (l fakeLoad) Wait(ctx context.Context) (econbench.Result, error) {
	if l.w.lasting {
		<-ctx.Done()
		return econbench.Result{}, context.Cause(ctx)
	}
	if l.w.loadErr != nil {
		if err := l.w.loadErr(l.n); err != nil {
			return econbench.Result{Log: []byte("the tool's last words"), Warnings: l.w.lastWords}, err
		}
	}
	if l.w.serverEnd != nil && l.w.serverEnd(l.workload) != nil {
		<-ctx.Done() // what its server's end makes of it
		return econbench.Result{Log: []byte("no answer")}, context.Cause(ctx)
	}
	return econbench.Result{Within: l.w.within, Samples: []econbench.Sample{{Metric: "latency_p99", Value: 3e-5}, {Metric: "tool_transactions", Value: 1000}}}, nil
}

func (fakeLoad) Close(context.Context) error { return nil }

// fakeCollector says one core, and counts transactions.
type fakeCollector struct{}

func (fakeCollector) Name() string { return "fake" }
func (fakeCollector) Help() string { return "" }

func (fakeCollector) Samples(w econbench.Window) ([]econbench.Sample, []string) {
	n := w.Server.Counters["sockets"]["bytes_received"] / float64(w.Flows.RequestBytes) / float64(w.Server.Seconds)
	return []econbench.Sample{{Metric: "transactions", Value: n}, {Metric: "cpu", Value: 1}}, nil
}

// costlyCollector is one that only some plans want.
type costlyCollector struct{}

func (costlyCollector) Name() string                 { return "costly" }
func (costlyCollector) Help() string                 { return "" }
func (costlyCollector) Wanted(p econbench.Plan) bool { return p.CPU == econbench.CPUExact }
func (costlyCollector) Samples(econbench.Window) ([]econbench.Sample, []string) {
	return []econbench.Sample{{Metric: "cpu_exact", Value: 0.9}}, nil
}
