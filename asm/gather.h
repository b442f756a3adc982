/*
 * The walk shared by the gathering packers: panels of 8 columns from rows that
 * lie anywhere.
 *
 * Row k of the operand is the bytes from base + table[k] on, one byte a column;
 * a convolution's windows are such rows, each a shifted run of the image.  Two
 * panels are made at a time while 16 columns are left, then one.  The last
 * panel, where it is narrower than 8, is read as the 8 columns that end where
 * it ends, shifted down, so that no byte beyond a row is touched.
 *
 * A packer defines GROUP (the K group, 1, 4 or 8) before this header, and after it put_16
 * (rows of the k of a turn in v0..v7, 16 columns each, to dst and dst_high) and put_8 (8
 * columns each, to dst), and its body is then `gather_panels`.  A turn is 8 k where that is
 * the K group and 4 k otherwise.
 */
#ifndef PYINT8DOT_GATHER_H
#define PYINT8DOT_GATHER_H

#if GROUP != 1 && GROUP != 4 && GROUP != 8
        .error  "gather.h packs in K groups of 1, 4 and 8: define GROUP as one of them"
#endif

#if GROUP == 8
#define TURN            8
#else
#define TURN            4
#endif

#define args            x0
#define base            x1      /* where row 0 would be if its table entry were 0, at this panel's column */
#define dst             x2      /* next packed byte */
#define depth           x3      /* k, a multiple of TURN */
#define columns         x4      /* columns left */
#define table           x5
#define next            x6      /* table entry of the next k */
#define left            x7      /* k of this panel not packed yet */
#define panel           x8      /* bytes of a panel */
#define dst_high        x9      /* next packed byte of the upper of two panels */
#define row0            x10
#define row1            x11
#define row2            x12
#define row3            x13
#define row4            x14
#define row5            x15
#define row6            x16
#define row7            x17

#define shift           d31     /* -8 for each column of a last panel that was packed before */

/* Where the k of a turn begin, from the table. */
.macro take_rows
        ldp     row0, row1, [next], #16
        ldp     row2, row3, [next], #16
    .if TURN == 8
        ldp     row4, row5, [next], #16
        ldp     row6, row7, [next], #16
    .endif
.endm

/* Sixteen bytes of one k. */
.macro load_16 register, row
        ldr     q\register, [base, \row]
.endm

/* Eight bytes of one k; a shift to the right drops those of columns packed before. */
.macro load_8 register, row
        ldr     d\register, [base, \row]
        ushl    d\register, d\register, shift
.endm

/* The k of a turn, one a register. */
.macro load_turn wide
        load_\wide 0, row0
        load_\wide 1, row1
        load_\wide 2, row2
        load_\wide 3, row3
    .if TURN == 8
        load_\wide 4, row4
        load_\wide 5, row5
        load_\wide 6, row6
        load_\wide 7, row7
    .endif
.endm

/* The body of the entry: two panels at a time, then one, then what is left of one. */
.macro gather_panels
        ldp     base, dst, [args]
        ldp     depth, columns, [args, #16]
        ldr     table, [args, #32]
        cbz     depth, L(finished)
        lsl     panel, depth, #3
        movi    shift, #0

L(next_pair):
        subs    columns, columns, #16
        b.lo    L(single)
        mov     next, table
        mov     left, depth
        add     dst_high, dst, panel
L(turn_16):
        take_rows
        load_turn 16
        put_16
        subs    left, left, #TURN
        b.ne    L(turn_16)
        mov     dst, dst_high
        add     base, base, #16
        b       L(next_pair)

L(single):
        adds    columns, columns, #16
        b.eq    L(finished)
        cmp     columns, #8
        b.hs    L(whole)
        // Fewer than 8: back to the 8 that end here; row0 is free until the first turn.
        sub     row0, columns, #8
        add     base, base, row0
        lsl     row0, row0, #3
        fmov    shift, row0
        mov     columns, #8
L(whole):
        mov     next, table
        mov     left, depth
L(turn_8):
        take_rows
        load_turn 8
        put_8
        subs    left, left, #TURN
        b.ne    L(turn_8)
        add     base, base, #8
        sub     columns, columns, #24
        b       L(single)

L(finished):
        ret
.endm

#endif
