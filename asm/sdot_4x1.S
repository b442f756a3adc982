/*
 * Kernel:     sdot_4x1
 * Computes:   C[i][j] = row_start[i] + col_start[j] + sum over p of A[i][p] * B[p][j], mod 2^32
 * Prototype:  void pyint8dot_sdot_4x1(const int64_t args[11])
 * Requires:   FEAT_DotProd
 * Tile:       4 x 1
 * Packing:    PackedI8K16(1), K group 16
 * Arguments:  x0 = args:
 *             [0] a          const int8_t *   A as it lies: m rows of k bytes, lda apart
 *             [1] b          const int8_t *   n columns, element (p, j) at p + j * (k rounded up to 16), zeros beyond k
 *             [2] c          int32_t *        row-major, 4 n bytes written in each of m rows
 *             [3] ldc        bytes from a row of C to the next, any sign
 *             [4] m          rows of C, >= 0
 *             [5] n          columns of C, >= 0
 *             [6] k          depth in bytes, not rounded, >= 0; at 0 C is only the start values
 *             [7] row_start  const int32_t [m] or null
 *             [8] col_start  const int32_t [n] or null
 *             [9] lda        bytes from a row of A to the next, any sign
 *             [10] flip      0x80808080 reads A as uint8 moved to int8, 0 reads int8 as it is; its lower 32 bits count
 * Clobbers:   x0-x17, v0-v7, v16-v27, v30-v31, flags
 * Unused:     x18-x30, v8-v15, v28-v29
 * Stack:      0
 * Over-read:  none
 * Bound:      exact for k <= 131071, the sum of k products of -128 x -128; beyond it wraps like numpy's int32
 */
#include "asm.h"
#include "narrow.h"

/* Dot products are allowed from here to the end of this file only. */
#if defined(__APPLE__)
        .arch_extension dotprod
#else
        .arch   armv8.2-a+dotprod
#endif

/* Four products are added to each lane of a sum. */
.macro multiply sum, other, a, b
        sdot    v\sum\().4s, v\a\().16b, v\b\().16b
.endm

/* Two registers of A by two of B, in two sums. */
.macro multiply_two sum, other, a0, a1, b0, b1
        sdot    v\sum\().4s, v\a0\().16b, v\b0\().16b
        sdot    v\other\().4s, v\a1\().16b, v\b1\().16b
.endm

function sdot_4x1
        gemm_4x1
endfunction sdot_4x1
