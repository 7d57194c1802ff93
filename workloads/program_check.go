// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/names"
)

// DefinitionError is one thing that is wrong with what a suite defines.
type DefinitionError struct {
	Item  int    // which program, from 1
	Field string // of it: "client"; "" for all of it
	Under string // below that, with dots and from 1: "2.regexp"
	Err   error
}

func (e *DefinitionError) Error() string { return e.Err.Error() }
func (e *DefinitionError) Unwrap() error { return e.Err }

// mostPort is below the ports that a kernel gives to clients (net.ipv4.ip_local_port_range), one of which might hold it.
const mostPort = 32767

var fileName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)

// checkName refuses what could not stand in a table, a file's name and -p NAME.PARAM=VALUE.
func checkName(what, name string) error {
	if !fileName.MatchString(name) {
		return fmt.Errorf("%s %q: want small letters, digits and _, at most 32, a letter first", what, shorten(name))
	}
	return nil
}

// CheckPrograms lists all that is wrong with the programs that a plan defines. Nothing is run.
func CheckPrograms(list []econbench.Program) []*DefinitionError {
	c := fileChecker{ports: map[int]string{}, metrics: map[string]econbench.Metric{}}
	for _, w := range All() {
		c.builtIn = append(c.builtIn, w.Name())
	}
	for i, def := range list {
		c.item = i + 1
		c.program(def)
	}
	return c.wrong
}

type fileChecker struct {
	item    int
	builtIn []string
	names   []string
	ports   map[int]string              // who has them
	metrics map[string]econbench.Metric // those that programs before brought along
	wrong   []*DefinitionError
}

func (c *fileChecker) add(field, under string, err error) {
	if err != nil {
		c.wrong = append(c.wrong, &DefinitionError{c.item, field, under, err})
	}
}

func (c *fileChecker) program(def econbench.Program) {
	name := def.Name
	switch {
	case slices.Contains(c.builtIn, name):
		c.add("name", "", fmt.Errorf("program %q: econbench has a workload of that name: want another one", name))
	case slices.Contains(c.names, name):
		c.add("name", "", fmt.Errorf("program %q: defined twice", name))
	case name == "":
		c.add("", "", fmt.Errorf("program %d: has no name", c.item))
	default:
		c.add("name", "", checkName("program", name))
	}
	c.names = append(c.names, name)
	switch owner, taken := c.ports[def.Port]; {
	case def.Port == 0:
		c.add("port", "", fmt.Errorf("program %s: no port: want 1 to %d", name, mostPort))
	case def.Port < 0 || def.Port > mostPort:
		c.add("port", "", fmt.Errorf("program %s: port %d: want 1 to %d, which kernels give to no client", name, def.Port, mostPort))
	case taken:
		c.add("port", "", fmt.Errorf("program %s: port %d is %s's: want one of its own, as their servers stand at the same time", name, def.Port, owner))
	default:
		c.ports[def.Port] = name
	}
	c.params(def)
	c.words(def)
	for i, code := range def.Exit {
		if code < 0 || code > 255 {
			c.add("exit", strconv.Itoa(i+1), fmt.Errorf("program %s: exit code %d: want 0 to 255", name, code))
		}
	}
	c.ready(def)
	c.flows(def)
	for i, m := range def.Metrics {
		c.metric(def, i, m)
	}
	c.primary(def)
}

func (c *fileChecker) params(def econbench.Program) {
	for _, name := range slices.Sorted(maps.Keys(def.Params)) {
		err := checkName("parameter", name)
		if err == nil && reserved(name) {
			err = fmt.Errorf("parameter %q: the name has a meaning of its own: want another one", name)
		}
		if err == nil {
			if err = likeDefault(def.Params[name], "text"); err != nil {
				err = fmt.Errorf("parameter %s: %w", name, err)
			}
		}
		c.add("params", name, err)
	}
}

// words checks the command lines. One server serves trials of all parameters and lengths, so its has none of these.
func (c *fileChecker) words(def econbench.Program) {
	server := map[string]string{wordServer: "198.18.0.1", wordPort: "1"}
	client := maps.Clone(server)
	client[wordSeconds] = "1"
	for name, value := range def.Params {
		if _, taken := client[name]; !taken {
			client[name] = value
		}
	}
	for _, line := range []struct {
		field  string
		words  []string
		values map[string]string
	}{{"server", def.Server, server}, {"client", def.Client, client}} {
		if len(line.words) == 0 || line.words[0] == "" {
			c.add(line.field, "", fmt.Errorf("program %s: %s: no command line: want a list of words, the program's first", def.Name, line.field))
			continue
		}
		for i, word := range line.words {
			_, err := expand(word, line.values)
			if err == nil && strings.ContainsRune(word, 0) {
				err = fmt.Errorf("%q: a word can't have a NUL", shorten(word))
			}
			if err != nil {
				c.add(line.field, strconv.Itoa(i+1), fmt.Errorf("program %s: %s: %w", def.Name, line.field, err))
			}
		}
	}
}

func (c *fileChecker) ready(def econbench.Program) {
	r := def.Ready
	switch {
	case r.Line != "" && r.Listens != "":
		c.add("ready", "line", fmt.Errorf("program %s: ready: listens and line: want one of them", def.Name))
	case r.Line != "":
		if _, err := expression(r.Line); err != nil {
			c.add("ready", "line", fmt.Errorf("program %s: ready: line: %w", def.Name, err))
		}
	case r.Listens != "" && r.Listens != listensTCP && r.Listens != listensUDP:
		c.add("ready", "listens", fmt.Errorf("program %s: ready: %w", def.Name, names.Unknown("protocol", r.Listens, []string{listensTCP, listensUDP})))
	}
}

func (c *fileChecker) flows(def econbench.Program) {
	if _, err := (Program{def}).flows(def.Params); err != nil {
		var at *flowError
		field := ""
		if errors.As(err, &at) {
			field = at.field
		}
		c.add("flows", field, fmt.Errorf("program %s: %w", def.Name, err))
	}
	if def.Covered == nil {
		return
	}
	for _, way := range []struct {
		field string
		share float64
	}{{"to_server", def.Covered.ToServer}, {"to_client", def.Covered.ToClient}} {
		if !(way.share >= 0 && way.share <= 1) {
			c.add("coverage", way.field, fmt.Errorf("program %s: coverage: %s: %v: want a share from 0 to 1", def.Name, way.field, way.share))
		}
	}
}

func (c *fileChecker) metric(def econbench.Program, i int, m econbench.ProgramMetric) {
	at := strconv.Itoa(i + 1)
	bad := func(field string, format string, args ...any) {
		under := at
		if field != "" {
			under += "." + field
		}
		c.add("metrics", under, fmt.Errorf("program %s: metric %s: "+format, append([]any{def.Name, m.Name}, args...)...))
	}
	if m.Name == "" {
		c.add("metrics", at, fmt.Errorf("program %s: metric %d: has no name", def.Name, i+1))
		return
	}
	if slices.ContainsFunc(def.Metrics[:i], func(o econbench.ProgramMetric) bool { return o.Name == m.Name }) {
		bad("name", "given twice")
	}
	switch known, ok := econbench.MetricNamed(m.Name); {
	case econbench.IsClaim(m.Name):
	case ok:
		c.known(def, m, known, bad)
	default:
		c.own(m, bad)
	}
	if !(math.Abs(m.Scale) > 0) || math.IsInf(m.Scale, 0) {
		bad("scale", "scale %v: want the base unit by the printed one, as in 1e-6 for µs", m.Scale)
	}
	c.place(m, bad)
}

// known checks a metric that econbench has: it means what it always means, and what the kernel's counters say no program may say.
func (c *fileChecker) known(def econbench.Program, m econbench.ProgramMetric, known econbench.Metric, bad func(string, string, ...any)) {
	switch {
	case m.Unit != "" && m.Unit != known.Unit:
		bad("unit", "unit %q: econbench has it in %s: want no unit here, and a scale", m.Unit, known.Unit)
	case m.Better != "" && econbench.Better(m.Better) != known.Better && !(m.Better == econbench.BetterNeither && known.Better == econbench.Neither):
		bad("better", "better %q: of econbench's own metric it can't be said anew: leave it away", m.Better)
	}
	if !deliverable(def.Flows, m.Name) {
		bad("name", "is counted by econbench itself, of such flows: want another name%s", instead(m.Name))
	}
}

// instead is where a program's own word on what the kernel counts goes.
func instead(metric string) string {
	if claim := "tool_" + metric; econbench.IsClaim(claim) {
		return ", or " + claim + ", which is held against it"
	}
	return ""
}

// deliverable says whether a metric that econbench knows is a client's to tell.
func deliverable(f econbench.ProgramFlows, metric string) bool {
	switch {
	case strings.HasPrefix(metric, "latency_"), metric == "errors", metric == "generator_lag":
		return true
	case metric == "transactions":
		return f.Kind == kindByClient
	case metric == "throughput", metric == "offered":
		return f.Kind == kindByClient || f.Request != ""
	}
	return false
}

// own checks a metric that econbench does not know.
func (c *fileChecker) own(m econbench.ProgramMetric, bad func(string, string, ...any)) {
	if err := checkName("name", m.Name); err != nil {
		bad("name", "%w", err)
	}
	ways := []string{string(econbench.Higher), string(econbench.Lower), econbench.BetterNeither}
	switch {
	case m.Unit == "":
		bad("", "has no unit: econbench does not know it: want unit (a base unit: s, B/s, 1/s, 1), better and help")
	case len(m.Unit) > 16 || strings.ContainsFunc(m.Unit, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		bad("unit", "unit %q: want a base unit: s, B/s, 1/s, 1", shorten(m.Unit))
	case m.Better == "":
		bad("", "does not say which way is better: want better: %s", strings.Join(ways, ", "))
	case !slices.Contains(ways, m.Better):
		bad("better", "%w", names.Unknown("better", m.Better, ways))
	case strings.TrimSpace(m.Help) == "":
		bad("", "has no help: want a line that says what it is")
	}
	one := m.Metric()
	before, other := c.metrics[m.Name]
	if other && (before.Unit != one.Unit || before.Better != one.Better) {
		bad("", "another program has it in %s with better %q: want another name", before.Unit, before.Better)
	}
	if !other {
		c.metrics[m.Name] = one
	}
}

// place checks where the number is.
func (c *fileChecker) place(m econbench.ProgramMetric, bad func(string, string, ...any)) {
	given := 0
	for _, is := range []bool{m.Regexp != "", m.JSON != "", m.CSV != nil} {
		if is {
			given++
		}
	}
	switch {
	case given != 1:
		bad("", "%d places where it is printed: want one of regexp, json and csv", given)
	case m.Regexp != "":
		if _, err := metricExpression(m.Regexp); err != nil {
			bad("regexp", "regexp: %w", err)
		}
	case m.CSV != nil && (m.CSV.Column == "" || m.CSV.Column == "0"):
		bad("csv", "csv: column %q: want its name in the header, or its number from 1", m.CSV.Column)
	case m.CSV != nil && m.CSV.Row == "0":
		bad("csv", "csv: row 0: want its first column's text, or its number from 1")
	}
}

// primary checks the metric that carries the verdict: one that trials will have, and that has a better way to go.
func (c *fileChecker) primary(def econbench.Program) {
	if def.Flows.Kind == kindByClient && !slices.ContainsFunc(def.Metrics, func(m econbench.ProgramMetric) bool { return m.Name == "transactions" }) {
		c.add("metrics", "", fmt.Errorf("program %s: flows by_client: nobody else counts transactions: want a metric transactions", def.Name))
		return
	}
	allowed := counted(def.Flows)
	directed := map[string]bool{}
	for _, m := range def.Metrics {
		if !econbench.IsClaim(m.Name) && !slices.Contains(allowed, m.Name) {
			allowed = append(allowed, m.Name)
		}
		directed[m.Name] = m.Metric().Better != econbench.Neither
	}
	delivered, isDelivered := directed[def.Primary]
	switch {
	case def.Primary == "":
		c.add("", "", fmt.Errorf("program %s: has no primary, the metric that carries the verdict: allowed: %s", def.Name, strings.Join(allowed, ", ")))
	case !slices.Contains(allowed, def.Primary):
		c.add("primary", "", fmt.Errorf("program %s: primary: %w", def.Name, names.Unknown("metric", def.Primary, allowed)))
	case isDelivered && !delivered:
		c.add("primary", "", fmt.Errorf("program %s: primary %s: neither way is better, so it could carry no verdict", def.Name, def.Primary))
	}
}

// counted are the metrics that the kernel's counters give of a program's flows and that may carry a verdict.
func counted(f econbench.ProgramFlows) []string {
	switch {
	case f.Kind == kindByClient:
		return nil
	case f.Request != "":
		return []string{"transactions"}
	}
	return []string{"throughput"}
}
