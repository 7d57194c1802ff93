// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path"
	"strconv"
	"sync"
	"time"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/agentproto"
	"github.com/econbench/econbench/internal/docker"
)

// AgentName is the agent container's name. Names are unique on an engine, so whoever makes the container holds the
// engine; the agent lives as long as its controller's heartbeat, so a lease never outlives its holder by more than
// agentproto.HeartbeatDeadline.
const AgentName = "econbench-agent"

// journalVolume keeps what an agent changed in its host where the next agent finds it.
const journalVolume = "econbench-journal"

// JournalDir is where an agent finds the journal.
const JournalDir = "/var/lib/econbench"

// capabilities that an agent needs, by name: an engine may itself lack some that "ALL" would ask for. SYS_ADMIN stands for
// BPF and PERFMON too, which engines up to 20.10 refuse as unknown.
var capabilities = []string{
	"NET_ADMIN",    // routes, RPS, offloads, BPF links
	"NET_RAW",      // packet sockets
	"SYS_ADMIN",    // network namespaces of containers, a sysfs of its own
	"SYS_PTRACE",   // /proc/PID/root and /proc/PID/ns of others
	"MKNOD",        // /dev/cpu_dma_latency
	"DAC_OVERRIDE", // files of other users under /proc and /sys
	"SYS_NICE",     // reads on time, on CPUs that the measured programs saturate
	"KILL",         // programs of endpoint containers
	"SYSLOG",       // addresses of the kernel's functions, for profiles
}

// ErrLeased says that another run holds an engine.
var ErrLeased = errors.New("engine is in use")

// Host is one leased engine with its agent. It implements econbench.Host.
type Host struct {
	lab    *Lab
	name   string
	engine *docker.Engine

	container string // of the agent
	agent     *agentproto.Client
	hello     agentproto.HelloReply
	facts     econbench.HostFacts
	prefix    netip.Prefix // the underlay address and its network
	noting    sync.Mutex   // guards facts.Tunings
	steering  int          // handle of the tuning that steers received frames; 0: they are left alone
}

var _ econbench.Host = (*Host)(nil)

// Name is econbench.ClientHost or econbench.ServerHost.
func (h *Host) Name() string { return h.name }

// Facts are what is known of the host.
func (h *Host) Facts() econbench.HostFacts { return h.facts }

// Agent is the host's agent.
func (h *Host) Agent() econbench.Agent { return h.agent }

// labels mark everything that this run makes.
func (h *Host) labels(role string) map[string]string {
	return map[string]string{docker.LabelRun: h.lab.opt.Run, docker.LabelRole: role, docker.LabelHolder: h.lab.opt.Holder}
}

// lease takes the engine by making the agent's container. A dead holder's agent ends by itself within moments, so a
// taken name is looked at for a little while before it is believed.
func (h *Host) lease(ctx context.Context) error {
	spec := docker.Spec{
		Name: AgentName, Image: h.lab.opt.Image.Ref, Labels: h.labels("agent"), Argv: []string{econbench.ProgramPath, "agent"},
		PIDHost: true, Interactive: true, Unconfined: true, Capabilities: capabilities,
		DeviceRules: []string{"c 10:* rwm"}, Volumes: map[string]string{journalVolume: JournalDir},
	}
	seen := map[string]time.Time{} // holders that don't run, by id; this machine's clock alone counts
	for deadline := time.Now().Add(takenTimeout); ; {
		id, err := h.engine.Create(ctx, spec)
		if err == nil {
			h.container = id
			return nil
		}
		if !errors.Is(err, docker.ErrNameTaken) {
			return err
		}
		holder, found, err := h.engine.Inspect(ctx, AgentName, "")
		if err != nil {
			return err
		}
		if found && !holder.Running {
			if seen[holder.ID].IsZero() {
				seen[holder.ID] = time.Now()
				deadline = seen[holder.ID].Add(stillbornTimeout + takenTimeout)
				h.lab.opt.Progress("%s: held by an agent that is not running; it has %v to start", h.engine.Host(), stillbornTimeout)
			}
			if time.Since(seen[holder.ID]) > stillbornTimeout {
				err = h.engine.Remove(ctx, holder.ID)
			}
		}
		if err == nil && time.Now().After(deadline) {
			err = fmt.Errorf("engine %s: %w by run %s of %s since %s", h.engine.Host(), ErrLeased,
				holder.Labels[docker.LabelRun], holder.Labels[docker.LabelHolder], holder.Created.Local().Format(time.TimeOnly))
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

const (
	// takenTimeout is how long a running holder is looked at: an agent whose controller was killed ends within it.
	takenTimeout = 3 * time.Second
	// stillbornTimeout is how long a holder may take from its container's creation to its start: the program is copied
	// into it in between. Who takes longer was killed.
	stillbornTimeout = 20 * time.Second
)

// startAgent puts this program into the agent's container, starts it and greets it.
func (h *Host) startAgent(ctx context.Context) error {
	if err := h.copyProgram(ctx, h.container); err != nil {
		return err
	}
	var log io.Writer = io.Discard
	if h.lab.opt.AgentLog != nil {
		log = h.lab.opt.AgentLog(h.name)
	}
	conn, err := h.engine.Attach(context.WithoutCancel(ctx), h.container, log)
	if err != nil {
		return err
	}
	if err := h.engine.Start(ctx, h.container); err != nil {
		return errors.Join(err, conn.Close())
	}
	h.agent = agentproto.NewClient(h.engine.Host(), conn)
	ctx, cancel := context.WithTimeoutCause(ctx, docker.StepTimeout, fmt.Errorf("no greeting in %v", docker.StepTimeout))
	defer cancel()
	args := agentproto.HelloArgs{Run: h.lab.opt.Run, Name: h.name}
	if err := h.agent.Call(ctx, agentproto.OpHello, args, &h.hello); err != nil {
		return err
	}
	for _, line := range h.hello.Undone {
		h.lab.opt.Progress("%s: put back what a dead run had left: %s", h.engine.Host(), line)
	}
	h.facts = h.hello.Facts
	h.facts.Engine = h.engine.Version()
	return nil
}

// close ends the agent, which undoes what it did, and removes its container and its journal.
func (h *Host) close(ctx context.Context) error {
	var errs []error
	if h.agent != nil {
		err := h.agent.Call(ctx, agentproto.OpExit, nil, nil)
		undone := err == nil
		if errors.Is(err, agentproto.ErrGone) {
			err = nil // it undid everything when it went, or left a journal; the first error has been told by whoever met it
		}
		errs = append(errs, err, h.agent.Close())
		if undone {
			defer dropVolume(ctx, h.engine, journalVolume)
		}
	}
	if h.container != "" {
		if h.agent != nil {
			_ = poll(ctx, "agent's end", 3*time.Second, func(ctx context.Context) (bool, error) {
				d, found, err := h.engine.Inspect(ctx, h.container, "")
				return !found || !d.Running, err
			})
		}
		errs = append(errs, h.engine.Remove(ctx, h.container))
	}
	return errors.Join(append(errs, h.engine.Close())...)
}

// copyProgram puts this program into a created container.
func (h *Host) copyProgram(ctx context.Context, id string) error {
	return h.engine.CopyExecutable(ctx, id, h.lab.opt.Binary, path.Base(econbench.ProgramPath))
}

// scratch are the options of an endpoint's folder in memory: half of a small machine's, of which nothing is taken before it is
// used.
const scratch = "size=2g,mode=1777"

// needless are capabilities that no program of an endpoint needs, and without which a fast path may lead it closer to the wire. Pods of the
// restricted standard of Kubernetes don't have it either.
var needless = []string{"NET_RAW"}

// StartContainer starts a container of the tool image, pinned to the host's CPUs, that idles.
func (h *Host) StartContainer(ctx context.Context, s econbench.ContainerSpec) (econbench.Container, error) {
	spec := docker.Spec{
		Name: s.Name, Image: h.lab.opt.Image.Ref, Labels: h.labels("endpoint"), CPUs: h.facts.CPUs,
		Argv: []string{"sleep", "infinity"}, Memory: map[string]string{econbench.ScratchDir: scratch}, Without: needless,
	}
	switch {
	case s.Overlay != nil:
		spec.Network = s.Overlay.Name()
	case s.Alone:
		spec.Network = docker.NoNetwork
	}
	id, err := h.engine.Create(ctx, spec)
	if err != nil {
		return nil, err
	}
	c := &box{host: h, id: id}
	if h.lab.opt.Generator {
		err = h.copyProgram(ctx, id)
	}
	if err == nil {
		err = c.start(ctx, spec.Network)
	}
	if err != nil {
		return nil, errors.Join(err, h.engine.Remove(context.WithoutCancel(ctx), id))
	}
	return c, nil
}

// OtherContainers names the engine's running containers that carry no run's label.
func (h *Host) OtherContainers(ctx context.Context) ([]string, error) {
	return h.engine.Unlabelled(ctx, docker.LabelRun)
}

// CreateOverlay makes an attachable overlay network through the swarm's manager.
func (h *Host) CreateOverlay(ctx context.Context, s econbench.OverlaySpec) (econbench.Overlay, error) {
	manager := h.lab.swarm.manager
	labels := manager.labels("network")
	labels[docker.LabelHosts] = h.lab.hosts[0].engine.ID() + "," + h.lab.hosts[1].engine.ID()
	id, err := manager.engine.CreateOverlay(ctx, docker.NetworkSpec{
		Name: s.Name, Internal: s.Internal, MTU: strconv.Itoa(s.MTU), Labels: labels,
	})
	if err != nil {
		return nil, err
	}
	return &overlay{manager: manager, id: id, name: s.Name}, nil
}

type overlay struct {
	manager  *Host
	id, name string
}

func (o *overlay) ID() string   { return o.id }
func (o *overlay) Name() string { return o.name }

// Close removes the network. The manager learns from its workers with a delay that their containers have left it.
func (o *overlay) Close(ctx context.Context) error {
	return removeNetwork(ctx, o.manager.engine, o.id, o.name)
}

// removeNetwork tries until the engine lets go of the network.
func removeNetwork(ctx context.Context, e *docker.Engine, id, name string) error {
	var last error
	err := poll(ctx, "removal of network "+name, docker.StepTimeout, func(ctx context.Context) (bool, error) {
		last = e.RemoveNetwork(ctx, id)
		return last == nil || errors.Is(last, docker.ErrSilent), nil
	})
	return errors.Join(err, last)
}
