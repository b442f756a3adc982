/*
 * Kernel:     deviations
 * Computes:   y[i][j] = x[i][j] - mean x[i] and variance[i] = mean y[i]^2, as pyint8dot.floats defines them
 * Prototype:  void pyint8dot_deviations(const int64_t args[5])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args:
 *             [0] x         const float *  m rows of n, one behind the other
 *             [1] y         float *  likewise; may be x
 *             [2] m         rows, >= 0
 *             [3] n         columns, >= 0
 *             [4] variance  float [m]; not written without columns
 * Clobbers:   x1-x7, v0-v7, v16, v18, v20-v24, flags
 * Unused:     x8-x30, v8-v15, v17, v19, v25-v31
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"
#include "mean.h"

#define args            x0
#define x               x1
#define y               x2
#define rows            x3
#define columns         x4
#define variance        x5
#define x_ptr           x6
#define left            x7

#define means           v16

/* A value's distance to the mean in its place, and the square of that. */
.macro deviation number, square
        fsub    v\number\().4s, v\number\().4s, means.4s
        fmul    v\square\().4s, v\number\().4s, v\number\().4s
.endm

function deviations
        ldp     x, y, [args]
        ldp     rows, columns, [args, #16]
        ldr     variance, [args, #32]
        cbz     rows, L(finished)
        cbz     columns, L(finished)
        ucvtf   count, columns

        // The row is read twice: for its mean, and for its deviations.
L(next_row):
        begin_sums x_ptr, x, left, columns
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
L(mean):
        mean_of_sums
        dup     means.4s, v20.s[0]

        // Deviations to the result, and their squares to the sums.
        begin_sums x_ptr, x, left, columns
        b.lo    L(squares_end)
L(squares_sixteen):
        ldp     q4, q5, [x_ptr], #32
        ldp     q6, q7, [x_ptr], #32
        deviation 4, 0
        deviation 5, 1
        deviation 6, 2
        deviation 7, 3
        stp     q4, q5, [y], #32
        stp     q6, q7, [y], #32
        add_to_sums
        subs    left, left, #16
        b.hs    L(squares_sixteen)
L(squares_end):
        adds    left, left, #16
        b.eq    L(row_done)
L(squares_one):
        ldr     s4, [x_ptr], #4
        deviation 4, 0
        str     s4, [y], #4
        fadd    rest, rest, s0
        subs    left, left, #1
        b.ne    L(squares_one)

        // The next row begins where this one ends.
L(row_done):
        mean_of_sums
        str     s20, [variance], #4
        mov     x, x_ptr
        subs    rows, rows, #1
        b.ne    L(next_row)
L(finished):
        ret
endfunction deviations
