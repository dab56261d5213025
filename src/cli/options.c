/* options.c - command-line options from a table, and the help that the same table gives. */
#include "cli/cli.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HELP_COLUMN 30

static void print_option(char letter, const char *name, const char *argument, const char *help)
{
    char left[128];
    int n =
        snprintf(left, sizeof left, "  %c%c%s--%s%s%s", letter ? '-' : ' ', letter ? letter : ' ',
                 letter ? ", " : "  ", name, argument ? " " : "", argument ? argument : "");
    if (n >= HELP_COLUMN)
        printf("%s\n%*s%s\n", left, HELP_COLUMN, "", help);
    else
        printf("%-*s%s\n", HELP_COLUMN, left, help);
}

static void print_help(const ut_command *c, const ut_option *options, size_t n_options)
{
    printf("usage: utter %s [options]%s%s\n%s\n\noptions:\n", c->name, c->arguments[0] ? " " : "",
           c->arguments, c->summary);
    for (size_t i = 0; i < n_options; i++)
        print_option(options[i].letter, options[i].name, options[i].argument, options[i].help);
    print_option('h', "help", NULL, "show this");
    if (c->details)
        printf("\n%s", c->details);
}

/* A whole number in [min, max]. */
static bool parse_int(const char *s, double min, double max, int64_t *out)
{
    char *end;
    errno = 0;
    long long v = strtoll(s, &end, 10);
    if (end == s || *end || errno || (double)v < min || (double)v > max)
        return false;
    *out = v;
    return true;
}

static bool parse_float(const char *s, double min, double max, float *out)
{
    char *end;
    double v = strtod(s, &end);
    if (end == s || *end || !isfinite(v) || v < min || v > max)
        return false;
    *out = (float)v;
    return true;
}

/* -1, or the exit code after a message. */
static int set_value(const ut_command *c, const ut_option *o, const char *value)
{
    int64_t whole;
    switch (o->kind) {
    case UT_OPTION_FLAG:
        *(bool *)o->value = true;
        return -1;
    case UT_OPTION_STRING:
        *(const char **)o->value = value;
        return -1;
    case UT_OPTION_FLOAT:
        if (parse_float(value, o->min, o->max, o->value))
            return -1;
        return ut_cli_usage(c, "--%s %s: expected a number in %g..%g", o->name, value, o->min,
                            o->max);
    case UT_OPTION_INT:
        if (!parse_int(value, o->min, o->max, &whole))
            break;
        *(int32_t *)o->value = (int32_t)whole;
        return -1;
    case UT_OPTION_INT64:
        if (!parse_int(value, o->min, o->max, &whole))
            break;
        *(int64_t *)o->value = whole;
        return -1;
    }
    return ut_cli_usage(c, "--%s %s: expected a whole number in %.0f..%.0f", o->name, value, o->min,
                        o->max);
}

/* The option that arg is, with what follows its name in *rest ("" or "=VALUE" for a long one). */
static const ut_option *find(const ut_option *options, size_t n_options, const char *arg,
                             const char **rest)
{
    for (size_t i = 0; i < n_options; i++) {
        const ut_option *o = &options[i];
        size_t n = strlen(o->name);
        if (arg[1] == '-' && strncmp(arg + 2, o->name, n) == 0 &&
            (arg[2 + n] == 0 || arg[2 + n] == '=')) {
            *rest = arg + 2 + n;
            return o;
        }
        if (arg[1] != '-' && o->letter && arg[1] == o->letter) {
            *rest = arg + 2;
            return o;
        }
    }
    return NULL;
}

int ut_options_parse(const ut_command *c, const ut_option *options, size_t n_options, int argc,
                     char **argv, int *n_rest)
{
    bool only_arguments = false;
    *n_rest = 0;
    for (int i = 1; i < argc; i++) {
        char *arg = argv[i];
        if (only_arguments || arg[0] != '-' || !arg[1]) {
            argv[(*n_rest)++] = arg;
            continue;
        }
        if (strcmp(arg, "--") == 0) {
            only_arguments = true;
            continue;
        }
        if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            print_help(c, options, n_options);
            return UT_EXIT_OK;
        }
        const char *rest, *value = NULL;
        const ut_option *o = find(options, n_options, arg, &rest);
        if (!o)
            return ut_cli_usage(c, "unknown option %s", arg);
        if (o->kind == UT_OPTION_FLAG) {
            if (*rest)
                return ut_cli_usage(c, "%s: --%s takes no value", arg, o->name);
        } else if (*rest) {
            value = rest + (*rest == '=' && arg[1] == '-');
        } else if (i + 1 < argc) {
            value = argv[++i];
        } else {
            return ut_cli_usage(c, "%s: %s is missing", arg, o->argument);
        }
        int code = set_value(c, o, value);
        if (code >= 0)
            return code;
    }
    return -1;
}
