/*
 * Kernel:     requantize
 * Computes:   y[i][j] = saturate(round(float32(acc[i][j]) * scale) + zero_point), ties to even
 * Prototype:  void pyint8dot_requantize(const int64_t args[11])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args:
 *             [0] acc          const int32_t *  m rows of n
 *             [1] y            int8_t * or uint8_t *
 *             [2] ld_acc       bytes from a row of acc to the next
 *             [3] ld_y         bytes from a row of y to the next
 *             [4] m            rows, >= 0
 *             [5] n            columns, >= 0
 *             [6] scale        const float *    finite
 *             [7] row_step     bytes from a row's scale to the next: 4, or 0 where all rows have the same
 *             [8] per_column   1: scale holds n values, one a column; 0: one a row
 *             [9] zero_point   within the range of y
 *             [10] unsigned    1: y is uint8; 0: int8
 * Clobbers:   x1-x14, v0-v7, v16-v22, flags
 * Unused:     x15-x30, v8-v15, v23-v31
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"
#include "epilogue.h"

#define scale           x10     /* scale of this row, or of column 0 */
#define row_step        x11
#define scale_ptr       x12     /* scale of the column at hand */

#define t0              x13
#define t1              x14
#define zero_point      w14
#define magic_bits      w9      /* until the first row */

#define magic           v6      /* 1.5 * 2^23, between whose neighbours of float32 lies 1 */
#define offsets         v7      /* the zero point less the bits of `magic` */

/* The scale of a row, in every lane. */
.macro begin_row
        ld1r    {v2.4s}, [scale]
        mov     v3.16b, v2.16b
        mov     scale_ptr, scale
        add     scale, scale, row_step
.endm

/* A product becomes an integer where `magic` is added to it: its fraction is rounded away, ties to even,
 * and as int32 the bits of the sum are those of `magic` plus the integer.  Products too far from 0 for
 * that end on the right side all the same, since the bits of positive floats grow with them and those of
 * negative ones are below 0.  One saturating sum then gives the integer plus the zero point, and what is
 * beyond 32 bits there, or beyond 16 and 8 in the narrowings, is beyond the last of these limits too. */
.macro to_codes narrow
        scvtf   v0.4s, v0.4s
        scvtf   v1.4s, v1.4s
        fmul    v0.4s, v0.4s, v2.4s
        fmul    v1.4s, v1.4s, v3.4s
        fadd    v0.4s, v0.4s, magic.4s
        fadd    v1.4s, v1.4s, magic.4s
        sqadd   v0.4s, v0.4s, offsets.4s
        sqadd   v1.4s, v1.4s, offsets.4s
        sqxtn   v4.4h, v0.4s
        sqxtn2  v4.8h, v1.4s
        \narrow v4.8b, v4.8h
.endm

/* The same for sixteen by the scales in four registers.  Cores convert half as fast as they add and narrow
 * on other units, so conversions come first and narrowings last. */
.macro sixteen_to_codes narrow, s0, s1, s2, s3
        ldp     q16, q17, [acc_ptr], #32
        ldp     q18, q19, [acc_ptr], #32
        scvtf   v16.4s, v16.4s
        scvtf   v17.4s, v17.4s
        scvtf   v18.4s, v18.4s
        fmul    v16.4s, v16.4s, v\s0\().4s
        scvtf   v19.4s, v19.4s
        fmul    v17.4s, v17.4s, v\s1\().4s
        fadd    v16.4s, v16.4s, magic.4s
        fmul    v18.4s, v18.4s, v\s2\().4s
        fadd    v17.4s, v17.4s, magic.4s
        fmul    v19.4s, v19.4s, v\s3\().4s
        sqadd   v16.4s, v16.4s, offsets.4s
        fadd    v18.4s, v18.4s, magic.4s
        sqadd   v17.4s, v17.4s, offsets.4s
        fadd    v19.4s, v19.4s, magic.4s
        sqxtn   v20.4h, v16.4s
        sqadd   v18.4s, v18.4s, offsets.4s
        sqadd   v19.4s, v19.4s, offsets.4s
        sqxtn2  v20.8h, v17.4s
        sqxtn   v21.4h, v18.4s
        sqxtn2  v21.8h, v19.4s
        \narrow v20.8b, v20.8h
        \narrow\()2 v20.16b, v21.8h
        str     q20, [y_ptr], #16
.endm

/* Sixteen results by the scale of their row. */
.macro sixteen_of_row narrow
        sixteen_to_codes \narrow, 2, 2, 2, 2
.endm

/* Eight results by the scales in v2 and v3. */
.macro eight_of_row narrow
        ldp     q0, q1, [acc_ptr], #32
        to_codes \narrow
        str     d4, [y_ptr], #8
.endm

/* One result by the scale in v2. */
.macro one_of_row narrow
        ldr     s0, [acc_ptr], #4
        to_codes \narrow
        str     b4, [y_ptr], #1
.endm

/* Sixteen results, each by its column's scale. */
.macro sixteen_by_column narrow
        ldp     q2, q3, [scale_ptr], #32
        ldp     q5, q22, [scale_ptr], #32
        sixteen_to_codes \narrow, 2, 3, 5, 22
.endm

/* Eight results, each by its column's scale. */
.macro eight_by_column narrow
        ldp     q2, q3, [scale_ptr], #32
        eight_of_row \narrow
.endm

/* One result by its column's scale. */
.macro one_by_column narrow
        ldr     s2, [scale_ptr], #4
        one_of_row \narrow
.endm

/* The walk of results of one type, by the scales of `what`. */
.macro walk_to name, what, narrow
        walk    \name, begin_row, "eight_\what \narrow", "one_\what \narrow", "sixteen_\what \narrow"
.endm

function requantize
        load_block
        ldp     scale, row_step, [args, #48]
        ldp     t0, t1, [args, #64]
        mov     magic_bits, #0x4b400000
        dup     magic.4s, magic_bits
        sub     zero_point, zero_point, magic_bits
        dup     offsets.4s, zero_point
        ldr     t1, [args, #80]

        // One walk for each type of result and each kind of scale, so that nothing is decided within it.
        cbnz    t1, L(unsigned)
        cbnz    t0, L(by_column)
        walk_to row, of_row, sqxtn
L(by_column):
        walk_to column, by_column, sqxtn
L(unsigned):
        cbnz    t0, L(unsigned_by_column)
        walk_to unsigned_row, of_row, sqxtun
L(unsigned_by_column):
        walk_to unsigned_column, by_column, sqxtun
L(finished):
        ret
endfunction requantize
