/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What UAPI headers include by the name of an architecture, for BPF: one object serves all little-endian ones. */
#define __BITS_PER_LONG 64
#include <asm-generic/bitsperlong.h>
