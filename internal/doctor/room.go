// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"bufio"
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/econbench/econbench/internal/lab"
)

const (
	// labRoom is what internal/lab wants to be free for two engines' data, in bytes.
	labRoom = 1 << 30
	// cacheRoom is what a build of the tool image needs for packages and image, in bytes.
	cacheRoom = 400 << 20
	// memoryRoom is what two engines, containers and programs take with some to spare, in bytes.
	memoryRoom = 1 << 30
)

func checkLabDisk(_ context.Context, m *machine) []Result {
	const name = "engines' data"
	s, err := m.space(lab.DefaultDataRoot)
	switch {
	case err != nil:
		return required(missing(name, err.Error(), "engines have no place for their data", "make the directory usable"))
	case s.overlay:
		return warn(name, fmt.Sprintf("%s is on overlayfs, where engines can't store containers", s.dir),
			"engines' data is kept in memory", "mount another file system at "+lab.DefaultDataRoot)
	case s.free < labRoom:
		return required(missing(name, free(s), fmt.Sprintf("two engines need %s", megabytes(labRoom)), "make room"))
	}
	return required(ok(name, free(s)))
}

func checkCacheDisk(_ context.Context, m *machine) []Result {
	const name = "image cache"
	s, err := m.space(m.options.CacheDir)
	if _, cacheErr := m.cached(); cacheErr == nil && err == nil {
		return ok(name, free(s))
	}
	switch {
	case err != nil:
		return required(missing(name, err.Error(), "the tool image can't be built", "--cache-dir with another folder"))
	case s.free < cacheRoom:
		return required(missing(name, free(s), fmt.Sprintf("building the tool image needs %s", megabytes(cacheRoom)), "make room, or --cache-dir with another folder"))
	}
	return required(ok(name, free(s)))
}

func checkMemory(_ context.Context, m *machine) []Result {
	const name = "memory"
	text, err := m.read("proc/meminfo")
	if err != nil {
		return warn(name, err.Error(), "it is not known whether two engines fit", "mount /proc")
	}
	for sc := bufio.NewScanner(strings.NewReader(text)); sc.Scan(); {
		f := strings.Fields(sc.Text())
		if len(f) < 2 || f[0] != "MemAvailable:" {
			continue
		}
		kib, err := strconv.ParseUint(f[1], 10, 64)
		if err != nil {
			break
		}
		found := megabytes(kib<<10) + " available"
		if kib<<10 < memoryRoom {
			return warn(name, found, "two engines and their containers may be killed for lack of it", "free some")
		}
		return ok(name, found)
	}
	return warn(name, "/proc/meminfo does not say", "it is not known whether two engines fit", "")
}

func free(s space) string { return megabytes(s.free) + " free at " + s.dir }

func megabytes(n uint64) string { return fmt.Sprintf("%d MB", n/1e6) }
