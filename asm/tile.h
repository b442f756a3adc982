/*
 * The int32 tile shared by every kernel of 8 columns, and the loops over tiles.
 *
 * tract's layout: v[16 + 2r + h], h = 0 or 1, holds row r of the tile, columns
 * 4h .. 4h+3, so a row of C is two whole registers:
 *
 *                 columns 0 1 2 3   columns 4 5 6 7
 *          row 0        v16               v17
 *          row 1        v18               v19
 *          ...
 *          row 7        v30               v31
 *
 * A's rows come in panels of 8; the last m % 8 rows in panels of 4, 2 and 1, as
 * the bits of m say, so no multiply is spent on a row that does not exist.  B's
 * columns come in panels of 8, the last one filled up with zeros.
 *
 * A kernel of packed operands defines, before this header, MR and NR, the rows and columns of its
 * tile, both 8, GROUP_LOG2 and TURN_8 .. TURN_1; after it, for rows = 8, 4, 2, 1, the macros
 *   main_<rows>      add the product of one turn of k to the tile
 *   rest_<rows>      the same for one K group
 * which read A's panel at a_ptr and B's at b_ptr, move both on, and may use v0..v7 (and
 * v24..v31 where rows < 8).  A K group is 2^GROUP_LOG2 k, 1, 4 or 8 of them, a turn of a tile of r
 * rows 2^TURN_r groups.  `gemm_8x8` is then the body of the entry, up to `ret`.
 *
 * A kernel that finds its operands in another way, takes other turns for some rows, or holds its
 * sums in another form until a tile is done, has `walk`, and gives it the macro that makes the sums
 * of a tile of so many rows: from start values to the layout above, with b_ptr left at the end of
 * B's panel and a_ptr at the next panel of A.
 */
#ifndef PYINT8DOT_TILE_H
#define PYINT8DOT_TILE_H

#if MR != 8 || NR != 8
        .error  "tile.h has the loops of tiles of 8 x 8: define MR and NR as 8"
#endif
#if !defined(GROUP_LOG2) || (GROUP_LOG2 != 0 && GROUP_LOG2 != 2 && GROUP_LOG2 != 3)
        .error  "tile.h has the loops of K groups of 1, 4 and 8: define GROUP_LOG2 as 0, 2 or 3"
#endif

#define args            x0
#define a_base          x1      /* first panel of A */
#define b_base          x2      /* this panel of B */
#define c_base          x3      /* this tile column of C */
#define ldc             x4      /* bytes from a row of C to the next */
#define rows_all        x5      /* m */
#define columns         x6      /* columns left, this panel's included */
#define depth           x7      /* packed k */
#define row_start       x8      /* int32[m] or null */
#define col_start       x9      /* int32[columns rounded up to 8], or zeros */
#define a_ptr           x10
#define b_ptr           x11
#define counter         x12
#define c_ptr           x13
#define rows            x14     /* rows left, this panel's included */
#define row_ptr         x15
#define t0              x16
#define col_step        x17     /* bytes from col_start of a panel to that of the next: none between zeros */

/* `do_rows n, macro`: apply a macro to the tile rows 0 .. n-1, as (low, high) registers. */
.macro do_rows n, macro
    .if \n != 8 && \n != 4 && \n != 2 && \n != 1
        .error  "tile.h has tiles of 8, 4, 2 and 1 rows"
    .endif
        \macro  16, 17
    .if \n > 1
        \macro  18, 19
    .endif
    .if \n > 2
        \macro  20, 21
        \macro  22, 23
    .endif
    .if \n > 4
        \macro  24, 25
        \macro  26, 27
        \macro  28, 29
        \macro  30, 31
    .endif
.endm

/* A row that starts from the columns' values. */
.macro load_columns low, high
        ldp     q\low, q\high, [col_start]
.endm

/* A row's own value, in every column. */
.macro add_row_start low, high
        ld1r    {v2.4s}, [row_ptr], #4
        add     v\low\().4s, v\low\().4s, v2.4s
        add     v\high\().4s, v\high\().4s, v2.4s
.endm

/* The tile starts from row_start[row] + col_start[column], the former zero when null:
 * zero-point corrections and biases cost no pass of their own over C. */
.macro start_tile n
        do_rows \n, load_columns
        cbz     row_start, L(started_\n)
        do_rows \n, add_row_start
L(started_\n):
.endm

/* Tiles of one and two rows keep further sums of the same rows up to v23, so that eight are
 * under way whatever the tile: cleared before the multiply, added up after it. */
.macro clear_spare n
    .if \n == 1
        movi    v18.4s, #0
        movi    v19.4s, #0
    .endif
    .if \n < 4
        movi    v20.4s, #0
        movi    v21.4s, #0
        movi    v22.4s, #0
        movi    v23.4s, #0
    .endif
.endm

/* The further sums, added to those that are stored. */
.macro add_spare n
    .if \n < 4
        add     v16.4s, v16.4s, v20.4s
        add     v17.4s, v17.4s, v21.4s
        add     v18.4s, v18.4s, v22.4s
        add     v19.4s, v19.4s, v23.4s
    .endif
    .if \n == 1
        add     v16.4s, v16.4s, v18.4s
        add     v17.4s, v17.4s, v19.4s
    .endif
.endm

/* The whole depth of one tile: two turns a pass, so that counting passes costs little, then
 * the turn and the K groups that are left. */
.macro depth_loops n, turn
        lsr     counter, depth, #GROUP_LOG2 + \turn + 1
        cbz     counter, L(turn_\n)
L(pass_\n):
        main_\n
        main_\n
        subs    counter, counter, #1
        b.ne    L(pass_\n)

L(turn_\n):
        tbz     depth, #GROUP_LOG2 + \turn, L(rest_\n)
        main_\n

L(rest_\n):
        ubfx    counter, depth, #GROUP_LOG2, #\turn
        cbz     counter, L(multiplied_\n)
L(single_\n):
        rest_\n
        subs    counter, counter, #1
        b.ne    L(single_\n)
L(multiplied_\n):
.endm

/* The product of two packed panels, by turns of the length that the kernel takes for so many rows. */
.macro multiply_panels n
    .if \n == 8
        depth_loops 8, TURN_8
    .elseif \n == 4
        depth_loops 4, TURN_4
    .elseif \n == 2
        depth_loops 2, TURN_2
    .else
        depth_loops 1, TURN_1
    .endif
.endm

/* A whole row of the tile. */
.macro store_row low, high
        stp     q\low, q\high, [c_ptr]
        add     c_ptr, c_ptr, ldc
.endm

/* 1 to 7 columns of a row, by the bits of their number; nothing beyond is touched. */
.macro store_row_edge low, high
        mov     t0, c_ptr
        tbz     columns, #2, L(edge_two_\low\()_\@)
        str     q\low, [t0], #16
        mov     v\low\().16b, v\high\().16b
L(edge_two_\low\()_\@):
        tbz     columns, #1, L(edge_one_\low\()_\@)
        str     d\low, [t0], #8
        ext     v\low\().16b, v\low\().16b, v\low\().16b, #8
L(edge_one_\low\()_\@):
        tbz     columns, #0, L(edge_end_\low\()_\@)
        str     s\low, [t0]
L(edge_end_\low\()_\@):
        add     c_ptr, c_ptr, ldc
.endm

/* All rows of the tile, of 8 columns or of those that exist. */
.macro store_tile n
        cmp     columns, #8
        b.hs    L(store_whole_\n)
        do_rows \n, store_row_edge
        b       L(stored_\n)
L(store_whole_\n):
        do_rows \n, store_row
L(stored_\n):
.endm

/* The sums of a tile that holds them in its own layout all the time. */
.macro sum_tile n, multiply
        start_tile \n
        mov     b_ptr, b_base
        clear_spare \n
        \multiply \n
        add_spare \n
.endm

/* The same of two packed panels. */
.macro sum_panels n
        sum_tile \n, multiply_panels
.endm

/* One tile of C, from its start values to its stores. */
.macro one_tile n, sums
        \sums   \n
        store_tile \n
.endm

/* The arguments that every kernel of this tile begins with. */
.macro read_arguments
        ldp     c_base, ldc, [args, #16]
        ldp     rows_all, columns, [args, #32]
        ldp     depth, row_start, [args, #48]
        ldr     col_start, [args, #64]
        ldp     a_base, b_base, [args]
.endm

/* Every tile of C, column panel by column panel: B's panel stays in the first-level
 * cache while the block of A, sized by the caller to the second, passes by. */
.macro walk sums
        // An empty C has no tile.
        cbz     rows_all, L(finished)
        cbz     columns, L(finished)

        // Without start values of columns every panel reads the same zeros.
        mov     col_step, #32
        cbnz    col_start, L(next_columns)
        address_of col_start, no_columns
        mov     col_step, #0

L(next_columns):
        mov     a_ptr, a_base
        mov     c_ptr, c_base
        mov     row_ptr, row_start
        mov     rows, rows_all
        cmp     rows, #8
        b.lo    L(last_rows)

L(next_rows):
        one_tile 8, \sums
        sub     rows, rows, #8
        cmp     rows, #8
        b.hs    L(next_rows)

        // The bits of m % 8 say which smaller panels follow.
L(last_rows):
        tbz     rows, #2, L(last_two)
        one_tile 4, \sums
L(last_two):
        tbz     rows, #1, L(last_one)
        one_tile 2, \sums
L(last_one):
        tbz     rows, #0, L(columns_done)
        one_tile 1, \sums

        // Whichever tile came last, it left b_ptr at the end of B's panel.
L(columns_done):
        mov     b_base, b_ptr
        add     c_base, c_base, #32
        add     col_start, col_start, col_step
        subs    columns, columns, #8
        b.hi    L(next_columns)

L(finished):
.endm

/* The body of a kernel whose operands are both packed. */
.macro gemm_8x8
        read_arguments
        walk    sum_panels
.endm

/* What a tile without start values of columns begins with: a row of it, or as much as one load brings. */
constants no_columns
        .skip   64

#endif
