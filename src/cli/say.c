/* say.c - `utter say`: text to a sound file, a pipe or the loudspeaker. Text is read and sound is
 * written in pieces, so that a book needs no more memory than a sentence. */
#include "audio/audio.h"
#include "base/alloc.h"
#include "base/os.h"
#include "cli/cli.h"
#include "cli/player.h"
#include "cli/report.h"
#include "cli/text_source.h"
#include <stdatomic.h>
#include <string.h>

#define DEFAULT_OUTPUT    "say.wav"
#define DEFAULT_PREFIX_MB 256
#define TEXT_PIECE        4096 /* bytes */
#define SOUND_PIECE       8192 /* samples */

typedef struct say {
    const ut_command *command;
    ut_engine_options engine_options;
    utter_synth_params params;
    const char *file, *output, *format, *voice_name, *reference, *reference_text;
    bool play, json, quiet, verbose, ignore_eos, no_voice, along;

    ut_text_source text;
    utter_engine *engine;
    utter_voice *voice;
    utter_stream *stream;
    ut_audio_format audio_format;
    ut_audio_writer *writer; /* opened when the first samples are there */
    ut_player *player;
    ut_progress progress;
    atomic_bool interrupted;
} say;

/* ---- Options -------------------------------------------------------------------------------- */

static const char details[] =
    "Without -o and --play the sound goes to " DEFAULT_OUTPUT ". TEXT is read from standard input\n"
    "when it is - or missing and a pipe is there. The summary, on standard error, has the time\n"
    "taken, the real-time factor RTF (time taken / duration; below 1 is faster than real time)\n"
    "and the seed, which --seed takes to make the same samples again.\n"
    "Exit codes: 0 all is well, 1 failure, 2 wrong usage, 130 interrupted (the file is valid and\n"
    "has what was spoken until then).\n";

static int parse(say *s, int argc, char **argv, int *n_rest)
{
    const ut_option options[] = {
        {'f', "file", "FILE", "speak the text of this file", UT_OPTION_STRING, &s->file, 0, 0},
        {'o', "output", "FILE", "write .wav, .flac, .ogg or .mp3, or - for a pipe",
         UT_OPTION_STRING, &s->output, 0, 0},
        {0, "format", "TYPE", "wav, flac, ogg, mp3 or raw (16-bit samples) whatever the name",
         UT_OPTION_STRING, &s->format, 0, 0},
        {'p', "play", NULL, "play it", UT_OPTION_FLAG, &s->play, 0, 0},
        {'v', "voice", "NAME", "a stored voice, see `utter voices`", UT_OPTION_STRING,
         &s->voice_name, 0, 0},
        {0, "no-voice", NULL, "let the model make up a voice", UT_OPTION_FLAG, &s->no_voice, 0, 0},
        {'r', "reference", "FILE", "speak like this recording", UT_OPTION_STRING, &s->reference, 0,
         0},
        {0, "reference-text", "TEXT", "what the recording says", UT_OPTION_STRING,
         &s->reference_text, 0, 0},
        {0, "instruct", "TEXT", "how to speak, or what voice to make up, for models that take it",
         UT_OPTION_STRING, &s->params.instruct, 0, 0},
        {'l', "language", "NAME", "auto (default) or one that `utter voices` lists for the model",
         UT_OPTION_STRING, &s->params.language, 0, 0},
        {'t', "temperature", "X", "0 is greedy; 0..2 (default: model's)", UT_OPTION_FLOAT,
         &s->params.temperature, 0, 2},
        {0, "top-p", "X", "nucleus of the distribution; 0.01..1 (default: model's)",
         UT_OPTION_FLOAT, &s->params.top_p, 0.01, 1},
        {0, "top-k", "N", "choose from N codes, 0 is all (default: model's)", UT_OPTION_INT,
         &s->params.top_k, 0, 1 << 24},
        {0, "repetition-penalty", "X", "0.5..2, 1 is none (default: model's)", UT_OPTION_FLOAT,
         &s->params.repetition_penalty, 0.5, 2},
        {'s', "seed", "N", "same seed, same samples (default: a new one)", UT_OPTION_INT64,
         &s->params.seed, 0, 9.2e18},
        {0, "max-frames", "N", "end after N frames of audio", UT_OPTION_INT, &s->params.max_frames,
         1, INT32_MAX},
        {0, "along", NULL,
         "begin with the first words of text that arrives slowly, if the model can", UT_OPTION_FLAG,
         &s->along, 0, 0},
        {0, "ignore-eos", NULL, "go on until --max-frames, for measurements", UT_OPTION_FLAG,
         &s->ignore_eos, 0, 0},
        UT_ENGINE_OPTIONS(&s->engine_options),
        {0, "prefix-cache", "MB", "keep this much of voices already read, 0 is none (default: 256)",
         UT_OPTION_INT, &s->engine_options.prefix_cache_mb, 0, 1 << 20},
        {'j', "json", NULL, "statistics as JSON on standard output", UT_OPTION_FLAG, &s->json, 0,
         0},
        {'q', "quiet", NULL, "no progress, warnings and summary", UT_OPTION_FLAG, &s->quiet, 0, 0},
        {0, "verbose", NULL, "tell more", UT_OPTION_FLAG, &s->verbose, 0, 0},
    };
    return ut_options_parse(s->command, options, sizeof options / sizeof options[0], argc, argv,
                            n_rest);
}

/* Options that exclude or need one another. -1, or the exit code. */
static int check(say *s)
{
    static const struct {
        const char *name;
        ut_audio_format format;
    } formats[] = {{"wav", UT_AUDIO_WAV},
                   {"flac", UT_AUDIO_FLAC},
                   {"ogg", UT_AUDIO_OGG},
                   {"mp3", UT_AUDIO_MP3},
                   {"raw", UT_AUDIO_RAW_S16}};
    s->params.ignore_eos = s->ignore_eos;
    s->params.no_voice = s->no_voice;
    s->params.text_feed = s->along ? 2 : 0;
    if ((s->voice_name != NULL) + (s->reference != NULL) + s->no_voice > 1)
        return ut_cli_usage(s->command, "--voice, --reference and --no-voice exclude one another");
    if (s->reference_text && !s->reference)
        return ut_cli_usage(s->command, "--reference-text needs --reference");
    if (!s->output && !s->play)
        s->output = DEFAULT_OUTPUT;
    s->audio_format = UT_AUDIO_BY_EXTENSION;
    bool known = !s->format;
    for (size_t i = 0; i < sizeof formats / sizeof formats[0] && !known; i++)
        if (strcmp(s->format, formats[i].name) == 0) {
            s->audio_format = formats[i].format;
            known = true;
        }
    if (!known)
        return ut_cli_usage(s->command, "--format %s: expected wav, flac, ogg, mp3 or raw",
                            s->format);
    if (s->format && !s->output)
        return ut_cli_usage(s->command, "--format needs -o");
    return -1;
}

/* ---- Preparing ------------------------------------------------------------------------------ */

static void on_log(void *user, int level, const char *message)
{
    say *s = user;
    if (s->quiet || level > (s->verbose ? 3 : 1))
        return;
    ut_progress_clear(&s->progress);
    fprintf(stderr, "utter: %s%s\n", level <= 1 ? "warning: " : "", message);
}

/* --voice or --reference. */
static utter_status get_voice(say *s)
{
    if (s->voice_name)
        return utter_voice_find(s->engine, s->voice_name, &s->voice);
    if (!s->reference)
        return UTTER_OK;
    utter_voice_params p;
    utter_voice_params_init(&p);
    p.path = s->reference;
    p.text = s->reference_text;
    p.use_cache = 1;
    return utter_voice_create(s->engine, &p, &s->voice);
}

/* What is wrong with the outputs is better known before the model is loaded. The model's rate is
 * not known yet: 44.1 kHz is one that every format takes. */
static utter_status check_outputs(const say *s, ut_err *err)
{
    utter_status st = s->play ? ut_player_check(err) : UTTER_OK;
    if (!s->output || st != UTTER_OK)
        return st;
    st = ut_audio_writer_check(s->output, s->audio_format, 44100, err);
    size_t n = strlen(s->output);
    while (n > 0 && s->output[n - 1] != '/' && s->output[n - 1] != '\\')
        n--;
    char *folder = n > 1 ? ut_strndup(s->output, n - 1) : NULL;
    if (st == UTTER_OK && folder && !ut_dir_exists(folder))
        st = ut_fail(err, UTTER_ERR_NOT_FOUND, "%s: there is no folder %s", s->output, folder);
    ut_free(folder);
    return st;
}

static int prepare(say *s, int argc, char **argv)
{
    ut_err err = {0};
    utter_status st = ut_text_source_open(&s->text, s->file, argc, argv, &err);
    if (st == UTTER_ERR_ARG)
        return ut_cli_usage(s->command, "%s", err.msg);
    if (st == UTTER_OK)
        st = check_outputs(s, &err);
    if (st != UTTER_OK)
        return ut_cli_fail("%s", err.msg);
    int code = ut_cli_open_engine(s->command, &s->engine_options, &s->engine);
    if (code != UT_EXIT_OK)
        return code;
    st = get_voice(s);
    if (st == UTTER_ERR_ARG && s->reference && !s->reference_text)
        return ut_cli_usage(s->command, "--reference needs --reference-text: what does it say?");
    if (st != UTTER_OK)
        return ut_cli_fail("%s", utter_last_error(s->engine));
    s->params.voice = s->voice;
    if (utter_stream_open(s->engine, &s->params, &s->stream) != UTTER_OK)
        return ut_cli_fail("%s", utter_last_error(s->engine));
    return UT_EXIT_OK;
}

/* ---- Speaking ------------------------------------------------------------------------------- */

static utter_status open_outputs(say *s, ut_err *err)
{
    utter_engine_info info;
    utter_engine_info_init(&info);
    utter_engine_get_info(s->engine, &info);
    utter_status st = UTTER_OK;
    if (s->output)
        st = ut_audio_writer_open(&s->writer, s->output, s->audio_format, info.sample_rate, err);
    if (st == UTTER_OK && s->play)
        st = ut_player_open(&s->player, info.sample_rate, err);
    return st;
}

static utter_status write_sound(say *s, const float *pcm, size_t n, ut_err *err)
{
    utter_status st = UTTER_OK;
    if (!s->writer && !s->player)
        st = open_outputs(s, err);
    if (st == UTTER_OK && s->writer)
        st = ut_audio_writer_write(s->writer, pcm, n, err);
    if (st == UTTER_OK && s->player)
        st = ut_player_write(s->player, pcm, n, err);
    return st;
}

/* Give the stream the next piece of text, or tell it that there is none. */
static utter_status feed(say *s, ut_err *err)
{
    char piece[TEXT_PIECE];
    size_t n;
    utter_status st = ut_text_source_read(&s->text, piece, sizeof piece, &n, err);
    if (st != UTTER_OK)
        return st;
    st = n > 0 ? utter_stream_push(s->stream, piece, n) : utter_stream_finish(s->stream);
    if (st == UTTER_OK)
        return st;
    return ut_fail(err, st, "%s: %s%s", s->text.name, utter_last_error(s->engine),
                   st == UTTER_ERR_TEXT ? "; save it as UTF-8 first" : "");
}

static long long text_left(const say *s)
{
    utter_stats x;
    utter_stats_init(&x);
    utter_stream_get_stats(s->stream, &x);
    return s->text.size < 0 ? -1 : (long long)(s->text.size - s->text.read + x.text_pending);
}

static utter_status speak(say *s, ut_err *err)
{
    float pcm[SOUND_PIECE];
    for (;;) {
        size_t n;
        utter_stream_state state;
        utter_status st = utter_stream_read(s->stream, pcm, SOUND_PIECE, &n, &state);
        if (st != UTTER_OK)
            return ut_fail(err, st, "%s", utter_last_error(s->engine));
        if (state == UTTER_STREAM_END)
            return UTTER_OK;
        st = state == UTTER_STREAM_AUDIO ? write_sound(s, pcm, n, err) : feed(s, err);
        if (st != UTTER_OK)
            return st;
        ut_progress_update(&s->progress, s->stream, text_left(s));
    }
}

/* ---- The end -------------------------------------------------------------------------------- */

static void stop(void *user)
{
    say *s = user;
    atomic_store(&s->interrupted, true);
    utter_stream_cancel(s->stream);
}

static int report(const say *s, bool interrupted)
{
    utter_stats stats;
    utter_engine_info info;
    utter_voice_info voice;
    utter_stats_init(&stats);
    utter_engine_info_init(&info);
    utter_voice_info_init(&voice);
    utter_stream_get_stats(s->stream, &stats);
    utter_engine_get_info(s->engine, &info);
    const char *name = s->no_voice ? NULL : info.default_voice;
    if (s->voice && utter_voice_get_info(s->voice, &voice) == UTTER_OK)
        name = s->reference ? s->reference : voice.name;
    bool piped = s->output && strcmp(s->output, "-") == 0;
    if (!s->quiet && !(s->json && piped))
        ut_report_line(stderr, &stats, s->output);
    if (s->json &&
        !ut_report_json(piped ? stderr : stdout, &stats, &info, name, s->output, interrupted))
        return ut_cli_fail("the statistics cannot be written");
    return UT_EXIT_OK;
}

static int finish(say *s, utter_status st, ut_err *err)
{
    bool interrupted = atomic_load(&s->interrupted);
    bool spoke = s->writer || s->player;
    ut_progress_clear(&s->progress);
    if (st == UTTER_OK && !spoke && !interrupted)
        st = ut_fail(err, UTTER_ERR_TEXT, "%s has nothing to speak: expected a letter or a number",
                     s->text.name);
    /* What was spoken is kept, whatever came after it. */
    utter_status closed = ut_audio_writer_close(s->writer, err);
    s->writer = NULL;
    if (closed == UTTER_OK)
        closed = ut_player_close(s->player, st != UTTER_OK, err);
    else
        ut_player_close(s->player, true, NULL);
    s->player = NULL;
    if (st == UTTER_OK)
        st = closed;
    int code = UT_EXIT_OK;
    if (st != UTTER_OK && !interrupted)
        code = ut_cli_fail("%s", err->msg);
    if (spoke && report(s, interrupted) != UT_EXIT_OK)
        code = UT_EXIT_FAILURE;
    return interrupted ? UT_EXIT_INTERRUPTED : code;
}

static int run(const ut_command *self, int argc, char **argv)
{
    say s = {.command = self, .engine_options.prefix_cache_mb = DEFAULT_PREFIX_MB};
    int n_rest;
    atomic_init(&s.interrupted, false);
    utter_synth_params_init(&s.params);
    int code = parse(&s, argc, argv, &n_rest);
    if (code < 0)
        code = check(&s);
    if (code >= 0)
        return code;
    utter_log_set(on_log, &s);
    code = prepare(&s, n_rest, argv);
    if (code == UT_EXIT_OK) {
        ut_err err = {0};
        ut_on_interrupt(stop, &s);
        ut_progress_begin(&s.progress, !s.quiet);
        utter_status st = speak(&s, &err);
        code = finish(&s, st, &err);
        ut_on_interrupt(NULL, NULL);
    }
    utter_log_set(NULL, NULL);
    utter_stream_close(s.stream);
    utter_voice_free(s.voice);
    utter_engine_close(s.engine);
    ut_text_source_close(&s.text);
    return code;
}

const ut_command ut_command_say = {
    .name = "say",
    .arguments = "[TEXT ... | -f FILE | -]",
    .summary = "speak a text",
    .details = details,
    .run = run,
};
