/*
 * Kernel:     depthwise_sdot
 * Computes:   y[i][j] = start + sum over t and u < 4 of weights[t][u] * x[i][step j + offsets[t] + index[u]], mod 2^32,
 *             or with a scale y[i][j] = saturate(round(float32(that) * scale) + zero_point), ties to even
 * Prototype:  void pyint8dot_depthwise_sdot(const int64_t args[14])
 * Requires:   FEAT_DotProd
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args:
 *             [0] x            const int8_t *   rows of pixels; of each row and group of taps (max(n, 16) - 4) step + 16 are there
 *             [1] y            int8_t *, uint8_t * or, without a scale, int32_t *; shares no memory with x
 *             [2] ld_x         bytes from a row of x to the next
 *             [3] ld_y         bytes from a row of y to the next
 *             [4] m            rows, >= 0
 *             [5] n            columns, >= 0
 *             [6] taps         groups of four, >= 0
 *             [7] offsets      const int64_t [taps]   bytes from a pixel to the first one that a group takes
 *             [8] weights      const int8_t [taps][4]
 *             [9] start        const int32_t *
 *             [10] scale       const float *, finite, or null: y takes the sums
 *             [11] zero_point  within the range of y
 *             [12] unsigned    1: y is uint8; 0: int8
 *             [13] pattern     const int64_t [3]: step, pixels of x from a column of y to the next, and sixteen bytes:
 *                              index[u] + step v for four columns v, the four u of a column together, each below 16
 * Clobbers:   x1-x16, v0-v7, v16-v31, flags
 * Unused:     x17-x30, v8-v15
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"
#include "depthwise.h"

/* Dot products are allowed from here to the end of this file only. */
#if defined(__APPLE__)
        .arch_extension dotprod
#else
        .arch   armv8.2-a+dotprod
#endif

#define to_next         spare   /* bytes from the pixels of four columns to those of the next four */
#define index           v4

/* Four columns of four rows: the taps of each column are brought side by side. */
.macro dot_columns s0, s1, s2, s3
        ldr     q0, [x0_ptr, offset]
        ldr     q1, [x1_ptr, offset]
        ldr     q2, [x2_ptr, offset]
        ldr     q3, [x3_ptr, offset]
        tbl     v0.16b, {v0.16b}, index.16b
        tbl     v1.16b, {v1.16b}, index.16b
        tbl     v2.16b, {v2.16b}, index.16b
        tbl     v3.16b, {v3.16b}, index.16b
        sdot    v\s0\().4s, v0.16b, weight.16b
        sdot    v\s1\().4s, v1.16b, weight.16b
        sdot    v\s2\().4s, v2.16b, weight.16b
        sdot    v\s3\().4s, v3.16b, weight.16b
.endm

/* A group of four taps after the other. */
.macro sum_taps
        ldr     t0, [args, #104]
        ldr     to_next, [t0], #8
        ldr     q4, [t0]
        lsl     to_next, to_next, #2
L(next_tap):
        ldr     offset, [offset_ptr], #8
        ld1r    {weight.4s}, [weight_ptr], #4
        dot_columns 16, 20, 24, 28
        add     offset, offset, to_next
        dot_columns 17, 21, 25, 29
        add     offset, offset, to_next
        dot_columns 18, 22, 26, 30
        add     offset, offset, to_next
        subs    taps, taps, #1
        dot_columns 19, 23, 27, 31
        b.ne    L(next_tap)
.endm

/* A column of y is as many pixels of x as the pattern says. */
.macro advance_x
        ldr     t0, [args, #104]
        ldr     t0, [t0]
        mul     step, step, t0
        add     x0_ptr, x0_ptr, step
        add     x1_ptr, x1_ptr, step
        add     x2_ptr, x2_ptr, step
        add     x3_ptr, x3_ptr, step
.endm

function depthwise_sdot
        // Rows and columns: see the header.
        convolve
        ret
endfunction depthwise_sdot
