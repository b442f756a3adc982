/*
 * Kernel:     run_builtin
 * Computes:   runs a program as a function of CPython, on arrays whose addresses it finds itself
 * Prototype:  PyObject *pyint8dot_run_builtin(PyObject *self, PyObject *const arguments[], int64_t count)
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = self, a bytes object that holds the address of `run`, then that of a function that lets go of the
 *             interpreter's lock, or 0 where the lock is to be held throughout, and of one that takes it again
 *             x1 = arguments: the records of a program, a bytes object; its left operand, an array of two
 *             dimensions; its result, an array; then, where the program reads them, two further arrays
 *             x2 = count, 3 to 5
 *             Of an object it knows what Python has probed before: a count of references at 0; the bytes of a bytes
 *             object from 32 on; of an array the pointers to its data at 16, dimensions at 32 and strides at 40.
 *             Returns self where the status is 0, else the records; either with one more reference. The caller
 *             holds the interpreter's lock.
 * Clobbers:   x1-x17, v0-v7, v16-v31, flags (what `run` clobbers, upper halves of v8-v15 included)
 * Unused:     x18-x28
 * Stack:      16864, and that of the entry it calls
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"

#define BYTES           32      /* where the bytes of a bytes object begin */
#define DATA            16      /* fields of an array */
#define DIMENSIONS      32
#define STRIDES         40
#define HEAD            128     /* 16 words */

#define self            x0
#define arguments       x1
#define argument_count  x2
#define left            x3
#define result          x4
#define rows            x5
#define stride_k        x6
#define stride_m        x7
#define dimensions      x8
#define strides         x9
#define records         x10
#define first           x11
#define second          x12
#define entry           x16     /* where BTI allows an indirect call to come from */
#define done            x9      /* what is returned */
#define wrong           x10
#define references      x11

/* A call through ctypes costs fifteen hundred instructions more than one of a builtin, and writing sizes, strides and
 * the identities of arrays into bytes as many again: together three times the packing and the product of 8x8x8. */
function run_builtin, framed
        open_frame x29, x30, 176
        point_frame
        frame_stands

        // The head: data, rows and strides of the left operand, and the data of the others.
        ldp     records, left, [arguments]
        ldr     result, [arguments, #16]
        stp     self, records, [sp, #16]
        ldr     dimensions, [left, #DIMENSIONS]
        ldr     strides, [left, #STRIDES]
        ldr     left, [left, #DATA]
        ldr     result, [result, #DATA]
        ldr     rows, [dimensions]
        ldp     stride_m, stride_k, [strides]
        mov     first, #0
        mov     second, #0
        cmp     argument_count, #4
        b.lo    L(found)
        ldr     first, [arguments, #24]
        ldr     first, [first, #DATA]
        b.eq    L(found)
        ldr     second, [arguments, #32]
        ldr     second, [second, #DATA]
L(found):
        add     records, records, #BYTES
        stp     left, result, [sp, #32]
        stp     rows, stride_k, [sp, #48]
        stp     stride_m, xzr, [sp, #64]
        stp     first, second, [sp, #80]
        stp     xzr, xzr, [sp, #96]
        stp     xzr, xzr, [sp, #112]
        stp     xzr, xzr, [sp, #128]
        stp     records, xzr, [sp, #144]

        // Objects are looked at no more: other threads may run from here on.
        ldr     entry, [self, #BYTES + 8]
        cbz     entry, L(ready)
        blr     entry
        str     x0, [sp, #160]
L(ready):
        ldr     self, [sp, #16]
        ldr     entry, [self, #BYTES]
        add     x0, sp, #32
        blr     entry
        str     x0, [sp, #168]

        // The lock again, before objects change.
        ldr     self, [sp, #16]
        ldr     entry, [self, #BYTES + 16]
        cbz     entry, L(locked)
        ldr     x0, [sp, #160]
        blr     entry
L(locked):

        // One more reference to what is returned.
        ldp     done, wrong, [sp, #16]
        ldr     x0, [sp, #168]
        cmp     x0, #0
        csel    done, done, wrong, eq
        ldr     references, [done]
        add     references, references, #1
        str     references, [done]
        mov     x0, done
        leave_frame
        close_frame x29, x30, 176
        ret
endfunction run_builtin, framed
