// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"
	"unicode"

	"golang.org/x/net/html"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/trace"
)

// elements of a page, in its order.
func elements(t testing.TB, text string) (list []*html.Node) {
	t.Helper()
	root, err := html.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for n := range root.Descendants() {
		if n.Type == html.ElementNode {
			list = append(list, n)
		}
	}
	return list
}

func attribute(n *html.Node, name string) (string, bool) {
	i := slices.IndexFunc(n.Attr, func(a html.Attribute) bool { return a.Key == name })
	if i < 0 {
		return "", false
	}
	return n.Attr[i].Val, true
}

// said is all the text in a node.
func said(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// oddRuns are further ones that something is the matter with, for plots above all.
func oddRuns() map[string]*econbench.Run {
	cut := func(change func(*econbench.Run)) *econbench.Run {
		r := sampleRun(8)
		change(r)
		return r
	}
	return map[string]*econbench.Run{
		"zero":    {},
		"strange": strangeRun(),
		"no plan": cut(func(r *econbench.Run) { r.Plan = econbench.Plan{} }),
		"no valid trial": cut(func(r *econbench.Run) {
			for i := range r.Trials {
				r.Trials[i].Valid = false
			}
		}),
		"nothing collected": cut(func(r *econbench.Run) {
			for i := range r.Trials {
				for name := range r.Trials[i].Metrics {
					r.Trials[i].Metrics[name] = nil
				}
			}
		}),
		"all the same": cut(func(r *econbench.Run) {
			for i := range r.Trials {
				for name := range r.Trials[i].Metrics {
					r.Trials[i].Metrics[name] = ptr(0)
				}
			}
		}),
		"huge and tiny": cut(func(r *econbench.Run) {
			for i := range r.Trials {
				for name := range r.Trials[i].Metrics {
					r.Trials[i].Metrics[name] = ptr([]float64{1e308, 5e-324, -1e308}[i%3])
				}
			}
		}),
		"one trial": cut(func(r *econbench.Run) { r.Trials = r.Trials[:1] }),
		"no baseline": cut(func(r *econbench.Run) {
			r.Plan.Baseline = econbench.Arm{}
		}),
		"hosts without CPUs": cut(func(r *econbench.Run) {
			r.Hosts = map[string]econbench.HostFacts{econbench.ClientHost: {}, econbench.ServerHost: {CPUs: []int{0, 1 << 40}}}
		}),
	}
}

// pages are all that tests look at.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{"page": render(t, HTML{}.In(pageFolder(t)), pageRun(12))}
	for name, run := range goldens() {
		all[name] = render(t, HTML{}, run)
	}
	for name, run := range badRuns(t) {
		all["bad: "+name] = render(t, HTML{}, run)
	}
	for name, run := range oddRuns() {
		all[name] = render(t, HTML{}, run)
	}
	return all
}

// TestPageStructure: one document that needs nothing else and that a screen reader finds its way in, whatever the run.
func TestPageStructure(t *testing.T) {
	for name, text := range pages(t) {
		t.Run(name, func(t *testing.T) {
			checkPage(t, text)
			if strings.Contains(strings.ReplaceAll(text, "http://www.w3.org/2000/svg", ""), "http://") || strings.Contains(text, "https://") {
				t.Error("an address of somewhere else")
			}
		})
	}
}

// checkPage looks at the structure of a page.
func checkPage(t *testing.T, text string) {
	t.Helper()
	ids := make(map[string]bool)
	level, mains := 0, 0
	var links []string
	for _, n := range elements(t, text) {
		if id, ok := attribute(n, "id"); ok && (ids[id] || id == "") {
			t.Errorf("id %q is there twice, or empty", id)
		} else if ok {
			ids[id] = true
		}
		checkHarmless(t, n)
		switch n.Data {
		case "h1", "h2", "h3":
			if next := int(n.Data[1] - '0'); next > level+1 {
				t.Errorf("heading %q: level %d behind %d", said(n), next, level)
			} else {
				level = next
			}
			if said(n) == "" {
				t.Errorf("a heading says nothing")
			}
		case "main":
			mains++
		case "a":
			link, _ := attribute(n, "href")
			links = append(links, link)
		case "svg":
			checkPicture(t, n)
		case "table":
			checkTable(t, n)
		case "html":
			if lang, _ := attribute(n, "lang"); lang != "en" {
				t.Errorf("language %q", lang)
			}
		}
	}
	if mains != 1 {
		t.Errorf("%d main elements", mains)
	}
	for _, l := range links {
		if !strings.HasPrefix(l, "#") || !ids[l[1:]] {
			t.Errorf("link %q leads nowhere", l)
		}
	}
}

// checkHarmless wants no script and nothing to fetch.
func checkHarmless(t *testing.T, n *html.Node) {
	t.Helper()
	if slices.Contains([]string{"script", "iframe", "object", "embed", "img", "image", "use", "foreignObject", "form", "base", "audio", "video"}, n.Data) {
		t.Errorf("element %s", n.Data)
	}
	for _, a := range n.Attr {
		if strings.HasPrefix(a.Key, "on") || a.Key == "src" || a.Key == "srcset" || a.Key == "href" && !strings.HasPrefix(a.Val, "#") && a.Val != "data:," {
			t.Errorf("attribute %s=%q of %s", a.Key, a.Val, n.Data)
		}
		if strings.Contains(a.Val, "url(") && !strings.HasPrefix(a.Val, "url(#") {
			t.Errorf("attribute %s=%q fetches", a.Key, a.Val)
		}
	}
	if n.Data == "style" && (strings.Contains(said(n), "url(") || strings.Contains(said(n), "@import")) {
		t.Error("a style fetches")
	}
}

// checkPicture wants a role and a name, and of a plot a description.
func checkPicture(t *testing.T, n *html.Node) {
	t.Helper()
	role, _ := attribute(n, "role")
	_, labelled := attribute(n, "aria-labelledby")
	label, named := attribute(n, "aria-label")
	if role != "img" || !labelled && (!named || label == "") {
		t.Errorf("svg without role or name: %v", n.Attr)
	}
	if class, _ := attribute(n, "class"); class != "plot" {
		return
	}
	for d := range n.Descendants() {
		if d.Type == html.ElementNode && (d.Data == "title" || d.Data == "desc") && said(d) == "" {
			t.Errorf("empty %s of a plot", d.Data)
		}
		if style, ok := attribute(d, "style"); ok && strings.Contains(style, "#") {
			t.Errorf("a colour that does not change with the scheme: %s", style)
		}
	}
}

// checkTable wants a caption, headers with a scope, and as many cells in each row.
func checkTable(t *testing.T, n *html.Node) {
	t.Helper()
	caption, width := "", 0
	for d := range n.Descendants() {
		if d.Type != html.ElementNode {
			continue
		}
		switch d.Data {
		case "caption":
			caption = said(d)
		case "th":
			if scope, _ := attribute(d, "scope"); scope != "col" && scope != "row" {
				t.Errorf("header %q without scope", said(d))
			}
		case "tr":
			cells := 0
			for c := range d.ChildNodes() {
				if c.Type == html.ElementNode {
					span := 1
					if s, ok := attribute(c, "colspan"); ok {
						fmt.Sscan(s, &span)
					}
					cells += span
				}
			}
			if width == 0 {
				width = cells
			}
			if cells != width {
				t.Errorf("a row of %d cells among those of %d", cells, width)
			}
		}
	}
	if caption == "" {
		t.Error("table without caption")
	}
}

// TestPageSays looks for what people come for.
func TestPageSays(t *testing.T) {
	run := pageRun(12)
	s, err := Summarise(run)
	if err != nil {
		t.Fatal(err)
	}
	text := render(t, HTML{}.In(pageFolder(t)), run)
	var all string
	for _, n := range elements(t, text) {
		if n.Data == "body" {
			all = said(n)
		}
	}
	verdict := strings.Index(all, "15 of 360 trials are invalid.")
	if verdict < 0 || verdict > strings.Index(all, "overlay+oncache") || strings.Index(all, "Results") < strings.Index(all, "overlay+xmasq") {
		t.Error("what is wrong is not said first, or tables stand before verdicts")
	}
	for _, want := range []string{
		"Nothing can be said: all 12 trials are invalid. (hit ratio 0.41 of client is below 0.99)", // overlay+xmasq under udp_rr
		"3 of 12 trials invalid and not in it.",
		"econbench run --suite nightly --arm host,overlay,overlay+oncache,overlay+econ,overlay+xmasq -o 'night 1'",
		"--seed 7 ", "cpu.microcode ≠", "0xa101144", "nic.irq_affinity_found of server", "b-3",
		"Part 2, taken up again 2026-01-02 05:04:05 UTC", "engine of server stopped answering",
		"vxlan device on server carried 3.1 MB", "noisy: the hypervisor took", "the path of a request and its response", "What overlay+oncache · tcp_rr request=1 changes about overlay",
		"60 trials", "× invalid, do not count (3)",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not on the page", want)
		}
	}
	// The sentence's figures are the summary's.
	for _, c := range s.Cells {
		if c.Arm.String() == "overlay+oncache" && c.Workload == "tcp_rr" {
			if want := showRatio(c.Metrics["transactions"].Ratio) + " the host's transactions"; !strings.Contains(all, want) {
				t.Errorf("%q is not on the page", want)
			}
		}
	}
	for _, c := range s.Cells {
		if v := c.Metrics[c.primary].Median; v != nil && !strings.Contains(all, show(c.primary, c.Metrics[c.primary].Unit, v)) {
			t.Errorf("the median of %s %s is not on the page", c.Arm, c.Workload)
		}
	}
}

// TestSentences: what is said of an arm depends on what there is to compare it with.
func TestSentences(t *testing.T) {
	sentences := func(run *econbench.Run) (all []string) {
		s, data, err := summaryOf(run, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range verdictsOf(s, data) {
			for _, l := range v.Lines {
				all = append(all, strings.Join([]string{v.Arm, l.Workload, l.Badge.Word, l.Text}, "|"))
			}
		}
		return all
	}
	run := rrRun([]float64{100, 100, 100, 100, 100, 100, 100}, []float64{50, 51, 50, 49, 50, 51, 50})
	if got := sentences(run); len(got) != 1 || !strings.Contains(got[0], "worse than host|0.50× [0.49, 0.51] the host's transactions.") {
		t.Errorf("%q", got)
	}
	run = gapRun()
	if got := sentences(run); len(got) != 2 || !strings.Contains(got[1], "overlay+oncache|tcp_rr|worse than host|1.800× [1.800, 1.800] the overlay's transactions; 0.900× [0.900, 0.900] the host's transactions; closes 80% [80, 80] of the gap to host.") {
		t.Errorf("%q", got)
	}
	run.Plan.Baseline = arm("overlay")
	if got := sentences(run); len(got) != 2 || !strings.Contains(got[1], "better than overlay|1.800× [1.800, 1.800] the overlay's transactions; closes 80%") {
		t.Errorf("%q", got)
	}
}

// gapRun has a fast path that closes 80 % of the gap in each block.
func gapRun() *econbench.Run {
	run := rrRun(nil, nil)
	run.Schema = econbench.Schema
	run.Plan.Arms = []econbench.Arm{arm("host"), arm("overlay"), arm("overlay+oncache")}
	run.Plan.Blocks, run.Trials = 8, nil
	for block := range run.Plan.Blocks {
		for i, c := range run.Plan.Cells() {
			v := []float64{100, 50, 90}[i] * (1 + float64(block)/100)
			run.Trials = append(run.Trials, econbench.Trial{Block: block, Cell: c, Valid: true, Metrics: map[string]*float64{"transactions": &v}})
		}
	}
	return run
}

// TestPageSame: the same run is the same page and the same plots, byte by byte.
func TestPageSame(t *testing.T) {
	first := render(t, HTML{}.In(pageFolder(t)), pageRun(6))
	plots, err := Plots(pageRun(6))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if render(t, HTML{}.In(pageFolder(t)), pageRun(6)) != first {
			t.Fatal("the page is another one")
		}
	}
	again, err := Plots(pageRun(6))
	if err != nil || !slices.EqualFunc(plots, again, func(a, b PlotFile) bool { return a.Name == b.Name && bytes.Equal(a.Data, b.Data) }) {
		t.Error("plots are others", err)
	}
}

// TestForeignPictures: what lies in the folder is drawn anew, and nothing of it is more than text.
func TestForeignPictures(t *testing.T) {
	folder := pageFolder(t)
	evil := `"><script>alert(1)</script><a xlink:href=\"javascript:alert(1)\">`
	stage := fmt.Sprintf(`{"direction":%q,"side":%q,"namespace":%q,"lane":%q,"kind":%q,"hook":%q,"softirq":%q,"bridge":%q,"round":1,"at":1e-5,"since":1e-5}`,
		evil, evil, evil, evil, evil, evil, evil, evil)
	folder["traces/evil.json"] = &fstest.MapFile{Data: fmt.Appendf(nil, `{"schema":1,"arm":"overlay+evil","workload":%q,"lab":%q,"kernel":%q,"stages":[%s,%s],"whole":{"seconds":1e-5}}`, evil, evil, evil, stage, stage)}
	folder["traces/cpu.json"] = &fstest.MapFile{Data: []byte(`{"schema":1,"arm":"host","stages":[{"cpu":1000000000000,"round":1}]}`)}
	folder["traces/none.json"] = &fstest.MapFile{Data: []byte(`{"schema":1,"arm":"host"}`)}
	folder["traces/torn.json"] = &fstest.MapFile{Data: []byte(`{"schema":1,`)}
	folder["traces/large.json"] = &fstest.MapFile{Data: bytes.Repeat([]byte(" "), maxPictureFile+1)}
	folder["traces/own.svg"] = &fstest.MapFile{Data: []byte(`<svg onload="alert(1)"><script>alert(1)</script></svg>`)}
	folder["profiles/evil.json"] = &fstest.MapFile{Data: fmt.Appendf(nil, `{"schema":1,"arm":"overlay+evil","baseline":"host","workload":%q,"lab":%q,"kernel":%q,"frequency":999,"window":1}`, evil, evil, evil)}
	folder["profiles/evil.folded"] = &fstest.MapFile{Data: []byte("client;" + strings.ReplaceAll(evil, ";", "") + " 10\n")}
	folder["profiles/lone.folded"] = &fstest.MapFile{Data: []byte("client;a 1\n")}
	text := render(t, HTML{}.In(folder), pageRun(6))
	for _, n := range elements(t, text) {
		checkHarmless(t, n)
	}
	for _, want := range []string{"traces/cpu.json: ", "traces/none.json: ", "traces/torn.json: ", "traces/large.json: larger than 16 MiB", "profiles/lone.folded: "} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not told as left out", want)
		}
	}
	if strings.Contains(text, "own.svg") || !strings.Contains(text, "alert(1)") {
		t.Error("a drawing that lay there is on the page, or the evil names are not")
	}
	if err := harmless([]byte(`<svg xmlns="http://www.w3.org/2000/svg"><g onclick="x"/></svg>`)); err == nil {
		t.Error("an attribute that acts is harmless?")
	}
	if err := harmless([]byte(`<svg><image href="x"/></svg>`)); err == nil {
		t.Error("an image is harmless?")
	}
}

// TestPictureBudget: what there is no room for is named.
func TestPictureBudget(t *testing.T) {
	budget := 10_000
	p := journeyOf(pageFolder(t), pageRun(1).Plan, &budget)
	if len(p.List) > 2 || len(p.LeftOut) == 0 || !strings.Contains(p.LeftOut[0], "has room for") || budget < 0 {
		t.Errorf("%d shown, left out: %q, %d B left", len(p.List), p.LeftOut, budget)
	}
	names := make(map[string]bool)
	for _, n := range []string{trace.Request, trace.Response} {
		names[n] = true
	}
	budget = maxPictures
	for _, one := range journeyOf(pageFolder(t), pageRun(1).Plan, &budget).List {
		for _, n := range elements(t, string(one.SVG)) {
			if id, ok := attribute(n, "id"); ok && names[id] {
				t.Errorf("id %q is every drawing's", id)
			}
		}
	}
}

// TestAgain: a run's command with its seed, without where it wrote; of another command nothing is known.
func TestAgain(t *testing.T) {
	for _, c := range []struct{ command, want []string }{
		{[]string{"econbench", "run", "--suite", "speed", "-o", "x"}, []string{"econbench", "run", "--suite", "speed", "--seed=7"}},
		{[]string{"econbench", "run", "--out=x", "--seed", "9", "-q"}, []string{"econbench", "run", "--seed", "9", "-q"}},
		{[]string{"econbench", "calibrate", "-o", "x"}, nil},
		{nil, nil},
	} {
		got, seeded := againCommand(&econbench.Run{Command: c.command, Plan: econbench.Plan{Seed: 7}})
		if seeded != (c.want != nil) || seeded && !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, %t, want %q", c.command, got, seeded, c.want)
		}
	}
}

// TestWorkloadName: parameters that all workloads of a name share don't tell them apart.
func TestWorkloadName(t *testing.T) {
	plan := econbench.Plan{Workloads: []econbench.PlannedWorkload{
		{Name: "tcp_rr", Params: econbench.Params{"flows": "1", "request": "1"}},
		{Name: "tcp_rr", Params: econbench.Params{"flows": "8", "request": "1"}},
		{Name: "tcp_crr", Params: econbench.Params{"flows": "8"}},
	}}
	var got []string
	for _, w := range plan.Workloads {
		got = append(got, workloadName(w.Name, w.Params, plan))
	}
	if want := []string{"tcp_rr flows=1", "tcp_rr flows=8", "tcp_crr"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestPageHosts: of a host's facts those that were not recorded are no numbers.
func TestPageHosts(t *testing.T) {
	table := plainFacts(map[string]econbench.HostFacts{"client": {}, "server": {CPUs: []int{0, 2}, WireDevice: "eth0", Tunings: []string{
		"rps wire0 rx-0 0 → 1", "sysctl a 0 → 1 (process 412)", "congestion-control to 198.19.1.4 the host's → cubic (process 412)", "sysctl a 0 → 1 (process 500)",
		"congestion-control to 198.19.2.4 the host's → cubic (process 500)", "congestion-control to 198.18.0.2 the host's → cubic"}}}, []string{"client", "server"})
	for _, row := range table.Rows {
		if row[1].Text != "–" {
			t.Errorf("%s of nothing: %q", row[0].Text, row[1].Text)
		}
		if want := map[string]string{"CPUs of this run": "0, 2", "wire": "eth0", "changed for the run": "rps wire0 rx-0 0 → 1; sysctl a 0 → 1 in the containers; " +
			"congestion-control the host's → cubic in the containers; congestion-control to 198.18.0.2 the host's → cubic"}[row[0].Text]; want != "" && row[2].Text != want {
			t.Errorf("%s: %q, want %q", row[0].Text, row[2].Text, want)
		}
	}
}

// TestSentenceOf: a help's first letter may take more than a byte.
func TestSentenceOf(t *testing.T) {
	for help, want := range map[string]string{"über x": "Über x.", "rate of it.": "Rate of it.", "": ""} {
		if got := sentenceOf(help); got != want {
			t.Errorf("%q: %q, want %q", help, got, want)
		}
	}
}

// TestCommandLine: a shell reads the words that were written, whatever is in them.
func TestCommandLine(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal("bash, which make and .ci need, is missing")
	}
	words := []string{"a b", "it's", `"`, "$HOME", "*", "~", "#x", "tab\there", "line\nbreak", "\x1b[31m", "\u009b31m", "ü\u202eab", "\xff\xc3", "\nabc1", "\ufffd", "it's\n\"both\" \\ $x", "overlay+handicap:250ns", "überall", "", "a=b", "!x", "`ls`"}
	out, err := exec.Command(bash, "-c", "printf '%s\\0' "+commandLine(append([]string{"/x/printf"}, words...))[len("printf "):]).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"); !slices.Equal(got, words) {
		t.Errorf("%q, want %q", got, words)
	}
	for _, w := range words {
		if q := ShellWord(w); strings.ContainsFunc(q, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q is quoted %q, which can't be seen", w, q)
		}
	}
	if got := commandLine([]string{"/home/someone/bin/econbench", "run"}); got != "econbench run" {
		t.Errorf("%q", got)
	}
	if got := replayCommand(pageRun(2).Plan); !strings.HasPrefix(got, "econbench run --arm host,overlay,") || !strings.Contains(got, " -p memcached.rate=50% ") || !strings.Contains(got, "--seed 7") {
		t.Errorf("%q", got)
	}
	plan := pageRun(2).Plan
	plan.Programs = []econbench.Program{{Name: "x"}}
	if got := replayCommand(plan); got != "" {
		t.Errorf("flags can't say it: %q", got)
	}
}

// TestManyTrialsPage: a tenth of a million trials are a page of bounded size, soon and in little room, and it says what is not drawn.
func TestManyTrialsPage(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	run := loadRun(t, writeBigRun(t, 100_000, 1))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	begin := cpuTime(t)
	text := render(t, HTML{}, run)
	took := cpuTime(t) - begin
	runtime.ReadMemStats(&after)
	t.Logf("%v, %d MB allocated, page of %d kB", took, (after.TotalAlloc-before.TotalAlloc)>>20, len(text)>>10)
	if len(text) > 500_000 {
		t.Errorf("the page has %d kB", len(text)>>10)
	}
	if want := "800 of 100000 trials drawn"; !strings.Contains(text, want) {
		t.Errorf("%q is not on the page", want)
	}
	if allocated := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 2*time.Second || allocated > 300 {
		t.Errorf("%v, %d MB: want 2 s, and 300 MB with all garbage", took, allocated)
	}
}

// cpuTime is this process's: other programs have this machine too.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkPage is what the page of a tenth of a million trials costs, reading included.
func BenchmarkPage(b *testing.B) {
	dir := writeBigRun(b, 100_000, 1)
	b.ReportAllocs()
	for b.Loop() {
		if err := (HTML{}).Render(io.Discard, loadRun(b, dir)); err != nil {
			b.Fatal(err)
		}
	}
}

func TestPageNewerSchema(t *testing.T) {
	run := sampleRun(1)
	run.Schema = econbench.Schema + 1
	if err := (HTML{}).Render(io.Discard, run); err == nil || !strings.Contains(err.Error(), "newer") {
		t.Error(err)
	}
	if _, err := Plots(run); err == nil {
		t.Error("plots of a schema that nobody knows")
	}
	if err := (HTML{}).Render(io.Discard, nil); err == nil {
		t.Error("a page of nothing")
	}
}
