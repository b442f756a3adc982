/*
 * Kernel:     dequantize
 * Computes:   y[i][j] = act((float32(acc[i][j]) * col_scale[j]) * row_scale[i] + bias[i][j]), each step rounded once
 * Prototype:  void pyint8dot_dequantize(const int64_t args[12])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args:
 *             [0] acc        const int32_t *  m rows of n
 *             [1] y          float *
 *             [2] ld_acc     bytes from a row of acc to the next
 *             [3] ld_y       bytes from a row of y to the next
 *             [4] m          rows, >= 0
 *             [5] n          columns, >= 0
 *             [6] row_scale  const float *
 *             [7] row_step   bytes from a row's scale to the next: 4, or 0 where all rows have the same
 *             [8] col_scale  const float [n]
 *             [9] bias       const float *  rows of n, which may be those of y, or null
 *             [10] act       0: none; 1: max(x, 0); 2: gelu, as pyint8dot.floats defines it
 *             [11] ld_bias   bytes from a row of bias to the next: 0 where all rows have the same
 * Clobbers:   x1-x17, v0-v7, v16-v21, v24-v31, flags
 * Unused:     x18-x30, v8-v15, v22-v23
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"
#include "epilogue.h"

#define row_scale       x10
#define row_step        x11
#define col_scale       x12     /* scale of column 0 */
#define bias            x13     /* bias of column 0 in the row at hand */
#define bias_step       x14     /* bytes from eight columns' biases to the next eight: 32, or 0 */
#define scale_ptr       x15     /* scale of the column at hand */
#define bias_ptr        x16     /* bias of the column at hand */
#define act             x17
#define ld_bias         x0      /* in the place of args, which is read by then */

#define row_scales      v20
#define floors          v21     /* no result is below: 0 for relu, else minus infinity */
#define limits          v24     /* gelu: 6 */
#define halves          v25     /* gelu: 1/2 */

/* The constants of gelu, as in pyint8dot.floats: the limit, 1/2, and R from its highest coefficient down. */
constants gelu_constants
        .word   0x40c00000, 0x3f000000
        .word   0xb75b4154, 0x3982f078, 0xba6b322b, 0xbc1a4dde, 0xbcc7e69b, 0x3f7a83b5

/* x + -0.0 is x, whatever x is: what is added where there is no bias. */
constants no_bias
        .word   0x80000000, 0x80000000, 0x80000000, 0x80000000
        .word   0x80000000, 0x80000000, 0x80000000, 0x80000000

        .text

/* The scale of a row, in every lane; the columns' scales and biases from their start. */
.macro begin_row
        ld1r    {row_scales.4s}, [row_scale]
        add     row_scale, row_scale, row_step
        mov     scale_ptr, col_scale
        mov     bias_ptr, bias
        add     bias, bias, ld_bias
.endm

/* Eight products with their columns' scales and biases; without a bias the same zeros every
 * time. */
.macro load_eight
        ldp     q0, q1, [acc_ptr], #32
        ldp     q16, q17, [scale_ptr], #32
        ldp     q18, q19, [bias_ptr]
        add     bias_ptr, bias_ptr, bias_step
.endm

/* One product, in lane 0, with its column's scale and bias. */
.macro load_one
        ldr     s0, [acc_ptr], #4
        ldr     s16, [scale_ptr], #4
        ldr     s18, [bias_ptr]
        add     bias_ptr, bias_ptr, bias_step, lsr #3
.endm

/* Separate multiplications and additions: a fused one would round once where numpy rounds twice. */
.macro scale_and_shift
        scvtf   v0.4s, v0.4s
        scvtf   v1.4s, v1.4s
        fmul    v0.4s, v0.4s, v16.4s
        fmul    v1.4s, v1.4s, v17.4s
        fmul    v0.4s, v0.4s, row_scales.4s
        fmul    v1.4s, v1.4s, row_scales.4s
        fadd    v0.4s, v0.4s, v18.4s
        fadd    v1.4s, v1.4s, v19.4s
.endm

/* The greater of a value and the floor; an element that is NaN stays. */
.macro raise_to_floor
        fmax    v0.4s, v0.4s, floors.4s
        fmax    v1.4s, v1.4s, floors.4s
.endm

/* One step of a polynomial in v4 and v5: times the argument, plus a coefficient. */
.macro horner coefficient
        fmul    v6.4s, v6.4s, v4.4s
        fmul    v7.4s, v7.4s, v5.4s
        fadd    v6.4s, v6.4s, v\coefficient\().4s
        fadd    v7.4s, v7.4s, v\coefficient\().4s
.endm

/* The polynomial's value times itself. */
.macro square
        fmul    v6.4s, v6.4s, v6.4s
        fmul    v7.4s, v7.4s, v7.4s
.endm

/* x / 2 + |x| * (1/2 - R(min(|x|, 6))^32), step by step as pyint8dot.floats has it. */
.macro gelu
        fabs    v2.4s, v0.4s
        fabs    v3.4s, v1.4s
        fmin    v4.4s, v2.4s, limits.4s
        fmin    v5.4s, v3.4s, limits.4s
        fmul    v6.4s, v4.4s, v26.4s
        fmul    v7.4s, v5.4s, v26.4s
        fadd    v6.4s, v6.4s, v27.4s
        fadd    v7.4s, v7.4s, v27.4s
        horner  28
        horner  29
        horner  30
        horner  31
        square
        square
        square
        square
        square
        fsub    v6.4s, halves.4s, v6.4s
        fsub    v7.4s, halves.4s, v7.4s
        fmul    v2.4s, v2.4s, v6.4s
        fmul    v3.4s, v3.4s, v7.4s
        fmul    v0.4s, v0.4s, halves.4s
        fmul    v1.4s, v1.4s, halves.4s
        fadd    v0.4s, v0.4s, v2.4s
        fadd    v1.4s, v1.4s, v3.4s
.endm

/* Eight results of a row, with a bias and without an activation. */
.macro eight_biased
        ldp     q0, q1, [acc_ptr], #32
        ldp     q16, q17, [scale_ptr], #32
        ldp     q18, q19, [bias_ptr], #32
        scale_and_shift
        stp     q0, q1, [y_ptr], #32
.endm

/* One result of a row, with a bias and without an activation. */
.macro one_biased
        ldr     s0, [acc_ptr], #4
        ldr     s16, [scale_ptr], #4
        ldr     s18, [bias_ptr], #4
        scale_and_shift
        str     s0, [y_ptr], #4
.endm

/* Eight results of a row, without gelu. */
.macro eight_plain
        load_eight
        scale_and_shift
        raise_to_floor
        stp     q0, q1, [y_ptr], #32
.endm

/* One result of a row, without gelu. */
.macro one_plain
        load_one
        scale_and_shift
        raise_to_floor
        str     s0, [y_ptr], #4
.endm

/* Eight results of a row, through gelu. */
.macro eight_gelu
        load_eight
        scale_and_shift
        gelu
        stp     q0, q1, [y_ptr], #32
.endm

/* One result of a row, through gelu. */
.macro one_gelu
        load_one
        scale_and_shift
        gelu
        str     s0, [y_ptr], #4
.endm

function dequantize
        load_block
        ldp     row_scale, row_step, [args, #48]
        ldp     col_scale, bias, [args, #64]
        ldp     act, ld_bias, [args, #80]
        mov     bias_step, #32
        cbz     bias, L(without_bias)
        cbnz    act, L(choose)
        walk    biased, begin_row, eight_biased, one_biased

L(without_bias):
        address_of bias, no_bias
        mov     bias_step, #0
        mov     ld_bias, #0

L(choose):
        cmp     act, #2
        b.eq    L(with_gelu)
        movi    floors.2d, #0
        cbnz    act, L(without_gelu)
        // 0xff800000, minus infinity.
        movi    floors.4s, #0xff, lsl #24
        orr     floors.4s, #0x80, lsl #16
L(without_gelu):
        walk    plain, begin_row, eight_plain, one_plain

L(with_gelu):
        address_of acc_ptr, gelu_constants
        ld4r    {v24.4s, v25.4s, v26.4s, v27.4s}, [acc_ptr], #16
        ld4r    {v28.4s, v29.4s, v30.4s, v31.4s}, [acc_ptr]
        walk    gelu, begin_row, eight_gelu, one_gelu
L(finished):
        ret
endfunction dequantize
