/* voice.h - voices inside the engine: the object, its file, and where files are kept. */
#ifndef UT_ENGINE_VOICE_H
#define UT_ENGINE_VOICE_H

#include "base/err.h"
#include "utter.h"
#include <stdbool.h>

#define UT_VOICE_NAME_MAX 64

/* Strings are owned and never NULL. */
struct utter_voice {
    char *name, *description, *language, *text, *family, *codec_id, *path;
    char *encoder_id; /* fingerprint of the speaker encoder that made the embedding; "" without */
    int32_t n_codebooks, n_frames;
    int32_t *codes; /* [n_frames, n_codebooks] */
    int32_t n_embedding;
    float *embedding; /* [n_embedding] */
    bool is_speaker;  /* one of a model's own: only name and language */
};

/* A voice without codes from borrowed strings (NULL: ""). */
utter_status ut_voice_new(utter_voice **out, const char *name, const char *description,
                          const char *language, const char *text, ut_err *err);
/* Replace one of a voice's strings. */
utter_status ut_voice_set(char **field, const char *value, ut_err *err);
bool ut_voice_name_ok(const char *name);
utter_status ut_voice_check_name(const char *name, ut_err *err); /* ERR_ARG with the rule */
/* May engine e speak with v? ERR_MODEL with the reason when its codes are of another codec. */
utter_status ut_voice_check(const utter_engine *e, const utter_voice *v, ut_err *err);

/* ---- Files (voice_file.c) ------------------------------------------------------------------- */

/* name NULL: as the file says. */
utter_status ut_voice_read(utter_voice **out, const char *path, const char *name, ut_err *err);
/* Replaces the file as a whole; creates its folder. */
utter_status ut_voice_write(const utter_voice *v, const char *path, ut_err *err);

/* ---- Places (voice_store.c) ----------------------------------------------------------------- */

/* The default voice of e's model into e->voice, if there is one: what the family names, else the
 * voice called "default", else the first by name of those that the model brings. */
utter_status ut_voice_open_default(utter_engine *e, ut_err *err);

/* ---- Recordings encoded before (voice_cache.c) ---------------------------------------------- */

#define UT_VOICE_CACHE_FILES 256 /* at most; then one makes room for the next */

typedef struct ut_voice_key {
    char hex[65]; /* of the sound, of the codec and of the speaker encoder */
} ut_voice_key;

ut_voice_key ut_voice_cache_key(const utter_engine *e, const float *samples, size_t n_samples,
                                int n_channels, int sample_rate);
/* What is known of a recording that was seen before, taken into v; false: not there or unusable. */
bool ut_voice_cache_get(const utter_engine *e, const ut_voice_key *key, utter_voice *v);
/* Remember v's codes; failures are only logged. */
void ut_voice_cache_put(const ut_voice_key *key, const utter_voice *v);

#endif
