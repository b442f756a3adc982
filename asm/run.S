/*
 * Kernel:     run
 * Computes:   calls the entries of a program one after the other
 * Prototype:  int64_t pyint8dot_run(const int64_t program[])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = a head of 6 int64, then records of 16; an entry of 0 ends the program:
 *             [0]      entry   address of the entry to call
 *             [1..14]  fields  its arguments 0 to 13, completed in a copy that x0 then points to
 *             [15]     kinds   bits 4i .. 4i+3 say what argument i is:
 *                              0       the field itself
 *                              1       the field as an offset into 4096 bytes of scratch on the stack
 *                              2 + j   word j of the head, plus the field
 *                              8 + j   the pointer found `field` bytes after where word j of the head points
 *             Returns the first word of the scratch, which is 0 unless an entry was told to write there.
 * Clobbers:   x0-x17, v0-v7, v16-v31, flags (what the entries clobber)
 * Unused:     x18, x21-x28, v8-v15
 * Stack:      4256
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"

#define SCRATCH         4096    /* below a page of stack guard, so that no probe is needed */
#define FIELDS          112     /* 14 arguments */

#define record          x19     /* the record at hand; callee-saved, so kept in the frame */
#define scratch         x20     /* likewise */
#define entry           x16     /* where BTI allows an indirect call to come from */
#define head            x8
#define kinds           x9
#define kind            x10
#define index           x11
#define shift           x12
#define value           x13
#define word            x14

/* One ctypes call costs more instructions than packing and multiplying an 8x8x8 product, and
 * looking up the address of an array half as many: a small product makes one of the former
 * and none of the latter. */
function run
        stp     x29, x30, [sp, #-48]!
        .cfi_def_cfa_offset 48
        .cfi_offset x29, -48
        .cfi_offset x30, -40
        stp     record, scratch, [sp, #16]
        .cfi_offset x19, -32
        .cfi_offset x20, -24
        mov     x29, sp
        .cfi_def_cfa_register x29
        sub     sp, sp, #SCRATCH
        mov     scratch, sp
        str     xzr, [scratch]
        sub     sp, sp, #FIELDS
        mov     head, x0
        add     record, x0, #48

L(next_record):
        ldr     entry, [record], #8
        cbz     entry, L(finished)

        // The program stays as it is: the arguments are completed in a copy.
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
        cbz     kinds, L(call)

        // The lowest kind that is not 0, taken off.
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
        tbnz    kind, #3, L(pointer)
        subs    kind, kind, #2
        b.lo    L(scratch)
        ldr     word, [head, kind, lsl #3]
        add     value, value, word
        b       L(put)
L(scratch):
        add     value, value, scratch
        b       L(put)
L(pointer):
        sub     kind, kind, #8
        ldr     word, [head, kind, lsl #3]
        ldr     value, [word, value]
L(put):
        str     value, [sp, index, lsl #3]
        cbnz    kinds, L(next_kind)

L(call):
        mov     x0, sp
        str     head, [x29, #32]
        blr     entry
        ldr     head, [x29, #32]
        b       L(next_record)

L(finished):
        ldr     x0, [scratch]
        mov     sp, x29
        .cfi_def_cfa_register sp
        ldp     record, scratch, [sp, #16]
        .cfi_restore x19
        .cfi_restore x20
        ldp     x29, x30, [sp], #48
        .cfi_restore x29
        .cfi_restore x30
        .cfi_def_cfa_offset 0
        ret
endfunction run
