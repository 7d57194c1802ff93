// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/econbench/econbench"
	generator "github.com/econbench/econbench/internal/load"
)

// Memcached is a real memcached under econbench's own load generator. Transactions differ in size and the generator counts them; its
// sums over the whole run are held against the server's statistics.
//
// The server listens on two ports. Keys are stored, and statistics asked for, over the first one; connections to the second carry
// the load and nothing else, so that readers know them by it.
type Memcached struct{ paced }

var (
	_ econbench.Workload   = Memcached{}
	_ econbench.Measured   = Memcached{}
	_ econbench.Covered    = Memcached{}
	_ econbench.Generating = Memcached{}
)

const (
	memcachedControl = 25851
	memcachedPort    = 25852
	// memcachedMemory is the server's, MiB; mostStored is how much keys and values of a plan may take of it, B.
	memcachedMemory = 1024
	mostStored      = 512 << 20
	// itemOverhead is what memcached adds to each, B, with the slack of its size classes.
	itemOverhead = 150
)

// loadSeed is of schedules and requests: the same in all trials, so that arms are asked the same at the same moments.
const loadSeed = 1

func (Memcached) Name() string    { return "memcached" }
func (Memcached) Primary() string { return "latency_p99" }
func (Memcached) Generates() bool { return true }
func (Memcached) Help() string {
	return "gets and sets of a memcached; rate: 1/s in an open loop (0: closed), connections (4), pipeline (1), threads: of the generator (1), " +
		"gets: their share (0.9677), sizes: KEY/VALUE in bytes, fixed or from-to, or etc (etc), keys (20000), zipf: their popularity's exponent (0.99)"
}

func (Memcached) Params(given econbench.Params) (econbench.Params, error) {
	p, err := fill(append(loopParams(),
		param{name: "keys", standard: 20000, min: 1, max: generator.MostKeys},
		shareParam("gets", "0.9677", 1), // 30 to 1, as in the pool ETC
		shareParam("zipf", "0.99", 0.999),
		param{name: "sizes", text: "etc", read: readSizes},
	), given)
	if err != nil {
		return nil, err
	}
	return p, checkStored(p)
}

// loopParams are those of the generator's loops.
func loopParams() []param {
	return []param{
		{name: "connections", standard: 4, min: 1, max: 512},
		{name: "pipeline", standard: 1, min: 1, max: generator.MostPipeline},
		{name: "threads", standard: 1, min: 1, max: 64},
		rateParam(),
	}
}

// loopOptions reads them back.
func loopOptions(p econbench.Params, tb econbench.Testbed, control, port uint16) (o generator.Options, err error) {
	n, err := numbers(p, "connections", "pipeline", "threads", "rate")
	if err != nil {
		return o, err
	}
	at := tb.Server().Addr
	return generator.Options{
		Server: netip.AddrPortFrom(at, port), Control: netip.AddrPortFrom(at, control),
		Connections: n[0], Pipeline: n[1], Threads: n[2], Rate: float64(n[3]), Seed: loadSeed,
	}, checkLoop(p)
}

// checkLoop finds numbers that don't go together. Every connection has to carry something within a second or so, or readers wait in vain for it.
func checkLoop(p econbench.Params) error {
	if _, _, ok := (paced{}).Share(p); ok {
		return checkThreads(p) // a share of what there is to share
	}
	n, err := numbers(p, "connections", "rate")
	if err != nil {
		return err
	}
	if connections, rate := n[0], n[1]; rate > 0 && rate < connections {
		return fmt.Errorf("parameter rate: %q: want 0, or at least one request per second for each of the %d connections", p["rate"], connections)
	}
	return checkThreads(p)
}

// checkThreads refuses threads without a connection.
func checkThreads(p econbench.Params) error {
	n, err := numbers(p, "connections", "threads")
	if err == nil && n[1] > n[0] {
		err = fmt.Errorf("parameter threads: %q: want at most one for each of the %d connections", p["threads"], n[0])
	}
	return err
}

// readSizes reads "etc", or sizes of keys and of values.
func readSizes(s string) (string, error) {
	key, value, err := sizesOf(s)
	if err != nil {
		return "", err
	}
	if key.ETC {
		return s, nil
	}
	return key.String() + "/" + value.String(), nil
}

func sizesOf(s string) (key, value generator.Sizes, err error) {
	bad := fmt.Errorf("%q: want etc, or KEY/VALUE in bytes as in 30/200 or 20-40/100-300, keys of 1 to %d and values of 1 to %d", s, generator.MostKeySize, generator.MostValue)
	if s == "etc" {
		return generator.Sizes{ETC: true}, generator.Sizes{ETC: true}, nil
	}
	k, v, ok := strings.Cut(s, "/")
	if !ok || k == "etc" || v == "etc" || key.UnmarshalText([]byte(k)) != nil || value.UnmarshalText([]byte(v)) != nil ||
		key.Low < 1 || key.High > generator.MostKeySize || value.Low < 1 || value.High > generator.MostValue {
		return key, value, bad
	}
	return key, value, nil
}

// checkStored refuses what the server would have to throw away again, and numbers that don't go together.
func checkStored(p econbench.Params) error {
	if err := checkLoop(p); err != nil {
		return err
	}
	keys, err := number(p, "keys")
	if err != nil {
		return err
	}
	key, value, err := sizesOf(p["sizes"])
	if err != nil {
		return err
	}
	each := key.High + value.High
	if key.ETC {
		each = 400 // on average 35 and 209
	}
	if each += itemOverhead; keys > mostStored/each {
		return fmt.Errorf("parameter keys: %q: want at most %d with values that large: the server keeps %d MiB of them", p["keys"], mostStored/each, mostStored>>20)
	}
	return nil
}

func (Memcached) Metrics(p econbench.Params) []string { return generatorMetrics(p["rate"] != "0") }

// Coverage is of connections that last. Measured with oncache: see docs/applications.md.
func (Memcached) Coverage(econbench.Params) econbench.Coverage {
	return econbench.Coverage{ToServer: nearlyAll, ToClient: nearlyAll}
}

// Serve starts memcached, which as root wants to be told whom to change to.
func (Memcached) Serve(ctx context.Context, tb econbench.Testbed) (econbench.Process, error) {
	at := tb.Server()
	return serve(ctx, at, memcachedPort, "memcached", "-u", "memcache", "-U", "0", "-m", strconv.Itoa(memcachedMemory), "-c", "2048",
		"-t", strconv.Itoa(serverCPUs(at)), "-l", fmt.Sprintf("%s:%d,%s:%d", at.Addr, memcachedControl, at.Addr, memcachedPort))
}

func (w Memcached) Start(ctx context.Context, tb econbench.Testbed, p econbench.Params, atLeast time.Duration) (econbench.Load, error) {
	o, err := loopOptions(p, tb, memcachedControl, memcachedPort)
	if err != nil {
		return nil, fmt.Errorf("workload %s: %w", w.Name(), err)
	}
	o.Protocol = generator.Memcached
	if o.Keys, err = number(p, "keys"); err != nil {
		return nil, fmt.Errorf("workload %s: %w", w.Name(), err)
	}
	if o.KeySize, o.Value, err = sizesOf(p["sizes"]); err != nil {
		return nil, fmt.Errorf("workload %s: parameter sizes: %w", w.Name(), err)
	}
	for name, to := range map[string]*float64{"gets": &o.GetShare, "zipf": &o.Zipf} {
		if *to, err = strconv.ParseFloat(p[name], 64); err != nil {
			return nil, fmt.Errorf("workload %s: parameter %s: %w", w.Name(), name, err)
		}
	}
	return startGenerator(ctx, tb, o, atLeast, econbench.Flows{ServerPort: memcachedPort, Count: o.Connections, ByClient: true})
}
