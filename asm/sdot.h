/*
 * SDOT over packed operands, as every loop over them shares it: one K group of a tile of 8 rows,
 * and everything that tiles of 4, 2 and 1 rows multiply with, main_<rows> and rest_<rows> of tile.h.
 *
 * A kernel includes it after tile.h and then allows dot products; its own is the loop over 8 rows.
 * Where B's panels lie in planes (see planes.h) it includes that first.
 */
#ifndef PYINT8DOT_SDOT_H
#define PYINT8DOT_SDOT_H

/* One K group of B's panel: the next one follows it, or lies a plane apart. */
.macro load_group b0, b1
#ifdef PYINT8DOT_PLANES_H
        ld1     {v\b0\().16b, v\b1\().16b}, [b_ptr], plane
#else
        ld1     {v\b0\().16b, v\b1\().16b}, [b_ptr], #32
#endif
.endm

/* Two of them. */
.macro load_two_groups b0, b1, b2, b3
#ifdef PYINT8DOT_PLANES_H
        load_group \b0, \b1
        load_group \b2, \b3
#else
        ld1     {v\b0\().16b, v\b1\().16b, v\b2\().16b, v\b3\().16b}, [b_ptr], #64
#endif
.endm

/* One row of the tile: four int8 of A against eight columns of four int8 of B. */
.macro dot low, high, b0, b1, word, lane
        sdot    v\low\().4s, v\b0\().16b, v\word\().4b[\lane]
        sdot    v\high\().4s, v\b1\().16b, v\word\().4b[\lane]
.endm

/* Eight rows, one K group. */
.macro dot_8 a0, a1, b0, b1
        dot     16, 17, \b0, \b1, \a0, 0
        dot     18, 19, \b0, \b1, \a0, 1
        dot     20, 21, \b0, \b1, \a0, 2
        dot     22, 23, \b0, \b1, \a0, 3
        dot     24, 25, \b0, \b1, \a1, 0
        dot     26, 27, \b0, \b1, \a1, 1
        dot     28, 29, \b0, \b1, \a1, 2
        dot     30, 31, \b0, \b1, \a1, 3
.endm

/* Four rows, one K group. */
.macro dot_4 a0, b0, b1
        dot     16, 17, \b0, \b1, \a0, 0
        dot     18, 19, \b0, \b1, \a0, 1
        dot     20, 21, \b0, \b1, \a0, 2
        dot     22, 23, \b0, \b1, \a0, 3
.endm

/* Four rows use v16..v23 of the tile; v24..v31 carry B. */
.macro main_4
        ld1     {v0.16b, v1.16b, v2.16b, v3.16b}, [a_ptr], #64
        load_two_groups 4, 5, 6, 7
        load_two_groups 24, 25, 26, 27
        dot_4   0, 4, 5
        dot_4   1, 6, 7
        dot_4   2, 24, 25
        dot_4   3, 26, 27
.endm

/* One K group of four rows. */
.macro rest_4
        ldr     q0, [a_ptr], #16
        load_group 4, 5
        dot_4   0, 4, 5
.endm

/* Two rows, four K groups in two registers of A: odd ones gather in v20..v23, so that eight
 * sums are under way. */
.macro dot_2 a0, a1
        load_two_groups 4, 5, 6, 7
        load_two_groups 24, 25, 26, 27
        dot     16, 17, 4, 5, \a0, 0
        dot     18, 19, 4, 5, \a0, 1
        dot     20, 21, 6, 7, \a0, 2
        dot     22, 23, 6, 7, \a0, 3
        dot     16, 17, 24, 25, \a1, 0
        dot     18, 19, 24, 25, \a1, 1
        dot     20, 21, 26, 27, \a1, 2
        dot     22, 23, 26, 27, \a1, 3
.endm

/* Eight K groups a turn. */
.macro main_2
        ld1     {v0.16b, v1.16b, v2.16b, v3.16b}, [a_ptr], #64
        dot_2   0, 1
        dot_2   2, 3
.endm

/* One K group of two rows. */
.macro rest_2
        ldr     d0, [a_ptr], #8
        load_group 4, 5
        dot     16, 17, 4, 5, 0, 0
        dot     18, 19, 4, 5, 0, 1
.endm

/* One row, four K groups in one register of A: four pairs of sums under way. */
.macro dot_1 a0
        load_two_groups 4, 5, 6, 7
        load_two_groups 24, 25, 26, 27
        dot     16, 17, 4, 5, \a0, 0
        dot     18, 19, 6, 7, \a0, 1
        dot     20, 21, 24, 25, \a0, 2
        dot     22, 23, 26, 27, \a0, 3
.endm

/* One row (a matrix-vector product on the same packed B): sixteen K groups a turn. */
.macro main_1
        ld1     {v0.16b, v1.16b, v2.16b, v3.16b}, [a_ptr], #64
        dot_1   0
        dot_1   1
        dot_1   2
        dot_1   3
.endm

/* One K group of one row. */
.macro rest_1
        ldr     s0, [a_ptr], #4
        load_group 4, 5
        dot     16, 17, 4, 5, 0, 0
.endm

#endif
