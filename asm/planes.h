/*
 * The product with a right operand that is an image: the windows of a convolution where they lie.
 *
 * An image whose channels are interleaved by K groups is a plane for every group of channels, each
 * pixel a K group of bytes in it.  Eight neighbouring pixels of a plane are then a panel's columns of
 * one K group as they lie, and those that a tap of the window looks at are the same, further along:
 *
 *          tap 0, plane 0       [p0 p1 p2 p3 p4 p5 p6 p7] p8 p9 ..
 *          tap 1, plane 0        p0[p1 p2 p3 p4 p5 p6 p7  p8] p9 ..
 *
 * So nothing is packed.  K runs over the taps and, within each, over the planes: in runs of K groups a
 * plane apart from each other, of which a table says how far along they begin.  A run is all planes of a
 * tap, or a part of them.  Runs of a depth of RUN have code of their own for eight rows, without a loop
 * within them, so whoever makes the table takes such parts where they divide a tap.
 *
 * A kernel includes this after tile.h; its macros main_<rows> and rest_<rows> read a K group at b_ptr
 * and move that by `plane`.  It defines, after this header, `whole_runs`, all runs of eight rows where each
 * is RUN deep, and the sums of a tile of some rows, which end with `multiply_runs`.  `gemm_planes` is then
 * the body of the entry between its frame's ends.
 */
#ifndef PYINT8DOT_PLANES_H
#define PYINT8DOT_PLANES_H

#define RUN             32      /* of 32 channels */

#define plane           x0      /* bytes from a K group of B to the next of its run, once the arguments are read */
#define run_ptr         x9      /* next run; in the place of col_start, since columns start from nothing */
#define runs            x19     /* how far from b each begins */
#define runs_end        x20

/* Where the next run begins. */
.macro next_run
        ldr     b_ptr, [run_ptr], #8
        add     b_ptr, b_base, b_ptr
.endm

/* All runs of a tile; `depth` is that of one, and `multiply` the macro that multiplies one of any depth. */
.macro multiply_runs n, multiply
        mov     run_ptr, runs
    .if \n == 8
        cmp     depth, #RUN
        b.ne    L(next_run_\n)
        whole_runs
        b       L(runs_done_\n)
    .endif
L(next_run_\n):
        next_run
        \multiply \n
        cmp     run_ptr, runs_end
        b.ne    L(next_run_\n)
L(runs_done_\n):
        // The walk goes on from here with the next eight pixels.
        add     b_ptr, b_base, #8 << GROUP_LOG2
.endm

/* What an entry does between the ends of its frame. */
.macro gemm_planes sums
        ldp     c_base, ldc, [args, #16]
        ldp     rows_all, columns, [args, #32]
        ldp     depth, row_start, [args, #48]
        ldp     runs, runs_end, [args, #72]
        ldp     a_base, b_base, [args]
        ldr     plane, [args, #64]
        add     runs_end, runs, runs_end, lsl #3
        mov     col_start, #0
        walk    \sums
.endm

#endif
