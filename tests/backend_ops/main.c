/* main.c - every operation of plan.h on a backend, through small plans, against the scalar CPU
 * backend; and the rule of all operations: a row has the same bits alone, in a chunk, and beside
 * other slots.
 *
 *     test_backend_ops [BACKEND] [--small | --large | --int8 | --int4]
 *                      [--attention auto|flash|math] [--only GROUP]
 *
 * The backend is cpu by default. --small leaves out what takes long under a memory checker; --large
 * has rows enough for kernels that only a device full of blocks gets; --int8
 * and --int4 run products and convolutions alone, at that precision; --only runs one of the groups
 * below, so that several can run side by side.
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

/* Products come first: they are the groups that --int8 and --int4 run. */
enum { PRODUCTS = 2 };
static const struct group {
    const char *name;
    void (*test)(void);
} groups[] = {{"linears", test_linears},
              {"signals", test_signals},
              {"rows", test_rows},
              {"look-ups", test_look_ups},
              {"attentions", test_attentions},
              {"bf16-linears", test_bf16_linears},
              {"decisions", test_decisions},
              {"tempered", test_tempered_decisions},
              {"hard-logits", test_hard_logits}};
enum { GROUPS = sizeof groups / sizeof groups[0] };

typedef struct options {
    const char *name; /* of the backend */
    const char *only; /* group, or NULL */
    ut_backend_params params;
} options;

/* Index of text in a list of names, or -1. */
static int find(const char *const *names, int n, const char *text)
{
    while (n-- > 0 && strcmp(names[n], text) != 0) {
    }
    return n;
}

/* How many of the groups an option like --int8 leaves. */
static int n_groups(const options *o)
{
    return o->params.precision == UT_PRECISION_AUTO ? GROUPS : PRODUCTS;
}

static bool runs_group(const options *o, const char *name)
{
    for (int i = 0; i < n_groups(o); i++)
        if (strcmp(groups[i].name, name) == 0)
            return true;
    return false;
}

static bool parse(int argc, char **argv, options *o)
{
    static const char *const attention[] = {"auto", "flash", "math"};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--small") == 0) {
            ops_small = true;
        } else if (strcmp(argv[i], "--large") == 0) {
            ops_large = true;
        } else if (strcmp(argv[i], "--int8") == 0) {
            o->params.precision = UT_PRECISION_INT8;
        } else if (strcmp(argv[i], "--int4") == 0) {
            o->params.precision = UT_PRECISION_INT4;
        } else if (strcmp(argv[i], "--attention") == 0 && find(attention, 3, value) >= 0) {
            o->params.attention = (ut_attention)find(attention, 3, argv[++i]);
        } else if (strcmp(argv[i], "--only") == 0 && *value) {
            o->only = argv[++i];
        } else if (argv[i][0] != '-' && i == 1) {
            o->name = argv[i];
        } else {
            return false;
        }
    }
    return !o->only || runs_group(o, o->only);
}

static void usage(void)
{
    printf("usage: test_backend_ops [BACKEND] [--small | --large | --int8 | --int4] "
           "[--attention auto|flash|math] [--only GROUP]\ngroups:");
    for (int i = 0; i < GROUPS; i++)
        printf(" %s", groups[i].name);
    printf("\n");
}

int main(int argc, char **argv)
{
    options o = {.name = "cpu", .params = {.threads = 2}};
    if (!parse(argc, argv, &o)) {
        usage();
        return 2;
    }
    const ut_backend_params scalar = {
        .threads = 1, .precision = o.params.precision, .cpu_flags_off = ~0u};
    ut_err err = {0};
    if (!is_available(o.name))
        return 0;
    if (ut_backend_open(&reference, "cpu", &scalar, &err) != UTTER_OK ||
        ut_backend_open(&tested, o.name, &o.params, &err) != UTTER_OK) {
        printf("FAIL %s\n", err.msg);
        return 1;
    }
    ops_packed = o.params.precision != UT_PRECISION_AUTO && strcmp(o.name, "cuda") == 0;
    char text[256];
    tested->ops->describe(tested, text, sizeof text);
    printf("%s\n", text);
    for (int i = 0; i < n_groups(&o); i++) {
        if (o.only && strcmp(o.only, groups[i].name) != 0)
            continue;
        seed((uint64_t)i);
        groups[i].test();
    }
    tested->ops->close(tested);
    reference->ops->close(reference);
    printf("%d passed, %d failed\n", ops_passed, ops_failed);
    return ops_failed ? 1 : 0;
}
