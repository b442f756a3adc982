/*
 * Eight k of columns, one k a register, turned into K groups of 8: what the packer and the
 * gatherer of PackedI8K8 share.
 *
 * Bytes, then pairs, then words of neighbouring k are put side by side, until a register has
 * eight k of one column and eight of the next.  Columns 0 to 7 end up in v0..v3, columns 8 to 15
 * in v4..v7; v16..v27 are used on the way.
 */
#ifndef PYINT8DOT_GROUP8_H
#define PYINT8DOT_GROUP8_H

/* The lower eight columns of v0..v7: two k of a column in a half word, four in a word, eight in all. */
.macro group_low
        zip1    v16.16b, v0.16b, v1.16b
        zip1    v17.16b, v2.16b, v3.16b
        zip1    v18.16b, v4.16b, v5.16b
        zip1    v19.16b, v6.16b, v7.16b
        group_words 0, 1, 2, 3, 16, 17, 18, 19
.endm

/* All sixteen columns; the upper halves are taken before the operands are overwritten. */
.macro group_all
        zip2    v20.16b, v0.16b, v1.16b
        zip2    v21.16b, v2.16b, v3.16b
        zip2    v22.16b, v4.16b, v5.16b
        zip2    v23.16b, v6.16b, v7.16b
        group_low
        group_words 4, 5, 6, 7, 20, 21, 22, 23
.endm

/* Half words of k 0 1, 2 3, 4 5 and 6 7 of eight columns to eight k of each. */
.macro group_words out0, out1, out2, out3, k0, k2, k4, k6
        zip1    v24.8h, v\k0\().8h, v\k2\().8h
        zip2    v25.8h, v\k0\().8h, v\k2\().8h
        zip1    v26.8h, v\k4\().8h, v\k6\().8h
        zip2    v27.8h, v\k4\().8h, v\k6\().8h
        zip1    v\out0\().4s, v24.4s, v26.4s
        zip2    v\out1\().4s, v24.4s, v26.4s
        zip1    v\out2\().4s, v25.4s, v27.4s
        zip2    v\out3\().4s, v25.4s, v27.4s
.endm

/* A K group of the eight columns of one panel. */
.macro put_group_8
        group_low
        st1     {v0.16b, v1.16b, v2.16b, v3.16b}, [dst], #64
.endm

/* A K group of the sixteen columns of two panels. */
.macro put_group_16
        group_all
        st1     {v0.16b, v1.16b, v2.16b, v3.16b}, [dst], #64
        st1     {v4.16b, v5.16b, v6.16b, v7.16b}, [dst_high], #64
.endm

#endif
