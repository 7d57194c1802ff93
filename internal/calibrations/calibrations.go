// SPDX-License-Identifier: Apache-2.0

// Package calibrations keeps what was learnt about machines, for later runs and reports to quote: a file for each pool, in a
// folder for each machine key. It imports internal/wholefile alone.
//
// It does not know what is in the files: package reports does, which in turn knows nothing of where they lie. Whoever takes a
// file in judges it; a file that can't be taken is named and left out, as a run doesn't fail for want of a quote.
package calibrations

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/econbench/econbench/internal/wholefile"
)

const (
	suffix  = ".json"
	largest = 4 << 20 // B: a calibration has a few KB
)

// Store is a folder of calibrations: DIR/MACHINE/POOL.json.
type Store struct{ Dir string }

// Default is the store of this machine and user: the folder calibrations in $ECONBENCH_STATE, else in /var/lib/econbench for
// root, else in econbench in $XDG_STATE_HOME or ~/.local/state.
func Default() (Store, error) {
	state, err := stateDir(os.Getuid(), os.Getenv)
	if err != nil {
		return Store{}, err
	}
	return Store{filepath.Join(state, "calibrations")}, nil
}

func stateDir(uid int, env func(string) string) (string, error) {
	if dir := env("ECONBENCH_STATE"); dir != "" {
		return dir, nil
	}
	if uid == 0 {
		return "/var/lib/econbench", nil
	}
	if dir := env("XDG_STATE_HOME"); filepath.IsAbs(dir) { // a relative one is to be ignored, says the specification
		return filepath.Join(dir, "econbench"), nil
	}
	if home := env("HOME"); home != "" {
		return filepath.Join(home, ".local", "state", "econbench"), nil
	}
	return "", errors.New("store of calibrations: found none of $ECONBENCH_STATE, $XDG_STATE_HOME, $HOME; want a folder in one of them")
}

// Put stores a pool's calibration under a machine's key, in the place of an earlier one of the same pool, and says where.
func (s Store) Put(machine, pool string, content []byte) (path string, err error) {
	for _, part := range []struct{ what, name string }{{"machine", machine}, {"pool", pool}} {
		if !isName(part.name) {
			return "", fmt.Errorf("store calibration: %s %q: want up to 200 letters, digits, \".\", \"_\" and \"-\", no dot in front", part.what, part.name)
		}
	}
	dir := filepath.Join(s.Dir, machine)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("store calibration: %w", err)
	}
	path = filepath.Join(dir, pool+suffix)
	if err := wholefile.Write(path, content); err != nil {
		return "", fmt.Errorf("store calibration: %w", err)
	}
	return path, nil
}

// Each hands the files of a machine's calibrations to take, by name, and returns a line for each that could not be read or
// that take refused. A machine that has none is no reason for a line.
func (s Store) Each(machine string, take func(content []byte) error) (leftOut []string) {
	if !isName(machine) {
		return nil
	}
	dir := filepath.Join(s.Dir, machine)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return []string{fmt.Sprintf("calibrations %s: not read: %v", dir, bare(err))}
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue // somebody is writing it, or died doing so
		}
		path := filepath.Join(dir, e.Name())
		content, err := read(path, e)
		if err == nil {
			err = take(content)
		}
		if err != nil {
			leftOut = append(leftOut, fmt.Sprintf("calibration %s: left out: %v", path, bare(err)))
		}
	}
	return leftOut
}

func read(path string, e fs.DirEntry) ([]byte, error) {
	if filepath.Ext(path) != suffix || !e.Type().IsRegular() {
		return nil, fmt.Errorf("want a file named *%s", suffix)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, largest+1))
	if err == nil && len(content) > largest {
		err = fmt.Errorf("it has more than %d MiB, which no calibration has", largest>>20)
	}
	return content, err
}

// isName says whether a key or an id from a file can name a file: it must not lead out of the store.
func isName(s string) bool {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r)
	}
	return s != "" && len(s) <= 200 && s[0] != '.' && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0
}

// bare takes operation and path off an error whose message names the path already.
func bare(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
