// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/trace"
)

// TestTracePaths: over the overlay requests and responses pass its tunnel and its bridge on both hosts; what a fast path carries
// does not, and its programs run.
func TestTracePaths(t *testing.T) {
	t.Parallel()
	p := start(t, ownLab(t), "trace", "--arm", "overlay,overlay+oncache", "--output", "paths", "--events")
	p.want(0)
	text := p.stdout.String()
	for _, want := range []string{"overlay · tcp_rr", "overlay+oncache · tcp_rr", "request: client → server", "response: server → client", "softirq rounds", "tracing: "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	for arm, fast := range map[string]bool{"overlay": false, "overlay+oncache": true} {
		picture := pictureIn(t, filepath.Join(p.dir, "paths"), arm)
		if picture.Arm.String() != arm || picture.Schema != trace.Schema || !picture.OneClock || picture.Followed < 100 || picture.Rate == nil || picture.RateAfter == nil {
			t.Errorf("%s: %+v", arm, picture)
		}
		for _, direction := range []string{trace.Request, trace.Response} {
			for _, host := range []string{econbench.ClientHost, econbench.ServerHost} {
				tunnel, bridge := passes(picture, direction, host)
				if tunnel == fast || bridge == fast {
					t.Errorf("%s: %s on %s: passes a vxlan device %v, a bridge %v\n%s", arm, direction, host, tunnel, bridge, text)
				}
			}
		}
		if fast != (len(picture.Carried) == 4) || fast != (len(picture.Programs) >= 6) {
			t.Errorf("%s: carried %+v, programs %+v", arm, picture.Carried, picture.Programs)
		}
		for _, c := range picture.Carried {
			if c.HitRatio == nil || *c.HitRatio < 0.99 {
				t.Errorf("%s: %+v", arm, c)
			}
		}
	}
}

// pictureIn reads an arm's JSON and looks whether the rest is there.
func pictureIn(t *testing.T, dir, arm string) (p trace.Picture) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, arm+".json"))
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, extension := range []string{".txt", ".svg", ".events.json"} {
		if file := filepath.Join(dir, arm+extension); empty(file) {
			t.Errorf("%s is empty", file)
		}
	}
	svg, err := os.Open(filepath.Join(dir, arm+".svg"))
	if err != nil {
		t.Fatal(err)
	}
	defer svg.Close()
	for dec := xml.NewDecoder(svg); err == nil; {
		_, err = dec.Token()
	}
	if !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	return p
}

// passes tells whether a direction passes a tunnel's device, and a bridge, on a host.
func passes(p trace.Picture, direction, host string) (tunnel, bridge bool) {
	for _, s := range p.Stages {
		if s.Direction == direction && s.Side == host {
			tunnel = tunnel || s.Kind == "vxlan"
			bridge = bridge || s.Bridge != "" || s.Kind == "bridge"
		}
	}
	return tunnel, bridge
}

// A trace that is stopped leaves nothing, and has told what it found before.
func TestTraceStopped(t *testing.T) {
	t.Parallel()
	p := start(t, ownLab(t), "trace", "--arm", "host,host#2", "--workload", "udp_rr", "--placement", "shared")
	p.until("arm host#2")
	p.interrupt()
	p.want(1)
	if lines := p.errors(); len(lines) != 2 || lines[1] != "interrupted" { // the first says what goes on
		t.Errorf("errors %q, want the interruption alone", lines)
	}
	text := p.stdout.String()
	if !strings.Contains(text, "host · udp_rr") {
		t.Errorf("what was found before is not told:\n%s", text)
	}
	lines := strings.Split(text, "\n")
	if !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "wire0 (veth)") }) {
		t.Errorf("the wire is not on the path:\n%s", text)
	}
}
