/*
 * The maxima of windows over planes of pixels, one kind of value to a file.
 *
 * A window is taken apart: first the maxima down its rows, which make a line as long as a row of
 * the image, with padding on both sides; then the maxima along that line.  A row of the result is
 * whole registers, the last of which may run over into the next row, which comes later; only at
 * the end of a plane are there pieces.
 *
 * An entry defines, before this header,
 *   SIZE_LOG2        of the bytes of a value
 * and after it the macros
 *   lowest to                  a register of values that change no maximum
 *   maximum to, a, b           the greater values of two registers
 *   even to, a, b              every second value of two registers
 *   load_one to, from          one value from an address
 *   store_one from, to         one value to an address, which moves on behind it
 * where registers are numbers.  `max_pool` is then the body of the entry.
 */
#ifndef PYINT8DOT_MAX_POOL_H
#define PYINT8DOT_MAX_POOL_H

#define SIZE            (1 << SIZE_LOG2)

/* Words of the geometry, which its rows follow. */
#define WIDTH           0
#define HEIGHT_OUT      8
#define WIDTH_OUT       16
#define TAP_1           24
#define TAPS_MORE       40
#define TAP_STEP        48
#define STRIDE          56
#define ROW_STEP        64
#define BEFORE          72
#define LENGTH          80
#define PLANE           88
#define TABLE           96

#define args            x0
#define x_base          x1      /* the plane at hand */
#define y_ptr           x2
#define x_end           x3      /* nothing is read from here on */
#define y_end           x4      /* of the plane's result */
#define planes          x5      /* left */
#define geometry        x6
#define table           x7      /* rows of the result left in the plane */
#define source          x8
#define step_1          x9      /* from the first row or tap to the second, and to the third; the last again where there are fewer */
#define step_2          x10
#define more            x11     /* rows or taps beyond three */
#define room            x12     /* bytes that may be read of the last row */
#define left            x13
#define target          x14
#define stride          x14     /* along the line */
#define t0              x15
#define t1              x16
#define count           x17

/* Maxima of further registers, `more` of them from `t0` on, each `t1` bytes behind the one before. */
.macro rest_of_window name
        mov     count, more
L(\name):
        ldr     q1, [t0]
        add     t0, t0, t1
        maximum 0, 0, 1
        subs    count, count, #1
        b.ne    L(\name)
.endm

/* The whole entry. */
.macro max_pool
        ldp     x_base, y_ptr, [args]
        ldp     planes, geometry, [args, #16]
        cbz     planes, L(finished)
        ldr     t0, [geometry, #PLANE]
        madd    x_end, planes, t0, x_base
        // The line begins as padding throughout.
        ldr     target, [args, #32]
        ldr     left, [geometry, #LENGTH]
        lowest  7
L(pad):
        str     q7, [target], #16
        subs    left, left, #16
        b.hi    L(pad)

L(next_plane):
        ldp     t0, t1, [geometry, #HEIGHT_OUT]
        madd    y_end, t0, t1, y_ptr
        add     table, geometry, #TABLE
L(next_row):
        // Down the rows: three at once, and what is beyond them one by one.
        ldp     source, step_1, [table], #16
        ldp     step_2, more, [table], #16
        ldr     target, [args, #32]
        ldr     t0, [geometry, #BEFORE]
        ldr     left, [geometry, #WIDTH]
        add     source, source, x_base
        add     target, target, t0
        ldr     t0, [geometry, #ROW_STEP]
        sub     room, x_end, source
        sub     room, room, step_2
        msub    room, more, t0, room
L(down_sixteen):
        cmp     room, #16
        b.lo    L(down_one)
        ldr     q0, [source]
        ldr     q1, [source, step_1]
        ldr     q2, [source, step_2]
        maximum 0, 0, 1
        maximum 0, 0, 2
        cbnz    more, L(down_more)
L(down_store):
        str     q0, [target], #16
        add     source, source, #16
        sub     room, room, #16
        subs    left, left, #16
        b.hi    L(down_sixteen)
        // What ran over the end of the row is padding again.
        add     target, target, left
        str     q7, [target]
        b       L(along)
L(down_more):
        ldr     t1, [geometry, #ROW_STEP]
        add     t0, source, step_2
        add     t0, t0, t1
        rest_of_window down_next
        b       L(down_store)

        // Value by value where a register would reach beyond the last plane.
L(down_one):
        load_one 0, source
        add     t0, source, step_1
        load_one 1, t0
        maximum 0, 0, 1
        add     t0, source, step_2
        ldr     t1, [geometry, #ROW_STEP]
        add     count, more, #1
L(down_one_more):
        load_one 1, t0
        add     t0, t0, t1
        maximum 0, 0, 1
        subs    count, count, #1
        b.ne    L(down_one_more)
        store_one 0, target
        add     source, source, #SIZE
        subs    left, left, #SIZE
        b.ne    L(down_one)

        // Along the line in the same way, at every place, at every second or one by one.
L(along):
        ldr     source, [args, #32]
        ldr     left, [geometry, #WIDTH_OUT]
        ldp     step_1, step_2, [geometry, #TAP_1]
        ldr     more, [geometry, #TAPS_MORE]
        ldr     stride, [geometry, #STRIDE]
L(next_sixteen):
        cmp     stride, #2
        b.hi    L(by_stride)
        b.eq    L(by_two)
        ldr     q0, [source]
        ldr     q1, [source, step_1]
        ldr     q2, [source, step_2]
        maximum 0, 0, 1
        maximum 0, 0, 2
        cbnz    more, L(along_more)
L(along_done):
        add     source, source, #16
L(store):
        add     t0, y_ptr, #16
        cmp     t0, y_end
        b.hi    L(pieces)
        str     q0, [y_ptr], #16
        subs    left, left, #16
        b.hi    L(next_sixteen)
        add     y_ptr, y_ptr, left
        b       L(row_done)
L(along_more):
        ldr     t1, [geometry, #TAP_STEP]
        add     t0, source, step_2
        add     t0, t0, t1
        rest_of_window along_next
        b       L(along_done)

L(by_two):
        ldp     q0, q3, [source]
        add     t0, source, step_1
        ldp     q1, q4, [t0]
        maximum 0, 0, 1
        maximum 3, 3, 4
        add     t0, source, step_2
        ldr     t1, [geometry, #TAP_STEP]
        add     count, more, #1
L(by_two_more):
        ldp     q1, q4, [t0]
        add     t0, t0, t1
        maximum 0, 0, 1
        maximum 3, 3, 4
        subs    count, count, #1
        b.ne    L(by_two_more)
        even    0, 0, 3
        add     source, source, #32
        b       L(store)

L(by_stride):
        load_one 0, source
        add     t0, source, step_1
        load_one 1, t0
        maximum 0, 0, 1
        add     t0, source, step_2
        ldr     t1, [geometry, #TAP_STEP]
        add     count, more, #1
L(by_stride_more):
        load_one 1, t0
        add     t0, t0, t1
        maximum 0, 0, 1
        subs    count, count, #1
        b.ne    L(by_stride_more)
        store_one 0, y_ptr
        add     source, source, stride, lsl #SIZE_LOG2
        subs    left, left, #SIZE
        b.ne    L(by_stride)
        b       L(row_done)

        // The end of a row that is within sixteen bytes of the plane's: eight, four, two and one of them.
L(pieces):
        tbz     left, #3, L(four)
        str     d0, [y_ptr], #8
        ext     v0.16b, v0.16b, v0.16b, #8
L(four):
        tbz     left, #2, L(two)
        str     s0, [y_ptr], #4
        ext     v0.16b, v0.16b, v0.16b, #4
L(two):
        tbz     left, #1, L(last)
        str     h0, [y_ptr], #2
        ext     v0.16b, v0.16b, v0.16b, #2
L(last):
        tbz     left, #0, L(row_done)
        str     b0, [y_ptr], #1

L(row_done):
        cmp     y_ptr, y_end
        b.lo    L(next_row)
        ldr     t0, [geometry, #PLANE]
        add     x_base, x_base, t0
        subs    planes, planes, #1
        b.ne    L(next_plane)
L(finished):
        ret
.endm

#endif
