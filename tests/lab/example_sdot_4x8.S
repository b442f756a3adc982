/*
 * Kernel:     example_sdot_4x8
 * Computes:   C[i][j] = row_start[i] + col_start[j] + sum over p of A[i][p] * B[p][j], mod 2^32
 * Prototype:  void pyint8dot_example_sdot_4x8(const int64_t args[9])
 * Requires:   FEAT_DotProd
 * Tile:       4 x 8
 * Packing:    PackedI8K4(4) and PackedI8K4(8), K group 4
 * Arguments:  x0 = args:
 *             [0] a          const int8_t *   panels of 4 rows, then of 2, 1 as m % 4 has bits; k bytes a row
 *             [1] b          const int8_t *   ceil(n / 8) panels of 8 columns, zeros beyond n; k bytes a column
 *             [2] c          int32_t *        row-major, 4 n bytes written in each of m rows
 *             [3] ldc        bytes from a row of C to the next, any sign
 *             [4] m          rows of C, >= 0
 *             [5] n          columns of C, >= 0
 *             [6] k          packed depth, a multiple of 4, >= 0; at 0 C is only the start values
 *             [7] row_start  const int32_t [m] or null
 *             [8] col_start  const int32_t [n rounded up to 8] or null
 * Clobbers:   x1-x16, v0-v7, v16-v27, flags
 * Unused:     x17-x30, v8-v15, v28-v31
 * Stack:      0
 * Over-read:  none
 * Bound:      exact for k <= 131071, the sum of k products of -128 x -128; beyond it wraps like numpy's int32
 */
#include "asm.h"

/* Dot products are allowed from here to the end of this file only. */
#if defined(__APPLE__)
        .arch_extension dotprod
#else
        .arch   armv8.2-a+dotprod
#endif

#define args            x0
#define a_base          x1      /* first panel of A */
#define b_base          x2      /* this panel of B */
#define c_base          x3      /* this tile column of C */
#define ldc             x4      /* bytes from a row of C to the next */
#define rows_all        x5      /* m */
#define columns         x6      /* columns left, this panel's included */
#define groups          x7      /* K groups of a panel */
#define row_start       x8      /* int32[m] or null */
#define col_start       x9      /* int32[columns rounded up to 8] or null */
#define a_ptr           x10
#define b_ptr           x11
#define counter         x12     /* K groups left */
#define c_ptr           x13
#define rows            x14     /* rows left, this panel's included */
#define row_ptr         x15
#define cell            x16     /* where the next columns of a narrow row go */

/* Apply a macro to the rows 0 .. n-1 of the tile: row r is v[16 + 2r], columns 0 to 3, and v[17 + 2r], columns 4 to 7. */
.macro do_rows n, macro
        \macro  16, 17
    .if \n > 1
        \macro  18, 19
    .endif
    .if \n > 2
        \macro  20, 21
        \macro  22, 23
    .endif
.endm

/* A row begins with the start values of the columns, which v4 and v5 have. */
.macro start_row low, high
        mov     v\low\().16b, v4.16b
        mov     v\high\().16b, v5.16b
.endm

/* The start value of a row, added in every column. */
.macro add_row_start low, high
        ld1r    {v6.4s}, [row_ptr], #4
        add     v\low\().4s, v\low\().4s, v6.4s
        add     v\high\().4s, v\high\().4s, v6.4s
.endm

/* One row: four k of A, a lane of its register, against four k of eight columns of B. */
.macro dot low, high, a, lane, b0, b1
        sdot    v\low\().4s, v\b0\().16b, v\a\().4b[\lane]
        sdot    v\high\().4s, v\b1\().16b, v\a\().4b[\lane]
.endm

/* One K group of n rows, whose sums make up to eight chains. */
.macro multiply_group n, a, b0, b1
        dot     16, 17, \a, 0, \b0, \b1
    .if \n > 1
        dot     18, 19, \a, 1, \b0, \b1
    .endif
    .if \n > 2
        dot     20, 21, \a, 2, \b0, \b1
        dot     22, 23, \a, 3, \b0, \b1
    .endif
.endm

/* The whole depth of a tile of n rows: four K groups a turn where it has four rows, then one by one. */
.macro multiply n
        mov     b_ptr, b_base
        mov     counter, groups
    .if \n == 4
        subs    counter, counter, #4
        b.lo    L(turned)
L(next_turn):
        ld1     {v0.16b, v1.16b, v2.16b, v3.16b}, [a_ptr], #64
        ld1     {v4.16b, v5.16b, v6.16b, v7.16b}, [b_ptr], #64
        ld1     {v24.16b, v25.16b, v26.16b, v27.16b}, [b_ptr], #64
        multiply_group 4, 0, 4, 5
        multiply_group 4, 1, 6, 7
        multiply_group 4, 2, 24, 25
        multiply_group 4, 3, 26, 27
        subs    counter, counter, #4
        b.hs    L(next_turn)
L(turned):
        add     counter, counter, #4
    .endif
        cbz     counter, L(multiplied_\n)
L(next_group_\n):
    .if \n == 4
        ldr     q0, [a_ptr], #16
    .elseif \n == 2
        ldr     d0, [a_ptr], #8
    .else
        ldr     s0, [a_ptr], #4
    .endif
        ld1     {v4.16b, v5.16b}, [b_ptr], #32
        multiply_group \n, 0, 4, 5
        subs    counter, counter, #1
        b.ne    L(next_group_\n)
L(multiplied_\n):
.endm

/* A row of eight columns. */
.macro store_row low, high
        stp     q\low, q\high, [c_ptr]
        add     c_ptr, c_ptr, ldc
.endm

/* 1 to 7 columns of a row, by the bits of their number; nothing beyond is touched. */
.macro store_row_edge low, high
        mov     cell, c_ptr
        tbz     columns, #2, L(edge_two_\low\()_\@)
        str     q\low, [cell], #16
        mov     v\low\().16b, v\high\().16b
L(edge_two_\low\()_\@):
        tbz     columns, #1, L(edge_one_\low\()_\@)
        str     d\low, [cell], #8
        ext     v\low\().16b, v\low\().16b, v\low\().16b, #8
L(edge_one_\low\()_\@):
        tbz     columns, #0, L(edge_end_\low\()_\@)
        str     s\low, [cell]
L(edge_end_\low\()_\@):
        add     c_ptr, c_ptr, ldc
.endm

/* One tile of n rows, from its start values to its stores. */
.macro tile n
        movi    v4.4s, #0
        movi    v5.4s, #0
        cbz     col_start, L(columns_started_\n)
        ldp     q4, q5, [col_start]
L(columns_started_\n):
        do_rows \n, start_row
        cbz     row_start, L(started_\n)
        do_rows \n, add_row_start
L(started_\n):
        multiply \n
        cmp     columns, #8
        b.hs    L(store_whole_\n)
        do_rows \n, store_row_edge
        b       L(stored_\n)
L(store_whole_\n):
        do_rows \n, store_row
L(stored_\n):
.endm

function example_sdot_4x8
        ldp     a_base, b_base, [args]
        ldp     c_base, ldc, [args, #16]
        ldp     rows_all, columns, [args, #32]
        ldp     groups, row_start, [args, #48]
        ldr     col_start, [args, #64]
        lsr     groups, groups, #2

        // An empty C has no tile.
        cbz     rows_all, L(finished)
        cbz     columns, L(finished)

        // A panel of B stays near the processor while all of A passes by.
L(next_columns):
        mov     a_ptr, a_base
        mov     c_ptr, c_base
        mov     row_ptr, row_start
        mov     rows, rows_all
        subs    rows, rows, #4
        b.lo    L(last_rows)
L(next_rows):
        tile    4
        subs    rows, rows, #4
        b.hs    L(next_rows)

        // The bits of m % 4 say which smaller panels follow; taking four away has left them as they were.
L(last_rows):
        tbz     rows, #1, L(last_one)
        tile    2
L(last_one):
        tbz     rows, #0, L(columns_done)
        tile    1

        // Every tile leaves b_ptr at the end of B's panel.
L(columns_done):
        mov     b_base, b_ptr
        add     c_base, c_base, #32
        cbz     col_start, L(columns_counted)
        add     col_start, col_start, #32
L(columns_counted):
        subs    columns, columns, #8
        b.hi    L(next_columns)

L(finished):
        ret
endfunction example_sdot_4x8
