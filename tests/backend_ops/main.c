/* main.c - every operation of plan.h on a backend, through small plans, against the scalar CPU
 * backend; and the rule of all operations: a row has the same bits alone, in a chunk, and beside
 * other slots.
 *
 *     test_backend_ops [BACKEND] [--small | --int8 | --int4] [--attention auto|flash|math]
 *
 * The backend is cpu by default. --small leaves out what takes long under a memory checker; --int8
 * and --int4 run products and convolutions alone, at that precision.
 * A backend that is not available here is skipped, and that is no failure. */
#include "fixture.h"
#include <stdio.h>
#include <string.h>

static bool is_available(const char *name)
{
    for (const ut_backend_ops *const *b = ut_backends(); *b; b++)
        if (strcmp((*b)->name, name) == 0) {
            char text[256] = "";
            if ((*b)->probe(0, text, sizeof text))
                return true;
            printf("skipped: no %s device: %s\n", strcmp(name, "cuda") ? name : "CUDA", text);
            return false;
        }
    printf("skipped: this build has no backend %s\n", name);
    return false;
}

static bool parse(int argc, char **argv, const char **name, bool *small, ut_backend_params *params)
{
    static const char *const attention[] = {"auto", "flash", "math"};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--small") == 0) {
            *small = true;
        } else if (strcmp(argv[i], "--int8") == 0) {
            params->precision = UT_PRECISION_INT8;
        } else if (strcmp(argv[i], "--int4") == 0) {
            params->precision = UT_PRECISION_INT4;
        } else if (strcmp(argv[i], "--attention") == 0 && i + 1 < argc) {
            i++;
            for (int k = 0; k < 3; k++)
                if (strcmp(argv[i], attention[k]) == 0)
                    params->attention = (ut_attention)k;
        } else if (argv[i][0] != '-' && i == 1) {
            *name = argv[i];
        } else {
            return false;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    const char *name = "cpu";
    bool small = false;
    ut_backend_params usual = {.threads = 2};
    if (!parse(argc, argv, &name, &small, &usual)) {
        printf("usage: test_backend_ops [BACKEND] [--small | --int8 | --int4] "
               "[--attention auto|flash|math]\n");
        return 2;
    }
    const ut_backend_params scalar = {
        .threads = 1, .precision = usual.precision, .cpu_flags_off = ~0u};
    ut_err err = {0};
    if (!is_available(name))
        return 0;
    if (ut_backend_open(&reference, "cpu", &scalar, &err) != UTTER_OK ||
        ut_backend_open(&tested, name, &usual, &err) != UTTER_OK) {
        printf("FAIL %s\n", err.msg);
        return 1;
    }
    char text[256];
    tested->ops->describe(tested, text, sizeof text);
    printf("%s\n", text);
    static void (*const groups[])(void) = {test_linears,  test_signals,    test_rows,
                                           test_look_ups, test_attentions, test_bf16_linears};
    enum { GROUPS = sizeof groups / sizeof groups[0] };
    const bool all = usual.precision == UT_PRECISION_AUTO;
    for (int i = 0; i < (all ? GROUPS : 2); i++) {
        seed((uint64_t)i);
        groups[i]();
    }
    seed(GROUPS);
    if (all)
        test_decisions(small);
    tested->ops->close(tested);
    reference->ops->close(reference);
    printf("%d passed, %d failed\n", ops_passed, ops_failed);
    return ops_failed ? 1 : 0;
}
