// SPDX-License-Identifier: Apache-2.0

// Package docker is the one place that imports the Docker client. It speaks to one engine: containers, programs run in
// them, overlay networks, swarm membership, images. It decides nothing about labs or runs.
//
// Everything that it makes carries LabelRun, so that a later `econbench clean` finds it whatever died.
package docker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/docker/cli/cli/connhelper"
	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"
)

// Labels on everything that econbench makes on an engine.
const (
	LabelRun         = "econbench.run"          // id of the run
	LabelRole        = "econbench.role"         // "agent", "endpoint", "network", "journal", "swarm"
	LabelHolder      = "econbench.holder"       // who runs it: user@machine pid N
	LabelDigest      = "econbench.digest"       // of an image: SHA-256 of the imported tar
	LabelHosts       = "econbench.hosts"        // of a network: ids of the two engines that its run leased, with a comma
	LabelNetwork     = "econbench.network"      // of an agent that stays: id of the network whose fast path it keeps
	LabelNetworkName = "econbench.network.name" // of the same: a worker forgets a network that has no container on it
	LabelFastpath    = "econbench.fastpath"     // of the same: the fast path's name
	LabelBare        = "econbench.bare"         // of a swarm or node: ids of engines that had no GatewayBridge before, with commas
)

// StepTimeout bounds every single request to an engine, so that one that stops answering ends a run instead of hanging it.
const StepTimeout = 30 * time.Second

// silentTimeout bounds the requests to an engine that has left one unanswered: giving back what a run took of it must not
// take StepTimeout again for each thing.
const silentTimeout = 2 * time.Second

// ErrSilent says that an engine did not answer in time.
var ErrSilent = errors.New("no answer")

// sshTries is how often an engine is asked through an ssh that ends at once.
const sshTries = 10

// Engine is a connection to one Docker engine.
type Engine struct {
	host   string // as the user wrote it
	api    *client.Client
	info   system.Info
	silent atomic.Bool // the last request got no answer
}

// Dial connects to an engine and asks who it is. host is unix:///path, tcp://name:port (TLS with ca.pem, cert.pem and
// key.pem from tlsDir) or ssh://[user@]name[:port].
func Dial(ctx context.Context, host, tlsDir string) (*Engine, error) {
	opts, err := options(host, tlsDir)
	if err != nil {
		return nil, err
	}
	api, err := client.NewClientWithOpts(opts...)
	if err != nil {
		return nil, fmt.Errorf("engine %s: %w", host, err)
	}
	e := &Engine{host: host, api: api}
	ctx, cancel := context.WithTimeout(ctx, StepTimeout)
	defer cancel()
	e.info, err = api.Info(ctx)
	for try := 1; try < sshTries && errors.Is(err, syscall.EPIPE); try++ {
		e.info, err = api.Info(ctx) // ssh ended before it was asked; why, it says to whoever asks in time
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("engine %s: %w", host, oneLine(err)), api.Close())
	}
	if e.info.OSType != "linux" {
		return nil, errors.Join(fmt.Errorf("engine %s: runs %s containers, want linux", host, e.info.OSType), api.Close())
	}
	return e, nil
}

// CheckHost says whether Dial could try a host: it is written as Dial takes it, and there are certificates for tcp://.
func CheckHost(host, tlsDir string) error {
	scheme, rest, ok := strings.Cut(host, "://")
	if !ok || rest == "" {
		return fmt.Errorf("host %q: want unix:///path, tcp://name:port or ssh://[user@]name[:port]", host)
	}
	switch scheme {
	case "tcp":
		if _, port, err := net.SplitHostPort(rest); err != nil || port == "" {
			return fmt.Errorf("host %q: want a port, as in tcp://name:2376", host)
		}
		_, err := tlsFolder(host, tlsDir)
		return err
	case "unix":
		if !path.IsAbs(rest) {
			return fmt.Errorf("host %q: want an absolute path, as in unix:///run/docker.sock", host)
		}
		return nil
	case "ssh":
		return nil
	}
	return fmt.Errorf("host %q: scheme %q is not one of unix, tcp, ssh", host, scheme)
}

func options(host, tlsDir string) ([]client.Opt, error) {
	if err := CheckHost(host, tlsDir); err != nil {
		return nil, err
	}
	opts := []client.Opt{client.WithAPIVersionNegotiation()}
	switch {
	case strings.HasPrefix(host, "ssh://"):
		helper, err := connhelper.GetConnectionHelperWithSSHOpts(host, []string{"-o", "BatchMode=yes", "-o", "ConnectTimeout=10"})
		if err != nil {
			return nil, fmt.Errorf("host %q: %w", host, err)
		}
		web := &http.Client{Transport: &http.Transport{DialContext: helper.Dialer}}
		return append(opts, client.WithHTTPClient(web), client.WithHost(helper.Host), client.WithDialContext(helper.Dialer)), nil
	case strings.HasPrefix(host, "tcp://"):
		tlsDir, err := tlsFolder(host, tlsDir)
		if err != nil {
			return nil, err
		}
		file := func(name string) string { return filepath.Join(tlsDir, name) }
		opts = append(opts, client.WithTLSClientConfig(file("ca.pem"), file("cert.pem"), file("key.pem")))
	}
	return append(opts, client.WithHost(host)), nil
}

// tlsFolder finds the folder with the client's certificate. An engine that listens on TCP without TLS gives root to
// whoever reaches it: it is refused.
func tlsFolder(host, dir string) (string, error) {
	tried := []string{dir}
	if dir == "" {
		home, _ := os.UserHomeDir()
		tried = []string{filepath.Join(home, ".docker")}
		if certs := os.Getenv("DOCKER_CERT_PATH"); certs != "" {
			tried = []string{certs, tried[0]}
		}
	}
	for _, d := range tried {
		if _, err := os.Stat(filepath.Join(d, "cert.pem")); err == nil {
			return d, nil
		}
	}
	return "", fmt.Errorf("host %q: no ca.pem, cert.pem and key.pem in %s: tcp:// is spoken with TLS only, give --tls-dir",
		host, strings.Join(tried, " or "))
}

// Host is the engine's address as the user wrote it.
func (e *Engine) Host() string { return e.host }

// Name is the engine's host name.
func (e *Engine) Name() string { return e.info.Name }

// Version is the engine's version.
func (e *Engine) Version() string { return e.info.ServerVersion }

// Architecture is the engine's machine architecture as Go names it.
func (e *Engine) Architecture() string {
	switch e.info.Architecture {
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	}
	return e.info.Architecture
}

// ID tells two engines apart.
func (e *Engine) ID() string { return e.info.ID }

// Close ends the connection; nothing on the engine changes.
func (e *Engine) Close() error { return e.api.Close() }

// Ping asks whether the engine still answers.
func (e *Engine) Ping(ctx context.Context) error {
	return e.step(ctx, "ping", func(ctx context.Context) error {
		_, err := e.api.Ping(ctx)
		return err
	})
}

// wrap names the engine and the step, on one line.
func (e *Engine) wrap(step string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("engine %s: %s: %w", e.host, step, oneLine(err))
}

// step is wrap with a deadline around one request.
func (e *Engine) step(ctx context.Context, step string, do func(context.Context) error) error {
	limit := StepTimeout
	if e.silent.Load() {
		limit = silentTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w in %v", ErrSilent, limit))
	defer cancel()
	err := do(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // the client's own words wrap it in the request's URL
	}
	e.silent.Store(err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded)) // the caller's own deadline counts too
	return e.wrap(step, err)
}

// hijack does a request that takes its connection over. The client gives those no deadline at all, so that an engine which
// stops in the middle would hold a run up for ever.
func hijack(ctx context.Context, do func(context.Context) (types.HijackedResponse, error)) (types.HijackedResponse, error) {
	type result struct {
		at  types.HijackedResponse
		err error
	}
	got := make(chan result, 1)
	go func() {
		at, err := do(context.WithoutCancel(ctx)) // what it attaches to must outlive this request's deadline
		got <- result{at, err}
	}()
	select {
	case r := <-got:
		return r.at, r.err
	case <-ctx.Done():
		go func() {
			if r := <-got; r.err == nil {
				r.at.Close()
			}
		}()
		return types.HijackedResponse{}, context.Cause(ctx)
	}
}

// flat is an error whose text is on one line; the cause stays reachable.
type flat struct{ error }

func (f flat) Error() string {
	return strings.Join(strings.FieldsFunc(f.error.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
func (f flat) Unwrap() error { return f.error }

func oneLine(err error) error { return flat{err} }
