/*
 * Rows of float32 times panels of 16 columns, each sum a chain of fused multiply-adds from its start value on, k ascending: the result is
 * the same on every core, however many rows or panels are taken at a time.
 */
#ifndef PYINT8DOT_CHAINS_H
#define PYINT8DOT_CHAINS_H

/* What a file loads before `chains`; rows, and the pointers to them, are used up. */
#define a_at            x1      /* rows of `depth` */
#define b_all           x2      /* panels: 16 columns, one k after the other */
#define y_at            x3      /* rows of 16 for each panel */
#define start_at        x4      /* the same; may be y */
#define ld_a            x5      /* bytes from a row to the next */
#define ld_y            x6
#define ld_start        x7
#define rows            x8
#define depth           x9
#define panels          x10     /* > 0 */

/* What `chains` works with. */
#define a0              x11     /* along a row of a, or of each of four */
#define a1              x12
#define a2              x13
#define a3              x14
#define b1              x12     /* where one row takes four panels */
#define b2              x13
#define b3              x14
#define b0              x15
#define column          x16     /* bytes from the first column */
#define left            x17     /* panels */
#define count           x19     /* k */
#define place           x20

/* One row's four registers of a tile: plus element `lane` of v`factor` times one k of a panel. */
.macro add_row factor, lane, first, second, third, fourth
        fmla    v\first\().4s, v4.4s, v\factor\().s[\lane]
        fmla    v\second\().4s, v5.4s, v\factor\().s[\lane]
        fmla    v\third\().4s, v6.4s, v\factor\().s[\lane]
        fmla    v\fourth\().4s, v7.4s, v\factor\().s[\lane]
.endm

/* One k of four rows and a panel. */
.macro four_rows lane
        ld1     {v4.4s, v5.4s, v6.4s, v7.4s}, [b0], #64
        add_row 0, \lane, 16, 17, 18, 19
        add_row 1, \lane, 20, 21, 22, 23
        add_row 2, \lane, 24, 25, 26, 27
        add_row 3, \lane, 28, 29, 30, 31
.endm

/* One k of a row and four panels. */
.macro four_panels lane
        ld1     {v4.4s, v5.4s, v6.4s, v7.4s}, [b0], #64
        add_row 0, \lane, 16, 17, 18, 19
        ld1     {v4.4s, v5.4s, v6.4s, v7.4s}, [b1], #64
        add_row 0, \lane, 20, 21, 22, 23
        ld1     {v4.4s, v5.4s, v6.4s, v7.4s}, [b2], #64
        add_row 0, \lane, 24, 25, 26, 27
        ld1     {v4.4s, v5.4s, v6.4s, v7.4s}, [b3], #64
        add_row 0, \lane, 28, 29, 30, 31
.endm

/* One k of a row and a panel. */
.macro one_panel lane
        ld1     {v4.4s, v5.4s, v6.4s, v7.4s}, [b0], #64
        add_row 0, \lane, 16, 17, 18, 19
.endm

/* `tile` for every k: four of them a turn, which `load` brings from the rows, then one by one unless there are none left. */
.macro every_k tile, load, name, fours
        subs    count, depth, #4
    .ifb \fours
        b.lo    L(\name\()_end)
    .endif
L(\name\()_four):
        \load   q, 16
        \tile   0
        \tile   1
        \tile   2
        \tile   3
        subs    count, count, #4
        b.hs    L(\name\()_four)
    .ifb \fours
L(\name\()_end):
        adds    count, count, #4
        b.eq    L(\name\()_done)
L(\name\()_one):
        \load   s, 4
        \tile   0
        subs    count, count, #1
        b.ne    L(\name\()_one)
L(\name\()_done):
    .endif
.endm

/* The next elements of four rows to v0-v3. */
.macro load_four register, bytes
        ldr     \register\()0, [a0], #\bytes
        ldr     \register\()1, [a1], #\bytes
        ldr     \register\()2, [a2], #\bytes
        ldr     \register\()3, [a3], #\bytes
.endm

/* The same of one row. */
.macro load_one register, bytes
        ldr     \register\()0, [a0], #\bytes
.endm

/* The tile from or to four rows, or from or to one of four panels. */
.macro move_rows instruction, step
        \instruction {v16.4s, v17.4s, v18.4s, v19.4s}, [place], \step
        \instruction {v20.4s, v21.4s, v22.4s, v23.4s}, [place], \step
        \instruction {v24.4s, v25.4s, v26.4s, v27.4s}, [place], \step
        \instruction {v28.4s, v29.4s, v30.4s, v31.4s}, [place]
.endm

/* y = start + a * b, row by row; with `fours`, for a depth that is a multiple of 4 and not 0. */
.macro chains fours
        // Four rows, a panel at a time.
        subs    rows, rows, #4
        b.lo    L(rows_end)
L(next_rows):
        mov     b0, b_all
        mov     column, #0
        mov     left, panels
L(rows_panel):
        mov     a0, a_at
        add     a1, a_at, ld_a
        add     a2, a1, ld_a
        add     a3, a2, ld_a
        add     place, start_at, column
        move_rows ld1, ld_start
        every_k four_rows, load_four, rows, \fours
        add     place, y_at, column
        move_rows st1, ld_y
        add     column, column, #64
        subs    left, left, #1
        b.ne    L(rows_panel)
        add     a_at, a_at, ld_a, lsl #2
        add     y_at, y_at, ld_y, lsl #2
        add     start_at, start_at, ld_start, lsl #2
        subs    rows, rows, #4
        b.hs    L(next_rows)
L(rows_end):
        adds    rows, rows, #4
        b.eq    L(chains_done)

        // One row, four panels at a time.
L(next_row):
        mov     b0, b_all
        mov     column, #0
        subs    left, panels, #4
        b.lo    L(panels_end)
L(next_panels):
        add     b1, b0, depth, lsl #6
        add     b2, b1, depth, lsl #6
        add     b3, b2, depth, lsl #6
        mov     a0, a_at
        add     place, start_at, column
        move_rows ld1, #64
        every_k four_panels, load_one, panels, \fours
        mov     b0, b3
        add     place, y_at, column
        move_rows st1, #64
        add     column, column, #256
        subs    left, left, #4
        b.hs    L(next_panels)
L(panels_end):
        adds    left, left, #4
        b.eq    L(row_done)

        // The last panels, one at a time.
L(next_panel):
        mov     a0, a_at
        add     place, start_at, column
        ld1     {v16.4s, v17.4s, v18.4s, v19.4s}, [place]
        every_k one_panel, load_one, panel, \fours
        add     place, y_at, column
        st1     {v16.4s, v17.4s, v18.4s, v19.4s}, [place]
        add     column, column, #64
        subs    left, left, #1
        b.ne    L(next_panel)
L(row_done):
        add     a_at, a_at, ld_a
        add     y_at, y_at, ld_y
        add     start_at, start_at, ld_start
        subs    rows, rows, #1
        b.ne    L(next_row)
L(chains_done):
.endm

#endif
