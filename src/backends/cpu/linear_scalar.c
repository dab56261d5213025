/* linear_scalar.c - the linear kernel in plain C, the definition that the vector variants are
 * compared with: for every output one chain of s = s + x * w over k, rounded twice per step, then
 * bias, activation, gamma and residual. Sixteen outputs go side by side so that compilers can use
 * what vectors the base instruction set has. */
#include "backends/cpu/kernels.h"
#include "backends/cpu/simd_scalar.h"
#include "backends/cpu/simd_math.h"
#include <string.h>

#define PANEL 16

static inline float f16_at(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return ut_f16_to_f32(h);
}

/* One column of a panel. scale: of the block, by output. */
static inline void unpack(ut_packing type, const uint8_t *p, const float scale[PANEL],
                          float w[PANEL])
{
    for (int o = 0; o < PANEL; o++) {
        if (type == UT_PACK_F32) {
            memcpy(&w[o], p + 4 * o, sizeof w[o]);
        } else if (type == UT_PACK_Q8) {
            w[o] = scale[o] * (float)(int8_t)p[o];
        } else if (type == UT_PACK_Q4) {
            const int byte = p[o % (PANEL / 2)];
            w[o] = scale[o] * (float)((o < PANEL / 2 ? byte & 15 : byte >> 4) - 8);
        } else if (type == UT_PACK_F16) {
            w[o] = f16_at(p + 2 * o);
        } else {
            uint16_t h;
            memcpy(&h, p + 2 * o, sizeof h);
            w[o] = ut_bf16_to_f32(h);
        }
    }
}

static void sums(ut_packing type, const ut_linear_job *j, int32_t row, int32_t panel,
                 float sum[PANEL])
{
    const int32_t k = j->seg * j->n_seg, block = ut_pack_block(type);
    const uint8_t *p = (const uint8_t *)j->w + (size_t)panel * ut_pack_bytes(type, PANEL, k);
    float scale[PANEL] = {0}, w[PANEL];
    for (int o = 0; o < PANEL; o++)
        sum[o] = 0;
    for (int32_t s = 0, at = 0; s < j->n_seg; s++) {
        const float *x = j->x + row * j->x_stride + s * j->seg_stride;
        for (int32_t i = 0; i < j->seg; i++, at++) {
            if (block && at % block == 0)
                for (int o = 0; o < PANEL; o++, p += sizeof(uint16_t))
                    scale[o] = f16_at(p);
            unpack(type, p, scale, w);
            p += ut_pack_column(type, PANEL);
            for (int o = 0; o < PANEL; o++)
                sum[o] += x[i] * w[o];
        }
    }
}

static float finish(const ut_linear_job *j, float sum, int32_t row, int32_t o)
{
    float v = j->bias ? sum + j->bias[o] : sum;
    if (j->act == UT_ACT_SNAKE)
        v = v_snake(v, j->alpha[o], j->inv_beta[o]);
    else if (j->act != UT_ACT_NONE)
        v = v_act(v, j->act);
    if (j->gamma)
        v *= j->gamma[o];
    return j->residual ? v + j->residual[(int64_t)row * j->n_out + o] : v;
}

static inline void linear(ut_packing type, const ut_linear_job *j, int32_t row0, int32_t row1,
                          int32_t panel0, int32_t panel1)
{
    for (int32_t p = panel0; p < panel1; p++)
        for (int32_t r = row0; r < row1; r++) {
            float sum[PANEL];
            sums(type, j, r, p, sum);
            for (int32_t o = 0; o < PANEL && p * PANEL + o < j->n_out; o++)
                j->y[(int64_t)r * j->n_out + p * PANEL + o] = finish(j, sum[o], r, p * PANEL + o);
        }
}

static void linear_f32(const ut_linear_job *j, int32_t row0, int32_t row1, int32_t panel0,
                       int32_t panel1)
{
    linear(UT_PACK_F32, j, row0, row1, panel0, panel1);
}

static void linear_bf16(const ut_linear_job *j, int32_t row0, int32_t row1, int32_t panel0,
                        int32_t panel1)
{
    linear(UT_PACK_BF16, j, row0, row1, panel0, panel1);
}

static void linear_f16(const ut_linear_job *j, int32_t row0, int32_t row1, int32_t panel0,
                       int32_t panel1)
{
    linear(UT_PACK_F16, j, row0, row1, panel0, panel1);
}

static void linear_q8(const ut_linear_job *j, int32_t row0, int32_t row1, int32_t panel0,
                      int32_t panel1)
{
    linear(UT_PACK_Q8, j, row0, row1, panel0, panel1);
}

static void linear_q4(const ut_linear_job *j, int32_t row0, int32_t row1, int32_t panel0,
                      int32_t panel1)
{
    linear(UT_PACK_Q4, j, row0, row1, panel0, panel1);
}

void ut_kernels_linear_scalar(ut_kernels *k)
{
    k->panel = PANEL;
    k->row_block = 1;
    k->bf16_pairs = false;
    k->linear[UT_PACK_F32] = linear_f32;
    k->linear[UT_PACK_BF16] = linear_bf16;
    k->linear[UT_PACK_F16] = linear_f16;
    k->linear[UT_PACK_Q8] = linear_q8;
    k->linear[UT_PACK_Q4] = linear_q4;
}
