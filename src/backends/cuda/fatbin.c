/* fatbin.c - the kernels as nvcc made them, one fatbin per file of kernels. The assembler reads the
 * files: as arrays in C they would take longer to compile than the rest of the library. */
#include "backends/cuda/fatbin.h"
#include <string.h>

#if defined(__ELF__)
#define SECTION      ".section .rodata\n"
#define HIDDEN(name) ".hidden " name "\n"
#else /* Windows */
#define SECTION ".section .rdata, \"dr\"\n"
#define HIDDEN(name)
#endif
#define FATBIN(name)                                                                               \
    extern const unsigned char ut_fatbin_##name[];                                                 \
    __asm__(SECTION ".balign 64\n"                                                                 \
                    ".globl ut_fatbin_" #name                                                      \
                    "\n" HIDDEN("ut_fatbin_" #name) "ut_fatbin_" #name ":\n"                       \
                                                    ".incbin \"" #name ".fatbin\"\n"               \
                                                    ".byte 0\n"                                    \
                                                    ".text\n")

/* X of each file: CU_FATBIN_FILES comes from the build, which knows them. */
#define X(name) FATBIN(name);
CU_FATBIN_FILES
#undef X

const void *cu_fatbin(int i)
{
#define X(name) ut_fatbin_##name,
    static const void *const all[] = {CU_FATBIN_FILES};
#undef X
    _Static_assert(sizeof all / sizeof all[0] == CU_FATBINS, "as many modules as files");
    return all[i];
}

int cu_fatbin_of(const char *file)
{
#define X(name) #name,
    static const char *const names[] = {CU_FATBIN_FILES};
#undef X
    for (int i = 0; i < CU_FATBINS; i++)
        if (strcmp(names[i], file) == 0)
            return i;
    return -1;
}
