/*
 * Kernel:     add_outer
 * Computes:   C[i][j] += u[i] * v[j], mod 2^32
 * Prototype:  void pyint8dot_add_outer(const int64_t args[6])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args:
 *             [0] c    int32_t *        row-major, 4 n bytes read and written in each of m rows
 *             [1] ldc  bytes from a row of C to the next, any sign
 *             [2] m    rows of C, >= 0
 *             [3] n    columns of C, >= 0
 *             [4] u    const int32_t [m]
 *             [5] v    const int32_t [n]; with m = 1 it may be c, which with u = 1 doubles it
 * Clobbers:   x1-x9, v0-v4, flags
 * Unused:     x10-x30, v5-v31
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"

#define args            x0
#define c               x1      /* this row of C */
#define ldc             x2      /* bytes from a row of C to the next */
#define rows            x3      /* rows left */
#define columns         x4      /* columns of a row */
#define u               x5      /* u[i] of this row */
#define v               x6
#define c_ptr           x7
#define v_ptr           x8
#define counter         x9      /* eights of columns left in the row */

#define factor          v4      /* u[i] in every lane */

/* The last columns of a row: four, two or one of them, as the register says. */
.macro add_few register, bytes
        ldr     \register\()2, [v_ptr], #\bytes
        ldr     \register\()0, [c_ptr]
        mla     v0.4s, v2.4s, factor.4s
        str     \register\()0, [c_ptr], #\bytes
.endm

function add_outer
        ldp     c, ldc, [args]
        ldp     rows, columns, [args, #16]
        ldp     u, v, [args, #32]
        cbz     rows, L(finished)
        cbz     columns, L(finished)

        // One row: its factor, then eight columns a turn.
L(next_row):
        ld1r    {factor.4s}, [u], #4
        mov     c_ptr, c
        mov     v_ptr, v
        lsr     counter, columns, #3
        cbz     counter, L(last_four)
L(next_eight):
        ldp     q2, q3, [v_ptr], #32
        ldp     q0, q1, [c_ptr]
        mla     v0.4s, v2.4s, factor.4s
        mla     v1.4s, v3.4s, factor.4s
        stp     q0, q1, [c_ptr], #32
        subs    counter, counter, #1
        b.ne    L(next_eight)

        // The bits of n % 8 say which columns are left.
L(last_four):
        tbz     columns, #2, L(last_two)
        add_few q, 16
L(last_two):
        tbz     columns, #1, L(last_one)
        add_few d, 8
L(last_one):
        tbz     columns, #0, L(row_done)
        add_few s, 4
L(row_done):
        add     c, c, ldc
        subs    rows, rows, #1
        b.ne    L(next_row)
L(finished):
        ret
endfunction add_outer
