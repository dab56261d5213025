/* bench_cuda_ops.c - products, attention and decisions of one model's shapes on a GPU, by
 * themselves: time of an operation within a graph of many, beside the bytes it has to read or the
 * sums it has to make.
 *
 *     bench_cuda_ops [--device N] [--precision bf16|f32] [--attention auto|flash|math]
 *
 * Shapes are those of S1-mini. Every operation of a graph has weights and caches of its own, more
 * than the device's second-level cache holds. */
#include "backends/backend.h"
#include "base/alloc.h"
#include "base/half.h"
#include "base/os.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPS = 24, ROUNDS = 20, CAPACITY = 2048, HEADS = 16, KV_HEADS = 8, DIM = 128 };

typedef struct bench {
    const ut_backend_ops *ops;
    ut_backend *b;
    ut_backend_params params;
    uint16_t *numbers;     /* bf16, as many as the largest matrix has */
    const float *sampling; /* state 1, where decisions are timed; x are logits then */
    ut_err err;
} bench;

/* About normal, with a deviation of 3: sums of 6 numbers of 10 bits. */
static float logit(uint32_t i)
{
    int32_t sum = -3 * 1023;
    for (int k = 0; k < 6; k++) {
        i = (i ^ i >> 15) * 0x2c1b3c6du + 0x9e3779b9u;
        sum += (int32_t)(i >> 22);
    }
    return (float)sum * (3.0f / 724.0f);
}

/* Seconds of one run of a plan, warm, with `n` slots. */
static double time_plan(bench *x, ut_plan *p, const ut_state_set *states, int slots, int32_t n_t,
                        int32_t pos)
{
    ut_exec *e = NULL;
    ut_state *s = NULL;
    double seconds = 0;
    utter_status st = ut_plan_finish(p, &x->err);
    if (st == UTTER_OK)
        st = x->ops->compile(x->b, p, slots, n_t, &e, &x->err);
    if (st == UTTER_OK)
        st = x->ops->state_new(x->b, states, slots, &s, &x->err);
    for (int slot = 0; st == UTTER_OK && slot < slots; slot++)
        x->ops->state_write(s, 0, slot, 0, 1, &pos);
    for (int slot = 0; st == UTTER_OK && x->sampling && slot < slots; slot++)
        x->ops->state_write(s, 1, slot, 0, 1, x->sampling);
    if (st == UTTER_OK) {
        float *in = x->ops->input(e, ut_plan_find(p, "x"), n_t);
        const ut_tensor *t = &p->tensors[ut_plan_find(p, "x")];
        const size_t n = (size_t)slots * (size_t)ut_tensor_rows(t, n_t) * (size_t)t->cols;
        for (size_t i = 0; i < n; i++)
            in[i] = x->sampling ? logit((uint32_t)i) : (float)(i % 17) * 0.1f - 0.8f;
    }
    for (int i = 0; i < 3 + ROUNDS && st == UTTER_OK; i++) {
        if (i == 3) {
            if (!x->ops->output(e, ut_plan_find(p, "y"), &x->err))
                break;
            seconds = -ut_time_now();
        }
        st = x->ops->run(e, s, 0, n_t, &x->err);
    }
    if (st == UTTER_OK && x->ops->output(e, ut_plan_find(p, "y"), &x->err))
        seconds += ut_time_now();
    x->ops->state_free(s);
    x->ops->exec_free(e);
    ut_plan_free(p);
    return seconds / ROUNDS;
}

static bool failed(const bench *x)
{
    if (x->err.msg[0])
        fprintf(stderr, "bench_cuda_ops: %s\n", x->err.msg);
    return x->err.msg[0] != '\0';
}

/* rows: of a decoding step (many false: one to a slot), or of a run. */
static bool linear(bench *x, int32_t n_out, int32_t k, int32_t rows, bool many)
{
    ut_state_set states = {0};
    ut_weight w[OPS];
    ut_plan *p = ut_plan_new("linear", &states, NULL);
    if (!p)
        return false;
    ut_state_set_add(&states, "pos", UT_I32, 1, 1);
    const ut_tid in = ut_plan_input(p, "x", UT_F32, many, !many, k);
    ut_tid y = UT_NONE;
    for (int i = 0; i < OPS; i++) {
        w[i] = (ut_weight){.name = "w", .rows = n_out, .cols = k, .n_parts = 1};
        w[i].part[0] = (ut_weight_part){x->numbers, UT_BF16, n_out};
        y = ut_op_matmul(p, in, &w[i], i ? y : UT_NONE);
    }
    ut_plan_output(p, y, "y");
    const double s = time_plan(x, p, &states, many ? 1 : rows, many ? rows : 1, 0) / OPS;
    printf("linear %5dx%-5d %4d %s  %8.2f us  %7.0f GB/s  %6.1f TFLOPS\n", (int)n_out, (int)k,
           (int)rows, many ? "rows " : "slots", s * 1e6, 2e-9 * n_out * k / s,
           2e-12 * n_out * k * rows / s);
    fflush(stdout);
    return !failed(x);
}

static bool attention(bench *x, int32_t rows, bool many, int slots, int32_t pos)
{
    ut_state_set states = {0};
    ut_plan *p = ut_plan_new("attention", &states, NULL);
    if (!p)
        return false;
    const int at = ut_state_set_add(&states, "pos", UT_I32, 1, 1);
    const ut_tid in = ut_plan_input(p, "x", UT_F32, many, !many, HEADS * DIM);
    ut_tid y = in;
    for (int i = 0; i < OPS; i++) {
        const int k = ut_state_set_add(&states, "k", UT_F32, CAPACITY, KV_HEADS * DIM);
        const int v = ut_state_set_add(&states, "v", UT_F32, CAPACITY, KV_HEADS * DIM);
        states.def[k].keep = states.def[v].keep = true;
        const ut_attn_args a = {.n_heads = HEADS,
                                .n_kv_heads = KV_HEADS,
                                .head_dim = DIM,
                                .pos = ut_plan_state(p, at),
                                .cache_k = ut_plan_state(p, k),
                                .cache_v = ut_plan_state(p, v)};
        y = ut_op_attention(p, y, &a);
    }
    ut_plan_output(p, y, "y");
    const double s = time_plan(x, p, &states, slots, many ? rows : 1, pos) / OPS;
    const double seen = many ? rows * (pos + 0.5 * (rows + 1)) : pos + 1;
    const double bytes = 2.0 * KV_HEADS * DIM * (x->params.precision == UT_PRECISION_F32 ? 4 : 2);
    printf("attention of %4d row%s, %2d slots, from position %4d  %8.2f us  %7.0f GB/s  %6.1f "
           "TFLOPS\n",
           (int)rows, rows == 1 ? " " : "s", slots, (int)pos, s * 1e6,
           1e-9 * bytes * (pos + rows) * slots / s, 4e-12 * HEADS * DIM * seen * slots / s);
    fflush(stdout);
    return !failed(x);
}

/* Top-p as S1-mini decides, or as Qwen3-TTS does: tempered first, then top-k. */
static bool decision(bench *x, int32_t n, bool top_k)
{
    static const float params[2][UT_SP_COUNT] = {{0.8f, 0.8f, 1.1f, 0.0f},
                                                 {0.9f, 1.0f, 1.05f, 50.0f}};
    ut_state_set states = {0};
    ut_plan *p = ut_plan_new("decision", &states, NULL);
    if (!p)
        return false;
    const int frame = ut_state_set_add(&states, "frame", UT_I32, 1, 1);
    const int sampling = ut_state_set_add(&states, "params", UT_F32, 1, UT_SP_COUNT);
    const int rng = ut_state_set_add(&states, "rng", UT_I32, 1, UT_RNG_COUNT);
    const int column = ut_state_set_add(&states, "column", UT_I32, 1, OPS);
    const int history = ut_state_set_add(&states, "history", UT_I32, UT_HISTORY_FRAMES, OPS);
    ut_sample_args a = {.dst = ut_plan_state(p, column),
                        .params = ut_plan_state(p, sampling),
                        .rng = ut_plan_state(p, rng),
                        .frame = ut_plan_state(p, frame),
                        .history = ut_plan_state(p, history),
                        .noise = UT_NONE,
                        .probs = UT_NONE,
                        .penalty = top_k ? UT_PENALTY_NONE : UT_PENALTY_CODEBOOK,
                        .narrowing = top_k ? UT_TEMPER_FIRST : UT_TOP_P_FIRST,
                        .n_range = n,
                        .id_extra = -1};
    const ut_tid in = ut_plan_input(p, "x", UT_F32, 0, 1, n);
    for (int i = 0; i < OPS; i++) {
        a.col = a.penalty_col = a.decision = i;
        if (i + 1 == OPS)
            ut_plan_output(p, a.probs = ut_op_blank(p, 1, n), "y");
        ut_op_sample(p, in, &a);
    }
    x->sampling = params[top_k];
    const double s = time_plan(x, p, &states, 1, 1, 20) / OPS;
    x->sampling = NULL;
    printf("sample %5d of top-%s  %8.2f us\n", (int)n, top_k ? "k" : "p", s * 1e6);
    fflush(stdout);
    return !failed(x);
}

static bool run_all(bench *x)
{
    static const int32_t shapes[][2] = {{4096, 1024}, {1024, 2048}, {6144, 1024}, {1024, 3072}};
    static const int32_t slots[] = {1, 2, 4, 8, 16, 32}, rows[] = {1, 16, 100, 300, 1000};
    static const int32_t pos[] = {100, 500, 1000, 2000};
    static const int32_t choices[] = {1024, 2048, 4097, 155776};
    bool ok = true;
    for (int i = 0; i < 8 && ok; i++)
        ok = decision(x, choices[i / 2], i % 2);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 6 && ok; j++)
            ok = linear(x, shapes[i][0], shapes[i][1], slots[j], false);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 5 && ok; j++)
            ok = linear(x, shapes[i][0], shapes[i][1], rows[j], true);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 6 && ok; j++)
            ok = attention(x, 1, false, slots[j], pos[i]);
    for (int j = 2; j < 5 && ok; j++)
        ok = attention(x, rows[j], true, 1, 0);
    return ok && attention(x, 100, true, 1, 900);
}

int main(int argc, char **argv)
{
    static const char *const attentions[] = {"auto", "flash", "math"};
    bench x = {.params = {.precision = UT_PRECISION_BF16}};
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--device") == 0)
            x.params.device = atoi(argv[i + 1]);
        if (strcmp(argv[i], "--precision") == 0 && strcmp(argv[i + 1], "f32") == 0)
            x.params.precision = UT_PRECISION_F32;
        for (int k = 0; k < 3 && strcmp(argv[i], "--attention") == 0; k++)
            if (strcmp(argv[i + 1], attentions[k]) == 0)
                x.params.attention = (ut_attention)k;
    }
    const size_t n = (size_t)6144 * 1024;
    x.numbers = ut_malloc(n * sizeof *x.numbers);
    bool ok = x.numbers && ut_backend_open(&x.b, "cuda", &x.params, &x.err) == UTTER_OK;
    for (size_t i = 0; ok && i < n; i++)
        x.numbers[i] = ut_f32_to_bf16((float)(i % 251) * 1e-4f - 0.0125f);
    if (ok) {
        char text[256];
        x.ops = x.b->ops;
        x.ops->describe(x.b, text, sizeof text);
        printf("%s\n", text);
        ok = run_all(&x);
        x.ops->close(x.b);
    } else {
        failed(&x);
    }
    ut_free(x.numbers);
    return ok ? 0 : 1;
}
