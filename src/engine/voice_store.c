/* voice_store.c - stored voices: those of the user (data folder/voices/NAME.json) and those that a
 * model brings (MODEL/voices/NAME.json). */
#include "base/alloc.h"
#include "base/os.h"
#include "engine/engine.h"
#include "engine/params.h"
#include "engine/voice.h"
#include <string.h>

#define INFO_OLDEST UT_SIZE_UPTO(utter_voice_info, error)

/* The user's folder of voices, newly allocated. */
static utter_status user_folder(char **out, ut_err *err)
{
    char *dir = ut_user_data_dir();
    *out = dir ? ut_path_join(dir, "voices") : NULL;
    utter_status st = UTTER_OK;
    if (!dir)
        st = ut_fail(err, UTTER_ERR_NOT_FOUND,
                     "the system names no folder for a user's data (no home directory)");
    else if (!*out)
        st = ut_fail(err, UTTER_ERR_NOMEM, "no memory for a path");
    ut_free(dir);
    return st;
}

/* FOLDER/NAME.json, newly allocated. */
static utter_status voice_path(char **out, const char *folder, const char *name, ut_err *err)
{
    *out = ut_asprintf("%s/%s.json", folder, name);
    return *out ? UTTER_OK : ut_fail(err, UTTER_ERR_NOMEM, "no memory for a path");
}

/* If name is that of a voice file, cut the extension off. */
static bool voice_name(char *name)
{
    size_t n = strlen(name);
    if (n < 6 || strcmp(name + n - 5, ".json") != 0)
        return false;
    name[n - 5] = 0;
    return ut_voice_name_ok(name);
}

/* ---- Lists ---------------------------------------------------------------------------------- */

typedef struct entry {
    utter_voice *voice;
    bool of_user;
    char error[256]; /* "" when the file can be used */
} entry;

struct utter_voice_list {
    entry *entries;
    size_t n;
    char *languages; /* NULL: none */
};

static utter_status add_entry(utter_voice_list *list, const char *path, const char *name,
                              bool of_user, ut_err *err)
{
    entry *more = ut_realloc(list->entries, list->n + 1, sizeof *more);
    if (!more)
        return ut_fail(err, UTTER_ERR_NOMEM, "no memory for a list of voices");
    list->entries = more;
    entry *en = &list->entries[list->n];
    memset(en, 0, sizeof *en);
    en->of_user = of_user;
    ut_err why = {0};
    utter_status st = ut_voice_read(&en->voice, path, name, &why);
    if (st == UTTER_ERR_NOMEM)
        return ut_fail(err, st, "%s", why.msg);
    if (st != UTTER_OK) { /* listed with the reason */
        memcpy(en->error, why.msg, sizeof en->error - 1);
        st = ut_voice_new(&en->voice, name, NULL, NULL, NULL, err);
        if (st == UTTER_OK)
            st = ut_voice_set(&en->voice->path, path, err);
    }
    if (st == UTTER_OK)
        list->n++;
    else
        utter_voice_free(en->voice);
    return st;
}

/* Append the voices of a folder; one that does not exist has none. */
static utter_status add_folder(utter_voice_list *list, const char *folder, bool of_user,
                               ut_err *err)
{
    char **names = NULL;
    size_t n = 0;
    if (!ut_dir_exists(folder))
        return UTTER_OK;
    utter_status st = ut_list_dir(folder, &names, &n, err);
    for (size_t i = 0; i < n && st == UTTER_OK; i++) {
        if (!voice_name(names[i]))
            continue;
        char *path;
        st = voice_path(&path, folder, names[i], err);
        if (st == UTTER_OK)
            st = add_entry(list, path, names[i], of_user, err);
        ut_free(path);
    }
    ut_list_free(names, n);
    return st;
}

/* The speakers and languages of the family that knows a model directory; none if nobody does. */
static utter_status find_speakers(const char *model_dir, ut_speaker_list *out, ut_err *err)
{
    *out = (ut_speaker_list){0};
    const ut_model_ops *family;
    const utter_status st = ut_model_family_of(model_dir, &family, err);
    return st == UTTER_OK && family && family->speakers ? family->speakers(model_dir, out, err)
                                                        : st;
}

static utter_status new_speaker(utter_voice **out, const ut_speaker *s, ut_err *err)
{
    utter_status st = ut_voice_new(out, s->name, "speaker of the model", s->dialect, NULL, err);
    if (st == UTTER_OK)
        (*out)->is_speaker = true;
    return st;
}

/* Append the model's own speakers; remember its languages. */
static utter_status add_speakers(utter_voice_list *list, const char *model_dir, ut_err *err)
{
    ut_speaker_list speakers;
    utter_status st = find_speakers(model_dir, &speakers, err);
    for (size_t i = 0; i < speakers.n && st == UTTER_OK; i++) {
        entry *more = ut_realloc(list->entries, list->n + 1, sizeof *more);
        if (!more) {
            st = ut_fail(err, UTTER_ERR_NOMEM, "no memory for a list of voices");
            break;
        }
        list->entries = more;
        more[list->n] = (entry){0};
        st = new_speaker(&more[list->n].voice, &speakers.speakers[i], err);
        list->n += st == UTTER_OK;
    }
    if (st == UTTER_OK && speakers.languages && !(list->languages = ut_strdup(speakers.languages)))
        st = ut_fail(err, UTTER_ERR_NOMEM, "no memory for a list of voices");
    ut_speaker_list_free(&speakers);
    return st;
}

utter_status utter_voice_list_open(const char *model_dir, utter_voice_list **out)
{
    ut_err *err = ut_api_err(NULL);
    if (!out)
        return ut_fail_null(err, "utter_voice_list_open", "out");
    *out = NULL;
    char *user = NULL, *of_model = NULL;
    utter_status st = UTTER_OK;
    utter_voice_list *list = ut_calloc(1, sizeof *list);
    if (!list)
        return ut_fail(err, UTTER_ERR_NOMEM, "no memory for a list of voices");
    /* Without a home directory there are simply no voices of the user. */
    if (user_folder(&user, NULL) == UTTER_OK)
        st = add_folder(list, user, true, err);
    if (st == UTTER_OK && model_dir) {
        if (!ut_dir_exists(model_dir)) {
            st = ut_fail(err, UTTER_ERR_NOT_FOUND, "%s: no such model directory", model_dir);
            goto done;
        }
        of_model = ut_path_join(model_dir, "voices");
        st = of_model ? add_folder(list, of_model, false, err)
                      : ut_fail(err, UTTER_ERR_NOMEM, "no memory for a path");
        if (st == UTTER_OK)
            st = add_speakers(list, model_dir, err);
    }
    if (st == UTTER_OK) {
        *out = list;
        list = NULL; /* handed over */
    }
done:
    utter_voice_list_free(list);
    ut_free(user);
    ut_free(of_model);
    return st;
}

const char *utter_voice_list_languages(const utter_voice_list *list)
{
    return list && list->languages ? list->languages : "";
}

size_t utter_voice_list_count(const utter_voice_list *list)
{
    return list ? list->n : 0;
}

utter_status utter_voice_list_get(const utter_voice_list *list, size_t i, utter_voice_info *info)
{
    ut_err *err = ut_api_err(NULL);
    if (!list || !info)
        return ut_fail_null(err, "utter_voice_list_get", list ? "info" : "list");
    if (i >= list->n)
        return ut_fail(err, UTTER_ERR_ARG, "voice %zu of a list of %zu", i, list->n);
    const entry *en = &list->entries[i];
    utter_voice_info v;
    utter_voice_info_init(&v);
    utter_status st = utter_voice_get_info(en->voice, &v);
    if (st != UTTER_OK)
        return st;
    v.of_user = en->of_user;
    v.error = en->error;
    return ut_struct_write(info, INFO_OLDEST, &v, sizeof v, "utter_voice_info", err);
}

void utter_voice_list_free(utter_voice_list *list)
{
    if (!list)
        return;
    for (size_t i = 0; i < list->n; i++)
        utter_voice_free(list->entries[i].voice);
    ut_free(list->entries);
    ut_free(list->languages);
    ut_free(list);
}

/* ---- One voice ------------------------------------------------------------------------------ */

/* ERR_NOT_FOUND with the names that there are. */
static utter_status fail_unknown(const utter_engine *e, const char *name, ut_err *err)
{
    char names[400] = "none";
    size_t used = 0;
    utter_voice_list *list;
    if (utter_voice_list_open(e->model_dir, &list) == UTTER_OK) {
        for (size_t i = 0; i < list->n && used + UT_VOICE_NAME_MAX + 2 < sizeof names; i++)
            used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "",
                                     list->entries[i].voice->name);
        utter_voice_list_free(list);
    }
    return ut_fail(err, UTTER_ERR_NOT_FOUND, "no voice \"%s\"; there are: %s", name, names);
}

/* Read FOLDER/NAME.json if it is there; *out stays NULL if not. */
static utter_status read_from(utter_voice **out, const char *folder, const char *name, ut_err *err)
{
    char *path;
    utter_status st = voice_path(&path, folder, name, err);
    if (st == UTTER_OK && ut_file_exists(path))
        st = ut_voice_read(out, path, name, err);
    ut_free(path);
    return st;
}

static utter_status read_of_model(utter_engine *e, const char *name, utter_voice **out, ut_err *err)
{
    char *folder = ut_path_join(e->model_dir, "voices");
    utter_status st = folder ? read_from(out, folder, name, err)
                             : ut_fail(err, UTTER_ERR_NOMEM, "no memory for a path");
    ut_free(folder);
    return st;
}

/* One of the model's own speakers, whatever the case of letters; *out stays NULL if there is none
 * of that name. */
static utter_status find_speaker(const utter_engine *e, const char *name, utter_voice **out,
                                 ut_err *err)
{
    ut_speaker_list speakers;
    if (!(e->model->voices & UT_VOICE_SPEAKER))
        return UTTER_OK;
    utter_status st = find_speakers(e->model_dir, &speakers, err);
    for (size_t i = 0; i < speakers.n && st == UTTER_OK && !*out; i++) {
        const char *a = speakers.speakers[i].name, *b = name;
        for (; *a && *b; a++, b++)
            if (*a != (*b >= 'A' && *b <= 'Z' ? *b + ('a' - 'A') : *b))
                break;
        if (!*a && !*b)
            st = new_speaker(out, &speakers.speakers[i], err);
    }
    ut_speaker_list_free(&speakers);
    return st;
}

utter_status utter_voice_find(utter_engine *e, const char *name, utter_voice **out)
{
    ut_err *err = ut_api_err(e);
    if (out)
        *out = NULL;
    if (!e || !name || !out)
        return ut_fail_null(err, "utter_voice_find", !e ? "engine" : !out ? "out" : "name");
    utter_voice *v = NULL;
    char *user = NULL;
    utter_status st = ut_voice_check_name(name, err);
    if (st == UTTER_OK && user_folder(&user, NULL) == UTTER_OK)
        st = read_from(&v, user, name, err);
    ut_free(user);
    if (st == UTTER_OK && !v)
        st = read_of_model(e, name, &v, err);
    if (st == UTTER_OK && !v)
        st = find_speaker(e, name, &v, err);
    if (st == UTTER_OK && !v)
        st = fail_unknown(e, name, err);
    if (st == UTTER_OK)
        st = ut_voice_check(e, v, err);
    if (st != UTTER_OK) {
        utter_voice_free(v);
        return st;
    }
    *out = v;
    return UTTER_OK;
}

utter_status ut_voice_open_default(utter_engine *e, ut_err *err)
{
    char *folder = ut_path_join(e->model_dir, "voices");
    if (!folder)
        return ut_fail(err, UTTER_ERR_NOMEM, "no memory for a path");
    char **names = NULL;
    size_t n = 0;
    utter_status st = UTTER_OK;
    const char *wanted = e->model->defaults.voice, *first = NULL;
    if (!wanted && ut_dir_exists(folder)) {
        st = ut_list_dir(folder, &names, &n, err);
        for (size_t i = 0; i < n && st == UTTER_OK; i++) {
            if (!voice_name(names[i]))
                continue;
            if (!first || strcmp(names[i], "default") == 0)
                first = names[i];
        }
        wanted = first;
    }
    if (st == UTTER_OK && wanted) {
        st = read_from(&e->voice, folder, wanted, err);
        if (st == UTTER_OK && !e->voice)
            st = find_speaker(e, wanted, &e->voice, err);
        if (st == UTTER_OK && !e->voice)
            st = ut_fail(err, UTTER_ERR_MODEL, "%s: the default voice \"%s\" is missing", folder,
                         wanted);
        if (st == UTTER_OK)
            st = ut_voice_check(e, e->voice, err);
    }
    ut_list_free(names, n);
    ut_free(folder);
    return st;
}

utter_status utter_voice_load(const char *path, utter_voice **out)
{
    ut_err *err = ut_api_err(NULL);
    if (out)
        *out = NULL;
    if (!path || !out)
        return ut_fail_null(err, "utter_voice_load", out ? "path" : "out");
    return ut_voice_read(out, path, NULL, err);
}

utter_status utter_voice_save(const utter_voice *v, const char *path)
{
    ut_err *err = ut_api_err(NULL);
    if (!v)
        return ut_fail_null(err, "utter_voice_save", "voice");
    if (path)
        return ut_voice_write(v, path, err);
    char *folder = NULL, *own = NULL;
    utter_status st = ut_voice_check_name(v->name, err);
    if (st == UTTER_OK)
        st = user_folder(&folder, err);
    if (st == UTTER_OK)
        st = voice_path(&own, folder, v->name, err);
    if (st == UTTER_OK)
        st = ut_voice_write(v, own, err);
    ut_free(own);
    ut_free(folder);
    return st;
}

utter_status utter_voice_remove(const char *name)
{
    ut_err *err = ut_api_err(NULL);
    if (!name)
        return ut_fail_null(err, "utter_voice_remove", "name");
    char *folder = NULL, *path = NULL;
    utter_status st = ut_voice_check_name(name, err);
    if (st == UTTER_OK)
        st = user_folder(&folder, err);
    if (st == UTTER_OK)
        st = voice_path(&path, folder, name, err);
    if (st == UTTER_OK)
        st = ut_file_exists(path)
                 ? ut_remove(path, err)
                 : ut_fail(err, UTTER_ERR_NOT_FOUND, "no voice \"%s\" of yours (%s)", name, folder);
    ut_free(path);
    ut_free(folder);
    return st;
}
