// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/econbench/econbench"
)

// playPostgres answers as the server's and the client's shells do.
func playPostgres(t *testing.T, client econbench.Output) *box {
	return &box{play: func(argv []string) econbench.Output {
		script := argv[len(argv)-1]
		switch {
		case argv[0] == "ss":
			return econbench.Output{Stdout: []byte("LISTEN 0 4096 127.0.0.1:25432 0.0.0.0:*\n")}
		case argv[0] != "sh":
			t.Errorf("ran %q", argv)
			return econbench.Output{ExitCode: 127}
		case strings.Contains(script, "initdb"):
			return econbench.Output{ExitCode: -1}
		case strings.Contains(script, pgbenchLog):
			return client
		default:
			return econbench.Output{}
		}
	}}
}

// A select-only client reads the tables that the server keeps, a TPC-B-like one a copy of them; transactions are those of its log that
// ended within the window.
func TestPostgres(t *testing.T) {
	recordedLog := econbench.Output{Stdout: recorded(t, "pgbench/17.12-select.txt")}
	for _, test := range []struct {
		given      econbench.Params
		has, lacks []string // among all scripts
	}{
		{nil, []string{"pgbench -h 127.0.0.1 -p 25432 -U postgres -n -M prepared -b select-only -c 4 -j 1 -T 3 -l --log-prefix=log scale10 2>&1 || exit\n",
			"host all postgres 127.0.0.1/32 trust", "pgbench -h /run/econbench/postgres -p 25432 -U postgres -i -q -s 10 unmade"}, []string{"copied", "-R"}},
		{econbench.Params{"script": "tpcb", "scale": "2", "clients": "128", "rate": "500"},
			[]string{"-b tpcb-like -c 128 -j 1 -T 6 -l --log-prefix=log -R 500 copied 2>&1", "create database copied template scale2"}, nil},
	} {
		box := playPostgres(t, recordedLog)
		server, err := Postgres{}.Serve(t.Context(), box)
		if err != nil {
			t.Fatal(err)
		}
		p, err := Postgres{}.Params(test.given)
		if err != nil {
			t.Fatal(err)
		}
		load, err := Postgres{}.Start(t.Context(), box, p, time.Second)
		if test.given == nil {
			load, err = Postgres{}.Start(t.Context(), box, p, 900*time.Millisecond)
		}
		if err != nil {
			t.Fatal(err)
		}
		if f := load.Flows(); !f.ByClient || fmt.Sprint(f.Count) != p["clients"] || f.Kind != econbench.LastingFlows {
			t.Errorf("flows %+v", f)
		}
		ran := strings.Join(box.lines, "\n")
		for _, want := range test.has {
			if !strings.Contains(ran, want) {
				t.Errorf("no %q in\n%s", want, ran)
			}
		}
		for _, unwanted := range test.lacks {
			if strings.Contains(ran, unwanted) {
				t.Errorf("%q in\n%s", unwanted, ran)
			}
		}
		r, err := load.Wait(t.Context())
		if err != nil || r.Within == nil || strings.Contains(string(r.Log), pgbenchLog) || !strings.Contains(string(r.Log), "tps = ") {
			t.Errorf("result %+v, error %v", r, err)
		}
		if err := errors.Join(load.Close(t.Context()), server.Close(t.Context())); err != nil {
			t.Error(err)
		}
	}
}

// Tables that can't be made are an error that quotes the server, before any client starts.
func TestPostgresWithoutTables(t *testing.T) {
	box := &box{play: func([]string) econbench.Output {
		return econbench.Output{Stdout: []byte("creating tables...\npgbench: error: could not extend file: No space left on device\n"), ExitCode: 1}
	}}
	p, _ := Postgres{}.Params(nil)
	_, err := Postgres{}.Start(t.Context(), box, p, time.Second)
	want := `postgres server: tables: exit code 1: "pgbench: error: could not extend file: No space left on device"`
	var said *econbench.ProgramError
	if err == nil || err.Error() != want || !errors.As(err, &said) || !strings.Contains(string(said.Log), "creating tables") {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestPostgresLongRunsAreSampled(t *testing.T) {
	box := playPostgres(t, econbench.Output{Stdout: recorded(t, "pgbench/17.12-select.txt")})
	p, _ := Postgres{}.Params(econbench.Params{"clients": "1"})
	load, err := Postgres{}.Start(t.Context(), box, p, 40*time.Second-perFlow)
	if err != nil || !strings.Contains(box.lines[1], " --sampling-rate=0.250 ") {
		t.Fatalf("error %v, ran %q", err, box.lines)
	}
	r, err := load.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	samples, _, err := r.Within(econbench.HostWindow{Start: time.Unix(1795732258, 0), Seconds: 2})
	if err != nil || samples[0] != (econbench.Sample{Metric: "transactions", Value: 8 / 0.25 / 2}) {
		t.Errorf("samples %v, error %v", samples, err)
	}
}

func TestReadPgbench(t *testing.T) {
	good := string(recorded(t, "pgbench/17.12-select.txt"))
	for _, test := range []struct{ name, out, want string }{
		{"good", good, "tool_transactions=4951.17"},
		{"no log", strings.Split(good, pgbenchLog)[0], "error: exit code 0: \"tps = 4951.165556 (without initial connection time)\""},
		{"cut off", good[:strings.Index(good, "3 2 310")], "error: log: 7 transactions, pgbench says 8: it was cut off"},
		{"cut off in a line", good[:len(good)-3], `error: log: line "3 2 310 0 1795732259 20": want CLIENT`},
		{"failed", strings.Replace(good, "3 2 310", "3 2 failed", 1), "error: log: 7 transactions, pgbench says 8"},
		{"garbage", strings.Replace(good, "3 2 310", "3 2 -310", 1), `error: log: line "3 2 -310 0 1795732259 2000": want CLIENT`},
		{"no time", strings.Replace(good, "1795732259 2000", "1795732259 x", 1), `error: log: line "3 2 310 0 1795732259 x": want CLIENT`},
		{"no rate", strings.Replace(good, "tps =", "tpm =", 1), "error: output: no number of transactions or no tps"},
		{"nothing done", strings.Replace(good, "processed: 8", "processed: 0", 1), "error: output: 0 transactions, tps = 4951.165556, want numbers above 0"},
		{"empty", "", "error: exit code 0: no output"},
	} {
		r, err := pgbenchRun{sampled: 1}.read(econbench.Output{Stdout: []byte(test.out)})
		if got := told(r.Samples, nil, err); !strings.HasPrefix(got, test.want) || strings.Contains(got, "\n") {
			t.Errorf("%s:\n got %s\nwant %s", test.name, got, test.want)
		}
	}
	r, err := pgbenchRun{}.read(econbench.Output{Stdout: []byte("pgbench: error: connection refused\n"), ExitCode: 1})
	if want := `exit code 1: "pgbench: error: connection refused"`; err == nil || err.Error() != want || len(r.Log) == 0 {
		t.Errorf("got %v, want %s", err, want)
	}
}

// Both ends of the window count once: its first instant is in it, its last is the next one's.
func TestPgbenchWithin(t *testing.T) {
	list, err := readPgbenchLog([]byte(strings.SplitAfter(string(recorded(t, "pgbench/17.12-select.txt")), pgbenchLog+"\n")[1] + "0 3 failed 0 1795732259 500\n"))
	if err != nil {
		t.Fatal(err)
	}
	w := econbench.HostWindow{Start: time.Unix(1795732259, 0), Seconds: 0.002}
	samples, warnings, err := pgbenchRun{sampled: 1, rate: 2000}.within(list, w)
	if got, want := told(samples, warnings, err), "transactions=1500 errors=500 latency_mean=0.000515667 latency_p50=0.000396 latency_max=0.000801 offered=2000 "+
		"the open loop's rate was not reached: 1500 of 2000 transactions/s"; got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	w.Start = w.Start.Add(time.Hour)
	if _, _, err := (pgbenchRun{sampled: 1}).within(list, w); err == nil || err.Error() != "log: no transaction ended in the window: 9 did in all" {
		t.Errorf("error %v", err)
	}
}

func TestRank(t *testing.T) {
	sorted := []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	for share, want := range map[float64]float64{0: 1, 0.1: 1, 0.5: 5, 0.9: 9, 0.91: 10, 0.99: 10, 1: 10} {
		if got := rank(sorted, share); got != want {
			t.Errorf("rank %g: %g, want %g", share, got, want)
		}
	}
}

func FuzzReadPgbenchLog(f *testing.F) {
	f.Add([]byte("0 1 28528 0 1795732258 604321\n"))
	f.Add([]byte("0 1 47634 0 1795732260 890830 845\n0 2 skipped 0 1795732260 890830 845\n"))
	f.Add([]byte("0 1 9223372036854775807 0 1 999999\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := readPgbenchLog(b)
		if err != nil {
			return
		}
		for _, done := range list {
			if !(done.seconds >= 0) || done.end.Unix() <= 0 {
				t.Errorf("%+v of %q", done, b)
			}
		}
	})
}
