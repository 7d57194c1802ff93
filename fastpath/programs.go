// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
)

// helperNeed is a helper that programs call, with the kernel that brought it.
type helperNeed struct {
	helper asm.BuiltinFunc
	kernel string
}

// checkHelpers says which helper the kernel lacks, before the verifier says so in its own words.
func checkHelpers(needs []helperNeed) error {
	for _, n := range needs {
		err := features.HaveProgramHelper(ebpf.SchedCLS, n.helper)
		if errors.Is(err, ebpf.ErrNotSupported) {
			return fmt.Errorf("kernel has no helper %s for tc programs: Linux %s or newer is needed", n.helper, n.kernel)
		}
	}
	return nil // a probe that failed otherwise proves nothing: loading will tell
}

// loadPrograms loads some programs of a specification with values for their variables, and with maps of their own but for those
// given. A verifier's refusal is one line; its whole log goes to standard error, which is the agent's log.
func loadPrograms(from *ebpf.CollectionSpec, maps map[string]*ebpf.Map, variables map[string]any, programs ...string) (*ebpf.Collection, error) {
	spec := from.Copy()
	for name := range spec.Programs {
		if !slices.Contains(programs, name) {
			delete(spec.Programs, name)
		}
	}
	for name, value := range variables {
		v := spec.Variables[name]
		if v == nil {
			return nil, fmt.Errorf("program's variable %s: there is none", name)
		}
		if err := v.Set(value); err != nil {
			return nil, fmt.Errorf("program's variable %s: %w", name, err)
		}
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: maps})
	var refusal *ebpf.VerifierError
	if errors.As(err, &refusal) {
		fmt.Fprintf(os.Stderr, "%+v\n", refusal)
		return nil, fmt.Errorf("the kernel's verifier refused a program of %s (its log is the agent's: fastpath attach -v shows it, a run keeps it under logs/): %w",
			strings.Join(programs, ", "), refusal.Cause)
	}
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("load programs: %w (CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN, are needed)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("load programs: %w", err)
	}
	return coll, nil
}
