// SPDX-License-Identifier: Apache-2.0

package tracer

// The headers in fastpath/bpf/lib/asm stand for the machine's, which -target bpfel must not see.
//go:generate go tool -modfile=../../tools/go.mod bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -type event -cflags "-O2 -mcpu=v3 -Wall -Wextra -Werror -Wno-unused-parameter -I ../../fastpath/bpf/lib" trace bpf/trace.bpf.c
