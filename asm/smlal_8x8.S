/*
 * Kernel:     smlal_8x8
 * Computes:   C[i][j] = row_start[i] + col_start[j] + sum over p of A[i][p] * B[p][j], mod 2^32
 * Prototype:  void pyint8dot_smlal_8x8(const int64_t args[9])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       8 x 8
 * Packing:    PackedFormat(8), K group 1
 * Arguments:  x0 = args:
 *             [0] a          const int8_t *   panels of 8 rows, then of 4, 2, 1 as m % 8 has bits; k bytes a row
 *             [1] b          const int8_t *   ceil(n / 8) panels of 8 columns, zeros beyond n; k bytes a column
 *             [2] c          int32_t *        row-major, 4 n bytes written in each of m rows
 *             [3] ldc        bytes from a row of C to the next, any sign
 *             [4] m          rows of C, >= 0
 *             [5] n          columns of C, >= 0
 *             [6] k          depth, >= 0; at 0 C is only the start values
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
#define GROUP_LOG2      0
#define TURN_8          2
#define TURN_4          3
#define TURN_2          3
#define TURN_1          3
#include "asm.h"
#include "tile.h"

/* One row of the tile, one k: eight columns of B as int16 times one int16 of A.  Products
 * of int8 fit int16 x int16 -> int32 with room to spare, so -128 x -128 is exact. */
.macro mul low, high, columns16, word, lane
        smlal   v\low\().4s, v\columns16\().4h, v\word\().h[\lane]
        smlal2  v\high\().4s, v\columns16\().8h, v\word\().h[\lane]
.endm

/* Eight rows, one k. */
.macro mul_8 a16, b16
        mul     16, 17, \b16, \a16, 0
        mul     18, 19, \b16, \a16, 1
        mul     20, 21, \b16, \a16, 2
        mul     22, 23, \b16, \a16, 3
        mul     24, 25, \b16, \a16, 4
        mul     26, 27, \b16, \a16, 5
        mul     28, 29, \b16, \a16, 6
        mul     30, 31, \b16, \a16, 7
.endm

/* Two k whose A bytes lie in one register and whose B bytes in another. */
.macro mul_8_pair a8, b8
        sshll   v4.8h, v\a8\().8b, #0
        sshll   v6.8h, v\b8\().8b, #0
        sshll2  v5.8h, v\a8\().16b, #0
        sshll2  v7.8h, v\b8\().16b, #0
        mul_8   4, 6
        mul_8   5, 7
.endm

/* Four k a turn. */
.macro main_8
        ld1     {v0.16b, v1.16b}, [a_ptr], #32
        ld1     {v2.16b, v3.16b}, [b_ptr], #32
        mul_8_pair 0, 2
        mul_8_pair 1, 3
.endm

/* One k of eight rows. */
.macro rest_8
        ldr     d0, [a_ptr], #8
        ldr     d2, [b_ptr], #8
        sshll   v4.8h, v0.8b, #0
        sshll   v6.8h, v2.8b, #0
        mul_8   4, 6
.endm

/* Eight k of B, widened into v4..v7 and v28..v31; v24..v27 take the bytes. */
.macro load_b
        ld1     {v24.16b, v25.16b, v26.16b, v27.16b}, [b_ptr], #64
        sshll   v4.8h, v24.8b, #0
        sshll2  v5.8h, v24.16b, #0
        sshll   v6.8h, v25.8b, #0
        sshll2  v7.8h, v25.16b, #0
        sshll   v28.8h, v26.8b, #0
        sshll2  v29.8h, v26.16b, #0
        sshll   v30.8h, v27.8b, #0
        sshll2  v31.8h, v27.16b, #0
.endm

/* One k of B, at b16, by four lanes of A. */
.macro mul_4 b16, a16, lane0, lane1, lane2, lane3
        mul     16, 17, \b16, \a16, \lane0
        mul     18, 19, \b16, \a16, \lane1
        mul     20, 21, \b16, \a16, \lane2
        mul     22, 23, \b16, \a16, \lane3
.endm

/* Four rows, eight k a turn: A's bytes lie k by k, and so two k fill half a register. */
.macro main_4
        ld1     {v2.16b, v3.16b}, [a_ptr], #32
        load_b
        sshll   v0.8h, v2.8b, #0
        sshll2  v1.8h, v2.16b, #0
        sshll   v2.8h, v3.8b, #0
        sshll2  v3.8h, v3.16b, #0
        mul_4   4, 0, 0, 1, 2, 3
        mul_4   5, 0, 4, 5, 6, 7
        mul_4   6, 1, 0, 1, 2, 3
        mul_4   7, 1, 4, 5, 6, 7
        mul_4   28, 2, 0, 1, 2, 3
        mul_4   29, 2, 4, 5, 6, 7
        mul_4   30, 3, 0, 1, 2, 3
        mul_4   31, 3, 4, 5, 6, 7
.endm

/* One k of four rows. */
.macro rest_4
        ldr     s0, [a_ptr], #4
        ldr     d4, [b_ptr], #8
        sshll   v0.8h, v0.8b, #0
        sshll   v4.8h, v4.8b, #0
        mul_4   4, 0, 0, 1, 2, 3
.endm

/* Two rows, four k: odd ones gather in v20..v23, so that eight sums are under way. */
.macro mul_2 a16, b0, b1, b2, b3
        mul     16, 17, \b0, \a16, 0
        mul     18, 19, \b0, \a16, 1
        mul     20, 21, \b1, \a16, 2
        mul     22, 23, \b1, \a16, 3
        mul     16, 17, \b2, \a16, 4
        mul     18, 19, \b2, \a16, 5
        mul     20, 21, \b3, \a16, 6
        mul     22, 23, \b3, \a16, 7
.endm

/* Two rows, eight k a turn. */
.macro main_2
        ldr     q1, [a_ptr], #16
        load_b
        sshll   v0.8h, v1.8b, #0
        sshll2  v1.8h, v1.16b, #0
        mul_2   0, 4, 5, 6, 7
        mul_2   1, 28, 29, 30, 31
.endm

/* One k of two rows. */
.macro rest_2
        ldr     h0, [a_ptr], #2
        ldr     d4, [b_ptr], #8
        sshll   v0.8h, v0.8b, #0
        sshll   v4.8h, v4.8b, #0
        mul     16, 17, 4, 0, 0
        mul     18, 19, 4, 0, 1
.endm

/* One row: a pair of sums for each k of four. */
.macro main_1
        ldr     d0, [a_ptr], #8
        load_b
        sshll   v0.8h, v0.8b, #0
        mul     16, 17, 4, 0, 0
        mul     18, 19, 5, 0, 1
        mul     20, 21, 6, 0, 2
        mul     22, 23, 7, 0, 3
        mul     16, 17, 28, 0, 4
        mul     18, 19, 29, 0, 5
        mul     20, 21, 30, 0, 6
        mul     22, 23, 31, 0, 7
.endm

/* One k of one row. */
.macro rest_1
        ldr     b0, [a_ptr], #1
        ldr     d4, [b_ptr], #8
        sshll   v0.8h, v0.8b, #0
        sshll   v4.8h, v4.8b, #0
        mul     16, 17, 4, 0, 0
.endm

function smlal_8x8
        gemm_8x8
        ret
endfunction smlal_8x8
