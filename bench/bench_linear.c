/* bench_linear.c - products through the executor, as a model runs them: a stack of S1-mini's
 * backbone matrices for one row (decoding, memory-bound) and for many (prefill), and the codec's
 * convolutions; each beside what the machine can do.
 * usage: bench_linear [--threads N] [--layers N] [--type bf16|f16|f32] [--rows N]
 *                     [--cpu scalar|avx2] */
#include "backends/backend.h"
#include "base/alloc.h"
#include "base/cpu.h"
#include "base/os.h"
#include "machine.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIM = 1024, MAX_MATRICES = 256 };

typedef struct stack {
    ut_weight w[MAX_MATRICES];
    int n;
    double bytes, macs_per_row;
} stack;

static void *must(void *p)
{
    if (!p) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return p;
}

/* One block of random numbers serves all matrices: packing makes separate copies. */
static const void *values(size_t bytes)
{
    static void *block;
    static size_t size;
    if (bytes > size) {
        block = must(ut_malloc(bytes));
        size = bytes;
        uint32_t s = 1;
        for (size_t i = 0; i + 2 <= bytes;
             i += 2) { /* as bf16 or as halves of f32: small numbers */
            const uint16_t h = (uint16_t)(0x3c00u | ((s = s * 1664525u + 1013904223u) >> 22));
            memcpy((char *)block + i, &h, 2);
        }
    }
    return block;
}

static const ut_weight *add(stack *s, int32_t rows, int32_t cols, ut_dtype type)
{
    ut_weight *w = &s->w[s->n++];
    const size_t bytes = (size_t)rows * (size_t)cols * ut_dtype_size(type);
    *w = (ut_weight){.name = "w", .rows = rows, .cols = cols, .n_parts = 1};
    w->part[0] = (ut_weight_part){values(bytes), type, rows};
    s->bytes += (double)bytes;
    s->macs_per_row += (double)rows * cols;
    return w;
}

/* n layers of q|k|v, o, gate|up, down with nothing in between. */
static ut_plan *backbone(stack *s, int layers, ut_dtype type)
{
    ut_plan *p = ut_plan_new("backbone", NULL, NULL);
    ut_tid x = ut_plan_input(p, "x", UT_F32, 1, 0, DIM);
    values((size_t)6144 * 3072 * 4);
    for (int l = 0; l < layers; l++) {
        const ut_tid qkv = ut_op_matmul(p, x, add(s, 4096, DIM, type), UT_NONE);
        x = ut_op_matmul(p, ut_plan_reshape(p, qkv, 4096), add(s, DIM, 4096, type), x);
        const ut_tid up = ut_op_matmul(p, x, add(s, 6144, DIM, type), UT_NONE);
        x = ut_op_matmul(p, up, add(s, DIM, 6144, type), x);
    }
    ut_plan_output(p, x, "y");
    return p;
}

/* A residual unit's convolution on C channels: 7 taps, dilation 3. */
static ut_plan *convolution(stack *s, ut_state_set *set, int32_t c)
{
    const int h = ut_state_set_add(set, "h", UT_F32, 18, c);
    ut_plan *p = ut_plan_new("convolution", set, NULL);
    const ut_tid x = ut_op_copy(p, ut_plan_input(p, "x", UT_F32, 1, 0, c));
    ut_op_conv_history(p, x, h);
    const ut_linear_args a = {
        .w = add(s, c, 7 * c, UT_F32), .residual = UT_NONE, .taps = 7, .dilation = 3};
    ut_plan_output(p, ut_op_linear(p, x, &a), "y");
    return p;
}

typedef struct result {
    double compile_s, run_s;
} result;

static result measure(ut_backend *b, ut_plan *p, int32_t n_t, double seconds)
{
    ut_err err = {0};
    ut_exec *e;
    ut_state *s = NULL;
    result r = {0, 1e9};
    const double start = ut_time_now();
    if (ut_plan_finish(p, &err) != UTTER_OK ||
        b->ops->compile(b, p, 1, n_t, &e, &err) != UTTER_OK ||
        (p->states && b->ops->state_new(b, p->states, 1, &s, &err) != UTTER_OK)) {
        fprintf(stderr, "%s\n", err.msg);
        exit(1);
    }
    r.compile_s = ut_time_now() - start;
    for (double total = 0; total < seconds;) {
        const double t0 = ut_time_now();
        b->ops->run(e, s, 0, n_t, &err);
        const double t = ut_time_now() - t0;
        total += t;
        r.run_s = t < r.run_s ? t : r.run_s;
    }
    b->ops->state_free(s);
    b->ops->exec_free(e);
    ut_plan_free(p);
    return r;
}

int main(int argc, char **argv)
{
    int threads = ut_physical_cores(), layers = 28, only_rows = 0;
    const char *only_type = NULL;
    unsigned flags_off = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--threads") == 0)
            threads = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--layers") == 0)
            layers = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--rows") == 0)
            only_rows = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--type") == 0)
            only_type = argv[i + 1];
        else if (strcmp(argv[i], "--cpu") == 0)
            flags_off = UT_CPU_AVX512 | (strcmp(argv[i + 1], "scalar") == 0 ? UT_CPU_AVX2 : 0u);
    }
    if (threads < 1 || layers < 1 || layers * 4 > MAX_MATRICES) {
        fprintf(stderr, "usage: bench_linear [--threads N] [--layers 1..%d]\n", MAX_MATRICES / 4);
        return 2;
    }
    const ut_backend_params params = {.threads = threads, .cpu_flags_off = flags_off};
    ut_err err = {0};
    ut_backend *b;
    char text[128];
    if (ut_backend_open(&b, "cpu", &params, &err) != UTTER_OK) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    b->ops->describe(b, text, sizeof text);
    const double read = machine_read_bandwidth(threads, (size_t)1 << 30);
    const double peak = machine_fma_peak(threads);
    printf("%s; reads %.1f GB/s, multiply-adds %.1f GFLOP/s\n", text, 1e-9 * read, 1e-9 * peak);

    static const ut_dtype types[] = {UT_BF16, UT_F16, UT_F32};
    for (int i = 0; i < 3; i++) {
        static const int32_t rows[] = {1, 2, 4, 8, 64, 300};
        for (int k = 0; k < 6; k++) {
            if ((only_rows && only_rows != rows[k]) ||
                (only_type && strcmp(only_type, ut_dtype_name(types[i])) != 0))
                continue;
            stack s = {0};
            const int n = rows[k] > 8 && layers > 4 ? 4 : layers;
            const result r = measure(b, backbone(&s, n, types[i]), rows[k], rows[k] > 8 ? 1 : 2);
            const double flops = 2 * s.macs_per_row * rows[k] / r.run_s;
            printf("%2d layers %-4s %4d rows: %8.2f ms  %6.1f GB/s %3.0f%%  %7.1f GFLOP/s %3.0f%%"
                   "  packing %.2f GB/s\n",
                   n, ut_dtype_name(types[i]), (int)rows[k], 1e3 * r.run_s,
                   1e-9 * s.bytes / r.run_s, 100 * s.bytes / r.run_s / read, 1e-9 * flops,
                   100 * flops / peak, 1e-9 * s.bytes / r.compile_s);
        }
    }
    static const struct {
        int32_t channels, rows;
    } convs[] = {{768, 256}, {384, 2048}, {192, 8192}, {96, 16384}};
    for (int i = 0; i < 4 && !only_rows && !only_type; i++) {
        stack s = {0};
        ut_state_set set = {0};
        const result r = measure(b, convolution(&s, &set, convs[i].channels), convs[i].rows, 1);
        const double flops = 2 * s.macs_per_row * convs[i].rows / r.run_s;
        printf("convolution, %4d channels, %5d rows: %8.2f ms  %7.1f GFLOP/s %3.0f%%\n",
               (int)convs[i].channels, (int)convs[i].rows, 1e3 * r.run_s, 1e-9 * flops,
               100 * flops / peak);
    }
    b->ops->close(b);
    return 0;
}
