/*
 * Kernel:     quantize_linear
 * Computes:   y[i] = saturate(round(x[i] / scale) + zero_point), ties to even; the zero point where x[i] / scale is NaN
 * Prototype:  void pyint8dot_quantize_linear(const int64_t args[6])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args:
 *             [0] x           const float *
 *             [1] y           int8_t * or uint8_t *; shares no memory with x
 *             [2] n           values, >= 0
 *             [3] scale       const float *
 *             [4] zero_point  within the range of y
 *             [5] unsigned    1: y is uint8; 0: int8
 * Clobbers:   x1-x5, v0-v3, v5-v7, flags
 * Unused:     x6-x30, v4, v8-v31
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"

#define args            x0
#define x_ptr           x1
#define y_ptr           x2
#define left            x3
#define t0              x4
#define t1              x5

#define scales          v5
#define flips           v6      /* 0x80 in every byte for uint8, else 0 */
#define zero_points     v7      /* less 128 for uint8 */

/* Four quotients, rounded; the conversion saturates and makes 0 of NaN. */
.macro divide register
        fdiv    v\register\().4s, v\register\().4s, scales.4s
        fcvtns  v\register\().4s, v\register\().4s
.endm

/* Sixteen values to bytes in v0. The narrowing saturates at 16 bits, the zero point too, the last narrowing at 8:
 * a value beyond any of these limits is beyond the last one as well. */
.macro to_bytes
        divide  0
        divide  1
        divide  2
        divide  3
        sqxtn   v0.4h, v0.4s
        sqxtn   v2.4h, v2.4s
        sqxtn2  v0.8h, v1.4s
        sqxtn2  v2.8h, v3.4s
        sqadd   v0.8h, v0.8h, zero_points.8h
        sqadd   v2.8h, v2.8h, zero_points.8h
        sqxtn   v0.8b, v0.8h
        sqxtn2  v0.16b, v2.8h
        eor     v0.16b, v0.16b, flips.16b
.endm

function quantize_linear
        ldp     x_ptr, y_ptr, [args]
        ldp     left, t0, [args, #16]
        ld1r    {scales.4s}, [t0]
        // A uint8 is made as int8 and moved at the end; its zero point moves the other way here.
        ldp     t0, t1, [args, #32]
        lsl     t1, t1, #7
        sub     t0, t0, t1
        dup     zero_points.8h, w4
        dup     flips.16b, w5
        subs    left, left, #16
        b.lo    L(end)
L(sixteen):
        ldp     q0, q1, [x_ptr], #32
        ldp     q2, q3, [x_ptr], #32
        to_bytes
        str     q0, [y_ptr], #16
        subs    left, left, #16
        b.hs    L(sixteen)
L(end):
        adds    left, left, #16
        b.eq    L(finished)
L(one):
        ldr     s0, [x_ptr], #4
        divide  0
        sqxtn   v0.4h, v0.4s
        sqadd   v0.4h, v0.4h, zero_points.4h
        sqxtn   v0.8b, v0.8h
        eor     v0.8b, v0.8b, flips.8b
        str     b0, [y_ptr], #1
        subs    left, left, #1
        b.ne    L(one)
L(finished):
        ret
endfunction quantize_linear
