/*
 * Kernel:     gather_i8k8
 * Computes:   PackedI8K8: element (k, j) of a panel of 8 at (k / 8) * 64 + 8j + k % 8, from rows that lie anywhere
 * Prototype:  void pyint8dot_gather_i8k8(const int64_t args[5])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    PackedI8K8(8), K group 8
 * Arguments:  x0 = args:
 *             [0] base    const int8_t *   element (k, j) at base + table[k] + j
 *             [1] packed  int8_t *         panels of 8 columns, zeros beyond the last; k bytes a column
 *             [2] k       depth, a multiple of 8, >= 0; at 0 nothing is written
 *             [3] mn      columns, 0 or >= 8
 *             [4] table   const int64_t [k]
 * Clobbers:   x1-x17, v0-v7, v16-v27, v31, flags
 * Unused:     x18-x30, v8-v15, v28-v30
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#define GROUP 8
#include "asm.h"
#include "gather.h"
#include "group8.h"

/* Eight k of two panels. */
.macro put_16
        put_group_16
.endm

/* Eight k of one panel. */
.macro put_8
        put_group_8
.endm

function gather_i8k8
        gather_panels
endfunction gather_i8k8
