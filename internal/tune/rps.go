// SPDX-License-Identifier: Apache-2.0

package tune

import (
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/econbench/econbench/internal/hostfacts"
)

// rpsChanges finds the queues of a device, in the calling thread's network namespace, and the masks they are to have.
// See Documentation/networking/scaling.rst.
func rpsChanges(t Tuning) ([]*change, error) {
	ifi, err := device(KindRPS, t.Device)
	if err != nil {
		return nil, err
	}
	sys, err := mountSysfs()
	if err != nil {
		return nil, err
	}
	defer sys.Close()
	after, err := cpuMask(sys, t.CPUs)
	if err != nil {
		return nil, fmt.Errorf("rps of %s: %w", t.Device, err)
	}
	queues, err := filepath.Glob(sys.path("class/net", t.Device, "queues/rx-*"))
	if err != nil || len(queues) == 0 {
		return nil, errors.Join(fmt.Errorf("rps of %s: device has no receive queues that can be steered (CONFIG_RPS)", t.Device), err)
	}
	slices.Sort(queues)
	var changes []*change
	for _, q := range queues {
		name := filepath.Base(q)
		before, err := readMask(sys.path("class/net", t.Device, "queues", name, "rps_cpus"))
		if err != nil {
			return nil, fmt.Errorf("rps of %s %s: %w", t.Device, name, err)
		}
		changes = append(changes, &change{Kind: KindRPS, Device: t.Device, Ifindex: ifi.Index, Name: name, Before: before, After: after})
	}
	return changes, nil
}

func readRPS(device, queue string) (string, error) {
	sys, err := mountSysfs()
	if err != nil {
		return "", err
	}
	defer sys.Close()
	mask, err := readMask(sys.path("class/net", device, "queues", queue, "rps_cpus"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("rps of %s: queue %s: %w", device, queue, errGone)
	} else if err != nil {
		return "", fmt.Errorf("rps of %s %s: %w", device, queue, err)
	}
	return mask, nil
}

func writeRPS(device, queue, mask string) error {
	sys, err := mountSysfs()
	if err != nil {
		return err
	}
	defer sys.Close()
	f, err := os.OpenFile(sys.path("class/net", device, "queues", queue, "rps_cpus"), os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("rps of %s: queue %s: %w", device, queue, errGone)
	} else if err != nil {
		return fmt.Errorf("rps of %s %s: %w", device, queue, err)
	}
	if _, err := f.WriteString(groups(mask)); err != nil {
		return errors.Join(fmt.Errorf("rps of %s %s: write %s: %w", device, queue, mask, err), f.Close())
	}
	return f.Close()
}

// readMask reads a CPU mask as one hexadecimal number without leading zeros; the kernel pads it to its number of CPUs
// and puts a comma after every 32 bits.
func readMask(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	mask, ok := new(big.Int).SetString(strings.ReplaceAll(normal(string(b)), ",", ""), 16)
	if !ok {
		return "", fmt.Errorf("CPU mask %q: want hexadecimal digits", b)
	}
	return mask.Text(16), nil
}

// groups puts the commas back that bitmap_parse (lib/bitmap-str.c) wants once a mask is longer than 32 bits.
func groups(mask string) string {
	var parts []string
	for ; len(mask) > 8; mask = mask[:len(mask)-8] {
		parts = append(parts, mask[len(mask)-8:])
	}
	parts = append(parts, mask)
	slices.Reverse(parts)
	return strings.Join(parts, ",")
}

func cpuMask(sys *sysfs, cpus []int) (string, error) {
	b, err := os.ReadFile(sys.path("devices/system/cpu/online"))
	if err != nil {
		return "", fmt.Errorf("online CPUs: %w", err)
	}
	list := normal(string(b))
	online, err := hostfacts.ParseCPUs(list)
	if err != nil {
		return "", fmt.Errorf("online CPUs: %w", err)
	}
	mask := new(big.Int)
	for _, cpu := range cpus {
		if !slices.Contains(online, cpu) {
			return "", fmt.Errorf("CPU %d: not online; online are %s", cpu, list)
		}
		mask.SetBit(mask, cpu, 1)
	}
	return mask.Text(16), nil
}
