/*
 * Kernel:     lrn
 * Computes:   y[c][j] = x[c][j] / (sqrt(t) * sqrt(sqrt(t))), t = sum of x[i][j]^2 for i from c - before to c + after,
 *             in rising order, times alpha, plus bias
 * Prototype:  void pyint8dot_lrn(const int64_t args[9])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args:
 *             [0] x         const float *  channels of n pixels, one after the other
 *             [1] y         float *, the same; shares no memory with x
 *             [2] channels  >= 0
 *             [3] n         pixels, >= 16
 *             [4] before    channels, >= 0; where there are fewer, those that there are
 *             [5] after     channels, >= 0; likewise
 *             [6] alpha     const float *
 *             [7] bias      const float *
 *             [8] squares   working memory, 64 bytes a channel
 * Clobbers:   x1-x10, x12-x17, v0-v7, v16-v19, v30-v31, flags
 * Unused:     x11, x18-x30, v8-v15, v20-v29
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"

#define args            x0
#define x               x1      /* the sixteen pixels at hand, first channel */
#define y               x2
#define channels        x3
#define pixels          x4      /* left; the ones at hand, too */
#define before          x5
#define after           x6
#define plane           x7      /* bytes of a channel */
#define squares         x8
#define x_ptr           x9
#define y_ptr           x10
#define square          x12
#define left            x13     /* channels */
#define number          x14     /* of the channel, from 0 */
#define count           x15     /* channels of the window */
#define t0              x16
#define t1              x17

#define alphas          v30
#define biases          v31

/* Sixteen values by themselves. */
.macro square_all
        fmul    v0.4s, v0.4s, v0.4s
        fmul    v1.4s, v1.4s, v1.4s
        fmul    v2.4s, v2.4s, v2.4s
        fmul    v3.4s, v3.4s, v3.4s
.endm

/* Four sums to their root times the root of that: the power of three quarters. */
.macro power sum, root
        fmul    v\sum\().4s, v\sum\().4s, alphas.4s
        fadd    v\sum\().4s, v\sum\().4s, biases.4s
        fsqrt   v\root\().4s, v\sum\().4s
        fsqrt   v\sum\().4s, v\root\().4s
        fmul    v\sum\().4s, v\sum\().4s, v\root\().4s
.endm

function lrn
        ldp     x, y, [args]
        ldp     channels, pixels, [args, #16]
        ldp     before, after, [args, #32]
        ldp     t0, t1, [args, #48]
        ldr     squares, [args, #64]
        cbz     channels, L(finished)
        ld1r    {alphas.4s}, [t0]
        ld1r    {biases.4s}, [t1]
        lsl     plane, pixels, #2

        // Sixteen pixels of all channels at a time: first their squares.
L(next_pixels):
        mov     x_ptr, x
        mov     square, squares
        mov     left, channels
L(next_square):
        ldp     q0, q1, [x_ptr]
        ldp     q2, q3, [x_ptr, #32]
        add     x_ptr, x_ptr, plane
        square_all
        stp     q0, q1, [square], #32
        stp     q2, q3, [square], #32
        subs    left, left, #1
        b.ne    L(next_square)

        // Then channel by channel the sum over its window, as far as there are channels.
        mov     x_ptr, x
        mov     y_ptr, y
        mov     number, #0
L(next_channel):
        subs    t0, number, before
        csel    t0, xzr, t0, lo
        add     t1, number, after
        sub     left, channels, #1
        cmp     t1, left
        csel    t1, left, t1, hi
        sub     count, t1, t0
        add     square, squares, t0, lsl #6
        ldp     q0, q1, [square], #32
        ldp     q2, q3, [square], #32
        cbz     count, L(summed)
L(next_term):
        ldp     q4, q5, [square], #32
        ldp     q6, q7, [square], #32
        subs    count, count, #1
        fadd    v0.4s, v0.4s, v4.4s
        fadd    v1.4s, v1.4s, v5.4s
        fadd    v2.4s, v2.4s, v6.4s
        fadd    v3.4s, v3.4s, v7.4s
        b.ne    L(next_term)
L(summed):
        ldp     q4, q5, [x_ptr]
        ldp     q6, q7, [x_ptr, #32]
        power   0, 16
        power   1, 17
        power   2, 18
        power   3, 19
        fdiv    v0.4s, v4.4s, v0.4s
        fdiv    v1.4s, v5.4s, v1.4s
        fdiv    v2.4s, v6.4s, v2.4s
        fdiv    v3.4s, v7.4s, v3.4s
        stp     q0, q1, [y_ptr]
        stp     q2, q3, [y_ptr, #32]
        add     x_ptr, x_ptr, plane
        add     y_ptr, y_ptr, plane
        add     number, number, #1
        cmp     number, channels
        b.ne    L(next_channel)

        // The last sixteen pixels end with the channel, whichever of them are done already.
        subs    pixels, pixels, #16
        b.eq    L(finished)
        mov     t0, #16
        cmp     pixels, t0
        csel    t1, pixels, t0, lo
        csel    pixels, t0, pixels, lo
        add     x, x, t1, lsl #2
        add     y, y, t1, lsl #2
        b       L(next_pixels)
L(finished):
        ret
endfunction lrn
