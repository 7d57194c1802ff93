// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// ErrUnsupported says that images cannot be made from this machine's packages:
// it is no Debian or Ubuntu, or of an architecture that is not known here. The
// Dockerfile is then the way.
var ErrUnsupported = errors.New("unsupported system")

// distribution is what has to be known about an archive of packages.
type distribution struct {
	id         string   // ID of os-release(5), and the archive's usual folder on a mirror
	suite      string   // the suite to build from; "" is the machine's own release
	components []string // where the packages of the recipes are
	keyrings   []string // the archive's keyring; the first that exists counts
	suites     []string // names that its releases go by in apt's configuration; nil allows any
}

// distributions is the table of what can be built from. Debian is pinned to a
// release, whatever the machine's own: trixie is the first with an iperf3 that
// uses a thread per stream (3.16) and with netperf in main. Ubuntu mirrors
// carry all releases too, but its keyrings do not reach forward as Debian's
// do, so there the machine's own release is taken.
var distributions = []distribution{
	{
		id: "debian", suite: "trixie", components: []string{"main"},
		keyrings: []string{
			"/usr/share/keyrings/debian-archive-keyring.gpg",
			"/usr/share/keyrings/debian-archive-keyring.pgp",
		},
		suites: []string{
			"oldoldstable", "oldstable", "stable", "testing", "unstable", "sid",
			"buster", "bullseye", "bookworm", "trixie", "forky", "duke",
		},
	},
	{
		id: "ubuntu", suite: "", components: []string{"main", "universe", "multiverse"},
		keyrings: []string{
			"/usr/share/keyrings/ubuntu-archive-keyring.gpg",
			"/usr/share/keyrings/ubuntu-archive-keyring.pgp",
		},
	},
}

// architectures maps runtime.GOARCH to Debian's names.
var architectures = map[string]string{"amd64": "amd64", "arm64": "arm64"}

// Platform is what a recipe is made for.
type Platform struct {
	Distribution string // "debian" or "ubuntu"
	Suite        string // code name of the release, such as "trixie"
	Arch         string // Debian's name of the architecture, such as "amd64"
}

// HostPlatform returns the platform that images are built for on this machine,
// read from os-release(5). Its error is ErrUnsupported where there is none.
func HostPlatform() (Platform, error) {
	p, _, err := hostPlatform("/")
	return p, err
}

func hostPlatform(root string) (Platform, distribution, error) {
	var p Platform
	arch, ok := architectures[runtime.GOARCH]
	if !ok || runtime.GOOS != "linux" {
		return p, distribution{}, fmt.Errorf("%w: %s/%s, allowed: linux/amd64, linux/arm64", ErrUnsupported, runtime.GOOS, runtime.GOARCH)
	}
	release, err := readOSRelease(root)
	if err != nil {
		return p, distribution{}, err
	}
	for _, id := range append([]string{release["ID"]}, strings.Fields(release["ID_LIKE"])...) {
		i := slices.IndexFunc(distributions, func(d distribution) bool { return d.id == id })
		if i < 0 {
			continue
		}
		d := distributions[i]
		p = Platform{Distribution: d.id, Suite: d.suite, Arch: arch}
		if p.Suite == "" {
			p.Suite = codename(release, d)
		}
		if p.Suite == "" {
			return p, d, fmt.Errorf("%w: os-release of %s names no VERSION_CODENAME", ErrUnsupported, d.id)
		}
		return p, d, nil
	}
	return p, distribution{}, fmt.Errorf("%w: os-release has ID %q, allowed: debian, ubuntu and what is like them", ErrUnsupported, release["ID"])
}

// codename is the release's; a derivative tells its parent's apart from its own.
func codename(release map[string]string, d distribution) string {
	if v := release[strings.ToUpper(d.id)+"_CODENAME"]; v != "" {
		return v
	}
	if release["ID"] == d.id {
		return release["VERSION_CODENAME"]
	}
	return ""
}

// readOSRelease reads os-release(5) below root.
func readOSRelease(root string) (map[string]string, error) {
	for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read os-release: %w", err)
		}
		values := map[string]string{}
		for line := range strings.Lines(string(text)) {
			if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(k, "#") {
				values[k] = strings.Trim(v, "\"'")
			}
		}
		return values, nil
	}
	return nil, fmt.Errorf("%w: neither /etc/os-release nor /usr/lib/os-release is there", ErrUnsupported)
}
