/* main.c - a decoder's frame on the CUDA backend in every way it can run: as operations one
 * by one, in phases, and as one kernel. The last two give the same bits, the first the same numbers
 * but for rounding; a slot's bits do not depend on the slots beside it. Without cmocka: it also
 * runs where there is a GPU and little else (scripts/gpu-check).
 *
 *     test_frames [--only NAME | --but NAME]
 *
 * What is compared has a name: "decoder", "pairs: 1024", "tensor: chain, top-p", .... --only: those
 * that begin so; --but: all others. First passes of two rows ("pairs") take long on an emulated
 * device, and a race checker never gets through everything. Exit status 1 when a check failed;
 * without a GPU there is nothing to do. */
#include "fixture.h"
#include <stdio.h>
#include <string.h>

static const char *wanted_name; /* how names begin that are meant, or NULL */
static bool wanted;             /* are those wanted, or all others? */
static int n_chosen;

bool is_chosen(const char *name)
{
    const bool meant = wanted_name && strncmp(name, wanted_name, strlen(wanted_name)) == 0;
    const bool chosen = !wanted_name || meant == wanted;
    n_chosen += chosen;
    return chosen;
}

int main(int argc, char **argv)
{
    char text[256];
    wanted = argc == 3 && strcmp(argv[1], "--only") == 0;
    wanted_name = argc == 3 ? argv[2] : NULL;
    if (argc != 1 && !wanted && !(argc == 3 && strcmp(argv[1], "--but") == 0)) {
        printf("usage: test_frames [--only NAME | --but NAME]\n");
        return 2;
    }
    if (!cu_probe(0, text, sizeof text)) {
        printf("skipped: no CUDA device: %s\n", text);
        return 0;
    }
    test_decoders();
    test_shapes();
    test_chains();
    test_pairs();
    if (n_chosen == 0) {
        printf("nothing has a name that begins so: %s\n", wanted_name ? wanted_name : "");
        return 2;
    }
    printf("%d passed, %d failed\n", frames_passed, frames_failed);
    return frames_failed > 0;
}
