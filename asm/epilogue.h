/*
 * The walk shared by the epilogues: over the rows of an int32 block, and over each row
 * eight columns at a time, or sixteen and then eight, then one at a time.
 *
 * `walk name, begin, eight, one` is such a walk, made of three macros of the epilogue:
 *   begin    what a row needs before its columns
 *   eight    eight int32 at [acc_ptr] to eight results at [y_ptr], both moved on
 *   one      the same for one
 * and of a fourth, `sixteen`, where the epilogue has one.
 * It ends at the entry's label `finished`; `name` tells the labels of one walk from those of another.
 */
#ifndef PYINT8DOT_EPILOGUE_H
#define PYINT8DOT_EPILOGUE_H

#define args            x0
#define acc             x1      /* this row of the block */
#define y               x2      /* this row of the result */
#define ld_acc          x3      /* bytes from a row of the block to the next */
#define ld_y            x4      /* the same of the result */
#define rows            x5      /* rows left */
#define columns         x6      /* columns of a row */
#define acc_ptr         x7
#define y_ptr           x8
#define left            x9      /* columns left in the row */

/* The six arguments that every epilogue begins with. */
.macro load_block
        ldp     acc, y, [args]
        ldp     ld_acc, ld_y, [args, #16]
        ldp     rows, columns, [args, #32]
.endm

/* All rows: `begin` at the start of each, then `sixteen` and `eight` for whole turns of its columns and
 * `one` for each column left. */
.macro walk name, begin, eight, one, sixteen
        cbz     rows, L(finished_\name)
        cbz     columns, L(finished_\name)
L(next_row_\name):
        mov     acc_ptr, acc
        mov     y_ptr, y
        \begin
    .ifnb \sixteen
        subs    left, columns, #16
        b.lo    L(last_eight_\name)
L(next_sixteen_\name):
        \sixteen
        subs    left, left, #16
        b.hs    L(next_sixteen_\name)
        // Of less than sixteen columns eight are a turn at most.
L(last_eight_\name):
        adds    left, left, #8
        b.lo    L(row_end_\name)
        \eight
        sub     left, left, #8
    .else
        subs    left, columns, #8
        b.lo    L(row_end_\name)
L(next_eight_\name):
        \eight
        subs    left, left, #8
        b.hs    L(next_eight_\name)
    .endif
L(row_end_\name):
        adds    left, left, #8
        b.eq    L(row_done_\name)
L(next_one_\name):
        \one
        subs    left, left, #1
        b.ne    L(next_one_\name)
L(row_done_\name):
        add     acc, acc, ld_acc
        add     y, y, ld_y
        subs    rows, rows, #1
        b.ne    L(next_row_\name)
L(finished_\name):
        b       L(finished)
.endm

#endif
