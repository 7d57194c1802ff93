// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"strings"
	"testing"

	"github.com/econbench/econbench"
)

// paramTests are parameters as given, and what becomes of them.
var paramTests = []struct {
	workload econbench.Workload
	given    econbench.Params
	want     string // Params.String, or the error
}{
	{TCPStream{}, nil, "clients=1 direction=up message=131072 streams=1 window=0"},
	{TCPStream{}, econbench.Params{"message": "64K", "streams": "4"}, "clients=1 direction=up message=65536 streams=4 window=0"},
	{TCPStream{}, econbench.Params{"message": " 1MiB "}, "clients=1 direction=up message=1048576 streams=1 window=0"},
	{TCPStream{}, econbench.Params{"message": "16kb"}, "clients=1 direction=up message=16384 streams=1 window=0"},
	{tcpRR, nil, "clients=1 flows=1 request=1 response=1"},
	{tcpRR, econbench.Params{"request": "128", "response": "64k"}, "clients=1 flows=1 request=128 response=65536"},
	{tcpCRR, econbench.Params{"flows": "128"}, "clients=1 flows=128 request=1 response=1"},
	{udpRR, econbench.Params{"flows": "8", "request": "1422"}, "clients=1 flows=8 request=1422 response=1"},
	{UDPStream{}, nil, "clients=1 direction=up message=1400 rate=20000 streams=1"},
	{UDPStream{}, econbench.Params{"message": "64", "rate": "200000", "streams": "8"}, "clients=1 direction=up message=64 rate=200000 streams=8"},
	{Memcached{}, nil, "connections=4 gets=0.9677 keys=20000 pipeline=1 rate=0 sizes=etc threads=1 zipf=0.99"},
	{Memcached{}, econbench.Params{"sizes": "030/0100-300", "gets": "0.50", "rate": "1000"}, "connections=4 gets=0.5 keys=20000 pipeline=1 rate=1000 sizes=30/100-300 threads=1 zipf=0.99"},
	{Nginx{}, econbench.Params{"size": "16k", "client": "wrk"}, "client=wrk connections=4 rate=0 size=16384 threads=1"},
	{Nginx{}, econbench.Params{"size": "0"}, "client=econbench connections=4 rate=0 size=0 threads=1"},
	{Memcached{}, econbench.Params{"rate": "50%"}, "connections=4 gets=0.9677 keys=20000 pipeline=1 rate=50% sizes=etc threads=1 zipf=0.99"},
	{Nginx{}, econbench.Params{"rate": "80%"}, "client=econbench connections=4 rate=80% size=1024 threads=1"},
	{Nginx{}, econbench.Params{"rate": "80%", "client": "wrk"}, `parameter rate: "80%": want 0 with client=wrk, which knows a closed loop alone`},
	{NginxConn{}, econbench.Params{"size": "8k"}, "connections=4 rate=0 size=8192 threads=1"},
	{NginxH2{}, econbench.Params{"streams": "8"}, "connections=4 size=1024 streams=8 threads=1"},

	{Memcached{}, econbench.Params{"sizes": "0/5"},
		`parameter sizes: "0/5": want etc, or KEY/VALUE in bytes as in 30/200 or 20-40/100-300, keys of 1 to 250 and values of 1 to 1000000`},
	{Memcached{}, econbench.Params{"sizes": "30/etc"},
		`parameter sizes: "30/etc": want etc, or KEY/VALUE in bytes as in 30/200 or 20-40/100-300, keys of 1 to 250 and values of 1 to 1000000`},
	{Memcached{}, econbench.Params{"sizes": "30/100k"},
		`parameter sizes: "30/100k": want etc, or KEY/VALUE in bytes as in 30/200 or 20-40/100-300, keys of 1 to 250 and values of 1 to 1000000`},
	{Memcached{}, econbench.Params{"sizes": "30/1000000"},
		`parameter keys: "20000": want at most 536 with values that large: the server keeps 512 MiB of them`},
	{Memcached{}, econbench.Params{"gets": "NaN"}, `parameter gets: "NaN": want a number from 0 to 1`},
	{Memcached{}, econbench.Params{"zipf": "1"}, `parameter zipf: "1": want a number from 0 to 0.999`},
	{Memcached{}, econbench.Params{"threads": "5"}, `parameter threads: "5": want at most one for each of the 4 connections`},
	{Memcached{}, econbench.Params{"rate": "3"}, `parameter rate: "3": want 0, or at least one request per second for each of the 4 connections`},
	{Nginx{}, econbench.Params{"size": "1000"}, `parameter size: "1000": want 0, for an answer without a file, or a power of two from 64 to 4194304 bytes, as in 128 or 16k`},
	{NginxConn{}, econbench.Params{"size": "16k"}, `parameter size: "16k": want 0, for an answer without a file, or a power of two from 64 to 8192 bytes, as in 128 or 16k`},
	{Nginx{}, econbench.Params{"client": "ab"}, `parameter client: "ab": want one of econbench, wrk`},
	{Nginx{}, econbench.Params{"client": "wrk", "rate": "50"}, `parameter rate: "50": want 0 with client=wrk, which knows a closed loop alone`},
	{NginxH2{}, econbench.Params{"rate": "5"}, `unknown parameter "rate": allowed: size, connections, threads, streams`},
	{udpRR, econbench.Params{"response": "1423"}, // 1451 with headers: the overlay's MTU is 1450
		`parameter response: "1423": want bytes from 1 to 1422, as in 128 or 16k`},
	{UDPStream{}, econbench.Params{"message": "1472"},
		`parameter message: "1472": want bytes from 16 to 1422, as in 128 or 16k`},
	{UDPStream{}, econbench.Params{"rate": "50k"},
		`parameter rate: "50k": want a whole number from 1 to 10000000`},
	{TCPStream{}, econbench.Params{"direction": "both", "clients": "4"}, "clients=4 direction=both message=131072 streams=1 window=0"},
	{tcpRR, econbench.Params{"flows": "32", "clients": "4"}, "clients=4 flows=32 request=1 response=1"},
	{Mice{}, econbench.Params{"streams": "4", "direction": "down"}, "direction=down flows=1 message=131072 request=1 response=1 streams=4"},
	{tcpRR, econbench.Params{"flows": "33", "clients": "4"}, "parameters flows, clients: 33 of each of 4 clients: want 128 flows at most"},
	{udpRR, econbench.Params{"clients": "9"}, `parameter clients: "9": want a whole number from 1 to 8`},
	{UDPStream{}, econbench.Params{"direction": "sideways"}, `parameter direction: "sideways": want one of up, down, both`},
	{tcpRR, econbench.Params{"flows": "129"},
		`parameter flows: "129": want a whole number from 1 to 128`},
	{TCPStream{}, econbench.Params{"stream": "1"},
		`unknown parameter "stream": did you mean "streams"? allowed: direction, clients, streams, message, window`},
	{TCPStream{}, econbench.Params{"streams": "0"},
		`parameter streams: "0": want a whole number from 1 to 128`},
	{TCPStream{}, econbench.Params{"streams": "1k"},
		`parameter streams: "1k": want a whole number from 1 to 128`},
	{TCPStream{}, econbench.Params{"message": "1025k"},
		`parameter message: "1025k": want bytes from 1 to 1048576, as in 128 or 16k`},
	{tcpRR, econbench.Params{"request": "9223372036854775807k"},
		`parameter request: "9223372036854775807k": want bytes from 1 to 65536, as in 128 or 16k`},
	{tcpRR, econbench.Params{"response": "-1"},
		`parameter response: "-1": want bytes from 1 to 65536, as in 128 or 16k`},
	{tcpRR, econbench.Params{"response": ""},
		`parameter response: "": want bytes from 1 to 65536, as in 128 or 16k`},
	{Postgres{}, econbench.Params{"rate": " 080% ", "script": "tpcb"}, "clients=4 rate=80% scale=10 script=tpcb threads=1"},
	{Postgres{}, econbench.Params{"rate": "101%"},
		`parameter rate: "101%": want a whole number from 0 to 10000000, or 1% to 100% of what the slowest arm does in a closed loop`},
	{Postgres{}, econbench.Params{"script": "tpcc"}, `parameter script: "tpcc": want one of select, tpcb`},
	{tcpRR, econbench.Params{"flows": "50%"}, `parameter flows: "50%": want a whole number from 1 to 128`},
	{tcpRR, econbench.Params{"request": "1.5k"},
		`parameter request: "1.5k": want bytes from 1 to 65536, as in 128 or 16k`},
}

func TestParams(t *testing.T) {
	for _, test := range paramTests {
		full, err := test.workload.Params(test.given)
		got := full.String()
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s %v:\n got %s\nwant %s", test.workload.Name(), test.given, got, test.want)
		}
	}
}

func TestParamsAreStable(t *testing.T) {
	for _, w := range All() {
		once, err := w.Params(nil)
		if err != nil {
			t.Fatal(err)
		}
		twice, err := w.Params(once)
		if err != nil || twice.String() != once.String() {
			t.Errorf("%s: filled in twice: %v, %v, want %v", w.Name(), twice, err, once)
		}
	}
}

func TestEveryWorkloadIsListable(t *testing.T) {
	for _, w := range All() {
		if _, known := econbench.MetricNamed(w.Primary()); !known {
			t.Errorf("%s: primary metric %q is none", w.Name(), w.Primary())
		}
		if strings.Contains(w.Help(), "\n") || w.Help() == "" {
			t.Errorf("%s: help is not one line", w.Name())
		}
	}
}

func FuzzParam(f *testing.F) {
	for _, s := range []string{"1", "128k", "1MiB", "", "-1", "0x10", "99999999999999999999", "1g", "k"} {
		f.Add(s)
	}
	p := param{name: "size", standard: 1, min: 1, max: 1 << 20, bytes: true}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := p.parse(s); err == nil && (n < p.min || n > p.max) {
			t.Errorf("%q gives %d", s, n)
		}
	})
}

// A share of the slowest arm's rate becomes a whole number of it, never the 0 of a closed loop.
func TestShares(t *testing.T) {
	p, err := Postgres{}.Params(econbench.Params{"rate": "50%"})
	if err != nil {
		t.Fatal(err)
	}
	share, closed, ok := Postgres{}.Share(p)
	if !ok || share != 0.5 || closed["rate"] != "0" || p["rate"] != "50%" || closed["clients"] != p["clients"] {
		t.Errorf("share %v of %v, %v", share, closed, ok)
	}
	if _, _, ok := (Postgres{}).Share(closed); ok {
		t.Error("a closed loop is taken for a share")
	}
	for rate, want := range map[float64]string{1234.5: "1235", 0.2: "1", 12345678: "12345678"} {
		if got := (Postgres{}).At(p, rate)["rate"]; got != want || p["rate"] != "50%" {
			t.Errorf("at %g: %s, want %s", rate, got, want)
		}
	}
}
