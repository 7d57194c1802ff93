// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// eventually waits for what a death is followed by.
func eventually(t *testing.T, what string, limit time.Duration, done func() bool) {
	t.Helper()
	for begin := time.Now(); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begin) > limit {
			t.Errorf("%s: not within %v", what, limit)
			return
		}
	}
}

func gone(path string) func() bool {
	return func() bool {
		_, err := os.Lstat(path)
		return errors.Is(err, fs.ErrNotExist)
	}
}

// TestControllerKilled kills the controller with SIGKILL when it has said each of its lines, and a while after.
func TestControllerKilled(t *testing.T) {
	moments := []struct {
		line string
		wait time.Duration
	}{
		{"starting hosts", 0}, {"starting hosts", 5 * time.Millisecond}, {"joining hosts by a wire", 0},
		{"starting engines", 0}, {"starting engines", 50 * time.Millisecond}, {"starting engines", 150 * time.Millisecond},
		{"engines are up", 0}, {"engines are up", 100 * time.Millisecond},
	}
	for _, m := range moments {
		t.Run(m.line+"+"+m.wait.String(), func(t *testing.T) {
			o := needEmulated(t)
			cmd := exec.Command("/proc/self/exe", controllerCommand, o.Root)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stderr = os.Stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			sc := bufio.NewScanner(out)
			for sc.Scan() && sc.Text() != m.line {
			}
			time.Sleep(m.wait) // the moment is the test's subject, not a wait for readiness
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // says that it was killed
			eventually(t, "processes gone", 5*time.Second, func() bool { return len(processesNaming(t, o.Root)) == 0 })
			if left := o.mustPlace(t).remains(); len(left) > 0 && m.line != "starting hosts" {
				t.Errorf("left, as nobody cleaned: %q", left)
			}
			// Killed before there is an init, a controller leaves a record: the next one removes it.
			if _, err := Clean(t.Context(), o); err != nil {
				t.Error(err)
			}
			nothingLeft(t, o)
		})
	}
}

func (o Options) mustPlace(t *testing.T) place {
	t.Helper()
	o, err := o.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return o.place()
}

// TestInitKilled kills one init with SIGKILL: the kernel ends its host, the other host notices and removes all.
func TestInitKilled(t *testing.T) {
	for i, name := range hostNames {
		t.Run(name, func(t *testing.T) {
			o := needEmulated(t)
			e, err := Up(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if err := unix.Kill(e.State().Hosts[i].Init.PID, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			<-e.Lost()
			if e.Err() == nil {
				t.Error("lost without an error")
			}
			eventually(t, "the other host removes all", 5*time.Second, gone(o.Root))
			if err := e.Close(t.Context()); err != nil {
				t.Error(err)
			}
			nothingLeft(t, o)
		})
	}
}

// TestBothInitsKilled leaves nobody to remove anything: Clean does, and so would the next Up.
func TestBothInitsKilled(t *testing.T) {
	for _, then := range []string{"clean", "up"} {
		t.Run(then, func(t *testing.T) {
			o := needEmulated(t)
			o.Keep = true
			e, err := Up(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range e.State().Hosts {
				if err := unix.Kill(h.Init.PID, unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
			o.Keep = false
			if then == "up" {
				e, err := Up(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				if err := e.Close(t.Context()); err != nil {
					t.Error(err)
				}
				return
			}
			removed, err := Clean(t.Context(), o)
			if err != nil || len(removed) == 0 {
				t.Errorf("removed %q, %v", removed, err)
			}
			nothingLeft(t, o)
			if removed, err := Clean(t.Context(), o); err != nil || len(removed) != 0 {
				t.Errorf("second time removed %q, %v", removed, err)
			}
		})
	}
}

func TestEngineKilled(t *testing.T) {
	o := needEmulated(t)
	e, err := Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range processesNaming(t, "/"+o.mustPlace(t).Cgroup+"/b") {
		if exe, _ := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe"); filepath.Base(exe) == "dockerd" {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	<-e.Lost()
	if err := e.Err(); err == nil || !strings.Contains(err.Error(), "engine b: dockerd ended (killed by SIGKILL)") {
		t.Errorf("lost: %v", err)
	}
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
	nothingLeft(t, o)
}

// TestCancel cancels Up at its steps and in between: it fails with the context's error and leaves nothing.
func TestCancel(t *testing.T) {
	for _, after := range []time.Duration{0, 3, 10, 20, 40, 80, 120, 160, 200} {
		after *= time.Millisecond
		t.Run(after.String(), func(t *testing.T) {
			o := needEmulated(t)
			ctx, cancel := context.WithTimeout(t.Context(), after)
			defer cancel()
			e, err := Up(ctx, o)
			if err == nil {
				t.Logf("was up before %v", after)
				err = e.Close(t.Context())
				if err != nil {
					t.Error(err)
				}
			} else if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("up: %v, want the context's error", err)
			}
			nothingLeft(t, o)
		})
	}
}

func TestKept(t *testing.T) {
	o := needEmulated(t)
	o.Keep, o.Holder = true, ""
	if _, err := Current(t.Context(), o); !errors.Is(err, ErrNone) {
		t.Errorf("current: %v, want ErrNone", err)
	}
	if err := Down(t.Context(), o); !errors.Is(err, ErrNone) {
		t.Errorf("down: %v, want ErrNone", err)
	}
	up, err := Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := up.Close(t.Context()); err != nil {
		t.Error(err)
	}
	e, err := Current(t.Context(), Options{Root: o.Root})
	if err != nil {
		t.Fatal(err)
	}
	if e.Hosts() != up.Hosts() {
		t.Errorf("hosts %v, want %v", e.Hosts(), up.Hosts())
	}
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
	busy := errors.New("run 7 uses it")
	o.InUse = func(context.Context, State) error { return busy }
	if err := Down(t.Context(), o); !errors.Is(err, ErrLive) || !errors.Is(err, busy) {
		t.Errorf("down while in use: %v", err)
	}
	o.InUse = nil
	begin := time.Now()
	if err := Down(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	t.Logf("kept lab down in %v", time.Since(begin))
	nothingLeft(t, o)
}

// TestKeptOutlivesController is `lab up` in one process and `lab down` in another.
func TestKeptOutlivesController(t *testing.T) {
	o := needEmulated(t)
	if out, err := exec.Command("/proc/self/exe", controllerCommand, o.Root, "keep").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	e, err := Current(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if st := e.State(); st.Controller.alive() || st.Holder != "kept" || !st.Keep {
		t.Errorf("state: %+v", st)
	}
	if err := Down(t.Context(), o); err != nil {
		t.Error(err)
	}
	nothingLeft(t, o)
}

// TestRefused checks that what cannot work is said in one line, before or after the fact, and leaves nothing.
func TestRefused(t *testing.T) {
	tests := []struct {
		name string
		o    Options
		want string
	}{
		{"no such engine", Options{EngineBinary: "/nowhere/dockerd"}, "engine /nowhere/dockerd: no such program"},
		{"not in PATH", Options{EngineBinary: "no-such-dockerd"}, "program no-such-dockerd: not found"},
		{"not an engine", Options{EngineBinary: "/bin/false"}, "dockerd ended (exit status 1)"},
		{"mtu", Options{MTU: 100}, "wire mtu 100: want 576 to 65535 bytes"},
		{"long root", Options{Root: "/tmp/" + strings.Repeat("x", 100)}, "choose a shorter root"},
		{"unwritable", Options{Root: "/proc/lab", DataRoot: "/tmp"}, "/proc/lab"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := needEmulated(t)
			if tt.o.Root == "" {
				tt.o.Root = o.Root
			}
			e, err := Up(t.Context(), tt.o)
			if err == nil {
				_ = e.Close(context.Background())
				t.Fatal("came up")
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q, want one line with %q", err, tt.want)
			}
			t.Log(err)
			nothingLeft(t, o)
		})
	}
}
