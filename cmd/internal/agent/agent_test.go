// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/agentproto"
	"github.com/econbench/econbench/internal/trace"
	"github.com/econbench/econbench/internal/tune"
)

func TestDifference(t *testing.T) {
	before := econbench.Counters{"grows": 1, "stays": 2, "shrinks": 3, "vanishes": 4}
	after := econbench.Counters{"grows": 11, "stays": 2, "shrinks": 1, "appears": 5}
	diff, gone := difference(before, after)
	if d := cmp.Diff(econbench.Counters{"grows": 10, "stays": 0, "appears": 5}, diff); d != "" {
		t.Errorf("difference (-want +got):\n%s", d)
	}
	if want := []string{"shrinks", "vanishes"}; !slices.Equal(gone, want) {
		t.Errorf("gone: %q, want %q", gone, want)
	}
	if diff, gone := difference(nil, nil); len(diff)+len(gone) != 0 {
		t.Errorf("of nothing: %v %v", diff, gone)
	}
}

// sleeper is a process that lives until the test ends it.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }) // ended already, in some tests
	return cmd
}

// ownGroup is something that the process's cgroup file says.
func ownGroup(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.TrimSpace(string(b))
	if len(text) < 12 {
		t.Skipf("cgroup %q: too short to stand for a container's id", text)
	}
	return text
}

func TestKillAdopteeKillsTheContainersAlone(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	p := sleeper(t)
	if err := killAdoptee(agentproto.Adoptee{PID: p.Process.Pid, Container: id}); err != nil {
		t.Errorf("of another container: %v, want nil", err)
	}
	if err := p.Process.Signal(syscall.Signal(0)); err != nil {
		t.Fatalf("a process of another container was ended: %v", err)
	}
	if err := killAdoptee(agentproto.Adoptee{PID: p.Process.Pid, Container: ownGroup(t)}); err != nil {
		t.Error(err)
	}
	if err := p.Wait(); err == nil || p.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("a process of the container: %v, want it killed", err)
	}
	if err := killAdoptee(agentproto.Adoptee{PID: p.Process.Pid, Container: ownGroup(t)}); err != nil {
		t.Errorf("one that has ended: %v, want nil", err)
	}
	for _, who := range []agentproto.Adoptee{{PID: 0, Container: id}, {PID: 1, Container: id}, {PID: -1, Container: id}, {PID: os.Getpid(), Container: ""}} {
		if err := killAdoptee(who); err == nil || !strings.Contains(err.Error(), "not one that an agent may end") {
			t.Errorf("%+v: %v", who, err)
		}
	}
}

// talk starts an agent and returns its controller's end. ended gets what Run returned.
func talk(t *testing.T, opt Options) (ask func(op string, args any) agentproto.Response, hangUp func(), ended chan error) {
	t.Helper()
	in, requests := io.Pipe()
	answers, out := io.Pipe()
	ended = make(chan error, 1)
	go func() {
		ended <- Run(context.Background(), in, out, opt)
		_ = out.Close()
	}()
	t.Cleanup(func() { _ = requests.Close(); _ = answers.Close() })
	lines, id := bufio.NewScanner(answers), uint64(0)
	ask = func(op string, args any) (r agentproto.Response) {
		t.Helper()
		id++
		body, err := json.Marshal(args)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.NewEncoder(requests).Encode(agentproto.Request{Version: agentproto.Version, ID: id, Op: op, Args: body}); err != nil {
			t.Fatal(err)
		}
		if !lines.Scan() {
			t.Fatalf("%s: no answer: %v", op, lines.Err())
		}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil || r.ID != id {
			t.Fatalf("%s: %s: %v", op, lines.Bytes(), err)
		}
		return r
	}
	return ask, func() { _ = requests.Close() }, ended
}

// An agent whose controller dies ends what it adopted.
func TestEndOfFileEndsWhatWasAdopted(t *testing.T) {
	p := sleeper(t)
	ask, hangUp, ended := talk(t, Options{JournalDir: t.TempDir()})
	if r := ask(agentproto.OpAdopt, agentproto.Adoptee{PID: p.Process.Pid, Container: ownGroup(t)}); r.Error != "" {
		t.Fatal(r.Error)
	}
	hangUp()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	_ = p.Wait() // says that it was killed
	if p.ProcessState.ExitCode() != -1 {
		t.Errorf("adopted process: %v, want it killed", p.ProcessState)
	}
}

// An agent whose controller dies puts back what it tuned, and its journal has nothing for the next one.
func TestEndOfFileUndoes(t *testing.T) {
	const file = "/proc/sys/net/ipv4/tcp_no_metrics_save"
	if os.Getuid() != 0 {
		t.Skip("needs root for a network namespace of its own")
	}
	if os.Getenv(inNamespace) == "" {
		again := exec.Command("/proc/self/exe", "-test.run=^TestEndOfFileUndoes$", "-test.v")
		again.Env = append(os.Environ(), inNamespace+"=1")
		again.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET}
		if out, err := again.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestEndOfFileUndoes") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	read := func() string {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	dir, before := t.TempDir(), read()
	ask, hangUp, ended := talk(t, Options{JournalDir: dir})
	if r := ask(agentproto.OpTune, []tune.Tuning{tune.Sysctl(0, "net.ipv4.tcp_no_metrics_save", "1")}); r.Error != "" {
		t.Fatal(r.Error)
	}
	if before == "1" || read() != "1" {
		t.Fatalf("before %s, tuned %s: this test sees nothing", before, read())
	}
	hangUp()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := read(); got != before {
		t.Errorf("afterwards %s, was %s", got, before)
	}
	if _, undone, err := tune.OpenJournal(dir); err != nil || len(undone) > 0 {
		t.Errorf("the next agent undid %q %v", undone, err)
	}
}

const inNamespace = "ECONBENCH_TEST_IN_NAMESPACE"

func TestUntuneUnknown(t *testing.T) {
	ask, _, _ := talk(t, Options{JournalDir: t.TempDir()})
	if r := ask(agentproto.OpUntune, agentproto.UntuneArgs{Handle: 7}); r.Error != "handle 7: nothing is tuned or built under it" {
		t.Errorf("%+v", r)
	}
}

// What was not started can't be recorded, and an order that is none is refused in words.
func TestTraceUnknown(t *testing.T) {
	ask, hangUp, ended := talk(t, Options{JournalDir: t.TempDir()})
	if r := ask(agentproto.OpRecord, trace.RecordArgs{Handle: 7, Duration: 1}); r.Error != "handle 7: nothing is traced under it" {
		t.Errorf("%+v", r)
	}
	if r := ask(agentproto.OpTrace, trace.Order{}); r.Error != "trace: 0 events: want 1 to 1048576" {
		t.Errorf("%+v", r)
	}
	hangUp()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// An agent whose controller dies between the two operations takes its hooks off.
func TestEndOfFileEndsTraces(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root for BPF programs")
	}
	ask, hangUp, ended := talk(t, Options{JournalDir: t.TempDir()})
	before := descriptors(t)
	addr := netip.MustParseAddr("198.18.7.1")
	order := trace.Order{Side: econbench.ClientHost, PID: os.Getpid(), Events: 100,
		Flow: trace.Flow{Client: addr, Server: addr, ClientHost: addr, ServerHost: addr, ServerPort: 9}}
	if r := ask(agentproto.OpTrace, order); r.Error != "" {
		t.Fatal(r.Error)
	}
	if during := descriptors(t); during <= before {
		t.Fatalf("%d descriptors of BPF, before %d: this test sees nothing", during, before)
	}
	hangUp()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors of BPF are left, before %d", after, before)
	}
}

// descriptors counts those of this process that are links of BPF programs, which is what holds a hook.
func descriptors(t *testing.T) (n int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range list {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(to, "anon_inode:bpf") {
			n++
		}
	}
	return n
}

// readings are fakes whose counters the test gives.
type reading struct {
	name   string
	values []econbench.Counters
	fail   error
	closed *int
}

func (r *reading) Name() string                                    { return r.name }
func (r *reading) Open(econbench.Scope) (econbench.Reading, error) { return r, r.fail }
func (r *reading) Close() error                                    { *r.closed++; return nil }
func (r *reading) Read() (econbench.Counters, error) {
	if len(r.values) == 0 {
		return nil, errors.New("file vanished")
	}
	first := r.values[0]
	r.values = r.values[1:]
	return first, nil
}

func TestReaders(t *testing.T) {
	closed := 0
	good := func() *reading {
		return &reading{name: "good", closed: &closed, values: []econbench.Counters{{"n": 1}}}
	}
	a := &agent{opt: Options{Readers: []econbench.Reader{good(), &reading{name: "bad", closed: &closed, fail: errors.New("not there")}}}}
	if _, err := a.openReaders(econbench.Scope{}, []string{"good", "bad"}); err == nil || err.Error() != "collector bad: not there" {
		t.Errorf("a reader that can't open: %v", err)
	}
	if _, err := a.openReaders(econbench.Scope{}, []string{"good", "nope"}); err == nil || err.Error() != `reader "nope" is not known` {
		t.Errorf("an unknown reader: %v", err)
	}
	if closed != 2 {
		t.Errorf("%d readings closed, want those 2 that had been opened", closed)
	}
	a.opt.Readers = []econbench.Reader{good(), &reading{name: "empty", closed: &closed}}
	if _, err := a.probe(t.Context(), agentproto.ProbeArgs{Readers: []string{"good"}}); err != nil || closed != 3 {
		t.Errorf("probe: %v, %d readings closed, want 3", err, closed)
	}
	if _, err := a.probe(t.Context(), agentproto.ProbeArgs{Readers: []string{"empty"}}); err == nil || err.Error() != "collector empty: file vanished" || closed != 4 {
		t.Errorf("probe of what can't be read: %v, %d readings closed, want 4", err, closed)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("over"))
	if err := sleep(ctx, time.Hour); err == nil || err.Error() != "over" {
		t.Errorf("sleep: %v", err)
	}
}
