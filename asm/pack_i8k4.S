/*
 * Kernel:     pack_i8k4
 * Computes:   PackedI8K4: element (k, j) of a panel of r at (k / 4) * 4r + 4j + k % 4, zeros up to a multiple of 4 k
 * Prototype:  void pyint8dot_pack_i8k4(const int64_t args[8])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    PackedI8K4(8), K group 4
 * Arguments:  x0 = args:
 *             [0] source     const int8_t *   element (k, j) at k * stride_k + j * stride_mn bytes
 *             [1] packed     int8_t *         panels of 8, then by `split`; k rounded up to 4 bytes a row
 *             [2] k          depth, >= 0; at 0 nothing is written
 *             [3] mn         rows (or columns), >= 0
 *             [4] stride_k   bytes, any sign
 *             [5] stride_mn  bytes, any sign; one of the two strides at 1 is the fast way
 *             [6] split      1: the last mn % 8 in panels of 4, 2, 1; 0: in a panel of 8 filled up with zeros
 *             [7] flip       0x80808080 packs uint8 moved to int8, 0 packs int8 as it is; its lower 32 bits count
 * Clobbers:   x0-x17, v0-v7, v16-v31, flags
 * Unused:     x18-x30, v8-v15
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#define GROUP 4
#include "asm.h"
#include "pack.h"
#include "group4.h"

/* Words of four rows, transposed: word g of rows in0..in3 to out_g. */
.macro transpose_words in0, in1, in2, in3, out0, out1, out2, out3
        zip1    v24.4s, v\in0\().4s, v\in2\().4s
        zip1    v25.4s, v\in1\().4s, v\in3\().4s
        zip2    v26.4s, v\in0\().4s, v\in2\().4s
        zip2    v27.4s, v\in1\().4s, v\in3\().4s
        zip1    v\out0\().4s, v24.4s, v25.4s
        zip2    v\out1\().4s, v24.4s, v25.4s
        zip1    v\out2\().4s, v26.4s, v27.4s
        zip2    v\out3\().4s, v26.4s, v27.4s
.endm

/* A K group of a row is a word: rows 0-3 and 4-7 of a group side by side. */
.macro put_rows_8
        transpose_words 0, 1, 2, 3, 16, 18, 20, 22
        transpose_words 4, 5, 6, 7, 17, 19, 21, 23
        stp     q16, q17, [dst], #32
        stp     q18, q19, [dst], #32
        stp     q20, q21, [dst], #32
        stp     q22, q23, [dst], #32
.endm

/* The interleaving stores do the same for four, two and one rows. */
.macro put_rows_4
        st4     {v0.4s, v1.4s, v2.4s, v3.4s}, [dst], #64
.endm

/* Two rows of four K groups. */
.macro put_rows_2
        st2     {v0.4s, v1.4s}, [dst], #32
.endm

/* One row of four K groups lies as it is. */
.macro put_rows_1
        str     q0, [dst], #16
.endm

/* Four k of one column in a word, for the sixteen columns of two panels. */
.macro put_columns_16
        group_all
        stp     q16, q17, [dst], #32
        stp     q18, q19, [dst_high], #32
.endm

/* The same for the eight columns of one panel. */
.macro put_columns_8
        group_low
        stp     q16, q17, [dst], #32
.endm

/* One to three k, and zeros in the place of those that are not there. */
.macro rest_columns n
        movi    v1.2d, #0
        movi    v2.2d, #0
        movi    v3.2d, #0
        load_columns_\n 0
        subs    left, left, #1
        b.eq    L(rest_\n)
        load_columns_\n 1
        subs    left, left, #1
        b.eq    L(rest_\n)
        load_columns_\n 2
L(rest_\n):
        put_columns_\n
.endm

/* The rest of two panels. */
.macro rest_columns_16
        rest_columns 16
.endm

/* The rest of one panel. */
.macro rest_columns_8
        rest_columns 8
.endm

function pack_i8k4
        pack_panels
endfunction pack_i8k4
