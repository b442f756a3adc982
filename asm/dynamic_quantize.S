/*
 * Kernel:     dynamic_quantize
 * Computes:   scale = (high - low) / 255 of the range low..high of x and 0, or 1 where that is 0;
 *             zero_point = round(min(-low / scale, 255)); y[i] = saturate(round(x[i] / scale) + zero_point), ties to even
 * Prototype:  void pyint8dot_dynamic_quantize(const int64_t args[7])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args:
 *             [0] x           const float *  m k values, one after the other
 *             [1] y           uint8_t *      as many codes; shares no memory with x
 *             [2] m           rows, >= 0
 *             [3] k           values a row, >= 0
 *             [4] scale       float *
 *             [5] zero_point  uint8_t *
 *             [6] status      int64_t *, set to 1 where scale is not finite, and nothing else is then written; else left alone
 * Clobbers:   x1-x7, v0-v3, v16-v23, flags
 * Unused:     x8-x30, v4-v15, v24-v31
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"

#define args            x0
#define x_ptr           x1
#define y_ptr           x2
#define count           x3
#define scale           x4
#define zero_point      x5
#define status          x6
#define left            x7

/* The first pass: v16-v19 are the greatest values of each register of a turn, v20-v23 the least. */
#define greatest        s16
#define least           s20

/* The second pass. */
#define scales          v17
#define factor          s17
#define full            s18     /* 255 */
#define infinity        s19
#define one             s21
#define zero            s22     /* the zero point, first as a float */
#define zero_points     v22

/* A register of values into one of the maxima and one of the minima. */
.macro widen_range register, high, low
        fmax    v\high\().4s, v\high\().4s, v\register\().4s
        fmin    v\low\().4s, v\low\().4s, v\register\().4s
.endm

/* Four values to four 32-bit integers. */
.macro divide register
        fdiv    v\register\().4s, v\register\().4s, scales.4s
        fcvtns  v\register\().4s, v\register\().4s
.endm

function dynamic_quantize
        ldp     x_ptr, y_ptr, [args]
        ldp     count, left, [args, #16]
        ldp     scale, zero_point, [args, #32]
        ldr     status, [args, #48]
        mul     count, count, left

        // The range begins as 0 alone. A NaN anywhere wins on both sides.
        .irp    register, 16, 17, 18, 19, 20, 21, 22, 23
        movi    v\register\().4s, #0
        .endr
        subs    left, count, #16
        b.lo    L(range_end)
L(range_sixteen):
        ldp     q0, q1, [x_ptr], #32
        ldp     q2, q3, [x_ptr], #32
        widen_range 0, 16, 20
        widen_range 1, 17, 21
        widen_range 2, 18, 22
        widen_range 3, 19, 23
        subs    left, left, #16
        b.hs    L(range_sixteen)
L(range_end):
        adds    left, left, #16
        b.eq    L(range_done)
        // The lanes above one value are 0, which is in the range anyway.
L(range_one):
        ldr     s0, [x_ptr], #4
        widen_range 0, 16, 20
        subs    left, left, #1
        b.ne    L(range_one)
L(range_done):
        fmax    v16.4s, v16.4s, v17.4s
        fmax    v18.4s, v18.4s, v19.4s
        fmin    v20.4s, v20.4s, v21.4s
        fmin    v22.4s, v22.4s, v23.4s
        fmax    v16.4s, v16.4s, v18.4s
        fmin    v20.4s, v20.4s, v22.4s
        fmaxv   greatest, v16.4s
        fminv   least, v20.4s

        // Neither infinity nor NaN is below infinity.
        movi    v18.4s, #0x43, lsl #24
        orr     v18.4s, #0x7f, lsl #16
        movi    v19.4s, #0x7f, lsl #24
        orr     v19.4s, #0x80, lsl #16
        fsub    factor, greatest, least
        fdiv    factor, factor, full
        fcmp    factor, infinity
        b.mi    L(scale_found)
        mov     left, #1
        str     left, [status]
        b       L(finished)

        // Nothing but zeros, or a range too small for a scale: the scale is 1.
L(scale_found):
        fmov    one, #1.0
        fcmp    factor, #0.0
        fcsel   factor, one, factor, eq
        str     factor, [scale]

        // A scale that is subnormal may be a third less than it should, and the zero point beyond the codes.
        fneg    zero, least
        fdiv    zero, zero, factor
        fmin    zero, zero, full
        fcvtns  zero, zero
        str     b22, [zero_point]
        dup     zero_points.8h, v22.h[0]
        dup     scales.4s, v17.s[0]

        // The quotients are less than 384 in magnitude, so 16 bits hold them with the zero point, and only 8 need saturation.
        sub     x_ptr, x_ptr, count, lsl #2
        subs    left, count, #16
        b.lo    L(codes_end)
L(codes_sixteen):
        ldp     q0, q1, [x_ptr], #32
        ldp     q2, q3, [x_ptr], #32
        divide  0
        divide  1
        divide  2
        divide  3
        uzp1    v0.8h, v0.8h, v1.8h
        uzp1    v2.8h, v2.8h, v3.8h
        add     v0.8h, v0.8h, zero_points.8h
        add     v2.8h, v2.8h, zero_points.8h
        sqxtun  v0.8b, v0.8h
        sqxtun2 v0.16b, v2.8h
        str     q0, [y_ptr], #16
        subs    left, left, #16
        b.hs    L(codes_sixteen)
L(codes_end):
        adds    left, left, #16
        b.eq    L(finished)
L(codes_one):
        ldr     s0, [x_ptr], #4
        fdiv    s0, s0, factor
        fcvtns  s0, s0
        add     v0.4h, v0.4h, zero_points.4h
        sqxtun  v0.8b, v0.8h
        str     b0, [y_ptr], #1
        subs    left, left, #1
        b.ne    L(codes_one)
L(finished):
        ret
endfunction dynamic_quantize
