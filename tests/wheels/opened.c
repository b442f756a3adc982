/* A program of musl that opens the library: argv[1] is its path, then come kernels as name:rows:columns:sum, then other entries. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

enum { DEPTH = 16, MOST = 4096 };

int main(int count, char **words)
{
    void *library = dlopen(words[1], RTLD_NOW);
    if (!library)
        return printf("%s\n", dlerror()), 1;
    for (int i = 2; i < count; i++) {
        char name[100], *rows = strchr(words[i], ':'), *columns = rows ? strchr(rows + 1, ':') : 0;
        snprintf(name, sizeof name, "pyint8dot_%.*s", (int)(rows ? rows - words[i] : 80), words[i]);
        void (*entry)(const int64_t *) = (void (*)(const int64_t *))dlsym(library, name);
        if (!entry)
            return printf("%s\n", dlerror()), 1;
        if (!rows)
            continue;
        /* A tile of ones by ones, which are packed alike in every layout; where half of an operand is complemented they are others. */
        static int8_t ones[MOST];
        static int32_t product[MOST];
        int64_t m = atoi(rows + 1), n = atoi(columns + 1), sum = atoi(strchr(columns + 1, ':') + 1);
        memset(ones, 1, sizeof ones);
        int64_t arguments[] = {(intptr_t)ones, (intptr_t)ones, (intptr_t)product, 4 * n, m, n, DEPTH, 0, 0};
        memset(product, 0x55, sizeof product);
        entry(arguments);
        for (int64_t j = 0; j < m * n; j++)
            if (product[j] != sum)
                return printf("%s is wrong\n", name), 1;
    }
    printf("%d entries found, hwcap %#lx\n", count - 2, getauxval(AT_HWCAP));
    return 0;
}
