// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"net/netip"
	"testing"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/netspace"
	"github.com/econbench/econbench/internal/nft"
)

func TestNetfilterNotesWhatIsInEffect(t *testing.T) {
	s := newSandbox(t)
	reading, err := netfilterReader{}.Open(econbench.Scope{PID: s.pid})
	if err != nil {
		t.Fatal(err)
	}
	defer reading.Close()
	want := func(when, tables string) {
		t.Helper()
		got, ok := reading.(econbench.Noter).Notes()[econbench.NoteNetfilter]
		if !ok || got != tables {
			t.Errorf("%s: note %q (%v), want %q", when, got, ok, tables)
		}
	}
	want("in a new namespace", "")
	var c *nft.Conn
	if err := netspace.InProcess(s.pid, func() (err error) {
		if c, err = nft.Here(); err == nil {
			err = c.NoTrack(netip.MustParseAddr("198.18.0.2"))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	want("with a table", nft.OwnTable)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	want("after its owner's end", "")
	if notes := (netfilterReading{pid: 1 << 22}).Notes(); notes != nil {
		t.Errorf("of a process that is not there: %q", notes)
	}
}
