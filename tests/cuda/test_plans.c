/* test_plans.c - what the CUDA backend makes of plans when it compiles them: that it is there, on
 * the emulated GPU; that it computes the same is what other tests say. */
#include "backends/cuda/exec.h"
#include "base/os.h"
#include "models/model.h"
#include "utter.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef struct fixture {
    ut_model *m;
    ut_backend *b;
} fixture;

static int set_up_at(void **state, ut_precision precision)
{
    static fixture x;
    ut_err err = {0};
    const ut_backend_params params = {.precision = precision};
    const ut_model_options options = {.max_positions = 160};
    *state = &x;
    if (ut_model_open(&x.m, "tests/data/s1-mini/case", &options, &err) == UTTER_OK &&
        ut_backend_open(&x.b, "cuda", &params, &err) == UTTER_OK)
        return 0;
    print_error("%s\n", err.msg);
    return -1;
}

static int set_up(void **state)
{
    return set_up_at(state, UT_PRECISION_BF16);
}

static int set_up_int8(void **state)
{
    return set_up_at(state, UT_PRECISION_INT8);
}

/* A device whose tensor cores phases do not use. */
static int set_up_80(void **state)
{
    setenv("UT_EMULATED_CAPABILITY", "80", 1);
    const int result = set_up(state);
    unsetenv("UT_EMULATED_CAPABILITY");
    return result;
}

static int tear_down(void **state)
{
    fixture *x = *state;
    x->b->ops->close(x->b);
    ut_model_free(x->m);
    return 0;
}

static cu_exec *compile(const fixture *x, const ut_plan *plan, int n_slots, int32_t max_t)
{
    ut_err err = {0};
    ut_exec *e;
    if (x->b->ops->compile(x->b, plan, n_slots, max_t, &e, &err) != UTTER_OK)
        fail_msg("%s", err.msg);
    return (cu_exec *)e;
}

static void release(cu_exec *e)
{
    e->head.backend->ops->exec_free(&e->head);
}

/* All of a frame, and of a prompt what follows its last row: as many decisions. */
static void ends_of_prompts_are_phases(void **state)
{
    const fixture *x = *state;
    cu_exec *prefill = compile(x, x->m->ar.prefill, 1, 32);
    cu_exec *frame = compile(x, x->m->ar.frame, 1, 1);
    const ut_plan *p = prefill->head.plan;
    assert_non_null(frame->frame);
    assert_int_equal(frame->tail, 0);
    assert_non_null(prefill->frame);
    assert_int_not_equal(prefill->frames, CU_FRAMES_STEPS);
    assert_in_range(prefill->tail, 1, p->n_ops - 1);
    for (int32_t i = 0; i < prefill->tail; i++)
        assert_int_not_equal(p->ops[i].kind, UT_OP_SAMPLE);
    release(prefill);
    release(frame);
}

/* Where there are more rows than phases take, and where nothing is decided: no phases. */
static void other_plans_are_steps(void **state)
{
    const fixture *x = *state;
    cu_exec *many = compile(x, x->m->ar.frame, 32, 1);
    cu_exec *codec = compile(x, x->m->codec.decode, 1, 4);
    assert_null(many->frame);
    assert_null(codec->frame);
    assert_int_equal(many->tail, x->m->ar.frame->n_ops);
    assert_int_equal(many->frames, CU_FRAMES_STEPS);
    assert_int_equal(codec->frames, CU_FRAMES_STEPS);
    release(many);
    release(codec);
}

/* A frame, or what of a prompt is the same whatever T is: do its products take what links hand on,
 * and is no swiglu or rotation by itself? */
static void expect_links(const cu_exec *e)
{
    const ut_plan *p = e->head.plan;
    int products = 0, gated = 0;
    assert_null(e->frame);
    assert_int_equal(e->frames, CU_FRAMES_STEPS);
    for (int32_t i = cu_fixed_from(p); i < p->n_ops; i++) {
        const cu_links *l = &e->steps[i].links;
        if (p->ops[i].kind == UT_OP_LINEAR) {
            assert_true(cu_is_slots_linear(e, (cu_backend *)e->head.backend, &e->steps[i]));
            products += l->x16 != 0;
            gated += l->swiglu >= 0;
        }
        if (p->ops[i].kind == UT_OP_SWIGLU || p->ops[i].kind == UT_OP_QKV)
            assert_true(l->merged);
    }
    assert_true(products >= 4 * gated);
    assert_true(gated > 0);
}

/* Phases have no matrices in blocks. The codec's are as they are beside bf16. */
static void blocks_are_steps_of_any_number_of_slots(void **state)
{
    const fixture *x = *state;
    cu_exec *one = compile(x, x->m->ar.frame, 1, 1), *many = compile(x, x->m->ar.frame, 3, 1);
    cu_exec *prompt = compile(x, x->m->ar.prefill, 1, 32);
    cu_exec *codec = compile(x, x->m->codec.decode, 1, 4);
    expect_links(prompt);
    expect_links(one);
    expect_links(many);
    int packed = 0;
    for (int32_t i = 0; i < one->n_steps; i++)
        packed += one->steps[i].op->kind == UT_OP_LINEAR && cu_is_packed(one->steps[i].w[0]->type);
    assert_true(packed > 0);
    for (int32_t i = 0; i < codec->n_steps; i++)
        if (codec->steps[i].op->kind == UT_OP_LINEAR)
            assert_int_equal(codec->steps[i].w[0]->type, CU_F16);
    release(one);
    release(many);
    release(prompt);
    release(codec);
}

static void frames_before_90_are_steps(void **state)
{
    const fixture *x = *state;
    cu_exec *one = compile(x, x->m->ar.frame, 1, 1);
    expect_links(one);
    release(one);
}

/* What was chosen is told: by timing, or that phases do not have it. */
static void it_says_how_frames_run(void **state, const char *steps)
{
    const fixture *x = *state;
    char text[256];
    x->b->ops->describe(x->b, text, sizeof text);
    assert_null(strstr(text, "frames"));
    release(compile(x, x->m->ar.frame, 1, 1));
    x->b->ops->describe(x->b, text, sizeof text);
    assert_non_null(strstr(text, steps));
    assert_true(strlen(text) < sizeof text - 1);
}

static void it_says_that_frames_are_steps(void **state)
{
    it_says_how_frames_run(state, ", frames as a graph of steps");
}

static void it_says_which_was_faster(void **state)
{
    it_says_how_frames_run(state, " ms, ");
}

/* Frames 0 .. n - 1 of codes that differ, by a new state. */
static void decode(const fixture *x, cu_exec *e, int32_t n, float *pcm)
{
    const ut_codec *c = &x->m->codec;
    const ut_backend_ops *ops = x->b->ops;
    ut_err err = {0};
    ut_state *s;
    assert_int_equal(ops->state_new(x->b, &c->decode_states, e->n_slots, &s, &err), UTTER_OK);
    for (int i = 0; i < e->n_slots; i++)
        ops->state_reset(s, i);
    int32_t *codes = ops->input(&e->head, ut_plan_find(c->decode, "codes"), n);
    for (int32_t i = 0; i < e->n_slots * n * c->n_codebooks; i++)
        codes[i] = i % (n * c->n_codebooks) % 7;
    assert_int_equal(ops->run(&e->head, s, 0, n, &err), UTTER_OK);
    const float *made = ops->output(&e->head, ut_plan_find(c->decode, "pcm"), &err);
    assert_non_null(made);
    memcpy(pcm, made, (size_t)n * (size_t)c->hop_samples * sizeof *pcm);
    ops->state_free(s);
}

/* The smaller one brings no memory of its own, works beside the larger, and after it is gone. */
static void execs_of_a_plan_share_memory(void **state)
{
    enum { FRAMES = 2, MOST = 8192 };
    static float first[MOST], pcm[MOST];
    const fixture *x = *state;
    const ut_plan *plan = x->m->codec.decode;
    const size_t bytes = (size_t)FRAMES * (size_t)x->m->codec.hop_samples * sizeof *pcm;
    assert_in_range(bytes, 1, sizeof pcm);
    cu_exec *large = compile(x, plan, 2, FRAMES), *small = compile(x, plan, 1, FRAMES);
    cu_exec *larger = compile(x, plan, 2, 2 * FRAMES);
    assert_ptr_equal(large->arena, small->arena);
    assert_ptr_not_equal(large->arena, larger->arena);
    assert_true(large->arena_bytes > 0);
    assert_int_equal(small->arena_bytes, 0);
    decode(x, large, FRAMES, first);
    decode(x, small, FRAMES, pcm);
    assert_memory_equal(pcm, first, bytes);
    decode(x, large, FRAMES, pcm);
    assert_memory_equal(pcm, first, bytes);
    release(large);
    decode(x, small, FRAMES, pcm);
    assert_memory_equal(pcm, first, bytes);
    release(small);
    release(larger);
    assert_null(((cu_backend *)x->b)->arenas);
}

/* Sums of residual units are made where the residual is, and narrow tensors take half as much. */
static void codecs_work_in_little_memory(void **state)
{
    const fixture *x = *state;
    cu_exec *e = compile(x, x->m->codec.decode, 2, 4);
    const ut_plan *p = e->head.plan;
    int onto = 0;
    for (int32_t i = 0; i < p->n_ops; i++) {
        const ut_op *op = &p->ops[i];
        const ut_tid to = op->out[0] == UT_NONE ? UT_NONE : ut_plan_root(p, op->out[0]);
        if (to == UT_NONE || e->kept[to].onto == UT_NONE)
            continue;
        assert_int_equal(op->kind, UT_OP_LINEAR);
        assert_int_equal(e->kept[to].onto, ut_plan_root(p, op->in[1]));
        assert_int_equal(e->places[to].offset, e->places[op->in[1]].offset);
        onto++;
    }
    assert_in_range(onto, 3, p->n_ops);
    size_t offset[1024], bytes;
    ut_err err = {0};
    assert_in_range(p->n_tensors, 1, 1024);
    assert_int_equal(ut_plan_place(p, 2, 4, offset, &bytes, &err), UTTER_OK);
    assert_true(e->arena_bytes < bytes);
    release(e);
}

/* A run that never ends is an error, so is everything after it, and closing does not wait. */
static void a_stuck_device_is_an_error(void **state)
{
    const fixture *x = *state;
    const ut_codec *c = &x->m->codec;
    const ut_backend_ops *ops = x->b->ops;
    ut_err err = {0};
    ut_state *s, *other;
    cu_exec *e = compile(x, c->decode, 1, 2);
    const ut_tid pcm = ut_plan_find(c->decode, "pcm");
    ((cu_backend *)x->b)->patience = 0.05;
    assert_int_equal(ops->state_new(x->b, &c->decode_states, 1, &s, &err), UTTER_OK);
    memset(ops->input(&e->head, ut_plan_find(c->decode, "codes"), 1), 0,
           (size_t)c->n_codebooks * sizeof(int32_t));
    setenv("UT_EMULATED_STUCK", "1", 1);
    assert_int_equal(ops->run(&e->head, s, 0, 1, &err), UTTER_OK);
    unsetenv("UT_EMULATED_STUCK");
    assert_null(ops->output(&e->head, pcm, &err));
    assert_int_equal(err.status, UTTER_ERR_BACKEND);
    assert_non_null(strstr(err.msg, "stuck"));
    assert_int_equal(ops->run(&e->head, s, 0, 1, &err), UTTER_ERR_BACKEND);
    assert_int_not_equal(ops->state_new(x->b, &c->decode_states, 1, &other, &err), UTTER_OK);
    const double start = ut_time_now();
    ops->state_free(s);
    release(e);
    assert_true(ut_time_now() - start < 5);
}

/* A device that is there, but takes no kernels: who asked for it is told, who did not goes on. */
static void auto_goes_on_without_a_device_of_no_use(void **state)
{
    utter_engine_params params;
    utter_engine_info info;
    utter_engine *e;
    (void)state;
    utter_engine_params_init(&params);
    utter_engine_info_init(&info);
    setenv("UT_EMULATED_OLD", "1", 1);
    assert_int_equal(utter_engine_open("tests/data/s1-mini/case", &params, &e), UTTER_OK);
    assert_int_equal(utter_engine_get_info(e, &info), UTTER_OK);
    assert_string_equal(info.backend, "cpu");
    utter_engine_close(e);
    params.backend = "cuda";
    assert_int_equal(utter_engine_open("tests/data/s1-mini/case", &params, &e), UTTER_ERR_BACKEND);
    assert_non_null(strstr(utter_last_error(NULL), "no kernels for device 0"));
    unsetenv("UT_EMULATED_OLD");
}

/* A number that no device has: every backend's reason. */
static void auto_says_why_none_is_available(void **state)
{
    const ut_backend_ops *ops;
    ut_err err = {0};
    (void)state;
    assert_int_equal(ut_backend_find(&ops, "auto", 7, &err), UTTER_ERR_BACKEND);
    assert_null(ops);
    assert_non_null(strstr(err.msg, "cuda: "));
    assert_non_null(strstr(err.msg, "cpu: "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ends_of_prompts_are_phases, set_up, tear_down),
        cmocka_unit_test_setup_teardown(other_plans_are_steps, set_up, tear_down),
        cmocka_unit_test_setup_teardown(blocks_are_steps_of_any_number_of_slots, set_up_int8,
                                        tear_down),
        cmocka_unit_test_setup_teardown(frames_before_90_are_steps, set_up_80, tear_down),
        cmocka_unit_test_setup_teardown(it_says_that_frames_are_steps, set_up_int8, tear_down),
        cmocka_unit_test_setup_teardown(it_says_which_was_faster, set_up, tear_down),
        cmocka_unit_test_setup_teardown(execs_of_a_plan_share_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(codecs_work_in_little_memory, set_up, tear_down),
        cmocka_unit_test(auto_goes_on_without_a_device_of_no_use),
        cmocka_unit_test(auto_says_why_none_is_available),
        cmocka_unit_test_setup_teardown(a_stuck_device_is_an_error, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
