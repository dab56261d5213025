/* voice_cache.c - codes of recordings that were encoded before, in the user's cache folder: one
 * voice file per recording, named by a hash of the sound and of the codec. Anything wrong with the
 * cache only costs the time to encode again. */
#include "engine/voice.h"
#include "base/alloc.h"
#include "base/log.h"
#include "base/os.h"
#include "engine/engine.h"
#include "engine/sha256.h"
#include <string.h>

ut_voice_key ut_voice_cache_key(const utter_engine *e, const float *samples, size_t n_samples,
                                int n_channels, int sample_rate)
{
    ut_voice_key key;
    ut_sha256 h;
    ut_sha256_init(&h);
    ut_sha256_update(&h, e->codec_id, strlen(e->codec_id));
    ut_sha256_update(&h, e->encoder_id, strlen(e->encoder_id));
    ut_sha256_update(&h, &n_channels, sizeof n_channels);
    ut_sha256_update(&h, &sample_rate, sizeof sample_rate);
    ut_sha256_update(&h, samples, n_samples * (size_t)n_channels * sizeof *samples);
    ut_sha256_hex(&h, key.hex, sizeof key.hex - 1);
    return key;
}

/* Newly allocated; NULL: no memory, or no such place on this system. */
static char *cache_folder(void)
{
    char *dir = ut_user_cache_dir();
    char *folder = dir ? ut_path_join(dir, "references") : NULL;
    ut_free(dir);
    return folder;
}

static char *entry_path(const char *folder, const ut_voice_key *key)
{
    return folder ? ut_asprintf("%s/%s.json", folder, key->hex) : NULL;
}

bool ut_voice_cache_get(const utter_engine *e, const ut_voice_key *key, utter_voice *v)
{
    utter_voice *found = NULL;
    char *folder = cache_folder(), *path = entry_path(folder, key);
    bool ok = path && ut_file_exists(path) && ut_voice_read(&found, path, NULL, NULL) == UTTER_OK &&
              strcmp(found->codec_id, e->codec_id) == 0 &&
              ut_voice_check(e, found, NULL) == UTTER_OK;
    if (ok) {
        v->codes = found->codes;
        v->n_frames = found->n_frames;
        v->n_codebooks = found->n_codebooks;
        v->embedding = found->embedding;
        v->n_embedding = found->n_embedding;
        found->codes = NULL; /* handed over */
        found->embedding = NULL;
    }
    utter_voice_free(found);
    ut_free(path);
    ut_free(folder);
    return ok;
}

/* Keep the folder bounded. Names are hashes, so any choice is as good as random: the key picks. */
static void make_room(const char *folder, const ut_voice_key *key)
{
    char **names;
    size_t n;
    if (ut_list_dir(folder, &names, &n, NULL) != UTTER_OK)
        return;
    size_t from = (size_t)(unsigned char)key->hex[0] * 16 + (unsigned char)key->hex[1];
    for (size_t excess = 0; excess + UT_VOICE_CACHE_FILES <= n; excess++) {
        char *path = ut_path_join(folder, names[(from + excess) % n]);
        if (path)
            ut_remove(path, NULL);
        ut_free(path);
    }
    ut_list_free(names, n);
}

void ut_voice_cache_put(const ut_voice_key *key, const utter_voice *v)
{
    ut_err err = {0};
    char *folder = cache_folder(), *path = entry_path(folder, key);
    if (path) {
        make_room(folder, key);
        if (ut_voice_write(v, path, &err) != UTTER_OK)
            ut_log(UT_LOG_WARN, "the encoded recording is not kept: %s", err.msg);
    }
    ut_free(path);
    ut_free(folder);
}
