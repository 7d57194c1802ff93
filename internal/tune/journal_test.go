// SPDX-License-Identifier: Apache-2.0

package tune

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/econbench/econbench/internal/netspace"
)

func TestKilledAgentIsUndone(t *testing.T) {
	newNetns(t)
	dir := t.TempDir()
	before := state(t)
	agent := startHelper(t, helperArgs{dir, []Tuning{Sysctl(0, saveKey, "1"), Sysctl(0, "net.ipv4.tcp_ecn", "1"),
		RPS(wire, 0), CongestionControl(0, peer, "reno"), MTUFrames(wire), DMALatency()}}, 0)
	wantSysctl(t, "1")
	if _, _, err := OpenJournal(dir); !errors.Is(err, ErrBusy) {
		t.Errorf("second agent: got %v, want ErrBusy", err)
	}
	kill(agent)
	wantSysctl(t, "1")
	if err := writeSysctl("net/ipv4/tcp_ecn", "0"); err != nil { // somebody else
		t.Fatal(err)
	}
	j, undone, err := OpenJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if diff := cmp.Diff(before, state(t)); diff != "" {
		t.Errorf("after recovery: %s", diff)
	}
	if got, err := readSysctl("net/ipv4/tcp_ecn"); err != nil || got != "0" {
		t.Errorf("tcp_ecn is %q (%v), want it left alone", got, err)
	}
	for _, want := range []string{"sysctl net.ipv4.tcp_no_metrics_save 1 → 0", "left alone", "congestion-control to 198.18.99.2 reno → the host's"} {
		if !strings.Contains(strings.Join(undone, "\n"), want) {
			t.Errorf("%q does not say %q", undone, want)
		}
	}
	wantEmpty(t, dir)
}

// writeJournal writes records as a killed agent would have left them, and a torn line after them.
func writeJournal(t *testing.T, dir, torn string, records ...record) {
	t.Helper()
	var b strings.Builder
	for _, r := range records {
		line, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(string(line) + "\n")
	}
	if err := os.WriteFile(filepath.Join(dir, "tune.journal"), []byte(b.String()+torn), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestJournalsThatMustNotBeApplied(t *testing.T) {
	newNetns(t)
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	ns, id, err := netspace.Own()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	other := id
	other.Cookie++
	save := func(id netspace.ID) *change {
		return &change{Kind: KindSysctl, Netns: &id, Name: saveFile, Before: "0", After: "1"}
	}
	for _, test := range []struct {
		name, torn string
		record     record
		after      string // of the sysctl, which is 1 when the journal is opened
		says       string
	}{
		{"this boot and namespace", "", record{1, opDo, 1, boot, save(id)}, "0", "1 → 0"},
		{"torn line", `{"v":1,"op":"do","id":2,"boo`, record{1, opDo, 1, boot, save(id)}, "0", "1 → 0"},
		{"senseless line", "what?\n", record{1, opDo, 1, boot, save(id)}, "0", "line 2"},
		{"other boot", "", record{1, opDo, 1, "x", save(id)}, "1", "restart"},
		{"other namespace", "", record{1, opDo, 1, boot, save(other)}, "1", "another network namespace"},
		{"outside of /proc/sys", "", record{1, opDo, 1, boot, &change{Kind: KindSysctl, Name: "../x"}}, "1", "passed over"},
		{"table of a family that is not ours", "", record{1, opDo, 1, boot, &change{Kind: KindDormant, Name: "bridge filter"}}, "1", "passed over"},
		{"newer version", "", record{journalVersion + 1, opDo, 1, boot, save(id)}, "1", "newer"},
	} {
		t.Log(test.name) // no t.Run: a goroutine of its own would not be in the namespace
		dir := t.TempDir()
		if err := writeSysctl(saveFile, "1"); err != nil {
			t.Fatal(err)
		}
		writeJournal(t, dir, test.torn, test.record)
		j, said, err := OpenJournal(dir)
		if err != nil {
			said = append(said, err.Error())
		} else {
			wantEmpty(t, dir)
			defer j.Close()
		}
		wantSysctl(t, test.after)
		if !strings.Contains(strings.Join(said, "\n"), test.says) {
			t.Errorf("said %q, want %q", said, test.says)
		}
	}
}

func TestCloseUndoesWhatStands(t *testing.T) {
	newNetns(t)
	dir := t.TempDir()
	j, _, err := OpenJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	a := apply(t, j, Sysctl(0, saveKey, "1"))
	for range 2 {
		if err := errors.Join(j.Close(), a.Undo()); err != nil {
			t.Fatal(err)
		}
	}
	wantSysctl(t, "0")
	wantEmpty(t, dir)
}

func TestReplayTakesTheLastWord(t *testing.T) {
	c := func(before string) *change {
		return &change{Kind: KindSysctl, Name: saveFile, Before: before, After: "1"}
	}
	dir := t.TempDir()
	writeJournal(t, dir, "", record{1, opDo, 1, "b", c("0")}, record{1, opDo, 2, "b", c("1")},
		record{1, opDo, 2, "b", c("0")}, record{1, opUndone, 1, "b", nil})
	content, err := os.ReadFile(filepath.Join(dir, "tune.journal"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := parseJournal(content)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.pending) != 1 || p.pending[0].ID != 2 || p.pending[0].Change.Before != "0" || len(p.doubts) != 0 || p.lastID != 2 {
		t.Errorf("parsed %+v", p)
	}
}

func FuzzParseJournal(f *testing.F) {
	f.Add([]byte(`{"v":1,"op":"do","id":1,"boot":"b","change":{"kind":"sysctl","name":"net/ipv4/tcp_ecn","before":"2","after":"1"}}` + "\n" +
		`{"v":1,"op":"undone","id":1}` + "\n" + `{"v":1,"op":"do","id":2,"ch`))
	f.Add([]byte(`{"v":1,"op":"do","id":1,"change":{"kind":"rps","device":"eth0","ifindex":2,"name":"rx-0","before":"0","after":"2"}}` + "\n"))
	f.Add([]byte(`{"v":1,"op":"do","id":3,"change":{"kind":"sysctl","name":"../../etc/passwd"}}` + "\n"))
	f.Add([]byte(`{"v":1,"op":"do","id":4,"change":{"kind":"nft-dormant","name":"ip filter","before":"awake","after":"dormant"}}` + "\n"))
	f.Add([]byte("{\"v\":2}\n\n[]\nnull\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		p, err := parseJournal(content)
		if err != nil {
			return
		}
		if p.size > int64(len(content)) || (p.size > 0 && content[p.size-1] != '\n') {
			t.Errorf("size %d of %d is not the end of a line", p.size, len(content))
		}
		seen := map[uint64]bool{}
		for _, r := range p.pending {
			if seen[r.ID] || r.ID == 0 || r.ID > p.lastID {
				t.Errorf("id %d: twice, nought, or beyond the last, %d", r.ID, p.lastID)
			}
			seen[r.ID] = true
			if err := r.Change.check(); err != nil {
				t.Error(err)
			}
		}
	})
}
