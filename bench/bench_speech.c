/* bench_speech.c - speech through the library's calls, on any backend: what a program that uses it
 * sees.
 *
 *     bench_speech MODEL_DIR [--backend NAME] [--device N] [--precision P] [--voice NAME]
 *                  [--language NAME] [--text TEXT] [--frames N] [--streams N] [--json FILE]
 *
 * Prints how long loading took, the time from a text to its first samples, and the time per frame
 * of N frames of speech, alone and, with --streams, of that many at once. The end of speech is
 * ignored; figures are medians of ROUNDS after one round of warming up. Without --voice the model's
 * default speaks, or it makes up a voice. */
#include "figures.h"
#include "utter.h"
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/os.h"

enum { ROUNDS = 5, PIECE = 8192, MAX_STREAMS = 32 };

typedef struct options {
    const char *dir, *text, *voice, *json;
    utter_engine_params engine;
    utter_synth_params synth;
    int streams;
} options;

typedef struct bench {
    options o;
    utter_engine *engine;
    utter_voice *voice;
    utter_engine_info info;
    int64_t prompt_tokens; /* of the last stream */
    figures figures;
} bench;

/* 30 words */
static const char default_text[] =
    "The old harbour lay quiet that morning, and only a single boat moved slowly across the grey "
    "water, while behind it the gulls were calling as if something important had happened.";

static utter_status open_streams(bench *x, utter_stream **s, int n)
{
    utter_status st = UTTER_OK;
    for (int i = 0; i < n && st == UTTER_OK; i++) {
        x->o.synth.seed = i + 1;
        st = utter_stream_open(x->engine, &x->o.synth, &s[i]);
        if (st == UTTER_OK)
            st = utter_stream_push(s[i], x->o.text, strlen(x->o.text));
        if (st == UTTER_OK)
            st = utter_stream_finish(s[i]);
    }
    return st;
}

/* All the sound of n streams, read in turns. Seconds until the first samples of the first stream,
 * until the last of all, and samples in all; with first_only nothing is read after the first. */
static utter_status speak(bench *x, int n, bool first_only, double *first, double *all,
                          size_t *samples)
{
    static float pcm[PIECE];
    utter_stream *s[MAX_STREAMS] = {0};
    bool over[MAX_STREAMS] = {0};
    const double start = ut_time_now();
    *first = *all = 0;
    *samples = 0;
    utter_status st = open_streams(x, s, n);
    for (int left = n; st == UTTER_OK && left > 0 && !(first_only && *samples);) {
        for (int i = 0; i < n && st == UTTER_OK; i++) {
            size_t got;
            utter_stream_state state;
            if (over[i])
                continue;
            st = utter_stream_read(s[i], pcm, PIECE, &got, &state);
            if (got && !*samples)
                *first = ut_time_now() - start;
            *samples += got;
            over[i] = st == UTTER_OK && state != UTTER_STREAM_AUDIO;
            left -= over[i];
        }
    }
    *all = ut_time_now() - start;
    if (st != UTTER_OK)
        fprintf(stderr, "bench_speech: %s\n", utter_last_error(x->engine));
    utter_stats stats;
    utter_stats_init(&stats);
    if (s[0] && utter_stream_get_stats(s[0], &stats) == UTTER_OK)
        x->prompt_tokens = stats.prompt_tokens;
    for (int i = 0; i < n; i++)
        utter_stream_close(s[i]);
    return st;
}

static utter_status report_first(bench *x)
{
    double s[ROUNDS + 1], all;
    size_t samples;
    utter_status st = UTTER_OK;
    for (int i = 0; i <= ROUNDS && st == UTTER_OK; i++)
        st = speak(x, 1, true, &s[i], &all, &samples);
    if (st != UTTER_OK)
        return st;
    const double ms = figures_median(s + 1, ROUNDS) * 1e3;
    printf("first samples after the text      %8.2f ms, prompt of %lld tokens\n", ms,
           (long long)x->prompt_tokens);
    figures_put(&x->figures, "speech_first_pcm_ms", 1, ms);
    figures_put(&x->figures, "speech_prompt_tokens", 1, (double)x->prompt_tokens);
    return UTTER_OK;
}

static utter_status report_speech(bench *x, int n)
{
    double s[ROUNDS + 1], first;
    size_t samples = 0;
    utter_status st = UTTER_OK;
    for (int i = 0; i <= ROUNDS && st == UTTER_OK; i++)
        st = speak(x, n, false, &first, &s[i], &samples);
    if (st != UTTER_OK)
        return st;
    const double seconds = figures_median(s + 1, ROUNDS);
    const double audio = (double)samples / x->info.sample_rate;
    const double frames = (double)samples / x->info.hop_samples / n;
    printf(
        "%2d stream%s  %7.2f s of audio each: RTF %.4f, %.3f ms per frame, %.1f s of audio per s\n",
        n, n == 1 ? " " : "s", audio / n, seconds / (audio / n), seconds * 1e3 / frames,
        audio / seconds);
    figures_put(&x->figures, "speech_ms_per_frame", n, seconds * 1e3 / frames);
    figures_put(&x->figures, "speech_audio_s_per_s", n, audio / seconds);
    return UTTER_OK;
}

static utter_status open_engine(bench *x, int slots)
{
    x->o.engine.slots = slots;
    utter_status st = utter_engine_open(x->o.dir, &x->o.engine, &x->engine);
    if (st != UTTER_OK) {
        fprintf(stderr, "bench_speech: %s\n", utter_last_error(NULL));
        return st;
    }
    utter_engine_info_init(&x->info);
    st = utter_engine_get_info(x->engine, &x->info);
    if (st == UTTER_OK && x->o.voice) {
        st = utter_voice_find(x->engine, x->o.voice, &x->voice);
        if (st != UTTER_OK)
            fprintf(stderr, "bench_speech: %s\n", utter_last_error(x->engine));
    }
    x->o.synth.voice = x->voice;
    x->o.synth.no_voice = !x->voice && !x->info.default_voice;
    return st;
}

static void close_engine(bench *x)
{
    utter_voice_free(x->voice);
    utter_engine_close(x->engine);
    x->voice = NULL;
    x->engine = NULL;
}

/* One stream at a time: loading, the first samples, speech. */
static utter_status run_one(bench *x)
{
    const double start = ut_time_now();
    double first, all;
    size_t samples;
    utter_status st = open_engine(x, 1);
    if (st == UTTER_OK)
        st = speak(x, 1, true, &first, &all, &samples);
    if (st != UTTER_OK)
        return st;
    printf("%s\n%s\n", x->info.backend_text, x->info.summary);
    printf("loaded in %.0f ms; to the first samples %.0f ms\n", x->info.load_ms,
           (ut_time_now() - start) * 1e3);
    figures_put(&x->figures, "speech_load_to_first_pcm_ms", 1, (ut_time_now() - start) * 1e3);
    st = report_first(x);
    return st == UTTER_OK ? report_speech(x, 1) : st;
}

static bool parse(options *o, int argc, char **argv)
{
    static const char *const precisions[] = {"auto", "f32", "bf16", "f16", "int8", "int4"};
    utter_engine_params_init(&o->engine);
    utter_synth_params_init(&o->synth);
    o->engine.max_positions = 2048;
    o->synth.ignore_eos = 1;
    o->synth.max_frames = 300;
    o->text = default_text;
    o->streams = 1;
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] != '-' && !o->dir) {
            o->dir = argv[i];
            continue;
        }
        const char *name = argv[i], *value = ++i < argc ? argv[i] : "";
        bool known = *value != 0;
        if (strcmp(name, "--backend") == 0)
            o->engine.backend = value;
        else if (strcmp(name, "--voice") == 0)
            o->voice = value;
        else if (strcmp(name, "--language") == 0)
            o->synth.language = value;
        else if (strcmp(name, "--text") == 0)
            o->text = value;
        else if (strcmp(name, "--json") == 0)
            o->json = value;
        else if (strcmp(name, "--device") == 0)
            o->engine.device = atoi(value);
        else if (strcmp(name, "--frames") == 0)
            known = (o->synth.max_frames = atoi(value)) > 0;
        else if (strcmp(name, "--streams") == 0)
            known = (o->streams = atoi(value)) > 0 && o->streams <= MAX_STREAMS;
        else if (strcmp(name, "--precision") == 0) {
            o->engine.precision = -1;
            for (int k = 0; k < (int)(sizeof precisions / sizeof precisions[0]); k++)
                if (strcmp(value, precisions[k]) == 0)
                    o->engine.precision = k;
            known = o->engine.precision >= 0;
        } else
            known = false;
        if (!known)
            return false;
    }
    return o->dir != NULL;
}

int main(int argc, char **argv)
{
    bench x = {0};
    if (!parse(&x.o, argc, argv)) {
        fprintf(stderr, "usage: bench_speech MODEL_DIR [--backend NAME] [--precision P] "
                        "[--voice NAME] [--language NAME] [--text TEXT] [--frames N] [--streams N] "
                        "[--json FILE]\n");
        return 2;
    }
    if (!figures_open(&x.figures, x.o.json, "utter", x.o.dir)) {
        fprintf(stderr, "bench_speech: cannot write %s\n", x.o.json);
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ); /* what was measured shows even if time runs out */
    utter_status st = run_one(&x);
    close_engine(&x);
    if (st == UTTER_OK && x.o.streams > 1) {
        st = open_engine(&x, x.o.streams);
        if (st == UTTER_OK)
            st = report_speech(&x, x.o.streams);
        close_engine(&x);
    }
    figures_close(&x.figures);
    return st == UTTER_OK ? 0 : 1;
}
