/* weight.c - reading rows of a multi-part weight, for gathers and packing. */
#include "plan/weight.h"
#include "base/half.h"
#include "plan/quant.h"
#include <string.h>

ut_dtype ut_weight_dtype(const ut_weight *w)
{
    ut_dtype t = w->part[0].dtype;
    for (int i = 1; i < w->n_parts; i++)
        if (w->part[i].dtype != t)
            return UT_F32;
    return t;
}

void ut_weight_read_f32(const ut_weight *w, int32_t row, int32_t col, int32_t n, float *dst)
{
    int i = 0;
    while (row >= w->part[i].rows)
        row -= w->part[i++].rows;
    const size_t first = (size_t)row * (size_t)w->cols + (size_t)col;
    const uint8_t *src = (const uint8_t *)w->part[i].data + first * ut_dtype_size(w->part[i].dtype);
    uint16_t h;
    switch (w->part[i].dtype) {
    case UT_BF16:
        for (int32_t c = 0; c < n; c++) {
            memcpy(&h, src + 2 * (size_t)c, sizeof h);
            dst[c] = ut_bf16_to_f32(h);
        }
        break;
    case UT_F16:
        for (int32_t c = 0; c < n; c++) {
            memcpy(&h, src + 2 * (size_t)c, sizeof h);
            dst[c] = ut_f16_to_f32(h);
        }
        break;
    default:
        memcpy(dst, src, (size_t)n * sizeof(float));
        break;
    }
}

void ut_weight_row_f32(const ut_weight *w, int32_t row, float *dst)
{
    ut_weight_read_f32(w, row, 0, w->cols, dst);
}

ut_dtype ut_weight_kept_type(const ut_weight *w, ut_precision precision)
{
    switch (w->exact && precision != UT_PRECISION_F32 ? UT_PRECISION_AUTO : precision) {
    case UT_PRECISION_F32:
        return UT_F32;
    case UT_PRECISION_BF16:
        return UT_BF16;
    case UT_PRECISION_F16:
        return UT_F16;
    case UT_PRECISION_INT8:
        return w->least_bits ? UT_Q8 : ut_weight_dtype(w);
    case UT_PRECISION_INT4:
        return w->least_bits == 4 ? UT_Q4 : w->least_bits == 8 ? UT_Q8 : ut_weight_dtype(w);
    default:
        return ut_weight_dtype(w);
    }
}

int64_t ut_weight_kept_bytes(const ut_weight *w, ut_precision precision)
{
    const int64_t k = w->cols;
    switch (ut_weight_kept_type(w, precision)) {
    case UT_Q8:
        return w->rows * (k + 2 * ((k + UT_Q8_BLOCK - 1) / UT_Q8_BLOCK));
    case UT_Q4:
        return w->rows * ((k + 1) / 2 + 2 * ((k + UT_Q4_BLOCK - 1) / UT_Q4_BLOCK));
    case UT_F32:
        return w->rows * k * 4;
    default:
        return w->rows * k * 2;
    }
}
