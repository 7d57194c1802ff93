// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ringPages of data on each CPU: 256 kB, of the 512 kB that the kernel gives to those without CAP_IPC_LOCK (perf_event_mlock_kb).
const ringPages = 64

// ring is one CPU's event with the memory that the kernel writes samples into.
type ring struct {
	fd   int
	page *unix.PerfEventMmapPage
	mem  []byte
	data []byte
}

// openRings opens an event for each CPU, all of them stopped, or has left nothing open.
func openRings(cpus []int, frequency float64) (rings []*ring, err error) {
	defer func() {
		if err != nil {
			for _, r := range rings {
				err = errors.Join(err, r.close())
			}
			rings = nil
		}
	}()
	for _, cpu := range cpus {
		attr := unix.PerfEventAttr{
			Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK, Sample: uint64(1e9 / frequency), // ns
			Sample_type: unix.PERF_SAMPLE_TID | unix.PERF_SAMPLE_CALLCHAIN, Bits: unix.PerfBitDisabled,
		}
		attr.Size = uint32(unsafe.Sizeof(attr))
		fd, err := unix.PerfEventOpen(&attr, -1, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
		if err != nil {
			return rings, refused(cpu, err)
		}
		r := &ring{fd: fd}
		rings = append(rings, r)
		if r.mem, err = unix.Mmap(fd, 0, (1+ringPages)*pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
			return rings, fmt.Errorf("ring of CPU %d: %w", cpu, err)
		}
		r.page = (*unix.PerfEventMmapPage)(unsafe.Pointer(&r.mem[0]))
		r.data = r.mem[pageSize:]
	}
	return rings, nil
}

// enable lets it run, or stops it.
func (r *ring) enable(on bool) error {
	op := uint(unix.PERF_EVENT_IOC_DISABLE)
	if on {
		op = unix.PERF_EVENT_IOC_ENABLE
	}
	if err := unix.IoctlSetInt(r.fd, op, 0); err != nil {
		return fmt.Errorf("sampling: %w", err)
	}
	return nil
}

// drain takes all records that are whole.
func (r *ring) drain() []byte {
	head, tail := atomic.LoadUint64(&r.page.Data_head), r.page.Data_tail
	size := uint64(len(r.data))
	b := make([]byte, head-tail)
	n := copy(b, r.data[tail%size:])
	copy(b[n:], r.data)
	atomic.StoreUint64(&r.page.Data_tail, head)
	return b
}

func (r *ring) close() (err error) {
	if r.mem != nil {
		err = unix.Munmap(r.mem)
	}
	return errors.Join(err, unix.Close(r.fd))
}

// record is one entry of a ring.
type record struct {
	pid    int
	chain  []uint64 // innermost first, with the kernel's marks
	lost   int
	stops  int // 1: the kernel stopped sampling for a while
	sample bool
}

// parseRecords reads what a ring holds. What it does not know, and what is cut off, it passes over.
func parseRecords(b []byte, each func(record)) {
	const header = 8
	for len(b) >= header {
		kind, size := binary.NativeEndian.Uint32(b), int(binary.NativeEndian.Uint16(b[6:]))
		if size < header || size > len(b) {
			return
		}
		body := b[header:size]
		b = b[size:]
		switch {
		case kind == unix.PERF_RECORD_LOST && len(body) >= 16:
			each(record{lost: int(binary.NativeEndian.Uint64(body[8:]))})
		case kind == unix.PERF_RECORD_THROTTLE:
			each(record{stops: 1})
		case kind == unix.PERF_RECORD_SAMPLE && len(body) >= 16:
			count := binary.NativeEndian.Uint64(body[8:])
			if count > uint64(len(body)-16)/8 {
				continue
			}
			r := record{sample: true, pid: int(int32(binary.NativeEndian.Uint32(body))), chain: make([]uint64, count)}
			for i := range r.chain {
				r.chain[i] = binary.NativeEndian.Uint64(body[16+8*i:])
			}
			each(r)
		}
	}
}

// Marks in a call chain: what follows is the kernel's, or the program's. Of others (a guest's, say) nothing is wanted. They are the
// last 4095 addresses (PERF_CONTEXT_MAX), by linux/perf_event.h.
const (
	markKernel = ^uint64(0) - 128 + 1
	markUser   = ^uint64(0) - 512 + 1
	firstMark  = ^uint64(0) - 4095 + 1
)

// splitChain parts the kernel's addresses from the program's, innermost first.
func splitChain(chain []uint64) (kernel, user []uint64) {
	into := (*[]uint64)(nil)
	for _, ip := range chain {
		switch {
		case ip == markKernel:
			into = &kernel
		case ip == markUser:
			into = &user
		case ip >= firstMark:
			into = nil
		case into != nil:
			*into = append(*into, ip)
		}
	}
	return kernel, user
}
