/*
 * The walk shared by the packers: which panel comes next, how wide it is, and by
 * which of four ways its bytes are read.
 *
 *   rows        a row of the panel is contiguous in the source (stride_k = 1):
 *               16 k of every row at a time, transposed in registers
 *   columns     a k of the panel is contiguous (stride_mn = 1): 4 k of 16 or 8
 *               columns at a time, or 8 where that is the K group; a last panel
 *               of fewer than 8 columns is read as the 8 columns that end where
 *               it ends, shifted down
 *   words       what `rows` leaves, a K group of each row at a time; the last one, where
 *               it is not whole, is read as the K group that ends where it ends, shifted down
 *   bytes       everything else, any strides
 *
 * A packer defines GROUP (the K group, 1, 4 or 8) before this header, and after it the macros
 *   put_rows_8, _4, _2, _1    16 k of v0..v7, one row a register, to dst
 *   put_columns_16, _8        4 or 8 k of v0..v7, one k a register, to dst (and dst_high)
 *   rest_columns_16, _8       the last k of the same, fewer than that, `left` says how many
 * and `pack_panels` is then the body of the entry.
 */
#ifndef PYINT8DOT_PACK_H
#define PYINT8DOT_PACK_H

#if GROUP != 1 && GROUP != 4 && GROUP != 8
        .error  "pack.h packs in K groups of 1, 4 and 8: define GROUP as one of them"
#endif

/* The k that columns are packed by at a time. */
#if GROUP == 8
#define TURN            8
#else
#define TURN            4
#endif

#define args            x0
#define src             x1      /* element (0, 0) of this panel */
#define dst             x2      /* next packed byte */
#define depth           x3      /* k */
#define mn              x4      /* rows or columns left, this panel's included */
#define stride_k        x5      /* bytes from a k to the next */
#define stride_mn       x6      /* bytes from a row or column to the next */
#define split           x7      /* 1: end in panels of 4, 2, 1; 0: in one of 8, filled up with zeros */
#define flip            x8      /* 0x80 in every byte moves uint8 to int8, 0 leaves int8 */
#define flip_word       w8
#define row0            x9      /* read pointers: row r of the panel, or the k at hand */
#define row1            x10
#define row2            x11
#define row3            x12
#define row4            x13
#define row5            x14
#define row6            x15
#define row7            x16
#define left            x17     /* k not packed yet */
#define scratch         x0
#define scratch_w       w0
/* Where rows are contiguous, what drops the k of a last K group that were packed before. */
#define drop            x5
#define drop_w          w5
/* The byte path and the wide columns need no row pointer but the first. */
#define dst_high        x10     /* next packed byte of the upper of two panels */
#define width           x10     /* rows of the panel */
#define valid           x11     /* rows of it that exist */
#define index           x12     /* row at hand */
#define inner           x13     /* k at hand, within its group */
#define byte            w14
#define row_ptr         x15
#define byte_ptr        x16

#define first           d29     /* where the first panel began */
#define flips           v30     /* flip in every byte */
#define shift           d31     /* -8 for each column of a last panel that was packed before */

/* Sixteen k of one row, uint8 flipped to int8. */
.macro load_row register, pointer
        ldr     q\register, [\pointer], #16
        eor     v\register\().16b, v\register\().16b, flips.16b
.endm

/* One k of sixteen columns, uint8 flipped to int8. */
.macro load_columns_16 register
        ld1     {v\register\().16b}, [row0], stride_k
        eor     v\register\().16b, v\register\().16b, flips.16b
.endm

/* One k of eight columns; a shift to the right drops those packed before. */
.macro load_columns_8 register
        ld1     {v\register\().8b}, [row0], stride_k
        eor     v\register\().8b, v\register\().8b, flips.8b
        ushl    d\register, d\register, shift
.endm

/* One K group of one row. */
.macro copy_word pointer
    .if GROUP == 8
        ldr     scratch, [\pointer], #8
        eor     scratch, scratch, flip
        str     scratch, [dst], #8
    .elseif GROUP == 4
        ldr     scratch_w, [\pointer], #4
        eor     scratch_w, scratch_w, flip_word
        str     scratch_w, [dst], #4
    .else
        ldrb    scratch_w, [\pointer], #1
        eor     scratch_w, scratch_w, flip_word
        strb    scratch_w, [dst], #1
    .endif
.endm

/* The last k of one row, fewer than a K group, and zeros behind them: `left` leads back from where
 * they begin to the K group that ends where they end. */
.macro copy_end pointer
    .if GROUP == 8
        ldr     scratch, [\pointer, left]
        eor     scratch, scratch, flip
        lsr     scratch, scratch, drop
        str     scratch, [dst], #8
    .elseif GROUP == 4
        ldr     scratch_w, [\pointer, left]
        eor     scratch_w, scratch_w, flip_word
        lsr     scratch_w, scratch_w, drop_w
        str     scratch_w, [dst], #4
    .endif
.endm

/* The same for every row of a panel. */
.macro copy_ends n
        copy_end row0
    .if \n > 1
        copy_end row1
    .endif
    .if \n > 2
        copy_end row2
        copy_end row3
    .endif
    .if \n > 4
        copy_end row4
        copy_end row5
        copy_end row6
        copy_end row7
    .endif
.endm

/* What columns are packed by: the next k, one a register. */
.macro load_turn wide
        load_columns_\wide 0
        load_columns_\wide 1
        load_columns_\wide 2
        load_columns_\wide 3
    .if TURN == 8
        load_columns_\wide 4
        load_columns_\wide 5
        load_columns_\wide 6
        load_columns_\wide 7
    .endif
.endm

/* Rows of a panel of n: 16 k a turn, then whole K groups. */
.macro pack_rows n
    .if \n != 8 && \n != 4 && \n != 2 && \n != 1
        .error  "pack.h has panels of 8, 4, 2 and 1 rows"
    .endif
L(rows_\n):
        add     row1, row0, stride_mn
        add     row2, row0, stride_mn, lsl #1
        add     row3, row1, stride_mn, lsl #1
    .if \n == 8
        add     row4, row0, stride_mn, lsl #2
        add     row5, row1, stride_mn, lsl #2
        add     row6, row2, stride_mn, lsl #2
        add     row7, row3, stride_mn, lsl #2
    .endif
        subs    left, left, #16
        b.lo    L(words_\n)
L(turn_\n):
        load_row 0, row0
    .if \n > 1
        load_row 1, row1
    .endif
    .if \n > 2
        load_row 2, row2
        load_row 3, row3
    .endif
    .if \n > 4
        load_row 4, row4
        load_row 5, row5
        load_row 6, row6
        load_row 7, row7
    .endif
        put_rows_\n
        subs    left, left, #16
        b.hs    L(turn_\n)

L(words_\n):
        adds    left, left, #16 - GROUP
        b.mi    L(words_end_\n)
L(word_\n):
        copy_word row0
    .if \n > 1
        copy_word row1
    .endif
    .if \n > 2
        copy_word row2
        copy_word row3
    .endif
    .if \n > 4
        copy_word row4
        copy_word row5
        copy_word row6
        copy_word row7
    .endif
        subs    left, left, #GROUP
        b.pl    L(word_\n)
L(words_end_\n):
        adds    left, left, #GROUP
    .if GROUP > 1
        // A row shorter than a K group has none that ends with it.
        b.eq    L(rows_end_\n)
        cmp     depth, #GROUP
        b.lo    L(rows_end_\n)
        sub     left, left, #GROUP
        neg     drop, left, lsl #3
        // `left` stays below 0, so that no byte is left.
        copy_ends \n
        mov     stride_k, #1
L(rows_end_\n):
    .endif
        mov     width, #\n
        mov     valid, #\n
        b       L(bytes)
.endm

/* The body of the entry: one panel after another, each by the way its strides allow. */
.macro pack_panels
        ldp     src, dst, [args]
        ldp     depth, mn, [args, #16]
        ldp     stride_k, stride_mn, [args, #32]
        ldp     split, flip, [args, #48]
        bfi     flip, flip, #32, #32
        dup     flips.2d, flip
        cbz     depth, L(finished)
        fmov    first, src

L(next_panel):
        cbz     mn, L(finished)
        mov     row0, src
        mov     left, depth
        cmp     mn, #8
        b.lo    L(narrow)

        // A whole panel, read along whichever axis is contiguous.
        cmp     stride_k, #1
        b.eq    L(rows_8)
        cmp     stride_mn, #1
        b.ne    L(bytes_8)
        cmp     mn, #16
        b.hs    L(columns_16)
        movi    shift, #0
        b       L(columns_8)

        // Fewer than 8 are left: smaller panels on A's side, one filled up with zeros on B's.
L(narrow):
        cbz     split, L(fill_up)
        cmp     stride_k, #1
        b.ne    L(narrow_bytes)
        tbnz    mn, #2, L(rows_4)
        tbnz    mn, #1, L(rows_2)
        b       L(rows_1)

L(narrow_bytes):
        mov     width, #4
        tbnz    mn, #2, L(narrow_width)
        mov     width, #2
        tbnz    mn, #1, L(narrow_width)
        mov     width, #1
L(narrow_width):
        mov     valid, width
        b       L(bytes)

        // The 8 columns that end where these end exist unless this is the first panel.
L(fill_up):
        mov     width, #8
        mov     valid, mn
        cmp     stride_mn, #1
        b.ne    L(bytes)
        fmov    scratch, first
        cmp     src, scratch
        b.eq    L(bytes)
        sub     scratch, mn, #8
        add     row0, row0, scratch
        lsl     scratch, scratch, #3
        fmov    shift, scratch
        b       L(columns_8)

        pack_rows 8
        pack_rows 4
        pack_rows 2
        pack_rows 1

        // Two panels side by side.
L(columns_16):
    .if GROUP > 1
        add     dst_high, depth, #GROUP - 1
        and     dst_high, dst_high, #-GROUP
        add     dst_high, dst, dst_high, lsl #3
    .else
        add     dst_high, dst, depth, lsl #3
    .endif
        subs    left, left, #TURN
        b.lo    L(columns_16_rest)
L(columns_16_turn):
        load_turn 16
        put_columns_16
        subs    left, left, #TURN
        b.hs    L(columns_16_turn)
L(columns_16_rest):
        adds    left, left, #TURN
        b.eq    L(columns_16_done)
L(columns_16_single):
        rest_columns_16
L(columns_16_done):
        mov     dst, dst_high
        add     src, src, #16
        sub     mn, mn, #16
        b       L(next_panel)

        // One panel; `shift` is 0, or what drops the columns packed before.
L(columns_8):
        subs    left, left, #TURN
        b.lo    L(columns_8_rest)
L(columns_8_turn):
        load_turn 8
        put_columns_8
        subs    left, left, #TURN
        b.hs    L(columns_8_turn)
L(columns_8_rest):
        adds    left, left, #TURN
        b.eq    L(columns_8_done)
L(columns_8_single):
        rest_columns_8
L(columns_8_done):
        cmp     mn, #8
        b.ls    L(finished)
        add     src, src, #8
        sub     mn, mn, #8
        b       L(next_panel)

L(bytes_8):
        mov     width, #8
        mov     valid, #8

        // K group by K group, row by row, byte by byte: `left` k from row0 on.
L(bytes):
        cmp     left, #0
        b.le    L(panel_done)
        mov     row_ptr, row0
        mov     index, #0
L(next_row):
        mov     byte_ptr, row_ptr
        mov     inner, #0
L(next_byte):
        mov     byte, #0
        cmp     index, valid
        ccmp    inner, left, #0, lo
        b.ge    L(put_byte)
        ldrb    byte, [byte_ptr]
        add     byte_ptr, byte_ptr, stride_k
        eor     byte, byte, flip_word
L(put_byte):
        strb    byte, [dst], #1
        add     inner, inner, #1
        cmp     inner, #GROUP
        b.lo    L(next_byte)
        add     row_ptr, row_ptr, stride_mn
        add     index, index, #1
        cmp     index, width
        b.lo    L(next_row)
    .if GROUP == 8
        add     row0, row0, stride_k, lsl #3
    .elseif GROUP == 4
        add     row0, row0, stride_k, lsl #2
    .else
        add     row0, row0, stride_k
    .endif
        sub     left, left, #GROUP
        b       L(bytes)

L(panel_done):
        madd    src, stride_mn, valid, src
        sub     mn, mn, valid
        b       L(next_panel)

L(finished):
        ret
.endm

#endif
