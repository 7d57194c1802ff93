// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestCheckHost(t *testing.T) {
	certs := t.TempDir()
	if err := os.WriteFile(filepath.Join(certs, "cert.pem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", t.TempDir())
	t.Setenv("DOCKER_CERT_PATH", "")
	for _, c := range []struct{ host, tlsDir, err string }{
		{"unix:///run/docker.sock", "", ""},
		{"ssh://root@a", "", ""},
		{"ssh://a:2222", "", ""},
		{"tcp://a:2376", certs, ""},
		{"", "", `host "": want unix:///path, tcp://name:port or ssh://[user@]name[:port]`},
		{"a", "", `host "a": want unix:///path`},
		{"unix://", "", `host "unix://": want unix:///path`},
		{"unix://run/docker.sock", "", `host "unix://run/docker.sock": want an absolute path`},
		{"http://a:80", "", `host "http://a:80": scheme "http" is not one of unix, tcp, ssh`},
		{"tcp://a", certs, `host "tcp://a": want a port`},
		{"tcp://a:", certs, `host "tcp://a:": want a port`},
		{"tcp://a:1", certs + "/none", `host "tcp://a:1": no ca.pem, cert.pem and key.pem in ` + certs + "/none: tcp:// is spoken with TLS only"},
		{"tcp://a:1", "", "/.docker: tcp:// is spoken with TLS only, give --tls-dir"},
	} {
		err := CheckHost(c.host, c.tlsDir)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: %v, want %q", c.host, err, c.err)
		}
	}
	t.Setenv("DOCKER_CERT_PATH", certs)
	if err := CheckHost("tcp://a:1", ""); err != nil {
		t.Errorf("with DOCKER_CERT_PATH: %v", err)
	}
}

// An engine that left one request unanswered gets little time for the next, until it answers again.
func TestSilentEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &Engine{host: "h"}
		hang := func(ctx context.Context) error {
			<-ctx.Done()
			return fmt.Errorf("Get %q: %w", "http://h/_ping", ctx.Err())
		}
		answer := func(context.Context) error { return nil }
		for i, c := range []struct {
			do   func(context.Context) error
			took time.Duration
			err  string
		}{
			{hang, StepTimeout, "engine h: ping: no answer in 30s"}, {hang, silentTimeout, "engine h: ping: no answer in 2s"},
			{answer, 0, ""}, {hang, StepTimeout, "engine h: ping: no answer in 30s"},
		} {
			begin := time.Now()
			err := e.step(context.Background(), "ping", c.do)
			if took := time.Since(begin); took != c.took || (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
				t.Errorf("request %d: %v after %v, want %q after %v", i, err, took, c.err, c.took)
			}
			if errors.Is(err, ErrSilent) != (c.err != "") {
				t.Errorf("request %d: %v: ErrSilent not as it should be", i, err)
			}
		}
		why := errors.New("interrupted")
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(why)
		if err := e.step(ctx, "ping", hang); !errors.Is(err, why) || errors.Is(err, ErrSilent) || err.Error() != "engine h: ping: interrupted" {
			t.Errorf("cancelled: %v", err)
		}
	})
}

// fakeEngine answers with what the test gives by "METHOD /path", and returns its URL.
func fakeEngine(t *testing.T, answers map[string]http.HandlerFunc) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		if rest, ok := strings.CutPrefix(path, "/v1.41"); ok {
			path = rest
		}
		if answer := answers[r.Method+" "+path]; answer != nil {
			answer(w, r)
			return
		}
		http.Error(w, `{"message":"no such thing"}`, http.StatusNotFound)
	}))
	_ = web.Listener.Close()
	web.Listener = l
	web.Start()
	t.Cleanup(web.Close)
	return "unix://" + socket
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body)) // a client that went away is the test's to notice
	}
}

func engineWith(answers map[string]http.HandlerFunc) map[string]http.HandlerFunc {
	answers["HEAD /_ping"], answers["GET /_ping"] = says(200, ""), says(200, "OK")
	if answers["GET /info"] == nil {
		answers["GET /info"] = says(200, `{"ID":"i","Name":"n","OSType":"linux","Architecture":"x86_64","ServerVersion":"20.10.24"}`)
	}
	return answers
}

func TestDial(t *testing.T) {
	e, err := Dial(t.Context(), fakeEngine(t, engineWith(map[string]http.HandlerFunc{})), "")
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if e.Architecture() != "amd64" || e.ID() != "i" || e.Name() != "n" || e.Version() != "20.10.24" {
		t.Errorf("%+v", e.info)
	}
	for name, c := range map[string]struct {
		answers map[string]http.HandlerFunc
		err     string
	}{
		"windows":             {map[string]http.HandlerFunc{"GET /info": says(200, `{"OSType":"windows"}`)}, "runs windows containers, want linux"},
		"no engine":           {map[string]http.HandlerFunc{"GET /info": says(200, "<html>\nhello\n</html>")}, "invalid character '<'"},
		"error of many lines": {map[string]http.HandlerFunc{"GET /info": says(500, `{"message":"one\ntwo\r\nthree"}`)}, "one; two; three"},
	} {
		url := fakeEngine(t, engineWith(c.answers))
		_, err := Dial(t.Context(), url, "")
		if err == nil || !strings.HasPrefix(err.Error(), "engine "+url+": ") || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q on one line", name, err, c.err)
		}
	}
}

func TestNameTaken(t *testing.T) {
	e, err := Dial(t.Context(), fakeEngine(t, engineWith(map[string]http.HandlerFunc{
		"POST /containers/create": says(409, `{"message":"Conflict. The container name \"/econbench-agent\" is already in use"}`),
	})), "")
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if _, err := e.Create(t.Context(), Spec{Name: "econbench-agent"}); !errors.Is(err, ErrNameTaken) {
		t.Errorf("%v, want ErrNameTaken", err)
	}
}

// What is gone already has been removed.
func TestRemoveWhatIsGone(t *testing.T) {
	e, err := Dial(t.Context(), fakeEngine(t, engineWith(map[string]http.HandlerFunc{
		"POST /swarm/leave": says(503, `{"message":"This node is not part of a swarm"}`),
	})), "")
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for what, err := range map[string]error{
		"container": e.Remove(t.Context(), "c"), "network": e.RemoveNetwork(t.Context(), "n"), "volume": e.RemoveVolume(t.Context(), "v"),
		"node": e.NodeRemove(t.Context(), "x"), "membership": e.SwarmLeave(t.Context()),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if d, found, err := e.Inspect(t.Context(), "c", ""); found || err != nil {
		t.Errorf("inspect: %+v %v %v", d, found, err)
	}
}

func TestOutputIsBounded(t *testing.T) {
	x := &Exec{}
	w := &locked{x, &x.stdout}
	part := make([]byte, 1<<20)
	for range MaxOutput/len(part) + 3 {
		if n, err := w.Write(part); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	if out, _ := x.Output(); len(out) != MaxOutput {
		t.Errorf("kept %d B, want %d", len(out), MaxOutput)
	}
}

// An engine that stops between an exec's making and its start does not hold a run up: the client knows no deadline there.
func TestAttachToSilentEngine(t *testing.T) {
	hold := make(chan struct{})
	e, err := Dial(t.Context(), fakeEngine(t, engineWith(map[string]http.HandlerFunc{
		"POST /containers/c/exec":   says(201, `{"Id":"x"}`),
		"POST /exec/x/start":        func(http.ResponseWriter, *http.Request) { <-hold },
		"POST /containers/c/attach": func(http.ResponseWriter, *http.Request) { <-hold },
	})), "")
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	defer close(hold)
	why := errors.New("trial not over in time")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, why)
	defer cancel()
	if _, err := e.Exec(ctx, "c", []string{"netperf"}); !errors.Is(err, why) {
		t.Errorf("exec: %v, want %v", err, why)
	}
	if _, err := e.Attach(ctx, "c", nil); !errors.Is(err, why) {
		t.Errorf("attach: %v, want %v", err, why)
	}
}

func TestUnlabelled(t *testing.T) {
	e, err := Dial(t.Context(), fakeEngine(t, engineWith(map[string]http.HandlerFunc{
		"GET /containers/json": says(200, `[{"Id":"1","Names":["/web"]},{"Id":"2","Names":["/ours"],"Labels":{"`+LabelRun+`":"r"}},{"Id":"3"}]`),
	})), "")
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if names, err := e.Unlabelled(t.Context(), LabelRun); err != nil || strings.Join(names, " ") != "web 3" {
		t.Errorf("%q, %v; want web and 3", names, err)
	}
}

func TestIngressStands(t *testing.T) {
	for body, want := range map[string]bool{
		`{"Name":"ingress","Containers":{"ep-1":{},"ingress-sbox":{}}}`: true, `{"Name":"ingress","Containers":{"ep-1":{}}}`: false, "": false,
	} {
		answers := map[string]http.HandlerFunc{}
		if body != "" {
			answers["GET /networks/ingress"] = says(200, body)
		}
		e, err := Dial(t.Context(), fakeEngine(t, engineWith(answers)), "")
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		if got, err := e.IngressStands(t.Context()); err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", body, got, err, want)
		}
	}
}
