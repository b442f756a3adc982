/* The part of qemu's plugin interface that the plugins of the tests use, so that no header of qemu is needed.
 *
 * It is the part that all versions of the interface share, but for what is said at qemu_plugin_insn_data.
 * PLUGIN_API is the version to claim (1 for qemu 7.2).  A plugin is one source, which includes this once.
 */
#include <stddef.h>
#include <stdint.h>

#define EXPORTED __attribute__((visibility("default")))

enum { AARCH64_GETPPID = 173, NO_REGISTERS = 0 };

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;

/* The head of what qemu tells of itself. */
struct qemu_info {
    const char *target;
    int oldest_api, api;
};

extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block, size_t index);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *block);
/* Returns a pointer to the instruction up to version 2 of the interface, from then on copies it to one. */
extern void *qemu_plugin_insn_data(const struct qemu_plugin_insn *instruction, void *copy, size_t size);
extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id,
    void (*callback)(plugin_id, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block,
    void (*callback)(unsigned cpu, void *data), int flags, void *data);
extern void qemu_plugin_register_vcpu_syscall_cb(plugin_id id,
    void (*callback)(plugin_id, unsigned cpu, int64_t number, uint64_t, uint64_t,
                     uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));

/* What qemu looks for in a plugin. */
EXPORTED int qemu_plugin_version = PLUGIN_API;
EXPORTED int qemu_plugin_install(plugin_id id, const struct qemu_info *info, int argc, char **argv);
