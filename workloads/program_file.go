// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/names"
)

// Program is a workload that a suite defines: everything about it is data. What is wrong with a definition CheckPrograms says; one
// that is wrong fails when it is used.
type Program struct {
	def econbench.Program
}

var (
	_ econbench.Workload = Program{}
	_ econbench.Covered  = Program{}
	_ econbench.Imaged   = Program{}
	_ econbench.Measured = Program{}
)

// Programs are the workloads that a plan defines.
func Programs(p econbench.Plan) (list []econbench.Workload) {
	for _, def := range p.Programs {
		list = append(list, Program{def})
	}
	return list
}

func (p Program) Name() string    { return p.def.Name }
func (p Program) Primary() string { return p.def.Primary }
func (p Program) Image() string   { return p.def.Image }

// Help is the suite's, and parameters with their defaults.
func (p Program) Help() string {
	text := strings.TrimSpace(p.def.Help)
	if text == "" {
		text = strings.Join(p.def.Client[:min(1, len(p.def.Client))], "")
	}
	return text + " (defined by the suite)"
}

// Metrics are all that the client is to deliver.
func (p Program) Metrics(econbench.Params) (list []string) {
	for _, m := range p.def.Metrics {
		if !econbench.IsClaim(m.Name) {
			list = append(list, m.Name)
		}
	}
	return list
}

// Params fills in the defaults. Where a default is a whole number, so is what the user gives.
func (p Program) Params(given econbench.Params) (econbench.Params, error) {
	full := econbench.Params{}
	maps.Copy(full, p.def.Params)
	for _, key := range slices.Sorted(maps.Keys(given)) {
		standard, known := p.def.Params[key]
		if !known {
			return nil, names.Unknown("parameter", key, slices.Sorted(maps.Keys(p.def.Params)))
		}
		value := strings.TrimSpace(given[key])
		if err := likeDefault(value, standard); err != nil {
			return nil, fmt.Errorf("parameter %s: %w", key, err)
		}
		full[key] = value
	}
	if _, err := p.flows(full); err != nil {
		return nil, err
	}
	return full, nil
}

// likeDefault refuses values that a program would choke on in ways that are hard to see.
func likeDefault(value, standard string) error {
	_, number := wholeNumber(standard)
	if _, ok := wholeNumber(value); number && !ok {
		return fmt.Errorf("%q: want a whole number, as its default %s is", shorten(value), standard)
	}
	if value == "" || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("%q: want text on one line", shorten(value))
	}
	return nil
}

// wholeNumber reads a number of 0 and more, written as it is printed.
func wholeNumber(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n >= 0 && strconv.FormatInt(n, 10) == s
}

// Coverage is the suite's, else what such flows let a fast path carry: see tcp_rr and tcp_crr.
func (p Program) Coverage(econbench.Params) econbench.Coverage {
	switch {
	case p.def.Covered != nil:
		return *p.def.Covered
	case p.def.Flows.Kind == kindConnects:
		return tcpCRR.coverage
	case p.def.Flows.Kind == kindDatagrams && p.def.Flows.Request == "":
		return econbench.Coverage{ToServer: nearlyAll}
	}
	return econbench.Coverage{ToServer: nearlyAll, ToClient: nearlyAll}
}

// Serve starts the server. One serves all parameters, so that its command line has none.
func (p Program) Serve(ctx context.Context, tb econbench.Testbed) (econbench.Process, error) {
	at := tb.Server()
	argv, err := expandAll(p.def.Server, p.place(at))
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	sign, err := p.sign(at.Container)
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	return serveUntil(ctx, at, sign, argv...)
}

// place are the placeholders of both command lines.
func (p Program) place(server econbench.Endpoint) map[string]string {
	return map[string]string{wordServer: server.Addr.String(), wordPort: strconv.Itoa(p.def.Port)}
}

// Ways to be ready.
const (
	listensTCP = "tcp"
	listensUDP = "udp"
)

// sign is how to see that the server is ready.
func (p Program) sign(in econbench.Container) (ready, error) {
	port := p.def.Port
	switch {
	case p.def.Ready.Line != "":
		line, err := expression(p.def.Ready.Line)
		return ready{
			look: func(_ context.Context, proc econbench.Process) (bool, error) { return printed(proc, line) },
			// The server's log has what it printed instead.
			missing: fmt.Sprintf("no line that matches %q", p.def.Ready.Line),
		}, err
	case p.listens() == listensUDP:
		return ready{
			look: func(ctx context.Context, _ econbench.Process) (bool, error) {
				found, err := sockets(ctx, in, "-Hlun", port)
				return len(bytes.TrimSpace(found)) > 0, err
			},
			missing: fmt.Sprintf("port %d: no udp socket", port),
		}, nil
	}
	return tcpListener(in, port), nil
}

// listens is the protocol whose socket says that the server is ready: that of its flows, if the suite says none.
func (p Program) listens() string {
	if p.def.Ready.Listens == "" && p.def.Flows.Kind == kindDatagrams {
		return listensUDP
	}
	return p.def.Ready.Listens
}

// printed says whether a program has printed a whole line that matches.
func printed(proc econbench.Process, line *regexp.Regexp) (bool, error) {
	talking, ok := proc.(econbench.Printing)
	if !ok {
		return false, fmt.Errorf("its output can't be read while it runs")
	}
	out := talking.Printed()
	for _, b := range [][]byte{out.Stdout, out.Stderr} {
		for text := range bytes.Lines(b) {
			if whole, ended := bytes.CutSuffix(text, []byte("\n")); ended && line.Match(bytes.TrimSuffix(whole, []byte("\r"))) {
				return true, nil
			}
		}
	}
	return false, nil
}

// Start starts the client.
func (p Program) Start(ctx context.Context, tb econbench.Testbed, params econbench.Params, atLeast time.Duration) (econbench.Load, error) {
	flows, err := p.flows(params)
	if err != nil {
		return nil, fmt.Errorf("workload %s: %w", p.def.Name, err)
	}
	values := p.place(tb.Server())
	maps.Copy(values, params)
	values[wordSeconds] = wholeSeconds(atLeast)
	argv, err := expandAll(p.def.Client, values)
	if err != nil {
		return nil, fmt.Errorf("workload %s: client: %w", p.def.Name, err)
	}
	name := path.Base(argv[0])
	proc, err := tb.Client().Container.Start(ctx, argv...)
	if err != nil {
		return nil, fmt.Errorf("%s client: start: %w", name, err)
	}
	return &load{name: name, proc: proc, flows: flows, parse: p.read}, nil
}

// read takes the metrics out of all that the client printed.
func (p Program) read(out econbench.Output) (samples []econbench.Sample, _ []string, err error) {
	if sound := p.exits(); !slices.Contains(sound, out.ExitCode) {
		return nil, nil, fmt.Errorf("exit code %d, want %s: %s", out.ExitCode, list(sound), lastLines(out))
	}
	for _, m := range p.def.Metrics {
		value, err := extract(m, out)
		if err != nil {
			return nil, nil, fmt.Errorf("metric %s: %w; its last lines: %s", m.Name, err, lastLines(out))
		}
		samples = append(samples, econbench.Sample{Metric: m.Name, Value: value})
	}
	return samples, nil, nil
}

// exits are the codes with which the client ends when all is well.
func (p Program) exits() []int {
	if len(p.def.Exit) == 0 {
		return []int{0}
	}
	return p.def.Exit
}

// list writes numbers: "0 or 124".
func list(numbers []int) string {
	words := make([]string, len(numbers))
	for i, n := range numbers {
		words[i] = strconv.Itoa(n)
	}
	return strings.Join(words, " or ")
}

// quotedLines is how many of a client's last lines are quoted; all of them are in the trial's log.
const quotedLines = 3

// lastLines quotes what a program printed last, error output first.
func lastLines(out econbench.Output) string {
	for _, b := range [][]byte{out.Stderr, out.Stdout} {
		var lines []string
		for text := range strings.Lines(string(b)) {
			if text = strings.TrimSpace(text); text != "" {
				lines = append(lines, strconv.Quote(shorten(text)))
			}
		}
		if len(lines) > 0 {
			return strings.Join(lines[max(0, len(lines)-quotedLines):], ", ")
		}
	}
	return "no output"
}
