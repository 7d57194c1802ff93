// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
)

const (
	// postgresPort is where PostgreSQL serves.
	postgresPort = 25432
	// postgresWithin is how long it may take until it listens: a fresh cluster is made first, 1 s on a quiet machine.
	postgresWithin = 40 * time.Second
	// pgbenchSampled is from what length of a run on pgbench logs a share of its transactions only, so that its log stays below
	// what is kept of a program's output: 16 MB are 600,000 transactions.
	pgbenchSampled = 10 * time.Second
)

// Postgres is a PostgreSQL server and pgbench: one transaction at a time in each of a number of connections, with the log of every
// transaction, of which those count that ended within the window.
//
// The cluster is made anew with the topology, in memory, and never vacuums by itself, so that all arms find the same: a
// select-only trial reads tables that nothing changes, a TPC-B-like one gets a copy of them of its own. All of it is in the server's
// buffers before the client starts.
type Postgres struct{ paced }

var (
	_ econbench.Workload = Postgres{}
	_ econbench.Covered  = Postgres{}
	_ econbench.Imaged   = Postgres{}
	_ econbench.Measured = Postgres{}
	_ econbench.Paced    = Postgres{}
)

var postgresParams = []param{
	choiceParam("script", "select", "tpcb"),
	{name: "clients", standard: 4, min: 1, max: 128}, // connections, each with a transaction under way
	{name: "threads", standard: 1, min: 1, max: 64},  // of pgbench
	{name: "scale", standard: 10, min: 1, max: 40},   // 100,000 accounts each, 15 MB; twice that with a copy, in 2 GB of memory
	rateParam(),
}

// Scripts of pgbench that parameter script names.
var postgresScripts = map[string]string{"select": "select-only", "tpcb": "tpcb-like"}

func (Postgres) Name() string    { return "postgres" }
func (Postgres) Primary() string { return "latency_p99" }
func (Postgres) Image() string   { return "postgres" }

func (Postgres) Help() string {
	return "PostgreSQL transactions (pgbench); script: select or tpcb (select), clients: connections (4), threads: of pgbench (1), " +
		"scale: 100,000 accounts each (10), rate: transactions/s in an open loop, or N% of what the slowest arm does in a closed one, which 0 is (0)"
}

// Coverage is nearly all of it: connections are made before the window.
func (Postgres) Coverage(econbench.Params) econbench.Coverage {
	return econbench.Coverage{ToServer: nearlyAll, ToClient: nearlyAll}
}

// Metrics are what the log tells.
func (Postgres) Metrics(p econbench.Params) []string {
	list := []string{"latency_p999", "latency_max", "errors"}
	if p["rate"] != "0" {
		list = append(list, "offered")
	}
	return list
}

func (Postgres) Params(given econbench.Params) (econbench.Params, error) {
	return fill(postgresParams, given)
}

// postgresDir is where the cluster, the server's socket and pgbench's log are.
var postgresDir = path.Join(econbench.ScratchDir, "postgres")

// asPostgres is what runs a program as the user that PostgreSQL insists on; it refuses root.
const asPostgres = "chroot --userspec=postgres:postgres --groups= / "

// postgresSettings differ from the cluster's own: everything in memory, nothing in the background that falls into one trial and not
// into the next.
var postgresSettings = []string{
	"jit=off", "autovacuum=off", "shared_buffers=512MB", "max_connections=200", "checkpoint_timeout=1d", "max_wal_size=8GB",
	"huge_pages=off", "logging_collector=off",
}

// Serve makes a cluster and starts the server on it.
func (Postgres) Serve(ctx context.Context, tb econbench.Testbed) (_ econbench.Process, err error) {
	at := tb.Server()
	options := fmt.Sprintf("-c listen_addresses=%s -c port=%d -c unix_socket_directories=%s", at.Addr, postgresPort, postgresDir)
	for _, s := range postgresSettings {
		options += " -c " + s
	}
	script := strings.Join([]string{
		"set -e", "rm -rf " + postgresDir, "mkdir " + postgresDir, "chown postgres " + postgresDir, "cd " + postgresDir,
		asPostgres + "initdb -D " + postgresDir + "/data --no-sync -U postgres -A trust -E UTF8 --locale=C.UTF-8 >initdb.out 2>&1 || { cat initdb.out >&2; exit 1; }",
		fmt.Sprintf("echo 'host all postgres %s/32 trust' >>data/pg_hba.conf", tb.Client().Addr), // who measures, and nobody else
		"exec " + asPostgres + "postgres -D " + postgresDir + "/data " + options,
	}, "\n")
	sign := tcpListener(at.Container, postgresPort)
	sign.within, sign.server = postgresWithin, "postgres"
	proc, err := serveUntil(ctx, at, sign, "sh", "-c", script)
	if err != nil {
		return nil, err
	}
	// It listens before it answers.
	if err := finish(ctx, at.Container, "sh", "-c", "until pg_isready -q "+postgresLocal+"; do sleep 0.05; done"); err != nil {
		return nil, errors.Join(fmt.Errorf("postgres server: %w", err), proc.Close(context.WithoutCancel(ctx)))
	}
	return proc, nil
}

// postgresLocal is how to reach the server from its own container, on no network.
var postgresLocal = fmt.Sprintf("-h %s -p %d -U postgres", postgresDir, postgresPort)

// prepare makes the tables if they are not there, and for scripts that change them a copy; it returns the database's name. What is
// half-made bears another name.
func preparePostgres(scale int, script string) (argv []string, database string) {
	made := fmt.Sprintf("scale%d", scale)
	sql := "psql " + postgresLocal + " -v ON_ERROR_STOP=1 -qAt "
	warm := func(db string) string {
		return sql + db + ` -c "select sum(pg_prewarm(oid::regclass)) from pg_class where relname like 'pgbench_%' and relkind in ('r', 'i')" >&2`
	}
	lines := []string{
		"set -e", "exec 2>&1",
		`if ! ` + sql + `-c "select 'there' from pg_database where datname = '` + made + `'" postgres | grep -q there; then`,
		sql + `postgres -c "drop database if exists unmade" -c "create database unmade"`,
		"pgbench " + postgresLocal + " -i -q -s " + strconv.Itoa(scale) + " unmade",
		sql + `unmade -c "create extension pg_prewarm"`,
		sql + `unmade -c "vacuum freeze analyze"`,
		sql + `postgres -c checkpoint -c "alter database unmade rename to ` + made + `"`,
		warm(made),
		"fi",
	}
	if script == "select" {
		return []string{"sh", "-c", strings.Join(lines, "\n")}, made
	}
	const copied = "copied"
	lines = append(lines,
		`how=$(`+sql+`-c "select case when current_setting('server_version_num')::int >= 150000 then 'strategy file_copy' else '' end" postgres)`,
		sql+`postgres -c "drop database if exists `+copied+` with (force)" -c "create database `+copied+` template `+made+` $how" -c checkpoint`,
		warm(copied))
	return []string{"sh", "-c", strings.Join(lines, "\n")}, copied
}

// pgbenchLog begins pgbench's log in the client's output.
const pgbenchLog = "econbench: log of transactions"

// Start prepares the tables and runs pgbench. Its log, one file a thread, follows its own output.
func (w Postgres) Start(ctx context.Context, tb econbench.Testbed, p econbench.Params, atLeast time.Duration) (econbench.Load, error) {
	n, err := numbers(p, "clients", "threads", "scale", "rate")
	if err != nil {
		return nil, fmt.Errorf("workload %s: %w", w.Name(), err)
	}
	clients, threads, scale, rate := n[0], n[1], n[2], n[3]
	prepare, database := preparePostgres(scale, p["script"])
	if err := finish(ctx, tb.Server().Container, prepare...); err != nil {
		return nil, fmt.Errorf("postgres server: tables: %w", err)
	}
	atLeast += time.Duration(clients) * perFlow // connections are made one after the other
	run := pgbenchRun{clients: clients, rate: float64(rate), sampled: 1}
	argv := []string{"pgbench", "-h", tb.Server().Addr.String(), "-p", strconv.Itoa(postgresPort), "-U", "postgres", "-n", "-M", "prepared",
		"-b", postgresScripts[p["script"]], "-c", p["clients"], "-j", strconv.Itoa(min(threads, clients)), "-T", wholeSeconds(atLeast + goesOn), "-l", "--log-prefix=log"}
	if atLeast > pgbenchSampled {
		run.sampled = pgbenchSampled.Seconds() / atLeast.Seconds()
		argv = append(argv, fmt.Sprintf("--sampling-rate=%.3f", run.sampled))
	}
	if rate > 0 {
		argv = append(argv, "-R", p["rate"])
	}
	proc, err := tb.Client().Container.Start(ctx, "sh", "-c", strings.Join([]string{
		"d=" + path.Join(econbench.ScratchDir, "pgbench"), "rm -rf $d && mkdir $d && cd $d || exit 1",
		strings.Join(append(argv, database), " ") + " 2>&1 || exit",
		"echo '" + pgbenchLog + "' && cat log.* && cd / && rm -rf $d",
	}, "\n"))
	if err != nil {
		return nil, fmt.Errorf("pgbench: start: %w", err)
	}
	return &load{
		name: "pgbench", proc: proc,
		flows:  econbench.Flows{ServerPort: postgresPort, Count: clients, ByClient: true},
		digest: run.read,
		enough: enough{client: "pgbench", by: unix.SIGALRM},
	}, nil
}
