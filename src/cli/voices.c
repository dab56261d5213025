/* voices.c - `utter voices`: list, show, add and remove stored voices. */
#include "base/alloc.h"
#include "base/json.h"
#include "base/os.h"
#include "cli/cli.h"
#include <stdio.h>
#include <string.h>

typedef struct voices {
    const ut_command *command;
    ut_engine_options engine_options;
    const char *text, *description, *language, *output;
    bool json;
} voices;

/* ---- Listing -------------------------------------------------------------------------------- */

static void print_voice(const utter_voice_info *v)
{
    if (v->is_speaker) {
        printf("%-20s  %-6s  speaker of the model%s%s\n", v->name, "-",
               v->language[0] ? ", speaks " : "", v->language);
        return;
    }
    printf("%-20s  %-6s  %6d frames  %-5s  %s\n", v->name, v->language[0] ? v->language : "-",
           (int)v->n_frames, v->of_user ? "user" : "model",
           v->error[0] ? v->error : v->description);
}

static void put_voice(ut_json_writer *w, const char *key, const utter_voice_info *v)
{
    ut_json_begin_object(w, key);
    ut_json_put_string(w, "name", v->name);
    ut_json_put_string(w, "description", v->description);
    ut_json_put_string(w, "language", v->language);
    ut_json_put_string(w, "text", v->text);
    ut_json_put_int(w, "n_frames", v->n_frames);
    ut_json_put_int(w, "n_codebooks", v->n_codebooks);
    ut_json_put_int(w, "n_embedding", v->n_embedding);
    ut_json_put_bool(w, "is_speaker", v->is_speaker != 0);
    ut_json_put_string(w, "family", v->family);
    ut_json_put_string(w, "codec", v->codec_id);
    ut_json_put_bool(w, "of_user", v->of_user != 0);
    ut_json_put_string(w, "path", v->path);
    ut_json_put_string(w, "error", v->error[0] ? v->error : NULL);
    ut_json_end(w);
}

static bool print_json_list(const utter_voice_list *list)
{
    ut_buf text;
    ut_json_writer w;
    ut_buf_init(&text, UT_JSON_MAX_BYTES);
    ut_json_writer_init(&w, &text, 2);
    ut_json_begin_array(&w, NULL);
    for (size_t i = 0; i < utter_voice_list_count(list); i++) {
        utter_voice_info v;
        utter_voice_info_init(&v);
        if (utter_voice_list_get(list, i, &v) == UTTER_OK)
            put_voice(&w, NULL, &v);
    }
    bool ok = ut_json_end_all(&w) && printf("%s\n", (const char *)text.data) > 0;
    ut_buf_free(&text);
    return ok;
}

/* Voices of the user and of the model that would be used; without a model, only the user's. */
static utter_status open_list(const voices *o, utter_voice_list **out)
{
    char *model = ut_cli_find_model(o->engine_options.model);
    utter_status st = utter_voice_list_open(model, out);
    ut_free(model);
    return st;
}

static int list_voices(const voices *o, int argc, char **argv)
{
    (void)argv;
    utter_voice_list *list;
    if (argc > 0)
        return ut_cli_usage(o->command, "voices list takes no arguments");
    if (open_list(o, &list) != UTTER_OK)
        return ut_cli_fail("%s", utter_last_error(NULL));
    int code = UT_EXIT_OK;
    if (o->json) {
        if (!print_json_list(list))
            code = ut_cli_fail("the list cannot be written");
    } else {
        for (size_t i = 0; i < utter_voice_list_count(list); i++) {
            utter_voice_info v;
            utter_voice_info_init(&v);
            if (utter_voice_list_get(list, i, &v) == UTTER_OK)
                print_voice(&v);
        }
        if (utter_voice_list_languages(list)[0])
            printf("languages: %s\n", utter_voice_list_languages(list));
        if (utter_voice_list_count(list) == 0)
            printf("no voices; `utter voices add NAME CLIP --text \"...\"` makes one\n");
    }
    utter_voice_list_free(list);
    return code;
}

/* The first voice of a name in the list: the one that would be used. */
static bool find_voice(const utter_voice_list *list, const char *name, utter_voice_info *v)
{
    for (size_t i = 0; i < utter_voice_list_count(list); i++) {
        utter_voice_info_init(v);
        if (utter_voice_list_get(list, i, v) == UTTER_OK && strcmp(v->name, name) == 0)
            return true;
    }
    return false;
}

/* ---- Showing -------------------------------------------------------------------------------- */

/* What the model hears of the voice, as a sound file. */
static int write_preview(const voices *o, const char *name)
{
    utter_engine *e;
    utter_voice *v = NULL;
    utter_audio *a = NULL;
    int code = ut_cli_open_engine(o->command, &o->engine_options, &e);
    if (code != UT_EXIT_OK)
        return code;
    if (utter_voice_find(e, name, &v) != UTTER_OK || utter_voice_preview(e, v, &a) != UTTER_OK)
        code = ut_cli_fail("%s", utter_last_error(e));
    else if (utter_audio_write(a, o->output) != UTTER_OK)
        code = ut_cli_fail("%s", utter_last_error(NULL));
    utter_audio_free(a);
    utter_voice_free(v);
    utter_engine_close(e);
    return code;
}

static void show(const utter_voice_info *v)
{
    const struct {
        const char *label, *value;
    } lines[] = {{"name", v->name},         {"description", v->description},
                 {"language", v->language}, {"text", v->text},
                 {"family", v->family},     {"codec", v->codec_id},
                 {"file", v->path},         {"error", v->error}};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        if (lines[i].value[0])
            printf("%-13s%s\n", lines[i].label, lines[i].value);
    if (!v->is_speaker)
        printf("%-13s%d frames of %d codebooks\n", "recording", (int)v->n_frames,
               (int)v->n_codebooks);
}

static int show_voice(const voices *o, int argc, char **argv)
{
    if (argc != 1)
        return ut_cli_usage(o->command, "voices show takes one name");
    utter_voice_list *list;
    if (open_list(o, &list) != UTTER_OK)
        return ut_cli_fail("%s", utter_last_error(NULL));
    utter_voice_info v;
    int code = UT_EXIT_OK;
    if (!find_voice(list, argv[0], &v)) {
        code = ut_cli_fail("no voice \"%s\"; see `utter voices`", argv[0]);
    } else if (o->json) {
        ut_buf text;
        ut_json_writer w;
        ut_buf_init(&text, UT_JSON_MAX_BYTES);
        ut_json_writer_init(&w, &text, 2);
        put_voice(&w, NULL, &v);
        if (!ut_json_end_all(&w) || printf("%s\n", (const char *)text.data) < 0)
            code = ut_cli_fail("the voice cannot be written");
        ut_buf_free(&text);
    } else {
        show(&v);
    }
    utter_voice_list_free(list);
    return code == UT_EXIT_OK && o->output ? write_preview(o, argv[0]) : code;
}

/* ---- Adding and removing -------------------------------------------------------------------- */

/* A voice of the user is never overwritten. */
static int check_is_new(const char *name)
{
    utter_voice_list *list;
    utter_voice_info v;
    if (utter_voice_list_open(NULL, &list) != UTTER_OK)
        return ut_cli_fail("%s", utter_last_error(NULL));
    bool there = find_voice(list, name, &v);
    utter_voice_list_free(list);
    return there ? ut_cli_fail("there is a voice \"%s\" already; `utter voices rm %s` removes it",
                               name, name)
                 : UT_EXIT_OK;
}

static int add_voice(const voices *o, int argc, char **argv)
{
    if (argc != 2)
        return ut_cli_usage(o->command, "voices add takes a name and a recording");
    int code = check_is_new(argv[0]);
    utter_engine *e = NULL;
    utter_voice *v = NULL;
    if (code == UT_EXIT_OK)
        code = ut_cli_open_engine(o->command, &o->engine_options, &e);
    if (code != UT_EXIT_OK)
        return code;
    utter_voice_params p;
    utter_voice_params_init(&p);
    p.name = argv[0];
    p.path = argv[1];
    p.text = o->text;
    p.description = o->description;
    p.language = o->language;
    const utter_status st = utter_voice_create(e, &p, &v);
    if (st == UTTER_ERR_ARG && !o->text)
        code = ut_cli_usage(o->command, "voices add needs --text: what does the recording say?");
    else if (st != UTTER_OK)
        code = ut_cli_fail("%s", utter_last_error(e));
    else if (utter_voice_save(v, NULL) != UTTER_OK)
        code = ut_cli_fail("%s", utter_last_error(NULL));
    utter_voice_free(v);
    utter_engine_close(e);
    return code;
}

static int remove_voice(const voices *o, int argc, char **argv)
{
    if (argc != 1)
        return ut_cli_usage(o->command, "voices rm takes one name");
    return utter_voice_remove(argv[0]) == UTTER_OK ? UT_EXIT_OK
                                                   : ut_cli_fail("%s", utter_last_error(NULL));
}

static int run(const ut_command *self, int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(const voices *o, int argc, char **argv);
    } actions[] = {
        {"list", list_voices}, {"show", show_voice}, {"add", add_voice}, {"rm", remove_voice}};
    voices o = {.command = self};
    const ut_option options[] = {
        {0, "text", "TEXT", "add: what the recording says", UT_OPTION_STRING, &o.text, 0, 0},
        {0, "description", "TEXT", "add: a note for the list", UT_OPTION_STRING, &o.description, 0,
         0},
        {0, "language", "CODE", "add: what is spoken, such as en", UT_OPTION_STRING, &o.language, 0,
         0},
        {'o', "output", "FILE", "show: write what the model hears of the voice", UT_OPTION_STRING,
         &o.output, 0, 0},
        UT_ENGINE_OPTIONS(&o.engine_options),
        {'j', "json", NULL, "list, show: as JSON", UT_OPTION_FLAG, &o.json, 0, 0},
    };
    int n_rest;
    int code =
        ut_options_parse(self, options, sizeof options / sizeof options[0], argc, argv, &n_rest);
    if (code >= 0)
        return code;
    if (n_rest == 0)
        return list_voices(&o, 0, argv);
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++)
        if (strcmp(argv[0], actions[i].name) == 0)
            return actions[i].run(&o, n_rest - 1, argv + 1);
    return ut_cli_usage(self, "voices %s: expected list, show, add or rm", argv[0]);
}

const ut_command ut_command_voices = {
    .name = "voices",
    .arguments = "[list | show NAME | add NAME CLIP --text TEXT | rm NAME]",
    .summary = "list, show, add and remove voices",
    .details = "Voices are kept in the user's data folder (~/.local/share/utter/voices or\n"
               "%LOCALAPPDATA%\\utter\\voices). A recording of 5 to 20 seconds of clear speech by\n"
               "one person does best; any sample rate and number of channels will do.\n",
    .run = run,
};
