// SPDX-License-Identifier: Apache-2.0

package hostfacts

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/econbench/econbench"
)

// Fingerprint reads all of the host's facts that may move a figure, device being its end of the wire: see
// docs/formats.md for the names. What can't be read is absent; a subject that could not be read at all is a doubt, in
// words. It takes some 10 ms.
func Fingerprint(device string) (f econbench.Fingerprint, doubts []string) {
	return collect(trees{"/proc", "/sys"}, device, subjects)
}

// subject is a file fingerprint_*.go. What one of them can't read it leaves away; an error says that it is worth a word.
type subject struct {
	name string
	read func(t trees, device string) (econbench.Fingerprint, error)
}

var subjects = []subject{
	{"kernel", kernelFacts}, {"cpu", cpuFacts}, {"idle", idleFacts}, {"machine", machineFacts}, {"memory", memoryFacts},
	{"sysctl", sysctlFacts}, {"netfilter", netfilterFacts}, {"nic", nicFacts},
}

func collect(t trees, device string, all []subject) (f econbench.Fingerprint, doubts []string) {
	f = econbench.Fingerprint{}
	for _, s := range all {
		found, err := s.guarded(t, device)
		if err != nil {
			doubts = append(doubts, fmt.Sprintf("fingerprint: %s: %v", s.name, err))
		}
		maps.Copy(f, found)
	}
	maps.DeleteFunc(f, func(_, value string) bool { return value == "" })
	return f, doubts
}

// guarded keeps a fault in reading from ending a run that could be measured.
func (s subject) guarded(t trees, device string) (f econbench.Fingerprint, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return s.read(t, device)
}

// trees are where the kernel tells of itself.
type trees struct{ proc, sys string }

// maxFile bounds what is read of one file.
const maxFile = 4 << 20

// content is a file's bytes; nil if it can't be read.
func content(elem ...string) []byte {
	f, err := os.Open(filepath.Join(elem...))
	if err != nil {
		return nil
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil // many files in /sys can be opened and say EINVAL when the device has no such thing
	}
	return b
}

// text is what a file says in words with single blanks between them; "" if it can't be read.
func text(elem ...string) string { return words(string(content(elem...))) }

func words(s string) string {
	return strings.Join(strings.Fields(strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", " "), "?")), " ")
}

// chosen is the word in brackets of a file that lists what could be chosen: "always [madvise] never".
func chosen(elem ...string) string {
	all := text(elem...)
	if _, rest, ok := strings.Cut(all, "["); ok {
		if word, _, ok := strings.Cut(rest, "]"); ok {
			return word
		}
	}
	return all
}

// digest stands for something too long to write out.
func digest(s string) string {
	if s == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])[:12]
}

// runs writes a list on one line, equals side by side as one: "performance*8", "0*3 f".
func runs(list []string) string {
	var parts []string
	for i := 0; i < len(list); {
		n := 1
		for i+n < len(list) && list[i+n] == list[i] {
			n++
		}
		part := list[i]
		if n > 1 {
			part = fmt.Sprintf("%s*%d", part, n)
		}
		parts = append(parts, part)
		i += n
	}
	return strings.Join(parts, " ")
}

// same is the one value that all CPUs have, or runs of them.
func same(list []string) string {
	for _, s := range list {
		if s != list[0] {
			return runs(list)
		}
	}
	if len(list) == 0 {
		return ""
	}
	return list[0]
}
