/*
 * Kernel:     dequantize_linear
 * Computes:   y[i] = float32(x[i] - zero_point) * scale
 * Prototype:  void pyint8dot_dequantize_linear(const int64_t args[6])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args:
 *             [0] x           const int8_t * or const uint8_t *
 *             [1] y           float *; shares no memory with x
 *             [2] n           values, >= 0
 *             [3] scale       const float *
 *             [4] zero_point  within the range of x
 *             [5] unsigned    1: x is uint8; 0: int8
 * Clobbers:   x1-x5, v0-v7, v16, flags
 * Unused:     x6-x30, v8-v15, v17-v31
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

#define scales          v6
#define zero_points     v7      /* less 128 for uint8 */
#define flips           v16     /* 0x80 in every byte for uint8, else 0 */

/* Four int32 to float32, scaled. */
.macro scale_four register
        scvtf   v\register\().4s, v\register\().4s
        fmul    v\register\().4s, v\register\().4s, scales.4s
.endm

function dequantize_linear
        ldp     x_ptr, y_ptr, [args]
        ldp     left, t0, [args, #16]
        ld1r    {scales.4s}, [t0]
        // A uint8 is moved to int8 first, and its zero point with it.
        ldp     t0, t1, [args, #32]
        lsl     t1, t1, #7
        sub     t0, t0, t1
        dup     zero_points.8h, w4
        dup     flips.16b, w5
        subs    left, left, #16
        b.lo    L(end)
L(sixteen):
        ldr     q0, [x_ptr], #16
        eor     v0.16b, v0.16b, flips.16b
        sshll   v4.8h, v0.8b, #0
        sshll2  v5.8h, v0.16b, #0
        sub     v4.8h, v4.8h, zero_points.8h
        sub     v5.8h, v5.8h, zero_points.8h
        sshll   v0.4s, v4.4h, #0
        sshll2  v1.4s, v4.8h, #0
        sshll   v2.4s, v5.4h, #0
        sshll2  v3.4s, v5.8h, #0
        scale_four 0
        scale_four 1
        scale_four 2
        scale_four 3
        stp     q0, q1, [y_ptr], #32
        stp     q2, q3, [y_ptr], #32
        subs    left, left, #16
        b.hs    L(sixteen)
L(end):
        adds    left, left, #16
        b.eq    L(finished)
L(one):
        ldr     b0, [x_ptr], #1
        eor     v0.8b, v0.8b, flips.8b
        sshll   v4.8h, v0.8b, #0
        sub     v4.8h, v4.8h, zero_points.8h
        sshll   v0.4s, v4.4h, #0
        scale_four 0
        str     s0, [y_ptr], #4
        subs    left, left, #1
        b.ne    L(one)
L(finished):
        ret
endfunction dequantize_linear
