/*
 * Kernel:     gather_i8
 * Computes:   PackedFormat: element (k, j) of a panel of 8 at 8k + j, from rows that lie anywhere
 * Prototype:  void pyint8dot_gather_i8(const int64_t args[5])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    PackedFormat(8), K group 1
 * Arguments:  x0 = args:
 *             [0] base    const int8_t *   element (k, j) at base + table[k] + j
 *             [1] packed  int8_t *         panels of 8 columns, zeros beyond the last; k bytes a column
 *             [2] k       depth, a multiple of 4, >= 0; at 0 nothing is written
 *             [3] mn      columns, 0 or >= 8
 *             [4] table   const int64_t [k]
 * Clobbers:   x1-x13, v0-v7, v31, flags
 * Unused:     x14-x30, v8-v15, v16-v30
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#define GROUP 1
#include "asm.h"
#include "gather.h"

/* The lower 8 columns of two k make a register of the first panel, the upper ones of the second. */
.macro put_16
        zip1    v4.2d, v0.2d, v1.2d
        zip1    v5.2d, v2.2d, v3.2d
        zip2    v6.2d, v0.2d, v1.2d
        zip2    v7.2d, v2.2d, v3.2d
        stp     q4, q5, [dst], #32
        stp     q6, q7, [dst_high], #32
.endm

/* Four k of one panel, one after the other. */
.macro put_8
        zip1    v4.2d, v0.2d, v1.2d
        zip1    v5.2d, v2.2d, v3.2d
        stp     q4, q5, [dst], #32
.endm

function gather_i8
        gather_panels
endfunction gather_i8
