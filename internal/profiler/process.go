// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"debug/elf"
	"debug/gosym"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// process is what is known of a process whose stacks were sampled.
type process struct {
	name  string // as it calls itself
	maps  []mapping
	files map[string]*binaryFile // by their path there
}

// binaries are files that processes execute, each opened once however many run it.
type binaries map[fileID]*binaryFile

type fileID struct{ device, inode uint64 }

// mapping is a part of a file, or of nothing, in a process's memory that it may execute.
type mapping struct {
	from, to, offset uint64
	file             string
}

// lookAt looks at a process. One that has ended has no name. Its files are opened at once: it may end before its stacks are named.
func (known binaries) lookAt(proc string, pid int) *process {
	dir := filepath.Join(proc, strconv.Itoa(pid))
	p := &process{name: "[ended]", files: map[string]*binaryFile{}}
	if comm, err := os.ReadFile(filepath.Join(dir, "comm")); err == nil && strings.TrimSpace(string(comm)) != "" {
		p.name = strings.TrimSpace(string(comm))
	}
	if text, err := os.ReadFile(filepath.Join(dir, "maps")); err == nil {
		p.maps = parseMaps(string(text))
	}
	for _, m := range p.maps {
		if strings.HasPrefix(m.file, "/") && p.files[m.file] == nil {
			p.files[m.file] = known.open(filepath.Join(dir, "root", strings.TrimSuffix(m.file, " (deleted)")))
		}
	}
	return p
}

// open opens a file, or tells nothing of it.
func (known binaries) open(path string) *binaryFile {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	id := fileID{st.Dev, st.Ino}
	if known[id] == nil {
		f, err := os.Open(path)
		if err != nil {
			return nil
		}
		known[id] = &binaryFile{file: f}
	}
	return known[id]
}

func (known binaries) close() {
	for _, b := range known {
		b.file.Close() // was read only
	}
	clear(known)
}

// parseMaps reads /proc/PID/maps: "7f00-7f10 r-xp 00026000 fe:00 1234   /usr/lib/libc.so.6". Lines that are none are passed over.
func parseMaps(text string) (list []mapping) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 5 || !strings.Contains(fields[1], "x") {
			continue
		}
		from, to, ok := strings.Cut(fields[0], "-")
		m := mapping{}
		var errs [3]error
		m.from, errs[0] = strconv.ParseUint(from, 16, 64)
		m.to, errs[1] = strconv.ParseUint(to, 16, 64)
		m.offset, errs[2] = strconv.ParseUint(fields[2], 16, 64)
		if !ok || errs != [3]error{} {
			continue
		}
		m.file = strings.Join(fields[5:], " ")
		list = append(list, m)
	}
	return list
}

// frames are the names of a program's addresses, the outermost first. Programs without frame pointers give addresses that are none:
// there the stack ends. resolved tells whether the innermost one has a function's name.
func (p *process) frames(chain []uint64) (names []string, resolved bool) {
	for i, ip := range chain {
		if i > 0 {
			ip--
		}
		at := slices.IndexFunc(p.maps, func(m mapping) bool { return ip >= m.from && ip < m.to })
		if at < 0 {
			if i == 0 {
				names = append(names, unknown)
			}
			break
		}
		name, ok := p.nameAt(p.maps[at], ip)
		resolved = resolved || ok && i == 0
		if len(names) == 0 || names[len(names)-1] != name || ok {
			names = append(names, name)
		}
	}
	slices.Reverse(names)
	return names, resolved
}

// nameAt is the function's name, or the file's in brackets.
func (p *process) nameAt(m mapping, ip uint64) (name string, ok bool) {
	if !strings.HasPrefix(m.file, "/") {
		if m.file == "" {
			return "[anonymous]", false
		}
		return m.file, m.file == "[vdso]" // brackets are the kernel's
	}
	if f := p.files[m.file]; f != nil {
		if name, ok := f.at(ip - m.from + m.offset); ok {
			return name, true
		}
	}
	return "[" + path.Base(m.file) + "]", false
}

// binaryFile is a program or a library. Its functions are read when the first one is looked for.
type binaryFile struct {
	file      *os.File
	read      bool
	loads     []*elf.Prog
	functions []function
}

// function is one of a file's, by its virtual address there.
type function struct {
	from, to uint64
	name     string
}

// at finds the function that a byte of the file is in.
func (b *binaryFile) at(offset uint64) (name string, ok bool) {
	if !b.read {
		b.read = true
		if err := b.load(); err != nil {
			fmt.Fprintln(os.Stderr, "profile:", err) // its functions stay without names
		}
	}
	for _, l := range b.loads {
		if offset < l.Off || offset >= l.Off+l.Filesz {
			continue
		}
		address := offset - l.Off + l.Vaddr
		i, found := slices.BinarySearchFunc(b.functions, address, func(f function, a uint64) int {
			switch {
			case f.from < a:
				return -1
			case f.from > a:
				return 1
			}
			return 0
		})
		if !found {
			i--
		}
		if i >= 0 && address < b.functions[i].to {
			return b.functions[i].name, true
		}
	}
	return "", false
}

// load reads the symbol tables: the whole one where it was not stripped off, that of what other files may call, and the one that no
// Go program is without.
func (b *binaryFile) load() error {
	f, err := elf.NewFile(b.file)
	if err != nil {
		return fmt.Errorf("symbols of %s: %w", b.file.Name(), err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD {
			b.loads = append(b.loads, p)
		}
	}
	all, _ := f.Symbols() // none: stripped
	dynamic, _ := f.DynamicSymbols()
	for _, s := range append(all, dynamic...) {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC && s.Section != elf.SHN_UNDEF && s.Size > 0 {
			b.functions = append(b.functions, function{s.Value, s.Value + s.Size, s.Name})
		}
	}
	if len(all) == 0 {
		b.functions = append(b.functions, goFunctions(f)...)
	}
	slices.SortStableFunc(b.functions, func(x, y function) int {
		switch {
		case x.from < y.from:
			return -1
		case x.from > y.from:
			return 1
		}
		return plainness(x.name) - plainness(y.name)
	})
	b.functions = slices.CompactFunc(b.functions, func(x, y function) bool { return x.from == y.from })
	return nil
}

// goFunctions are those that a Go program's own table names.
func goFunctions(f *elf.File) (list []function) {
	section, text := f.Section(".gopclntab"), f.Section(".text")
	if section == nil || text == nil {
		return nil
	}
	lines, err := section.Data()
	if err != nil {
		return nil
	}
	table, err := gosym.NewTable(nil, gosym.NewLineTable(lines, text.Addr))
	if err != nil {
		return nil
	}
	for _, fn := range table.Funcs {
		list = append(list, function{fn.Entry, fn.End, fn.Name})
	}
	return list
}
