/* cli.h - what the subcommands of `utter` share: the option parser, messages, exit codes, and
 * opening an engine. The engine itself is used through utter.h only. */
#ifndef UT_CLI_CLI_H
#define UT_CLI_CLI_H

#include "base/err.h"
#include "utter.h"
#include <stdbool.h>
#include <stddef.h>

enum {
    UT_EXIT_OK = 0,
    UT_EXIT_FAILURE = 1,      /* the message says what */
    UT_EXIT_USAGE = 2,        /* unknown option, value out of range, missing argument */
    UT_EXIT_INTERRUPTED = 130 /* Ctrl-C; what was made until then is kept */
};

typedef struct ut_command {
    const char *name;
    const char *arguments; /* "[TEXT ... | -f FILE | -]" */
    const char *summary;   /* one line */
    const char *details;   /* lines for --help after the options, or NULL */
    int (*run)(const struct ut_command *self, int argc, char **argv); /* argv[0] is the name */
} ut_command;

extern const ut_command ut_command_say, ut_command_voices, ut_command_info;

/* ---- Options (options.c) -------------------------------------------------------------------- */

typedef enum ut_option_kind {
    UT_OPTION_FLAG,   /* bool: set to true */
    UT_OPTION_STRING, /* const char *: points into argv */
    UT_OPTION_INT,    /* int32_t in [min, max] */
    UT_OPTION_INT64,  /* int64_t in [min, max] */
    UT_OPTION_FLOAT   /* float in [min, max] */
} ut_option_kind;

typedef struct ut_option {
    char letter;          /* 0: none */
    const char *name;     /* without the dashes */
    const char *argument; /* "FILE"; NULL for flags */
    const char *help;
    ut_option_kind kind;
    void *value;
    double min, max; /* of numbers */
} ut_option;

/* Read --name VALUE, --name=VALUE, -x VALUE, -xVALUE and flags; "--" ends options, "-" is none. The
 * other arguments are moved to argv[0 .. *n_rest). Returns -1 to go on, or the exit code after
 * --help or a message. */
int ut_options_parse(const ut_command *c, const ut_option *options, size_t n_options, int argc,
                     char **argv, int *n_rest);

/* ---- Messages (message.c) ------------------------------------------------------------------- */

/* "utter: ..." on standard error; return UT_EXIT_FAILURE, UT_EXIT_USAGE. */
int ut_cli_fail(const char *fmt, ...) UT_PRINTF(1, 2);
int ut_cli_usage(const ut_command *c, const char *fmt, ...) UT_PRINTF(2, 3);

/* ---- Engine (engine_options.c) -------------------------------------------------------------- */

typedef struct ut_engine_options {
    const char *model, *backend, *precision, *attention;
    int32_t threads, max_positions, device;
    int32_t prefix_cache_mb; /* 0: off */
    bool exact_head;
} ut_engine_options;

#define UT_MODEL_OPTION(o)                                                                         \
    {                                                                                              \
        'm', "model", "DIR",                                                                       \
            "model directory (default: $UTTER_MODEL, else the one that came along)",               \
            UT_OPTION_STRING, &(o)->model, 0, 0                                                    \
    }

#define UT_ENGINE_OPTIONS(o)                                                                       \
    UT_MODEL_OPTION(o),                                                                            \
        {0,                                                                                        \
         "backend",                                                                                \
         "NAME",                                                                                   \
         "see `utter info` (default: auto, the best that is available)",                           \
         UT_OPTION_STRING,                                                                         \
         &(o)->backend,                                                                            \
         0,                                                                                        \
         0},                                                                                       \
        {0,                                                                                        \
         "device",                                                                                 \
         "N",                                                                                      \
         "number of the backend's device, see `utter info` (default: 0)",                          \
         UT_OPTION_INT,                                                                            \
         &(o)->device,                                                                             \
         0,                                                                                        \
         1023},                                                                                    \
        {0,                                                                                        \
         "threads",                                                                                \
         "N",                                                                                      \
         "CPU threads (default: one per physical core)",                                           \
         UT_OPTION_INT,                                                                            \
         &(o)->threads,                                                                            \
         1,                                                                                        \
         1024},                                                                                    \
        {0,                                                                                        \
         "precision",                                                                              \
         "TYPE",                                                                                   \
         "of large matrices: auto, f32, bf16, f16, int8, int4 (default: auto)",                    \
         UT_OPTION_STRING,                                                                         \
         &(o)->precision,                                                                          \
         0,                                                                                        \
         0},                                                                                       \
        {0,                                                                                        \
         "attention",                                                                              \
         "KIND",                                                                                   \
         "of a GPU's kernels: auto, flash, math (default: auto)",                                  \
         UT_OPTION_STRING,                                                                         \
         &(o)->attention,                                                                          \
         0,                                                                                        \
         0},                                                                                       \
        {0,                                                                                        \
         "exact-head",                                                                             \
         NULL,                                                                                     \
         "score the whole vocabulary, as the reference does",                                      \
         UT_OPTION_FLAG,                                                                           \
         &(o)->exact_head,                                                                         \
         0,                                                                                        \
         0},                                                                                       \
    {                                                                                              \
        0, "max-positions", "N", "bound on prompt and frames of a generation (default: model's)",  \
            UT_OPTION_INT, &(o)->max_positions, 64, 1 << 20                                        \
    }

/* The model directory to use, newly allocated: as given, else $UTTER_MODEL, else the first that
 * came with the program; NULL: there is none. */
char *ut_cli_find_model(const char *given);

/* Open the engine; prints why not. Returns UT_EXIT_OK or the exit code. */
int ut_cli_open_engine(const ut_command *c, const ut_engine_options *o, utter_engine **out);

#endif
