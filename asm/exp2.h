/*
 * Powers of two of float32 values, as floats.py defines them: 2^n * E(y - n)^2 with n the nearest integer, each step rounded once.
 * A file that includes this one defines the constants and loads them before it takes a power.
 */
#ifndef PYINT8DOT_EXP2_H
#define PYINT8DOT_EXP2_H

#define lowest          v22     /* -127: the power is 0 from here down */
#define magics          v23     /* added to y it leaves n + 127 in the low bits; v24-v28 are E from its highest coefficient down */

/* The constants of floats.py: the lowest exponent, the magic number, and E. */
.macro define_exp2_constants
constants exp2_constants
        .word   0xc2fe0000, 0x4b40007f
        .word   0x3a1d733f, 0x3be3c3c7, 0x3d75fe2b, 0x3eb171fe, 0x3f800000

        .text
.endm

/* All of them to v22-v28. */
.macro load_exp2_constants pointer
        address_of \pointer, exp2_constants
        ld2r    {v22.4s, v23.4s}, [\pointer], #8
        ld4r    {v24.4s, v25.4s, v26.4s, v27.4s}, [\pointer], #16
        ld1r    {v28.4s}, [\pointer]
.endm

/* Minus infinity, 0xff800000, four times. */
.macro minus_infinity register
        movi    \register\().4s, #0xff, lsl #24
        orr     \register\().4s, #0x80, lsl #16
.endm

/* One step of a polynomial in v0 and v1: times the argument, plus a coefficient. */
.macro horner coefficient
        fmul    v4.4s, v4.4s, v0.4s
        fmul    v5.4s, v5.4s, v1.4s
        fadd    v4.4s, v4.4s, v\coefficient\().4s
        fadd    v5.4s, v5.4s, v\coefficient\().4s
.endm

/* Eight values of at most 0 in v0 and v1 to their powers in v4 and v5; v2 and v3 are lost. */
.macro power
        fmax    v0.4s, v0.4s, lowest.4s
        fmax    v1.4s, v1.4s, lowest.4s
        fadd    v2.4s, v0.4s, magics.4s
        fadd    v3.4s, v1.4s, magics.4s
        fsub    v4.4s, v2.4s, magics.4s
        fsub    v5.4s, v3.4s, magics.4s
        fsub    v0.4s, v0.4s, v4.4s
        fsub    v1.4s, v1.4s, v5.4s
        fmul    v4.4s, v0.4s, v24.4s
        fmul    v5.4s, v1.4s, v24.4s
        fadd    v4.4s, v4.4s, v25.4s
        fadd    v5.4s, v5.4s, v25.4s
        horner  26
        horner  27
        horner  28
        fmul    v4.4s, v4.4s, v4.4s
        fmul    v5.4s, v5.4s, v5.4s
        shl     v2.4s, v2.4s, #23
        shl     v3.4s, v3.4s, #23
        fmul    v4.4s, v4.4s, v2.4s
        fmul    v5.4s, v5.4s, v3.4s
.endm

#endif
