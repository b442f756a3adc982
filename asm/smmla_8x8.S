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

/* Matrix multiplies are allowed from here to the end of this file only. */
#if defined(__APPLE__)
        .arch_extension i8mm
#else
        .arch   armv8.2-a+i8mm
#endif

/* A K group of two rows of A in one register, and of two columns of B in another: SMMLA adds up a
 * block of four sums, the first row's two and the second row's two.  Four registers are a row pair
 * of eight columns, so until a tile is done its sums are
 *
 *                   columns 0 1   2 3   4 5   6 7
 *          rows 0 1          v8    v9   v10   v11
 *          rows 2 3         v12   v13   v14   v15
 *          rows 4 5         v16   v17   v18   v19
 *          rows 6 7         v20   v21   v22   v23
 *
 * and v0..v7 and v24..v31 carry operands.  A tile of eight rows is then brought into its own layout
 * from its last rows on, each into registers that are free by then. */
.macro multiply_pair sum0, sum1, sum2, sum3, rows, b0, b1, b2, b3
        smmla   v\sum0\().4s, v\rows\().16b, v\b0\().16b
        smmla   v\sum1\().4s, v\rows\().16b, v\b1\().16b
        smmla   v\sum2\().4s, v\rows\().16b, v\b2\().16b
        smmla   v\sum3\().4s, v\rows\().16b, v\b3\().16b
.endm

/* What a row pair starts from: both rows of each block from its two columns' values. */
.macro start_pair s0, s1, s2, s3
        ld4r    {v\s0\().2d, v\s1\().2d, v\s2\().2d, v\s3\().2d}, [col_start]
.endm

/* What a row pair starts from where columns have no values: sixteen zeros as they lie, since copying
 * to lanes takes the cores' vector units, which the multiplies wait for. */
.macro clear_pair s0, s1, s2, s3
        ld1     {v\s0\().4s, v\s1\().4s, v\s2\().4s, v\s3\().4s}, [col_start]
.endm

/* One of the two for so many rows. */
.macro start_pairs n, how
        \how    8, 9, 10, 11
    .if \n >= 4
        \how    12, 13, 14, 15
    .endif
    .if \n == 8
        \how    16, 17, 18, 19
        \how    20, 21, 22, 23
    .endif
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

/* A tile starts from row_start[row] + col_start[column], the former zero when null.  Tiles of one
 * row pair have four blocks more, so that eight sums are under way; those start from zero. */
.macro start_blocks n
    .if \n < 4
        movi    v12.4s, #0
        movi    v13.4s, #0
        movi    v14.4s, #0
        movi    v15.4s, #0
    .endif
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
        start_pairs \n, start_pair
        b       L(blocks_started_\n)
L(no_values_\n):
        start_pairs \n, clear_pair
L(blocks_started_\n):
.endm

/* Two rows of C from their four blocks: the upper and the lower halves of two neighbours side by side. */
.macro unblock_pair row0_low, row0_high, row1_low, row1_high, sum0, sum1, sum2, sum3
        zip1    v\row0_low\().2d, v\sum0\().2d, v\sum1\().2d
        zip1    v\row0_high\().2d, v\sum2\().2d, v\sum3\().2d
        zip2    v\row1_low\().2d, v\sum0\().2d, v\sum1\().2d
        zip2    v\row1_high\().2d, v\sum2\().2d, v\sum3\().2d
.endm

/* The tile in its own layout. */
.macro unblock n
    .if \n == 8
        unblock_pair 24, 25, 26, 27, 16, 17, 18, 19
        unblock_pair 28, 29, 30, 31, 20, 21, 22, 23
    .endif
    .if \n >= 4
        unblock_pair 16, 17, 18, 19, 8, 9, 10, 11
        unblock_pair 20, 21, 22, 23, 12, 13, 14, 15
    .elseif \n == 2
        // Even K groups and odd ones.
        add     v8.4s, v8.4s, v12.4s
        add     v9.4s, v9.4s, v13.4s
        add     v10.4s, v10.4s, v14.4s
        add     v11.4s, v11.4s, v15.4s
        unblock_pair 16, 17, 18, 19, 8, 9, 10, 11
    .else
        // The row stood first where even K groups were multiplied and second where odd ones were.
        zip1    v16.2d, v8.2d, v9.2d
        zip1    v17.2d, v10.2d, v11.2d
        zip2    v18.2d, v12.2d, v13.2d
        zip2    v19.2d, v14.2d, v15.2d
        add     v16.4s, v16.4s, v18.4s
        add     v17.4s, v17.4s, v19.4s
    .endif
.endm

/* A K group of eight rows while the next one is loaded, of which the first registers are needed first. */
.macro multiply_and_load a0, a1, a2, a3, b0, b1, b2, b3, next_a0, next_a1, next_a2, next_a3, next_b0, next_b1, next_b2, next_b3
        ld1     {v\next_a0\().16b, v\next_a1\().16b, v\next_a2\().16b, v\next_a3\().16b}, [a_ptr], #64
        multiply_pair 8, 9, 10, 11, \a0, \b0, \b1, \b2, \b3
        multiply_pair 12, 13, 14, 15, \a1, \b0, \b1, \b2, \b3
        ld1     {v\next_b0\().16b, v\next_b1\().16b, v\next_b2\().16b, v\next_b3\().16b}, [b_ptr], #64
        multiply_pair 16, 17, 18, 19, \a2, \b0, \b1, \b2, \b3
        multiply_pair 20, 21, 22, 23, \a3, \b0, \b1, \b2, \b3
.endm

/* The last K group of eight rows, after which there is nothing to load. */
.macro multiply_last a0, a1, a2, a3, b0, b1, b2, b3
        multiply_pair 8, 9, 10, 11, \a0, \b0, \b1, \b2, \b3
        multiply_pair 12, 13, 14, 15, \a1, \b0, \b1, \b2, \b3
        multiply_pair 16, 17, 18, 19, \a2, \b0, \b1, \b2, \b3
        multiply_pair 20, 21, 22, 23, \a3, \b0, \b1, \b2, \b3
.endm

/* An even K group is at hand in v0..v7, an odd one is loaded to v24..v31. */
.macro even_group
        multiply_and_load 0, 1, 2, 3, 4, 5, 6, 7, 24, 25, 26, 27, 28, 29, 30, 31
.endm

/* The other way round. */
.macro odd_group
        multiply_and_load 24, 25, 26, 27, 28, 29, 30, 31, 0, 1, 2, 3, 4, 5, 6, 7
.endm

/* The whole depth of eight rows, four K groups a pass, each loaded a group before it is needed: an
 * in-order core would wait for every load otherwise. */
.macro multiply_ahead
        cbz     depth, L(multiplied_8)
        cmp     columns, #2
        b.ls    L(narrow_8)
        ld1     {v0.16b, v1.16b, v2.16b, v3.16b}, [a_ptr], #64
        ld1     {v4.16b, v5.16b, v6.16b, v7.16b}, [b_ptr], #64
        // What is still to be loaded.
        sub     t0, depth, #8
        lsr     counter, t0, #5
        cbz     counter, L(two_groups_8)
L(pass_8):
        even_group
        odd_group
        even_group
        odd_group
        subs    counter, counter, #1
        b.ne    L(pass_8)

L(two_groups_8):
        tbz     t0, #4, L(one_group_8)
        even_group
        odd_group
L(one_group_8):
        tbz     t0, #3, L(last_is_even_8)
        even_group
        multiply_last 24, 25, 26, 27, 28, 29, 30, 31
        b       L(multiplied_8)
L(last_is_even_8):
        multiply_last 0, 1, 2, 3, 4, 5, 6, 7
        b       L(multiplied_8)
L(narrow_8):
        multiply_narrow
L(multiplied_8):
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

/* Four rows, one K group. */
.macro multiply_4 a0, a1, b0, b1, b2, b3
        multiply_pair 8, 9, 10, 11, \a0, \b0, \b1, \b2, \b3
        multiply_pair 12, 13, 14, 15, \a1, \b0, \b1, \b2, \b3
.endm

/* Two K groups a turn. */
.macro main_4
        ld1     {v0.16b, v1.16b, v2.16b, v3.16b}, [a_ptr], #64
        ld1     {v4.16b, v5.16b, v6.16b, v7.16b}, [b_ptr], #64
        ld1     {v24.16b, v25.16b, v26.16b, v27.16b}, [b_ptr], #64
        multiply_4 0, 1, 4, 5, 6, 7
        multiply_4 2, 3, 24, 25, 26, 27
.endm

/* One K group of four rows. */
.macro rest_4
        ld1     {v0.16b, v1.16b}, [a_ptr], #32
        ld1     {v4.16b, v5.16b, v6.16b, v7.16b}, [b_ptr], #64
        multiply_4 0, 1, 4, 5, 6, 7
.endm

/* An even K group and the odd one after it, of one row pair: each into its own four blocks. */
.macro multiply_two even, odd
        ld1     {v4.16b, v5.16b, v6.16b, v7.16b}, [b_ptr], #64
        ld1     {v24.16b, v25.16b, v26.16b, v27.16b}, [b_ptr], #64
        multiply_pair 8, 9, 10, 11, \even, 4, 5, 6, 7
        multiply_pair 12, 13, 14, 15, \odd, 24, 25, 26, 27
.endm

/* Two rows, four K groups a turn. */
.macro main_2
        ld1     {v0.16b, v1.16b, v2.16b, v3.16b}, [a_ptr], #64
        multiply_two 0, 1
        multiply_two 2, 3
.endm

/* One K group of two rows. */
.macro rest_2
        ldr     q0, [a_ptr], #16
        ld1     {v4.16b, v5.16b, v6.16b, v7.16b}, [b_ptr], #64
        multiply_pair 8, 9, 10, 11, 0, 4, 5, 6, 7
.endm

/* One row, eight K groups a turn.  Two of them fill a register as if they were two rows, so that
 * half of each block is a sum of it, and the other half is nobody's. */
.macro main_1
        ld1     {v0.16b, v1.16b, v2.16b, v3.16b}, [a_ptr], #64
        multiply_two 0, 0
        multiply_two 1, 1
        multiply_two 2, 2
        multiply_two 3, 3
.endm

/* One K group of one row. */
.macro rest_1
        ldr     d0, [a_ptr], #8
        ld1     {v4.16b, v5.16b, v6.16b, v7.16b}, [b_ptr], #64
        multiply_pair 8, 9, 10, 11, 0, 4, 5, 6, 7
.endm

/* The sums of a tile: by blocks until it is done. */
.macro sum_blocks n
        start_blocks \n
        mov     b_ptr, b_base
    .if \n == 8
        multiply_ahead
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
