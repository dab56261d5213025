/* prompt.c - prompts of all modes (specification, section 5; reference: generate() of
 * modeling_qwen3_tts.py and inference/qwen3_tts_model.py).
 *
 * A position is the sum of a text token's projection and of embeddings on the codec's side, so its
 * column holds the text token, then the ids of the code groups, UT_ID_NONE where there is none.
 * Ids of control, languages and speakers are ids of group 0. */
#include "models/qwen3_tts/prompt.h"
#include <stdio.h>
#include <string.h>

#define MAX_IDS ((size_t)1 << 28) /* bytes */

/* ---- Text ----------------------------------------------------------------------------------- */

static utter_status no_memory(ut_err *err)
{
    return ut_fail(err, UTTER_ERR_NOMEM, "no memory for a prompt");
}

/* Names of added tokens in the text are spelt like any other text. */
static utter_status encode(const ut_q3_writer *w, const char *text, ut_buf *ids, ut_err *err)
{
    return ut_bpe_encode(w->bpe, text, strlen(text), false, ids, err);
}

/* Leading white space goes: a line break would become one token with the one in front of it. */
static const char *without_leading_space(const char *text)
{
    return text + strspn(text, " \t\r\n\v\f");
}

/* <|im_start|>ROLE\n as three tokens. */
static utter_status put_role(const ut_q3_writer *w, ut_buf *ids, ut_err *err)
{
    const size_t before = ut_buf_n_i32(ids);
    if (!ut_buf_push_i32(ids, w->config->im_start))
        return no_memory(err);
    const utter_status st = encode(w, "assistant\n", ids, err);
    if (st != UTTER_OK)
        return st;
    if (ut_buf_n_i32(ids) - before != 3 || ut_buf_i32(ids)[before + 1] != w->config->assistant)
        return ut_fail(err, UTTER_ERR_MODEL,
                       "the tokenizer has no token of its own for \"assistant\", expected %d",
                       (int)w->config->assistant);
    return UTTER_OK;
}

utter_status ut_q3_wrap(const ut_q3_writer *w, char kind, const char *text, ut_buf *ids,
                        ut_err *err)
{
    utter_status st;
    if (kind == 'i') {
        /* the instruction and the line break in front of it are split together */
        ut_buf joined;
        ut_buf_init(&joined, MAX_IDS);
        st = ut_buf_push_i32(ids, w->config->im_start) && ut_buf_puts(&joined, "user\n") &&
                     ut_buf_puts(&joined, text)
                 ? encode(w, (const char *)joined.data, ids, err)
                 : no_memory(err);
        ut_buf_free(&joined);
    } else {
        st = put_role(w, ids, err);
        if (st == UTTER_OK)
            st = encode(w, without_leading_space(text), ids, err);
    }
    if (st == UTTER_OK && !ut_buf_push_i32(ids, w->config->im_end))
        st = no_memory(err);
    if (st == UTTER_OK)
        st = encode(w, "\n", ids, err);
    return st == UTTER_OK && kind == 't' ? put_role(w, ids, err) : st;
}

/* ---- Names ---------------------------------------------------------------------------------- */

static bool same_name(const char *lower, const char *name)
{
    for (; *lower && *name; lower++, name++) {
        const char c = *name >= 'A' && *name <= 'Z' ? (char)(*name + ('a' - 'A')) : *name;
        if (c != *lower)
            return false;
    }
    return *lower == *name;
}

static const ut_q3_name_id *find_name(const ut_q3_name_id *list, int32_t n, const char *name)
{
    for (int32_t i = 0; i < n; i++)
        if (same_name(list[i].name, name))
            return &list[i];
    return NULL;
}

static void join_names(const ut_q3_name_id *list, int32_t n, char *out, size_t size)
{
    size_t at = 0;
    out[0] = 0;
    for (int32_t i = 0; i < n && at < size; i++)
        at += (size_t)snprintf(out + at, size - at, "%s%s", i ? ", " : "", list[i].name);
}

/* The language's id, or UT_ID_NONE to let the model find out; a speaker's dialect overrides Chinese
 * and that. */
static utter_status find_language(const ut_q3_config *c, const char *name,
                                  const ut_q3_name_id *speaker, int32_t *id, ut_err *err)
{
    *id = UT_ID_NONE;
    const bool automatic = !name || same_name("auto", name);
    const ut_q3_name_id *language =
        automatic ? NULL : find_name(c->languages, c->n_languages, name);
    if (!automatic && !language) {
        char known[320];
        join_names(c->languages, c->n_languages, known, sizeof known);
        return ut_fail(err, UTTER_ERR_ARG, "language \"%.40s\" is unknown, expected auto, %s", name,
                       known);
    }
    if (speaker && speaker->dialect && (automatic || same_name("chinese", name)))
        language = find_name(c->languages, c->n_languages, speaker->dialect);
    if (language)
        *id = language->id;
    return UTTER_OK;
}

/* ---- What a kind of checkpoint can do ------------------------------------------------------- */

static utter_status check_base(const ut_request *r, ut_err *err)
{
    if (r->speaker)
        return ut_fail(err, UTTER_ERR_UNSUPPORTED,
                       "speaker \"%.40s\": a Base model has no speakers of its own, it takes a "
                       "voice made from a recording",
                       r->speaker);
    if (r->instruct && r->instruct[0])
        return ut_fail(err, UTTER_ERR_UNSUPPORTED,
                       "a Base model takes no instruction; CustomVoice and VoiceDesign of 1.7B do");
    if (r->n_refs != 1)
        return ut_fail(err, UTTER_ERR_ARG,
                       "a Base model speaks with a voice made from a recording, found %d, "
                       "expected 1",
                       r->n_refs);
    if (!r->refs[0].embedding)
        return ut_fail(err, UTTER_ERR_ARG,
                       "the voice has no speaker embedding; add it again from its recording");
    return UTTER_OK;
}

static utter_status check_custom(const ut_q3_config *c, const ut_request *r,
                                 const ut_q3_name_id **speaker, ut_err *err)
{
    if (r->n_refs > 0)
        return ut_fail(err, UTTER_ERR_UNSUPPORTED,
                       "a CustomVoice model cannot imitate a recording, only Base models do; it "
                       "has speakers of its own");
    if (r->instruct && r->instruct[0] && c->drops_instruct)
        return ut_fail(err, UTTER_ERR_UNSUPPORTED,
                       "CustomVoice of 0.6B takes no instruction, that of 1.7B does");
    *speaker = r->speaker ? find_name(c->speakers, c->n_speakers, r->speaker) : NULL;
    if (*speaker)
        return UTTER_OK;
    char known[320];
    join_names(c->speakers, c->n_speakers, known, sizeof known);
    if (r->speaker)
        return ut_fail(err, UTTER_ERR_NOT_FOUND, "speaker \"%.40s\" is unknown, expected one of %s",
                       r->speaker, known);
    return ut_fail(err, UTTER_ERR_ARG,
                   "a CustomVoice model speaks with one of its speakers, none was given: %s",
                   known);
}

static utter_status check_design(const ut_request *r, ut_err *err)
{
    if (r->n_refs > 0 || r->speaker)
        return ut_fail(err, UTTER_ERR_UNSUPPORTED,
                       "a VoiceDesign model makes its voice up from the instruction; it takes no "
                       "%s",
                       r->n_refs > 0 ? "recording" : "speaker");
    return UTTER_OK;
}

static utter_status check_codes(const ut_q3_writer *w, const ut_reference *r, ut_err *err)
{
    const int32_t n_groups = w->config->num_code_groups;
    for (int32_t t = 0; t < r->n_frames; t++)
        for (int32_t g = 0; g < n_groups; g++) {
            const int32_t code = r->codes[(size_t)t * (size_t)n_groups + (size_t)g];
            if (code < 0 || code >= w->codebook_sizes[g])
                return ut_fail(err, UTTER_ERR_ARG,
                               "reference: code %d of frame %d is %d, expected 0 to %d", (int)g,
                               (int)t, (int)code, (int)w->codebook_sizes[g] - 1);
        }
    return UTTER_OK;
}

/* ---- Columns -------------------------------------------------------------------------------- */

/* A prompt being written. */
typedef struct body {
    const ut_q3_config *config;
    ut_buf *columns;
    bool ok;
} body;

static int32_t n_columns(const body *b)
{
    return (int32_t)(ut_buf_n_i32(b->columns) / (size_t)(1 + b->config->num_code_groups));
}

/* A text token with an id of group 0 (or UT_ID_NONE, UT_ID_EXTRA). */
static void put(body *b, int32_t text, int32_t id)
{
    b->ok = b->ok && ut_buf_push_i32(b->columns, text) && ut_buf_push_i32(b->columns, id);
    for (int32_t g = 1; g < b->config->num_code_groups; g++)
        b->ok = b->ok && ut_buf_push_i32(b->columns, UT_ID_NONE);
}

/* A text token with Y_i: the beginning, then the reference's frames. */
static void put_reference(body *b, int32_t text, const ut_reference *r, int32_t i)
{
    if (i == 0) {
        put(b, text, b->config->codec_bos);
        return;
    }
    const int32_t n = b->config->num_code_groups;
    b->ok = b->ok && ut_buf_push_i32(b->columns, text) &&
            ut_buf_append(b->columns, r->codes + (size_t)(i - 1) * (size_t)n,
                          (size_t)n * sizeof *r->codes);
}

/* Role, language and speaker. */
static void put_head(body *b, const int32_t *role, int32_t language, int32_t speaker)
{
    const ut_q3_config *c = b->config;
    for (int i = 0; i < 3; i++)
        put(b, role[i], UT_ID_NONE);
    put(b, c->tts_pad, language == UT_ID_NONE ? c->codec_nothink : c->codec_think);
    put(b, c->tts_pad, c->codec_think_bos);
    if (language != UT_ID_NONE)
        put(b, c->tts_pad, language);
    put(b, c->tts_pad, c->codec_think_eos);
    if (speaker != UT_ID_NONE)
        put(b, c->tts_pad, speaker);
    put(b, c->tts_bos, c->codec_pad);
}

/* ids: X, the text with its end; along: see ut_feed. */
static void put_text(body *b, const int32_t *ids, size_t n, bool along, ut_buf *later)
{
    const ut_q3_config *c = b->config;
    if (along) {
        put(b, ids[0], c->codec_bos);
        b->ok = b->ok && ut_buf_append(later, ids + 1, (n - 1) * sizeof *ids);
        return;
    }
    for (size_t i = 0; i < n; i++)
        put(b, ids[i], c->codec_pad);
    put(b, c->tts_pad, c->codec_bos);
}

/* Columns of text and reference that the reference alone decides: those of its text, less than all
 * where text goes along. */
static int32_t n_shared(size_t n_ref, const ut_reference *r, bool along)
{
    return along && r && n_ref > (size_t)r->n_frames ? r->n_frames : (int32_t)n_ref;
}

static void put_in_context(body *b, const int32_t *ids, size_t n, const ut_reference *r, bool along,
                           ut_buf *later)
{
    const ut_q3_config *c = b->config;
    const size_t n_y = (size_t)r->n_frames + 1;
    for (size_t i = 0; !along && i < n; i++)
        put(b, ids[i], c->codec_pad);
    for (size_t i = 0; i < n_y; i++)
        put_reference(b, along && i < n ? ids[i] : c->tts_pad, r, (int32_t)i);
    if (along && n > n_y)
        b->ok = b->ok && ut_buf_append(later, ids + n_y, (n - n_y) * sizeof *ids);
}

/* ---- The whole prompt ----------------------------------------------------------------------- */

utter_status ut_q3_text(const ut_q3_writer *w, const char *text, bool open, ut_buf *ids,
                        ut_err *err)
{
    const size_t before = ids->len;
    const utter_status st = encode(w, without_leading_space(text), ids, err);
    if (st != UTTER_OK)
        return st;
    if (ids->len == before)
        return ut_fail(err, UTTER_ERR_TEXT, "there is nothing to speak in the text");
    return open || ut_buf_push_i32(ids, w->config->tts_eos) ? UTTER_OK : no_memory(err);
}

/* ids of the reference's text, where codes go with it (*n_ref of them), and of the text, then its
 * end. */
static utter_status encode_text(const ut_q3_writer *w, const ut_request *r, bool in_context,
                                ut_buf *text, size_t *n_ref, ut_err *err)
{
    utter_status st = UTTER_OK;
    if (in_context)
        st = encode(w, without_leading_space(r->refs[0].text), text, err);
    *n_ref = ut_buf_n_i32(text);
    return st == UTTER_OK ? ut_q3_text(w, r->text, r->open, text, err) : st;
}

static utter_status put_instruct(const ut_q3_writer *w, body *b, const char *instruct, ut_err *err)
{
    ut_buf ids;
    ut_buf_init(&ids, MAX_IDS);
    const utter_status st = ut_q3_wrap(w, 'i', instruct, &ids, err);
    for (size_t i = 0; st == UTTER_OK && i < ut_buf_n_i32(&ids); i++)
        put(b, ut_buf_i32(&ids)[i], UT_ID_NONE);
    ut_buf_free(&ids);
    return st;
}

utter_status ut_q3_prompt(const ut_q3_writer *w, const ut_request *r, ut_prompt *out, ut_err *err)
{
    const ut_q3_config *c = w->config;
    const ut_q3_name_id *speaker = NULL;
    int32_t language;
    utter_status st = c->kind == UT_Q3_BASE           ? check_base(r, err)
                      : c->kind == UT_Q3_CUSTOM_VOICE ? check_custom(c, r, &speaker, err)
                                                      : check_design(r, err);
    if (st == UTTER_OK)
        st = find_language(c, r->language, speaker, &language, err);
    if (st != UTTER_OK)
        return st;
    const ut_reference *ref = r->n_refs ? &r->refs[0] : NULL;
    const bool in_context = ref && ref->n_frames > 0 && ref->text && ref->text[0];
    const bool along =
        r->feed == UT_FEED_DEFAULT ? c->kind == UT_Q3_BASE : r->feed == UT_FEED_ALONG;
    if (r->open && (in_context || !along))
        return ut_fail(err, UTTER_ERR_UNSUPPORTED, "the text has to be complete: it is needed %s",
                       along ? "beside the reference" : "in front");
    if (in_context)
        st = check_codes(w, ref, err);

    ut_buf role, text;
    size_t n_ref = 0;
    ut_buf_init(&role, MAX_IDS);
    ut_buf_init(&text, MAX_IDS);
    body b = {c, &out->columns, true};
    if (st == UTTER_OK)
        st = put_role(w, &role, err);
    if (st == UTTER_OK)
        st = encode_text(w, r, in_context, &text, &n_ref, err);
    if (st == UTTER_OK && r->instruct && r->instruct[0])
        st = put_instruct(w, &b, r->instruct, err);
    if (st == UTTER_OK) {
        put_head(&b, ut_buf_i32(&role), language,
                 speaker ? speaker->id
                 : ref   ? UT_ID_EXTRA
                         : UT_ID_NONE);
        out->n_context = in_context ? ref->n_frames : 0;
        out->n_prefix = n_columns(&b) + n_shared(n_ref, ref, along);
        if (in_context)
            put_in_context(&b, ut_buf_i32(&text), ut_buf_n_i32(&text), ref, along, &out->later);
        else
            put_text(&b, ut_buf_i32(&text), ut_buf_n_i32(&text), along, &out->later);
        if (ref)
            b.ok = b.ok && ut_buf_append(&out->embedding, ref->embedding,
                                         (size_t)c->talker.hidden_size * sizeof(float));
        if (!b.ok)
            st = no_memory(err);
    }
    ut_buf_free(&role);
    ut_buf_free(&text);
    return st;
}
