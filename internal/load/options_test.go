// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bytes"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestArgs: a command line says all that options hold.
func TestArgs(t *testing.T) {
	server, control := netip.MustParseAddrPort("127.0.0.1:2"), netip.MustParseAddrPort("127.0.0.1:1")
	for _, want := range []Options{
		{Protocol: Memcached, Server: server, Control: control, Connections: 8, Threads: 2, Pipeline: 4, Rate: 1234.5, Duration: 1500 * time.Millisecond, Seed: 9,
			Keys: 7, GetShare: 0.25, KeySize: Sizes{Low: 3, High: 9}, Value: Sizes{ETC: true}, Zipf: 0.5},
		{Protocol: HTTP, Server: server, Connections: 1, Threads: 1, Pipeline: 1, Duration: time.Second, Seed: 1, Paths: []string{"/a", "/b/c"}, Body: 1024},
		{Protocol: HTTP, Server: server, Control: control, Connections: 4, Threads: 1, Pipeline: 1, Duration: time.Second, Paths: []string{"/"}, PerReq: true, LowPort: 10000, HighPort: 10999},
	} {
		got, err := Parse(want.Args())
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v\n got %+v\nwant %+v", want.Args(), err, got, want)
		}
	}
}

func TestBadArgs(t *testing.T) {
	for args, want := range map[string]string{
		"":                                    `load: no protocol, want memcached or http`,
		"memcache":                            `unknown protocol "memcache": did you mean "memcached"? allowed: memcached, http`,
		"memcached":                           `load: server "invalid AddrPort": want IPv4:PORT`,
		"memcached --server [::1]:1":          `load: server "[::1]:1": want IPv4:PORT`,
		"memcached --server 127.0.0.1:1 more": `load memcached: takes no arguments, got "more"`,
		"memcached --server 127.0.0.1:1 --connections 0":             `load: connections 0: want 1 to 1024`,
		"memcached --server 127.0.0.1:1 --threads 2":                 `load: threads 2: want 1 to 1`,
		"memcached --server 127.0.0.1:1 --rate NaN":                  `load: rate NaN: want 0 to 1e7 requests per second`,
		"memcached --server 127.0.0.1:1 --rate -1":                   `load: rate -1: want 0 to 1e7 requests per second`,
		"memcached --server 127.0.0.1:1 --gets 1.5":                  `load: gets 1.5: want 0 to 1`,
		"memcached --server 127.0.0.1:1 --zipf 1":                    `load: zipf 1: want 0 to 0.999`,
		"memcached --server 127.0.0.1:1 --key-size 300":              `load: key-size 300: want 1 to 250 bytes`,
		"memcached --server 127.0.0.1:1 --value-size 9-3":            `load memcached: invalid value "9-3" for flag -value-size: sizes "9-3": want bytes as in 30, a range as in 20-40, or etc`,
		"memcached --server 127.0.0.1:1 --duration 0s":               `load: duration 0s: want more than 0 and up to 1h`,
		"http --server 127.0.0.1:1":                                  `load: no paths`,
		"http --server 127.0.0.1:1 --paths a":                        `load: path "a": want /PATH without spaces`,
		"http --server 127.0.0.1:1 --paths / --connect --pipeline 2": `load: pipeline 2: want 1 with a connection for each request`,
		"http --server 127.0.0.1:1 --paths / --connect --ports 5":    `load http: invalid value "5" for flag -ports: "5": want LOW-HIGH, as in 10000-20000`,
		"http --server 127.0.0.1:1 --paths / --keys 5":               `load http: flag provided but not defined: -keys`,
		"h2load-log": `h2load-log: want a file, got []`,
	} {
		err := Main(t.Context(), strings.Fields(args), &bytes.Buffer{})
		if err == nil || err.Error() != want {
			t.Errorf("%q:\n got %v\nwant %s", args, err, want)
		}
	}
}

// TestMainWritesReport: what Main writes is read back.
func TestMainWritesReport(t *testing.T) {
	f := &fake{}
	o := memcachedOptions(listen(t, f.serve))
	var out bytes.Buffer
	if err := Main(t.Context(), o.Args(), &out); err != nil {
		t.Fatal(err)
	}
	r, err := ReadReport(out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	c, err := r.Within(time.Unix(0, r.Start), 200*time.Millisecond)
	if err != nil || c.Answered == 0 || c.Answered > r.Answered || r.CPUUser+r.CPUSystem <= 0 {
		t.Errorf("%v: %d answers of %d, CPU %g s", err, c.Answered, r.Answered, r.CPUUser+r.CPUSystem)
	}
}
