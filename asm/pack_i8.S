/*
 * Kernel:     pack_i8
 * Computes:   PackedFormat: element (k, j) of a panel of r at k * r + j
 * Prototype:  void pyint8dot_pack_i8(const int64_t args[8])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    PackedFormat(8), K group 1
 * Arguments:  x0 = args:
 *             [0] source     const int8_t *   element (k, j) at k * stride_k + j * stride_mn bytes
 *             [1] packed     int8_t *         panels of 8, then by `split`; k bytes a row
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
#define GROUP 1
#include "asm.h"
#include "pack.h"

/* The bytes of two registers in turn. */
.macro zip_bytes low, high, in0, in1
        zip1    v\low\().16b, v\in0\().16b, v\in1\().16b
        zip2    v\high\().16b, v\in0\().16b, v\in1\().16b
.endm

/* Eight rows of 16 k transposed: three rounds of byte zips, rows 4, 2 and 1 apart. */
.macro put_rows_8
        zip_bytes 16, 17, 0, 4
        zip_bytes 18, 19, 1, 5
        zip_bytes 20, 21, 2, 6
        zip_bytes 22, 23, 3, 7
        zip_bytes 0, 1, 16, 20
        zip_bytes 2, 3, 17, 21
        zip_bytes 4, 5, 18, 22
        zip_bytes 6, 7, 19, 23
        zip_bytes 16, 17, 0, 4
        zip_bytes 18, 19, 1, 5
        zip_bytes 20, 21, 2, 6
        zip_bytes 22, 23, 3, 7
        stp     q16, q17, [dst], #32
        stp     q18, q19, [dst], #32
        stp     q20, q21, [dst], #32
        stp     q22, q23, [dst], #32
.endm

/* The interleaving stores do the same for four, two and one rows. */
.macro put_rows_4
        st4     {v0.16b, v1.16b, v2.16b, v3.16b}, [dst], #64
.endm

/* Two rows of sixteen k. */
.macro put_rows_2
        st2     {v0.16b, v1.16b}, [dst], #32
.endm

/* One row of sixteen k lies as it is. */
.macro put_rows_1
        str     q0, [dst], #16
.endm

/* The low eight columns of each k go to one panel, the high eight to the other. */
.macro put_columns_16
        zip1    v4.2d, v0.2d, v1.2d
        zip1    v5.2d, v2.2d, v3.2d
        zip2    v6.2d, v0.2d, v1.2d
        zip2    v7.2d, v2.2d, v3.2d
        stp     q4, q5, [dst], #32
        stp     q6, q7, [dst_high], #32
.endm

/* Four k of one panel, one after the other. */
.macro put_columns_8
        stp     d0, d1, [dst], #16
        stp     d2, d3, [dst], #16
.endm

/* One to three k, one after the other. */
.macro rest_columns_16
        load_columns_16 0
        str     d0, [dst], #8
        st1     {v0.d}[1], [dst_high], #8
        subs    left, left, #1
        b.ne    L(columns_16_single)
.endm

/* One to three k of one panel, one after the other. */
.macro rest_columns_8
        load_columns_8 0
        str     d0, [dst], #8
        subs    left, left, #1
        b.ne    L(columns_8_single)
.endm

function pack_i8
        pack_panels
endfunction pack_i8
