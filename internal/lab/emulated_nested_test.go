// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// testEngine speaks plain Engine API (1.41, of 20.10), so that this test leans on nothing else of econbench's.
type testEngine struct {
	t      *testing.T
	client http.Client
}

func dialTestEngine(t *testing.T, url string) *testEngine {
	socket := strings.TrimPrefix(url, "unix://")
	return &testEngine{t: t, client: http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}}
}

// call posts (or gets, without a body) and decodes the answer into out.
func (e *testEngine) call(path string, in, out any) {
	e.t.Helper()
	method, body := http.MethodGet, io.Reader(nil)
	switch in := in.(type) {
	case nil:
	case io.Reader:
		method, body = http.MethodPost, in
	default:
		b, err := json.Marshal(in)
		if err != nil {
			e.t.Fatal(err)
		}
		method, body = http.MethodPost, bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(e.t.Context(), method, "http://engine/v1.41"+path, body)
	if err != nil {
		e.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := e.client.Do(req)
	if err != nil {
		e.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		e.t.Fatalf("%s: %s: %s: %v", path, resp.Status, b, err)
	}
	switch out := out.(type) {
	case nil:
	case *[]byte:
		*out = b
	default:
		if err := json.Unmarshal(b, out); err != nil {
			e.t.Fatalf("%s: %v in %s", path, err, b)
		}
	}
}

type hostConfig map[string]any

// start runs probe in a container.
func (e *testEngine) start(name string, hc hostConfig, args ...string) (id string) {
	e.t.Helper()
	var made struct{ ID string }
	e.call("/containers/create?name="+name, map[string]any{
		"Image": "probe", "Cmd": append([]string{"/probe"}, args...), "HostConfig": hc,
	}, &made)
	e.call("/containers/"+made.ID+"/start", strings.NewReader(""), nil)
	return made.ID
}

// run starts and returns what was printed.
func (e *testEngine) run(name string, hc hostConfig, args ...string) string {
	e.t.Helper()
	id := e.start(name, hc, args...)
	var ended struct{ StatusCode int }
	e.call("/containers/"+id+"/wait", strings.NewReader(""), &ended)
	var log []byte
	e.call("/containers/"+id+"/logs?stdout=1&stderr=1", nil, &log)
	out := demux(log)
	if ended.StatusCode != 0 {
		e.t.Errorf("%s: exit status %d: %s", name, ended.StatusCode, out)
	}
	return out
}

// demux takes the 8-byte headers out of an attached stream.
func demux(b []byte) string {
	var s strings.Builder
	for len(b) >= 8 {
		n := int(binary.BigEndian.Uint32(b[4:]))
		s.Write(b[8:min(8+n, len(b))])
		b = b[min(8+n, len(b)):]
	}
	return s.String()
}

// probeImage is a tar with one static program.
func probeImage(t *testing.T) []byte {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "probe")
	cmd := exec.Command("go", "build", "-o", bin, "./testdata/probe")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build probe: %v\n%s", err, out)
	}
	b, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: "probe", Mode: 0o755, Size: int64(len(b))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestNested does what econbench does with a lab: agents, pinned containers, a swarm and an overlay between the hosts.
func TestNested(t *testing.T) {
	o := needEmulated(t)
	image := probeImage(t)
	e, err := Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close(context.Background()) })
	var engines [2]*testEngine
	for i, url := range e.Hosts() {
		engines[i] = dialTestEngine(t, url)
		engines[i].call("/images/create?fromSrc=-&repo=probe", bytes.NewReader(image), new([]byte))
	}
	a, b := engines[0], engines[1]

	agent := hostConfig{"NetworkMode": "host", "PidMode": "host", "CapAdd": []string{"SYS_PTRACE"}}
	if got := a.run("dev", agent, "ls", "/sys/class/net"); strings.Contains(got, "eth0") || !strings.Contains(got, WireDevice) {
		t.Errorf("devices of host a:\n%s", got)
	}
	if got := a.run("name", agent, "cat", "/proc/1/root/etc/hostname", "/proc/1/cmdline"); !strings.Contains(got, InitCommand) {
		t.Errorf("pid 1 of host a: %q", got)
	}
	checkCgroup(t, o, a)
	formSwarm(t, a, b)
	a.call("/networks/create", map[string]any{"Name": "ov", "Driver": "overlay", "Attachable": true}, nil)
	b.start("server", hostConfig{"NetworkMode": "ov", "CpusetCpus": "0"}, "answer", ":7777")
	if got := a.run("client", hostConfig{"NetworkMode": "ov"}, "ask", "server:7777"); got != "pong\n" {
		t.Errorf("over the overlay: %q, want pong", got)
	}
	if got := b.run("sandboxes", agent, "ls", "/proc/1/root/run/docker/netns"); !strings.Contains(got, "/1-") {
		t.Errorf("sandboxes of host b:\n%s", got)
	}
	begin := time.Now()
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
	t.Logf("down, with a swarm and a running container, in %v", time.Since(begin))
	nothingLeft(t, o)
}

// checkCgroup runs a pinned container and looks where it is.
func checkCgroup(t *testing.T, o Options, e *testEngine) {
	t.Helper()
	got := e.run("pinned", hostConfig{"CpusetCpus": "0", "CgroupnsMode": "host"}, "cat", "/proc/self/cgroup", "/proc/self/status")
	if want := ":/" + o.place().Cgroup + "/a/"; !strings.Contains(got, want) {
		t.Errorf("cgroup of a container lacks %s:\n%s", want, got)
	}
	if !strings.Contains(got, "Cpus_allowed_list:\t0\n") {
		t.Errorf("container is not pinned:\n%s", got)
	}
}

func formSwarm(t *testing.T, a, b *testEngine) {
	t.Helper()
	addr := func(i int) string { return underlay[i].Addr().String() }
	a.call("/swarm/init", map[string]any{
		"ListenAddr": addr(0) + ":2377", "AdvertiseAddr": addr(0), "DataPathAddr": addr(0),
		"DefaultAddrPool": []string{"198.19.0.0/17"}, "SubnetSize": 24,
	}, nil)
	var swarm struct{ JoinTokens struct{ Worker string } }
	a.call("/swarm", nil, &swarm)
	b.call("/swarm/join", map[string]any{
		"ListenAddr": addr(1) + ":2377", "AdvertiseAddr": addr(1), "DataPathAddr": addr(1),
		"RemoteAddrs": []string{addr(0) + ":2377"}, "JoinToken": swarm.JoinTokens.Worker,
	}, nil)
	var nodes []struct{ Status struct{ State string } }
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		a.call("/nodes", nil, &nodes)
		if len(nodes) == 2 && nodes[0].Status.State == "ready" && nodes[1].Status.State == "ready" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(fmt.Sprint("swarm of two does not form: ", nodes))
		}
	}
}
