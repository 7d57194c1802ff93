// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"context"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	pdfpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

var screenshots = flag.String("screenshots", "", "leave pictures of the page in `folder`: go test ./reports -run Browser -screenshots DIR")

// browser finds a browser that speaks the DevTools protocol. `make deps` with BROWSER=1, which `make test` sets, installs Debian's chromium;
// Ubuntu has it as a snap alone, whose browser sees no file of ours.
func browser(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "google-chrome-stable", "google-chrome", "chromium-browser", "chrome-headless-shell"} {
		found, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		if real, err := filepath.EvalSymlinks(found); err == nil && strings.Contains(real, "snap") {
			continue
		}
		return found
	}
	t.Skip("no chromium or google-chrome here (a snap's does not do): the page is not looked at in a browser. On Debian BROWSER=1 make deps installs it")
	return ""
}

// looked is a page in a browser, with what went wrong on it.
type looked struct {
	ctx context.Context

	mu       sync.Mutex
	console  []string
	requests []string
}

// look opens a browser on a page. A fetch of anything but the page, and whatever stands in the console, is noted.
func look(t *testing.T, html string) *looked {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(file, []byte(html), 0o644); err != nil {
		t.Fatal(err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(browser(t)),
		chromedp.NoSandbox, // which root may not have; the page is ours
		chromedp.WSURLReadTimeout(time.Minute))
	allocator, stopBrowser := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stopBrowser)
	l := &looked{}
	address := (&url.URL{Scheme: "file", Path: file}).String()
	ctx, stop := chromedp.NewContext(allocator, chromedp.WithListener(func(event any) {
		l.mu.Lock()
		defer l.mu.Unlock()
		switch e := event.(type) {
		case *log.EventEntryAdded:
			l.console = append(l.console, string(e.Entry.Level)+": "+e.Entry.Text)
		case *runtime.EventConsoleAPICalled:
			l.console = append(l.console, "console."+string(e.Type))
		case *runtime.EventExceptionThrown:
			l.console = append(l.console, e.ExceptionDetails.Text)
		case *network.EventRequestWillBeSent:
			if e.Request.URL != address && !strings.HasPrefix(e.Request.URL, "data:,") {
				l.requests = append(l.requests, e.Request.URL)
			}
		}
	}))
	t.Cleanup(stop)
	l.ctx = ctx
	do(t, l, command(network.Enable, network.EnableParams{}))
	do(t, l, command(log.Enable, cdp.Empty{}))
	do(t, l, chromedp.Navigate(address))
	return l
}

// do does something with the page.
func do[T any](t *testing.T, l *looked, action chromedp.Action[T]) T {
	t.Helper()
	v, err := chromedp.Run(l.ctx, action)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// command is a command of the browser's protocol.
func command[P, R any](c cdp.Command[P, R], params P) chromedp.Action[R] {
	return func(ctx context.Context, target *chromedp.Target) (R, error) { return cdp.Call(ctx, target, c, params) }
}

// emulate asks for a medium and a colour scheme.
func (l *looked) emulate(t *testing.T, medium, scheme string) {
	t.Helper()
	do(t, l, command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Media: medium, Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	}))
}

// at shows the page on a screen of a width, in a colour scheme.
func (l *looked) at(t *testing.T, width int64, scheme string) {
	t.Helper()
	do(t, l, chromedp.EmulateViewport(width, 900))
	l.emulate(t, "screen", scheme)
}

// ask evaluates an expression on the page. The page's policy forbids its own scripts, not the debugger's.
func ask[T any](t *testing.T, l *looked, expression string) T {
	t.Helper()
	return do(t, l, chromedp.Evaluate[T](expression))
}

// sees are the pages to look at.
func sees(t *testing.T) map[string]string {
	pages := map[string]string{
		"page": render(t, HTML{}.In(pageFolder(t)), pageRun(12)), "strange": render(t, HTML{}, strangeRun()), "many arms": render(t, HTML{}, manyArms()),
	}
	for name, run := range goldens() {
		pages[name] = render(t, HTML{}, run)
	}
	gated := gateRun("new", 2, 10, 10, slower(0.08, 0.08))
	pages["gated"] = render(t, HTML{}.In(gateFolder(t, gated)), gated)
	pages["history"] = renderHistory(t, historyWith(t), "html")
	pages["many changes"] = renderHistory(t, manyChanges(t), "html")
	return pages
}

// TestBrowser looks at the page as people do: on a phone and on a desk, in light and in dark, printed and with a screen reader.
func TestBrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	for name, html := range sees(t) {
		t.Run(name, func(t *testing.T) {
			l := look(t, html)
			for _, width := range []int64{390, 1440} {
				for _, scheme := range []string{"light", "dark"} {
					t.Run(fmt.Sprintf("%d-%s", width, scheme), func(t *testing.T) {
						l.at(t, width, scheme)
						l.fits(t)
						l.contrasts(t)
						l.picture(t, fmt.Sprintf("%s-%d-%s", name, width, scheme))
					})
				}
			}
			l.at(t, 390, "light")
			ask[int](t, l, `document.querySelectorAll("details").forEach(d => d.open = true), 0`)
			l.fits(t)
			l.picture(t, name+"-390-open")
			l.at(t, 1440, "dark")
			l.contrasts(t)
			l.picture(t, name+"-1440-open")
			ask[int](t, l, `document.querySelectorAll("details").forEach(d => d.open = false), 0`)
			l.prints(t, name)
			l.names(t)
			l.mu.Lock()
			defer l.mu.Unlock()
			if len(l.console) > 0 || len(l.requests) > 0 {
				t.Errorf("console: %q, requests: %q; want neither", l.console, l.requests)
			}
		})
	}
}

// fits wants nothing to stand out at the side, and no text of a plot to leave it or to lie on another.
func (l *looked) fits(t *testing.T) {
	t.Helper()
	if over := ask[int](t, l, `document.scrollingElement.scrollWidth - document.documentElement.clientWidth`); over > 0 {
		t.Errorf("the page is %d px wider than its screen: %s", over, ask[string](t, l, `[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth+1 && !e.closest(".scroll")).map(e => e.tagName+"."+e.className.baseVal+e.className).slice(0,5).join()`))
	}
	if out := ask[string](t, l, plotText); out != "" {
		t.Errorf("text of plots: %s", out)
	}
}

// plotText looks for texts of a plot that are cut off by its border, or overlap. A pixel is forgiven: boxes are those of fonts, not of letters.
const plotText = `[...document.querySelectorAll("svg.plot")].flatMap(svg => {
	const frame = svg.getBoundingClientRect(), found = [];
	const texts = [...svg.querySelectorAll("text")].map(e => [e.textContent, e.getBoundingClientRect()]);
	const shrink = r => ({left: r.left+1, right: r.right-1, top: r.top+r.height*0.2, bottom: r.bottom-r.height*0.2});
	texts.forEach(([text, r], i) => {
		if (r.left < frame.left-1 || r.right > frame.right+1 || r.top < frame.top-2 || r.bottom > frame.bottom+2) found.push(svg.querySelector("title").textContent+": "+text+" is cut off");
		const a = shrink(r);
		texts.slice(i+1).forEach(([other, q]) => {
			const b = shrink(q);
			if (a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom) found.push(svg.querySelector("title").textContent+": "+text+" lies on "+other);
		});
	});
	return found;
}).slice(0, 6).join("; ")`

// contrasts wants 4.5 to 1 between text and what is behind it (WCAG 2.2, 1.4.3).
func (l *looked) contrasts(t *testing.T) {
	t.Helper()
	if low := ask[string](t, l, lowContrast); low != "" {
		t.Errorf("contrast: %s", low)
	}
}

const lowContrast = `(() => {
	const parse = s => (s.match(/[\d.]+/g) || [0,0,0,0]).map(Number);
	const light = c => { const [r,g,b] = c.slice(0,3).map(v => (v/=255) <= 0.04045 ? v/12.92 : ((v+0.055)/1.055)**2.4); return 0.2126*r+0.7152*g+0.0722*b; };
	const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255,255,255]; };
	const found = [];
	document.querySelectorAll("body *").forEach(e => {
		const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
		if (!own || e.closest("svg.wide") || e.matches("title,desc,.hidden") || !e.getClientRects().length) return;
		const style = getComputedStyle(e), fore = parse(e.ownerSVGElement ? style.fill : style.color), back = behind(e.ownerSVGElement ? e.ownerSVGElement.parentElement : e);
		const [a, b] = [light(fore), light(back)].sort((x, y) => y-x);
		const ratio = (a+0.05)/(b+0.05);
		if (ratio < 4.5) found.push(e.tagName+" "+e.textContent.trim().slice(0,30)+": "+ratio.toFixed(2));
	});
	return found.slice(0, 6).join("; ");
})()`

// prints makes a PDF, and wants on paper what is folded on a screen, and all of it in light.
func (l *looked) prints(t *testing.T, name string) {
	t.Helper()
	do(t, l, chromedp.EmulateViewport(794, 1123)) // A4 at 96 dpi
	l.emulate(t, "print", "dark")
	l.picture(t, name+"-print")
	if folded := ask[int](t, l, `[...document.querySelectorAll("details > :not(summary)")].filter(e => e.getBoundingClientRect().height == 0 && e.textContent.trim()).length`); folded > 0 {
		t.Errorf("%d elements are not printed: they are folded", folded)
	}
	if ground := ask[string](t, l, `getComputedStyle(document.body).backgroundColor`); ground != "rgb(255, 255, 255)" {
		t.Errorf("printed on %s", ground)
	}
	pdf := do(t, l, command(pdfpage.PrintToPDF, pdfpage.PrintToPDFParams{PrintBackground: new(true), PreferCSSPageSize: new(true)})).Data
	if !strings.HasPrefix(string(pdf), "%PDF-") {
		t.Errorf("not a PDF: %.20q", pdf)
	}
	if *screenshots != "" {
		keep(t, name+".pdf", pdf)
	}
}

// names wants a name for each picture in what a screen reader is told, and one for each region and heading.
func (l *looked) names(t *testing.T) {
	t.Helper()
	nodes := do(t, l, command(accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})).Nodes
	images := 0
	for _, n := range nodes {
		if n.Ignored || n.Role == nil {
			continue
		}
		role := strings.Trim(string(n.Role.Value), `"`)
		switch role {
		case "image", "img", "region", "heading", "table", "navigation", "link":
			if n.Name == nil || strings.Trim(string(n.Name.Value), `" `) == "" {
				t.Errorf("a screen reader has no name for %s %v", role, n.BackendDOMNodeID)
			}
		}
		if role == "image" || role == "img" {
			images++
		}
	}
	if want := ask[int](t, l, `document.querySelectorAll("svg.plot").length`); images < want {
		t.Errorf("a screen reader is told of %d pictures, the page has %d", images, want)
	}
}

// picture leaves a picture of the whole page, if there is a folder for it.
func (l *looked) picture(t *testing.T, name string) {
	t.Helper()
	if *screenshots == "" {
		return
	}
	keep(t, name+".png", do(t, l, chromedp.FullScreenshot(100)))
}

func keep(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(*screenshots, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*screenshots, name), b, 0o644); err != nil {
		t.Fatal(err)
	}
}
