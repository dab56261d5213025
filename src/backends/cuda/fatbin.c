/* fatbin.c - the kernels as nvcc made them, one fatbin per file of kernels. The assembler reads the
 * files: as arrays in C they would take longer to compile than the rest of the library. */
#include "backends/cuda/fatbin.h"

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

FATBIN(linear);
FATBIN(linear_packed);
FATBIN(rows);
FATBIN(signal);
FATBIN(attention);
FATBIN(decide);
FATBIN(linear_mma);
FATBIN(linear_slots);
FATBIN(slot_ops);
FATBIN(attention_flash);
FATBIN(attention_split);
FATBIN(frame);

const void *cu_fatbin(int i)
{
    const void *const all[CU_FATBINS] = {ut_fatbin_linear,
                                         ut_fatbin_linear_packed,
                                         ut_fatbin_linear_mma,
                                         ut_fatbin_linear_slots,
                                         ut_fatbin_rows,
                                         ut_fatbin_signal,
                                         ut_fatbin_attention,
                                         ut_fatbin_attention_flash,
                                         ut_fatbin_attention_split,
                                         ut_fatbin_decide,
                                         ut_fatbin_slot_ops,
                                         ut_fatbin_frame};
    return all[i];
}
