// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/econbench/econbench"
)

// Interrupts counts those that CPUs send each other, from /proc/interrupts ("cpu0.function_call", "cpu0.reschedule", 1).
//
// Where both hosts are one machine and each has CPUs of its own, a frame gets from one host's CPUs to the other's by such
// an interrupt (RPS: napi_schedule_rps, net/core/dev.c), unless the receiver idles in a polling loop or is still busy
// with the frame before. Between two machines there is none; in a virtual machine one costs its sender an exit to the
// hypervisor, 8 µs where this was written, and a faster path, whose receiver is done sooner, needs more of them.
type Interrupts struct{}

var _ econbench.Collector = Interrupts{}

// manyIPIs is how many interrupts between CPUs, per second and host, are worth a warning.
const manyIPIs = 10_000

// ipiWarning is constant, so that reports can group it.
const ipiWarning = "interrupts: frames took over 10,000 interrupts/s from one host's CPUs to the other's: a wire between machines has none; compare with --placement shared"

func (Interrupts) Name() string { return "interrupts" }
func (Interrupts) Help() string {
	return "interrupts between CPUs from /proc/interrupts; warns when they stand for the wire"
}

func (Interrupts) Samples(w econbench.Window) (_ []econbench.Sample, warnings []string) {
	client, server := hosts(w)
	if !w.SharedKernel || !separate(w) {
		return nil, nil
	}
	for _, h := range []host{client, server} {
		if calls, ok := h.sumCPUs("interrupts", "function_call"); ok && h.Seconds > 0 && calls/float64(h.Seconds) > manyIPIs {
			return nil, []string{ipiWarning}
		}
	}
	return nil, nil
}

type interruptsReader struct{ proc string }

func (interruptsReader) Name() string { return "interrupts" }

func (r interruptsReader) Open(econbench.Scope) (econbench.Reading, error) {
	return &interruptsReading{filepath.Join(r.proc, "interrupts")}, nil
}

type interruptsReading struct{ name string }

func (r *interruptsReading) Close() error { return nil }

func (r *interruptsReading) Read() (econbench.Counters, error) {
	f, err := os.Open(r.name)
	if err != nil {
		return nil, fmt.Errorf("interrupts: %w", err)
	}
	defer f.Close()
	counters, err := parseInterrupts(f)
	if err != nil {
		return nil, fmt.Errorf("interrupts: %s: %w", r.name, err)
	}
	return counters, nil
}

// interprocessor are the descriptions that x86 (arch/x86/kernel/irq.c) and arm64 (arch/arm64/kernel/smp.c) give.
var interprocessor = map[string]string{"Rescheduling interrupts": "reschedule", "Function call interrupts": "function_call"}

// parseInterrupts reads the lines of interrupts between CPUs: a name, a column for each online CPU, a description.
func parseInterrupts(r io.Reader) (econbench.Counters, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20) // machines with many CPUs have long lines
	if !lines.Scan() {
		return nil, fmt.Errorf("no header: %w", orEOF(lines.Err()))
	}
	cpus, err := cpuColumns(lines.Text())
	if err != nil {
		return nil, err
	}
	counters := econbench.Counters{}
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 1+len(cpus) {
			continue // ERR and MIS have one number for all CPUs
		}
		name, ok := interprocessor[strings.Join(fields[1+len(cpus):], " ")]
		if !ok {
			continue
		}
		for i, cpu := range cpus {
			n, err := strconv.ParseUint(fields[1+i], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("line %q: %w", lines.Text(), err)
			}
			counters[perCPU(cpu, name)] = float64(n)
		}
	}
	return counters, lines.Err()
}

func orEOF(err error) error {
	if err == nil {
		return io.EOF
	}
	return err
}
