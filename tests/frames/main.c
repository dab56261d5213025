/* main.c - a decoder's frame on the CUDA backend in every way it can run: as operations one
 * by one, in phases, and as one kernel. The last two give the same bits, the first the same numbers
 * but for rounding; a slot's bits do not depend on the slots beside it. Without cmocka: it also
 * runs where there is a GPU and little else (scripts/gpu-check).
 *
 *     test_frames [--pairs | --but-pairs]
 *
 * --pairs: only first passes of two rows, which takes long on an emulated device; --but-pairs: all
 * else. Exit status 1 when a check failed; without a GPU there is nothing to do. */
#include "fixture.h"
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    const bool only = argc == 2 && strcmp(argv[1], "--pairs") == 0;
    const bool without = argc == 2 && strcmp(argv[1], "--but-pairs") == 0;
    char text[256];
    if (argc > 1 && !only && !without) {
        printf("usage: test_frames [--pairs | --but-pairs]\n");
        return 2;
    }
    if (!cu_probe(0, text, sizeof text)) {
        printf("skipped: no CUDA device: %s\n", text);
        return 0;
    }
    if (!only) {
        test_decoders();
        test_shapes();
        test_chains();
    }
    if (!without)
        test_pairs();
    printf("%d passed, %d failed\n", frames_passed, frames_failed);
    return frames_failed > 0;
}
