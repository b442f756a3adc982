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
 * Clobbers:   x1-x14, v0-v4, v6-v7, flags
 * Unused:     x15-x30, v5, v8-v31
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

#define zero_points     v7      /* less 128 for uint8 */
#define flips           v6      /* 0x80 in every byte for uint8, else 0 */

/* The scale of a row, in every lane. */
.macro begin_row
        ld1r    {v2.4s}, [scale]
        mov     v3.16b, v2.16b
        mov     scale_ptr, scale
        add     scale, scale, row_step
.endm

/* The conversion saturates at 32 bits, the narrowing at 16, the zero point at 16 and the last
 * narrowing at 8: a value beyond any of these limits is beyond the last one as well.  uint8 is
 * made as int8 128 below and moved up by its top bit. */
.macro to_int8
        scvtf   v0.4s, v0.4s
        scvtf   v1.4s, v1.4s
        fmul    v0.4s, v0.4s, v2.4s
        fmul    v1.4s, v1.4s, v3.4s
        fcvtns  v0.4s, v0.4s
        fcvtns  v1.4s, v1.4s
        sqxtn   v4.4h, v0.4s
        sqxtn2  v4.8h, v1.4s
        sqadd   v4.8h, v4.8h, zero_points.8h
        sqxtn   v4.8b, v4.8h
        eor     v4.8b, v4.8b, flips.8b
.endm

/* Eight results by the scales in v2 and v3. */
.macro eight_of_row
        ldp     q0, q1, [acc_ptr], #32
        to_int8
        str     d4, [y_ptr], #8
.endm

/* One result by the scale in v2. */
.macro one_of_row
        ldr     s0, [acc_ptr], #4
        to_int8
        str     b4, [y_ptr], #1
.endm

/* Eight results, each by its column's scale. */
.macro eight_by_column
        ldp     q2, q3, [scale_ptr], #32
        eight_of_row
.endm

/* One result by its column's scale. */
.macro one_by_column
        ldr     s2, [scale_ptr], #4
        one_of_row
.endm

function requantize
        load_block
        ldp     scale, row_step, [args, #48]
        ldp     t0, t1, [args, #64]
        dup     zero_points.8h, w14
        // A uint8 is made as int8 and moved at the end; its zero point moves the other way here.
        movi    flips.8b, #0
        ldr     t1, [args, #80]
        cbz     t1, L(choose)
        movi    flips.8b, #0x80
        movi    v4.8h, #128
        sub     zero_points.8h, zero_points.8h, v4.8h

L(choose):
        cbnz    t0, L(by_column)
        walk    row, begin_row, eight_of_row, one_of_row
L(by_column):
        walk    column, begin_row, eight_by_column, one_by_column
L(finished):
        ret
endfunction requantize
