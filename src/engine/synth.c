/* synth.c - the whole utterance at once, and finished sound. */
#include "audio/audio.h"
#include "base/alloc.h"
#include "engine/engine.h"
#include "engine/params.h"
#include <string.h>

#define STATS_OLDEST UT_SIZE_UPTO(utter_stats, peak_rss_mb)
#define FIRST_ROOM   ((size_t)1 << 18) /* samples */

/* Read the stream to its end into a, which grows by doubling. */
static utter_status read_all(utter_stream *s, utter_audio *a, ut_err *err)
{
    size_t room = 0;
    for (;;) {
        if (a->n_samples == room) {
            size_t grown;
            float *more = NULL;
            if (ut_size_mul(room ? room : FIRST_ROOM / 2, 2, &grown))
                more = ut_realloc(a->samples, grown, sizeof *more);
            if (!more)
                return ut_fail(err, UTTER_ERR_NOMEM,
                               "no memory for more than %zu samples; use a stream", room);
            a->samples = more;
            room = grown;
        }
        size_t n;
        utter_stream_state state;
        utter_status st =
            utter_stream_read(s, a->samples + a->n_samples, room - a->n_samples, &n, &state);
        if (st != UTTER_OK || state != UTTER_STREAM_AUDIO)
            return st;
        a->n_samples += n;
    }
}

utter_status utter_synth(utter_engine *e, const char *text, const utter_synth_params *params,
                         utter_audio **out)
{
    ut_err *err = ut_api_err(e);
    if (out)
        *out = NULL;
    if (!e || !text || !out)
        return ut_fail_null(err, "utter_synth", !e ? "engine" : !out ? "out" : "text");
    utter_stream *s;
    utter_status st = utter_stream_open(e, params, &s);
    if (st != UTTER_OK)
        return st;
    utter_audio *a = ut_calloc(1, sizeof *a);
    if (!a) {
        st = ut_fail(err, UTTER_ERR_NOMEM, "no memory for audio");
        goto done;
    }
    st = utter_stream_push(s, text, strlen(text));
    if (st == UTTER_OK)
        st = utter_stream_finish(s);
    if (st == UTTER_OK)
        st = read_all(s, a, err);
    if (st != UTTER_OK)
        goto done;
    utter_stats_init(&a->stats);
    st = utter_stream_get_stats(s, &a->stats);
    if (st == UTTER_OK && a->stats.chunks == 0)
        st = ut_fail(err, UTTER_ERR_TEXT,
                     "the text has nothing to speak: expected a letter or a number");
    if (st == UTTER_OK) {
        *out = a;
        a = NULL; /* handed over */
    }
done:
    utter_audio_free(a);
    utter_stream_close(s);
    return st;
}

const float *utter_audio_samples(const utter_audio *audio)
{
    return audio ? audio->samples : NULL;
}

size_t utter_audio_n_samples(const utter_audio *audio)
{
    return audio ? audio->n_samples : 0;
}

int32_t utter_audio_sample_rate(const utter_audio *audio)
{
    return audio ? audio->stats.sample_rate : 0;
}

utter_status utter_audio_get_stats(const utter_audio *audio, utter_stats *stats)
{
    ut_err *err = ut_api_err(NULL);
    if (!audio || !stats)
        return ut_fail_null(err, "utter_audio_get_stats", audio ? "stats" : "audio");
    return ut_struct_write(stats, STATS_OLDEST, &audio->stats, sizeof audio->stats, "utter_stats",
                           err);
}

utter_status utter_audio_write(const utter_audio *audio, const char *path)
{
    ut_err *err = ut_api_err(NULL);
    if (!audio || !path)
        return ut_fail_null(err, "utter_audio_write", audio ? "path" : "audio");
    ut_audio_writer *w;
    utter_status st =
        ut_audio_writer_open(&w, path, UT_AUDIO_BY_EXTENSION, audio->stats.sample_rate, err);
    if (st != UTTER_OK)
        return st;
    st = ut_audio_writer_write(w, audio->samples, audio->n_samples, err);
    utter_status closed = ut_audio_writer_close(w, err);
    return st == UTTER_OK ? closed : st;
}

void utter_audio_free(utter_audio *audio)
{
    if (!audio)
        return;
    ut_free(audio->samples);
    ut_free(audio);
}
