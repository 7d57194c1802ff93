// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/econbench/econbench/fastpath"
	"github.com/econbench/econbench/internal/docker"
	"github.com/econbench/econbench/internal/lab"
)

var crowdSize = flag.Int("crowd", 3, "containers on each host in TestFastpathCrowd, at most 60; 50 for `make bench-scale`")

// TestFastpathCrowd has many containers on each host on one network. Each is on the fast path once it is attached, and each that comes later; each
// one's flow to its partner on the other host is carried. How long it took is told.
func TestFastpathCrowd(t *testing.T) {
	hosts := sharedHosts(t)
	overlayOf(t, hosts)
	var clients, partners []string
	grow := func(to int) {
		for i := len(clients); i < to; i++ {
			clients = append(clients, runOn(t, hosts[0], crowdAddr(0, i), "sleep", "infinity"))
			partners = append(partners, runOn(t, hosts[1], crowdAddr(1, i), "iperf3", "-s"))
		}
	}
	attach := func(command string) time.Duration {
		began := time.Now()
		start(t, sharedLab(), "fastpath", command, someNetwork).want(0)
		return time.Since(began)
	}
	grow(1)
	one := attach("attach")
	attach("detach")
	grow(*crowdSize)
	all := attach("attach")
	more := time.Duration(2 * (*crowdSize - 1))
	t.Logf("attach: %v with a container on each host, %v with %d: %v a container", one, all, *crowdSize, (all-one)/max(1, more))
	crowded(t, *crowdSize)
	grow(*crowdSize + 1)
	began := time.Now()
	crowded(t, len(partners))
	t.Logf("one more on each host: on the fast path within %v", time.Since(began))
	for i, id := range clients {
		converse(t, hosts[0], id, crowdAddr(1, i))
	}
	carried := flowsCarried(t)
	for i := range clients {
		if way := crowdAddr(0, i) + " " + crowdAddr(1, i); !slices.Contains(carried, way) {
			t.Errorf("%s: no flow of that way is carried", way)
		}
	}
	t.Logf("detach: %v", attach("detach"))
}

// crowdAddr is the address of a host's nth container.
func crowdAddr(host, n int) string { return fmt.Sprintf("198.19.100.%d", 2+62*host+n) }

// crowded waits until so many containers of each host are on the fast path, and know as many on the other.
func crowded(t *testing.T, size int) {
	t.Helper()
	var list []fastpath.OverlayStatus
	enough := func(o fastpath.OverlayStatus) bool {
		return len(o.Containers) == size && o.Peers >= size && len(o.Refused) == 0
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if list = statuses(t); len(list) == 2 && enough(list[0]) && enough(list[1]) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("want %d containers and as many peers on each host: %+v", size, list)
		}
	}
}

// converse moves data from a container to an address, and tries again while the hosts still hear of each other's containers.
func converse(t *testing.T, h *engineHost, client, addr string) {
	t.Helper()
	e, err := docker.Dial(t.Context(), h.url, "")
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	eventually(t, "a transfer to "+addr, patience, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		x, err := e.Exec(ctx, client, []string{"iperf3", "-c", addr, "-n", "1M", "--connect-timeout", "1000"})
		if err != nil {
			t.Fatal(err)
		}
		defer x.Release()
		_, _, code, err := x.Wait(ctx)
		return err == nil && code == 0
	})
}

// flowsCarried are the ways, each two addresses, of the first host's established flows.
func flowsCarried(t *testing.T) (ways []string) {
	t.Helper()
	var all []lab.StayStatus
	if err := json.Unmarshal(start(t, sharedLab(), "fastpath", "status", someNetwork, "--flows", "-o", "json").want(0).stdout.Bytes(), &all); err != nil {
		t.Fatal(err)
	}
	var o fastpath.OverlayStatus
	if err := json.Unmarshal(all[0].Agent.Detail, &o); err != nil {
		t.Fatal(err)
	}
	for _, f := range o.Items {
		local, _, _ := strings.Cut(f.Local, ":")
		remote, _, _ := strings.Cut(f.Remote, ":")
		if f.Protocol == "tcp" && f.State == "established" {
			ways = append(ways, local+" "+remote)
		}
	}
	return ways
}
