/* weight.c - reading rows of a multi-part weight, for gathers and packing. */
#include "plan/weight.h"
#include "base/half.h"
#include <string.h>

ut_dtype ut_weight_dtype(const ut_weight *w)
{
    ut_dtype t = w->part[0].dtype;
    for (int i = 1; i < w->n_parts; i++)
        if (w->part[i].dtype != t)
            return UT_F32;
    return t;
}

void ut_weight_row_f32(const ut_weight *w, int32_t row, float *dst)
{
    int i = 0;
    while (row >= w->part[i].rows)
        row -= w->part[i++].rows;
    const size_t n = (size_t)w->cols;
    const uint8_t *src =
        (const uint8_t *)w->part[i].data + (size_t)row * n * ut_dtype_size(w->part[i].dtype);
    uint16_t h;
    switch (w->part[i].dtype) {
    case UT_BF16:
        for (size_t c = 0; c < n; c++) {
            memcpy(&h, src + 2 * c, sizeof h);
            dst[c] = ut_bf16_to_f32(h);
        }
        break;
    case UT_F16:
        for (size_t c = 0; c < n; c++) {
            memcpy(&h, src + 2 * c, sizeof h);
            dst[c] = ut_f16_to_f32(h);
        }
        break;
    default:
        memcpy(dst, src, n * sizeof(float));
        break;
    }
}
