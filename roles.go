// SPDX-License-Identifier: Apache-2.0

package econbench

import (
	"context"
	"encoding/json"
	"io"
	"net/netip"
	"time"
)

// A run crosses a process border: the controller decides, orders and records; an agent inside each host acts and reads.
// Topology, Workload, Collector and Fastpath are the controller's halves; Reader is the agent's half of a collector.
// Every verb that takes something returns the handle that gives it back.

// Lab is two hosts joined by a wire.
type Lab interface {
	Client() Host
	Server() Host
}

// Host is one engine with an agent in its network and PID namespaces.
type Host interface {
	Name() string // ClientHost or ServerHost
	Facts() HostFacts
	Agent() Agent
	Note(tunings []string) // records what was changed on the host for the run, a line each
	StartContainer(context.Context, ContainerSpec) (Container, error)
	CreateOverlay(context.Context, OverlaySpec) (Overlay, error) // any host of the swarm may be asked that manages it
	// OtherContainers names the engine's running containers that are not econbench's own.
	OtherContainers(context.Context) ([]string, error)
}

// Agent is the controller's end of the conversation with the agent of one host.
type Agent interface {
	// Call sends args (JSON) to the agent's operation op and decodes its answer into reply, which may be nil.
	Call(ctx context.Context, op string, args, reply any) error
}

// ContainerSpec asks for a container of the tool image that idles until something is run in it.
type ContainerSpec struct {
	Name    string
	Overlay Overlay // nil: the host's own network namespace, unless it is to be alone
	Alone   bool    // in a network namespace of its own, with nothing but loopback in it
}

// OverlaySpec asks for an attachable swarm overlay network.
type OverlaySpec struct {
	Name     string
	Internal bool
	MTU      int // of the underlay, bytes; the engine takes the encapsulation off itself
}

// Overlay is a network that spans both hosts.
type Overlay interface {
	ID() string
	Name() string
	Close(context.Context) error
}

// Container is a running container of the tool image.
type Container interface {
	ID() string
	PID() int          // of its first process, as the host's agent sees it
	Addr() netip.Addr  // on its overlay; invalid when it is on none
	Sandboxes() string // folder in the engine's mount namespace that holds the engine's network namespaces
	Start(ctx context.Context, argv ...string) (Process, error)
	Close(context.Context) error
}

// Signaller is an optional interface of containers whose programs can be sent a signal.
type Signaller interface {
	// Signal returns when the signal has been sent to all programs that it is for, of which there may be none.
	Signal(context.Context, Signal) error
	// Idle returns when somebody listens at each of so many adjacent TCP ports, and no connection to them is left.
	Idle(ctx context.Context, port uint16, ports int) error
}

// Signal is for all processes of a container that run a program, as the kernel shortens its name (comm).
type Signal struct {
	Program string `json:"program"`
	Number  int    `json:"number"`
	// Forked leaves out the process that forked the others: of a server that has one for each client, itself.
	Forked bool `json:"forked,omitempty"`
	// Quiet has the signal wait until the network namespace of the container has accepted no connection for so long.
	Quiet Seconds `json:"quiet,omitempty"`
}

// Process is a program that was started in a container.
type Process interface {
	Wait(context.Context) (Output, error)
	Close(context.Context) error // kills it when it still runs
}

// Printing is an optional interface of processes that tell what their program has printed so far.
type Printing interface {
	Printed() Output
}

// Output is all that a finished program left behind.
type Output struct {
	Stdout, Stderr []byte
	ExitCode       int
}

// Endpoint is one end of a testbed: the container that a workload's programs run in and the address they are reached at.
type Endpoint struct {
	Host      Host
	Container Container
	Addr      netip.Addr
}

// Topology builds testbeds.
type Topology interface {
	Name() string
	Help() string
	Build(context.Context, Lab, BuildOptions) (Testbed, error)
}

// Based is an optional interface of topologies that are another one, changed (they are Activated). That one stands before they are
// built, with every workload's server in it, whether or not the plan names it, and is handed to them. They share its containers, as
// two servers can't listen on one port of one namespace, and leave it standing when they are closed.
type Based interface {
	Base() string
}

// BuildOptions are the parts of a plan that a topology needs.
type BuildOptions struct {
	Base              Testbed // of a topology that is Based; else nil
	Run               string  // id; goes into every name that is made
	Build             int     // number of this build; likewise
	Clients           int     // containers on the client's host; 0 is 1
	CongestionControl string
	Internal          bool
}

// Testbed is a topology that stands.
type Testbed interface {
	Client() Endpoint
	Server() Endpoint
	Path() Path
	Close(context.Context) error
}

// Activated is an optional interface of testbeds that are what they are only while a trial runs in them, because all topologies
// stand all the time and this one changes what the others use. Each trial activates its testbed before the fast path is attached
// and closes what it got after everything else, so that nothing is left of it when the next trial begins: if closing fails the
// run ends. An activation that is a Prover has its say in the trial's proof; its Handle is 0.
type Activated interface {
	Activate(context.Context) (Attachment, error)
}

// Path names the devices by which a testbed's packets can be told apart from those of other arms.
type Path struct {
	Devices map[string][]Device // by Host.Name: devices this testbed wants counted
	Through []string            // roles that carry the payload
}

// Device is a network device of a host.
type Device struct {
	Role  string `json:"role"`  // what it is to the path: "wire", "vxlan"
	Netns string `json:"netns"` // path in the engine's mount namespace; "" is the host's own
	Name  string `json:"name"`  // "" with Kind set: the one device of that kind
	Kind  string `json:"kind"`
}

// Workload is a client and a server program with parameters.
type Workload interface {
	Name() string
	Help() string
	Primary() string // the metric that carries the verdict
	// Params returns the full parameters for what the user gave, or an error that names the bad one and what is allowed.
	Params(given Params) (Params, error)
	// Serve starts the server program and returns when it accepts connections. One server serves any number of trials.
	Serve(context.Context, Testbed) (Process, error)
	// Start starts the client program, to run for at least the given time once its data flows.
	Start(ctx context.Context, tb Testbed, p Params, atLeast time.Duration) (Load, error)
}

// Measured is an optional interface of workloads whose clients deliver metrics beyond those of their flows' kind: what they do not
// deliver is recorded as not collected.
type Measured interface {
	Metrics(Params) []string
}

// Paced is an optional interface of workloads that can offer load at a rate, which may be given as a share of what the slowest of
// a plan's arms does when every connection asks as soon as it has been answered: at that rate all arms are offered the same, and none
// more than it can do.
type Paced interface {
	// Share is that share, with the parameters of the load that it is a share of; ok is false where the rate is a number.
	Share(Params) (share float64, closed Params, ok bool)
	// At is the same with a number in the share's place, 1/s.
	At(p Params, rate float64) Params
}

// Imaged is an optional interface of workloads whose programs are in another image than the usual one.
type Imaged interface {
	Image() string // name of a recipe of internal/image
}

// Generating is an optional interface of workloads whose client is a load generator of econbench's own: endpoints then have this
// program at ProgramPath.
type Generating interface {
	Generates() bool
}

// ProgramPath is where econbench itself is in agents' containers, and in endpoints' where a workload is Generating.
const ProgramPath = "/econbench"

// ScratchDir is a folder of every endpoint's container that lies in memory and that every user may write to.
const ScratchDir = "/run/econbench"

// Bulk is an optional interface of workloads that fill the path in one direction and leave no CPU idle.
type Bulk interface {
	Bulk() bool
}

// Coverage is the least share of the endpoint's packets that a fast path must have carried in each direction; 0 is no
// demand. The rest is what may take the kernel's path by nature: SYN, FIN and a flow's first packets.
type Coverage struct {
	ToServer float64 `json:"to_server"`
	ToClient float64 `json:"to_client"`
}

// Covered is an optional interface of workloads that know how much of them a fast path can carry.
type Covered interface {
	Coverage(Params) Coverage
}

// Load is a workload's client at work.
type Load interface {
	Flows() Flows
	// Wait waits for the client program's own end and reads what it says.
	Wait(context.Context) (Result, error)
	Close(context.Context) error
}

// Ender is an optional interface of loads whose client can be told that it has run long enough: it ends its measurement as if its time
// were up, and says what it found. Clients that can't are waited for.
type Ender interface {
	// End returns when the client has been told. Wait then has its result.
	End(context.Context, Testbed) error
}

// Endable is an optional interface of workloads whose loads do something when they are told to end; trials of others take as long as
// their clients were asked to run.
type Endable interface {
	Endable(Params) bool
}

// FlowKind says what a workload's flows are and, with that, who can count their work.
type FlowKind string

const (
	// LastingFlows are TCP connections that last through the window: each socket counts its own work.
	LastingFlows FlowKind = ""
	// DatagramFlows are UDP, whose sockets count nothing: their network namespace does.
	DatagramFlows FlowKind = "datagrams"
	// ConnectFlows open a TCP connection for each transaction: none lives long enough to be read twice, so their network
	// namespace counts.
	ConnectFlows FlowKind = "connects"
)

// Flows tells agents how to recognise a workload's flows, and what each unit of their work is.
type Flows struct {
	Kind          FlowKind `json:"kind"`
	ServerPort    uint16   `json:"server_port"`    // the lowest on the server's side
	Ports         int      `json:"ports"`          // so many adjacent ones, from ServerPort on; 0 is 1
	Count         int      `json:"count"`          // data flows once the workload is under way
	RequestBytes  int      `json:"request_bytes"`  // payload of one request, B; 0 when there are no transactions
	ResponseBytes int      `json:"response_bytes"` // payload of one response, B; LastingFlows need not say
	MessageBytes  int      `json:"message_bytes"`  // payload of one datagram to the server, B, where there are no transactions
	// ByClient says that transactions differ in size, so that the client's program counts them and nobody else can. Only of
	// LastingFlows.
	ByClient bool `json:"by_client,omitempty"`
	Way      Way  `json:"way,omitempty"`     // of the payload, where there are no transactions
	Clients  int  `json:"clients,omitempty"` // containers on the client's host that they come from; 0 is 1
	// Beside are flows without transactions that go on at the same time between the same containers, on ports of their own: bulk
	// beside requests. Both are LastingFlows.
	Beside *Flows `json:"beside,omitempty"`
}

// Transactions says whether the flows' work is made of requests that are answered.
func (f Flows) Transactions() bool { return f.ByClient || f.RequestBytes > 0 }

// Has says whether a port of the server's side is one of the flows'.
func (f Flows) Has(port uint16) bool {
	return port >= f.ServerPort && int(port-f.ServerPort) < max(1, f.Ports)
}

// Result is what a client program said.
type Result struct {
	Samples  []Sample
	Warnings []string
	Log      []byte // whole output, for the file under logs/
	// Within draws samples of what happened in a window of the client's host, for clients that noted when each of their
	// transactions was; nil for those that know their whole run alone. An error is the trial's end.
	Within func(HostWindow) (samples []Sample, warnings []string, err error)
}

// ProgramError is an error with the whole output of the program that it is about.
type ProgramError struct {
	Err error
	Log []byte
}

func (e *ProgramError) Error() string { return e.Err.Error() }
func (e *ProgramError) Unwrap() error { return e.Err }

// Sample is one number in its metric's base unit.
type Sample struct {
	Metric string
	Value  float64
}

// Scope tells an agent's readers what to look at. Paths and PIDs are those of the host's engine.
type Scope struct {
	PID     int      `json:"pid"`              // first process of the endpoint's container
	Others  []int    `json:"others,omitempty"` // likewise, of further ones on the same host that the flows come from
	Side    string   `json:"side"`             // ClientHost or ServerHost
	Flows   Flows    `json:"flows"`
	Devices []Device `json:"devices"`
	CPUs    []int    `json:"cpus"`
	Handle  int      `json:"handle,omitempty"` // of the attached fast path whose counters count; 0: there is none
}

// Reader is the agent's half of a collector. Open takes what reading needs; the Reading is read at the start and at the
// end of the window, and only the difference is kept.
type Reader interface {
	Name() string
	Open(Scope) (Reading, error)
}

// Reading reads counters that only grow, in base units.
type Reading interface {
	Read() (Counters, error)
	Close() error
}

// Preparer is an optional interface of a Reading that has something dear to do when the flows are under way: it is done before the
// window begins. Others are read once for nothing then.
type Preparer interface {
	Prepare() error
}

// Noter is an optional interface of a Reading: what it found, at its last read, that is no number.
type Noter interface {
	Notes() map[string]string
}

// NoteNetfilter is the name of the note that lists the nftables' tables in effect on IPv4 packets in the network namespace of the
// endpoint's container, when the window had been read, with commas: "ip filter, ip nat". Absent when they could not be read.
const NoteNetfilter = "netfilter"

// NoteLane is the name of the note that says by which kind of lane a fast path led the host's containers around their network's sandbox;
// several with commas. " (device)" after one: what arrived went on to the container's own device, as its rules asked for.
const NoteLane = "lane"

// NoteTracked is the name of the note that says why connections of the host's containers were tracked though the fast path's setting asks for none;
// several reasons with semicolons. Absent where they were not, or nothing was asked.
const NoteTracked = "tracked"

// NoteIndirect is the name of the note that says why containers of the host have no direct way to the wire though the fast path's setting asks for
// one; several reasons with semicolons. Absent where they have, or nothing was asked.
const NoteIndirect = "indirect"

// NoteCongestionControl is the name of the note that says which algorithm the data flows run; several with commas.
const NoteCongestionControl = "congestion_control"

// Window is what both hosts counted over a trial's window, for collectors to draw samples from.
type Window struct {
	Client, Server HostWindow
	Flows          Flows
	ClientCPUs     []int
	ServerCPUs     []int
	SharedKernel   bool // both hosts are one machine: counters that know no host are the machine's
	Apart          bool // each host's CPUs did that host's work and no other's
}

// Collector is the controller's half: it turns differences of counters into samples. It must be pure: reports and tests
// may call it on recorded windows.
type Collector interface {
	Name() string
	Help() string
	// Samples returns what could be had; a metric that is left out is recorded as not collected. Doubts are warnings.
	Samples(Window) (samples []Sample, warnings []string)
}

// WorkCollector is an optional interface of collectors whose samples are the window's work. They are read in the middle of the
// window too, which tells whether the work had come to its pace.
type WorkCollector interface {
	Collector
	CountsWork()
}

// Costly is an optional interface of collectors that slow down what they measure: only a plan that wants them has them.
type Costly interface {
	Wanted(Plan) bool
}

// Fastpath is the controller's half of what can be attached to a testbed.
type Fastpath interface {
	Name() string
	Help() string
	Attach(context.Context, Testbed, AttachOptions) (Attachment, error)
}

// Bound is an optional interface of fast paths that make sense on some topologies alone, by a lane of some kind.
type Bound interface {
	Topologies() []string
	Lanes() []string // kinds that AttachOptions.Lane may ask for
}

// Attachment is a fast path at work.
type Attachment interface {
	Close(context.Context) error
}

// Settable is an optional interface of fast paths whose arms may have, or must have, a setting.
type Settable interface {
	CheckSetting(string) error // "": the arm has none
}

// Counted is an optional interface of attachments whose counters belong to the trial's record.
type Counted interface {
	// Handle is what the agent of a host knows the attachment by; 0: it keeps no counters of it.
	Handle(host string) int
}

// Prover is an optional interface of attachments that carry no packets and yet must have been at work: they say by their
// counters over the window what did not hold.
type Prover interface {
	Counted
	Prove(Window) (failures []string)
}

// Carrier is an optional interface of attachments that carry packets, which they have to prove.
type Carrier interface {
	Counted
	// Path is the way of the packets that the attachment carries, given that of the testbed.
	Path(Path) Path
}

// Forgetter is an optional interface of carriers whose flows end with their sockets: what comes for a connection that its program has closed is
// the kernel's. A server that answers one request and closes is sent nothing but that once the connection is known, so that nothing is
// demanded of its side of such connections, inwards, and less towards the client.
type Forgetter interface {
	ForgetsClosed()
}

// Driver is the agent's half of a fast path: it acts inside one host and knows of others what packets and the engine's
// tables tell it.
type Driver interface {
	Name() string
	// Attach does it, or has left nothing behind. The config is what the controller's half of the same name sent.
	Attach(ctx context.Context, config json.RawMessage) (Attached, error)
}

// Attached is a fast path at work in one host.
type Attached interface {
	Reading // its counters, from the attachment on; see CarrierCounters
	// Status is for people and their programs; it is encoded as JSON.
	Status() (any, error)
}

// Itemized is an Attached that can tell of each thing in its caches.
type Itemized interface {
	Attached
	// Items is Status with the flows that are known, each.
	Items() (any, error)
}

// Order is what an attached fast path can be told to do while packets pass.
type Order string

// Orders that a Commanded takes. What changes is what happens to the next packet; flows go on in either case.
const (
	OrderOn    Order = "on"    // carry
	OrderOff   Order = "off"   // stand aside as if nothing were attached
	OrderDry   Order = "dry"   // judge, learn and count, and carry nothing
	OrderClear Order = "clear" // forget all flows; what it does stays
)

// Orders are all of them, as users type them.
func Orders() []string {
	return []string{string(OrderOn), string(OrderOff), string(OrderDry), string(OrderClear)}
}

// Commanded is an Attached that takes orders (after ECON's proc file, which takes 1, 0, d and clear).
type Commanded interface {
	Attached
	Obey(Order) error
}

// Concerted is an Attached that other hosts go by until they hear otherwise, for which its Close waits. CloseConcerted is Close where all of them have
// been told to stand aside.
type Concerted interface {
	Commanded
	CloseConcerted() error
}

// Counters of a fast path that carries packets. Each but the last is of a direction, "egress." or "ingress." before it, seen
// from the endpoint on this host, and in segments.
const (
	CounterSeen     = "seen"     // at the endpoint's device
	CounterEligible = "eligible" // of these, what the fast path promises to carry once warmed up
	CounterHits     = "hits"     // carried
	CounterMisses   = "misses"   // eligible and not carried
	CounterDry      = "dry"      // eligible, and would have been carried: a fast path that only looks on
	CounterMasked   = "masked"   // of the hits: sent without encapsulation
	CounterBail     = "bail."    // with the reason after it: left to the kernel's path
	CounterLost     = "lost."    // of no direction, with the reason after it: dropped by the fast path
)

// Directions of a fast path's counters.
const (
	Egress  = "egress"
	Ingress = "ingress"
)

// Report renders a run.
type Report interface {
	Name() string
	Help() string
	Render(io.Writer, *Run) error
}
