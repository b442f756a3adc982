/*
 * Kernel:     lookup
 * Computes:   y[i] = table[x[i]]
 * Prototype:  void pyint8dot_lookup(const int64_t args[4])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args:
 *             [0] x      const uint8_t *
 *             [1] y      uint8_t *; may be x
 *             [2] n      bytes, >= 0
 *             [3] table  const uint8_t [256]
 * Clobbers:   x1-x4, v0-v3, v7, v16-v31, flags
 * Unused:     x5-x30, v4-v6, v8-v15
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"

#define args            x0
#define x_ptr           x1
#define y_ptr           x2
#define left            x3
#define table           x4

#define quarter         v7      /* 64 in every byte */

/* Sixteen bytes: an index beyond the quarter at hand leaves the byte as it is, and every step takes the next quarter to the front. */
.macro look_up to, index
        tbl     v\to\().16b, {v16.16b, v17.16b, v18.16b, v19.16b}, v\index\().16b
        sub     v\index\().16b, v\index\().16b, quarter.16b
        tbx     v\to\().16b, {v20.16b, v21.16b, v22.16b, v23.16b}, v\index\().16b
        sub     v\index\().16b, v\index\().16b, quarter.16b
        tbx     v\to\().16b, {v24.16b, v25.16b, v26.16b, v27.16b}, v\index\().16b
        sub     v\index\().16b, v\index\().16b, quarter.16b
        tbx     v\to\().16b, {v28.16b, v29.16b, v30.16b, v31.16b}, v\index\().16b
.endm

function lookup
        ldp     x_ptr, y_ptr, [args]
        ldp     left, table, [args, #16]
        // The whole table fills sixteen registers.
        ld1     {v16.16b, v17.16b, v18.16b, v19.16b}, [table], #64
        ld1     {v20.16b, v21.16b, v22.16b, v23.16b}, [table], #64
        ld1     {v24.16b, v25.16b, v26.16b, v27.16b}, [table], #64
        ld1     {v28.16b, v29.16b, v30.16b, v31.16b}, [table]
        movi    quarter.16b, #64
        subs    left, left, #32
        b.lo    L(end)
L(thirty_two):
        ldp     q0, q1, [x_ptr], #32
        look_up 2, 0
        look_up 3, 1
        stp     q2, q3, [y_ptr], #32
        subs    left, left, #32
        b.hs    L(thirty_two)
L(end):
        adds    left, left, #32
        b.eq    L(finished)
L(one):
        ldr     b0, [x_ptr], #1
        look_up 2, 0
        str     b2, [y_ptr], #1
        subs    left, left, #1
        b.ne    L(one)
L(finished):
        ret
endfunction lookup
