/* main.c - ut-parity: recompute what a reference implementation recorded, and compare.
 *
 *     ut-parity CASE_DIR [--backend B] [--precision P] [--threads N]
 *
 * CASE_DIR holds a checkpoint (of the Qwen3-TTS family three, and cases.json) and
 * golden.safetensors. One line per recorded tensor (ok|FAIL name max_abs max_rel), last `N passed,
 * N failed`; exit status 1 on any failure. */
#include "base/alloc.h"
#include "base/os.h"
#include "parity/parity.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int usage(void)
{
    fprintf(stderr, "usage: ut-parity CASE_DIR [--backend NAME] "
                    "[--precision f32|bf16|f16|int8|int4] [--threads N]\n");
    return 2;
}

/* How near a run that is not f32 has to come when it goes along the recorded choices. */
static const struct {
    const char *name;
    ut_precision value;
    double least_cosine, least_of_step, most_changed;
} precisions[] = {{"f32", UT_PRECISION_F32, 1, 1, 0},
                  {"bf16", UT_PRECISION_BF16, 0.999, 0.999, 0.1},
                  {"f16", UT_PRECISION_F16, 0.999, 0.999, 0.1},
                  {"int8", UT_PRECISION_INT8, 0.999, 0.999, 0.1},
                  {"int4", UT_PRECISION_INT4, 0.96, 0.9, 0.5}};

static bool parse_precision(const char *s, parity *p, ut_precision *out)
{
    for (size_t i = 0; i < sizeof precisions / sizeof precisions[0]; i++)
        if (strcmp(s, precisions[i].name) == 0) {
            *out = precisions[i].value;
            p->least_cosine = precisions[i].least_cosine;
            p->least_of_step = precisions[i].least_of_step;
            p->most_changed = precisions[i].most_changed;
            return true;
        }
    return false;
}

static utter_status open_case(parity *p, const char *backend, const ut_backend_params *params)
{
    char *path = ut_path_join(p->dir, "golden.safetensors");
    if (!path)
        return ut_fail(&p->err, UTTER_ERR_NOMEM, "no memory");
    utter_status st = ut_weights_open(&p->golden, path, &p->err);
    ut_free(path);
    if (st != UTTER_OK)
        return st;
    p->seen = need_memory(ut_weights_count(p->golden), sizeof *p->seen);
    st = ut_backend_open(&p->backend, backend, params, &p->err);
    if (st == UTTER_OK)
        p->ops = p->backend->ops;
    return st;
}

static bool has_cases(const parity *p)
{
    char *path = ut_path_join(p->dir, "cases.json");
    const bool has = path && ut_file_exists(path);
    ut_free(path);
    return has;
}

int main(int argc, char **argv)
{
    parity p = {0};
    const char *backend = "cpu";
    ut_backend_params params = {.precision = UT_PRECISION_F32};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--backend") == 0 && value)
            backend = argv[++i];
        else if (strcmp(argv[i], "--precision") == 0 && value &&
                 parse_precision(value, &p, &params.precision))
            i++;
        else if (strcmp(argv[i], "--threads") == 0 && value)
            params.threads = atoi(argv[++i]);
        else if (argv[i][0] != '-' && !p.dir)
            p.dir = argv[i];
        else
            return usage();
    }
    if (!p.dir)
        return usage();
    p.exact = params.precision == UT_PRECISION_F32;

    utter_status st = open_case(&p, backend, &params);
    if (st == UTTER_OK)
        st = has_cases(&p) ? parity_qwen3_tts(&p) : parity_s1_mini(&p);
    for (size_t i = 0; st == UTTER_OK && i < ut_weights_count(p.golden); i++)
        if (!p.seen[i])
            report_missing(&p, ut_weights_at(p.golden, i)->name, "nothing here recomputes it");
    if (st != UTTER_OK) {
        fprintf(stderr, "ut-parity: %s\n", p.err.msg);
        p.n_failed++;
    }
    if (p.backend)
        p.ops->close(p.backend);
    ut_weights_close(p.golden);
    ut_free(p.seen);
    printf("%d passed, %d failed\n", p.n_passed, p.n_failed);
    return p.n_failed ? 1 : 0;
}
