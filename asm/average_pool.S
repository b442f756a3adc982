/*
 * Kernel:     average_pool
 * Computes:   y[p][i][j] = saturate(round(float32(sum) * factor) + zero_point), ties to even, where sum is that of
 *             x - x_zero over the window of (i, j) in plane p, and factor that of i and j
 * Prototype:  void pyint8dot_average_pool(const int64_t args[9])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args:
 *             [0] x           const int8_t * or const uint8_t *  planes, one after the other
 *             [1] y           int8_t * or uint8_t *  planes of rows, one after the other; shares no memory with x
 *             [2] planes      >= 0
 *             [3] geometry    const int64_t [10 + 4 rows]:
 *                             [0]     bytes of a row of x, > 0
 *                             [1..2]  rows of a plane of y and columns of a row, > 0
 *                             [3]     columns of a window, > 0
 *                             [4]     bytes of the line from a column of the window to the next
 *                             [5]     columns from a window to the next, > 0
 *                             [6]     bytes of x from a row of the window to the next
 *                             [7]     bytes of the line before the first column of x
 *                             [8]     bytes of the line as far as windows reach, two a column
 *                             [9]     bytes of a plane of x
 *                             [10..]  four words a row of y: bytes from a plane to the first row of its windows that
 *                                     lies in x; how many do, > 0; so many times what x_zero is below 0; bytes
 *                                     from factors to those of the row
 *             [4] factors     const float *  finite; rows of as many as y has columns, and on to a multiple of eight
 *             [5] zero_point  as int8: of a uint8 y less 128
 *             [6] flip_x      0x80 where x is uint8, whose x_zero is then less 128 too; 0 where it is int8
 *             [7] flip_y      the same of y
 *             [8] line        working memory, 32 bytes more than geometry[8]
 * Clobbers:   x1-x17, v0-v7, v16, flags
 * Unused:     x18-x30, v8-v15, v17-v31
 * Stack:      0
 * Over-read:  none
 * Bound:      128 places a window, beyond which sums leave 16 bits
 */
#include "asm.h"

/* Words of the geometry, which its rows follow. */
#define WIDTH           0
#define HEIGHT_OUT      8
#define WIDTH_OUT       16
#define TAPS            24
#define STRIDE          40
#define ROW_STEP        48
#define BEFORE          56
#define LENGTH          64
#define PLANE           72
#define TABLE           80

#define args            x0
#define x_base          x1      /* the plane at hand */
#define y_ptr           x2
#define x_end           x3      /* nothing is read from here on */
#define y_end           x4      /* nothing is written from here on */
#define planes          x5      /* left */
#define geometry        x6
#define table           x7      /* the row at hand */
#define source          x8
#define rows            x9      /* of the window that lie in x */
#define row_step        x10
#define taps            x9      /* along the line */
#define tap_step        x10
#define room            x11     /* bytes that may be read of the window's last row */
#define stride          x11
#define left            x12
#define target          x13
#define factor          x14
#define t0              x15
#define t1              x16
#define count           x17

#define sums            v2      /* of eight columns, and of the eight behind them */
#define more_sums       v3
#define flips_x         v6
#define nothing         v7
#define flips_y         v16
#define starts          v1      /* while a line is made: the sum of no rows at all */
#define zero_points     v5      /* while results are */

/* The sums to codes in d0, the first four by the factors in v3, the others by those in v4. */
.macro to_codes
        sshll   v0.4s, sums.4h, #0
        sshll2  v1.4s, sums.8h, #0
        scvtf   v0.4s, v0.4s
        scvtf   v1.4s, v1.4s
        fmul    v0.4s, v0.4s, v3.4s
        fmul    v1.4s, v1.4s, v4.4s
        fcvtns  v0.4s, v0.4s
        fcvtns  v1.4s, v1.4s
        sqxtn   v0.4h, v0.4s
        sqxtn2  v0.8h, v1.4s
        sqadd   v0.8h, v0.8h, zero_points.8h
        sqxtn   v0.8b, v0.8h
        eor     v0.8b, v0.8b, flips_y.8b
.endm

function average_pool
        ldp     x_base, y_ptr, [args]
        ldp     planes, geometry, [args, #16]
        cbz     planes, L(finished)
        ldp     t0, t1, [args, #40]
        dup     zero_points.8h, w15
        dup     flips_x.16b, w16
        ldr     t0, [args, #56]
        dup     flips_y.16b, w15
        ldr     t0, [geometry, #PLANE]
        madd    x_end, planes, t0, x_base
        ldp     t0, t1, [geometry, #HEIGHT_OUT]
        mul     t0, t0, t1
        madd    y_end, planes, t0, y_ptr
        // The line begins as padding throughout, which adds nothing.
        movi    nothing.16b, #0
        ldr     target, [args, #64]
        ldr     left, [geometry, #LENGTH]
L(pad):
        str     q7, [target], #16
        subs    left, left, #16
        b.hi    L(pad)

L(next_plane):
        add     table, geometry, #TABLE
L(next_row):
        // Down the rows, sixteen columns at a time.
        ldp     source, rows, [table], #16
        ldp     t0, factor, [table], #16
        dup     starts.8h, w15
        ldr     t1, [args, #32]
        add     factor, factor, t1
        ldr     target, [args, #64]
        ldp     row_step, t0, [geometry, #ROW_STEP]
        ldr     left, [geometry, #WIDTH]
        add     target, target, t0
        add     source, source, x_base
        sub     room, x_end, source
        sub     t0, rows, #1
        msub    room, t0, row_step, room
L(down_sixteen):
        cmp     room, #16
        b.lo    L(down_one)
        mov     sums.16b, starts.16b
        mov     more_sums.16b, starts.16b
        mov     t0, source
        mov     count, rows
L(down_next):
        ldr     q0, [t0]
        add     t0, t0, row_step
        eor     v0.16b, v0.16b, flips_x.16b
        saddw   sums.8h, sums.8h, v0.8b
        saddw2  more_sums.8h, more_sums.8h, v0.16b
        subs    count, count, #1
        b.ne    L(down_next)
        stp     q2, q3, [target], #32
        add     source, source, #16
        sub     room, room, #16
        subs    left, left, #16
        b.hi    L(down_sixteen)
        // What ran over the end of the row is padding again.
        add     target, target, left, lsl #1
        stp     q7, q7, [target]
        b       L(along)

        // Column by column where a register would reach beyond the last plane.
L(down_one):
        mov     sums.16b, starts.16b
        mov     t0, source
        mov     count, rows
L(down_one_next):
        ldr     b0, [t0]
        add     t0, t0, row_step
        eor     v0.8b, v0.8b, flips_x.8b
        saddw   sums.8h, sums.8h, v0.8b
        subs    count, count, #1
        b.ne    L(down_one_next)
        str     h2, [target], #2
        add     source, source, #1
        subs    left, left, #1
        b.ne    L(down_one)

        // Along the line, eight results at a time from every place or every second, or one by one.
L(along):
        ldr     source, [args, #64]
        ldr     left, [geometry, #WIDTH_OUT]
        ldp     taps, tap_step, [geometry, #TAPS]
        ldr     stride, [geometry, #STRIDE]
L(next_eight):
        mov     t0, source
        mov     count, taps
        movi    sums.16b, #0
        cmp     stride, #2
        b.hi    L(one_next)
        b.eq    L(two_next)
L(along_next):
        ldr     q0, [t0]
        add     t0, t0, tap_step
        add     sums.8h, sums.8h, v0.8h
        subs    count, count, #1
        b.ne    L(along_next)
        add     source, source, #16
L(eight):
        ldp     q3, q4, [factor], #32
        to_codes
        add     t0, y_ptr, #8
        cmp     t0, y_end
        b.hi    L(pieces)
        // A row's last eight may run over into the next row, which comes later.
        str     d0, [y_ptr], #8
        subs    left, left, #8
        b.hi    L(next_eight)
        add     y_ptr, y_ptr, left
        b       L(row_done)

L(two_next):
        ld2     {v0.8h, v1.8h}, [t0]
        add     t0, t0, tap_step
        add     sums.8h, sums.8h, v0.8h
        subs    count, count, #1
        b.ne    L(two_next)
        add     source, source, #32
        b       L(eight)

L(one_next):
        ldr     h0, [t0]
        add     t0, t0, tap_step
        add     sums.4h, sums.4h, v0.4h
        subs    count, count, #1
        b.ne    L(one_next)
        ldr     s3, [factor], #4
        to_codes
        str     b0, [y_ptr], #1
        add     source, source, stride, lsl #1
        subs    left, left, #1
        b.ne    L(next_eight)
        b       L(row_done)

        // The end of a row that is within eight bytes of the last one's: four, two and one of them.
L(pieces):
        tbz     left, #2, L(two)
        str     s0, [y_ptr], #4
        ext     v0.8b, v0.8b, v0.8b, #4
L(two):
        tbz     left, #1, L(last)
        str     h0, [y_ptr], #2
        ext     v0.8b, v0.8b, v0.8b, #2
L(last):
        tbz     left, #0, L(row_done)
        str     b0, [y_ptr], #1

L(row_done):
        ldr     t0, [geometry, #HEIGHT_OUT]
        add     t0, geometry, t0, lsl #5
        add     t0, t0, #TABLE
        cmp     table, t0
        b.lo    L(next_row)
        ldr     t0, [geometry, #PLANE]
        add     x_base, x_base, t0
        subs    planes, planes, #1
        b.ne    L(next_plane)
L(finished):
        ret
endfunction average_pool
