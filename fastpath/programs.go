// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"errors"
	"fmt"
	"os"

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

func setVariables(spec *ebpf.CollectionSpec, values map[string]any) error {
	for name, value := range values {
		v := spec.Variables[name]
		if v == nil {
			return fmt.Errorf("program's variable %s: there is none", name)
		}
		if err := v.Set(value); err != nil {
			return fmt.Errorf("program's variable %s: %w", name, err)
		}
	}
	return nil
}

// loadCollection loads programs with maps of their own but for those given. A verifier's refusal is one line; its whole log
// goes to standard error, which is the agent's log.
func loadCollection(spec *ebpf.CollectionSpec, maps map[string]*ebpf.Map) (*ebpf.Collection, error) {
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: maps})
	var refusal *ebpf.VerifierError
	if errors.As(err, &refusal) {
		fmt.Fprintf(os.Stderr, "%+v\n", refusal)
		return nil, fmt.Errorf("the kernel's verifier refused a program (-v shows its log): %w", refusal.Cause)
	}
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("load programs: %w (CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN, are needed)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("load programs: %w", err)
	}
	return coll, nil
}
