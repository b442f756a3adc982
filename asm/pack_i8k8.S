/*
 * Kernel:     pack_i8k8
 * Computes:   PackedI8K8: element (k, j) of a panel of r at (k / 8) * 8r + 8j + k % 8, zeros up to a multiple of 8 k
 * Prototype:  void pyint8dot_pack_i8k8(const int64_t args[8])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    PackedI8K8(8), K group 8
 * Arguments:  x0 = args:
 *             [0] source     const int8_t *   element (k, j) at k * stride_k + j * stride_mn bytes
 *             [1] packed     int8_t *         panels of 8, then by `split`; k rounded up to 8 bytes a row
 *             [2] k          depth, >= 0; at 0 nothing is written
 *             [3] mn         rows (or columns), >= 0
 *             [4] stride_k   bytes, any sign
 *             [5] stride_mn  bytes, any sign; one of the two strides at 1 is the fast way
 *             [6] split      1: the last mn % 8 in panels of 4, 2, 1; 0: in a panel of 8 filled up with zeros
 *             [7] flip       0x80808080 packs uint8 moved to int8, 0 packs int8 as it is
 * Clobbers:   x0-x17, v0-v7, v16-v31, flags
 * Unused:     x18-x30, v8-v15
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#define GROUP 8
#include "asm.h"
#include "pack.h"
#include "group8.h"

/* A K group of a row is half a register: the lower halves of eight rows, then the upper ones. */
.macro put_rows_8
        zip1    v16.2d, v0.2d, v1.2d
        zip1    v17.2d, v2.2d, v3.2d
        zip1    v18.2d, v4.2d, v5.2d
        zip1    v19.2d, v6.2d, v7.2d
        zip2    v20.2d, v0.2d, v1.2d
        zip2    v21.2d, v2.2d, v3.2d
        zip2    v22.2d, v4.2d, v5.2d
        zip2    v23.2d, v6.2d, v7.2d
        st1     {v16.16b, v17.16b, v18.16b, v19.16b}, [dst], #64
        st1     {v20.16b, v21.16b, v22.16b, v23.16b}, [dst], #64
.endm

/* The interleaving stores do the same for four and two rows. */
.macro put_rows_4
        st4     {v0.2d, v1.2d, v2.2d, v3.2d}, [dst], #64
.endm

/* Two rows of two K groups. */
.macro put_rows_2
        st2     {v0.2d, v1.2d}, [dst], #32
.endm

/* One row of two K groups lies as it is. */
.macro put_rows_1
        str     q0, [dst], #16
.endm

/* Eight k of two panels. */
.macro put_columns_16
        put_group_16
.endm

/* Eight k of one panel. */
.macro put_columns_8
        put_group_8
.endm

/* One k more, if there is one. */
.macro next_column register, columns
        subs    left, left, #1
        b.eq    L(rest_\columns)
        load_columns_\columns \register
.endm

/* One to seven k, and zeros in the place of those that are not there. */
.macro rest_columns columns
        movi    v1.2d, #0
        movi    v2.2d, #0
        movi    v3.2d, #0
        movi    v4.2d, #0
        movi    v5.2d, #0
        movi    v6.2d, #0
        movi    v7.2d, #0
        load_columns_\columns 0
        next_column 1, \columns
        next_column 2, \columns
        next_column 3, \columns
        next_column 4, \columns
        next_column 5, \columns
        next_column 6, \columns
L(rest_\columns):
        put_columns_\columns
.endm

/* The rest of two panels. */
.macro rest_columns_16
        rest_columns 16
.endm

/* The rest of one panel. */
.macro rest_columns_8
        rest_columns 8
.endm

function pack_i8k8
        pack_panels
endfunction pack_i8k8
