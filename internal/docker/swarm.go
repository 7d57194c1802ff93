// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"context"
	"net/netip"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
)

// Swarm is an engine's membership of a swarm.
type Swarm struct {
	State    string // the engine's word: "inactive", "active", "pending", "error", "locked"
	Member   bool   // active
	Manager  bool
	NodeID   string
	NodeAddr string            // advertised; the data path's unless the swarm was told otherwise
	Labels   map[string]string // of the swarm; managers know them
}

// Out says that the engine is in no swarm, not even in one that it can't reach or may not join at the moment.
func (s Swarm) Out() bool {
	return s.State == string(swarm.LocalNodeStateInactive) || s.State == ""
}

// Swarm asks for the engine's membership as it is now.
func (e *Engine) Swarm(ctx context.Context) (s Swarm, err error) {
	err = e.step(ctx, "swarm state", func(ctx context.Context) error {
		info, err := e.api.Info(ctx)
		if err != nil {
			return err
		}
		state := info.Swarm.LocalNodeState
		s = Swarm{
			State: string(state), Member: state == swarm.LocalNodeStateActive,
			Manager: info.Swarm.ControlAvailable, NodeID: info.Swarm.NodeID, NodeAddr: info.Swarm.NodeAddr,
		}
		if s.Manager {
			spec, err := e.api.SwarmInspect(ctx)
			if err != nil {
				return err
			}
			s.Labels = spec.Spec.Labels
		}
		return nil
	})
	return s, err
}

// SwarmInit makes a swarm of one. Overlay networks take their addresses from pool, a /24 each.
func (e *Engine) SwarmInit(ctx context.Context, addr netip.Addr, pool netip.Prefix, labels map[string]string) error {
	return e.step(ctx, "make a swarm", func(ctx context.Context) error {
		req := swarm.InitRequest{
			ListenAddr: netip.AddrPortFrom(addr, 2377).String(), AdvertiseAddr: addr.String(), DataPathAddr: addr.String(),
		}
		if pool.IsValid() {
			req.DefaultAddrPool, req.SubnetSize = []string{pool.String()}, 24
		}
		req.Spec.Annotations = swarm.Annotations{Name: "default", Labels: labels}
		_, err := e.api.SwarmInit(ctx, req)
		return err
	})
}

// SwarmLabel marks the engine's swarm.
func (e *Engine) SwarmLabel(ctx context.Context, labels map[string]string) error {
	return e.step(ctx, "label the swarm", func(ctx context.Context) error {
		sw, err := e.api.SwarmInspect(ctx)
		if err != nil {
			return err
		}
		sw.Spec.Labels = labels
		return e.api.SwarmUpdate(ctx, sw.Version, sw.Spec, swarm.UpdateFlags{})
	})
}

// SwarmJoinToken is the token by which a worker joins the engine's swarm.
func (e *Engine) SwarmJoinToken(ctx context.Context) (token string, err error) {
	err = e.step(ctx, "swarm join token", func(ctx context.Context) error {
		sw, err := e.api.SwarmInspect(ctx)
		token = sw.JoinTokens.Worker
		return err
	})
	return token, err
}

// SwarmJoin makes the engine, at addr, a worker of the swarm whose manager is at manager.
func (e *Engine) SwarmJoin(ctx context.Context, addr netip.Addr, manager, token string) error {
	return e.step(ctx, "join the swarm at "+manager, func(ctx context.Context) error {
		return e.api.SwarmJoin(ctx, swarm.JoinRequest{
			ListenAddr: netip.AddrPortFrom(addr, 2377).String(), AdvertiseAddr: addr.String(), DataPathAddr: addr.String(),
			RemoteAddrs: []string{manager}, JoinToken: token,
		})
	})
}

// SwarmLeave takes the engine out of its swarm. Not being in one is fine.
func (e *Engine) SwarmLeave(ctx context.Context) error {
	return e.step(ctx, "leave the swarm", func(ctx context.Context) error {
		err := e.api.SwarmLeave(ctx, true)
		if errdefs.IsUnavailable(err) { // "this node is not part of a swarm"
			return nil
		}
		return err
	})
}

// Node says whether the engine's swarm has a node of that id, and whether it is ready.
func (e *Engine) Node(ctx context.Context, id string) (known, ready bool, err error) {
	err = e.step(ctx, "look up swarm node", func(ctx context.Context) error {
		n, _, err := e.api.NodeInspectWithRaw(ctx, id)
		if errdefs.IsNotFound(err) {
			return nil
		}
		known, ready = err == nil, n.Status.State == swarm.NodeStateReady
		return err
	})
	return known, ready, err
}

// NodeLabel marks a node of the engine's swarm.
func (e *Engine) NodeLabel(ctx context.Context, id string, labels map[string]string) error {
	return e.step(ctx, "label swarm node", func(ctx context.Context) error {
		n, _, err := e.api.NodeInspectWithRaw(ctx, id)
		if err != nil {
			return err
		}
		n.Spec.Labels = labels
		return e.api.NodeUpdate(ctx, id, n.Version, n.Spec)
	})
}

// Nodes are the labels of the nodes of the engine's swarm, by id.
func (e *Engine) Nodes(ctx context.Context) (labels map[string]map[string]string, err error) {
	err = e.step(ctx, "list swarm nodes", func(ctx context.Context) error {
		list, err := e.api.NodeList(ctx, swarm.NodeListOptions{})
		labels = make(map[string]map[string]string, len(list))
		for _, n := range list {
			labels[n.ID] = n.Spec.Labels
		}
		return err
	})
	return labels, err
}

// NodeRemove forgets a node that left.
func (e *Engine) NodeRemove(ctx context.Context, id string) error {
	return e.step(ctx, "remove swarm node", func(ctx context.Context) error {
		err := e.api.NodeRemove(ctx, id, swarm.NodeRemoveOptions{Force: true})
		if errdefs.IsNotFound(err) {
			return nil
		}
		return err
	})
}

// Network is an overlay network.
type Network struct {
	ID, Name string
	Labels   map[string]string
}

// NetworkSpec asks for an attachable overlay network.
type NetworkSpec struct {
	Name     string
	Labels   map[string]string
	Internal bool
	MTU      string // of the underlay: the engine subtracts the 50 bytes of VXLAN itself
}

// CreateOverlay makes an attachable overlay network; the engine must be a swarm manager.
func (e *Engine) CreateOverlay(ctx context.Context, s NetworkSpec) (id string, err error) {
	err = e.step(ctx, "create overlay network "+s.Name, func(ctx context.Context) error {
		made, err := e.api.NetworkCreate(ctx, s.Name, network.CreateOptions{
			Driver: "overlay", Attachable: true, Internal: s.Internal, Labels: s.Labels,
			Options: map[string]string{"com.docker.network.driver.mtu": s.MTU},
		})
		id = made.ID
		return err
	})
	return id, err
}

// NetworkDetails are what an engine knows of a network.
type NetworkDetails struct {
	ID, Name, Driver string
	Encrypted        bool // an overlay whose packets travel in ESP
}

// InspectNetwork looks a network up by name or id. A worker knows an overlay network only while one of its containers is on it.
func (e *Engine) InspectNetwork(ctx context.Context, name string) (d NetworkDetails, found bool, err error) {
	err = e.step(ctx, "look up network "+name, func(ctx context.Context) error {
		n, err := e.api.NetworkInspect(ctx, name, network.InspectOptions{})
		if errdefs.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		value, set := n.Options["encrypted"]
		found, d = true, NetworkDetails{ID: n.ID, Name: n.Name, Driver: n.Driver, Encrypted: set && value != "false"}
		return nil
	})
	return d, found, err
}

// IngressStands says whether the engine has done what it does by itself once it is in a swarm: it makes GatewayBridge with its rules,
// and puts a sandbox on the swarm's ingress network, the last of it.
func (e *Engine) IngressStands(ctx context.Context) (stands bool, err error) {
	err = e.step(ctx, "look up network ingress", func(ctx context.Context) error {
		n, err := e.api.NetworkInspect(ctx, "ingress", network.InspectOptions{})
		if errdefs.IsNotFound(err) {
			return nil
		}
		_, stands = n.Containers["ingress-sbox"]
		return err
	})
	return stands, err
}

// GatewayBridge is the network that an engine makes when it joins a swarm, and keeps when it leaves.
const GatewayBridge = "docker_gwbridge"

// RemoveNetwork removes a network; one that is gone already is fine.
func (e *Engine) RemoveNetwork(ctx context.Context, id string) error {
	return e.step(ctx, "remove network", func(ctx context.Context) error {
		err := e.api.NetworkRemove(ctx, id)
		if errdefs.IsNotFound(err) {
			return nil
		}
		return err
	})
}

// LabelledNetworks lists the networks that carry a label.
func (e *Engine) LabelledNetworks(ctx context.Context, label string) (found []Network, err error) {
	err = e.step(ctx, "list networks", func(ctx context.Context) error {
		list, err := e.api.NetworkList(ctx, network.ListOptions{Filters: filters.NewArgs(filters.Arg("label", label))})
		for _, n := range list {
			found = append(found, Network{ID: n.ID, Name: n.Name, Labels: n.Labels})
		}
		return err
	})
	return found, err
}
