/* engine.c - opening and closing: a model, a backend, the compiled plans and the default voice. */
#include "engine/engine.h"
#include "base/alloc.h"
#include "base/log.h"
#include "base/os.h"
#include "engine/batch.h"
#include "engine/params.h"
#include "engine/voice.h"
#include <string.h>

#define FIRST_PREFILL 256 /* tokens that prefill is compiled for at first */
#define MAX_THREADS   1024
#define MIN_POSITIONS 64
#define MAX_POSITIONS (1 << 20)
#define MAX_DEVICES   1024
#define PARAMS_OLDEST UT_SIZE_UPTO(utter_engine_params, reserved)
#define INFO_OLDEST   UT_SIZE_UPTO(utter_engine_info, codec_id)

ut_err *ut_api_err(utter_engine *e)
{
    static _Thread_local ut_err of_thread;
    ut_err *err = e ? &e->err : &of_thread;
    err->status = UTTER_OK; /* so that the next failure is kept */
    return err;
}

utter_status ut_fail_null(ut_err *err, const char *call, const char *argument)
{
    return ut_fail(err, UTTER_ERR_ARG, "%s: %s is NULL", call, argument);
}

const char *utter_last_error(const utter_engine *engine)
{
    return engine ? engine->err.msg : ut_api_err(NULL)->msg;
}

/* ---- Plans ---------------------------------------------------------------------------------- */

/* Compile a plan and let go of the checkpoint's pages that packing its weights has read, so that
 * they are never in memory all at once. What is kept of prompts gives way. */
static utter_status compile(utter_engine *e, const ut_plan *plan, int n_slots, int32_t max_t,
                            ut_exec **out, ut_err *err)
{
    const ut_backend_ops *ops = e->backend->ops;
    ut_err why = {0};
    utter_status st = ops->compile(e->backend, plan, n_slots, max_t, out, &why);
    if (st == UTTER_ERR_NOMEM && e->prefixes.n > 0) {
        ut_prefix_free(&e->prefixes);
        why = (ut_err){0};
        st = ops->compile(e->backend, plan, n_slots, max_t, out, &why);
    }
    e->model->ops->release_pages(e->model);
    return st == UTTER_OK ? st : ut_fail(err, st, "%s", why.msg);
}

utter_status ut_engine_fit_prefill(utter_engine *e, int32_t n_t, ut_err *err)
{
    if (n_t <= e->prefill_max_t)
        return UTTER_OK;
    int32_t max_t = FIRST_PREFILL;
    while (max_t < n_t)
        max_t *= 2;
    if (max_t > e->model->ar.max_prompt)
        max_t = e->model->ar.max_prompt;
    const ut_backend_ops *ops = e->backend->ops;
    ops->exec_free(e->prefill); /* the frame plan keeps the packed weights */
    e->prefill = NULL;
    e->prefill_max_t = 0;
    utter_status st = compile(e, e->model->ar.prefill, 1, max_t, &e->prefill, err);
    if (st == UTTER_OK)
        e->prefill_max_t = max_t;
    return st;
}

/* The frame plan for every power of two up to the slots, and for all of them: few sessions do not
 * pay for many slots. */
static utter_status compile_frames(utter_engine *e, ut_err *err)
{
    utter_status st = UTTER_OK;
    for (int slots = 1; st == UTTER_OK; slots *= 2) {
        const int k = e->n_frames, n = slots < e->n_slots ? slots : e->n_slots;
        st = compile(e, e->model->ar.frame, n, 1, &e->frames[k], err);
        e->frame_slots[k] = n;
        e->n_frames += st == UTTER_OK;
        if (n == e->n_slots)
            break;
    }
    return st;
}

/* The codec's plan for as many slots each. The more slots, the fewer frames at a time: the memory
 * in which a run works is bounded. The one of all slots comes first, and the others work there,
 * too: none has more frames in all. */
static utter_status compile_decoders(utter_engine *e, ut_err *err)
{
    const ut_codec *c = &e->model->codec;
    const int32_t longest = e->sound_frames;
    const int last = e->n_frames - 1;
    int32_t all = e->backend->all_sound_frames;
    utter_status st = UTTER_OK;
    for (int k = last; st == UTTER_OK && k >= 0; k--) {
        const int32_t slots = e->frame_slots[k], n = all / slots;
        e->decode_max_t[k] = n < 1 ? 1 : n < longest ? n : longest;
        if (k == last && slots * e->decode_max_t[k] < all)
            all = slots * e->decode_max_t[k];
        st = compile(e, c->decode, slots, e->decode_max_t[k], &e->decode[k], err);
    }
    return st;
}

/* Compile what every utterance needs, and make the first sessions, so that a lack of memory shows
 * now and the first utterance is as fast as the second. */
static utter_status compile_plans(utter_engine *e, ut_err *err)
{
    const ut_model *m = e->model;
    m->ops->release_pages(m);
    utter_status st = compile_frames(e, err);
    if (st == UTTER_OK)
        st = ut_engine_fit_prefill(e, e->backend->first_prompt > 0 ? e->backend->first_prompt : 1,
                                   err);
    if (st == UTTER_OK)
        st = compile_decoders(e, err);
    if (st != UTTER_OK)
        return st;
    e->tokens = ut_plan_find(m->ar.prefill, "tokens");
    e->codes = ut_plan_find(m->codec.decode, "codes");
    e->pcm = ut_plan_find(m->codec.decode, "pcm");
    if (e->tokens == UT_NONE || e->codes == UT_NONE || e->pcm == UT_NONE)
        return ut_fail(err, UTTER_ERR_INTERNAL, "family %s: a plan lacks tokens, codes or pcm",
                       m->info.family);
    return ut_batch_new(e, &e->batches, err);
}

utter_status ut_engine_new(ut_model *model, ut_backend *backend, const char *model_dir, int n_slots,
                           utter_engine **out, ut_err *err)
{
    *out = NULL;
    utter_engine *e = ut_calloc(1, sizeof *e);
    if (!e) {
        backend->ops->close(backend);
        ut_model_free(model);
        return ut_fail(err, UTTER_ERR_NOMEM, "%s: no memory for an engine", model_dir);
    }
    e->model = model;
    e->backend = backend;
    model->ar.states.urgent = true; /* the codec has time, but for its first run: session.c */
    e->n_slots = n_slots;
    e->clock = ut_time_now;
    e->sound_frames = model->codec.max_frames < backend->sound_frames ? model->codec.max_frames
                                                                      : backend->sound_frames;
    e->model_dir = ut_strdup(model_dir);
    utter_status st = e->model_dir ? compile_plans(e, err)
                                   : ut_fail(err, UTTER_ERR_NOMEM, "%s: no memory", model_dir);
    if (st == UTTER_OK) {
        ut_codec_fingerprint(&model->codec, e->codec_id);
        ut_speaker_fingerprint(&model->speaker, e->encoder_id);
        backend->ops->describe(backend, e->backend_text, sizeof e->backend_text);
        st = ut_voice_open_default(e, err);
    }
    if (st != UTTER_OK) {
        utter_engine_close(e);
        return st;
    }
    *out = e;
    return UTTER_OK;
}

/* ---- Public --------------------------------------------------------------------------------- */

static utter_status read_params(utter_engine_params *p, const utter_engine_params *given,
                                ut_err *err)
{
    utter_engine_params_init(p);
    if (given) {
        utter_status st =
            ut_struct_read(p, sizeof *p, given, PARAMS_OLDEST, "utter_engine_params", err);
        if (st != UTTER_OK)
            return st;
    }
    if (p->threads < 0 || p->threads > MAX_THREADS)
        return ut_fail(err, UTTER_ERR_ARG, "threads is %d, expected 0..%d", (int)p->threads,
                       MAX_THREADS);
    if (p->precision < UTTER_PRECISION_AUTO || p->precision > UTTER_PRECISION_INT4)
        return ut_fail(err, UTTER_ERR_ARG, "precision is %d, expected a value of utter_precision",
                       (int)p->precision);
    if (p->max_positions != 0 &&
        (p->max_positions < MIN_POSITIONS || p->max_positions > MAX_POSITIONS))
        return ut_fail(err, UTTER_ERR_ARG, "max_positions is %d, expected 0 or %d..%d",
                       (int)p->max_positions, MIN_POSITIONS, MAX_POSITIONS);
    if (p->device < 0 || p->device >= MAX_DEVICES)
        return ut_fail(err, UTTER_ERR_ARG, "device is %d, expected 0..%d", (int)p->device,
                       MAX_DEVICES - 1);
    if (p->attention < UTTER_ATTENTION_AUTO || p->attention > UTTER_ATTENTION_MATH)
        return ut_fail(err, UTTER_ERR_ARG, "attention is %d, expected a value of utter_attention",
                       (int)p->attention);
    if (p->slots < 0 || p->slots > UT_MAX_SLOTS)
        return ut_fail(err, UTTER_ERR_ARG, "slots is %d, expected 0..%d", (int)p->slots,
                       UT_MAX_SLOTS);
    if (p->prefix_cache_bytes < 0 || (uint64_t)p->prefix_cache_bytes > SIZE_MAX)
        return ut_fail(err, UTTER_ERR_ARG, "prefix_cache_bytes is %lld, expected 0..%zu",
                       (long long)p->prefix_cache_bytes, SIZE_MAX);
    if (p->exact_head != 0 && p->exact_head != 1)
        return ut_fail(err, UTTER_ERR_ARG, "exact_head is %d, expected 0 or 1", (int)p->exact_head);
    return UTTER_OK;
}

/* The backend that was asked for; with none, the first that opens: a device may be there and of no
 * use, because its driver is too old or others have its memory. */
static utter_status open_backend(const utter_engine_params *p, ut_backend_params *on,
                                 ut_backend **out, ut_err *err)
{
    const bool any = !p->backend || strcmp(p->backend, "auto") == 0;
    const ut_precision asked = on->precision;
    const ut_backend_ops *ops;
    utter_status st = ut_backend_find(&ops, p->backend, p->device, err);
    while (st == UTTER_OK) {
        ut_err why = {0};
        on->precision = asked == UT_PRECISION_AUTO ? ops->precision : asked;
        st = ops->open(out, on, err);
        if (!any || (st != UTTER_ERR_BACKEND && st != UTTER_ERR_NOMEM) ||
            ut_backend_find_after(&ops, ops, p->device, &why) != UTTER_OK)
            return st;
        ut_log(UT_LOG_WARN, "%s; trying the backend %s", err->msg, ops->name);
        st = UTTER_OK;
    }
    return st;
}

utter_status utter_engine_open(const char *model_dir, const utter_engine_params *params,
                               utter_engine **out)
{
    static const ut_precision precision[] = {
        [UTTER_PRECISION_AUTO] = UT_PRECISION_AUTO, [UTTER_PRECISION_F32] = UT_PRECISION_F32,
        [UTTER_PRECISION_BF16] = UT_PRECISION_BF16, [UTTER_PRECISION_F16] = UT_PRECISION_F16,
        [UTTER_PRECISION_INT8] = UT_PRECISION_INT8, [UTTER_PRECISION_INT4] = UT_PRECISION_INT4};
    static const ut_attention attention[] = {[UTTER_ATTENTION_AUTO] = UT_ATTENTION_AUTO,
                                             [UTTER_ATTENTION_FLASH] = UT_ATTENTION_FLASH,
                                             [UTTER_ATTENTION_MATH] = UT_ATTENTION_MATH};
    double start = ut_time_now();
    ut_err *err = ut_api_err(NULL);
    if (!out)
        return ut_fail_null(err, "utter_engine_open", "out");
    *out = NULL;
    if (!model_dir)
        return ut_fail_null(err, "utter_engine_open", "model_dir");
    utter_engine_params p;
    utter_status st = read_params(&p, params, err);
    if (st != UTTER_OK)
        return st;
    if (!ut_dir_exists(model_dir))
        return ut_fail(err, UTTER_ERR_NOT_FOUND, "%s: no such model directory", model_dir);
    ut_model *model;
    ut_model_options options = {.exact_head = p.exact_head != 0, .max_positions = p.max_positions};
    st = ut_model_open(&model, model_dir, &options, err);
    if (st != UTTER_OK)
        return st;
    ut_backend *backend;
    ut_backend_params on = {.threads = p.threads,
                            .precision = precision[p.precision],
                            .device = p.device,
                            .attention = attention[p.attention]};
    st = open_backend(&p, &on, &backend, err);
    if (st != UTTER_OK) {
        ut_model_free(model);
        return st;
    }
    st = ut_engine_new(model, backend, model_dir, p.slots ? p.slots : 1, out, err);
    if (st != UTTER_OK)
        return st;
    (*out)->prefixes.limit = (size_t)p.prefix_cache_bytes;
    (*out)->precision = on.precision;
    (*out)->load_ms = (ut_time_now() - start) * 1e3;
    return UTTER_OK;
}

void utter_engine_close(utter_engine *e)
{
    if (!e)
        return;
    const ut_backend_ops *ops = e->backend->ops;
    utter_voice_free(e->voice);
    while (e->batches) {
        ut_batch *b = e->batches;
        e->batches = b->next;
        ut_batch_free(b);
    }
    ut_prefix_free(&e->prefixes);
    ops->exec_free(e->prefill);
    for (int i = 0; i < UT_MAX_FRAME_PLANS; i++) {
        ops->exec_free(e->frames[i]);
        ops->exec_free(e->decode[i]);
    }
    ops->exec_free(e->encode);
    ops->close(e->backend);
    ut_model_free(e->model);
    ut_free(e->model_dir);
    ut_free(e);
}

/* Bytes of one slot's state. */
static int64_t state_bytes(const ut_state_set *set)
{
    int64_t bytes = 0;
    for (int i = 0; i < set->n; i++)
        bytes += (int64_t)ut_state_def_bytes(&set->def[i]);
    return bytes;
}

static int64_t exec_bytes(const utter_engine *e, const ut_exec *x)
{
    return x ? (int64_t)e->backend->ops->exec_bytes(x) : 0;
}

/* States of all slots, and what plans work in. */
static int64_t work_bytes(const utter_engine *e)
{
    int64_t bytes = e->n_slots * (state_bytes(&e->model->ar.states) +
                                  state_bytes(&e->model->codec.decode_states));
    for (int i = 0; i < e->n_frames; i++)
        bytes += exec_bytes(e, e->frames[i]) + exec_bytes(e, e->decode[i]);
    return bytes + exec_bytes(e, e->prefill) + exec_bytes(e, e->encode);
}

utter_status utter_engine_get_info(utter_engine *e, utter_engine_info *info)
{
    ut_err *err = ut_api_err(e);
    if (!e || !info)
        return ut_fail_null(err, "utter_engine_get_info", e ? "info" : "engine");
    const ut_model *m = e->model;
    size_t free_bytes = 0, total = 0;
    if (!e->backend->ops->memory(e->backend, &free_bytes, &total))
        free_bytes = total = 0;
    utter_engine_info i = {
        .sample_rate = m->info.sample_rate,
        .hop_samples = m->codec.hop_samples,
        .n_codebooks = m->codec.n_codebooks,
        .max_positions = m->ar.capacity,
        .max_prompt = m->ar.max_prompt,
        .max_chunk_chars = m->defaults.max_chunk_chars,
        .temperature = m->defaults.temperature,
        .top_p = m->defaults.top_p,
        .repetition_penalty = m->defaults.repetition_penalty,
        .n_params_lm = m->info.n_params_lm,
        .n_params_codec = m->info.n_params_codec,
        .bytes_per_frame = ut_plan_matrix_bytes(m->ar.frame, e->precision),
        .weight_bytes = (int64_t)e->backend->ops->weight_bytes(e->backend),
        .work_bytes = work_bytes(e),
        .load_ms = e->load_ms,
        .family = m->info.family,
        .model_dir = e->model_dir,
        .summary = m->info.summary,
        .backend = e->backend->ops->name,
        .backend_text = e->backend_text,
        .default_voice = e->voice ? e->voice->name : NULL,
        .codec_id = e->codec_id,
        .voices = m->voices & UT_VOICE_NONE      ? "made up by the model"
                  : m->voices & UT_VOICE_SPEAKER ? "one of the model's speakers"
                                                 : "one made from a recording",
        .device_free = (int64_t)free_bytes,
        .device_total = (int64_t)total,
        .slots = e->n_slots,
    };
    return ut_struct_write(info, INFO_OLDEST, &i, sizeof i, "utter_engine_info", err);
}
