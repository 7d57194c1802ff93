// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// measuring are patterns (path.Match) of the packages whose version may move a
// figure: the workloads' programs, and what they are linked with. Others of an
// image are updated more often than it means anything.
var measuring = []string{
	"iperf3", "libiperf0", "libc6", "memcached", "libevent-2*", "netperf",
	"nginx", "wrk", "libluajit*", "postgresql-[0-9]*",
}

// dpkgStatus is where dpkg keeps what is installed.
const dpkgStatus = "var/lib/dpkg/status"

// Installed are the versions of the measuring packages of the image that is
// unpacked at root: by its manifest, or, in one made with the Dockerfile, by
// dpkg's list.
func Installed(root string) (map[string]string, error) {
	versions := map[string]string{}
	add := func(name, version string) {
		for _, pattern := range measuring {
			if ok, _ := path.Match(pattern, name); ok && version != "" {
				versions[name] = version
			}
		}
	}
	text, err := os.ReadFile(filepath.Join(root, manifestPath))
	if errors.Is(err, fs.ErrNotExist) {
		return versions, scanStatus(filepath.Join(root, dpkgStatus), add)
	}
	if err != nil {
		return versions, fmt.Errorf("read image manifest: %w", err)
	}
	var m Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return versions, fmt.Errorf("image manifest: %w", err)
	}
	for _, p := range m.Packages {
		add(p.Name, p.Version)
	}
	return versions, nil
}

func scanStatus(file string, add func(name, version string)) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("read dpkg's list: %w", err)
	}
	defer f.Close()
	want := map[string]bool{"package": true, "version": true, "status": true}
	err = scanStanzas(bufio.NewReader(f), want, func(s stanza) error {
		if s["status"] == "install ok installed" || s["status"] == "hold ok installed" {
			add(s["package"], s["version"])
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("dpkg's list %s: %w", file, err)
	}
	return nil
}
