/* test_models.c - frames of the models at widths that tensor cores take, on the emulated GPU: that
 * they go the fast way, of which a plan of another form says nothing but that it is slow, that one
 * kernel makes the codes that a launch per phase does, and what of several slots may be early. */
#include "backends/cuda/frame.h"
#include "base/os.h"
#include "engine/batch.h"
#include "mkmodel.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { FRAMES = 2, MOST_CODES = 64, PROMPT = 7, MOST_SLOTS = 3 };

typedef struct checkpoint {
    const char *name;
    mkmodel_fn *make;
    int32_t brief; /* dimensions of the small transformer's heads */
} checkpoint;

static const checkpoint checkpoints[] = {{"s1-mini", mkmodel_s1_mini, 64},
                                         {"qwen3-tts-0.6b", mkmodel_qwen3_tts_06b, 128},
                                         {"qwen3-tts-1.7b", mkmodel_qwen3_tts_17b, 128}};
enum { CHECKPOINTS = sizeof checkpoints / sizeof checkpoints[0] };

static void directory_of(const checkpoint *c, char *dir, size_t size)
{
    const char *base = getenv("UT_TEST_TMP");
    snprintf(dir, size, "%s/narrow-%s", base ? base : ".", c->name);
}

static int make_all(void **state)
{
    (void)state;
    for (size_t i = 0; i < CHECKPOINTS; i++) {
        char dir[512];
        ut_err err = {0};
        directory_of(&checkpoints[i], dir, sizeof dir);
        if (ut_mkdirs(dir, &err) != UTTER_OK ||
            checkpoints[i].make(dir, MODEL_NARROW, 1, &err) != UTTER_OK) {
            print_error("%s\n", err.msg);
            return -1;
        }
    }
    return 0;
}

/* How codes are made: of the first of so many sessions that speak at a time; `apart`: attention and
 * the product in front of it are two launches. */
typedef struct way {
    ut_precision precision;
    cu_frames how;
    int slots;
    bool apart;
} way;

static utter_engine *open_engine(const checkpoint *c, const way *w)
{
    const ut_model_options options = {.max_positions = 160};
    const ut_backend_params params = {.precision = w->precision};
    utter_engine *e = NULL;
    ut_model *m = NULL;
    ut_backend *b = NULL;
    ut_err err = {0};
    char dir[512];
    directory_of(c, dir, sizeof dir);
    if (ut_model_open(&m, dir, &options, &err) != UTTER_OK ||
        ut_backend_open(&b, "cuda", &params, &err) != UTTER_OK)
        fail_msg("%s", err.msg);
    ((cu_backend *)b)->frames = w->how;
    if (w->apart)
        ((cu_backend *)b)->large_clusters = false;
    if (ut_engine_new(m, b, dir, w->slots, &e, &err) != UTTER_OK)
        fail_msg("%s", err.msg);
    return e;
}

/* Of one slot: phases of slots are the look-up of the last codes and a decision for each of the new
 * ones. Barriers stand behind the look-up and on both sides of the first decision; everything else
 * that a block wants of others is mail. */
static void look_at_frame(const checkpoint *c, const utter_engine *e)
{
    const cu_exec *x = (const cu_exec *)e->frames[0];
    const cu_frame *f = x->frame;
    int decisions = 0, slots = 0, barriers = 0;
    assert_non_null(f);
    assert_int_equal(x->tail, 0);
    assert_true(f->bf16);
    assert_int_equal(f->brief, c->brief);
    for (int32_t i = 0; i < f->n_phases; i++) {
        const cu_fused *p = &f->phases[i];
        barriers += p->barrier;
        slots += p->kind == CU_PHASE_SLOTS;
        for (int32_t k = p->first; k < p->first + p->count; k++)
            decisions += x->head.plan->ops[f->slot_ops[k]].kind == UT_OP_SAMPLE;
    }
    assert_int_equal(decisions, e->model->codec.n_codebooks);
    assert_int_equal(slots, 1 + decisions);
    assert_int_equal(barriers, 3);
}

static void make_codes(const checkpoint *c, const way *w, int32_t codes[MOST_CODES])
{
    utter_engine *e = open_engine(c, w);
    const ut_model *m = e->model;
    const int32_t all = (FRAMES + 1) * m->codec.n_codebooks;
    ut_prompt prompt;
    ut_session *s[MOST_SLOTS] = {NULL};
    ut_err err = {0};
    if (w->how == CU_FRAMES_WHOLE)
        look_at_frame(c, e);
    ut_prompt_init(&prompt);
    for (int32_t i = 0; i < PROMPT * m->ar.columns; i++)
        assert_true(ut_buf_push_i32(&prompt.columns, i % m->ar.columns ? 0 : 5 + i));
    ut_generation g = {.prompt = &prompt,
                       .limit = FRAMES + 1,
                       .seed = 3,
                       .ignore_eos = true,
                       .pause = INT32_MAX,
                       .params = {{[UT_SP_TEMPERATURE] = m->defaults.temperature,
                                   [UT_SP_TOP_P] = m->defaults.top_p,
                                   [UT_SP_REPETITION_PENALTY] = 1.2f,
                                   [UT_SP_TOP_K] = (float)m->defaults.top_k},
                                  {[UT_SP_TEMPERATURE] = m->defaults.sub_temperature,
                                   [UT_SP_TOP_P] = m->defaults.sub_top_p,
                                   [UT_SP_REPETITION_PENALTY] = 1,
                                   [UT_SP_TOP_K] = (float)m->defaults.sub_top_k}}};
    for (int i = 0; i < w->slots; i++, g.seed++)
        if (ut_session_take(e, &s[i], &err) != UTTER_OK ||
            ut_session_begin(s[i], &g, &err) != UTTER_OK)
            fail_msg("%s", err.msg);
    while (!s[0]->ar_done)
        if (ut_batch_start(e->batches, &err) != UTTER_OK ||
            ut_batch_take(e->batches, &err) != UTTER_OK)
            fail_msg("%s", err.msg);
    assert_in_range(all, 1, MOST_CODES);
    assert_int_equal(s[0]->n_frames, FRAMES + 1);
    memcpy(codes, s[0]->codes, (size_t)all * sizeof *codes);
    for (int i = 0; i < w->slots; i++)
        ut_session_give(s[i]);
    ut_prompt_free(&prompt);
    utter_engine_close(e);
}

static void frames_go_the_fast_way(void **state)
{
    (void)state;
    for (size_t i = 0; i < CHECKPOINTS; i++) {
        int32_t whole[MOST_CODES] = {0}, phases[MOST_CODES] = {0};
        make_codes(&checkpoints[i], &(way){UT_PRECISION_BF16, CU_FRAMES_WHOLE, 1, false}, whole);
        make_codes(&checkpoints[i], &(way){UT_PRECISION_BF16, CU_FRAMES_PHASES, 1, false}, phases);
        assert_memory_equal(whole, phases, sizeof whole);
    }
}

/* Frames of two slots are steps where nothing else was asked for. Attention reads its caches before
 * the kernel in front has ended in all layers of the large transformer, whose rows are of earlier
 * runs, and in the small one's first pass, which sees none; its later passes see rows that earlier
 * ones of the run have made, and must wait. */
static void several_slots_are_steps(void **state)
{
    (void)state;
    for (size_t i = 0; i < CHECKPOINTS; i++) {
        utter_engine *e =
            open_engine(&checkpoints[i], &(way){UT_PRECISION_BF16, CU_FRAMES_AUTO, 2, false});
        const cu_exec *one = (const cu_exec *)e->frames[0], *two = (const cu_exec *)e->frames[1];
        const ut_plan *p = two->head.plan;
        int early = 0, fused = 0, whole = 0;
        assert_non_null(one->frame);
        assert_int_equal(two->n_slots, 2);
        assert_int_equal(two->frames, CU_FRAMES_STEPS);
        for (int32_t k = 0; k < p->n_ops; k++) {
            const ut_tid keys = p->ops[k].in[2];
            bool first = true;
            if (p->ops[k].kind != UT_OP_ATTENTION)
                continue;
            for (int32_t j = 0; j < k; j++)
                first = first && (p->ops[j].kind != UT_OP_ATTENTION || p->ops[j].in[2] != keys);
            assert_int_equal(two->steps[k].links.early, first);
            assert_true(two->steps[k].links.qkv >= 0);
            early += two->steps[k].links.early;
            whole += two->steps[k].links.product >= 0;
            fused++;
        }
        assert_true(early > 0 && early < fused);
        assert_int_equal(whole, fused - early); /* of the later passes, whose rows are single */
        utter_engine_close(e);
    }
}

/* The same codes whatever speaks beside it, whether attention takes the product in front of it, and
 * whether steps are linked at all: where numbers are rounded differs, but changes none of these. */
static void linked_steps_make_the_same_codes(void **state)
{
    static const struct {
        int checkpoint;
        way ways[3]; /* the first, and others that make the same; slots 0: none */
    } cases[] = {
        {0,
         {{UT_PRECISION_BF16, CU_FRAMES_AUTO, 3, false},
          {UT_PRECISION_BF16, CU_FRAMES_AUTO, 3, true}}},
        {0,
         {{UT_PRECISION_INT8, CU_FRAMES_AUTO, 1, false},
          {UT_PRECISION_INT8, CU_FRAMES_AUTO, 3, true},
          {UT_PRECISION_INT8, CU_FRAMES_PHASES, 1, false}}},
        {1,
         {{UT_PRECISION_INT4, CU_FRAMES_AUTO, 3, false},
          {UT_PRECISION_INT4, CU_FRAMES_AUTO, 1, true}}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int32_t codes[MOST_CODES] = {0}, others[MOST_CODES] = {0};
        const checkpoint *c = &checkpoints[cases[i].checkpoint];
        make_codes(c, &cases[i].ways[0], codes);
        for (int k = 1; k < 3 && cases[i].ways[k].slots > 0; k++) {
            make_codes(c, &cases[i].ways[k], others);
            assert_memory_equal(others, codes, sizeof codes);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(frames_go_the_fast_way),
                                       cmocka_unit_test(several_slots_are_steps),
                                       cmocka_unit_test(linked_steps_make_the_same_codes)};
    return cmocka_run_group_tests(tests, make_all, NULL);
}
