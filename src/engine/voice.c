/* voice.c - the voice object: made of a recording, looked at, and given back as sound. */
#include "engine/voice.h"
#include "audio/audio.h"
#include "base/alloc.h"
#include "engine/engine.h"
#include "engine/params.h"
#include "text/utf8.h"
#include <math.h>
#include <string.h>

#define MIN_SECONDS   0.5
#define MAX_SECONDS   120.0
#define MIN_PEAK      1e-3f /* -60 dBFS: a quieter recording is taken for silence */
#define PARAMS_OLDEST UT_SIZE_UPTO(utter_voice_params, language)
#define INFO_OLDEST   UT_SIZE_UPTO(utter_voice_info, error)

utter_status ut_voice_set(char **field, const char *value, ut_err *err)
{
    char *copy = ut_strdup(value ? value : "");
    if (!copy)
        return ut_fail(err, UTTER_ERR_NOMEM, "no memory for a voice");
    ut_free(*field);
    *field = copy;
    return UTTER_OK;
}

utter_status ut_voice_new(utter_voice **out, const char *name, const char *description,
                          const char *language, const char *text, ut_err *err)
{
    *out = NULL;
    utter_voice *v = ut_calloc(1, sizeof *v);
    if (!v)
        return ut_fail(err, UTTER_ERR_NOMEM, "no memory for a voice");
    const struct {
        char **field;
        const char *value;
    } set[] = {{&v->name, name},         {&v->description, description},
               {&v->language, language}, {&v->text, text},
               {&v->family, NULL},       {&v->codec_id, NULL},
               {&v->path, NULL},         {&v->encoder_id, NULL}};
    utter_status st = UTTER_OK;
    for (size_t i = 0; i < sizeof set / sizeof set[0] && st == UTTER_OK; i++)
        st = ut_voice_set(set[i].field, set[i].value, err);
    if (st != UTTER_OK) {
        utter_voice_free(v);
        return st;
    }
    *out = v;
    return UTTER_OK;
}

void utter_voice_free(utter_voice *v)
{
    if (!v)
        return;
    char *owned[] = {v->name,   v->description, v->language, v->text,
                     v->family, v->codec_id,    v->path,     v->encoder_id};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++)
        ut_free(owned[i]);
    ut_free(v->codes);
    ut_free(v->embedding);
    ut_free(v);
}

bool ut_voice_name_ok(const char *name)
{
    size_t n = strlen(name);
    if (n < 1 || n > UT_VOICE_NAME_MAX)
        return false;
    return strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") == n;
}

utter_status ut_voice_check_name(const char *name, ut_err *err)
{
    if (ut_voice_name_ok(name))
        return UTTER_OK;
    return ut_fail(err, UTTER_ERR_ARG,
                   "voice name \"%.80s\": expected 1 to %d of the characters A-Z a-z 0-9 _ -", name,
                   UT_VOICE_NAME_MAX);
}

/* What messages call a voice. */
static const char *label(const utter_voice *v)
{
    return v->name[0] ? v->name : v->path[0] ? v->path : "without a name";
}

utter_status ut_voice_check(const utter_engine *e, const utter_voice *v, ut_err *err)
{
    const ut_codec *c = &e->model->codec;
    const unsigned voices = e->model->voices;
    if (v->is_speaker)
        return voices & UT_VOICE_SPEAKER
                   ? UTTER_OK
                   : ut_fail(err, UTTER_ERR_MODEL, "\"%s\" is a speaker of another model",
                             label(v));
    if (!(voices & (UT_VOICE_REFERENCE | UT_VOICE_EMBEDDING)))
        return ut_fail(err, UTTER_ERR_MODEL,
                       "voice \"%s\" is a recording, which this model cannot imitate: it %s",
                       label(v),
                       voices & UT_VOICE_SPEAKER ? "has speakers of its own"
                                                 : "makes its voice up from an instruction");
    if (voices & UT_VOICE_EMBEDDING && strcmp(v->encoder_id, e->encoder_id) != 0)
        return ut_fail(err, UTTER_ERR_MODEL,
                       "voice \"%s\" has no vector of this model's speaker encoder; add it again "
                       "from its recording",
                       label(v));
    if (v->codec_id[0] && strcmp(v->codec_id, e->codec_id) != 0)
        return ut_fail(err, UTTER_ERR_MODEL,
                       "voice \"%s\" was made with another codec (%s %.8s, this model has %s %.8s);"
                       " add it again from its recording",
                       label(v), v->family, v->codec_id, e->model->info.family, e->codec_id);
    if (v->n_codebooks != c->n_codebooks)
        return ut_fail(err, UTTER_ERR_MODEL, "voice \"%s\" has %d codebooks, this model has %d",
                       label(v), (int)v->n_codebooks, (int)c->n_codebooks);
    for (int32_t t = 0; t < v->n_frames; t++)
        for (int32_t q = 0; q < c->n_codebooks; q++) {
            int32_t code = v->codes[(size_t)t * (size_t)c->n_codebooks + (size_t)q];
            if (code < 0 || code >= c->codebook_sizes[q])
                return ut_fail(err, UTTER_ERR_MODEL,
                               "voice \"%s\": code %d of codebook %d is %d, expected 0..%d",
                               label(v), (int)t, (int)q, (int)code, (int)c->codebook_sizes[q] - 1);
        }
    return UTTER_OK;
}

/* ---- Creating ------------------------------------------------------------------------------- */

static utter_status read_params(const utter_engine *e, utter_voice_params *p,
                                const utter_voice_params *given, ut_err *err)
{
    const bool needs_text = !(e->model->voices & UT_VOICE_EMBEDDING);
    utter_voice_params_init(p);
    utter_status st = ut_struct_read(p, sizeof *p, given, PARAMS_OLDEST, "utter_voice_params", err);
    if (st != UTTER_OK)
        return st;
    if (!(e->model->voices & (UT_VOICE_REFERENCE | UT_VOICE_EMBEDDING)))
        return ut_fail(err, UTTER_ERR_UNSUPPORTED, "this model cannot imitate a recording: it %s",
                       e->model->voices & UT_VOICE_SPEAKER
                           ? "has speakers of its own"
                           : "makes its voice up from an instruction");
    if (!p->text)
        p->text = "";
    if (needs_text && !p->text[0])
        return ut_fail(err, UTTER_ERR_ARG, "text is missing: what is said in the recording?");
    if (!p->path == !p->samples)
        return ut_fail(err, UTTER_ERR_ARG, "expected either path or samples of a recording");
    if (p->use_cache != 0 && p->use_cache != 1)
        return ut_fail(err, UTTER_ERR_ARG, "use_cache is %d, expected 0 or 1", (int)p->use_cache);
    if (p->name && (st = ut_voice_check_name(p->name, err)) != UTTER_OK)
        return st;
    const char *texts[] = {p->text, p->description ? p->description : "",
                           p->language ? p->language : ""};
    for (size_t i = 0; i < 3 && st == UTTER_OK; i++)
        st = ut_utf8_check(texts[i], strlen(texts[i]), err);
    if (st != UTTER_OK || p->path)
        return st;
    if (p->sample_rate < UT_AUDIO_MIN_RATE || p->sample_rate > UT_AUDIO_MAX_RATE)
        return ut_fail(err, UTTER_ERR_ARG, "sample_rate is %d, expected %d..%d",
                       (int)p->sample_rate, UT_AUDIO_MIN_RATE, UT_AUDIO_MAX_RATE);
    if (p->n_channels < 1 || p->n_channels > UT_AUDIO_MAX_CHANNELS)
        return ut_fail(err, UTTER_ERR_ARG, "n_channels is %d, expected 1..%d", (int)p->n_channels,
                       UT_AUDIO_MAX_CHANNELS);
    return UTTER_OK;
}

/* The recording, whether given or in a file. *owned is what to free. */
static utter_status get_audio(const utter_voice_params *p, ut_audio *a, ut_audio *owned,
                              ut_err *err)
{
    memset(owned, 0, sizeof *owned);
    if (p->path) {
        utter_status st = ut_audio_read(owned, p->path, MAX_SECONDS, err);
        if (st != UTTER_OK)
            return st;
        *a = *owned;
    } else {
        *a = (ut_audio){.samples = (float *)(uintptr_t)p->samples, /* only read */
                        .n_frames = p->n_samples,
                        .n_channels = p->n_channels,
                        .sample_rate = p->sample_rate};
    }
    double seconds = (double)a->n_frames / a->sample_rate;
    const char *name = p->path ? p->path : "samples";
    if (seconds < MIN_SECONDS)
        return ut_fail(err, UTTER_ERR_AUDIO, "%s: %.2f s long, expected at least %.1f s of speech",
                       name, seconds, MIN_SECONDS);
    if (seconds > MAX_SECONDS)
        return ut_fail(err, UTTER_ERR_LIMIT, "%s: %.1f s long, expected at most %.0f s", name,
                       seconds, MAX_SECONDS);
    float peak = 0.0f;
    for (size_t i = 0; i < a->n_frames * (size_t)a->n_channels; i++) {
        if (!isfinite(a->samples[i]))
            return ut_fail(err, UTTER_ERR_AUDIO, "%s: sample %zu is not a finite number", name, i);
        peak = fmaxf(peak, fabsf(a->samples[i]));
    }
    if (peak < MIN_PEAK)
        return ut_fail(err, UTTER_ERR_AUDIO, "%s: the recording is silent", name);
    return UTTER_OK;
}

/* Does the voice leave room for a text? */
static utter_status check_fits(utter_engine *e, const utter_voice *v, ut_err *err)
{
    ut_prompt prompt;
    ut_prompt_init(&prompt);
    ut_reference ref = {
        .text = v->text, .codes = v->codes, .n_frames = v->n_frames, .embedding = v->embedding};
    const ut_request request = {.text = "a", .refs = &ref, .n_refs = 1};
    utter_status st = e->model->ops->prompt(e->model, &request, &prompt, err);
    ut_prompt_free(&prompt);
    return st == UTTER_OK ? st : ut_fail_in(err, "recording of %d frames", (int)v->n_frames);
}

static utter_status encode(utter_engine *e, const ut_audio *a, utter_voice *v, ut_err *err)
{
    ut_audio mono = {0};
    utter_status st = ut_audio_to_mono(a, e->model->info.sample_rate, &mono, err);
    if (st == UTTER_OK)
        st = ut_codec_encode(e, mono.samples, mono.n_frames, &v->codes, &v->n_frames, err);
    if (st == UTTER_OK)
        st = ut_speaker_encode(e, mono.samples, mono.n_frames, &v->embedding, err);
    v->n_embedding = v->embedding ? e->model->speaker.dim : 0;
    v->n_codebooks = e->model->codec.n_codebooks;
    ut_audio_free(&mono);
    return st;
}

utter_status utter_voice_create(utter_engine *e, const utter_voice_params *params,
                                utter_voice **out)
{
    ut_err *err = ut_api_err(e);
    if (out)
        *out = NULL;
    if (!e || !params || !out)
        return ut_fail_null(err, "utter_voice_create", !e ? "engine" : !out ? "out" : "params");
    utter_voice_params p;
    ut_audio audio, owned = {0};
    utter_voice *v = NULL;
    utter_status st = read_params(e, &p, params, err);
    if (st == UTTER_OK)
        st = get_audio(&p, &audio, &owned, err);
    if (st == UTTER_OK)
        st = ut_voice_new(&v, p.name, p.description, p.language, p.text, err);
    if (st == UTTER_OK)
        st = ut_voice_set(&v->family, e->model->info.family, err);
    if (st == UTTER_OK)
        st = ut_voice_set(&v->codec_id, e->codec_id, err);
    if (st == UTTER_OK)
        st = ut_voice_set(&v->encoder_id, e->encoder_id, err);
    if (st != UTTER_OK)
        goto done;
    ut_voice_key key = {{0}};
    if (p.use_cache)
        key = ut_voice_cache_key(e, audio.samples, audio.n_frames, audio.n_channels,
                                 audio.sample_rate);
    if (!p.use_cache || !ut_voice_cache_get(e, &key, v)) {
        st = encode(e, &audio, v, err);
        if (st == UTTER_OK && p.use_cache)
            ut_voice_cache_put(&key, v);
    }
    if (st == UTTER_OK)
        st = check_fits(e, v, err);
    if (st == UTTER_OK) {
        *out = v;
        v = NULL; /* handed over */
    }
done:
    utter_voice_free(v);
    ut_audio_free(&owned);
    return st;
}

/* ---- Looking and listening ------------------------------------------------------------------ */

utter_status utter_voice_get_info(const utter_voice *v, utter_voice_info *info)
{
    ut_err *err = ut_api_err(NULL);
    if (!v || !info)
        return ut_fail_null(err, "utter_voice_get_info", v ? "info" : "voice");
    utter_voice_info i = {.n_codebooks = v->n_codebooks,
                          .n_frames = v->n_frames,
                          .name = v->name,
                          .description = v->description,
                          .language = v->language,
                          .text = v->text,
                          .family = v->family,
                          .codec_id = v->codec_id,
                          .path = v->path,
                          .error = "",
                          .is_speaker = v->is_speaker,
                          .n_embedding = v->n_embedding};
    return ut_struct_write(info, INFO_OLDEST, &i, sizeof i, "utter_voice_info", err);
}

utter_status utter_voice_preview(utter_engine *e, const utter_voice *v, utter_audio **out)
{
    ut_err *err = ut_api_err(e);
    if (out)
        *out = NULL;
    if (!e || !v || !out)
        return ut_fail_null(err, "utter_voice_preview", !e ? "engine" : !out ? "out" : "voice");
    utter_status st = ut_voice_check(e, v, err);
    if (st == UTTER_OK && v->n_frames == 0)
        st = ut_fail(err, UTTER_ERR_UNSUPPORTED, "voice \"%s\" has no recording to listen to",
                     label(v));
    if (st != UTTER_OK)
        return st;
    size_t n = (size_t)v->n_frames * (size_t)e->model->codec.hop_samples;
    utter_audio *a = ut_calloc(1, sizeof *a);
    if (a)
        a->samples = ut_calloc(n, sizeof *a->samples);
    if (!a || !a->samples) {
        st = ut_fail(err, UTTER_ERR_NOMEM, "no memory for %zu samples", n);
        goto done;
    }
    a->n_samples = n;
    a->stats.sample_rate = e->model->info.sample_rate;
    a->stats.frames = v->n_frames;
    a->stats.audio_s = (double)n / e->model->info.sample_rate;
    st = ut_codec_decode(e, v->codes, v->n_frames, a->samples, err);
    if (st == UTTER_OK) {
        *out = a;
        a = NULL; /* handed over */
    }
done:
    utter_audio_free(a);
    return st;
}
