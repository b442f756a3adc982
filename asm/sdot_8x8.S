/*
 * Kernel:     sdot_8x8
 * Computes:   C[i][j] = row_start[i] + col_start[j] + sum over p of A[i][p] * B[p][j], mod 2^32
 * Prototype:  void pyint8dot_sdot_8x8(const int64_t args[9])
 * Requires:   FEAT_DotProd
 * Tile:       8 x 8
 * Packing:    PackedI8K4(8), K group 4
 * Arguments:  x0 = args:
 *             [0] a          const int8_t *   panels of 8 rows, then of 4, 2, 1 as m % 8 has bits; k bytes a row
 *             [1] b          const int8_t *   ceil(n / 8) panels of 8 columns, zeros beyond n; k bytes a column
 *             [2] c          int32_t *        row-major, 4 n bytes written in each of m rows
 *             [3] ldc        bytes from a row of C to the next, any sign
 *             [4] m          rows of C, >= 0
 *             [5] n          columns of C, >= 0
 *             [6] k          packed depth, a multiple of 4, >= 0; at 0 C is only the start values
 *             [7] row_start  const int32_t [m] or null
 *             [8] col_start  const int32_t [n rounded up to 8] or null
 * Clobbers:   x1-x17, v0-v7, v16-v31, flags
 * Unused:     x18-x30, v8-v15
 * Stack:      0
 * Over-read:  none
 * Bound:      exact for k <= 131071, the sum of k products of -128 x -128; beyond it wraps like numpy's int32
 */
#define MR              8
#define NR              8
#define GROUP_LOG2      2
#define TURN_8          2
#define TURN_4          2
#define TURN_2          3
#define TURN_1          4
#include "asm.h"
#include "tile.h"
#include "sdot.h"

/* Dot products are allowed from here to the end of this file only. */
#if defined(__APPLE__)
        .arch_extension dotprod
#else
        .arch   armv8.2-a+dotprod
#endif

/* Four K groups a turn: two groups of operands fill v0..v7, twice. */
.macro main_8
        ld1     {v0.16b, v1.16b, v2.16b, v3.16b}, [a_ptr], #64
        ld1     {v4.16b, v5.16b, v6.16b, v7.16b}, [b_ptr], #64
        dot_8   0, 1, 4, 5
        dot_8   2, 3, 6, 7
        ld1     {v0.16b, v1.16b, v2.16b, v3.16b}, [a_ptr], #64
        ld1     {v4.16b, v5.16b, v6.16b, v7.16b}, [b_ptr], #64
        dot_8   0, 1, 4, 5
        dot_8   2, 3, 6, 7
.endm

/* One K group of eight rows. */
.macro rest_8
        ld1     {v0.16b, v1.16b}, [a_ptr], #32
        ld1     {v4.16b, v5.16b}, [b_ptr], #32
        dot_8   0, 1, 4, 5
.endm

function sdot_8x8
        gemm_8x8
        ret
endfunction sdot_8x8
