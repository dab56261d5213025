/* engine_options.c - from the options of a command to an opened engine: which model, and how. */
#include "cli/cli.h"
#include "base/alloc.h"
#include "base/os.h"
#include <stdlib.h>
#include <string.h>

#define LEVELS_UP 4 /* from the program's folder: DIR/bin/utter, BUILD/src/cli/utter */

/* The first model directory in a folder of models, newly allocated, or NULL. */
static char *first_model(const char *folder)
{
    char **names, *found = NULL;
    size_t n;
    if (!ut_dir_exists(folder) || ut_list_dir(folder, &names, &n, NULL) != UTTER_OK)
        return NULL;
    for (size_t i = 0; i < n && !found; i++) {
        char *dir = ut_path_join(folder, names[i]);
        char *config = dir ? ut_path_join(dir, "config.json") : NULL;
        if (config && ut_file_exists(config)) {
            found = dir;
            dir = NULL;
        }
        ut_free(config);
        ut_free(dir);
    }
    ut_list_free(names, n);
    return found;
}

/* Installed: PREFIX/bin/utter and PREFIX/share/utter/voices. Not installed: voices/ beside or
 * above the program, as in the source tree and in an unpacked release. */
static char *model_beside_program(void)
{
    char *dir = ut_exe_dir(), *found = NULL;
    for (int level = 0; dir && level < LEVELS_UP && !found; level++) {
        char *installed = ut_path_join(dir, "share/utter/voices");
        char *beside = ut_path_join(dir, "voices");
        if (installed)
            found = first_model(installed);
        if (!found && beside)
            found = first_model(beside);
        ut_free(installed);
        ut_free(beside);
        char *end = dir + strlen(dir);
        while (end > dir && *end != '/' && *end != '\\')
            end--;
        if (end == dir)
            break;
        *end = 0;
    }
    ut_free(dir);
    return found;
}

char *ut_cli_find_model(const char *given)
{
    if (!given)
        given = getenv("UTTER_MODEL");
    return given && given[0] ? ut_strdup(given) : model_beside_program();
}

static const char *const precisions[] = {[UTTER_PRECISION_AUTO] = "auto",
                                         [UTTER_PRECISION_F32] = "f32",
                                         [UTTER_PRECISION_BF16] = "bf16",
                                         [UTTER_PRECISION_F16] = "f16",
                                         [UTTER_PRECISION_INT8] = "int8",
                                         [UTTER_PRECISION_INT4] = "int4",
                                         NULL};
static const char *const attentions[] = {[UTTER_ATTENTION_AUTO] = "auto",
                                         [UTTER_ATTENTION_FLASH] = "flash",
                                         [UTTER_ATTENTION_MATH] = "math",
                                         NULL};

/* One of the names, by its number; none given changes nothing. */
static bool choose(const char *s, const char *const *names, int32_t *out)
{
    for (int32_t i = 0; s && names[i]; i++)
        if (strcmp(s, names[i]) == 0) {
            *out = i;
            return true;
        }
    return !s;
}

int ut_cli_open_engine(const ut_command *c, const ut_engine_options *o, utter_engine **out)
{
    *out = NULL;
    utter_engine_params p;
    utter_engine_params_init(&p);
    p.backend = o->backend;
    p.threads = o->threads;
    p.max_positions = o->max_positions;
    p.exact_head = o->exact_head;
    p.prefix_cache_bytes = (int64_t)o->prefix_cache_mb << 20;
    p.device = o->device;
    if (!choose(o->precision, precisions, &p.precision))
        return ut_cli_usage(c, "--precision %s: expected auto, f32, bf16, f16, int8 or int4",
                            o->precision);
    if (!choose(o->attention, attentions, &p.attention))
        return ut_cli_usage(c, "--attention %s: expected auto, flash or math", o->attention);
    char *model = ut_cli_find_model(o->model);
    if (!model)
        return ut_cli_fail("no model: give --model DIR or set UTTER_MODEL");
    int code = UT_EXIT_OK;
    if (utter_engine_open(model, &p, out) != UTTER_OK)
        code = ut_cli_fail("%s", utter_last_error(NULL));
    ut_free(model);
    return code;
}
