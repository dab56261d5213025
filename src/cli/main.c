/* main.c - `utter`: picks the subcommand. */
#include "base/os.h"
#include "cli/cli.h"
#include <stdio.h>
#include <string.h>

static const ut_command *const commands[] = {&ut_command_say, &ut_command_voices, &ut_command_info};
#define N_COMMANDS (sizeof commands / sizeof commands[0])

static int print_help(void)
{
    printf("usage: utter COMMAND [options] [arguments]\n"
           "Speaks text with open-weight neural models.\n\ncommands:\n");
    for (size_t i = 0; i < N_COMMANDS; i++)
        printf("  %-10s%s\n", commands[i]->name, commands[i]->summary);
    printf("  %-10s%s\n", "help", "explain a command: utter help say");
    printf("\n`utter COMMAND --help` explains the options; `utter --version` shows the version.\n"
           "\nexit codes: %d all is well, %d failure, %d wrong usage, %d interrupted\n",
           UT_EXIT_OK, UT_EXIT_FAILURE, UT_EXIT_USAGE, UT_EXIT_INTERRUPTED);
    return UT_EXIT_OK;
}

static const ut_command *find(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}

static int unknown(const char *name)
{
    ut_cli_fail("unknown command \"%s\"; see `utter help`", name);
    return UT_EXIT_USAGE;
}

static int help(int argc, char **argv)
{
    if (argc < 3)
        return print_help();
    const ut_command *c = find(argv[2]);
    char *args[] = {argv[2], "--help", NULL};
    return c ? c->run(c, 2, args) : unknown(argv[2]);
}

/* Output that could not be written is a failure, even that of --help. */
static int finish(int code)
{
    if (fflush(stdout) != 0 && code == UT_EXIT_OK)
        return ut_cli_fail("standard output cannot be written");
    return code;
}

int main(int argc, char **argv)
{
    ut_main_args(&argc, &argv);
    if (argc < 2) {
        ut_cli_fail("no command; see `utter help`");
        return UT_EXIT_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        printf("utter %s\n", utter_version());
        return finish(UT_EXIT_OK);
    }
    if (strcmp(name, "help") == 0)
        return finish(help(argc, argv));
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        return finish(print_help());
    const ut_command *c = find(name);
    return c ? finish(c->run(c, argc - 1, argv + 1)) : unknown(name);
}
