// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/agentproto"
)

// forking starts a program of a name that nobody else's has: it forks, and its exit code is the forked process's, but 7 if it is told by
// SIGALRM itself, as the forked one's is 5.
func forking(t *testing.T) (name string, cmd *exec.Cmd) {
	t.Helper()
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("needs a shell")
	}
	path := filepath.Join(t.TempDir(), "econ-forking")
	if err := os.Symlink(shell, path); err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(path, "-c", "trap 'kill $!; exit 7' ALRM; (trap 'exit 5' ALRM; echo up; while :; do sleep 0.01; done) & wait $!; exit $?")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGALRM); _ = cmd.Wait() }) // ended already, in some tests
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "up\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return filepath.Base(path), cmd
}

// TestSignal: of a container's processes those are signalled that run the program, or that another one of it has forked.
func TestSignal(t *testing.T) {
	name, cmd := forking(t)
	a := &agent{}
	tell := func(container string, s econbench.Signal) error {
		_, err := a.signal(t.Context(), agentproto.SignalArgs{Adoptee: agentproto.Adoptee{PID: os.Getpid(), Container: container}, Signal: s})
		return err
	}
	forked := econbench.Signal{Program: name, Number: int(syscall.SIGALRM), Forked: true}
	if err := tell(strings.Repeat("0123456789abcdef", 4), forked); err != nil {
		t.Errorf("of another container: %v", err)
	}
	if err := tell(ownGroup(t), econbench.Signal{Program: name + "-2", Number: int(syscall.SIGALRM)}); err != nil {
		t.Errorf("of another program: %v", err)
	}
	if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
		t.Fatalf("ended by a signal that was not for it: %v", err)
	}
	if err := tell(ownGroup(t), forked); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 5 {
		t.Errorf("%v, want exit code 5, as the forked process has been told and no other", err)
	}
	for _, s := range []econbench.Signal{{Program: "", Number: 14}, {Program: name, Number: 0}} {
		if err := tell(ownGroup(t), s); err == nil || !strings.Contains(err.Error(), "not one that an agent may send") {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

// TestUntilQuiet: it takes as long as nothing has to have been accepted, in a namespace where nobody connects and in one where somebody did.
func TestUntilQuiet(t *testing.T) {
	const quiet = 30 * time.Millisecond
	server, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	var last time.Time
	connected := make(chan error, 1)
	go func() { // while it waits; if it is late, it was quiet, and before that nothing is asked
		conn, err := net.Dial("tcp4", server.Addr().String())
		last = time.Now()
		if err == nil {
			err = conn.Close()
		}
		connected <- err
	}()
	if err := untilQuiet(t.Context(), os.Getpid(), quiet); err != nil {
		t.Error(err)
	}
	first := time.Now()
	if err := <-connected; err != nil {
		t.Fatal(err)
	}
	if since := first.Sub(last); since > 0 && since < quiet-quietPoll {
		t.Errorf("%v after a connection, want %v", since, quiet)
	}
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("over"))
	if err := untilQuiet(ended, os.Getpid(), time.Hour); err == nil || err.Error() != "over" {
		t.Errorf("when nobody waits any more: %v", err)
	}
}

// TestIdle: a server is idle when it listens and nobody is connected to it.
func TestIdle(t *testing.T) {
	server, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	client, err := net.Dial("tcp4", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	served, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{}
	args := agentproto.IdleArgs{PID: os.Getpid(), Port: uint16(server.Addr().(*net.TCPAddr).Port), Ports: 1}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.idle(over, args); err == nil || !strings.Contains(err.Error(), "1 listened at, 1 connections: ") {
		t.Errorf("while one is connected: %v", err)
	}
	if err := errors.Join(client.Close(), served.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := a.idle(t.Context(), args); err != nil {
		t.Errorf("when nobody is: %v", err)
	}
	_ = server.Close()
	if _, err := a.idle(over, args); err == nil || !strings.Contains(err.Error(), "0 listened at, 0 connections: ") {
		t.Errorf("when nobody listens: %v", err)
	}
}
