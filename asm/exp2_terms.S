/*
 * Kernel:     exp2_terms
 * Computes:   y[i][j] = 2^max((x[i][j] - max x[i]) * scale, -127), as floats.py defines it, and sums[i] = sum y[i]
 * Prototype:  void pyint8dot_exp2_terms(const int64_t args[8])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args:
 *             [0] x      const float *  m rows of n
 *             [1] y      float *; may be x
 *             [2] ld_x   bytes from a row of x to the next
 *             [3] ld_y   bytes from a row of y to the next
 *             [4] m      rows, >= 0
 *             [5] n      columns, >= 0
 *             [6] scale  const float *
 *             [7] sums   float [m]
 * Clobbers:   x1-x11, v0-v5, v16-v18, v20-v29, flags
 * Unused:     x12-x30, v6-v15, v19, v30-v31
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"
#include "exp2.h"

#define args            x0
#define x               x1
#define y               x2
#define ld_x            x3
#define ld_y            x4
#define rows            x5
#define columns         x6
#define scale           x7
#define sums            x8
#define x_ptr           x9
#define y_ptr           x10
#define left            x11

#define scales          v16
#define greatest        v17     /* of the row */
#define rest            s18     /* sum of the row's last columns */
#define sum_low         v20     /* sums of columns 0-3 and 4-7 of every eight */
#define sum_high        v21
#define infinities      v29     /* minus infinity */

define_exp2_constants

/* Eight values in v0 and v1 to the powers of their distance to the greatest, in v4 and v5. */
.macro power_of_distance
        fsub    v0.4s, v0.4s, greatest.4s
        fsub    v1.4s, v1.4s, greatest.4s
        fmul    v0.4s, v0.4s, scales.4s
        fmul    v1.4s, v1.4s, scales.4s
        power
.endm

function exp2_terms
        ldp     x, y, [args]
        ldp     ld_x, ld_y, [args, #16]
        ldp     rows, columns, [args, #32]
        ldp     scale, sums, [args, #48]
        cbz     rows, L(finished)
        ld1r    {scales.4s}, [scale]
        load_exp2_constants x_ptr
        minus_infinity infinities

        // The greatest value of the row; a NaN anywhere in it wins.
L(next_row):
        mov     x_ptr, x
        mov     greatest.16b, infinities.16b
        subs    left, columns, #16
        b.lo    L(greatest_end)
L(greatest_sixteen):
        ldp     q0, q1, [x_ptr], #32
        ldp     q2, q3, [x_ptr], #32
        fmax    v0.4s, v0.4s, v1.4s
        fmax    v2.4s, v2.4s, v3.4s
        fmax    greatest.4s, greatest.4s, v0.4s
        fmax    greatest.4s, greatest.4s, v2.4s
        subs    left, left, #16
        b.hs    L(greatest_sixteen)
L(greatest_end):
        adds    left, left, #16
        b.eq    L(powers)
L(greatest_one):
        ld1r    {v0.4s}, [x_ptr], #4
        fmax    greatest.4s, greatest.4s, v0.4s
        subs    left, left, #1
        b.ne    L(greatest_one)

L(powers):
        fmaxv   s0, greatest.4s
        dup     greatest.4s, v0.s[0]
        movi    sum_low.4s, #0
        movi    sum_high.4s, #0
        movi    v18.4s, #0
        mov     x_ptr, x
        mov     y_ptr, y
        subs    left, columns, #8
        b.lo    L(powers_end)
L(powers_eight):
        ldp     q0, q1, [x_ptr], #32
        power_of_distance
        fadd    sum_low.4s, sum_low.4s, v4.4s
        fadd    sum_high.4s, sum_high.4s, v5.4s
        stp     q4, q5, [y_ptr], #32
        subs    left, left, #8
        b.hs    L(powers_eight)
L(powers_end):
        adds    left, left, #8
        b.eq    L(row_sum)
L(powers_one):
        ldr     s0, [x_ptr], #4
        power_of_distance
        fadd    rest, rest, s4
        str     s4, [y_ptr], #4
        subs    left, left, #1
        b.ne    L(powers_one)

        // Lane by lane, then across: an order that depends on the number of columns alone.
L(row_sum):
        fadd    sum_low.4s, sum_low.4s, sum_high.4s
        faddp   v20.4s, v20.4s, v20.4s
        faddp   s20, v20.2s
        fadd    rest, rest, s20
        str     rest, [sums], #4
        add     x, x, ld_x
        add     y, y, ld_y
        subs    rows, rows, #1
        b.ne    L(next_row)
L(finished):
        ret
endfunction exp2_terms
