/*
 * The walk of both packers: panel by panel, K group by K group, row by row, byte by byte.
 *
 * A packer defines PANEL, the rows of a panel, before this header; `pack_panels` is then
 * the body of the entry.  K groups are of two.
 */
#ifndef PANELS_H
#define PANELS_H

#define args            x0
#define src             x1      /* element (0, 0) of this panel */
#define dst             x2      /* next packed byte */
#define depth           x3      /* k */
#define mn              x4      /* rows left, this panel's included */
#define stride_k        x5      /* bytes from a k to the next */
#define stride_mn       x6      /* bytes from a row to the next */
#define split           x7      /* 1: end in panels of powers of two; 0: in a whole one, filled up with zeros */
#define flip_word       w8      /* 0x80 in every byte moves uint8 to int8, 0 leaves int8 */
#define width           x9      /* rows of this panel */
#define valid           x10     /* rows of it that exist */
#define left            x11     /* k not packed yet */
#define group_ptr       x12     /* row 0 of the K group at hand */
#define row_ptr         x13     /* row at hand of that group */
#define byte_ptr        x14
#define index           x15     /* row at hand */
#define inner           x16     /* k at hand, within its group */
#define byte            w17

/* The body of a packer: all of its panels. */
.macro pack_panels
        ldp     src, dst, [args]
        ldp     depth, mn, [args, #16]
        ldp     stride_k, stride_mn, [args, #32]
        ldp     split, x8, [args, #48]
        cbz     depth, L(finished)

L(next_panel):
        cbz     mn, L(finished)
        mov     width, #PANEL
        cmp     mn, width
        csel    valid, mn, width, lo
        // The largest power of two that is not above the rows left.
        b.hs    L(sized)
        cbz     split, L(sized)
        clz     valid, mn
        eor     valid, valid, #63
        mov     width, #1
        lsl     width, width, valid
        mov     valid, width
L(sized):
        mov     group_ptr, src
        mov     left, depth

        // Zeros stand in the place of rows and of k that do not exist.
L(next_group):
        mov     row_ptr, group_ptr
        mov     index, #0
L(next_row):
        mov     byte_ptr, row_ptr
        mov     inner, #0
L(next_byte):
        mov     byte, #0
        cmp     index, valid
        b.hs    L(put_byte)
        cmp     inner, left
        b.hs    L(put_byte)
        ldrb    byte, [byte_ptr]
        add     byte_ptr, byte_ptr, stride_k
        eor     byte, byte, flip_word
L(put_byte):
        strb    byte, [dst], #1
        add     inner, inner, #1
        cmp     inner, #2
        b.lo    L(next_byte)
        add     row_ptr, row_ptr, stride_mn
        add     index, index, #1
        cmp     index, width
        b.lo    L(next_row)
        add     group_ptr, group_ptr, stride_k, lsl #1
        subs    left, left, #2
        b.hi    L(next_group)

        madd    src, stride_mn, valid, src
        sub     mn, mn, valid
        b       L(next_panel)

L(finished):
        ret
.endm

#endif
