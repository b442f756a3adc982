/*
 * What a packer and a gatherer of K groups of 16 share: 16 k of a few columns, transposed.
 *
 * Where the columns of one k are contiguous, 16 k are read a register each, k of 0 to 7 in v0..v7,
 * of 8 to 15 in v16..v23, column by column.  Four rounds of byte zips, rows 8, 4, 2 and 1 apart,
 * leave the 16 k of a column in a register each: four columns, a panel, in v16..v19, four more in
 * v20..v23.
 *
 * `flips` holds what every K group is exclusive-ored with, its lower half in its lower half.
 */
#ifndef PYINT8DOT_GROUP16_H
#define PYINT8DOT_GROUP16_H

#define flips           v30     /* 0x80 in a byte moves uint8 to int8, 0xff complements it */

/* The bytes of two registers in turn, of their lower halves and of their upper ones. */
.macro zip_bytes low, high, in0, in1
        zip1    v\low\().16b, v\in0\().16b, v\in1\().16b
        zip2    v\high\().16b, v\in0\().16b, v\in1\().16b
.endm

/* k and k + 8 of every column side by side. */
.macro pair_halves
        zip1    v0.16b, v0.16b, v16.16b
        zip1    v1.16b, v1.16b, v17.16b
        zip1    v2.16b, v2.16b, v18.16b
        zip1    v3.16b, v3.16b, v19.16b
        zip1    v4.16b, v4.16b, v20.16b
        zip1    v5.16b, v5.16b, v21.16b
        zip1    v6.16b, v6.16b, v22.16b
        zip1    v7.16b, v7.16b, v23.16b
.endm

/* What is left of four columns once k, k + 4, k + 8 and k + 12 are side by side in four registers. */
.macro finish_columns r0, r1, r2, r3, t0, t1, t2, t3
        zip_bytes \t0, \t2, \r0, \r2
        zip_bytes \t1, \t3, \r1, \r3
        zip_bytes \r0, \r1, \t0, \t1
        zip_bytes \r2, \r3, \t2, \t3
.endm

/* Four columns to v16..v19. */
.macro transpose_4
        pair_halves
        zip1    v16.16b, v0.16b, v4.16b
        zip1    v17.16b, v1.16b, v5.16b
        zip1    v18.16b, v2.16b, v6.16b
        zip1    v19.16b, v3.16b, v7.16b
        finish_columns 16, 17, 18, 19, 0, 1, 2, 3
.endm

/* Eight columns to v16..v23. */
.macro transpose_8
        pair_halves
        zip_bytes 16, 20, 0, 4
        zip_bytes 17, 21, 1, 5
        zip_bytes 18, 22, 2, 6
        zip_bytes 19, 23, 3, 7
        finish_columns 16, 17, 18, 19, 0, 1, 2, 3
        finish_columns 20, 21, 22, 23, 4, 5, 6, 7
.endm

/* A K group of one row or column as it is packed. */
.macro flip_group register
        eor     v\register\().16b, v\register\().16b, flips.16b
.endm

/* Four K groups to a panel. */
.macro put_groups target, r0, r1, r2, r3
        flip_group \r0
        flip_group \r1
        flip_group \r2
        flip_group \r3
        stp     q\r0, q\r1, [\target], #32
        stp     q\r2, q\r3, [\target], #32
.endm

/* The columns of a last panel, which end where all end: those packed before make way, and `nothing` follows. */
.macro drop_columns count, nothing
L(drop_\@):
        mov     v16.16b, v17.16b
        mov     v17.16b, v18.16b
        mov     v18.16b, v19.16b
        mov     v19.16b, \nothing\().16b
        subs    \count, \count, #1
        b.ne    L(drop_\@)
.endm

#endif
