/*
 * Kernel:     combine
 * Computes:   y[i][j] = saturate(round(t / y_scale) + y_zero), ties to even, y_zero where t / y_scale is NaN; t is p + q or p * q
 *             of p = float32(a[i][j] - a_zero) * a_scale, q = float32(b[i][j] - b_zero) * b_scale or q = b[i][j]
 * Prototype:  void pyint8dot_combine(const int64_t args[12])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args:
 *             [0] a         const int8_t * or const uint8_t *  m rows of n, one after the other
 *             [1] b         const int8_t *, const uint8_t * or const float *  m rows of n
 *             [2] y         int8_t * or uint8_t *  m rows of n, one after the other, apart from a and b
 *             [3] ld_b      bytes from a row of b to the next; 0 where it is the same for all
 *             [4] m         rows, >= 0
 *             [5] n         columns, >= 0
 *             [6] scales    const float [3]: of a, of b, of y
 *             [7] a_zero    within the range of a
 *             [8] b_zero    within the range of b
 *             [9] y_zero    within the range of y
 *             [10] unsigned sum of 1 where a is uint8, 2 where b is, 4 where y is
 *             [11] form     sum of 1 where b is float, 2 where t is a product
 * Clobbers:   x1-x11, v0-v7, v16-v25, flags
 * Unused:     x12-x30, v8-v15, v26-v31
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"

#define args            x0
#define a_ptr           x1
#define b_ptr           x2
#define y_ptr           x3
#define b_row           x4
#define ld_b            x5
#define rows            x6
#define columns         x7
#define left            x8
#define t0              x9
#define t1              x10
#define form            x11

#define a_scales        v16
#define b_scales        v17
#define y_scales        v18
#define a_zeros         v19     /* each less 128 for uint8 */
#define b_zeros         v20
#define y_zeros         v21
#define a_flips         v22     /* 0x80 in every byte for uint8, else 0 */
#define b_flips         v23
#define y_flips         v24

/* A scale to every lane; of the type and the zero point what moves uint8 to int8, and the zero point moved along. */
.macro set_up scales, zeros, flips, scale_at, zero_at, bit
        ldr     t0, [args, #48]
        add     t0, t0, #\scale_at
        ld1r    {\scales\().4s}, [t0]
        ldr     t0, [args, #\zero_at]
        ldr     t1, [args, #80]
        ubfx    t1, t1, #\bit, #1
        lsl     t1, t1, #7
        sub     t0, t0, t1
        dup     \zeros\().8h, w9
        dup     \flips\().16b, w10
.endm

/* Sixteen codes in `codes` to what they stand for, in four registers. */
.macro sixteen_values codes, first, second, third, fourth, scales, zeros, flips
        eor     v\codes\().16b, v\codes\().16b, \flips\().16b
        sshll   v\second\().8h, v\codes\().8b, #0
        sshll2  v\fourth\().8h, v\codes\().16b, #0
        sub     v\second\().8h, v\second\().8h, \zeros\().8h
        sub     v\fourth\().8h, v\fourth\().8h, \zeros\().8h
        sshll   v\first\().4s, v\second\().4h, #0
        sshll2  v\second\().4s, v\second\().8h, #0
        sshll   v\third\().4s, v\fourth\().4h, #0
        sshll2  v\fourth\().4s, v\fourth\().8h, #0
        scvtf   v\first\().4s, v\first\().4s
        scvtf   v\second\().4s, v\second\().4s
        scvtf   v\third\().4s, v\third\().4s
        scvtf   v\fourth\().4s, v\fourth\().4s
        fmul    v\first\().4s, v\first\().4s, \scales\().4s
        fmul    v\second\().4s, v\second\().4s, \scales\().4s
        fmul    v\third\().4s, v\third\().4s, \scales\().4s
        fmul    v\fourth\().4s, v\fourth\().4s, \scales\().4s
.endm

/* One code in `codes` to what it stands for, in `first`. */
.macro one_value codes, first, scales, zeros, flips
        eor     v\codes\().8b, v\codes\().8b, \flips\().8b
        sshll   v\first\().8h, v\codes\().8b, #0
        sub     v\first\().8h, v\first\().8h, \zeros\().8h
        sshll   v\first\().4s, v\first\().4h, #0
        scvtf   v\first\().4s, v\first\().4s
        fmul    v\first\().4s, v\first\().4s, \scales\().4s
.endm

/* Sixteen values of a right operand that is codes. */
.macro sixteen_of_codes
        ldr     q25, [b_ptr], #16
        sixteen_values 25, 4, 5, 6, 7, b_scales, b_zeros, b_flips
.endm

/* The same for one. */
.macro one_of_codes
        ldr     b25, [b_ptr], #1
        one_value 25, 4, b_scales, b_zeros, b_flips
.endm

/* Sixteen that are float as they lie. */
.macro sixteen_of_floats
        ldp     q4, q5, [b_ptr], #32
        ldp     q6, q7, [b_ptr], #32
.endm

/* The same for one. */
.macro one_of_floats
        ldr     s4, [b_ptr], #4
.endm

/* Four results as integers; the conversion saturates and makes 0 of NaN. */
.macro four operation, number, other
        \operation v\number\().4s, v\number\().4s, v\other\().4s
        fdiv    v\number\().4s, v\number\().4s, y_scales.4s
        fcvtns  v\number\().4s, v\number\().4s
.endm

/* All rows by one operation and one kind of right operand. A value beyond the limits of 32 or 16 bits is beyond those of 8 as well. */
.macro walk name, operation, kind
L(next_row_\name):
        mov     b_ptr, b_row
        subs    left, columns, #16
        b.lo    L(row_end_\name)
L(sixteen_\name):
        ldr     q25, [a_ptr], #16
        sixteen_values 25, 0, 1, 2, 3, a_scales, a_zeros, a_flips
        sixteen_of_\kind
        four    \operation, 0, 4
        four    \operation, 1, 5
        four    \operation, 2, 6
        four    \operation, 3, 7
        sqxtn   v0.4h, v0.4s
        sqxtn   v2.4h, v2.4s
        sqxtn2  v0.8h, v1.4s
        sqxtn2  v2.8h, v3.4s
        sqadd   v0.8h, v0.8h, y_zeros.8h
        sqadd   v2.8h, v2.8h, y_zeros.8h
        sqxtn   v0.8b, v0.8h
        sqxtn2  v0.16b, v2.8h
        eor     v0.16b, v0.16b, y_flips.16b
        str     q0, [y_ptr], #16
        subs    left, left, #16
        b.hs    L(sixteen_\name)
L(row_end_\name):
        adds    left, left, #16
        b.eq    L(row_done_\name)
L(one_\name):
        ldr     b25, [a_ptr], #1
        one_value 25, 0, a_scales, a_zeros, a_flips
        one_of_\kind
        four    \operation, 0, 4
        sqxtn   v0.4h, v0.4s
        sqadd   v0.4h, v0.4h, y_zeros.4h
        sqxtn   v0.8b, v0.8h
        eor     v0.8b, v0.8b, y_flips.8b
        str     b0, [y_ptr], #1
        subs    left, left, #1
        b.ne    L(one_\name)
L(row_done_\name):
        add     b_row, b_row, ld_b
        subs    rows, rows, #1
        b.ne    L(next_row_\name)
        b       L(finished)
.endm

function combine
        ldp     a_ptr, b_row, [args]
        ldp     y_ptr, ld_b, [args, #16]
        ldp     rows, columns, [args, #32]
        ldr     form, [args, #88]
        cbz     rows, L(finished)
        cbz     columns, L(finished)
        set_up a_scales, a_zeros, a_flips, 0, 56, 0
        set_up b_scales, b_zeros, b_flips, 4, 64, 1
        set_up y_scales, y_zeros, y_flips, 8, 72, 2
        // Each form has a walk of its own.
        tbnz    form, #1, L(product)
        tbnz    form, #0, L(sum_of_floats)
        walk    sum, fadd, codes
L(product):
        tbnz    form, #0, L(product_of_floats)
        walk    product, fmul, codes
L(sum_of_floats):
        walk    sum_f, fadd, floats
L(product_of_floats):
        walk    product_f, fmul, floats
L(finished):
        ret
endfunction combine
