/* Attention: pointers to eight rows, and the products of both its steps. */
#ifndef PYINT8DOT_ATTENTION_H
#define PYINT8DOT_ATTENTION_H

#define stride          x13     /* from a row to the next */
#define t0              x14

/* A pointer to the row after another, or to the same where no more than so many are left. */
.macro row_after number, previous, base_left
        cmp     \base_left, #\previous
        csel    t0, stride, xzr, hi
        add     x\number, x\previous, t0
.endm

/* x1-x8 to eight rows from `base` on, `stride` apart; to the last one again where there are fewer. */
.macro eight_rows base, base_left, some
        mov     x1, \base
        cmp     \base_left, #8
        b.lo    L(few_\some)
        add     x2, x1, stride
        add     x3, x2, stride
        add     x4, x3, stride
        add     x5, x4, stride
        add     x6, x5, stride
        add     x7, x6, stride
        add     x8, x7, stride
        b       L(all_\some)
L(few_\some):
        row_after 2, 1, \base_left
        row_after 3, 2, \base_left
        row_after 4, 3, \base_left
        row_after 5, 4, \base_left
        row_after 6, 5, \base_left
        row_after 7, 6, \base_left
        row_after 8, 7, \base_left
L(all_\some):
.endm

/* The next element of each of eight rows to v0 and v1. */
.macro eight_elements
        ld1r    {v0.4s}, [x1], #4
        ld1r    {v1.4s}, [x5], #4
        ld1     {v0.s}[1], [x2], #4
        ld1     {v1.s}[1], [x6], #4
        ld1     {v0.s}[2], [x3], #4
        ld1     {v1.s}[2], [x7], #4
        ld1     {v0.s}[3], [x4], #4
        ld1     {v1.s}[3], [x8], #4
.endm

/* The same four k of eight keys, or one: a piece of each to v0-v7. */
.macro load_keys register, bytes
        ldr     \register\()0, [x1], #\bytes
        ldr     \register\()1, [x2], #\bytes
        ldr     \register\()2, [x3], #\bytes
        ldr     \register\()3, [x4], #\bytes
        ldr     \register\()4, [x5], #\bytes
        ldr     \register\()5, [x6], #\bytes
        ldr     \register\()6, [x7], #\bytes
        ldr     \register\()7, [x8], #\bytes
.endm

/* Two registers of the tile to zeros. */
.macro clear low, high
        movi    v\low\().4s, #0
        movi    v\high\().4s, #0
.endm

/* All of it, v16-v31. */
.macro clear_tile
        clear   16, 17
        clear   18, 19
        clear   20, 21
        clear   22, 23
        clear   24, 25
        clear   26, 27
        clear   28, 29
        clear   30, 31
.endm

/* Two registers of the tile: a number in a lane, times eight values. */
.macro multiply_add low, high, x0, x1, by, lane
        fmla    v\low\().4s, v\x0\().4s, v\by\().s[\lane]
        fmla    v\high\().4s, v\x1\().4s, v\by\().s[\lane]
.endm

/* One k of eight queries in two registers, times that of eight keys in a lane of v0-v7: a pair of registers a key. */
.macro score lane, low, high
        multiply_add 16, 17, \low, \high, 0, \lane
        multiply_add 18, 19, \low, \high, 1, \lane
        multiply_add 20, 21, \low, \high, 2, \lane
        multiply_add 22, 23, \low, \high, 3, \lane
        multiply_add 24, 25, \low, \high, 4, \lane
        multiply_add 26, 27, \low, \high, 5, \lane
        multiply_add 28, 29, \low, \high, 6, \lane
        multiply_add 30, 31, \low, \high, 7, \lane
.endm

/* Eight columns of a value, times the powers of eight queries in two registers: a pair of registers a query. */
.macro weigh low, high, powers_low, powers_high
        multiply_add 16, 17, \low, \high, \powers_low, 0
        multiply_add 18, 19, \low, \high, \powers_low, 1
        multiply_add 20, 21, \low, \high, \powers_low, 2
        multiply_add 22, 23, \low, \high, \powers_low, 3
        multiply_add 24, 25, \low, \high, \powers_high, 0
        multiply_add 26, 27, \low, \high, \powers_high, 1
        multiply_add 28, 29, \low, \high, \powers_high, 2
        multiply_add 30, 31, \low, \high, \powers_high, 3
.endm

#endif
