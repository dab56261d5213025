/* mkmodel.c - writes a checkpoint with random values in a family's official layout: the real thing
 * for loaders, kernels and benchmarks, except that it speaks noise. */
#include "mkmodel.h"

#include "base/os.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    mkmodel_fn *make;
} families[] = {{"s1-mini", mkmodel_s1_mini},
                {"qwen3-tts-0.6b", mkmodel_qwen3_tts_06b},
                {"qwen3-tts-0.6b-base", mkmodel_qwen3_tts_06b_base},
                {"qwen3-tts-1.7b", mkmodel_qwen3_tts_17b},
                {"qwen3-tts-1.7b-base", mkmodel_qwen3_tts_17b_base},
                {"qwen3-tts-1.7b-design", mkmodel_qwen3_tts_17b_design}};

enum { N_FAMILIES = sizeof families / sizeof families[0] };

static int usage(void)
{
    fprintf(stderr, "usage: mkmodel FAMILY DIR [--size full|narrow|tiny] [--seed N]\n"
                    "Writes a checkpoint with random values into DIR, which must be empty or not "
                    "there.\nSize full (the default) has the published dimensions, tiny the same "
                    "structure in < 3 MB,\nnarrow one that is just wide enough for full's kernels, "
                    "for checkers.\nFamilies:");
    for (int i = 0; i < N_FAMILIES; i++)
        fprintf(stderr, " %s", families[i].name);
    fprintf(stderr, "\n");
    return 2;
}

typedef struct options {
    mkmodel_fn *make;
    const char *dir;
    model_size size;
    uint64_t seed;
} options;

static bool parse_seed(const char *s, uint64_t *out)
{
    char *end;
    errno = 0;
    *out = strtoull(s, &end, 10);
    return *s >= '0' && *s <= '9' && *end == 0 && errno == 0;
}

static bool parse_size(const char *s, model_size *out)
{
    static const char *const names[MODEL_SIZES] = {
        [MODEL_FULL] = "full", [MODEL_TINY] = "tiny", [MODEL_NARROW] = "narrow"};
    int i = 0;
    while (i < MODEL_SIZES && strcmp(names[i], s) != 0)
        i++;
    *out = (model_size)i;
    return i < MODEL_SIZES;
}

static bool parse_options(options *o, int argc, char **argv)
{
    const char *family = NULL;
    *o = (options){.size = MODEL_FULL, .seed = 1};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--size") == 0) {
            if (!parse_size(value, &o->size))
                return false;
            i++;
        } else if (strcmp(argv[i], "--seed") == 0) {
            if (!parse_seed(value, &o->seed))
                return false;
            i++;
        } else if (argv[i][0] == '-' || o->dir) {
            return false;
        } else if (!family) {
            family = argv[i];
        } else {
            o->dir = argv[i];
        }
    }
    for (int i = 0; i < N_FAMILIES && family; i++)
        if (strcmp(families[i].name, family) == 0)
            o->make = families[i].make;
    return o->make && o->dir;
}

/* The directory exists afterwards and has nothing in it. */
static utter_status make_empty_dir(const char *dir, ut_err *err)
{
    char **names;
    size_t n;
    utter_status st = ut_mkdirs(dir, err);
    if (st == UTTER_OK)
        st = ut_list_dir(dir, &names, &n, err);
    if (st != UTTER_OK)
        return st;
    if (n > 0)
        st = ut_fail(err, UTTER_ERR_ARG, "%s: not empty (it holds %s); nothing was written", dir,
                     names[0]);
    ut_list_free(names, n);
    return st;
}

int main(int argc, char **argv)
{
    options o;
    ut_err err = {0};
    ut_main_args(&argc, &argv);
    if (!parse_options(&o, argc, argv))
        return usage();
    utter_status st = make_empty_dir(o.dir, &err);
    if (st == UTTER_OK)
        st = o.make(o.dir, o.size, o.seed, &err);
    if (st != UTTER_OK)
        fprintf(stderr, "mkmodel: %s\n", err.msg);
    return st == UTTER_OK ? 0 : 1;
}
