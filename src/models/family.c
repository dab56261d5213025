/* family.c - the list of model families, opening a directory with the one that knows it, and the
 * small objects that all families share. */
#include "base/alloc.h"
#include "base/arena.h"
#include "base/os.h"
#include "models/config_file.h"
#include "models/model.h"
#include "models/qwen3_tts/qwen3_tts.h"
#include "models/s1_mini/s1_mini.h"
#include <stdio.h>
#include <string.h>

static const ut_model_ops *const families[] = {&ut_s1_mini_ops, &ut_qwen3_tts_ops, NULL};

utter_status ut_model_family_of(const char *dir, const ut_model_ops **out, ut_err *err)
{
    *out = NULL;
    ut_json *doc = NULL;
    ut_err why = {0};
    const char *type = NULL;
    utter_status st = ut_config_open(&doc, dir, "config.json", &why);
    if (st == UTTER_OK)
        st = ut_json_get_string(ut_json_member(ut_json_root(doc), "model_type"), &type, &why);
    for (const ut_model_ops *const *f = families; st == UTTER_OK && *f; f++)
        if (strcmp(type, (*f)->model_type) == 0)
            *out = *f;
    ut_json_free(doc);
    return st == UTTER_ERR_NOMEM ? ut_fail(err, st, "%s", why.msg) : UTTER_OK;
}

utter_status ut_model_open(ut_model **out, const char *dir, const ut_model_options *options,
                           ut_err *err)
{
    *out = NULL;
    if (!ut_dir_exists(dir))
        return ut_fail(err, UTTER_ERR_NOT_FOUND, "%s: no such directory, expected a checkpoint",
                       dir);
    const ut_model_ops *ops;
    const utter_status st = ut_model_family_of(dir, &ops, err);
    if (st != UTTER_OK)
        return st;
    if (ops)
        return ops->open(out, dir, options, err);
    char known[256] = "";
    size_t n = 0;
    for (const ut_model_ops *const *f = families; *f && n < sizeof known; f++)
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", n ? ", " : "", (*f)->family);
    return ut_fail(err, UTTER_ERR_MODEL,
                   "%s: config.json is missing or of no model family that utter knows (%s)", dir,
                   known);
}

void ut_model_free(ut_model *m)
{
    if (m)
        m->ops->free(m);
}

/* ---- Prompts and speakers ------------------------------------------------------------------- */

#define MAX_PROMPT ((size_t)1 << 28) /* bytes of each buffer */

void ut_prompt_init(ut_prompt *p)
{
    ut_buf_init(&p->columns, MAX_PROMPT);
    ut_buf_init(&p->later, MAX_PROMPT);
    ut_buf_init(&p->embedding, MAX_PROMPT);
    p->n_context = p->n_prefix = 0;
}

void ut_prompt_clear(ut_prompt *p)
{
    ut_buf_clear(&p->columns);
    ut_buf_clear(&p->later);
    ut_buf_clear(&p->embedding);
    p->n_context = p->n_prefix = 0;
}

void ut_prompt_free(ut_prompt *p)
{
    ut_buf_free(&p->columns);
    ut_buf_free(&p->later);
    ut_buf_free(&p->embedding);
}

void ut_speaker_list_free(ut_speaker_list *l)
{
    ut_free(l->speakers);
    ut_arena_free(l->arena);
    *l = (ut_speaker_list){0};
}
