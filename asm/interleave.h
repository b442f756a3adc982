/*
 * The walk shared by the entries that interleave the channels of images by K groups: over groups of
 * channels, over the rows of each, and over the pixels of a row, sixteen or eight at a time.
 *
 * One pixel after the other, each GROUP bytes, a byte a channel.  What is left of a row after whole
 * turns ends with a turn that ends where the row ends, some of whose pixels have been written before;
 * rows too short for that, and those of which only every so many pixels are taken, end byte by byte.
 *
 * An entry defines GROUP (4 or 8) before this header, and after it put_16 and put_8: the pixels of
 * its channels in v0 .. v<GROUP - 1> to y_ptr, which moves on.  They may change every vector register
 * but v28 to v31.  `interleave_rows` is then the body of the entry.
 */
#ifndef PYINT8DOT_INTERLEAVE_H
#define PYINT8DOT_INTERLEAVE_H

#if GROUP != 4 && GROUP != 8
        .error  "interleave.h has K groups of 4 and 8: define GROUP as one of them"
#endif

#define args            x0
#define x               x1      /* first channel of the group at hand */
#define y               x2
#define groups          x3      /* left */
#define columns         x4      /* pixels of a row */
#define row_x           x5
#define row_y           x6
#define step            x7
#define rows            x8      /* left in the group */
#define x_row           x9      /* the row at hand */
#define y_row           x10
#define x_ptr           x11
#define y_ptr           x12
#define left            x13     /* pixels left in the row */
#define channel         x14     /* where the next channel's pixels are read */
#define plane_x         x15     /* bytes from a channel to the next */
#define t0              x16
#define t1              x17

#define flips           v31

/* A register of each channel: what `load` reads at `channel`, its top bits turned over. */
.macro load_channels load
        mov     channel, x_ptr
        .irp    number, 0, 1, 2, 3
        \load  \number
        .endr
    .if GROUP == 8
        .irp    number, 4, 5, 6, 7
        \load  \number
        .endr
    .endif
.endm

/* Neighbouring pixels of a channel. */
.macro load_16 number
        ldr     q\number, [channel]
        add     channel, channel, plane_x
        eor     v\number\().16b, v\number\().16b, flips.16b
.endm

/* The same of half as many. */
.macro load_8 number
        ldr     d\number, [channel]
        add     channel, channel, plane_x
        eor     v\number\().8b, v\number\().8b, flips.8b
.endm

/* Every second pixel of a channel, and those between. */
.macro load_16_of_32 number
        ld2     {v28.16b, v29.16b}, [channel], plane_x
        eor     v\number\().16b, v28.16b, flips.16b
.endm

/* The same of half as many. */
.macro load_8_of_16 number
        ld2     {v28.8b, v29.8b}, [channel], plane_x
        eor     v\number\().8b, v28.8b, flips.8b
.endm

/* One byte of a channel to its place in the pixel. */
.macro one_byte number
        ldr     b0, [channel]
        add     channel, channel, plane_x
        eor     v0.8b, v0.8b, flips.8b
        str     b0, [y_ptr], #1
.endm

/* What is left of a row goes back as far as a turn of `size` takes, for the last turn. */
.macro back_to size
        sub     t0, left, #\size
        add     x_ptr, x_ptr, t0
    .if GROUP == 4
        add     y_ptr, y_ptr, t0, lsl #2
    .else
        add     y_ptr, y_ptr, t0, lsl #3
    .endif
        mov     left, #\size
.endm

/* The body of the entry. */
.macro interleave_rows
        ldp     x, y, [args]
        ldp     groups, t0, [args, #16]
        ldp     columns, plane_x, [args, #32]
        ldp     row_x, row_y, [args, #56]
        ldp     step, t1, [args, #72]
        dup     flips.16b, w17
        cbz     groups, L(finished)
        cbz     t0, L(finished)
        cbz     columns, L(finished)

L(next_group):
        ldr     rows, [args, #24]
        mov     x_row, x
        mov     y_row, y
L(next_row):
        mov     x_ptr, x_row
        mov     y_ptr, y_row
        mov     left, columns
        cmp     step, #2
        b.eq    L(every_second)
        b.hi    L(one)

        // Neighbours: sixteen at a time, then the last sixteen or eight.
        cmp     columns, #16
        b.lo    L(eight)
L(sixteen):
        load_channels load_16
        put_16
        add     x_ptr, x_ptr, #16
        subs    left, left, #16
        b.eq    L(row_done)
        cmp     left, #16
        b.hs    L(sixteen)
        back_to 16
        b       L(sixteen)
L(eight):
        cmp     columns, #8
        b.lo    L(one)
L(next_eight):
        load_channels load_8
        put_8
        add     x_ptr, x_ptr, #8
        subs    left, left, #8
        b.eq    L(row_done)
        back_to 8
        b       L(next_eight)

        // Every second pixel; the one behind the last may not be there, so the last of a row are not taken in pairs.
L(every_second):
        cmp     left, #16
        b.ls    L(second_eight)
        load_channels load_16_of_32
        put_16
        add     x_ptr, x_ptr, #32
        sub     left, left, #16
        b       L(every_second)
L(second_eight):
        cmp     left, #8
        b.ls    L(one)
        load_channels load_8_of_16
        put_8
        add     x_ptr, x_ptr, #16
        sub     left, left, #8

        // Pixel by pixel, byte by byte.
L(one):
        load_channels one_byte
        add     x_ptr, x_ptr, step
        subs    left, left, #1
        b.ne    L(one)

L(row_done):
        add     x_row, x_row, row_x
        add     y_row, y_row, row_y
        subs    rows, rows, #1
        b.ne    L(next_row)
        ldr     t0, [args, #48]
        mov     t1, #GROUP
        madd    x, plane_x, t1, x
        add     y, y, t0
        subs    groups, groups, #1
        b.ne    L(next_group)
L(finished):
        ret
.endm

#endif
