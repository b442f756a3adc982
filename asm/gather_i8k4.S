/*
 * Kernel:     gather_i8k4
 * Computes:   PackedI8K4: element (k, j) of a panel of 8 at (k / 4) * 32 + 4j + k % 4, from rows that lie anywhere
 * Prototype:  void pyint8dot_gather_i8k4(const int64_t args[5])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    PackedI8K4(8), K group 4
 * Arguments:  x0 = args:
 *             [0] base    const int8_t *   element (k, j) at base + table[k] + j
 *             [1] packed  int8_t *         panels of 8 columns, zeros beyond the last; k bytes a column
 *             [2] k       depth, a multiple of 4, >= 0; at 0 nothing is written
 *             [3] mn      columns, 0 or >= 8
 *             [4] table   const int64_t [k]
 * Clobbers:   x1-x13, v0-v7, v16-v19, v31, flags
 * Unused:     x14-x30, v8-v15, v20-v30
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#define GROUP 4
#include "asm.h"
#include "gather.h"
#include "group4.h"

/* Bytes of four k: pairs of k, then pairs of pairs, give four k of one column in a word. */
.macro put_16
        group_all
        stp     q16, q17, [dst], #32
        stp     q18, q19, [dst_high], #32
.endm

/* Four k of one panel: four bytes of each of its columns in a word. */
.macro put_8
        group_low
        stp     q16, q17, [dst], #32
.endm

function gather_i8k4
        gather_panels
endfunction gather_i8k4
