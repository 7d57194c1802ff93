// SPDX-License-Identifier: Apache-2.0

package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseSourcesList(t *testing.T) {
	got, err := parseSourcesList([]byte(`# comment
deb http://a.example.invalid/debian trixie main contrib # end
deb [ arch=amd64,i386 signed-by=/k.gpg ] https://b.example.invalid/x stable main
deb [trusted=yes] file:/srv/mirror ./
deb-src http://a.example.invalid/debian trixie main
`))
	check(t, err)
	want := []source{
		{URI: "http://a.example.invalid/debian", Suites: []string{"trixie"}, Components: []string{"main", "contrib"}},
		{URI: "https://b.example.invalid/x", Suites: []string{"stable"}, Components: []string{"main"}, Archs: []string{"amd64", "i386"}, SignedBy: "/k.gpg"},
		{URI: "file:/srv/mirror", Suites: []string{"./"}, Components: []string{}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("sources (-want +got):\n%s", d)
	}
	for _, bad := range []string{"deb", "deb http://x", "deb [arch=amd64 http://x y z", "rpm http://x y z"} {
		if got, err := parseSourcesList([]byte(bad)); err == nil {
			t.Errorf("parse %q: found %v, want an error", bad, got)
		}
	}
}

// FuzzParseSources: no bytes crash either parser, or the choice among what it found.
func FuzzParseSources(f *testing.F) {
	f.Add([]byte("deb [arch=amd64 signed-by=/k] http://x/debian trixie main\n"))
	f.Add([]byte("Types: deb deb-src\nURIs: http://x/debian\nSuites: trixie\nComponents: main\nSigned-By:\n -----BEGIN\n .\n x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, parse := range []func([]byte) ([]source, error){parseSourcesList, parseSources} {
			if all, err := parse(text); err == nil {
				_, _ = pickMirror(all, distributions[0], "amd64")
			}
		}
	})
}

// TestFindMirror: whole configurations, as distributions and people write them.
func TestFindMirror(t *testing.T) {
	const ours = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
	tests := []struct {
		name  string
		dist  int // in distributions
		files map[string]string
		want  string // or part of the error
	}{
		{"debian deb822", 0, map[string]string{
			"sources.list.d/debian.sources": "Types: deb\nURIs: http://sec.example.invalid/debian-security\nSuites: bookworm-security\nComponents: main\n\nTypes: deb\n# note\nURIs: http://m.example.invalid/debian\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
		}, "http://m.example.invalid/debian"},
		{"debian one-line", 0, map[string]string{
			"sources.list": "deb http://s.example.invalid/debian-security bookworm-security main\ndeb http://m.example.invalid/debian/ bookworm main\n",
		}, "http://m.example.invalid/debian"},
		{"third parties", 0, map[string]string{
			"sources.list":               "deb http://third.example.invalid bookworm main\ndeb http://docker.example.invalid/linux/debian bookworm stable\n",
			"sources.list.d/a.list":      "deb [signed-by=/k.gpg] http://other.example.invalid/debian bookworm main\n",
			"sources.list.d/b.list":      "deb " + ours + "http://m.example.invalid/d bookworm main\n",
			"sources.list.d/c.list.save": "nonsense",
		}, "http://m.example.invalid/d"},
		{"disabled", 0, map[string]string{
			"sources.list.d/debian.sources": "Enabled: no\nTypes: deb\nURIs: http://m.example.invalid/debian\nSuites: trixie\nComponents: main\n",
		}, "names no main archive of debian"},
		{"ubuntu mirror list", 1, map[string]string{
			"mirrors.txt":                   "# best first\nhttp://m.example.invalid/ubuntu/\tpriority:1\n",
			"sources.list.d/ubuntu.sources": "Types: deb\nURIs: mirror+file:/etc/apt/mirrors.txt\nSuites: noble noble-updates\nComponents: main universe\nSigned-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg\n",
		}, "http://m.example.invalid/ubuntu"},
		{"ubuntu by architecture", 1, map[string]string{
			"sources.list": "deb [arch=riscv64] http://r.example.invalid/ubuntu noble main\ndeb http://m.example.invalid/ubuntu noble-security main\ndeb http://m.example.invalid/ubuntu noble main\n",
		}, "http://m.example.invalid/ubuntu"},
		{"folder", 0, map[string]string{"sources.list": "deb file:/srv/debian trixie main"}, "file:/srv/debian"},
		{"cdrom", 0, map[string]string{"sources.list": "deb cdrom:[Debian]/ trixie main"}, "allowed: http, https, file, mirror+file"},
		{"none", 0, nil, "names no main archive of debian"},
		{"nonsense", 0, map[string]string{"sources.list": "debian please"}, "line 1: type \"debian\""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			check(t, os.MkdirAll(filepath.Join(root, "etc/apt/sources.list.d"), 0o755))
			for name, text := range tt.files {
				check(t, os.WriteFile(filepath.Join(root, "etc/apt", name), []byte(text), 0o644))
			}
			u, err := findMirror(root, distributions[tt.dist], "amd64")
			if err != nil {
				if !strings.Contains(err.Error(), tt.want) {
					t.Errorf("found error %q, want %q", err, tt.want)
				}
				return
			}
			if got := u.String(); got != tt.want {
				t.Errorf("found %s, want %s", got, tt.want)
			}
		})
	}
}

func TestAptProxies(t *testing.T) {
	root := t.TempDir()
	check(t, os.MkdirAll(filepath.Join(root, "etc/apt/apt.conf.d"), 0o755))
	check(t, os.WriteFile(filepath.Join(root, "etc/apt/apt.conf.d/proxy"), []byte("// Acquire::http::Proxy \"http://no\";\nAcquire::http::Proxy \"http://p.example.invalid:3128/\";\nacquire::https::proxy \"DIRECT\";\n"), 0o644))
	want := map[string]string{"http": "http://p.example.invalid:3128/", "https": "DIRECT"}
	if d := cmp.Diff(want, aptProxies(root)); d != "" {
		t.Errorf("proxies (-want +got):\n%s", d)
	}
}

func TestHostPlatform(t *testing.T) {
	tests := []struct{ text, dist, suite, want string }{
		{"ID=debian\nVERSION_CODENAME=bookworm\n", "debian", "trixie", ""},
		{"ID=debian\n", "debian", "trixie", ""}, // testing and unstable
		{"ID=ubuntu\nVERSION_CODENAME=noble\nUBUNTU_CODENAME=noble\n", "ubuntu", "noble", ""},
		{"ID=linuxmint\nID_LIKE=\"ubuntu debian\"\nVERSION_CODENAME=wilma\nUBUNTU_CODENAME=noble\n", "ubuntu", "noble", ""},
		{"ID=raspbian\nID_LIKE=debian\n", "debian", "trixie", ""},
		{"ID=odd\nID_LIKE=ubuntu\nVERSION_CODENAME=odd\n", "", "", "names no VERSION_CODENAME"},
		{"ID=alpine\n", "", "", `has ID "alpine"`},
	}
	for _, tt := range tests {
		root := t.TempDir()
		check(t, os.MkdirAll(filepath.Join(root, "usr/lib"), 0o755))
		check(t, os.WriteFile(filepath.Join(root, "usr/lib/os-release"), []byte(tt.text), 0o644))
		p, _, err := hostPlatform(root)
		switch {
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%q: found error %v, want %s", tt.text, err, tt.want)
		case tt.want == "" && (err != nil || p.Distribution != tt.dist || p.Suite != tt.suite):
			t.Errorf("%q: found %+v, %v", tt.text, p, err)
		}
	}
}
