// SPDX-License-Identifier: Apache-2.0

package tune

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// helperVar makes the test binary an agent: it applies the tunings given in the variable, says so and waits to be killed.
const helperVar = "ECONBENCH_TUNE_HELPER"

type helperArgs struct {
	Dir     string
	Tunings []Tuning
}

func TestMain(m *testing.M) {
	if s := os.Getenv(helperVar); s != "" {
		if err := helper(s); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func helper(s string) error {
	var args helperArgs
	if err := json.Unmarshal([]byte(s), &args); err != nil {
		return err
	}
	if args.Dir != "" {
		j, _, err := OpenJournal(args.Dir)
		if err != nil {
			return err
		}
		if _, err := j.Apply(context.Background(), args.Tunings); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	_, err := os.Stdin.Read(make([]byte, 1)) // until the test ends
	return err
}

// startHelper starts the helper in the calling thread's network namespace (or with clone flags in a new one) and
// returns when it is ready.
func startHelper(t *testing.T, args helperArgs, cloneflags uintptr) *exec.Cmd {
	t.Helper()
	b, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.Env = append(os.Environ(), helperVar+"="+string(b))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: cloneflags, Pdeathsig: syscall.SIGKILL}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		kill(cmd)
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if strings.TrimSpace(line) != "ready" {
		t.Fatalf("helper said %q (%v)", line, err)
	}
	return cmd
}

// kill ends a helper as kill -9 does. Killing twice is harmless.
func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN) to make network namespaces")
	}
}

// The wire of a test: a veth pair whose far end is in the same namespace and stays down.
const (
	wire    = "wire0"
	wireFar = "wire1"
)

var peer = netip.MustParseAddr("198.18.99.2")

// newNetns takes the test's thread into a new network namespace with a wire, for the test's length.
func newNetns(t *testing.T) {
	t.Helper()
	needRoot(t)
	runtime.LockOSThread()
	before, err := netns.GetFromPath("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ns.Close()
		if err := netns.Set(before); err != nil {
			t.Error(err) // the thread stays locked and ends with the test
			return
		}
		before.Close()
		runtime.UnlockOSThread()
	})
	makeWire(t)
}

func makeWire(t *testing.T) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.NumRxQueues, attrs.NumTxQueues = wire, 2, 2
	link := &netlink.Veth{LinkAttrs: attrs, PeerName: wireFar}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	addr, err := netlink.ParseAddr("198.18.99.1/24")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(link, addr); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{wire, wireFar, "lo"} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
	}
}
