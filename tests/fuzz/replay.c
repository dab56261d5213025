/* replay.c - runs a fuzz target over every file of a directory, where there is no libFuzzer to do
 * it: the inputs that were found once stay harmless. */
#include "base/alloc.h"
#include "base/os.h"
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
    ut_err err = {0};
    char **names = NULL;
    size_t n = 0;
    if (argc != 2) {
        fprintf(stderr, "usage: %s corpus-directory\n", argv[0]);
        return 2;
    }
    if (ut_list_dir(argv[1], &names, &n, &err) != UTTER_OK || n == 0) {
        fprintf(stderr, "%s\n", err.status == UTTER_OK ? "the corpus is empty" : err.msg);
        return 1;
    }
    for (size_t i = 0; i < n && err.status == UTTER_OK; i++) {
        uint8_t *data = NULL;
        size_t size;
        char *path = ut_path_join(argv[1], names[i]);
        if (path && ut_read_file(path, (size_t)1 << 26, &data, &size, &err) == UTTER_OK)
            LLVMFuzzerTestOneInput(data, size);
        ut_free(data);
        ut_free(path);
    }
    ut_list_free(names, n);
    if (err.status != UTTER_OK)
        fprintf(stderr, "%s\n", err.msg);
    return err.status == UTTER_OK ? 0 : 1;
}
