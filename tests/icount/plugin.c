/* A qemu-user plugin that counts the instructions a guest executes, exactly.
 *
 * Each time the guest calls getppid, which programs otherwise hardly do, the
 * total so far is written as one decimal line to the file that the environment
 * variable ICOUNT_OUT names.  Counts belong to one thread: with more, they race.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "qemu_plugin.h"

static uint64_t total;
static FILE *out;

static void executed(unsigned cpu, void *length)
{
    (void)cpu;
    total += (uintptr_t)length;
}

static void translated(plugin_id id, struct qemu_plugin_tb *block)
{
    (void)id;
    void *length = (void *)(uintptr_t)qemu_plugin_tb_n_insns(block);
    qemu_plugin_register_vcpu_tb_exec_cb(block, executed, NO_REGISTERS, length);
}

static void system_call(plugin_id id, unsigned cpu, int64_t number,
    uint64_t a, uint64_t b, uint64_t c, uint64_t d,
    uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{
    (void)id, (void)cpu, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (number == AARCH64_GETPPID) {
        fprintf(out, "%llu\n", (unsigned long long)total);
        fflush(out);
    }
}

int qemu_plugin_install(plugin_id id, const struct qemu_info *info, int argc, char **argv)
{
    (void)info, (void)argc, (void)argv;
    const char *path = getenv("ICOUNT_OUT");
    out = path ? fopen(path, "w") : NULL;
    if (!out) {
        fprintf(stderr, "icount: ICOUNT_OUT names no file that can be written\n");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, system_call);
    return 0;
}
