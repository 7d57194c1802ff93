// SPDX-License-Identifier: Apache-2.0

package tune

import (
	"strings"
	"testing"
)

const testBridge = LinkPrefix + "0br"

// forwardRules are those of iptables' FORWARD as iptables itself lists them.
func forwardRules(t *testing.T) (rules []string) {
	t.Helper()
	for line := range strings.Lines(command(t, "iptables", "-S", "FORWARD")) {
		rules = append(rules, strings.TrimSpace(line))
	}
	return rules
}

// needBridgeNetfilter skips where bridged packets meet no rules.
func needBridgeNetfilter(t *testing.T) {
	t.Helper()
	if v, err := readSysctl(swapDots(bridgeNetfilter)); err != nil || v != "1" {
		t.Skipf("needs br_netfilter: %s is %q (%v)", bridgeNetfilter, v, err)
	}
}

// The rule comes first, is one that iptables knows as its own, goes when it is undone, and goes by the next agent when the one that
// made it was killed. Rules of others stay.
func TestForward(t *testing.T) {
	newRules(t)
	needBridgeNetfilter(t)
	command(t, "iptables", "-P", "FORWARD", "DROP")
	command(t, "iptables", "-A", "FORWARD", "-i", "other0", "-o", "other0", "-j", "ACCEPT")
	want := "-A FORWARD -i " + testBridge + " -o " + testBridge + " -j ACCEPT"
	dir := t.TempDir()
	j := openJournal(t, dir)
	a, err := j.Forward(testBridge)
	if err != nil {
		t.Fatal(err)
	}
	if rules := forwardRules(t); len(rules) != 3 || rules[1] != want {
		t.Fatalf("rules %q, want %q before the other one", rules, want)
	}
	if err := a.Undo(); err != nil {
		t.Error(err)
	}
	if rules := forwardRules(t); len(rules) != 2 {
		t.Errorf("undone, rules are %q", rules)
	}

	if _, err := j.Forward(testBridge); err != nil {
		t.Fatal(err)
	}
	if err := j.release(); err != nil { // killed
		t.Fatal(err)
	}
	next, undone, err := OpenJournal(dir)
	if err != nil || len(undone) != 1 || !strings.Contains(undone[0], "forward "+testBridge) {
		t.Errorf("the next agent undid %q (%v)", undone, err)
	}
	if rules := forwardRules(t); len(rules) != 2 || !strings.Contains(rules[1], "other0") {
		t.Errorf("after the next agent, rules are %q", rules)
	}
	if _, err := next.Forward(testBridge); err != nil {
		t.Fatal(err)
	}
	command(t, "iptables", "-F", "FORWARD") // somebody is quicker
	if err := next.Close(); err != nil {
		t.Errorf("a rule that is gone already: %v", err)
	}
}

// Where bridged packets meet no rules nothing is changed.
func TestForwardNeedsNothing(t *testing.T) {
	newNetns(t)
	j := openJournal(t, t.TempDir())
	a, err := j.Forward(testBridge) // no table ip filter, if br_netfilter is there at all
	if err != nil || len(a.Done) != 1 || !strings.HasSuffix(a.Done[0], "nothing to change") {
		t.Fatalf("%+v, %v", a, err)
	}
	if err := a.Undo(); err != nil || len(j.standing) != 0 {
		t.Errorf("%v; standing %v", err, j.standing)
	}
	if _, err := j.Forward("docker0"); err == nil && len(j.standing) > 0 {
		t.Error("a bridge of somebody else's was taken")
	}
}
