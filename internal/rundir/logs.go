// SPDX-License-Identifier: Apache-2.0

package rundir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxLogName keeps a log's name, a number that tells it from another and the suffix below the 255 B of most file systems.
const maxLogName = 200

// WriteLog keeps a tool's output under logs/ and returns its path relative to the run directory, with forward slashes:
// "logs/b03-overlay-tcp_rr.log". The name is made safe; if it is taken a number is added before its extension.
func (d *Dir) WriteLog(name string, content []byte) (rel string, err error) {
	folder := filepath.Join(d.path, LogsFolder)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("write log %s: %w", folder, bare(err))
	}
	name = safeName(name)
	ext := filepath.Ext(name)
	stem := strings.TrimSuffix(name, ext)
	for i := 2; ; i++ {
		path := filepath.Join(folder, name)
		err := writeNew(path, content)
		if err == nil {
			return LogsFolder + "/" + name, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("write log %s: %w", path, bare(err))
		}
		name = fmt.Sprintf("%s-%d%s", stem, i, ext)
	}
}

// writeNew writes a file that must not exist yet, and leaves none when that fails.
func writeNew(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(path)
	}
	return err
}

// safeName maps any string to a file name without separators, leading dots or anything a shell would trip over.
func safeName(name string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("._-+=", r):
			return r
		}
		return '_'
	}, name)
	name = strings.TrimLeft(name, ".-")
	if name == "" {
		name = "log"
	}
	if len(name) > maxLogName {
		name = name[:maxLogName]
	}
	return name
}
