// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/fastpath"
	"github.com/econbench/econbench/internal/lab"
	"github.com/econbench/econbench/internal/names"
)

func fastpathCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fastpath",
		Short: "attach a fast path to any Docker overlay network, or a plain VXLAN one, without a benchmark",
		Long: `fastpath attaches a fast path to an overlay network that is there, on each of the hosts given, and detaches it. On each host an
agent keeps it until it is detached: a container named econbench-fastpath-NETWORK that survives this command, picks up
containers that come later, and undoes all it did when it ends. A restart of the engine ends it: attach again.

A network that is none of Docker's is known by its vxlan device in the hosts' own namespace, which has the same name on each host: a
port of a bridge that containers of that engine are on by veth pairs, with static forwarding entries and neighbours for those of
other hosts. After attach --vxlan DEVICE its name is DEVICE for the other commands.`,
		Example: `  econbench fastpath attach NETWORK --hosts ssh://a,ssh://b
  econbench fastpath attach --vxlan DEVICE --hosts ssh://a,ssh://b
  econbench fastpath status
  econbench fastpath set NETWORK off --hosts ssh://a,ssh://b
  econbench fastpath detach NETWORK --hosts ssh://a,ssh://b`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(attachCommand(), fastpathStatusCommand(), fastpathSetCommand(), detachCommand())
	return cmd
}

// stay is what the flags say of agents that stay.
func (f *labFlags) stay(cmd *cobra.Command, network string) (lab.Stay, error) {
	if err := f.checkHosts(); err != nil {
		return lab.Stay{}, err
	}
	underlay, err := f.addresses()
	if err != nil {
		return lab.Stay{}, err
	}
	p := newProgress(cmd.ErrOrStderr(), false)
	s := lab.Stay{Engines: f.hosts, TLSDir: f.tlsDir, Network: network, Underlay: underlay[:], Holder: holder(), Progress: p.Stepf, Log: io.Discard}
	if len(s.Engines) == 0 {
		up, err := lab.Current(cmd.Context(), labOptions())
		if errors.Is(err, lab.ErrNone) {
			return s, fmt.Errorf("no --hosts given, and no emulated lab is up: give two engines, or see econbench lab up")
		}
		if err != nil {
			return s, err
		}
		hosts := up.Hosts()
		s.Engines = hosts[:]
	}
	return s, nil
}

func attachCommand() *cobra.Command {
	var f labFlags
	var opt econbench.AttachOptions
	name, tunnel, verbose := fastpath.Oncache{}.Name(), "", false
	cmd := &cobra.Command{
		Use: "attach NETWORK | attach --vxlan DEVICE", Short: "attach a fast path to an overlay network on each host, or on none",
		Example: "  econbench fastpath attach NETWORK --hosts ssh://a,ssh://b\n  econbench fastpath attach --vxlan vx7 --hosts ssh://a,ssh://b\n  econbench fastpath attach NETWORK --hook filter -v",
		Args: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("vxlan") {
				return checkDevice(cmd, tunnel, args)
			}
			return oneArg("network")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			path, setting, _ := strings.Cut(name, ":")
			network := strings.Join(args, "") + tunnel
			if err := checkAttach(path, setting, opt, tunnel); err != nil {
				return err
			}
			s, err := f.stay(cmd, network)
			if err != nil {
				return err
			}
			s.Fastpath, s.Tunnel = path, tunnel != ""
			if s.Binary, err = os.Executable(); err != nil {
				return fmt.Errorf("own binary: %w", err)
			}
			s.Config = func(spaces, sandbox string, underlay netip.Addr) (json.RawMessage, error) {
				cfg := fastpath.OverlayConfig{Sandbox: sandbox, Underlay: underlay, With: setting, AttachOptions: opt}
				if sandbox == "" {
					cfg.Tunnel, cfg.Spaces = tunnel, spaces
				}
				return json.Marshal(cfg)
			}
			if s.Image, err = toolImage(cmd.Context(), "", f.cacheDir, s.Progress); err != nil {
				return err
			}
			var log bytes.Buffer
			s.Log = &log
			err = s.Attach(cmd.Context())
			if verbose {
				_, _ = cmd.ErrOrStderr().Write(log.Bytes())
			}
			return err
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&name, "fastpath", name, "`name` of the fast path, as econbench list has it, with :SETTING if it has one")
	cmd.Flags().StringVar(&tunnel, "vxlan", "", "`device` of a network that is none of Docker's, in place of NETWORK")
	registerAttach(cmd, &opt)
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "show the agents' logs, with all that a verifier says")
	return cmd
}

// registerAttach registers how fast paths are attached.
func registerAttach(cmd *cobra.Command, opt *econbench.AttachOptions) {
	cmd.Flags().StringVar(&opt.Lane, "lane", "", "`kind` of way that fast paths take around a network's sandbox: macvlan, gateway or netkit (default: the first of them that a container can have)")
	cmd.Flags().IntVar(&opt.MaxFlows, "max-flows", 0, fmt.Sprintf("how many flows fast paths remember on each host and network, %d to %d: the least used give way (default: 65536)", econbench.LeastFlows, econbench.MostFlows))
	cmd.Flags().StringVar(&opt.Hook, "hook", "", "how fast paths' programs are attached: tcx (Linux 6.6), filter (default: tcx where there is)")
}

// deviceName is what a device may be called whose name is a part of a container's.
var deviceName = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,15}$`)

// checkDevice wants a device that stands for a network, and no network beside it.
func checkDevice(cmd *cobra.Command, device string, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s: network %q and --vxlan given: want one of them", cmd.CommandPath(), args[0])
	}
	if !deviceName.MatchString(device) {
		return fmt.Errorf("%s: --vxlan %q: want a device's name of 1 to 15 letters, digits, dots, dashes or underscores", cmd.CommandPath(), device)
	}
	return nil
}

// checkAttach refuses what can't be attached to an overlay network, or not in that way; tunnel: the device of one that is none of
// Docker's.
func checkAttach(name, setting string, opt econbench.AttachOptions, tunnel string) error {
	topology := fastpath.OnDocker
	if tunnel != "" {
		topology = fastpath.OnPlain
	}
	var allowed []string
	known := false
	for _, p := range fastpath.All() {
		known = known || p.Name() == name
		if b, ok := p.(econbench.Bound); ok && slices.Contains(b.Topologies(), topology) {
			allowed = append(allowed, p.Name())
		}
	}
	if known && !slices.Contains(allowed, name) {
		return fmt.Errorf("fast path %q: is for runs alone: allowed: %s", name, strings.Join(allowed, ", "))
	}
	if !known {
		return names.Unknown("fast path", name, allowed)
	}
	if err := parts().CheckArm(econbench.Arm{Topology: topology, Fastpath: name, Setting: setting}); err != nil {
		return err
	}
	if wrong := parts().CheckAttach([]string{name}, opt); len(wrong) > 0 {
		return wrong[0]
	}
	return nil
}

func detachCommand() *cobra.Command {
	var f labFlags
	cmd := &cobra.Command{
		Use: "detach NETWORK", Short: "detach what is attached to a network",
		Example: "  econbench fastpath detach NETWORK --hosts ssh://a,ssh://b",
		Args:    oneArg("network"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := f.stay(cmd, args[0])
			if err != nil {
				return err
			}
			return s.Detach(cmd.Context())
		},
	}
	f.register(cmd)
	return cmd
}

func fastpathSetCommand() *cobra.Command {
	var f labFlags
	orders := econbench.Orders()
	cmd := &cobra.Command{
		Use: "set NETWORK " + strings.Join(orders, "|"), Short: "switch what is attached to a network, while packets pass",
		Long: `set switches a fast path on each host, from the next packet on and without losing one:

  on     it carries packets, as after attach; coming from off it forgets all flows first
  off    it stands aside, as if nothing were attached, and counts nothing
  dry    it judges, learns and counts what it would have carried, and carries nothing
  clear  it forgets all flows, and goes on as it was`,
		Example: "  econbench fastpath set NETWORK dry --hosts ssh://a,ssh://b\n  econbench fastpath set NETWORK on",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				return nil
			}
			return fmt.Errorf("%s wants a network and an order (%s), got %d arguments: see %s --help", cmd.CommandPath(), strings.Join(orders, ", "), len(args), cmd.CommandPath())
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(orders, args[1]) {
				return names.Unknown("order", args[1], orders)
			}
			s, err := f.stay(cmd, args[0])
			if err != nil {
				return err
			}
			return s.Tell(cmd.Context(), econbench.Order(args[1]))
		},
	}
	f.register(cmd)
	return cmd
}

func fastpathStatusCommand() *cobra.Command {
	var f labFlags
	var format outputFlag
	var flows bool
	cmd := &cobra.Command{
		Use: "status [NETWORK]", Short: "say what is attached, and what it has carried",
		Example: "  econbench fastpath status\n  econbench fastpath status NETWORK --flows\n  econbench fastpath status NETWORK -o json",
		Args:    upToOneArg("network"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := format.check(); err != nil {
				return err
			}
			s, err := f.stay(cmd, strings.Join(args, ""))
			if err != nil {
				return err
			}
			list, err := s.Status(cmd.Context(), flows)
			if err != nil {
				return err
			}
			return format.write(cmd.OutOrStdout(), list, func(w io.Writer) error { return printStays(w, list) })
		},
	}
	f.register(cmd)
	format.register(cmd)
	cmd.Flags().BoolVar(&flows, "flows", false, "each flow that is known, too")
	return cmd
}

func printStays(w io.Writer, list []lab.StayStatus) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "nothing is attached")
		return err
	}
	for _, s := range list {
		network := fmt.Sprintf("network %s (%.12s)", s.Name, s.Network)
		if device := lab.TunnelOf(s.Network); device != "" {
			network = "vxlan device " + device
		}
		fmt.Fprintf(w, "%s  %s  %s since %s\n", s.Engine, network, s.Agent.Fastpath, s.Agent.Since.Local().Format(time.DateTime))
		if s.Agent.Error != "" {
			fmt.Fprintf(w, "  error: %s\n", s.Agent.Error)
			continue
		}
		var o fastpath.OverlayStatus
		if err := json.Unmarshal(s.Agent.Detail, &o); err != nil {
			return fmt.Errorf("status of %s: %w", s.Engine, err)
		}
		printOverlay(w, o)
	}
	return nil
}

// arriving tells where what comes by a lane arrives, if not on a device of the lane's, and what became of the settings "untracked" and "direct".
func arriving(c fastpath.ContainerStatus) (text string) {
	if c.Arrives == "device" {
		text = " up to " + c.Device + ", as its rules ask for devices"
	}
	switch {
	case c.Tracked != "":
		text += ", tracked: " + c.Tracked
	case c.Untracked:
		text += ", untracked"
	}
	switch {
	case c.Indirect != "":
		text += ", indirect: " + c.Indirect
	case c.Direct:
		text += ", direct"
	}
	return text
}

// mapSizes tells what maps take of memory, those that take the most by name.
func mapSizes(bytes map[string]uint64) string {
	const worthNaming = 1 << 20
	total, large := uint64(0), []string(nil)
	for _, name := range slices.Sorted(maps.Keys(bytes)) {
		if total += bytes[name]; bytes[name] >= worthNaming {
			large = append(large, fmt.Sprintf("%s %.1f MB", name, float64(bytes[name])/1e6))
		}
	}
	text := fmt.Sprintf("%.1f MB", float64(total)/1e6)
	if len(large) > 0 {
		text += " (" + strings.Join(large, ", ") + ")"
	}
	return text
}

func printOverlay(w io.Writer, o fastpath.OverlayStatus) {
	for _, c := range o.Containers {
		fmt.Fprintf(w, "  container %s (%s) by lane %s%s, hooks %s\n", c.Address, c.Device, c.Lane, arriving(c), o.Mechanism)
	}
	fmt.Fprintf(w, "  %s; %d peers, %d of at most %d flows known; connections open and close on the %s; maps take %s\n", o.Mode, o.Peers, o.Flows, o.MaxFlows,
		map[bool]string{true: "fast path", false: "kernel's path: it has rules"}[o.Connections], mapSizes(o.MapBytes))
	for _, what := range slices.Sorted(maps.Keys(o.Refused)) {
		fmt.Fprintf(w, "  left to the kernel's path: %s: %s\n", what, o.Refused[what])
	}
	if o.Error != "" {
		fmt.Fprintf(w, "  caches are not kept at present: %s\n", o.Error)
	}
	for _, direction := range []string{econbench.Egress, econbench.Ingress} {
		n := func(name string) float64 { return o.Counters[direction+"."+name] }
		fmt.Fprintf(w, "  %-7s  %.0f segments seen, %.0f eligible, %.0f hits, %.0f misses", direction, n(econbench.CounterSeen),
			n(econbench.CounterEligible), n(econbench.CounterHits), n(econbench.CounterMisses))
		if dry := n(econbench.CounterDry); dry > 0 {
			fmt.Fprintf(w, ", %.0f dry", dry)
		}
		for _, name := range slices.Sorted(maps.Keys(o.Counters)) {
			if why, ok := strings.CutPrefix(name, direction+"."+econbench.CounterBail); ok && o.Counters[name] > 0 {
				fmt.Fprintf(w, ", %.0f bailed (%s)", o.Counters[name], why)
			}
		}
		fmt.Fprintln(w)
	}
	for _, f := range o.Items {
		fmt.Fprintf(w, "  flow %s %s %s %s\n", f.Protocol, f.Local, f.Remote, f.State)
	}
}
