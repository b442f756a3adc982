/*
 * Kernel:     smmla_8x8
 * Computes:   C[i][j] = row_start[i] + col_start[j] + sum over p of A[i][p] * B[p][j], mod 2^32
 * Prototype:  void pyint8dot_smmla_8x8(const int64_t args[9])
 * Requires:   FEAT_I8MM
 * Tile:       8 x 8
 * Packing:    PackedI8K8(8), K group 8
 * Arguments:  x0 = args:
 *             [0] a          const int8_t *   panels of 8 rows, then of 4, 2, 1 as m % 8 has bits; k bytes a row
 *             [1] b          const int8_t *   ceil(n / 8) panels of 8 columns, zeros beyond n; k bytes a column
 *             [2] c          int32_t *        row-major, 4 n bytes written in each of m rows
 *             [3] ldc        bytes from a row of C to the next, any sign
 *             [4] m          rows of C, >= 0
 *             [5] n          columns of C, >= 0
 *             [6] k          packed depth, a multiple of 8, >= 0; at 0 C is only the start values
 *             [7] row_start  const int32_t [m] or null
 *             [8] col_start  const int32_t [n rounded up to 8] or null
 * Clobbers:   x1-x17, v0-v7, v16-v31, flags
 * Unused:     x18-x30
 * Stack:      64, keeps d8-d15
 * Over-read:  none
 * Bound:      exact for k <= 131071, the sum of k products of -128 x -128; beyond it wraps like numpy's int32
 */
#define MR              8
#define NR              8
#define GROUP_LOG2      3
#define TURN_4          1
#define TURN_2          2
#define TURN_1          3
#include "asm.h"
#include "tile.h"
#include "smmla.h"

/* Matrix multiplies are allowed from here to the end of this file only. */
#if defined(__APPLE__)
        .arch_extension i8mm
#else
        .arch   armv8.2-a+i8mm
#endif

/* What a row pair starts from: both rows of each block from its two columns' values. */
.macro start_pair s0, s1, s2, s3
        ld4r    {v\s0\().2d, v\s1\().2d, v\s2\().2d, v\s3\().2d}, [col_start]
.endm

/* What a row pair starts from where columns have no values: sixteen zeros as they lie, since copying
 * to lanes takes the cores' vector units, which the multiplies wait for. */
.macro clear_pair s0, s1, s2, s3
        ld1     {v\s0\().4s, v\s1\().4s, v\s2\().4s, v\s3\().4s}, [col_start]
.endm

/* What it starts from where rows have values too: those of two rows are in a register, each twice,
 * and the columns' in v24..v27. */
.macro start_pair_on rows, s0, s1, s2, s3
        add     v\s0\().4s, v24.4s, v\rows\().4s
        add     v\s1\().4s, v25.4s, v\rows\().4s
        add     v\s2\().4s, v26.4s, v\rows\().4s
        add     v\s3\().4s, v27.4s, v\rows\().4s
.endm

/* The values of as many rows as there are, to v0 and v1. */
.macro load_row_starts n
    .if \n == 8
        ldp     q0, q1, [row_ptr], #32
    .elseif \n == 4
        ldr     q0, [row_ptr], #16
    .elseif \n == 2
        ldr     d0, [row_ptr], #8
    .else
        ldr     s0, [row_ptr], #4
    .endif
.endm

/* A tile starts from row_start[row] + col_start[column], the former zero when null. */
.macro start_blocks n
        clear_odd \n
        cbz     row_start, L(columns_alone_\n)
        start_pair 24, 25, 26, 27
        load_row_starts \n
        zip1    v2.4s, v0.4s, v0.4s
        start_pair_on 2, 8, 9, 10, 11
    .if \n >= 4
        zip2    v3.4s, v0.4s, v0.4s
        start_pair_on 3, 12, 13, 14, 15
    .endif
    .if \n == 8
        zip1    v4.4s, v1.4s, v1.4s
        zip2    v5.4s, v1.4s, v1.4s
        start_pair_on 4, 16, 17, 18, 19
        start_pair_on 5, 20, 21, 22, 23
    .endif
        b       L(blocks_started_\n)
L(columns_alone_\n):
        cbz     col_step, L(no_values_\n)
        do_pairs \n, start_pair
        b       L(blocks_started_\n)
L(no_values_\n):
        do_pairs \n, clear_pair
L(blocks_started_\n):
.endm

/* A K group of eight rows and the first two columns of a panel. */
.macro narrow_group a0, a1, a2, a3, b
        ld1     {v\a0\().16b, v\a1\().16b, v\a2\().16b, v\a3\().16b}, [a_ptr], #64
        ldr     q\b, [b_ptr], #64
        smmla   v8.4s, v\a0\().16b, v\b\().16b
        smmla   v12.4s, v\a1\().16b, v\b\().16b
        smmla   v16.4s, v\a2\().16b, v\b\().16b
        smmla   v20.4s, v\a3\().16b, v\b\().16b
.endm

/* Where no more than two columns exist, as in the sums of rows that a zero point of B asks for, a
 * quarter of the multiplies is enough; the loads set the pace. */
.macro multiply_narrow
        lsr     counter, depth, #4
        cbz     counter, L(narrow_rest_8)
L(narrow_pass_8):
        narrow_group 0, 1, 2, 3, 4
        narrow_group 24, 25, 26, 27, 28
        subs    counter, counter, #1
        b.ne    L(narrow_pass_8)
L(narrow_rest_8):
        tbz     depth, #3, L(multiplied_8)
        narrow_group 0, 1, 2, 3, 4
        b       L(multiplied_8)
.endm

/* The whole depth of eight rows. */
.macro multiply_eight
        cbz     depth, L(multiplied_8)
        cmp     columns, #2
        b.ls    L(narrow_8)
        multiply_ahead
        b       L(multiplied_8)
L(narrow_8):
        multiply_narrow
L(multiplied_8):
.endm

/* The sums of a tile: by blocks until it is done. */
.macro sum_blocks n
        start_blocks \n
        mov     b_ptr, b_base
    .if \n == 8
        multiply_eight
    .else
        multiply_panels \n
    .endif
        unblock \n
.endm

/* Sums and two K groups of operands take every vector register. */
function smmla_8x8, framed
        open_frame d8, d9, 64
        keep    d10, d11, 16
        keep    d12, d13, 32
        keep    d14, d15, 48
        frame_stands
        read_arguments
        walk    sum_blocks
        // What belongs to the caller goes back.
        leave_frame
        give_back d14, d15, 48
        give_back d12, d13, 32
        give_back d10, d11, 16
        close_frame d8, d9, 64
        ret
endfunction smmla_8x8, framed
