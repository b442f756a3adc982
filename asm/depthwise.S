/*
 * Kernel:     depthwise
 * Computes:   y[i][j] = start + sum over t of weights[t] * x[i][j + offsets[t]], mod 2^32, or with a scale
 *             y[i][j] = saturate(round(float32(that) * scale) + zero_point), ties to even
 * Prototype:  void pyint8dot_depthwise(const int64_t args[13])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args:
 *             [0] x            const int8_t *   rows of pixels; of each row and tap max(n, 16) are there
 *             [1] y            int8_t *, uint8_t * or, without a scale, int32_t *; shares no memory with x
 *             [2] ld_x         bytes from a row of x to the next
 *             [3] ld_y         bytes from a row of y to the next
 *             [4] m            rows, >= 0
 *             [5] n            columns, >= 0
 *             [6] taps         >= 0
 *             [7] offsets      const int64_t [taps]   bytes from a pixel to the one a tap takes
 *             [8] weights      const int16_t [taps]
 *             [9] start        const int32_t *
 *             [10] scale       const float *, finite, or null: y takes the sums
 *             [11] zero_point  within the range of y
 *             [12] unsigned    1: y is uint8; 0: int8
 * Clobbers:   x1-x14, x16, v0-v7, v16-v31, flags
 * Unused:     x15, x17-x30, v8-v15
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"
#include "depthwise.h"

/* Sixteen pixels to int16, in the register and in another. */
.macro widen register, high
        sshll2  v\high\().8h, v\register\().16b, #0
        sshll   v\register\().8h, v\register\().8b, #0
.endm

/* One row of the tile, one tap. */
.macro add_products s0, s1, s2, s3, low, high
        smlal   v\s0\().4s, v\low\().4h, weight.4h
        smlal2  v\s1\().4s, v\low\().8h, weight.8h
        smlal   v\s2\().4s, v\high\().4h, weight.4h
        smlal2  v\s3\().4s, v\high\().8h, weight.8h
.endm

/* A tap after the other, each widened to int16. */
.macro sum_taps
L(next_tap):
        ldr     offset, [offset_ptr], #8
        ld1r    {weight.8h}, [weight_ptr], #2
        ldr     q0, [x0_ptr, offset]
        ldr     q1, [x1_ptr, offset]
        ldr     q2, [x2_ptr, offset]
        ldr     q3, [x3_ptr, offset]
        subs    taps, taps, #1
        widen   0, 4
        widen   1, 5
        add_products 16, 17, 18, 19, 0, 4
        add_products 20, 21, 22, 23, 1, 5
        widen   2, 4
        widen   3, 5
        add_products 24, 25, 26, 27, 2, 4
        add_products 28, 29, 30, 31, 3, 5
        b.ne    L(next_tap)
.endm

/* Pixels lie side by side. */
.macro advance_x
        add     x0_ptr, x0_ptr, step
        add     x1_ptr, x1_ptr, step
        add     x2_ptr, x2_ptr, step
        add     x3_ptr, x3_ptr, step
.endm

function depthwise
        // Rows and columns: see the header.
        convolve
        ret
endfunction depthwise
