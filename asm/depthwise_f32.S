/*
 * Kernel:     depthwise_f32
 * Computes:   y[i][j] = start + weights[0] * x[i][step j + offsets[0]] + weights[1] * ..., from left to right, each product and each sum rounded
 * Prototype:  void pyint8dot_depthwise_f32(const int64_t args[11])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args:
 *             [0] x            const float *  rows of pixels; of each row and tap step * n are there
 *             [1] y            float *        shares no memory with x
 *             [2] ld_x         bytes from a row of x to the next
 *             [3] ld_y         bytes from a row of y to the next
 *             [4] m            rows, >= 0
 *             [5] n            columns, >= 0
 *             [6] step         pixels from the one of a column to that of the next, > 0
 *             [7] taps         > 0
 *             [8] offsets      const int64_t [taps]   bytes from a pixel to the one a tap takes
 *             [9] weights      const float [taps]
 *             [10] start       const float *
 * Clobbers:   x1-x16, v0-v7, v16-v21, flags
 * Unused:     x17-x30, v8-v15, v22-v31
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"

#define args            x0
#define x_row           x1
#define y_row           x2
#define ld_x            x3
#define ld_y            x4
#define rows            x5      /* left */
#define columns         x6
#define step            x7
#define taps            x8      /* left */
#define offset_ptr      x9
#define weight_ptr      x10
#define x_ptr           x11     /* the columns at hand */
#define y_ptr           x12
#define left            x13     /* columns left in the row */
#define offset          x14
#define source          x15
#define t0              x16

#define weight          v20
#define starts          v21

/* The taps from the first one. */
.macro first_tap
        ldp     taps, offset_ptr, [args, #56]
        ldr     weight_ptr, [args, #72]
.endm

/* Where the pixels of the next tap lie, and its weight. */
.macro next_tap
        ldr     offset, [offset_ptr], #8
        ld1r    {weight.4s}, [weight_ptr], #4
        add     source, x_ptr, offset
        subs    taps, taps, #1
.endm

/* Sixteen pixels side by side. */
.macro sixteen_by_one
        ldp     q0, q1, [source]
        ldp     q2, q3, [source, #32]
.endm

/* Four of them. */
.macro four_by_one
        ldr     q0, [source]
.endm

/* Sixteen of which every second one is taken. */
.macro sixteen_by_two
        ldp     q0, q4, [source]
        ldp     q1, q5, [source, #32]
        ldp     q2, q6, [source, #64]
        ldp     q3, q7, [source, #96]
        uzp1    v0.4s, v0.4s, v4.4s
        uzp1    v1.4s, v1.4s, v5.4s
        uzp1    v2.4s, v2.4s, v6.4s
        uzp1    v3.4s, v3.4s, v7.4s
.endm

/* Four of these. */
.macro four_by_two
        ldp     q0, q4, [source]
        uzp1    v0.4s, v0.4s, v4.4s
.endm

/* A row of at least four columns, which lie 2^\shift bytes apart: sixteen at a time, then four. */
.macro walk name, shift
L(sixteen_\name):
        subs    left, left, #16
        b.lo    L(sixteen_end_\name)
        mov     v16.16b, starts.16b
        mov     v17.16b, starts.16b
        mov     v18.16b, starts.16b
        mov     v19.16b, starts.16b
        first_tap
L(sixteen_tap_\name):
        next_tap
        sixteen_\name
        fmul    v0.4s, v0.4s, weight.4s
        fmul    v1.4s, v1.4s, weight.4s
        fmul    v2.4s, v2.4s, weight.4s
        fmul    v3.4s, v3.4s, weight.4s
        fadd    v16.4s, v16.4s, v0.4s
        fadd    v17.4s, v17.4s, v1.4s
        fadd    v18.4s, v18.4s, v2.4s
        fadd    v19.4s, v19.4s, v3.4s
        b.ne    L(sixteen_tap_\name)
        stp     q16, q17, [y_ptr], #32
        stp     q18, q19, [y_ptr], #32
        add     x_ptr, x_ptr, #(16 << \shift)
        b       L(sixteen_\name)
L(sixteen_end_\name):
        adds    left, left, #16
        b.eq    L(row_done)

        // The last four end with the row, whichever of them are done already: what is done twice comes out the same.
L(four_\name):
        subs    t0, left, #4
        b.hs    L(whole_\name)
        add     x_ptr, x_ptr, t0, lsl #\shift
        add     y_ptr, y_ptr, t0, lsl #2
        mov     left, #4
L(whole_\name):
        mov     v16.16b, starts.16b
        first_tap
L(four_tap_\name):
        next_tap
        four_\name
        fmul    v0.4s, v0.4s, weight.4s
        fadd    v16.4s, v16.4s, v0.4s
        b.ne    L(four_tap_\name)
        str     q16, [y_ptr], #16
        add     x_ptr, x_ptr, #(4 << \shift)
        subs    left, left, #4
        b.ne    L(four_\name)
        b       L(row_done)
.endm

function depthwise_f32
        ldp     x_row, y_row, [args]
        ldp     ld_x, ld_y, [args, #16]
        ldp     rows, columns, [args, #32]
        ldr     step, [args, #48]
        ldr     t0, [args, #80]
        cbz     rows, L(finished)
        cbz     columns, L(finished)
        ld1r    {starts.4s}, [t0]

        // Rows of few columns are done one by one, as are pixels further apart than two.
L(next_row):
        mov     x_ptr, x_row
        mov     y_ptr, y_row
        mov     left, columns
        cmp     columns, #4
        b.lo    L(one)
        cmp     step, #2
        b.eq    L(sixteen_by_two)
        b.hi    L(one)
        walk    by_one, 2
        walk    by_two, 3

L(one):
        mov     v16.16b, starts.16b
        first_tap
L(one_tap):
        next_tap
        ldr     s0, [source]
        fmul    v0.4s, v0.4s, weight.4s
        fadd    v16.4s, v16.4s, v0.4s
        b.ne    L(one_tap)
        str     s16, [y_ptr], #4
        add     x_ptr, x_ptr, step, lsl #2
        subs    left, left, #1
        b.ne    L(one)

L(row_done):
        add     x_row, x_row, ld_x
        add     y_row, y_row, ld_y
        subs    rows, rows, #1
        b.ne    L(next_row)
L(finished):
        ret
endfunction depthwise_f32
