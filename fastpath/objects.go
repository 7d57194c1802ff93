// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"crypto/sha256"
	"encoding/hex"
)

// Objects are the compiled BPF programs of this package by name, each as the first 12 hexadecimal digits of its SHA-256: what
// fast paths are made of can change without econbench's version.
func Objects() map[string]string {
	digests := map[string]string{}
	for name, object := range map[string][]byte{"handicap": _HandicapBytes, "oncache": _OncacheBytes} {
		sum := sha256.Sum256(object)
		digests[name] = hex.EncodeToString(sum[:])[:12]
	}
	return digests
}
