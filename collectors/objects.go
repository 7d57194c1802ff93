// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"crypto/sha256"
	"encoding/hex"
)

// Objects are the compiled BPF programs of this package by name, each as the first 12 hexadecimal digits of its SHA-256.
func Objects() map[string]string {
	sum := sha256.Sum256(_ExactBytes)
	return map[string]string{"exact": hex.EncodeToString(sum[:])[:12]}
}
