/*
 * Kernel:     layer_norm
 * Computes:   y[i][j] = (t[i][j] - mean t[i]) * (1 / sqrt(mean (t[i] - mean t[i])^2 + eps)) * weight[j] + bias[j] of t = x + residual,
 *             and z[i][j] = y[i][j] * factor[j]
 * Prototype:  void pyint8dot_layer_norm(const int64_t args[14])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args:
 *             [0] x            const float *  m rows of n
 *             [1] y            float *; may be x or residual
 *             [2] ld_x         bytes from a row of x to the next
 *             [3] ld_y         bytes from a row of y to the next
 *             [4] m            rows, >= 0
 *             [5] n            columns, >= 0
 *             [6] weight       const float [n]
 *             [7] bias         const float [n]
 *             [8] eps          const float *
 *             [9] residual     const float *  m rows of n, or null: t is x
 *             [10] ld_residual bytes from a row of residual to the next
 *             [11] factor      const float [n], or null: no z is written
 *             [12] z           float *  m rows of n, apart from y
 *             [13] ld_z        bytes from a row of z to the next
 * Clobbers:   x1-x17, v0-v7, v16-v24, flags
 * Unused:     x18-x30, v8-v15, v25-v31
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"
#include "mean.h"

#define args            x0
#define x               x1
#define y               x2
#define ld_x            x3
#define ld_y            x4
#define rows            x5
#define columns         x6
#define weight          x7
#define bias            x8
#define x_ptr           x9
#define y_ptr           x10
#define weight_ptr      x11
#define bias_ptr        x12
#define left            x13
#define residual        x14
#define z               x15
#define residual_ptr    x16
#define factor_ptr      x16     /* null where there is no z */
#define z_ptr           x17
#define step            x9

#define means           v16
#define inverses        v17     /* 1 / standard deviation */
#define eps             s19

/* Four values to the squares of their distance to the mean. */
.macro square_of_deviation number
        fsub    v\number\().4s, v\number\().4s, means.4s
        fmul    v\number\().4s, v\number\().4s, v\number\().4s
.endm

/* Each step rounded once, in the order of pyint8dot.floats. */
.macro normalise number, with, and
        fsub    v\number\().4s, v\number\().4s, means.4s
        fmul    v\number\().4s, v\number\().4s, inverses.4s
        fmul    v\number\().4s, v\number\().4s, v\with\().4s
        fadd    v\number\().4s, v\number\().4s, v\and\().4s
.endm

function layer_norm
        ldp     x, y, [args]
        ldp     ld_x, ld_y, [args, #16]
        ldp     rows, columns, [args, #32]
        ldp     weight, bias, [args, #48]
        ldp     x_ptr, residual, [args, #64]
        ldr     z, [args, #96]
        cbz     rows, L(finished)
        cbz     columns, L(finished)
        ldr     eps, [x_ptr]
        ucvtf   count, columns

        // The row is read three times: for its mean, for its deviation, and for the results.
L(next_row):
        begin_sums x_ptr, x, left, columns
        cbnz    residual, L(with_residual)
        b.lo    L(sum_end)
L(sum_sixteen):
        ldp     q0, q1, [x_ptr], #32
        ldp     q2, q3, [x_ptr], #32
        add_to_sums
        subs    left, left, #16
        b.hs    L(sum_sixteen)
L(sum_end):
        adds    left, left, #16
        b.eq    L(mean)
L(sum_one):
        ldr     s0, [x_ptr], #4
        fadd    rest, rest, s0
        subs    left, left, #1
        b.ne    L(sum_one)
        b       L(mean)

        // With a residual the sums take its place in the result, where they are read again.
L(with_residual):
        mov     residual_ptr, residual
        mov     y_ptr, y
        b.lo    L(add_end)
L(add_sixteen):
        ldp     q0, q1, [x_ptr], #32
        ldp     q2, q3, [x_ptr], #32
        ldp     q4, q5, [residual_ptr], #32
        ldp     q6, q7, [residual_ptr], #32
        fadd    v0.4s, v0.4s, v4.4s
        fadd    v1.4s, v1.4s, v5.4s
        fadd    v2.4s, v2.4s, v6.4s
        fadd    v3.4s, v3.4s, v7.4s
        stp     q0, q1, [y_ptr], #32
        stp     q2, q3, [y_ptr], #32
        add_to_sums
        subs    left, left, #16
        b.hs    L(add_sixteen)
L(add_end):
        adds    left, left, #16
        b.eq    L(mean)
L(add_one):
        ldr     s0, [x_ptr], #4
        ldr     s4, [residual_ptr], #4
        fadd    s0, s0, s4
        str     s0, [y_ptr], #4
        fadd    rest, rest, s0
        subs    left, left, #1
        b.ne    L(add_one)
L(mean):
        mean_of_sums
        dup     means.4s, v20.s[0]

        // The mean of the squared deviations, then one over the root of it.
        cmp     residual, #0
        csel    weight_ptr, x, y, eq
        begin_sums x_ptr, weight_ptr, left, columns
        b.lo    L(squares_end)
L(squares_sixteen):
        ldp     q0, q1, [x_ptr], #32
        ldp     q2, q3, [x_ptr], #32
        square_of_deviation 0
        square_of_deviation 1
        square_of_deviation 2
        square_of_deviation 3
        add_to_sums
        subs    left, left, #16
        b.hs    L(squares_sixteen)
L(squares_end):
        adds    left, left, #16
        b.eq    L(deviation)
L(squares_one):
        ldr     s0, [x_ptr], #4
        square_of_deviation 0
        fadd    rest, rest, s0
        subs    left, left, #1
        b.ne    L(squares_one)
L(deviation):
        mean_of_sums
        fadd    s20, s20, eps
        fsqrt   s20, s20
        fmov    s0, #1.0
        fdiv    s20, s0, s20
        dup     inverses.4s, v20.s[0]

        // Deviations by that, by the weight, plus the bias; and those by the factor.
        cmp     residual, #0
        csel    x_ptr, x, y, eq
        ldr     factor_ptr, [args, #88]
        mov     z_ptr, z
        mov     y_ptr, y
        mov     weight_ptr, weight
        mov     bias_ptr, bias
        subs    left, columns, #8
        b.lo    L(normalise_end)
L(normalise_eight):
        ldp     q0, q1, [x_ptr], #32
        ldp     q2, q3, [weight_ptr], #32
        ldp     q4, q5, [bias_ptr], #32
        normalise 0, 2, 4
        normalise 1, 3, 5
        stp     q0, q1, [y_ptr], #32
        cbz     factor_ptr, L(eight_done)
        ldp     q2, q3, [factor_ptr], #32
        fmul    v0.4s, v0.4s, v2.4s
        fmul    v1.4s, v1.4s, v3.4s
        stp     q0, q1, [z_ptr], #32
L(eight_done):
        subs    left, left, #8
        b.hs    L(normalise_eight)
L(normalise_end):
        adds    left, left, #8
        b.eq    L(row_done)
L(normalise_one):
        ldr     s0, [x_ptr], #4
        ldr     s2, [weight_ptr], #4
        ldr     s4, [bias_ptr], #4
        normalise 0, 2, 4
        str     s0, [y_ptr], #4
        cbz     factor_ptr, L(one_done)
        ldr     s2, [factor_ptr], #4
        fmul    s0, s0, s2
        str     s0, [z_ptr], #4
L(one_done):
        subs    left, left, #1
        b.ne    L(normalise_one)

L(row_done):
        add     x, x, ld_x
        add     y, y, ld_y
        ldr     step, [args, #104]
        add     z, z, step
        cbz     residual, L(row_end)
        ldr     step, [args, #80]
        add     residual, residual, step
L(row_end):
        subs    rows, rows, #1
        b.ne    L(next_row)
L(finished):
        ret
endfunction layer_norm
