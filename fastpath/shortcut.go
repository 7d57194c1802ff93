// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// shortcutTime is how long programs follow a shortcut (bpf/lib/shortcut.h) before they look into the tables again: as long as xmasq lets
// lie between two packets that say what is agreed on.
const shortcutTime = 20 * time.Millisecond

// shortcutTerm is the same in the kernel's jiffies, two at least, since the first one may be over at once. A jiffy is what the coarse
// clocks' hands move by (1/CONFIG_HZ). 0, no shortcuts, on a kernel of PREEMPT_RT: there one program may begin while another is at work on the
// same CPU, and half of an entry is its own.
func shortcutTerm() (uint64, error) {
	if b, err := os.ReadFile("/sys/kernel/realtime"); err == nil && strings.TrimSpace(string(b)) == "1" {
		return 0, nil
	}
	var jiffy unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &jiffy); err != nil {
		return 0, fmt.Errorf("clock_getres CLOCK_MONOTONIC_COARSE: %w", err)
	}
	if jiffy.Nano() <= 0 {
		return 0, fmt.Errorf("clock_getres CLOCK_MONOTONIC_COARSE: %d ns", jiffy.Nano())
	}
	return uint64(max(2, int64(shortcutTime)/jiffy.Nano())), nil
}

// shortcutToken is what a container's programs know each other by. Never 0, which is what a frame's field has that nobody wrote.
func shortcutToken() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return binary.NativeEndian.Uint64(b[:]) | 1<<31
}
