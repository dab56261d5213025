/* bench_first_audio.c - how long the first samples of a text take, when what stands in front of the
 * text has to be read and when it was kept (prefix_cache_bytes of utter.h).
 *
 *     bench_first_audio MODEL_DIR [--backend NAME] [--precision P] [--threads N] [--voice NAME]
 *                       [--instruct TEXT] [--language NAME] [--reference FILE]
 *                       [--reference-text TEXT] [--text TEXT]
 *
 * The text (30 words by default) is spoken ROUNDS times each way in turns; figures are medians. */
#include "engine/engine.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 5 };

static const char thirty_words[] =
    "The ferry leaves at seven in the morning, and whoever wants a seat by the window should come "
    "a little earlier, since the boat is small and the view is famous today.";

typedef struct options {
    const char *dir, *backend, *voice, *instruct, *language, *reference, *reference_text;
    const char *threads, *precision, *text;
} options;

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v)
{
    qsort(v, ROUNDS, sizeof *v, by_value);
    return v[ROUNDS / 2];
}

/* None given is as stored; -1, which the library refuses, where there is no such name. */
static int32_t precision_of(const char *name)
{
    static const char *const names[] = {"auto", "f32", "bf16", "f16", "int8", "int4"};
    const int32_t n = (int32_t)(sizeof names / sizeof names[0]);
    int32_t i = 0;
    while (name && i < n && strcmp(name, names[i]) != 0)
        i++;
    return i < n ? i : -1;
}

static utter_status open_voice(utter_engine *e, const options *o, utter_voice **v)
{
    *v = NULL;
    if (o->voice)
        return utter_voice_find(e, o->voice, v);
    if (!o->reference)
        return UTTER_OK;
    utter_voice_params p;
    utter_voice_params_init(&p);
    p.path = o->reference;
    p.text = o->reference_text;
    return utter_voice_create(e, &p, v);
}

/* One frame of the text. */
static utter_status speak(utter_engine *e, const char *text, const utter_synth_params *p,
                          utter_stats *s)
{
    utter_audio *a;
    utter_status st = utter_synth(e, text, p, &a);
    if (st != UTTER_OK)
        return st;
    utter_stats_init(s);
    st = utter_audio_get_stats(a, s);
    utter_audio_free(a);
    return st;
}

static utter_status measure(utter_engine *e, const char *text, const utter_synth_params *p)
{
    double first[2][ROUNDS], prefill[2][ROUNDS];
    utter_stats s[2];
    utter_status st = speak(e, text, p, &s[0]); /* warm */
    for (int i = 0; i < ROUNDS && st == UTTER_OK; i++) {
        ut_prefix_free(&e->prefixes);
        for (int kept = 0; kept < 2 && st == UTTER_OK; kept++) {
            st = speak(e, text, p, &s[kept]);
            first[kept][i] = s[kept].ttfa_ms;
            prefill[kept][i] = s[kept].prefill_ms;
        }
    }
    if (st != UTTER_OK)
        return st;
    printf("prompt: %lld tokens, %lld of them kept in %.1f MB\n", (long long)s[1].prompt_tokens,
           (long long)s[1].prefix_hit_tokens, (double)s[1].prefix_bytes / 1e6);
    const double read = median(first[0]), had = median(first[1]);
    printf("first audio: %.1f ms when all is read, %.1f ms with what was kept (%.2f x)\n", read,
           had, read / had);
    printf("prefill and first frame: %.1f ms, %.1f ms\n", median(prefill[0]), median(prefill[1]));
    return UTTER_OK;
}

static bool parse(options *o, int argc, char **argv)
{
    const struct {
        const char *name;
        const char **value;
    } known[] = {{"--backend", &o->backend},
                 {"--threads", &o->threads},
                 {"--precision", &o->precision},
                 {"--voice", &o->voice},
                 {"--instruct", &o->instruct},
                 {"--language", &o->language},
                 {"--reference", &o->reference},
                 {"--reference-text", &o->reference_text},
                 {"--text", &o->text}};
    o->dir = argc > 1 ? argv[1] : NULL;
    for (int i = 2; i + 1 < argc; i += 2) {
        size_t k = 0;
        while (k < sizeof known / sizeof known[0] && strcmp(argv[i], known[k].name) != 0)
            k++;
        if (k == sizeof known / sizeof known[0])
            return false;
        *known[k].value = argv[i + 1];
    }
    return o->dir && argc % 2 == 0;
}

int main(int argc, char **argv)
{
    options o = {.text = thirty_words};
    if (!parse(&o, argc, argv)) {
        fprintf(stderr, "usage: bench_first_audio MODEL_DIR [--backend NAME] [--precision P]\n"
                        "       [--threads N] [--voice NAME] [--instruct TEXT] [--language NAME]\n"
                        "       [--reference FILE] [--reference-text TEXT] [--text TEXT]\n");
        return 2;
    }
    utter_engine *e;
    utter_voice *voice = NULL;
    utter_engine_params ep;
    utter_synth_params p;
    utter_engine_params_init(&ep);
    utter_synth_params_init(&p);
    ep.backend = o.backend;
    ep.precision = precision_of(o.precision);
    ep.threads = o.threads ? atoi(o.threads) : 0;
    if (utter_engine_open(o.dir, &ep, &e) != UTTER_OK) {
        fprintf(stderr, "bench_first_audio: %s\n", utter_last_error(NULL));
        return 1;
    }
    utter_status st = open_voice(e, &o, &voice);
    p.voice = voice;
    p.instruct = o.instruct;
    p.language = o.language;
    p.seed = 1;
    p.max_frames = 1;
    if (st == UTTER_OK)
        st = measure(e, o.text, &p);
    if (st != UTTER_OK)
        fprintf(stderr, "bench_first_audio: %s\n", utter_last_error(e));
    utter_voice_free(voice);
    utter_engine_close(e);
    return st == UTTER_OK ? 0 : 1;
}
