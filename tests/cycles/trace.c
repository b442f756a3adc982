/* A qemu-user plugin that writes down which blocks of instructions a guest runs between two calls of getppid.
 *
 * The file that the environment variable ICOUNT_OUT names gets a line for each block of the last such
 * stretch: its number, and its instructions in hexadecimal.  The same name with ".trace" gets the numbers
 * of the blocks in the order in which they ran, as uint32.  Only the thread that makes the calls is traced.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../icount/qemu_plugin.h"

enum { BUCKETS = 1 << 16, MOST_INSTRUCTIONS = 4096 };

/* A block: qemu may translate one again, and then it is found here. */
struct block {
    struct block *next;
    uint64_t address;
    uint32_t number, ran, length, words[];
};

static struct block *buckets[BUCKETS], **blocks;
static uint32_t known, *order;
static size_t ran, room;
static const char *path;
static int tracing, copies;
static unsigned traced;

static void *must(void *memory)
{
    if (!memory)
        abort();
    return memory;
}

static void executed(unsigned cpu, void *data)
{
    struct block *block = data;
    if (!tracing || cpu != traced)
        return;
    if (ran == room)
        order = must(realloc(order, (room = room ? 2 * room : 1 << 20) * sizeof *order));
    order[ran++] = block->number;
    block->ran = 1;
}

static uint32_t instruction(const struct qemu_plugin_insn *at)
{
    uint32_t word;
    const void *data = qemu_plugin_insn_data(at, &word, sizeof word);
    if (!copies)
        memcpy(&word, data, sizeof word);
    return word;
}

static void translated(plugin_id id, struct qemu_plugin_tb *translation)
{
    (void)id;
    uint32_t words[MOST_INSTRUCTIONS], length = qemu_plugin_tb_n_insns(translation);
    uint64_t address = qemu_plugin_tb_vaddr(translation);
    if (length > MOST_INSTRUCTIONS)
        abort();
    for (uint32_t i = 0; i < length; i++)
        words[i] = instruction(qemu_plugin_tb_get_insn(translation, i));
    struct block **bucket = &buckets[address / 4 % BUCKETS], *block = *bucket;
    while (block && (block->address != address || block->length != length
                     || memcmp(block->words, words, length * sizeof *words)))
        block = block->next;
    if (!block) {
        block = must(calloc(1, sizeof *block + length * sizeof *words));
        block->next = *bucket;
        block->address = address;
        block->number = known;
        block->length = length;
        memcpy(block->words, words, length * sizeof *words);
        *bucket = block;
        blocks = must(realloc(blocks, (known + 1) * sizeof *blocks));
        blocks[known++] = block;
    }
    qemu_plugin_register_vcpu_tb_exec_cb(translation, executed, NO_REGISTERS, block);
}

static void written(void)
{
    char name[4096];
    snprintf(name, sizeof name, "%s.trace", path);
    FILE *text = must(fopen(path, "w")), *numbers = must(fopen(name, "wb"));
    for (uint32_t i = 0; i < known; i++)
        if (blocks[i]->ran) {
            fprintf(text, "%u ", i);
            for (uint32_t j = 0; j < blocks[i]->length; j++)
                fprintf(text, "%08x", blocks[i]->words[j]);
            fputc('\n', text);
        }
    fwrite(order, sizeof *order, ran, numbers);
    if (fclose(text) || fclose(numbers))
        abort();
}

static void system_call(plugin_id id, unsigned cpu, int64_t number,
    uint64_t a, uint64_t b, uint64_t c, uint64_t d,
    uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{
    (void)id, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (number != AARCH64_GETPPID)
        return;
    if (tracing) {
        tracing = 0;
        written();
        return;
    }
    for (uint32_t i = 0; i < known; i++)
        blocks[i]->ran = 0;
    ran = 0;
    traced = cpu;
    tracing = 1;
}

int qemu_plugin_install(plugin_id id, const struct qemu_info *info, int argc, char **argv)
{
    (void)argc, (void)argv;
    copies = info->api > 2;
    path = getenv("ICOUNT_OUT");
    FILE *probe = path ? fopen(path, "w") : NULL;
    if (!probe || fclose(probe)) {
        fprintf(stderr, "cycles: ICOUNT_OUT names no file that can be written\n");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, system_call);
    return 0;
}
