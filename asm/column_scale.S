/*
 * Kernel:     column_scale
 * Computes:   y[j] = x[j] * scale, each rounded once
 * Prototype:  void pyint8dot_column_scale(const int64_t args[4])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args:
 *             [0] x      const float [n]
 *             [1] y      float [n]
 *             [2] n      columns, >= 0
 *             [3] scale  const float *
 * Clobbers:   x1-x5, v0-v2, flags
 * Unused:     x6-x30, v3-v31
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"

#define args            x0
#define x               x1
#define y               x2
#define columns         x3
#define scale           x4
#define counter         x5      /* eights of columns left */

#define factor          v2      /* the scale in every lane */

/* The last columns: four, two or one of them, as the register says. */
.macro few_columns register, bytes
        ldr     \register\()0, [x], #\bytes
        fmul    v0.4s, v0.4s, factor.4s
        str     \register\()0, [y], #\bytes
.endm

function column_scale
        ldp     x, y, [args]
        ldp     columns, scale, [args, #16]
        ld1r    {factor.4s}, [scale]
        lsr     counter, columns, #3
        cbz     counter, L(last_four)

        // Eight columns a turn.
L(next_eight):
        ldp     q0, q1, [x], #32
        fmul    v0.4s, v0.4s, factor.4s
        fmul    v1.4s, v1.4s, factor.4s
        stp     q0, q1, [y], #32
        subs    counter, counter, #1
        b.ne    L(next_eight)

        // The bits of n % 8 say which columns are left.
L(last_four):
        tbz     columns, #2, L(last_two)
        few_columns q, 16
L(last_two):
        tbz     columns, #1, L(last_one)
        few_columns d, 8
L(last_one):
        tbz     columns, #0, L(finished)
        few_columns s, 4
L(finished):
        ret
endfunction column_scale
