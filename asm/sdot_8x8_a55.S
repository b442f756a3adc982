/*
 * Kernel:     sdot_8x8_a55
 * Computes:   C[i][j] = row_start[i] + col_start[j] + sum over p of A[i][p] * B[p][j], mod 2^32
 * Prototype:  void pyint8dot_sdot_8x8_a55(const int64_t args[9])
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
 * Clobbers:   x0-x17, v0-v7, v16-v31, flags
 * Unused:     x18-x30, v8-v15
 * Stack:      0
 * Over-read:  none
 * Bound:      exact for k <= 131071, the sum of k products of -128 x -128; beyond it wraps like numpy's int32
 */
#define MR              8
#define NR              8
#define GROUP_LOG2      2
#define TURN_4          2
#define TURN_2          3
#define TURN_1          4
#include "asm.h"
#include "tile.h"
#include "sdot.h"

#define upper0          x0      /* upper half of an operand on its way to a vector register, once the arguments are read */
#define upper1          t0      /* that of the next one */

/* Dot products are allowed from here to the end of this file only. */
#if defined(__APPLE__)
        .arch_extension dotprod
#else
        .arch   armv8.2-a+dotprod
#endif

/* Eight rows, one K group, while the next one is loaded from \at bytes after the pointers.
 *
 * Cortex-A55 issues an SDOT together with a load of 64 bits, an INS or a scalar instruction, but a
 * load of 128 bits alone and for two cycles.  So every register is loaded in two halves, the upper
 * one by way of a general register, and each instruction stands before an SDOT to share its cycle.
 * An INS follows its loads by three SDOTs, as long as they take. */
.macro dot_8_load_8 a0, a1, b0, b1, next_a0, next_a1, next_b0, next_b1, at
        ldr     upper0, [a_ptr, #\at + 8]
        sdot    v16.4s, v\b0\().16b, v\a0\().4b[0]
        ldr     d\next_a0, [a_ptr, #\at]
        sdot    v17.4s, v\b1\().16b, v\a0\().4b[0]
        ldr     upper1, [a_ptr, #\at + 24]
        sdot    v18.4s, v\b0\().16b, v\a0\().4b[1]
        ldr     d\next_a1, [a_ptr, #\at + 16]
        sdot    v19.4s, v\b1\().16b, v\a0\().4b[1]
        ins     v\next_a0\().d[1], upper0
        sdot    v20.4s, v\b0\().16b, v\a0\().4b[2]
        ldr     upper0, [b_ptr, #\at + 8]
        sdot    v21.4s, v\b1\().16b, v\a0\().4b[2]
        ldr     d\next_b0, [b_ptr, #\at]
        sdot    v22.4s, v\b0\().16b, v\a0\().4b[3]
        ins     v\next_a1\().d[1], upper1
        sdot    v23.4s, v\b1\().16b, v\a0\().4b[3]
        ldr     upper1, [b_ptr, #\at + 24]
        sdot    v24.4s, v\b0\().16b, v\a1\().4b[0]
        ldr     d\next_b1, [b_ptr, #\at + 16]
        sdot    v25.4s, v\b1\().16b, v\a1\().4b[0]
        ins     v\next_b0\().d[1], upper0
        sdot    v26.4s, v\b0\().16b, v\a1\().4b[1]
    .if \at
        add     a_ptr, a_ptr, #64
    .endif
        sdot    v27.4s, v\b1\().16b, v\a1\().4b[1]
    .if \at
        add     b_ptr, b_ptr, #64
    .endif
        sdot    v28.4s, v\b0\().16b, v\a1\().4b[2]
        ins     v\next_b1\().d[1], upper1
        sdot    v29.4s, v\b1\().16b, v\a1\().4b[2]
    .if \at
        subs    counter, counter, #1
    .endif
        sdot    v30.4s, v\b0\().16b, v\a1\().4b[3]
        sdot    v31.4s, v\b1\().16b, v\a1\().4b[3]
.endm

/* The whole depth of a tile of eight rows, in passes of two K groups.  The first group is loaded
 * before and the last one multiplied after them, with no load beside it: none reads beyond a panel. */
.macro multiply_8
        lsr     counter, depth, #GROUP_LOG2 + 1
        tbnz    depth, #GROUP_LOG2, L(odd_groups)
        cbz     counter, L(multiplied)

        // An even number of groups begins in the middle of a pass.
        ldp     q2, q3, [a_ptr]
        ldp     q6, q7, [b_ptr]
        b       L(half_pass)

L(odd_groups):
        ldp     q0, q1, [a_ptr], #32
        ldp     q4, q5, [b_ptr], #32
        cbz     counter, L(last_group)
L(pass):
        dot_8_load_8 0, 1, 4, 5, 2, 3, 6, 7, 0
L(half_pass):
        dot_8_load_8 2, 3, 6, 7, 0, 1, 4, 5, 32
        b.ne    L(pass)

L(last_group):
        dot_8   0, 1, 4, 5
L(multiplied):
.endm

/* The product of two packed panels: fewer rows than eight are multiplied as everywhere. */
.macro multiply_paired n
    .if \n == 8
        multiply_8
    .else
        multiply_panels \n
    .endif
.endm

/* The sums of a tile, by these multiplications. */
.macro sum_paired n
        sum_tile \n, multiply_paired
.endm

function sdot_8x8_a55
        // The tiles are walked as by the other kernels of packed operands; those of eight rows are multiplied otherwise.
        read_arguments
        walk    sum_paired
        ret
endfunction sdot_8x8_a55
