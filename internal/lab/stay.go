// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/agentproto"
	"github.com/econbench/econbench/internal/docker"
	"github.com/econbench/econbench/internal/netspace"
)

// A fast path that outlives its command is kept by an agent of its own on each host: a container named after the network, so
// that there is one at most, without a run's label, so that no run sweeps it.

// Commands that such a container runs.
const (
	StayCommand = "fastpath-agent"
	AskCommand  = "fastpath-ask"
	AskItems    = "items" // its flag
)

// ErrNotAttached says that no fast path is attached to a network.
var ErrNotAttached = errors.New("no fast path is attached")

// stayTimeout bounds the time from the container's start until the agent has attached, or said why not.
const stayTimeout = 30 * time.Second

// Stay asks for agents that keep a fast path attached to an overlay network.
type Stay struct {
	Engines  []string
	TLSDir   string
	Network  string // name or id; of one that is none of Docker's, its vxlan device's name
	Tunnel   bool   // it is none of Docker's; Attach alone asks
	Fastpath string
	Underlay []netip.Addr // of the engines, in their order; empty: what they advertise to their swarm, or the vxlan device's own
	// Config is what the agent is told: the engine's folder of network namespaces, and the network's sandbox there; "" of a Tunnel.
	Config   func(spaces, sandbox string, underlay netip.Addr) (json.RawMessage, error)
	Image    ToolImage
	Binary   string
	Holder   string
	Progress func(format string, args ...any)
	Log      io.Writer // the agents' standard error until they have attached
}

// StayStatus is what the agent on one engine said.
type StayStatus struct {
	Engine    string                `json:"engine"`
	Network   string                `json:"network"` // id
	Name      string                `json:"name"`    // of the network
	Container string                `json:"container"`
	Agent     agentproto.StayStatus `json:"agent"`
}

// tunnelID stands for a network's id where it is none of Docker's, whose ids have no dash.
const tunnelID = "vxlan-"

// TunnelOf is the vxlan device that an id of StayStatus.Network stands for; "" of a network of Docker's.
func TunnelOf(network string) string {
	device, _ := strings.CutPrefix(network, tunnelID)
	if device == network {
		return ""
	}
	return device
}

func stayName(network string) string {
	if TunnelOf(network) == "" {
		network = fmt.Sprintf("%.12s", network)
	}
	return "econbench-fastpath-" + network
}

// stays dials engines and calls do with each; all are closed at the end.
func stays(ctx context.Context, engines []string, tlsDir string, do func(i int, e *docker.Engine) error) error {
	for i, host := range engines {
		e, err := docker.Dial(ctx, host, tlsDir)
		if err != nil {
			return err
		}
		if err := errors.Join(do(i, e), e.Close()); err != nil {
			return err
		}
	}
	return nil
}

// Attach attaches the fast path on every engine, or on none.
func (s Stay) Attach(ctx context.Context) (err error) {
	var attached []Stay // for what they undo
	defer func() {
		if err != nil {
			for _, undo := range slices.Backward(attached) {
				err = errors.Join(err, undo.Detach(context.WithoutCancel(ctx)))
			}
		}
	}()
	return stays(ctx, s.Engines, s.TLSDir, func(i int, e *docker.Engine) error {
		n, err := s.lookUp(ctx, e)
		if err != nil {
			return err
		}
		addr, err := s.underlay(ctx, i, e)
		if err != nil {
			return err
		}
		if err := s.attach(ctx, e, n, addr); err != nil {
			return err
		}
		attached = append(attached, Stay{Engines: s.Engines[i : i+1], TLSDir: s.TLSDir, Network: n.ID, Progress: s.Progress})
		s.Progress("%s: %s attached to network %s", e.Host(), s.Fastpath, n.Name)
		return nil
	})
}

// lookUp finds the network and refuses those that no fast path may touch. An encrypted one would leave in clear text.
func (s Stay) lookUp(ctx context.Context, e *docker.Engine) (docker.NetworkDetails, error) {
	if s.Tunnel { // the agent alone can look at it
		return docker.NetworkDetails{ID: tunnelID + s.Network, Name: s.Network}, nil
	}
	n, found, err := e.InspectNetwork(ctx, s.Network)
	switch {
	case err != nil:
		return n, err
	case !found:
		return n, fmt.Errorf("network %q: engine %s knows none of that name: it has no container on it, or there is none", s.Network, e.Host())
	case n.Driver != "overlay":
		return n, fmt.Errorf("network %q: its driver is %q on %s: want an overlay network", s.Network, n.Driver, e.Host())
	case n.Encrypted:
		return n, fmt.Errorf("network %q: it is encrypted, and a fast path would send its packets in clear text: want one without --opt encrypted", s.Network)
	}
	return n, nil
}

func (s Stay) underlay(ctx context.Context, i int, e *docker.Engine) (netip.Addr, error) {
	if i < len(s.Underlay) && s.Underlay[i].IsValid() {
		return s.Underlay[i], nil
	}
	if s.Tunnel {
		return netip.Addr{}, nil
	}
	swarm, err := e.Swarm(ctx)
	if err != nil {
		return netip.Addr{}, err
	}
	addr, err := netip.ParseAddr(swarm.NodeAddr)
	if err != nil || !addr.Is4() {
		return addr, fmt.Errorf("engine %s: it advertises %q to its swarm, want an IPv4 address; --underlay gives another", e.Host(), swarm.NodeAddr)
	}
	return addr, nil
}

// attach makes the container, starts the agent in it and waits for its word.
func (s Stay) attach(ctx context.Context, e *docker.Engine, n docker.NetworkDetails, underlay netip.Addr) (err error) {
	if err := s.Image.LoadInto(ctx, e, s.Progress); err != nil {
		return err
	}
	name := stayName(n.ID)
	labels := map[string]string{docker.LabelRole: "fastpath", docker.LabelNetwork: n.ID, docker.LabelNetworkName: n.Name, docker.LabelFastpath: s.Fastpath, docker.LabelHolder: s.Holder}
	id, err := e.Create(ctx, docker.Spec{
		Name: name, Image: s.Image.Ref, Labels: labels, Argv: []string{"/econbench", StayCommand},
		PIDHost: true, Interactive: true, Unconfined: true, Capabilities: capabilities, Volumes: map[string]string{name: JournalDir},
	})
	if errors.Is(err, docker.ErrNameTaken) {
		return s.taken(ctx, e, n, name)
	}
	if err != nil {
		return err
	}
	started := false
	defer func() {
		if err != nil {
			err = errors.Join(err, withdraw(context.WithoutCancel(ctx), e, id, name, started))
		}
	}()
	if err := e.CopyExecutable(ctx, id, s.Binary, "econbench"); err != nil {
		return err
	}
	conn, err := e.Attach(context.WithoutCancel(ctx), id, s.Log)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := e.Start(ctx, id); err != nil {
		return err
	}
	started = true
	d, _, err := e.Inspect(ctx, id, "")
	if err != nil {
		return err
	}
	sandbox := netspace.Sandbox(d.Sandboxes, n.ID)
	if s.Tunnel {
		sandbox = ""
	}
	config, err := s.Config(d.Sandboxes, sandbox, underlay)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(conn).Encode(agentproto.AttachArgs{Fastpath: s.Fastpath, Config: config}); err != nil {
		return fmt.Errorf("agent on %s: %w", e.Host(), err)
	}
	return hear(ctx, e, conn)
}

// withdraw takes an agent back that has not attached, or may have: one that runs must be let undo what it did, and of one that
// was killed the journal is kept.
func withdraw(ctx context.Context, e *docker.Engine, id, name string, started bool) error {
	if !started {
		err := e.Remove(ctx, id)
		dropVolume(ctx, e, name)
		return err
	}
	err := e.Stop(ctx, id)
	exit := (*docker.ExitError)(nil)
	switch {
	case errors.As(err, &exit) && exit.Killed():
		return fmt.Errorf("agent on %s: %w; what it left is undone by the next attach to that network", e.Host(), err)
	case errors.As(err, &exit): // it had told why
		err = nil
	}
	dropVolume(ctx, e, name)
	return err
}

// hear waits for the agent's word.
func hear(ctx context.Context, e *docker.Engine, conn io.ReadCloser) error {
	ctx, cancel := context.WithTimeoutCause(ctx, stayTimeout, fmt.Errorf("no word in %v", stayTimeout))
	defer cancel()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	if ctx.Err() != nil {
		return fmt.Errorf("agent on %s: %w", e.Host(), context.Cause(ctx))
	}
	var r agentproto.StayReply
	if err == nil {
		err = json.Unmarshal(line, &r)
	}
	if err != nil {
		return fmt.Errorf("agent on %s: it ended before it had attached: %w", e.Host(), err)
	}
	if r.Error != "" {
		return fmt.Errorf("agent on %s: %s", e.Host(), r.Error)
	}
	return nil
}

func (s Stay) taken(ctx context.Context, e *docker.Engine, n docker.NetworkDetails, name string) error {
	d, found, err := e.Inspect(ctx, name, "")
	if err == nil && found {
		err = fmt.Errorf("network %q: %s is attached on %s already, since %s by %s: detach it first", n.Name,
			d.Labels[docker.LabelFastpath], e.Host(), d.Created.Local().Format(time.DateTime), d.Labels[docker.LabelHolder])
	}
	return err
}

// find lists the agents that stay on an engine, of one network (by name or id) or ("") of all.
func (s Stay) find(ctx context.Context, e *docker.Engine) ([]docker.Details, error) {
	all, err := e.Labelled(ctx, docker.LabelNetwork)
	return slices.DeleteFunc(all, func(d docker.Details) bool {
		return s.Network != "" && s.Network != d.Labels[docker.LabelNetwork] && s.Network != d.Labels[docker.LabelNetworkName]
	}), err
}

// each calls do with every agent of the network, up to the first that fails. None at all is ErrNotAttached, but for all networks.
func (s Stay) each(ctx context.Context, do func(e *docker.Engine, d docker.Details) error) error {
	count := 0
	err := stays(ctx, s.Engines, s.TLSDir, func(_ int, e *docker.Engine) error {
		found, err := s.find(ctx, e)
		for _, d := range found {
			count++
			if err := do(e, d); err != nil {
				return err
			}
		}
		return err
	})
	if err == nil && count == 0 && s.Network != "" {
		err = fmt.Errorf("network %q: %w on %v", s.Network, ErrNotAttached, s.Engines)
	}
	return err
}

// Detach ends the agents, which undo what they did.
func (s Stay) Detach(ctx context.Context) error {
	return s.each(ctx, func(e *docker.Engine, d docker.Details) error {
		if err := e.Stop(ctx, d.ID); err != nil {
			return fmt.Errorf("%s: agent %s: %w; what it left is undone by the next attach to that network", e.Host(), d.Name, err)
		}
		dropVolume(ctx, e, stayName(d.Labels[docker.LabelNetwork]))
		s.Progress("%s: %s detached", e.Host(), d.Labels[docker.LabelFastpath])
		return nil
	})
}

// dropVolume removes a journal that needs nothing any more. An engine still calls it in use a moment after its container is
// gone; a holder that came in between keeps it.
func dropVolume(ctx context.Context, e *docker.Engine, name string) {
	_ = poll(ctx, "removal of the journal", time.Second, func(ctx context.Context) (bool, error) {
		return e.RemoveVolume(ctx, name) == nil, nil
	})
}

// Status asks the agents; items: of each flow that they know, too.
func (s Stay) Status(ctx context.Context, items bool) (list []StayStatus, err error) {
	list = []StayStatus{}
	err = s.each(ctx, func(e *docker.Engine, d docker.Details) error {
		answer, err := ask(ctx, e, d.ID, agentproto.StayRequest{Items: items})
		if err != nil && hasEnded(ctx, e, d.ID) {
			return nil
		}
		if err != nil {
			answer.Error = err.Error()
		}
		list = append(list, StayStatus{Engine: e.Host(), Network: d.Labels[docker.LabelNetwork], Name: d.Labels[docker.LabelNetworkName], Container: d.Name, Agent: answer})
		return nil
	})
	return list, err
}

// hasEnded says whether a container that gave no answer has ended since it was listed. Its engine removes it, but takes a moment.
func hasEnded(ctx context.Context, e *docker.Engine, id string) bool {
	return poll(ctx, "removal of the agent", 2*time.Second, func(ctx context.Context) (bool, error) {
		d, there, err := e.Inspect(ctx, id, "")
		if err == nil && d.Running {
			err = errors.New("it runs")
		}
		return !there, err
	}) == nil
}

// Tell gives the agents of a network an order. Those before the first that can't follow it have followed, and it was said.
func (s Stay) Tell(ctx context.Context, order econbench.Order) error {
	return s.each(ctx, func(e *docker.Engine, d docker.Details) error {
		answer, err := ask(ctx, e, d.ID, agentproto.StayRequest{Order: order})
		if err == nil && answer.Error != "" {
			err = errors.New(answer.Error)
		}
		if err != nil {
			return fmt.Errorf("%s: agent %s: %w", e.Host(), d.Name, err)
		}
		s.Progress("%s: %s on network %s: %s", e.Host(), d.Labels[docker.LabelFastpath], d.Labels[docker.LabelNetworkName], order)
		return nil
	})
}

func ask(ctx context.Context, e *docker.Engine, id string, request agentproto.StayRequest) (r agentproto.StayStatus, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, docker.StepTimeout, fmt.Errorf("no answer in %v", docker.StepTimeout))
	defer cancel()
	argv := []string{"/econbench", AskCommand}
	if request.Items {
		argv = append(argv, "--"+AskItems)
	}
	if request.Order != "" {
		argv = append(argv, string(request.Order))
	}
	x, err := e.Exec(ctx, id, argv)
	if err != nil {
		return r, err
	}
	defer x.Release()
	stdout, stderr, code, err := x.Wait(ctx)
	if err != nil {
		return r, err
	}
	if code != 0 {
		return r, fmt.Errorf("agent: exit code %d: %s", code, bytes.TrimSpace(stderr))
	}
	return r, json.Unmarshal(stdout, &r)
}
