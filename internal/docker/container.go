// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/pkg/stdcopy"
)

// Spec asks for a container.
type Spec struct {
	Name    string
	Image   string
	Labels  map[string]string
	Network string // name or id of a network, or NoNetwork; "" is the host's own namespace
	CPUs    []int  // nil: all
	Argv    []string
	Memory  map[string]string // folder in the container → options of a tmpfs
	Without []string          // capabilities of the default set, by name

	// The rest is what an agent needs and an endpoint must not have.
	PIDHost      bool
	Interactive  bool              // keep standard input open for Attach
	Capabilities []string          // by name; the default set is dropped when any is given
	DeviceRules  []string          // of the devices cgroup, "c 10:* rwm"
	Unconfined   bool              // no seccomp, no AppArmor, /proc and /sys unmasked
	Volumes      map[string]string // volume name → path in the container
}

// NoNetwork is the engine's name for a network namespace with nothing but loopback in it.
const NoNetwork = "none"

// ErrNameTaken says that a container of that name exists. Names are unique on an engine: that makes one a lease.
var ErrNameTaken = fmt.Errorf("name is taken")

// Create makes a container without starting it. It is removed by the engine as soon as it ends.
func (e *Engine) Create(ctx context.Context, s Spec) (id string, err error) {
	cfg := &container.Config{
		Image: s.Image, Cmd: s.Argv, Labels: s.Labels,
		OpenStdin: s.Interactive, StdinOnce: s.Interactive,
		AttachStdin: s.Interactive, AttachStdout: s.Interactive, AttachStderr: s.Interactive,
	}
	host := &container.HostConfig{
		AutoRemove:  true,
		Init:        ptr(false),
		NetworkMode: container.NetworkMode(orHost(s.Network)),
		LogConfig:   container.LogConfig{Type: "none"},
		Tmpfs:       s.Memory,
		Resources:   container.Resources{CpusetCpus: List(s.CPUs), DeviceCgroupRules: s.DeviceRules},
	}
	host.CapDrop = s.Without
	if s.PIDHost {
		host.PidMode, host.CgroupnsMode = "host", container.CgroupnsModeHost
	}
	if s.Capabilities != nil {
		host.CapDrop, host.CapAdd = []string{"ALL"}, s.Capabilities
	}
	if s.Unconfined {
		host.SecurityOpt = []string{"seccomp=unconfined", "apparmor=unconfined", "label=disable"}
		host.MaskedPaths, host.ReadonlyPaths = []string{}, []string{}
	}
	for name, at := range s.Volumes {
		host.Mounts = append(host.Mounts, mount.Mount{Type: mount.TypeVolume, Source: name, Target: at,
			VolumeOptions: &mount.VolumeOptions{Labels: s.Labels}})
	}
	err = e.step(ctx, "create container "+s.Name, func(ctx context.Context) error {
		made, err := e.api.ContainerCreate(ctx, cfg, host, &network.NetworkingConfig{}, nil, s.Name)
		if errdefs.IsConflict(err) {
			return fmt.Errorf("%w (%w)", ErrNameTaken, err)
		}
		id = made.ID
		return err
	})
	return id, err
}

func orHost(network string) string {
	if network == "" {
		return "host"
	}
	return network
}

func ptr[T any](v T) *T { return &v }

// Start starts a created container.
func (e *Engine) Start(ctx context.Context, id string) error {
	return e.step(ctx, "start container", func(ctx context.Context) error {
		return e.api.ContainerStart(ctx, id, container.StartOptions{})
	})
}

// Remove kills and removes a container. One that is gone already is fine.
func (e *Engine) Remove(ctx context.Context, id string) error {
	err := e.step(ctx, "remove container "+id, func(ctx context.Context) error {
		err := e.api.ContainerRemove(ctx, id, container.RemoveOptions{Force: true})
		if errdefs.IsNotFound(err) || errdefs.IsConflict(err) { // conflict: the engine is removing it already
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	return e.waitGone(ctx, id)
}

// stopSeconds is how long a container may take to end by itself.
const stopSeconds = 25

// ExitError says how a container's program ended that was to end well.
type ExitError struct{ Code int }

func (e *ExitError) Error() string { return fmt.Sprintf("it ended with code %d", e.Code) }

// Killed says that the program was, and had no chance to put back what it had done.
func (e *ExitError) Killed() bool { return e.Code > 128 }

// Stop asks a container's program to end (SIGTERM) and waits until the engine has removed the container. A program that did not
// end by itself, or not well, is an error (ExitError); a container that is gone already is fine.
func (e *Engine) Stop(ctx context.Context, id string) error {
	err := e.step(ctx, "stop container "+id, func(ctx context.Context) error {
		ended, failed := e.api.ContainerWait(ctx, id, container.WaitConditionRemoved)
		if err := e.api.ContainerStop(ctx, id, container.StopOptions{Timeout: ptr(stopSeconds)}); err != nil {
			return err
		}
		select {
		case r := <-ended:
			if r.StatusCode != 0 {
				return &ExitError{int(r.StatusCode)}
			}
			return nil
		case err := <-failed:
			return err
		}
	})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// waitGone returns when the engine knows the container no more.
func (e *Engine) waitGone(ctx context.Context, id string) error {
	return e.step(ctx, "wait for removal of container "+id, func(ctx context.Context) error {
		for {
			_, err := e.api.ContainerInspect(ctx, id)
			if errdefs.IsNotFound(err) {
				return nil
			}
			if err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
}

// Details are what a running container turned out to be.
type Details struct {
	ID        string
	Name      string
	Running   bool
	PID       int
	Created   time.Time
	Labels    map[string]string
	Addr      netip.Addr // on the network asked for; invalid without
	Sandboxes string     // folder of the engine's network namespaces, in the engine's mount namespace
}

// Inspect reads a container's details. ok is false when there is none.
func (e *Engine) Inspect(ctx context.Context, id, onNetwork string) (d Details, ok bool, err error) {
	err = e.step(ctx, "inspect container "+id, func(ctx context.Context) error {
		c, err := e.api.ContainerInspect(ctx, id)
		if errdefs.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		ok = true
		d = Details{ID: c.ID, Name: c.Name, Running: c.State.Running, PID: c.State.Pid, Labels: c.Config.Labels}
		d.Created, _ = time.Parse(time.RFC3339Nano, c.Created)
		d.Sandboxes = path.Dir(c.NetworkSettings.SandboxKey)
		if n := c.NetworkSettings.Networks[onNetwork]; n != nil && n.IPAddress != "" {
			d.Addr, err = netip.ParseAddr(n.IPAddress)
		}
		return err
	})
	return d, ok, err
}

// Labelled lists the containers that carry a label, running or not.
func (e *Engine) Labelled(ctx context.Context, label string) (found []Details, err error) {
	err = e.step(ctx, "list containers", func(ctx context.Context) error {
		list, err := e.api.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", label))})
		for _, c := range list {
			found = append(found, Details{ID: c.ID, Name: path.Base(c.Names[0]), Running: c.State == "running",
				Labels: c.Labels, Created: time.Unix(c.Created, 0)})
		}
		return err
	})
	return found, err
}

// Unlabelled names the running containers that do not carry a label.
func (e *Engine) Unlabelled(ctx context.Context, label string) (names []string, err error) {
	err = e.step(ctx, "list containers", func(ctx context.Context) error {
		list, err := e.api.ContainerList(ctx, container.ListOptions{})
		for _, c := range list {
			if _, ok := c.Labels[label]; ok {
				continue
			}
			name := c.ID
			if len(c.Names) > 0 {
				name = path.Base(c.Names[0])
			}
			names = append(names, name)
		}
		return err
	})
	return names, err
}

// CopyExecutable puts a file of this machine into a created container, executable.
func (e *Engine) CopyExecutable(ctx context.Context, id, from, name string) error {
	body, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("read own binary: %w", err)
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(body)), Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	if _, err := w.Write(body); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return e.step(ctx, "copy "+name+" into container", func(ctx context.Context) error {
		return e.api.CopyToContainer(ctx, id, "/", &buf, container.CopyToContainerOptions{})
	})
}

// Attach joins a container's standard streams. Do it before Start so that nothing is missed. Standard error goes to
// errors; closing the stream closes the container's standard input.
func (e *Engine) Attach(ctx context.Context, id string, stderr io.Writer) (io.ReadWriteCloser, error) {
	var s *stream
	err := e.step(ctx, "attach to container", func(ctx context.Context) error {
		at, err := hijack(ctx, func(ctx context.Context) (types.HijackedResponse, error) {
			return e.api.ContainerAttach(ctx, id, container.AttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true})
		})
		if err != nil {
			return err
		}
		r, w := io.Pipe()
		go func() {
			_, err := stdcopy.StdCopy(w, stderr, at.Reader)
			w.CloseWithError(err)
		}()
		s = &stream{Reader: r, Writer: at.Conn, close: func() error { at.Close(); return nil }}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

type stream struct {
	io.Reader
	io.Writer
	close func() error
}

func (s *stream) Close() error { return s.close() }
