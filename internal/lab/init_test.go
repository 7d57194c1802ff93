// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"slices"
	"strings"
	"testing"
)

func TestTellingLines(t *testing.T) {
	const info = `time="x" level=info msg="Starting up"` + "\n"
	const noise = `time="x" level=error msg="error reading the kernel parameter net.ipv4.vs.conn_reuse_mode"` + "\n"
	for _, tt := range []struct{ name, log, want string }{
		{"nothing", "", "(empty)"},
		{"told", info + noise + "failed to start daemon: no such driver\n", "failed to start daemon: no such driver"},
		{"only records", info + info, strings.TrimSpace(info) + " | " + strings.TrimSpace(info)},
		{"error", info + `time="x" level=fatal msg="boom"` + "\n" + info, `time="x" level=fatal msg="boom"`},
		{"panic", "a\nb\nc\nd\n", "b | c | d"},
	} {
		if got := tellingLines(tt.log); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestMountsBelow(t *testing.T) {
	const in = `22 27 0:21 / /proc rw - proc proc rw
23 27 0:22 / /sys rw - sysfs sysfs rw
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
33 23 0:33 / /sys/fs/cgroup2 rw - cgroup2 cgroup2 rw
34 23 0:34 / /sys/fs/bpf rw - bpf bpf rw
35 27 0:35 / /system rw - ext4 x rw
`
	want := []string{"/sys/fs/cgroup", "/sys/fs/cgroup2", "/sys/fs/bpf"}
	if got := mountsBelow(strings.NewReader(in), "/sys"); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestInitRefusesStrangers(t *testing.T) {
	for _, args := range [][]string{nil, {"x", "y"}, {"{"}, {"{}"}} {
		if err := InitMain(t.Context(), args); err == nil {
			t.Errorf("%q: taken", args)
		}
	}
}
