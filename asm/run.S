/*
 * Kernel:     run
 * Computes:   calls the entries of a program one after the other
 * Prototype:  int64_t pyint8dot_run(const int64_t program[])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = a head of 16 int64, then records of 16; an entry of 0 ends the program. The head:
 *             [0..10]  words    what the records refer to: addresses, numbers, or array objects
 *             [5]      scratch  address of working memory; 0 stands for 16384 bytes on the stack
 *             [11]     status   set here to the address of the status, an int64 that begins as 0
 *             [12..13] unused
 *             [14]     records  address of the records; 0 where they follow the head
 *             [15]     objects  bit i of the low 32: word i is an array object, to be replaced by the
 *                               pointer found so many bytes into it as the high 32 bits say
 *             A record:
 *             [0]      entry    address of the entry to call
 *             [1..14]  fields   its arguments 0 to 13, completed in a copy that x0 then points to
 *             [15]     kinds    bits 4i .. 4i+3 say what argument i is: 0, the field itself;
 *                               1 + j, word j of the head plus the field
 *             Returns the status. A record that sets it to anything but 0 is the last one called.
 * Clobbers:   x0-x17, v0-v7, v16-v31, flags (what the entries clobber, upper halves of v8-v15 included)
 * Unused:     x18, x22-x28
 * Stack:      16688, and that of the entry it calls
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"

#define PAGE            4096    /* the least that lies between a stack and what is not its own */
#define PAGES           4       /* of scratch */
#define FIELDS          112     /* 14 arguments */
#define HEAD            128     /* 16 words */

#define record          x19     /* the record at hand; callee-saved, so kept in the frame */
#define head            x20     /* the completed head; likewise */
#define entry           x16     /* where BTI allows an indirect call to come from */
#define kinds           x10
#define objects         x10
#define index           x11
#define shift           x12
#define value           x13
#define word            x14
#define kind            x15
#define place           x17

/* One ctypes call costs more instructions than packing and multiplying an 8x8x8 product, and
 * looking up the address of an array as many again: a product makes one of the former and none
 * of the latter. */
function run, framed
        open_frame x29, x30, 48
        keep    record, head, 16
        point_frame
        frame_stands

        // Scratch, a page after the other: each is touched before the next, so that what lies beyond a full stack is met.
        .rept   PAGES
        sub     sp, sp, #PAGE
        str     xzr, [sp]
        .endr
        mov     value, sp
        sub     sp, sp, #HEAD + FIELDS + 16

        // The program stays as it is: head and arguments are completed in copies.
        ldp     q0, q1, [x0]
        ldp     q2, q3, [x0, #32]
        ldp     q4, q5, [x0, #64]
        ldp     q6, q7, [x0, #96]
        ldr     record, [x0, #112]
        add     place, x0, #HEAD
        cmp     record, #0
        csel    record, place, record, eq
        add     head, sp, #FIELDS
        stp     q0, q1, [head]
        stp     q2, q3, [head, #32]
        stp     q4, q5, [head, #64]
        stp     q6, q7, [head, #96]

        // Scratch on the stack where none is given, and the status, which lies above the head.
        ldr     word, [head, #40]
        cmp     word, #0
        csel    word, value, word, eq
        str     word, [head, #40]
        add     place, head, #HEAD
        str     xzr, [place]
        str     place, [head, #88]

        // Array objects become the addresses of their data, one set bit after the other.
        ldr     objects, [head, #120]
        lsr     shift, objects, #32
        ands    w10, w10, w10
        b.eq    L(next_record)
L(next_object):
        rbit    index, objects
        clz     index, index
        ldr     word, [head, index, lsl #3]
        sub     value, objects, #1
        ldr     word, [word, shift]
        and     objects, objects, value
        str     word, [head, index, lsl #3]
        cbnz    objects, L(next_object)

L(next_record):
        ldr     entry, [record], #8
        cbz     entry, L(finished)
        ldp     q0, q1, [record]
        ldp     q2, q3, [record, #32]
        ldp     q4, q5, [record, #64]
        ldr     q6, [record, #96]
        ldr     kinds, [record, #112]
        add     record, record, #120
        stp     q0, q1, [sp]
        stp     q2, q3, [sp, #32]
        stp     q4, q5, [sp, #64]
        str     q6, [sp, #96]
        sub     place, head, #8
        cbz     kinds, L(call)

        // The lowest kind that is not 0, taken off, names the word to add.
L(next_kind):
        rbit    shift, kinds
        clz     shift, shift
        lsr     index, shift, #2
        lsl     shift, index, #2
        lsr     kind, kinds, shift
        and     kind, kind, #15
        lsl     word, kind, shift
        bic     kinds, kinds, word
        ldr     value, [sp, index, lsl #3]
        ldr     word, [place, kind, lsl #3]
        add     value, value, word
        str     value, [sp, index, lsl #3]
        cbnz    kinds, L(next_kind)

L(call):
        mov     x0, sp
        blr     entry
        ldr     word, [head, #HEAD]
        cbz     word, L(next_record)

L(finished):
        ldr     x0, [head, #HEAD]
        leave_frame
        unpoint_frame
        give_back record, head, 16
        close_frame x29, x30, 48
        ret
endfunction run, framed
