// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/econbench/econbench"
)

func TestPsiReader(t *testing.T) {
	proc, root := cgroupHost(t, mountsUnified)
	write(t, filepath.Join(proc, "pressure/cpu"), "some avg10=42.11 avg60=61.09 avg300=79.03 total=929237219\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
	write(t, filepath.Join(proc, "pressure/io"), "some avg10=0.00 avg60=0.00 avg300=0.00 total=12\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n")
	write(t, filepath.Join(root, "docker/abc/cpu.pressure"), "some avg10=1.00 avg60=1.00 avg300=1.00 total=1500000\n") // no full before Linux 5.13
	want := econbench.Counters{"cpu.some": 929.237219, "cpu.full": 0, "io.some": 12e-6, "io.full": 7e-6, "container.cpu.some": 1.5}
	same(t, readOnce(t, psiReader{proc}, econbench.Scope{PID: 100}), want)
}

// TestPsiOff: a kernel without it has no folder, one with psi=0 files that can't be read.
func TestPsiOff(t *testing.T) {
	proc, _ := cgroupHost(t, mountsUnified)
	same(t, readOnce(t, psiReader{proc}, econbench.Scope{PID: 100}), econbench.Counters{})
	if err := os.MkdirAll(filepath.Join(proc, "pressure/cpu"), 0o755); err != nil { // reading a folder fails
		t.Fatal(err)
	}
	same(t, readOnce(t, psiReader{proc}, econbench.Scope{PID: 100}), econbench.Counters{})
}

func TestPsiNamesWhatIsWrong(t *testing.T) {
	for content, want := range map[string]string{"": "empty", "some avg10=0.00\n": `line "some avg10=0.00": want`, "few total=1\n": `line "few total=1"`, "some total=-1\n": `"-1"`} {
		proc, _ := cgroupHost(t, mountsUnified)
		write(t, filepath.Join(proc, "pressure/cpu"), content)
		reading, err := psiReader{proc}.Open(econbench.Scope{PID: 100})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = reading.Read(); err == nil || !strings.HasPrefix(err.Error(), "psi: "+proc+"/pressure/cpu: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one that has %s", content, err, want)
		}
	}
}

func TestPsiSamples(t *testing.T) {
	of := func(some float64) econbench.HostWindow {
		return econbench.HostWindow{Seconds: 2, Counters: map[string]econbench.Counters{"psi": {"cpu.some": some}}}
	}
	w := econbench.Window{Client: of(0.5), Server: of(1)}
	samples, _ := Psi{}.Samples(w)
	same(t, values(samples), map[string]float64{"psi_cpu": 0.5})
	w.Client.Counters = nil
	if samples, _ = (Psi{}).Samples(w); len(samples) > 0 {
		t.Errorf("one host was not counted: %v", samples)
	}
}

func FuzzParsePressure(f *testing.F) {
	for _, s := range []string{"some avg10=0.00 avg60=0.00 avg300=0.00 total=12\n", "full total=1", "", "\n", "some total=18446744073709551616"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parsePressure(b); (err == nil) != (len(s) > 0) {
			t.Errorf("%q: %v, %v", b, s, err)
		}
	})
}
