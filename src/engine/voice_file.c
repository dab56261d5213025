/* voice_file.c - the voice file, JSON:
 *
 *     {"format": "utter-voice", "version": 1,
 *      "name": "ann", "description": "calm", "language": "en",
 *      "text": "what the recording says",
 *      "family": "s1-mini", "codec": "fingerprint of the codec",
 *      "codes": [[frame 0, 1, ... of codebook 0], [... of codebook 1], ...],
 *      "encoder": "fingerprint of the speaker encoder", "embedding": [0.1, ...]}
 *
 * Only "text" and "codes" are required: the voices that come with a model need no more; with an
 * embedding the text may be empty. Files are written under another name and renamed, so that no
 * reader sees half of one. */
#include "engine/voice.h"
#include "base/alloc.h"
#include "base/json.h"
#include "base/os.h"
#include <errno.h>
#include <string.h>

#define FORMAT        "utter-voice"
#define VERSION       1
#define MAX_CODEBOOKS 64
#define MAX_FRAMES    65536
#define MAX_CODE      65535
#define MAX_EMBEDDING 65536

static utter_status read_codes(utter_voice *v, ut_json_value codes, ut_err *err)
{
    utter_status st = ut_json_get_array(codes, err);
    if (st != UTTER_OK)
        return st;
    size_t n_codebooks = ut_json_size(codes);
    if (n_codebooks < 1 || n_codebooks > MAX_CODEBOOKS)
        return ut_json_fail(codes, err, "has %zu rows, expected one for each of 1..%d codebooks",
                            n_codebooks, MAX_CODEBOOKS);
    size_t n_frames = ut_json_size(ut_json_item(codes, 0));
    if (n_frames > MAX_FRAMES)
        return ut_json_fail(codes, err, "has %zu frames, expected at most %d", n_frames,
                            MAX_FRAMES);
    v->codes = ut_calloc(n_codebooks * n_frames, sizeof *v->codes);
    if (!v->codes)
        return ut_fail(err, UTTER_ERR_NOMEM, "%s: no memory for codes", v->path);
    for (size_t q = 0; q < n_codebooks; q++) {
        ut_json_value row = ut_json_item(codes, q);
        st = ut_json_get_array(row, err);
        if (st != UTTER_OK)
            return st;
        if (ut_json_size(row) != n_frames || n_frames == 0)
            return ut_json_fail(row, err, "has %zu codes, expected %s", ut_json_size(row),
                                n_frames ? "as many as the first row" : "at least 1");
        for (size_t t = 0; t < n_frames; t++) {
            st = ut_json_get_i32(ut_json_item(row, t), 0, MAX_CODE, &v->codes[t * n_codebooks + q],
                                 err);
            if (st != UTTER_OK)
                return st;
        }
    }
    v->n_codebooks = (int32_t)n_codebooks;
    v->n_frames = (int32_t)n_frames;
    return UTTER_OK;
}

static utter_status read_embedding(utter_voice *v, ut_json_value list, ut_err *err)
{
    if (ut_json_typeof(list) == UT_JSON_ABSENT || ut_json_typeof(list) == UT_JSON_NULL)
        return UTTER_OK;
    utter_status st = ut_json_get_array(list, err);
    size_t n = ut_json_size(list);
    if (st == UTTER_OK && (n < 1 || n > MAX_EMBEDDING))
        st = ut_json_fail(list, err, "has %zu numbers, expected 1..%d", n, MAX_EMBEDDING);
    if (st != UTTER_OK)
        return st;
    v->embedding = ut_calloc(n, sizeof *v->embedding);
    if (!v->embedding)
        return ut_fail(err, UTTER_ERR_NOMEM, "%s: no memory for an embedding", v->path);
    for (size_t i = 0; i < n && st == UTTER_OK; i++)
        st = ut_json_get_f32(ut_json_item(list, i), -1e6f, 1e6f, &v->embedding[i], err);
    v->n_embedding = (int32_t)n;
    return st;
}

/* "format" and "version", where they are given. */
static utter_status check_format(ut_json_value root, ut_err *err)
{
    const char *format = FORMAT;
    int32_t version;
    ut_json_value f = ut_json_member(root, "format");
    utter_status st = ut_json_opt_string(f, &format, err);
    if (st == UTTER_OK && strcmp(format, FORMAT) != 0)
        st = ut_json_fail(f, err, "is \"%s\", expected \"" FORMAT "\"", format);
    if (st == UTTER_OK)
        st = ut_json_opt_i32(ut_json_member(root, "version"), VERSION, VERSION, &version, err);
    return st;
}

utter_status ut_voice_read(utter_voice **out, const char *path, const char *name, ut_err *err)
{
    *out = NULL;
    ut_json *doc;
    utter_voice *v = NULL;
    utter_status st = ut_json_read(&doc, path, UT_JSON_MAX_BYTES, err);
    if (st != UTTER_OK)
        return st;
    ut_json_value root = ut_json_root(doc), text_value = ut_json_member(root, "text");
    const char *own_name = "", *description = "", *language = "", *text = "", *family = "",
               *codec = "", *encoder = "";
    ut_json_value embedding = ut_json_member(root, "embedding");
    st = check_format(root, err);
    if (st == UTTER_OK)
        st = ut_json_opt_string(ut_json_member(root, "name"), &own_name, err);
    if (st == UTTER_OK)
        st = ut_json_opt_string(ut_json_member(root, "description"), &description, err);
    if (st == UTTER_OK)
        st = ut_json_opt_string(ut_json_member(root, "language"), &language, err);
    if (st == UTTER_OK)
        st = ut_json_opt_string(ut_json_member(root, "family"), &family, err);
    if (st == UTTER_OK)
        st = ut_json_opt_string(ut_json_member(root, "codec"), &codec, err);
    if (st == UTTER_OK)
        st = ut_json_opt_string(ut_json_member(root, "encoder"), &encoder, err);
    if (st == UTTER_OK)
        st = ut_json_get_string(text_value, &text, err);
    if (st == UTTER_OK && !text[0] && ut_json_size(embedding) == 0)
        st = ut_json_fail(text_value, err, "is empty, expected what the recording says");
    if (st == UTTER_OK)
        st = ut_voice_new(&v, name ? name : own_name, description, language, text, err);
    if (st == UTTER_OK)
        st = ut_voice_set(&v->family, family, err);
    if (st == UTTER_OK)
        st = ut_voice_set(&v->codec_id, codec, err);
    if (st == UTTER_OK)
        st = ut_voice_set(&v->path, path, err);
    if (st == UTTER_OK)
        st = ut_voice_set(&v->encoder_id, encoder, err);
    if (st == UTTER_OK)
        st = read_embedding(v, embedding, err);
    if (st == UTTER_OK)
        st = read_codes(v, ut_json_member(root, "codes"), err);
    if (st == UTTER_OK) {
        *out = v;
        v = NULL; /* handed over */
    }
    utter_voice_free(v);
    ut_json_free(doc);
    return st;
}

static bool format_voice(const utter_voice *v, ut_buf *out)
{
    ut_json_writer w;
    ut_json_writer_init(&w, out, 0);
    ut_json_begin_object(&w, NULL);
    ut_json_put_string(&w, "format", FORMAT);
    ut_json_put_int(&w, "version", VERSION);
    ut_json_put_string(&w, "name", v->name);
    ut_json_put_string(&w, "description", v->description);
    ut_json_put_string(&w, "language", v->language);
    ut_json_put_string(&w, "text", v->text);
    ut_json_put_string(&w, "family", v->family);
    ut_json_put_string(&w, "codec", v->codec_id);
    ut_json_begin_array(&w, "codes");
    for (int32_t q = 0; q < v->n_codebooks; q++) {
        ut_json_begin_array(&w, NULL);
        for (int32_t t = 0; t < v->n_frames; t++)
            ut_json_put_int(&w, NULL, v->codes[(size_t)t * (size_t)v->n_codebooks + (size_t)q]);
        ut_json_end(&w);
    }
    ut_json_end(&w);
    if (v->n_embedding > 0) {
        ut_json_put_string(&w, "encoder", v->encoder_id);
        ut_json_begin_array(&w, "embedding");
        for (int32_t i = 0; i < v->n_embedding; i++)
            ut_json_put_f32(&w, NULL, v->embedding[i]);
    }
    return ut_json_end_all(&w) && ut_buf_puts(out, "\n");
}

/* The folder that a path names a file in; newly allocated, NULL: none or no memory. */
static char *folder_of(const char *path)
{
    size_t n = strlen(path);
    while (n > 0 && path[n - 1] != '/' && path[n - 1] != '\\')
        n--;
    return n > 1 ? ut_strndup(path, n - 1) : NULL;
}

static utter_status write_file(const char *path, const void *data, size_t n, ut_err *err)
{
    FILE *f = ut_fopen(path, "wb");
    if (!f)
        return ut_fail(err, UTTER_ERR_IO, "%s: %s", path, strerror(errno));
    bool ok = fwrite(data, 1, n, f) == n;
    int e = errno;
    if (fclose(f) != 0 && ok) {
        ok = false;
        e = errno;
    }
    if (ok)
        return UTTER_OK;
    ut_remove(path, NULL);
    return ut_fail(err, UTTER_ERR_IO, "%s: %s", path, strerror(e));
}

utter_status ut_voice_write(const utter_voice *v, const char *path, ut_err *err)
{
    utter_status st = UTTER_OK;
    ut_buf text;
    ut_buf_init(&text, UT_JSON_MAX_BYTES);
    /* Two programs may write the same name at the same time: the clock keeps them apart. */
    char *temporary =
        ut_asprintf("%s.%08llx.new", path, (unsigned long long)(ut_time_now() * 1e9) & 0xffffffff);
    char *folder = folder_of(path);
    if (!temporary || !format_voice(v, &text)) {
        st = ut_fail(err, UTTER_ERR_NOMEM, "%s: no memory to write a voice", path);
        goto done;
    }
    if (folder)
        st = ut_mkdirs(folder, err);
    if (st == UTTER_OK)
        st = write_file(temporary, text.data, text.len, err);
    if (st == UTTER_OK) {
        st = ut_rename(temporary, path, err);
        if (st != UTTER_OK)
            ut_remove(temporary, NULL);
    }
done:
    ut_free(folder);
    ut_free(temporary);
    ut_buf_free(&text);
    return st;
}
