/*
 * The convolution of a channel with a window of its own: the walk over its pixels.
 *
 * A tile is four rows of sixteen columns, row i in v[16 + 4i] to v[19 + 4i], so that a weight is
 * fetched once for 64 products.  Where there are fewer rows the last one is done again, and the
 * last sixteen columns end with the row: what is done twice comes out the same.  Only rows of
 * fewer than sixteen columns are stored in pieces.
 *
 * An entry defines, after this header, the macros
 *   sum_taps        adds the taps to the tile: `taps` of them, not 0, at `offset_ptr` and `weight_ptr`
 *   advance_x       the four rows of x by `step` columns
 * which may change v0 to v6, `offset`, `spare`, `t0` and the registers just named.
 * `convolve` is then the body of the entry.
 */
#ifndef PYINT8DOT_DEPTHWISE_H
#define PYINT8DOT_DEPTHWISE_H

#define args            x0
#define x0_ptr          x1      /* four rows at the columns at hand */
#define x1_ptr          x2
#define x2_ptr          x3
#define x3_ptr          x4
#define y0_ptr          x5
#define y1_ptr          x6
#define y2_ptr          x7
#define y3_ptr          x8
#define offset_ptr      x9
#define weight_ptr      x10
#define offset          x11
#define taps            x12     /* left */
#define columns         x13     /* left; the ones at hand, too */
#define rows            x14     /* likewise */
#define spare           x15
#define t0              x16
#define t1              x11     /* where no tap is at hand */
#define step            x12
#define sixteen         x9

#define weight          v6
#define scale           v6
#define flips           v5      /* 0x80 in every byte for uint8, else 0 */
#define zero_points     v7      /* less 128 for uint8 */

/* Row `number` of the four, or the last one there is, which is then done twice and comes out the same. */
.macro point_row number, x_ptr, y_ptr, x_above, y_above
        ldp     t0, t1, [args, #16]
        cmp     rows, #\number
        csel    t0, t0, xzr, hi
        csel    t1, t1, xzr, hi
        add     \x_ptr, \x_above, t0
        add     \y_ptr, \y_above, t1
.endm

/* Sixteen sums to bytes. The conversion saturates at 32 bits, the narrowing and the zero point at 16,
 * the last narrowing at 8: a value beyond any of these limits is beyond the last one as well. */
.macro to_bytes to, other, s0, s1, s2, s3
        scvtf   v\s0\().4s, v\s0\().4s
        scvtf   v\s1\().4s, v\s1\().4s
        scvtf   v\s2\().4s, v\s2\().4s
        scvtf   v\s3\().4s, v\s3\().4s
        fmul    v\s0\().4s, v\s0\().4s, scale.4s
        fmul    v\s1\().4s, v\s1\().4s, scale.4s
        fmul    v\s2\().4s, v\s2\().4s, scale.4s
        fmul    v\s3\().4s, v\s3\().4s, scale.4s
        fcvtns  v\s0\().4s, v\s0\().4s
        fcvtns  v\s1\().4s, v\s1\().4s
        fcvtns  v\s2\().4s, v\s2\().4s
        fcvtns  v\s3\().4s, v\s3\().4s
        sqxtn   v\to\().4h, v\s0\().4s
        sqxtn   v\other\().4h, v\s2\().4s
        sqxtn2  v\to\().8h, v\s1\().4s
        sqxtn2  v\other\().8h, v\s3\().4s
        sqadd   v\to\().8h, v\to\().8h, zero_points.8h
        sqadd   v\other\().8h, v\other\().8h, zero_points.8h
        sqxtn   v\to\().8b, v\to\().8h
        sqxtn2  v\to\().16b, v\other\().8h
        eor     v\to\().16b, v\to\().16b, flips.16b
.endm

/* The first bytes of a register, as many as `columns` says, fewer than sixteen. */
.macro store_bytes register, y_ptr
        tbz     columns, #3, L(four_\register)
        str     d\register, [\y_ptr], #8
        ext     v\register\().16b, v\register\().16b, v\register\().16b, #8
L(four_\register):
        tbz     columns, #2, L(two_\register)
        str     s\register, [\y_ptr], #4
        ext     v\register\().16b, v\register\().16b, v\register\().16b, #4
L(two_\register):
        tbz     columns, #1, L(one_\register)
        str     h\register, [\y_ptr], #2
        ext     v\register\().16b, v\register\().16b, v\register\().16b, #2
L(one_\register):
        tbz     columns, #0, L(none_\register)
        str     b\register, [\y_ptr], #1
L(none_\register):
.endm

/* The first sums of a row, as many as `columns` says, fewer than sixteen. */
.macro store_sums s0, s1, s2, s3, y_ptr
        tbz     columns, #3, L(four_\s0)
        stp     q\s0, q\s1, [\y_ptr], #32
        mov     v\s0\().16b, v\s2\().16b
        mov     v\s1\().16b, v\s3\().16b
L(four_\s0):
        tbz     columns, #2, L(two_\s0)
        str     q\s0, [\y_ptr], #16
        mov     v\s0\().16b, v\s1\().16b
L(two_\s0):
        tbz     columns, #1, L(one_\s0)
        str     d\s0, [\y_ptr], #8
        ext     v\s0\().16b, v\s0\().16b, v\s0\().16b, #8
L(one_\s0):
        tbz     columns, #0, L(none_\s0)
        str     s\s0, [\y_ptr], #4
L(none_\s0):
.endm

/* The whole entry but for its return. */
.macro convolve
        ldp     x0_ptr, y0_ptr, [args]
        ldp     rows, columns, [args, #32]
        cbz     rows, L(finished)
        cbz     columns, L(finished)
        // A uint8 is made as int8 and moved at the end; its zero point moves the other way here.
        ldp     t0, t1, [args, #88]
        dup     zero_points.8h, w16
        lsl     t1, t1, #7
        dup     v0.8h, w11
        sub     zero_points.8h, zero_points.8h, v0.8h

        // Four rows at a time.
L(next_rows):
        point_row 1, x1_ptr, y1_ptr, x0_ptr, y0_ptr
        point_row 2, x2_ptr, y2_ptr, x1_ptr, y1_ptr
        point_row 3, x3_ptr, y3_ptr, x2_ptr, y2_ptr
        ldr     columns, [args, #40]

        // Sixteen columns at a time, all of which begin with the same value.
L(next_columns):
        ldp     taps, offset_ptr, [args, #48]
        ldp     weight_ptr, t0, [args, #64]
        ld1r    {v16.4s}, [t0]
        mov     v17.16b, v16.16b
        mov     v18.16b, v16.16b
        mov     v19.16b, v16.16b
        mov     v20.16b, v16.16b
        mov     v21.16b, v16.16b
        mov     v22.16b, v16.16b
        mov     v23.16b, v16.16b
        mov     v24.16b, v16.16b
        mov     v25.16b, v16.16b
        mov     v26.16b, v16.16b
        mov     v27.16b, v16.16b
        mov     v28.16b, v16.16b
        mov     v29.16b, v16.16b
        mov     v30.16b, v16.16b
        mov     v31.16b, v16.16b
        cbz     taps, L(summed)
        sum_taps

L(summed):
        mov     sixteen, #16
        ldr     t0, [args, #80]
        cbz     t0, L(sums)
        ld1r    {scale.4s}, [t0]
        ldr     t1, [args, #96]
        lsl     t1, t1, #7
        dup     flips.16b, w11
        to_bytes 0, 4, 16, 17, 18, 19
        to_bytes 1, 4, 20, 21, 22, 23
        to_bytes 2, 4, 24, 25, 26, 27
        to_bytes 3, 4, 28, 29, 30, 31
        cmp     columns, sixteen
        b.lo    L(bytes_left)
        str     q0, [y0_ptr]
        str     q1, [y1_ptr]
        str     q2, [y2_ptr]
        str     q3, [y3_ptr]

        // The last sixteen columns end with the row, whichever of them are done already.
        subs    columns, columns, sixteen
        b.eq    L(rows_done)
        cmp     columns, sixteen
        csel    step, columns, sixteen, lo
        csel    columns, sixteen, columns, lo
        add     y0_ptr, y0_ptr, step
        add     y1_ptr, y1_ptr, step
        add     y2_ptr, y2_ptr, step
        add     y3_ptr, y3_ptr, step
L(step_x):
        advance_x
        b       L(next_columns)

        // The same for sums.
L(sums):
        cmp     columns, sixteen
        b.lo    L(sums_left)
        stp     q16, q17, [y0_ptr]
        stp     q18, q19, [y0_ptr, #32]
        stp     q20, q21, [y1_ptr]
        stp     q22, q23, [y1_ptr, #32]
        stp     q24, q25, [y2_ptr]
        stp     q26, q27, [y2_ptr, #32]
        stp     q28, q29, [y3_ptr]
        stp     q30, q31, [y3_ptr, #32]
        subs    columns, columns, sixteen
        b.eq    L(rows_done)
        cmp     columns, sixteen
        csel    step, columns, sixteen, lo
        csel    columns, sixteen, columns, lo
        add     y0_ptr, y0_ptr, step, lsl #2
        add     y1_ptr, y1_ptr, step, lsl #2
        add     y2_ptr, y2_ptr, step, lsl #2
        add     y3_ptr, y3_ptr, step, lsl #2
        b       L(step_x)

        // Rows of fewer than sixteen columns.
L(bytes_left):
        store_bytes 0, y0_ptr
        store_bytes 1, y1_ptr
        store_bytes 2, y2_ptr
        store_bytes 3, y3_ptr
        b       L(rows_done)
L(sums_left):
        store_sums 16, 17, 18, 19, y0_ptr
        store_sums 20, 21, 22, 23, y1_ptr
        store_sums 24, 25, 26, 27, y2_ptr
        store_sums 28, 29, 30, 31, y3_ptr

        // The next four rows, counted from the first one.
L(rows_done):
        subs    rows, rows, #4
        b.ls    L(finished)
        ldr     t0, [args, #32]
        sub     t0, t0, rows
        ldp     x0_ptr, y0_ptr, [args]
        ldp     x1_ptr, y1_ptr, [args, #16]
        madd    x0_ptr, t0, x1_ptr, x0_ptr
        madd    y0_ptr, t0, y1_ptr, y0_ptr
        b       L(next_rows)
L(finished):
.endm

#endif
