// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"testing"
)

func write(t *testing.T, root, name, text string) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// What measures is told, by the manifest or by dpkg; what merely stands around is not.
func TestInstalled(t *testing.T) {
	root := t.TempDir()
	if _, err := Installed(root); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of an empty image: %v", err)
	}
	write(t, root, dpkgStatus, "Package: netperf\nStatus: install ok installed\nDescription: tool\n with two lines\nVersion: 2.7.1\n\n"+
		"Package: wrk\nStatus: deinstall ok config-files\nVersion: 4.1\n\nPackage: dash\nStatus: install ok installed\nVersion: 0.5\n")
	got, err := Installed(root)
	if want := map[string]string{"netperf": "2.7.1"}; err != nil || !maps.Equal(got, want) {
		t.Errorf("by dpkg: %v, %v; want %v", got, err, want)
	}
	m := Manifest{Packages: []Package{{"iperf3", "3.18", ""}, {"postgresql-17", "17.6", ""}, {"postgresql-common", "1", ""}, {"dash", "0.5", ""}}}
	write(t, root, manifestPath, string(m.encode()))
	got, err = Installed(root)
	if want := map[string]string{"iperf3": "3.18", "postgresql-17": "17.6"}; err != nil || !maps.Equal(got, want) {
		t.Errorf("by the manifest: %v, %v; want %v", got, err, want)
	}
	write(t, root, manifestPath, "{")
	if _, err := Installed(root); err == nil {
		t.Error("a manifest that is none: no error")
	}
}
