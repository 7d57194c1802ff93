// SPDX-License-Identifier: Apache-2.0

package tune

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench/internal/netspace"
)

// procSys is where sysctls live. What stands under net/ is that of the reading thread's network namespace
// (net_ctl_root, net/sysctl_net.c).
const procSys = "/proc/sys"

// sysctlFile turns a key into its file under /proc/sys. As sysctl(8) has it, the first separator decides: in
// "net.ipv4.conf.eth0/100.forwarding" and "net/ipv4/conf/eth0.100/forwarding" the device is eth0.100.
func sysctlFile(key string) (string, error) {
	file := key
	if i := strings.IndexAny(key, "./"); i >= 0 && key[i] == '.' {
		file = swapDots(key)
	}
	if file == "" || !filepath.IsLocal(file) || path.Clean(file) != file || strings.ContainsAny(file, " \t\n\x00") {
		return "", fmt.Errorf("sysctl %q: want a key like net.ipv4.tcp_no_metrics_save or net/ipv4/tcp_no_metrics_save", key)
	}
	return file, nil
}

func swapDots(s string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, s)
}

// sysctlChange finds the value that a sysctl tuning changes, in the calling thread's network namespace.
func sysctlChange(t Tuning) ([]*change, error) {
	file, err := sysctlFile(t.Key)
	if err != nil {
		return nil, err
	}
	before, err := readSysctl(file)
	if err != nil {
		return nil, err
	}
	return []*change{{Kind: KindSysctl, Name: file, Before: before, After: normal(t.Value)}}, nil
}

// HasSysctl says whether there is such a key in a network namespace.
func HasSysctl(ns netns.NsHandle, key string) (bool, error) {
	_, err := SysctlIn(ns, key)
	if errors.Is(err, errGone) {
		return false, nil
	}
	return err == nil, err
}

func readSysctl(file string) (string, error) {
	b, err := os.ReadFile(filepath.Join(procSys, file))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("sysctl %s: %w: no such key in %s of this network namespace", file, errGone, procSys)
	case err != nil:
		return "", fmt.Errorf("sysctl %s: %w", file, err)
	}
	return normal(string(b)), nil
}

func writeSysctl(file, value string) error {
	f, err := os.OpenFile(filepath.Join(procSys, file), os.O_WRONLY, 0)
	switch {
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("sysctl %s: %w (a container needs a writable /proc/sys: systempaths=unconfined)", file, err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("sysctl %s: %w", file, errGone)
	case err != nil:
		return fmt.Errorf("sysctl %s: %w", file, err)
	}
	if _, err := f.WriteString(value + "\n"); err != nil {
		return errors.Join(fmt.Errorf("sysctl %s: write %q: %w", file, value, err), f.Close())
	}
	return f.Close()
}

// normal writes a value with single spaces: the kernel separates a sysctl's numbers by tabs.
func normal(value string) string { return strings.Join(strings.Fields(value), " ") }

// SetSysctl is SetSysctls of one.
func SetSysctl(ns netns.NsHandle, key, value string) error {
	return SetSysctls(ns, [2]string{key, value})
}

// SetSysctls sets kernel parameters, each a key and its value, of a device that is about to be used, or of a namespace, without a journal: they die with
// what they belong to. One that the kernel does not have is passed over.
func SetSysctls(ns netns.NsHandle, all ...[2]string) error {
	for i := range all {
		file, err := sysctlFile(all[i][0])
		if err != nil {
			return err
		}
		all[i][0] = file
	}
	return netspace.In(ns, func() error {
		for _, s := range all {
			if err := writeSysctl(s[0], s[1]); err != nil && !errors.Is(err, errGone) {
				return err
			}
		}
		return nil
	})
}

// SysctlIn reads a kernel parameter in a network namespace.
func SysctlIn(ns netns.NsHandle, key string) (value string, err error) {
	file, err := sysctlFile(key)
	if err != nil {
		return "", err
	}
	err = netspace.In(ns, func() error {
		value, err = readSysctl(file)
		return err
	})
	return value, err
}
