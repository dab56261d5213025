/* utter.h - the public interface of utter: text in, speech out, with open-weight neural models.
 *
 * C99 and C++. Everything a program needs is here and in utter_status.h (the error codes).
 *
 *     utter_engine *e;
 *     utter_audio *a;
 *     if (utter_engine_open("voices/arctic-mini", NULL, &e) != UTTER_OK)
 *         return puts(utter_last_error(NULL));
 *     if (utter_synth(e, "Hello.", NULL, &a) == UTTER_OK)
 *         utter_audio_write(a, "hello.wav");
 *     utter_audio_free(a);
 *     utter_engine_close(e);
 *
 * Rules that hold for every call:
 * - Strings are UTF-8, 0-terminated and borrowed for the call, unless its comment says otherwise.
 *   Paths are UTF-8 on every system.
 * - Functions that can fail return utter_status. Out-parameters are set to NULL or 0 first, so that
 *   after a failure there is nothing to free. Every _free, _close function accepts NULL.
 * - The reason of a failure is one line of text: utter_last_error(engine) for calls that take an
 *   engine or a stream, utter_last_error(NULL) for all others and for utter_engine_open.
 * - One thread at a time may use an engine, its streams and its voices; different engines are
 *   independent. The exception is utter_stream_cancel, which any thread may call at any time.
 * - Sound is float samples, nominally -1 .. 1. Speech is mono at the model's sample rate.
 * - The library never prints, exits, or changes signal handlers or the locale.
 *
 * Versioned structs. Every struct of parameters or results begins with its size, which the _init
 * macro sets from the caller's own header, together with the defaults. Later versions append
 * fields only. An older library accepts a larger struct as long as what it does not know is 0;
 * a newer library never touches memory past the size it was given. Parameters may be NULL where
 * the comment says so: all defaults. */
#ifndef UTTER_H
#define UTTER_H

#include "utter_status.h"
#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32) && defined(UTTER_SHARED)
#ifdef UTTER_BUILD
#define UTTER_API __declspec(dllexport)
#else
#define UTTER_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define UTTER_API __attribute__((visibility("default")))
#else
#define UTTER_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define UTTER_VERSION_MAJOR 0
#define UTTER_VERSION_MINOR 1
#define UTTER_VERSION_PATCH 0

typedef struct utter_engine utter_engine;         /* a loaded model on a backend */
typedef struct utter_stream utter_stream;         /* one utterance: text goes in, sound comes out */
typedef struct utter_voice utter_voice;           /* a speaker, for a model to imitate */
typedef struct utter_voice_list utter_voice_list; /* voices on this machine */
typedef struct utter_audio utter_audio;           /* finished sound */

/* ---- Library ------------------------------------------------------------------------------ */

/* "0.1.0", of the library that is linked. Static. Any thread. */
UTTER_API const char *utter_version(void);

/* "ERR_IO" for UTTER_ERR_IO, and what the code means in a few words. Static, never NULL, also for
 * numbers that are no status. Any thread. */
UTTER_API const char *utter_status_name(utter_status status);
UTTER_API const char *utter_status_text(utter_status status);

/* What went wrong in the last failed call on this engine (its streams included); with NULL, in the
 * last failed call of this thread that had no engine. One line without a line end, naming the
 * file, field or value at fault and what was expected. Never NULL; "" when nothing failed. Valid
 * until the next call that fails, or the engine is closed. */
UTTER_API const char *utter_last_error(const utter_engine *engine);

/* Receives messages worth noting that are not failures: fallbacks, limits reached, skipped files.
 * level: 0 error, 1 warning, 2 information, 3 debugging. message is borrowed for the call and has
 * no line end. May be called from any thread that works for an engine. */
typedef void (*utter_log_fn)(void *user, int level, const char *message);

/* Set the log's receiver for the process, or silence it with NULL (the default). Call it before
 * engines are opened: it is not synchronised with them. user is passed on as it is. */
UTTER_API void utter_log_set(utter_log_fn fn, void *user);

/* ---- Backends ----------------------------------------------------------------------------- */

typedef struct utter_backend_info {
    uint32_t struct_size; /* set by the macro below */
    int32_t available;    /* 1: it can be used on this machine */
    const char *name;     /* for utter_engine_params.backend; static */
    char text[256];       /* one line: the device, or why it is not available */
    int32_t n_devices;    /* of this machine that the backend knows of */
} utter_backend_info;

UTTER_API void utter_backend_info_init_sized(utter_backend_info *info, uint32_t size);
#define utter_backend_info_init(p) utter_backend_info_init_sized((p), (uint32_t)sizeof *(p))

/* Backends that this build of the library has, best first; at least 1. */
UTTER_API size_t utter_backend_count(void);

/* Look at backend i, 0 <= i < utter_backend_count(). info must have been initialised. ERR_ARG when
 * i or info is wrong. Any thread. */
UTTER_API utter_status utter_backend_get(size_t i, utter_backend_info *info);
/* The same of its device number `device`; utter_backend_get is about number 0. */
UTTER_API utter_status utter_backend_get_device(size_t i, int32_t device, utter_backend_info *info);

/* ---- Engine ------------------------------------------------------------------------------- */

/* In which type the large matrices are kept. INT8 and INT4: those of the language model in blocks
 * of whole numbers with a common scale, 8.5 and 5 bits a weight, the others as stored (cuda: what
 * is heard as beside BF16, f16); the part that makes a frame's codes one after another has 8.5 bits
 * in both. Sums stay f32. */
typedef enum utter_precision {
    UTTER_PRECISION_AUTO = 0, /* cpu: as stored in the checkpoint; cuda: BF16 */
    UTTER_PRECISION_F32 = 1,
    UTTER_PRECISION_BF16 = 2,
    UTTER_PRECISION_F16 = 3,
    UTTER_PRECISION_INT8 = 4,
    UTTER_PRECISION_INT4 = 5
} utter_precision;

/* Kernels of attention, on backends that have several. */
typedef enum utter_attention {
    UTTER_ATTENTION_AUTO = 0,
    UTTER_ATTENTION_FLASH = 1,
    UTTER_ATTENTION_MATH = 2 /* the plain formula, for checking */
} utter_attention;

typedef struct utter_engine_params {
    uint32_t struct_size;  /* set by the macro below */
    int32_t threads;       /* 0 .. 1024; 0 (default): one per physical core */
    const char *backend;   /* "cpu", ...; NULL or "auto" (default): the best that is available.
                              A name never falls back to another backend. */
    int32_t precision;     /* utter_precision; default UTTER_PRECISION_AUTO */
    int32_t exact_head;    /* 1: score the whole vocabulary, as the reference implementation does;
                              0 (default): only tokens that a speech frame can be */
    int32_t max_positions; /* bound on prompt + frames of one generation, which sizes the caches:
                              0 (default): the model's own; else at least 64 */
    int32_t reserved;      /* 0 */
    int32_t device;        /* number of the backend's device, from 0 (default) */
    int32_t attention;     /* utter_attention; default UTTER_ATTENTION_AUTO. ERR_UNSUPPORTED where
                              the backend has not that kind */
    int32_t slots;         /* 1 .. 32; 0 (default): 1. Streams open at the same time that make their
                              frames together, which sizes the caches. More may be open. */
    int64_t prefix_cache_bytes; /* >= 0; bound on what is kept, in the memory of the device, of the
                                   beginnings of prompts (instruction, language, voice), so that the
                                   next text with the same need not wait for them; the least
                                   recently used go first. 0: nothing is kept; default 256 MiB.
                                   The samples are the same whatever it is. */
} utter_engine_params;

UTTER_API void utter_engine_params_init_sized(utter_engine_params *params, uint32_t size);
#define utter_engine_params_init(p) utter_engine_params_init_sized((p), (uint32_t)sizeof *(p))

/* Load the checkpoint directory model_dir and prepare it on a backend. params NULL: defaults.
 * UTTER_OK: *out is the caller's, utter_engine_close(). Otherwise *out is NULL and
 * utter_last_error(NULL) tells why: ERR_NOT_FOUND (no such directory), ERR_MODEL or ERR_FORMAT
 * (what is in it), ERR_BACKEND, ERR_NOMEM, ERR_ARG. Blocks for as long as loading takes. */
UTTER_API utter_status utter_engine_open(const char *model_dir, const utter_engine_params *params,
                                         utter_engine **out);

/* Give back everything. Streams of the engine must have been closed before; voices and audio made
 * with it stay valid. */
UTTER_API void utter_engine_close(utter_engine *engine);

typedef struct utter_engine_info {
    uint32_t struct_size;     /* set by the macro below */
    int32_t sample_rate;      /* Hz */
    int32_t hop_samples;      /* samples per frame */
    int32_t n_codebooks;      /* codes per frame */
    int32_t max_positions;    /* prompt + frames of one generation */
    int32_t max_prompt;       /* longest prompt, in tokens */
    int32_t max_chunk_chars;  /* longer texts are cut into chunks of at most this many characters */
    float temperature;        /* the model's defaults for utter_synth_params */
    float top_p;              /* ... */
    float repetition_penalty; /* ... */
    int64_t n_params_lm;      /* parameters of the language model */
    int64_t n_params_codec;   /* parameters of the codec */
    int64_t bytes_per_frame;  /* weights that one frame of the AR loop reads, as kept */
    int64_t weight_bytes;     /* packed weights now held by the backend */
    int64_t work_bytes;       /* caches and codec states of all slots, and buffers of the plans */
    double load_ms;           /* what utter_engine_open took */
    const char *family;       /* "s1-mini"; strings live as long as the engine */
    const char *model_dir;    /* as given */
    const char *summary;      /* one line about layers and sizes */
    const char *backend;      /* "cpu" */
    const char *backend_text; /* one line about the device and what was chosen on it */
    const char *default_voice; /* name, or NULL: none, see voices */
    const char *codec_id;      /* fingerprint that voices made with this codec carry */
    const char *voices;   /* what it speaks with where no voice is given: "made up by the model",
                             or "one of the model's speakers", "one made from a recording": then
                             a voice has to be given */
    int64_t device_free;  /* bytes of the device's own memory that nobody has taken; 0 where it is
                             the host's */
    int64_t device_total; /* ... and in all */
    int32_t slots;        /* as opened */
} utter_engine_info;

UTTER_API void utter_engine_info_init_sized(utter_engine_info *info, uint32_t size);
#define utter_engine_info_init(p) utter_engine_info_init_sized((p), (uint32_t)sizeof *(p))

/* Fill an initialised info. ERR_ARG when one of them is NULL or not initialised. */
UTTER_API utter_status utter_engine_get_info(utter_engine *engine, utter_engine_info *info);

/* ---- Speaking ----------------------------------------------------------------------------- */

typedef struct utter_synth_params {
    uint32_t struct_size;     /* set by the macro below */
    int32_t max_frames;       /* end after this many frames, over all chunks of the text; 0
                                 (default): no limit but the model's. The audio made is kept. */
    const utter_voice *voice; /* NULL (default): the engine's default voice. Borrowed until
                                 utter_synth returns or the stream is closed. */
    int64_t seed;             /* >= 0: same seed, text, voice, build and backend give the same
                                 samples; on a GPU with others beside it only when they are about
                                 as many: with bf16 from 9.0 on any or none, with f32 and f16 more
                                 than 8 slots or not. -1 (default): a new one each time, see
                                 utter_stats */
    float temperature;        /* 0 .. 2; 0 is greedy; -1 (default): the model's default */
    float top_p;              /* 0 < top_p <= 1; -1 (default): the model's default */
    float repetition_penalty; /* 0.5 .. 2; 1 is none; -1 (default): the model's default */
    int32_t ignore_eos;       /* 1: go on until max_frames or the capacity of the model, whatever
                                 the model says; for measurements */
    int32_t no_voice;         /* 1: no default voice either: the model makes one up, and keeps it
                                 for the whole text. Must be 0 when voice is given. */
    int32_t reserved;         /* 0 */
    const char *instruct; /* how to speak, or what voice to make up, in words; NULL (default): none.
                             For models that take it. Borrowed as voice is. */
    const char *language; /* "auto" or one of utter_voice_list_languages(), in any case of letters;
                             NULL (default): auto. For models that have the choice. Borrowed. */
    int32_t top_k;     /* choose from this many codes; 0: all; -1 (default): the model's default */
    int32_t text_feed; /* how a model that can do both gets the text of a generation: 1 all of it
                          in front, 2 along with the frames; 0 (default): its own way */
} utter_synth_params;

UTTER_API void utter_synth_params_init_sized(utter_synth_params *params, uint32_t size);
#define utter_synth_params_init(p) utter_synth_params_init_sized((p), (uint32_t)sizeof *(p))

typedef struct utter_stats {
    uint32_t struct_size;      /* set by the macro below */
    int32_t sample_rate;       /* Hz */
    int64_t seed;              /* the one used: give it again to hear the same */
    int64_t frames;            /* frames of audio */
    int64_t chunks;            /* generations: pieces that the text was cut into */
    int64_t stopped_by_limit;  /* generations that a limit ended, not the model: max_frames, more
                                  frames than the text can need, silence, or repetition */
    int64_t prompt_tokens;     /* over all generations; voice and text */
    int64_t text_pending;      /* bytes of text pushed that no generation has taken yet */
    double audio_s;            /* duration of the audio made so far */
    double busy_s;             /* time spent in the library's calls for it, text to samples */
    double rtf;                /* busy_s / audio_s; 0 while there is no audio */
    double x_realtime;         /* audio_s / busy_s */
    double ttfa_ms;            /* from the first text pushed to the first samples; 0 before them */
    double prefill_ms;         /* prompts read by the model, over all generations */
    double ms_per_frame;       /* one step of the AR loop, on average; this and what follows is the
                                  time of the calls, in which a GPU may do both at once */
    double codec_ms_per_frame; /* one frame of codec decoding, on average */
    double codec_share;        /* 0 .. 1: the codec's part of busy_s */
    double load_ms;            /* what utter_engine_open took */
    double peak_rss_mb;        /* of the process, in 10^6 bytes; 0 where unknown */
    int64_t prefix_hit_tokens; /* of prompt_tokens, those that were kept from before */
    int64_t prefix_bytes;      /* that the engine keeps now, see utter_engine_params */
} utter_stats;

UTTER_API void utter_stats_init_sized(utter_stats *stats, uint32_t size);
#define utter_stats_init(p) utter_stats_init_sized((p), (uint32_t)sizeof *(p))

/* Speak a text of any length. params NULL: defaults. UTTER_OK: *out is the caller's,
 * utter_audio_free(). ERR_TEXT when there is nothing to speak in the text or it is not UTF-8,
 * ERR_LIMIT when the voice's recording leaves no room for text, ERR_ARG naming a parameter that
 * is out of range. Blocks until all is spoken; use a stream to hear it as it is made. */
UTTER_API utter_status utter_synth(utter_engine *engine, const char *text,
                                   const utter_synth_params *params, utter_audio **out);

/* Mono samples, owned by the audio; how many; how many per second. NULL, 0, 0 for NULL. */
UTTER_API const float *utter_audio_samples(const utter_audio *audio);
UTTER_API size_t utter_audio_n_samples(const utter_audio *audio);
UTTER_API int32_t utter_audio_sample_rate(const utter_audio *audio);
/* How it was made. stats must have been initialised; ERR_ARG otherwise. */
UTTER_API utter_status utter_audio_get_stats(const utter_audio *audio, utter_stats *stats);
/* Write a sound file; the name's extension chooses the format: .wav (16 bit), and .flac, .ogg,
 * .mp3 where the build has them (ERR_UNSUPPORTED names what it has). ERR_IO as the system says. */
UTTER_API utter_status utter_audio_write(const utter_audio *audio, const char *path);
UTTER_API void utter_audio_free(utter_audio *audio);

/* ---- Streams: speaking while the text arrives ---------------------------------------------- *
 *
 *     utter_stream_open(e, NULL, &s);
 *     for (;;) {
 *         st = utter_stream_read(s, pcm, 4096, &n, &state);
 *         if (st != UTTER_OK || state == UTTER_STREAM_END)
 *             break;
 *         if (state == UTTER_STREAM_AUDIO)
 *             play(pcm, n);
 *         else if (more_text(&text, &size))
 *             utter_stream_push(s, text, size);
 *         else
 *             utter_stream_finish(s);
 *     }
 *     utter_stream_close(s);
 *
 * The samples do not depend on how the text was divided among pushes nor on the sizes of reads.
 * Speech begins when a sentence is complete; with a model that takes text along with its frames
 * (see text_feed) as soon as there are words with a space behind them. Several streams of one
 * engine may be open and read in turns. */

typedef enum utter_stream_state {
    UTTER_STREAM_AUDIO = 0,      /* samples were returned */
    UTTER_STREAM_NEEDS_TEXT = 1, /* none now: push more text, or finish */
    UTTER_STREAM_END = 2         /* all text is spoken and all samples are read */
} utter_stream_state;

/* Begin an utterance. params NULL: defaults; they are copied, the voice is borrowed until close.
 * UTTER_OK: *out is the caller's, utter_stream_close() before the engine is closed. ERR_ARG naming
 * the parameter; ERR_MODEL when the voice was made with another codec; ERR_NOMEM. */
UTTER_API utter_status utter_stream_open(utter_engine *engine, const utter_synth_params *params,
                                         utter_stream **out);

/* Add n bytes of text (any division, even inside a character). It is only stored: no speaking
 * happens here. ERR_TEXT when it is not UTF-8 (the offset counts from the first push), ERR_ARG
 * after utter_stream_finish. */
UTTER_API utter_status utter_stream_push(utter_stream *stream, const char *text, size_t n);

/* The text is complete. A second call does nothing. ERR_TEXT when it ends inside a character. */
UTTER_API utter_status utter_stream_finish(utter_stream *stream);

/* Get up to max >= 1 samples: *n of them in pcm [max]. Works until there is at least one, and
 * returns what is ready rather than wait for more, so the first samples come early. *state tells
 * what to do next; *n > 0 exactly when it is UTTER_STREAM_AUDIO. After a failure the stream can
 * only be closed; ERR_CANCELLED after utter_stream_cancel. */
UTTER_API utter_status utter_stream_read(utter_stream *stream, float *pcm, size_t max, size_t *n,
                                         utter_stream_state *state);

/* Make a running or the next utter_stream_read return ERR_CANCELLED, before the next frame or run
 * of the codec begins; a few that a GPU was given already are wasted. Any thread, any time between
 * open and close; safe in a signal handler. */
UTTER_API void utter_stream_cancel(utter_stream *stream);

/* Statistics so far. stats must have been initialised; ERR_ARG otherwise. */
UTTER_API utter_status utter_stream_get_stats(const utter_stream *stream, utter_stats *stats);

UTTER_API void utter_stream_close(utter_stream *stream);

/* ---- Voices -------------------------------------------------------------------------------- *
 * A voice is a short recording in the codec's terms, with its transcript, and with what a model's
 * speaker encoder makes of it; or one of a model's own speakers. Names of stored voices are 1 to 64
 * of A-Z a-z 0-9 _ -. A model directory may bring voices (MODEL/voices/NAME.json); the user's own
 * lie in the user's data folder and come first where names are equal, a model's speakers last. */

typedef struct utter_voice_params {
    uint32_t struct_size;    /* set by the macro below */
    int32_t sample_rate;     /* Hz, 1000 .. 768000 */
    const char *path;        /* a sound file to read, or NULL: the four fields that follow */
    const float *samples;    /* [n_samples * n_channels], interleaved; finite */
    size_t n_samples;        /* per channel; half a second to two minutes */
    int32_t n_channels;      /* 1 .. 64; averaged */
    int32_t use_cache;       /* 1: keep the codes in the user's cache folder and find them there the
                                next time, by the content of the sound; 0 (default) */
    const char *text;        /* what is said in the recording; required, but for models that can
                                do with the sound of the voice alone: NULL then */
    const char *name;        /* NULL (default): the voice has none until it is stored */
    const char *description; /* NULL (default): none */
    const char *language;    /* "en"; NULL (default): not known */
} utter_voice_params;

UTTER_API void utter_voice_params_init_sized(utter_voice_params *params, uint32_t size);
#define utter_voice_params_init(p) utter_voice_params_init_sized((p), (uint32_t)sizeof *(p))

/* Make a voice of a recording. UTTER_OK: *out is the caller's, utter_voice_free(). ERR_AUDIO when
 * the sound cannot be used, ERR_LIMIT when it is too long, ERR_ARG, ERR_TEXT, ERR_IO,
 * ERR_UNSUPPORTED when the model cannot encode. */
UTTER_API utter_status utter_voice_create(utter_engine *engine, const utter_voice_params *params,
                                          utter_voice **out);

/* Find a stored voice by name: the user's, then the model's. UTTER_OK: *out is the caller's.
 * ERR_NOT_FOUND lists what there is; ERR_MODEL when it was made with another codec. */
UTTER_API utter_status utter_voice_find(utter_engine *engine, const char *name, utter_voice **out);

/* Read a voice file. UTTER_OK: *out is the caller's. ERR_FORMAT names the field at fault. */
UTTER_API utter_status utter_voice_load(const char *path, utter_voice **out);

/* Write a voice file, replacing it as a whole. path NULL: into the user's voices, under the voice's
 * name (ERR_ARG without one). */
UTTER_API utter_status utter_voice_save(const utter_voice *voice, const char *path);

/* Delete a voice of the user. ERR_NOT_FOUND when there is none of that name. */
UTTER_API utter_status utter_voice_remove(const char *name);

typedef struct utter_voice_info {
    uint32_t struct_size;    /* set by the macro below */
    int32_t n_codebooks;     /* codes per frame */
    int32_t n_frames;        /* length of the recording */
    int32_t of_user;         /* 1: one of the user's voices (lists only) */
    const char *name;        /* "" when not known; strings live as long as what they came from */
    const char *description; /* "" */
    const char *language;    /* "" */
    const char *text;        /* transcript */
    const char *family;      /* of the model it was made with; "" */
    const char *codec_id;    /* of the codec it was made with; "" for the voices of a model */
    const char *path;        /* file it was read from; "" */
    const char *error;       /* lists only: why the file cannot be used; "" */
    int32_t is_speaker;      /* 1: one of a model's own speakers; language is then their dialect */
    int32_t n_embedding;     /* numbers of a speaker encoder's vector; 0: none */
} utter_voice_info;

UTTER_API void utter_voice_info_init_sized(utter_voice_info *info, uint32_t size);
#define utter_voice_info_init(p) utter_voice_info_init_sized((p), (uint32_t)sizeof *(p))

/* Fill an initialised info; its strings belong to the voice. */
UTTER_API utter_status utter_voice_get_info(const utter_voice *voice, utter_voice_info *info);

/* The recording as the codec gives it back: what the model hears of the voice. UTTER_OK: *out is
 * the caller's. ERR_MODEL when the voice was made with another codec. */
UTTER_API utter_status utter_voice_preview(utter_engine *engine, const utter_voice *voice,
                                           utter_audio **out);

UTTER_API void utter_voice_free(utter_voice *voice);

/* All voices of the user and, unless model_dir is NULL, of a model directory, its own speakers
 * included; needs no engine.
 * Files that cannot be used are listed with the reason. UTTER_OK: *out is the caller's,
 * utter_voice_list_free(). */
UTTER_API utter_status utter_voice_list_open(const char *model_dir, utter_voice_list **out);
UTTER_API size_t utter_voice_list_count(const utter_voice_list *list);
/* Entry i < count in an initialised info; strings belong to the list. ERR_ARG otherwise. */
UTTER_API utter_status utter_voice_list_get(const utter_voice_list *list, size_t i,
                                            utter_voice_info *info);
/* The languages that the model can be told to speak, "auto, chinese, english"; "" where there is no
 * such choice, or no model directory was given. Belongs to the list. */
UTTER_API const char *utter_voice_list_languages(const utter_voice_list *list);
UTTER_API void utter_voice_list_free(utter_voice_list *list);

#ifdef __cplusplus
}
#endif

#endif
