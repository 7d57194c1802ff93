// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each committed BPF object is told, by the digest of its file.
func TestObjects(t *testing.T) {
	var files []string
	for _, pattern := range []string{"../../*/*_bpfel.o", "../../internal/*/*_bpfel.o"} {
		some, err := filepath.Glob(pattern)
		if err != nil || len(some) == 0 {
			t.Fatalf("%s: objects %q, %v", pattern, some, err)
		}
		files = append(files, some...)
	}
	told := objects()
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(b)
		if name := strings.TrimSuffix(filepath.Base(file), "_bpfel.o"); told[name] != hex.EncodeToString(sum[:6]) {
			t.Errorf("object %s: %q, want %x (a new object needs a line in its folder's Objects)", name, told[name], sum[:6])
		}
	}
	if len(told) != len(files) {
		t.Errorf("objects %v of files %q", told, files)
	}
}
