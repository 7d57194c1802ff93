/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What UAPI headers include by the name of an architecture, for BPF: one object serves all little-endian ones. */
#include <asm-generic/types.h>
