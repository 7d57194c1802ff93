// SPDX-License-Identifier: Apache-2.0

package tune

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNoDMALatency says that this kernel has no cpu_dma_latency device: idle states cannot be kept out, and wake-ups cost
// what they cost. A caller may go on with a warning.
var ErrNoDMALatency = errors.New("kernel has no cpu_dma_latency device (CONFIG_CPU_IDLE, power management)")

const dmaLatency = "cpu_dma_latency"

// miscMajor is the major number of all misc devices (include/uapi/linux/major.h).
const miscMajor = 10

// holdDMALatency asks for wake-ups within 0 µs for as long as the returned file is open
// (Documentation/power/pm_qos_interface.rst). The kernel forgets it with the process.
func holdDMALatency(dev, misc string) (io.Closer, error) {
	f, err := os.OpenFile(filepath.Join(dev, dmaLatency), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = openMisc(dev, misc)
	}
	if err != nil {
		return nil, fmt.Errorf("dma-latency: %w", err)
	}
	if _, err := f.Write([]byte{0, 0, 0, 0}); err != nil { // an int32; four bytes make it binary
		return nil, errors.Join(fmt.Errorf("dma-latency: write 0: %w", err), f.Close())
	}
	return f, nil
}

// openMisc opens the device where /dev lacks it, as a container's does. The node exists for as long as the open takes,
// in a folder that nobody else can enter.
func openMisc(dev, misc string) (*os.File, error) {
	minor, err := miscMinor(misc, dmaLatency)
	if err != nil {
		return nil, err
	}
	// A container's /dev is its own and, other than /dev/shm and many a /tmp, not mounted nodev.
	dir, err := os.MkdirTemp(dev, ".econbench-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	node := filepath.Join(dir, dmaLatency)
	if err := unix.Mknod(node, unix.S_IFCHR|0o600, int(unix.Mkdev(miscMajor, minor))); err != nil {
		return nil, fmt.Errorf("mknod %s c %d %d (CAP_MKNOD, device rule c 10:* rwm): %w", dmaLatency, miscMajor, minor, err)
	}
	f, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("device %d:%d (device rule c 10:* rwm): %w", miscMajor, minor, err)
	}
	return f, nil
}

// miscMinor finds a device in /proc/misc, whose lines are "259 cpu_dma_latency".
func miscMinor(misc, name string) (uint32, error) {
	f, err := os.Open(misc)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		number, device, _ := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		if device != name {
			continue
		}
		minor, err := strconv.ParseUint(number, 10, 20)
		if err != nil {
			return 0, fmt.Errorf("%s: line %q: want a minor number and a name", misc, lines.Text())
		}
		return uint32(minor), nil
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	return 0, ErrNoDMALatency
}
