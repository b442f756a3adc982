/*
 * Kernel:     divide_rows
 * Computes:   y[i][j] = x[i][j] / divisor[i], or x[i][j] / sqrt(divisor[i])
 * Prototype:  void pyint8dot_divide_rows(const int64_t args[6])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args:
 *             [0] x        const float *  m rows of n, one behind the other
 *             [1] y        float *  likewise; may be x
 *             [2] m        rows, >= 0
 *             [3] n        columns, >= 0
 *             [4] divisor  const float [m]
 *             [5] root     whether the square root of the divisor divides
 * Clobbers:   x1-x7, v0-v3, v16, flags
 * Unused:     x8-x30, v4-v15, v17-v31
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"

#define args            x0
#define x               x1
#define y               x2
#define rows            x3
#define columns         x4
#define divisor         x5
#define root            x6
#define left            x7

#define divisors        v16     /* of the row, four times */

function divide_rows
        ldp     x, y, [args]
        ldp     rows, columns, [args, #16]
        ldp     divisor, root, [args, #32]
        cbz     rows, L(finished)

        // What divides the row.
L(next_row):
        ld1r    {divisors.4s}, [divisor], #4
        cbz     root, L(divide)
        fsqrt   divisors.4s, divisors.4s

        // Sixteen columns a turn, then one by one; the next row begins where this one ends.
L(divide):
        subs    left, columns, #16
        b.lo    L(sixteen_end)
L(sixteen):
        ldp     q0, q1, [x], #32
        ldp     q2, q3, [x], #32
        fdiv    v0.4s, v0.4s, divisors.4s
        fdiv    v1.4s, v1.4s, divisors.4s
        fdiv    v2.4s, v2.4s, divisors.4s
        fdiv    v3.4s, v3.4s, divisors.4s
        stp     q0, q1, [y], #32
        stp     q2, q3, [y], #32
        subs    left, left, #16
        b.hs    L(sixteen)
L(sixteen_end):
        adds    left, left, #16
        b.eq    L(row_done)
L(one):
        ldr     s0, [x], #4
        fdiv    s0, s0, s16
        str     s0, [y], #4
        subs    left, left, #1
        b.ne    L(one)
L(row_done):
        subs    rows, rows, #1
        b.ne    L(next_row)
L(finished):
        ret
endfunction divide_rows
