// SPDX-License-Identifier: Apache-2.0

package hostfacts

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/econbench/econbench"
)

// machineFacts are what stands around the CPUs. Serial numbers are not read.
func machineFacts(t trees, _ string) (econbench.Fingerprint, error) {
	const dmi = "devices/virtual/dmi/id"
	f := econbench.Fingerprint{
		"machine.vendor":  text(t.sys, dmi, "sys_vendor"),
		"machine.product": text(t.sys, dmi, "product_name"),
		"machine.bios":    words(text(t.sys, dmi, "bios_version") + " " + text(t.sys, dmi, "bios_date")), // sets power limits, too
	}
	switch flags := firstCPU(content(t.proc, "cpuinfo"))["flags"]; {
	case slices.Contains(strings.Fields(flags), "hypervisor"):
		f["machine.virtual"] = cmp.Or(text(t.sys, "hypervisor/type"), "yes")
	case flags != "": // only x86 has flags of that name, and this one
		f["machine.virtual"] = "no"
	}
	return f, nil
}

// memoryFacts are how memory is handed out. What is free is left out: it changes all the time.
func memoryFacts(t trees, _ string) (econbench.Fingerprint, error) {
	f := econbench.Fingerprint{
		"memory.thp":        chosen(t.sys, "kernel/mm/transparent_hugepage/enabled"),
		"memory.thp_defrag": chosen(t.sys, "kernel/mm/transparent_hugepage/defrag"),
		"memory.ksm":        text(t.sys, "kernel/mm/ksm/run"),
	}
	for line := range strings.Lines(string(content(t.proc, "meminfo"))) {
		if value, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			number, _, _ := strings.Cut(words(value), " ")
			if kib, err := strconv.ParseUint(number, 10, 63); err == nil {
				f["memory.total"] = fmt.Sprintf("%.0f GiB", float64(kib)/(1<<20))
			}
		}
	}
	return f, nil
}
