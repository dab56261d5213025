/* launch_packed.c - launches of products whose matrix is in blocks, CU_Q8 and CU_Q4. */
#include "backends/cuda/exec.h"

static int64_t div_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

void cu_launch_unpack(cu_run *r, const cu_weight *w, cu_type narrow)
{
    const int64_t n = (int64_t)w->w->rows * w->ld;
    const cu_unpack_args a = {.src = w->data,
                              .scale = w->data + (cu_ptr)(w->type == CU_Q8 ? n : n / 2),
                              .dst = r->e->wide,
                              .n = n,
                              .type = narrow};
    cu_launch(r, w->type == CU_Q8 ? CU_K_unpack_q8 : CU_K_unpack_q4,
              div_up(n, CU_UNPACK_EACH * CU_THREADS), 1, 1, 0, &a);
    r->in_order = true; /* tiles ask for their first rows before they wait */
}

bool cu_launch_linear_packed(cu_run *r, const cu_step *s, cu_linear_args *a)
{
    const int type = s->w[0]->type;
    if (!cu_is_packed(type))
        return false;
    const int64_t rows = (int64_t)a->rows * a->slots;
    if (s->in[0].rows_per_t == 0) {
        static const int few[][2] = {{CU_K_linear_few_q8_1, CU_K_linear_few_q8_4},
                                     {CU_K_linear_few_q4_1, CU_K_linear_few_q4_4}};
        const int at_once = rows == 1 ? 1 : 4;
        cu_launch(r, few[type == CU_Q4][at_once > 1], div_up(a->n_out, CU_THREADS / 32),
                  div_up(rows, at_once), 1, sizeof(float) * CU_FEW_K * (size_t)at_once, a);
        return true;
    }
    const int32_t parts = cu_linear_parts(r->b, rows, a->n_out, a->ldw);
    a->part = parts > 1 ? r->e->part : 0;
    cu_launch(r, type == CU_Q8 ? CU_K_linear_tile_q8 : CU_K_linear_tile_q4,
              div_up(a->n_out, CU_TILE_N), div_up(rows, CU_TILE_M), parts, CU_TILE_SHARED, a);
    if (parts > 1)
        cu_launch(r, CU_K_linear_finish, div_up(rows * a->n_out, CU_THREADS), 1, 1, 0, a);
    return true;
}
