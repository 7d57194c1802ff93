// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/econbench/econbench/internal/profile"
)

// symbol is a function of the kernel, from its address to the next one's.
type symbol struct {
	address uint64
	name    string // as a frame
}

// kernelSymbols are in the order of their addresses.
type kernelSymbols []symbol

// readKallsyms reads where the kernel's functions are, those of modules and of BPF programs that are loaded now too.
func readKallsyms(path string) (kernelSymbols, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("kernel's symbols: %w", err)
	}
	defer f.Close()
	return parseKallsyms(f)
}

// parseKallsyms reads lines of /proc/kallsyms: "ffffffffc0a01234 t bpf_prog_6deef7357e7b4530_name\t[bpf]".
func parseKallsyms(r io.Reader) (list kernelSymbols, err error) {
	lines := bufio.NewScanner(r)
	hidden := true
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) < 3 || len(fields[1]) != 1 {
			return nil, fmt.Errorf("kernel's symbols: line %d: %.80q: want address, type and name", n, lines.Text())
		}
		address, err := strconv.ParseUint(fields[0], 16, 64)
		if err != nil {
			return nil, fmt.Errorf("kernel's symbols: line %d: address %.40q: want a hexadecimal number", n, fields[0])
		}
		if !strings.Contains("tTwW", fields[1]) {
			continue
		}
		hidden = hidden && address == 0
		list = append(list, symbol{address, frameOf(fields[2])})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("kernel's symbols: %w", err)
	}
	if hidden {
		return nil, fmt.Errorf("kernel's symbols are hidden: want /proc/sys/kernel/kptr_restrict to be 0 or 1, is %s, and CAP_SYSLOG", kptrRestrict())
	}
	slices.SortStableFunc(list, func(a, b symbol) int {
		switch {
		case a.address < b.address:
			return -1
		case a.address > b.address:
			return 1
		}
		return plainness(a.name) - plainness(b.name)
	})
	return slices.CompactFunc(list, func(a, b symbol) bool { return a.address == b.address }), nil
}

// plainness prefers, of several names for one address, the one that reads like a function's.
func plainness(name string) int {
	return 100*(len(name)-len(strings.TrimLeft(name, "_"))) + strings.Count(name, ".")
}

func kptrRestrict() string {
	b, err := os.ReadFile("/proc/sys/kernel/kptr_restrict")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

// copies are the suffixes that compilers give to a function's parts and variants.
var copies = []string{".isra.", ".constprop.", ".part.", ".cold", ".llvm."}

// frameOf makes a frame of a symbol's name: without what the compiler added, and of a BPF program's (bpf_prog_TAG_name) the name alone,
// so that one program that is loaded with other constants in another arm stays the same frame. A program without a name keeps its tag.
func frameOf(name string) string {
	if rest, ok := strings.CutPrefix(name, "bpf_prog_"); ok {
		if tag, program, named := strings.Cut(rest, "_"); named && program != "" {
			return profile.BPFPrefix + program
		} else if tag != "" {
			return profile.BPFPrefix + tag
		}
	}
	for _, suffix := range copies {
		if at := strings.Index(name, suffix); at > 0 {
			name = name[:at]
		}
	}
	return name + profile.KernelSuffix
}

// at finds the function that an address is in.
func (list kernelSymbols) at(address uint64) (frame string, ok bool) {
	i, found := slices.BinarySearchFunc(list, address, func(s symbol, a uint64) int {
		switch {
		case s.address < a:
			return -1
		case s.address > a:
			return 1
		}
		return 0
	})
	if found {
		return list[i].name, true
	}
	if i == 0 {
		return "", false
	}
	return list[i-1].name, true
}
