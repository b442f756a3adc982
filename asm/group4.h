/*
 * Four k of columns, one k a register, turned into K groups of 4: what the packer and the gatherer of
 * PackedI8K4 and the interleaving of images by four channels share.
 *
 * Bytes of neighbouring k, then pairs of them, are put side by side, until a word has the four k of a
 * column: columns 0 to 7 in v16 and v17, columns 8 to 15 in v18 and v19; v4..v7 are used on the way.
 */
#ifndef PYINT8DOT_GROUP4_H
#define PYINT8DOT_GROUP4_H

/* All sixteen columns. */
.macro group_all
        zip1    v4.16b, v0.16b, v1.16b
        zip2    v5.16b, v0.16b, v1.16b
        zip1    v6.16b, v2.16b, v3.16b
        zip2    v7.16b, v2.16b, v3.16b
        zip1    v16.8h, v4.8h, v6.8h
        zip2    v17.8h, v4.8h, v6.8h
        zip1    v18.8h, v5.8h, v7.8h
        zip2    v19.8h, v5.8h, v7.8h
.endm

/* The lower eight. */
.macro group_low
        zip1    v4.16b, v0.16b, v1.16b
        zip1    v6.16b, v2.16b, v3.16b
        zip1    v16.8h, v4.8h, v6.8h
        zip2    v17.8h, v4.8h, v6.8h
.endm

#endif
