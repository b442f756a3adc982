/*
 * Kernel:     smull_6x4
 * Computes:   C[i][j] = row_start[i] + col_start[j] + sum over p of A[i][p] * B[p][j], mod 2^32
 * Prototype:  void pyint8dot_smull_6x4(const int64_t args[9])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       6 x 4
 * Packing:    RowsI8K2(6) and ColumnsI8K2(4), K group 2
 * Arguments:  x0 = args:
 *             [0] a          const int8_t *   ceil(m / 6) panels of 6 rows, zeros beyond m; k bytes a row
 *             [1] b          const int8_t *   ceil(n / 4) panels of 4 columns, zeros beyond n; k bytes a column
 *             [2] c          int32_t *        row-major, 4 n bytes written in each of m rows
 *             [3] ldc        bytes from a row of C to the next, any sign
 *             [4] m          rows of C, >= 0
 *             [5] n          columns of C, >= 0
 *             [6] k          packed depth, a multiple of 2, >= 0; at 0 C is only the start values
 *             [7] row_start  const int32_t [m] or null
 *             [8] col_start  const int32_t [n rounded up to 4] or null
 * Clobbers:   x1-x16, v0-v4, v16-v21, flags
 * Unused:     x17-x30, v5-v15, v22-v31
 * Stack:      0
 * Over-read:  none
 * Bound:      exact for k <= 131071, the sum of k products of -128 x -128; beyond it wraps like numpy's int32
 */
#include "asm.h"

#define args            x0
#define a_base          x1      /* first panel of A */
#define b_base          x2      /* this panel of B */
#define c_base          x3      /* this tile column of C */
#define ldc             x4      /* bytes from a row of C to the next */
#define rows_all        x5      /* m */
#define columns         x6      /* columns left, this panel's included */
#define pairs           x7      /* K groups of a panel */
#define row_start       x8      /* int32[m] or null */
#define col_start       x9      /* int32[columns rounded up to 4] or null */
#define a_ptr           x10
#define b_ptr           x11
#define counter         x12     /* K groups left */
#define c_ptr           x13
#define rows            x14     /* rows left, this panel's included */
#define row_ptr         x15
#define cell            x16     /* where the next columns of a narrow row go */

/* The tile: a register a row, v16 to v21. */
.macro start_row sum
        mov     v\sum\().16b, v4.16b
.endm

/* The start value of a row that exists; there is nothing to read for the others. */
.macro add_row_start row, sum
        cmp     rows, #\row
        b.ls    L(started)
        ld1r    {v3.4s}, [row_ptr], #4
        add     v\sum\().4s, v\sum\().4s, v3.4s
.endm

/* Two k of a row against two k of four columns: each product fits int16, their sums of two are added in int32. */
.macro multiply_row sum
        ld1r    {v1.4h}, [a_ptr], #2
        smull   v2.8h, v0.8b, v1.8b
        sadalp  v\sum\().4s, v2.8h
.endm

/* A row that exists: all four columns, or two and one of them as the bits of their number say. */
.macro store_row row, sum
        cmp     rows, #\row
        b.ls    L(stored)
        cmp     columns, #4
        b.lo    L(narrow_\sum)
        str     q\sum, [c_ptr]
        b       L(next_row_\sum)
L(narrow_\sum):
        mov     cell, c_ptr
        tbz     columns, #1, L(odd_\sum)
        str     d\sum, [cell], #8
        ext     v\sum\().16b, v\sum\().16b, v\sum\().16b, #8
L(odd_\sum):
        tbz     columns, #0, L(next_row_\sum)
        str     s\sum, [cell]
L(next_row_\sum):
        add     c_ptr, c_ptr, ldc
.endm

function smull_6x4
        ldp     a_base, b_base, [args]
        ldp     c_base, ldc, [args, #16]
        ldp     rows_all, columns, [args, #32]
        ldp     pairs, row_start, [args, #48]
        ldr     col_start, [args, #64]
        lsr     pairs, pairs, #1

        // An empty C has no tile.
        cbz     rows_all, L(finished)
        cbz     columns, L(finished)

L(next_columns):
        mov     a_ptr, a_base
        mov     c_ptr, c_base
        mov     row_ptr, row_start
        mov     rows, rows_all

        // A tile starts from row_start[row] + col_start[column], either of them zero when null.
L(next_rows):
        movi    v4.4s, #0
        cbz     col_start, L(columns_started)
        ldr     q4, [col_start]
L(columns_started):
        start_row 16
        start_row 17
        start_row 18
        start_row 19
        start_row 20
        start_row 21
        cbz     row_start, L(started)
        add_row_start 0, 16
        add_row_start 1, 17
        add_row_start 2, 18
        add_row_start 3, 19
        add_row_start 4, 20
        add_row_start 5, 21

        // The whole depth, a K group a turn.
L(started):
        mov     b_ptr, b_base
        mov     counter, pairs
        cbz     counter, L(multiplied)
L(next_pair):
        ldr     d0, [b_ptr], #8
        multiply_row 16
        multiply_row 17
        multiply_row 18
        multiply_row 19
        multiply_row 20
        multiply_row 21
        subs    counter, counter, #1
        b.ne    L(next_pair)

L(multiplied):
        store_row 0, 16
        store_row 1, 17
        store_row 2, 18
        store_row 3, 19
        store_row 4, 20
        store_row 5, 21
L(stored):
        subs    rows, rows, #6
        b.hi    L(next_rows)

        // Every tile leaves b_ptr at the end of B's panel.
        mov     b_base, b_ptr
        add     c_base, c_base, #16
        cbz     col_start, L(columns_counted)
        add     col_start, col_start, #16
L(columns_counted):
        subs    columns, columns, #4
        b.hi    L(next_columns)

L(finished):
        ret
endfunction smull_6x4
