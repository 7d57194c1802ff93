// SPDX-License-Identifier: Apache-2.0

package tune

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/econbench/econbench/internal/nft"
)

// command runs a program in the test's namespace.
func command(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

// newRules makes a namespace with rules as an engine makes them: one that counts datagrams, one that tracks, one that translates.
func newRules(t *testing.T) {
	t.Helper()
	newNetns(t)
	if _, err := exec.LookPath("iptables"); err != nil {
		t.Skip("needs iptables")
	}
	if v := command(t, "iptables", "--version"); !strings.Contains(v, "nf_tables") {
		t.Skipf("needs iptables for nf_tables, have %s", strings.TrimSpace(v))
	}
	command(t, "iptables", "-A", "INPUT", "-p", "udp", "-j", "ACCEPT")
	command(t, "iptables", "-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT")
	command(t, "iptables", "-t", "nat", "-A", "POSTROUTING", "-s", "198.19.0.0/16", "-j", "MASQUERADE")
	command(t, "ip6tables", "-A", "INPUT", "-p", "udp", "-j", "ACCEPT")
}

// counted sends datagrams to this host's own address and tells how many of them a rule has seen.
func counted(t *testing.T) int {
	t.Helper()
	before := count(t)
	sendDatagrams(t, 5)
	return count(t) - before
}

// count reads the counter of the rule on datagrams.
func count(t *testing.T) int {
	t.Helper()
	for line := range strings.Lines(command(t, "iptables", "-vnxL", "INPUT")) {
		if f := strings.Fields(line); len(f) > 3 && f[2] == "ACCEPT" && (f[3] == "udp" || f[3] == "17") {
			n, err := strconv.Atoi(f[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("the rule on datagrams is gone")
	return 0
}

// sendDatagrams returns when all of them have arrived.
func sendDatagrams(t *testing.T, n int) {
	t.Helper()
	server, err := net.ListenPacket("udp4", "198.18.99.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	client, err := net.Dial("udp4", server.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := server.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for range n {
		if _, err := client.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, _, err := server.ReadFrom(make([]byte, 9)); err != nil {
			t.Fatal(err)
		}
	}
}

func wantTable(t *testing.T, name, want string) {
	t.Helper()
	if got, err := readTable(name); err != nil || got != want {
		t.Fatalf("table %s is %q (%v), want %s", name, got, err, want)
	}
}

func TestDormantRulesDoNotCount(t *testing.T) {
	newRules(t)
	dir := t.TempDir()
	j := openJournal(t, dir)
	if n := counted(t); n != 5 {
		t.Fatalf("rule counted %d datagrams of 5", n)
	}
	a := apply(t, j, Dormant(0))
	if n := counted(t); n != 0 {
		t.Errorf("dormant, the rule counted %d datagrams", n)
	}
	if want := "nft-dormant ip filter awake → dormant, ip nat awake → dormant"; a.Done[0] != want {
		t.Errorf("done %q, want %q", a.Done[0], want)
	}
	if again, err := j.Apply(context.Background(), []Tuning{Dormant(0)}); err != nil {
		t.Error(err)
	} else if err := again.Undo(); err != nil {
		t.Error(err)
	}
	wantTable(t, "ip filter", dormant) // as the first still stands
	command(t, "iptables", "-A", "INPUT", "-p", "sctp", "-j", "ACCEPT")
	wantTable(t, "ip filter", dormant) // an engine that adds a rule wakes nothing
	for range 2 {
		if err := a.Undo(); err != nil {
			t.Fatal(err)
		}
	}
	if n := counted(t); n != 5 {
		t.Errorf("put back, the rule counted %d datagrams of 5", n)
	}
	if rules := command(t, "iptables-save"); !strings.Contains(rules, "sctp") || !strings.Contains(rules, "MASQUERADE") {
		t.Errorf("rules are not what they were: %s", rules)
	}
	wantEmpty(t, dir)
}

func TestKilledAgentsRulesAreBack(t *testing.T) {
	newRules(t)
	dir := t.TempDir()
	agent := startHelper(t, helperArgs{dir, []Tuning{Dormant(0), NoTrack(0, peer)}}, 0)
	wantTable(t, "ip filter", dormant)
	wantTable(t, nft.OwnTable, awake)
	kill(agent)
	wantTable(t, "ip filter", dormant)
	if _, err := readTable(nft.OwnTable); !errors.Is(err, errGone) {
		t.Errorf("own table of a killed agent: got %v, want it gone", err)
	}
	j, undone, err := OpenJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if n := counted(t); n != 5 {
		t.Errorf("recovered, the rule counted %d datagrams of 5", n)
	}
	if said := strings.Join(undone, "\n"); !strings.Contains(said, "nft table ip nat dormant → awake") {
		t.Errorf("said %q", said)
	}
	wantEmpty(t, dir)
}

// What somebody else did to tables in between stays: one woken, one gone, one asleep from before, one new.
func TestTablesChangedBySomebodyElse(t *testing.T) {
	newRules(t)
	command(t, "iptables", "-t", "raw", "-A", "OUTPUT", "-p", "sctp", "-j", "NOTRACK")
	if err := writeTable("ip raw", dormant); err != nil {
		t.Fatal(err)
	}
	j := openJournal(t, t.TempDir())
	a, gone := apply(t, j, Dormant(0)), false
	if err := writeTable("ip filter", awake); err != nil {
		t.Fatal(err)
	}
	command(t, "iptables", "-t", "mangle", "-A", "INPUT", "-p", "udp", "-j", "MARK", "--set-mark", "1")
	if _, err := exec.LookPath("nft"); err == nil {
		command(t, "nft", "delete", "table", "ip", "nat")
		gone = true
	}
	if err := a.Undo(); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]string{"ip filter": awake, "ip mangle": awake, "ip raw": dormant} {
		wantTable(t, name, want)
	}
	if state, err := readTable("ip nat"); gone != errors.Is(err, errGone) {
		t.Errorf("table ip nat, deleted %v: %q, %v", gone, state, err)
	}
	a = apply(t, j, Dormant(0))
	if err := writeTable("ip raw", awake); err != nil {
		t.Fatal(err)
	}
	if err := a.Undo(); !errors.Is(err, ErrChanged) {
		t.Errorf("a table that was dormant before and is awake now: got %v, want ErrChanged", err)
	}
	wantTable(t, "ip raw", awake)
}

func TestTableOfAnotherProgram(t *testing.T) {
	newRules(t)
	owner, err := nft.Here()
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close()
	if err := owner.NoTrack(peer); err != nil {
		t.Fatal(err)
	}
	j := openJournal(t, t.TempDir())
	_, err = j.Apply(context.Background(), []Tuning{Dormant(0)})
	if err == nil || !strings.Contains(err.Error(), nft.OwnTable) || !strings.Contains(err.Error(), "another program") {
		t.Errorf("got %v, want an error that names table %s", err, nft.OwnTable)
	}
	wantTable(t, "ip filter", awake)
	if _, err = j.Apply(context.Background(), []Tuning{NoTrack(0, peer)}); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("got %v, want an error that says of a second table", err)
	}
}

// Connections are tracked as long as rules mention it, dormant or not, and NoTrack spares the peer's alone.
func TestNoTrack(t *testing.T) {
	newRules(t)
	link, err := netlink.LinkByName(wire)
	if err != nil {
		t.Fatal(err)
	}
	second, err := netlink.ParseAddr("198.18.99.3/24")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(link, second); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/proc/thread-self/net/nf_conntrack"); err != nil {
		t.Skip("needs a kernel with CONFIG_NF_CONNTRACK_PROCFS")
	}
	j := openJournal(t, t.TempDir())
	apply(t, j, Dormant(0))
	sendDatagrams(t, 1)
	if n := tracked(t); n != 1 {
		t.Fatalf("%d connections tracked with dormant rules, want 1", n)
	}
	a := apply(t, j, NoTrack(0, netip.MustParseAddr("198.18.99.1")))
	sendDatagrams(t, 1)
	if n := tracked(t); n != 1 {
		t.Errorf("%d connections tracked, want none but the first", n)
	}
	if err := a.Undo(); err != nil {
		t.Fatal(err)
	}
	other := apply(t, j, NoTrack(0, netip.MustParseAddr("198.18.99.77")))
	sendDatagrams(t, 1)
	if n := tracked(t); n != 2 {
		t.Errorf("%d connections tracked, want 2: the peer is another", n)
	}
	if err := other.Undo(); err != nil {
		t.Fatal(err)
	}
	if _, err := readTable(nft.OwnTable); !errors.Is(err, errGone) {
		t.Errorf("own table after undo: got %v, want it gone", err)
	}
}

// tracked counts this namespace's tracked connections over UDP.
func tracked(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/thread-self/net/nf_conntrack")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(b), " udp ")
}

func TestNoRulesToPutToSleep(t *testing.T) {
	newNetns(t)
	a := apply(t, openJournal(t, t.TempDir()), Dormant(0), NoTrack(0, peer))
	if want := "nft-dormant: no rules in effect"; a.Done[0] != want {
		t.Errorf("done %q, want %q", a.Done[0], want)
	}
	if _, err := (&Journal{}).holdNoTrack(Tuning{Kind: KindNoTrack, PID: 1 << 22, Destination: peer}); err == nil {
		t.Error("a process that is not there: no error")
	}
}

// Rules that nf_tables does not know of would stay in effect, so there must be none.
func TestLegacyRulesAreRefused(t *testing.T) {
	newRules(t)
	if _, err := exec.LookPath("iptables-legacy"); err != nil {
		t.Skip("needs iptables-legacy")
	}
	if out, err := exec.Command("iptables-legacy", "-A", "INPUT", "-p", "udp", "-j", "ACCEPT").CombinedOutput(); err != nil {
		t.Skipf("needs a kernel with CONFIG_IP_NF_IPTABLES_LEGACY: %s", out)
	}
	_, err := openJournal(t, t.TempDir()).Apply(context.Background(), []Tuning{Dormant(0)})
	if err == nil || !strings.Contains(err.Error(), "iptables-legacy has tables here (filter)") {
		t.Errorf("got %v, want an error that names iptables-legacy's table", err)
	}
	wantTable(t, "ip filter", awake)
}
