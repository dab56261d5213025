/* test_kernels.c - every kernel variant of this processor against a reference in double, with
 * random and worst-case inputs; `--bench` times them instead, `--seed N` repeats a run. */
#include "kernel_check.h"
#include "base/os.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    uint64_t seed = (uint64_t)(ut_time_now() * 1e6);
    bool bench = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--bench") == 0)
            bench = true;
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 10);
        else {
            fprintf(stderr, "usage: %s [--bench] [--seed N]\n", argv[0]);
            return 2;
        }
    }
    random_seed(seed);
    if (bench) {
        bench_linear_kernels();
        bench_other_kernels();
        return 0;
    }
    printf("seed %llu\n", (unsigned long long)seed);
    return run_linear_tests() + run_rows_tests() + run_act_tests() + run_attention_tests() +
               run_sample_tests() >
           0;
}
