/*
 * The multiplications that kernels of packed operands on FEAT_I8MM share: sums in blocks of two rows and two
 * columns, K groups of eight, and everything that tiles of 4, 2 and 1 rows multiply with, main_<rows> and
 * rest_<rows> of tile.h.
 *
 * A kernel includes it after tile.h and then allows matrix multiplies; its own are what sums start from and the
 * loop over 8 rows, which `multiply_ahead` is most of.  Where B's panels lie in planes (see planes.h) it
 * includes that first.
 *
 * A K group of two rows of A in one register, and of two columns of B in another: SMMLA adds up a
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
 * from its last rows on, each into registers that are free by then.
 */
#ifndef PYINT8DOT_SMMLA_H
#define PYINT8DOT_SMMLA_H

/* One K group of B's panel: the next one follows it, or lies a plane apart. */
.macro load_group b0, b1, b2, b3
#ifdef PYINT8DOT_PLANES_H
        ld1     {v\b0\().16b, v\b1\().16b, v\b2\().16b, v\b3\().16b}, [b_ptr], plane
#else
        ld1     {v\b0\().16b, v\b1\().16b, v\b2\().16b, v\b3\().16b}, [b_ptr], #64
#endif
.endm

/* A K group of a row pair and a panel. */
.macro multiply_pair sum0, sum1, sum2, sum3, rows, b0, b1, b2, b3
        smmla   v\sum0\().4s, v\rows\().16b, v\b0\().16b
        smmla   v\sum1\().4s, v\rows\().16b, v\b1\().16b
        smmla   v\sum2\().4s, v\rows\().16b, v\b2\().16b
        smmla   v\sum3\().4s, v\rows\().16b, v\b3\().16b
.endm

/* `do_pairs n, macro`: apply a macro to the blocks of each row pair. */
.macro do_pairs n, macro
        \macro  8, 9, 10, 11
    .if \n >= 4
        \macro  12, 13, 14, 15
    .endif
    .if \n == 8
        \macro  16, 17, 18, 19
        \macro  20, 21, 22, 23
    .endif
.endm

/* Tiles of one row pair have four blocks more, so that eight sums are under way; those start from zero. */
.macro clear_odd n
    .if \n < 4
        movi    v12.4s, #0
        movi    v13.4s, #0
        movi    v14.4s, #0
        movi    v15.4s, #0
    .endif
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
        load_group \next_b0, \next_b1, \next_b2, \next_b3
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

/* The whole depth of eight rows, at least a K group, four of them a pass, each loaded a group before it is
 * needed: an in-order core would wait for every load otherwise.  It goes on behind it or at L(multiplied_8). */
.macro multiply_ahead
        ld1     {v0.16b, v1.16b, v2.16b, v3.16b}, [a_ptr], #64
        load_group 4, 5, 6, 7
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
.endm

/* Four rows, one K group. */
.macro multiply_4 a0, a1, b0, b1, b2, b3
        multiply_pair 8, 9, 10, 11, \a0, \b0, \b1, \b2, \b3
        multiply_pair 12, 13, 14, 15, \a1, \b0, \b1, \b2, \b3
.endm

/* Two K groups a turn. */
.macro main_4
        ld1     {v0.16b, v1.16b, v2.16b, v3.16b}, [a_ptr], #64
        load_group 4, 5, 6, 7
        load_group 24, 25, 26, 27
        multiply_4 0, 1, 4, 5, 6, 7
        multiply_4 2, 3, 24, 25, 26, 27
.endm

/* One K group of four rows. */
.macro rest_4
        ld1     {v0.16b, v1.16b}, [a_ptr], #32
        load_group 4, 5, 6, 7
        multiply_4 0, 1, 4, 5, 6, 7
.endm

/* An even K group and the odd one after it, of one row pair: each into its own four blocks. */
.macro multiply_two even, odd
        load_group 4, 5, 6, 7
        load_group 24, 25, 26, 27
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
        load_group 4, 5, 6, 7
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
        load_group 4, 5, 6, 7
        multiply_pair 8, 9, 10, 11, 0, 4, 5, 6, 7
.endm

#endif
