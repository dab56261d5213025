/* fixture.c - see fixture.h. */
#include "fixture.h"
#include "base/alloc.h"
#include "base/half.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int frames_passed, frames_failed;
uint32_t random_state = 1;

void check(bool ok, const char *what, const char *more)
{
    frames_passed += ok;
    frames_failed += !ok;
    if (!ok)
        printf("FAIL %s: %s\n", what, more);
}

float random_float(float scale)
{
    random_state = random_state * 1664525u + 1013904223u;
    return scale * ((float)(random_state >> 8) * (1.0f / 8388608.0f) - 1.0f);
}

const ut_weight *weight(decoder *d, int32_t rows, int32_t cols, ut_dtype type)
{
    const size_t n = (size_t)rows * (size_t)cols, size = ut_dtype_size(type);
    ut_weight *w = &d->weights[d->n_weights++];
    uint8_t *data = ut_malloc(n * size);
    if (!data)
        exit(1);
    for (size_t i = 0; i < n; i++) {
        const float f = random_float(rows == 1 ? 1.0f : 2.0f / sqrtf((float)cols));
        const uint16_t h = ut_f32_to_bf16(f);
        memcpy(data + i * size, type == UT_F32 ? (const void *)&f : (const void *)&h, size);
    }
    *w = (ut_weight){.name = "w", .rows = rows, .cols = cols, .n_parts = 1};
    w->part[0] = (ut_weight_part){data, type, rows};
    return w;
}

void free_decoder(decoder *d)
{
    ut_plan_free(d->plan);
    for (int i = 0; i < d->n_weights; i++)
        ut_free((void *)(uintptr_t)d->weights[i].part[0].data);
}

bool for_tensor_cores(const shape *s)
{
    return s->width >= 512;
}

void layer_weights(decoder *d, const shape *s, const ut_weight *w[LAYERS][7])
{
    const int32_t width = s->width;
    for (int i = 0; i < LAYERS; i++) {
        w[i][0] = weight(d, 1, width, UT_F32);
        w[i][1] = weight(d, (s->heads + 2 * s->kv_heads) * s->dim, width, UT_F32);
        w[i][2] = weight(d, width, s->heads * s->dim, UT_F32);
        w[i][3] = i % 2 ? weight(d, 1, s->dim, UT_F32) : NULL;
        if (!s->gated)
            continue;
        w[i][4] = weight(d, 1, width, UT_F32);
        w[i][5] = weight(d, 2 * s->gated, width, UT_F32);
        w[i][6] = weight(d, width, s->gated, UT_F32);
    }
}

ut_tid shaped_layer(decoder *d, const shape *s, const ut_weight *const w[7], ut_tid x,
                    int32_t first_pos, int i)
{
    ut_plan *p = d->plan;
    const ut_tid pos = s->state ? ut_plan_state(p, T_POS) : UT_NONE;
    const ut_tid angles = ut_op_rope_angles(p, x, pos, first_pos, s->dim, 1e4f, false);
    const ut_attn_args attn = {.n_heads = s->heads,
                               .n_kv_heads = s->kv_heads,
                               .head_dim = s->dim,
                               .window = s->window,
                               .first_pos = first_pos,
                               .pos = pos,
                               .cache_k = ut_plan_state(p, T_CACHES + 2 * i),
                               .cache_v = ut_plan_state(p, T_CACHES + 2 * i + 1),
                               .rope = i % 2 ? UT_ROPE_HALVES : UT_ROPE_PAIRS};
    ut_tid h = ut_op_matmul(p, ut_op_rms_norm(p, x, w[0], 1e-5f), w[1], UT_NONE);
    h = ut_op_attention(p, ut_op_qkv(p, h, angles, w[3], w[3], 1e-6f, &attn), &attn);
    x = ut_op_matmul(p, h, w[2], x);
    if (!s->gated)
        return x;
    h = ut_op_swiglu(p, ut_op_matmul(p, ut_op_rms_norm(p, x, w[4], 1e-5f), w[5], UT_NONE));
    return ut_op_matmul(p, h, w[6], x);
}

bool is_as_wanted(const shape *s, const cu_frame *f)
{
    return f && (f->bf16 || !for_tensor_cores(s));
}

/* Other devices do all in plain arithmetic. */
bool is_for(const shape *s, const ut_backend *b, ut_precision precision)
{
    return !for_tensor_cores(s) ||
           (((const cu_backend *)b)->hopper && precision == UT_PRECISION_BF16);
}
