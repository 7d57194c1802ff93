// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/econbench/econbench"
)

const (
	interruptsX86 = `           CPU0       CPU2
  0:         10          0   IO-APIC   2-edge      timer
NMI:          0          0   Non-maskable interrupts
RES:        625        551   Rescheduling interrupts
CAL:       9825      13708   Function call interrupts
ERR:          0
`
	interruptsARM = `           CPU0       CPU1
 11:        100        200     GICv3  27 Level     arch_timer
IPI0:         7          8       Rescheduling interrupts
IPI1:         9         10       Function call interrupts
Err:          0
`
)

func TestParseInterrupts(t *testing.T) {
	for text, want := range map[string]econbench.Counters{
		interruptsX86: {"cpu0.reschedule": 625, "cpu2.reschedule": 551, "cpu0.function_call": 9825, "cpu2.function_call": 13708},
		interruptsARM: {"cpu0.reschedule": 7, "cpu1.reschedule": 8, "cpu0.function_call": 9, "cpu1.function_call": 10},
		"   CPU0\n":   {}, // a kernel for one CPU sends itself none
	} {
		got, err := parseInterrupts(strings.NewReader(text))
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("%v, %v, want %v", got, err, want)
		}
	}
	for text, want := range map[string]string{
		"":            "no header",
		"\n":          "no CPUs",
		"CPU0 GPU1\n": `column "GPU1"`,
		"CPU0\nCAL: x Function call interrupts\n": `line "CAL: x Function call interrupts"`,
	} {
		if _, err := parseInterrupts(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzParseInterrupts(f *testing.F) {
	f.Add(interruptsX86)
	f.Add(interruptsARM)
	f.Fuzz(func(t *testing.T, text string) {
		counters, err := parseInterrupts(strings.NewReader(text))
		if err != nil && counters != nil {
			t.Errorf("%v beside %v", counters, err)
		}
	})
}

// The warning is for frames that cross by interrupts: hosts on one kernel, on CPUs of their own, in numbers.
func TestInterruptsWarnWhenTheyStandForTheWire(t *testing.T) {
	for name, c := range map[string]struct {
		calls  float64
		shared bool
		apart  bool
		server []int
		want   bool
	}{
		"many":             {30_000, true, true, []int{1}, true},
		"few":              {5_000, true, true, []int{1}, false},
		"one CPU for both": {30_000, true, false, []int{0}, false},
		"not steered":      {30_000, true, false, []int{1}, false},
		"two machines":     {30_000, false, true, []int{1}, false},
	} {
		counted := func(cpu int) econbench.HostWindow {
			return econbench.HostWindow{Seconds: 2, Counters: map[string]econbench.Counters{
				"interrupts": {perCPU(cpu, "function_call"): c.calls},
			}}
		}
		_, warnings := Interrupts{}.Samples(econbench.Window{
			Client: counted(0), Server: counted(c.server[0]), ClientCPUs: []int{0}, ServerCPUs: c.server, SharedKernel: c.shared, Apart: c.apart,
		})
		if got := slices.Equal(warnings, []string{ipiWarning}); got != c.want {
			t.Errorf("%s: warnings %q", name, warnings)
		}
	}
}
