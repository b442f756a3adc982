/*
 * Kernel:     pack_i8k16
 * Computes:   PackedI8K16: element (k, j) of a panel of r at (k / 16) * 16r + 16j + k % 16, zeros up to a multiple of 16 k;
 *             where `flip` says so, all bytes of k % 16 >= 8 complemented, those zeros too
 * Prototype:  void pyint8dot_pack_i8k16(const int64_t args[8])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    PackedI8K16(4), K group 16
 * Arguments:  x0 = args:
 *             [0] source     const int8_t *   element (k, j) at k * stride_k + j * stride_mn bytes
 *             [1] packed     int8_t *         panels of 4, then by `split`; k rounded up to 16 bytes a row
 *             [2] k          depth, >= 0; at 0 nothing is written
 *             [3] mn         rows (or columns), >= 0
 *             [4] stride_k   bytes, any sign
 *             [5] stride_mn  bytes, any sign; one of the two strides at 1 is the fast way
 *             [6] split      1: the last mn % 4 in panels of 2, 1; 0: in a panel of 4 filled up with zeros
 *             [7] flip       its lower 32 bits are 0x80808080 to pack uint8 moved to int8, 0 to pack int8 as it is; its
 *                            upper 32 bits are the same, or their complement to complement k % 16 >= 8
 * Clobbers:   x0-x17, v0-v7, v16-v24, v28-v31, flags
 * Unused:     x18-x30, v8-v15, v25-v27
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"
#include "group16.h"

#define args            x0
#define src             x1      /* element (0, 0) of this panel */
#define dst             x2      /* next packed byte */
#define depth           x3      /* k */
#define mn              x4      /* rows or columns left, this panel's included */
#define stride_k        x5      /* bytes from a k to the next */
#define stride_mn       x6      /* bytes from a row or column to the next */
#define split           x7      /* 1: end in panels of 2 and 1; 0: in one of 4, filled up with zeros */
#define flip            x8      /* for the lower half of a K group, then for the upper */
#define flip_word       w8
#define row0            x9      /* read pointers: row r of the panel, or the k at hand */
#define row1            x10
#define row2            x11
#define row3            x12
#define left            x13     /* k not packed yet */
#define cell            x14     /* where the next piece of a K group goes */
/* The byte path and the columns need no row pointer but the first. */
#define width           x10     /* rows of the panel */
#define valid           x11     /* rows of it that exist */
#define index           x12     /* row at hand */
#define inner           x14     /* k at hand, within its group */
#define byte            w15
#define row_ptr         x16
#define byte_ptr        x17
#define mask            w0      /* flips the byte at hand, once the arguments are read */
#define mask_x          x0
#define dst_high        x10     /* next packed byte of the second of two panels */
#define drop            x10     /* columns read with a last panel that were packed before */
#define scratch         x14

#define nothing         v24     /* what becomes 0 where it is moved from uint8 */
#define rest            v28     /* flips of a last group behind its first 8 k, or of all of it if it has no 8 */
#define padding         v29     /* a group that is not there: nothing, flipped */
#define first           d31     /* where the first panel began */

/* One K group of one row, in full. */
.macro copy_group pointer, register
        ldr     q\register, [\pointer], #16
        flip_group \register
.endm

/* A piece of a last K group, of the width of its register; `mask` flips it. */
.macro copy_piece pointer, register, bytes, mask
        ldr     \register\()0, [\pointer], #\bytes
        eor     v0.8b, v0.8b, \mask\().8b
        str     \register\()0, [cell], #\bytes
.endm

/* The last K group of one row: padding, then over it the pieces that the bits of their number say. */
.macro copy_rest pointer
        mov     cell, dst
        str     q29, [dst], #16
        tbz     left, #3, L(four_\@)
        copy_piece \pointer, d, 8, flips
L(four_\@):
        tbz     left, #2, L(two_\@)
        copy_piece \pointer, s, 4, rest
L(two_\@):
        tbz     left, #1, L(one_\@)
        copy_piece \pointer, h, 2, rest
L(one_\@):
        tbz     left, #0, L(copied_\@)
        copy_piece \pointer, b, 1, rest
L(copied_\@):
.endm

/* A panel of n rows that are contiguous, 16 k a turn. */
.macro pack_rows n
    .if \n != 4 && \n != 2 && \n != 1
        .error  "pack_i8k16.S has panels of 4, 2 and 1 rows"
    .endif
L(rows_\n):
        mov     width, #\n
        madd    src, stride_mn, width, src
        sub     mn, mn, #\n
        add     row1, row0, stride_mn
        add     row2, row0, stride_mn, lsl #1
        add     row3, row1, stride_mn, lsl #1
        subs    left, left, #16
        b.lo    L(rest_\n)
L(turn_\n):
        copy_group row0, 0
    .if \n == 1
        str     q0, [dst], #16
    .else
        copy_group row1, 1
        stp     q0, q1, [dst], #32
    .endif
    .if \n == 4
        copy_group row2, 2
        copy_group row3, 3
        stp     q2, q3, [dst], #32
    .endif
        subs    left, left, #16
        b.hs    L(turn_\n)
L(rest_\n):
        adds    left, left, #16
        b.eq    L(next_panel)
        dup     rest.2d, flips.d[1]
        tbnz    left, #3, L(pieces_\n)
        mov     rest.16b, flips.16b
L(pieces_\n):
        copy_rest row0
    .if \n > 1
        copy_rest row1
    .endif
    .if \n > 2
        copy_rest row2
        copy_rest row3
    .endif
        b       L(next_panel)
.endm

/* One k of eight columns. */
.macro load_8 register
        ld1     {v\register\().8b}, [row0], stride_k
.endm

/* One k of four columns, whatever lies above them. */
.macro load_4 register
        ld1     {v\register\().s}[0], [row0], stride_k
.endm

/* One k of so many columns if there is one more. */
.macro load_if n, register, end
        subs    left, left, #1
        b.lo    \end
        load_\n \register
.endm

/* Sixteen k of so many columns. */
.macro load_turn n
        load_\n 0
        load_\n 1
        load_\n 2
        load_\n 3
        load_\n 4
        load_\n 5
        load_\n 6
        load_\n 7
        load_\n 16
        load_\n 17
        load_\n 18
        load_\n 19
        load_\n 20
        load_\n 21
        load_\n 22
        load_\n 23
.endm

/* One to fifteen k of so many columns, and nothing in the place of those that are not there. */
.macro load_rest n, end
        mov     v0.16b, nothing.16b
        mov     v1.16b, nothing.16b
        mov     v2.16b, nothing.16b
        mov     v3.16b, nothing.16b
        mov     v4.16b, nothing.16b
        mov     v5.16b, nothing.16b
        mov     v6.16b, nothing.16b
        mov     v7.16b, nothing.16b
        mov     v16.16b, nothing.16b
        mov     v17.16b, nothing.16b
        mov     v18.16b, nothing.16b
        mov     v19.16b, nothing.16b
        mov     v20.16b, nothing.16b
        mov     v21.16b, nothing.16b
        mov     v22.16b, nothing.16b
        mov     v23.16b, nothing.16b
        load_if \n, 0, \end
        load_if \n, 1, \end
        load_if \n, 2, \end
        load_if \n, 3, \end
        load_if \n, 4, \end
        load_if \n, 5, \end
        load_if \n, 6, \end
        load_if \n, 7, \end
        load_if \n, 16, \end
        load_if \n, 17, \end
        load_if \n, 18, \end
        load_if \n, 19, \end
        load_if \n, 20, \end
        load_if \n, 21, \end
        load_if \n, 22, \end
.endm

/* Panels of n columns in all, whose k are contiguous, 16 k a turn. */
.macro pack_columns n
L(columns_turn_\n):
        subs    left, left, #16
        b.lo    L(columns_short_\n)
        load_turn \n
L(columns_loaded_\n):
        transpose_\n
    .if \n == 4
        cbz     drop, L(columns_whole)
        mov     scratch, drop
        drop_columns scratch, nothing
L(columns_whole):
    .endif
        put_groups dst, 16, 17, 18, 19
    .if \n == 8
        put_groups dst_high, 20, 21, 22, 23
    .endif
        cmp     left, #0
        b.gt    L(columns_turn_\n)
        b       L(columns_done_\n)
L(columns_short_\n):
        add     left, left, #16
        load_rest \n, L(columns_loaded_\n)
        b       L(columns_loaded_\n)
L(columns_done_\n):
.endm

function pack_i8k16
        ldp     src, dst, [args]
        ldp     depth, mn, [args, #16]
        ldp     stride_k, stride_mn, [args, #32]
        ldp     split, flip, [args, #48]
        // One half of a K group, the other, and what there is where there is no k.
        dup     nothing.4s, flip_word
        fmov    d30, flip
        dup     flips.4s, v30.s[1]
        mov     flips.d[0], nothing.d[0]
        eor     padding.16b, flips.16b, nothing.16b
        cbz     depth, L(finished)
        fmov    first, src

L(next_panel):
        cbz     mn, L(finished)
        mov     row0, src
        mov     left, depth

        // Along whichever axis is contiguous.
        cmp     stride_k, #1
        b.eq    L(rows)
        cmp     stride_mn, #1
        b.ne    L(strided)
        cmp     mn, #8
        b.hs    L(columns_8)
        mov     drop, #0
        cmp     mn, #4
        b.hs    L(columns_4)

        // Fewer than 4 columns are read as the 4 that end where they end, unless this is the first panel or a split one.
        cbnz    split, L(strided)
        fmov    scratch, first
        cmp     src, scratch
        b.eq    L(strided)
        mov     drop, #4
        sub     drop, drop, mn
        sub     row0, row0, drop

L(columns_4):
        pack_columns 4
        add     src, src, #4
        subs    mn, mn, #4
        b.hi    L(next_panel)
        b       L(finished)

        // Two panels side by side.
L(columns_8):
        add     dst_high, depth, #15
        bic     dst_high, dst_high, #15
        add     dst_high, dst, dst_high, lsl #2
        pack_columns 8
        mov     dst, dst_high
        add     src, src, #8
        sub     mn, mn, #8
        b       L(next_panel)

L(rows):
        cmp     mn, #4
        b.hs    L(rows_4)
        cbz     split, L(strided)
        tbnz    mn, #1, L(rows_2)
        b       L(rows_1)
        pack_rows 4
        pack_rows 2
        pack_rows 1

        // The bits of a rest of rows say how wide their panels are where it is split.
L(strided):
        mov     width, #4
        cmp     mn, width
        csel    valid, mn, width, lo
        b.hs    L(bytes)
        cbz     split, L(bytes)
        lsr     width, mn, #1
        add     width, width, #1
        mov     valid, width

        // K group by K group, row by row, byte by byte: `left` k from row0 on.
L(bytes):
        mov     row_ptr, row0
        mov     index, #0
L(next_row):
        mov     byte_ptr, row_ptr
        mov     inner, #0
        mov     mask, flip_word
L(next_byte):
        mov     byte, flip_word
        cmp     index, valid
        ccmp    inner, left, #0, lo
        b.ge    L(put_byte)
        ldrb    byte, [byte_ptr]
        add     byte_ptr, byte_ptr, stride_k
L(put_byte):
        eor     byte, byte, mask
        strb    byte, [dst], #1
        add     inner, inner, #1
        // The upper half is flipped by the upper word.
        cmp     inner, #8
        b.ne    L(same_half)
        lsr     mask_x, flip, #32
L(same_half):
        cmp     inner, #16
        b.lo    L(next_byte)
        add     row_ptr, row_ptr, stride_mn
        add     index, index, #1
        cmp     index, width
        b.lo    L(next_row)
        add     row0, row0, stride_k, lsl #4
        subs    left, left, #16
        b.gt    L(bytes)
        madd    src, stride_mn, valid, src
        sub     mn, mn, valid
        b       L(next_panel)

L(finished):
        ret
endfunction pack_i8k16
