/* steps_signal.c - steps that deal with the beginning and the end of signals, and with signals as a
 * whole: histories of convolutions, mirrored and trimmed ends, statistics over time. */
#include "backends/cpu/exec.h"
#include <math.h>
#include <string.h>

/* The state's rows go in front of x, then the last as many of all of them to the state. */
void cpu_run_conv_history(const cpu_run *r, const cpu_step *s)
{
    const int64_t rows = (int64_t)place_rows(&s->in[0], r->n_t) * s->in[0].cols;
    const size_t bytes = 4 * (size_t)s->in[0].lead;
    const int32_t unit = s->op->u.history.unit;
    for (int slot = 0; slot < r->e->n_slots; slot++) {
        float *x = place_row0(r, &s->in[0], slot), *before = x - s->in[0].lead;
        void *state = place_row0(r, &s->in[1], slot);
        if (unit && *(const int32_t *)place_row0(r, &s->in[2], slot) == 0)
            for (int64_t i = 0; i < s->in[0].lead; i += unit)
                memcpy(before + i, x, 4 * (size_t)unit);
        else
            memcpy(before, state, bytes);
        memcpy(state, x + rows - s->in[0].lead, bytes);
    }
}

void cpu_run_trim(const cpu_run *r, const cpu_step *s)
{
    const int32_t rows = place_rows(&s->in[0], r->n_t), unit = s->op->u.trim.unit;
    const int64_t cols = s->in[0].cols;
    for (int slot = 0; slot < r->e->n_slots; slot++) {
        const int64_t count = *(const int32_t *)place_row0(r, &s->in[1], slot);
        float *x = place_row0(r, &s->in[0], slot);
        for (int64_t row = count <= 0 ? 0 : (count + unit - 1) / unit; row < rows; row++)
            if (s->op->u.trim.repeat && row > 0)
                memcpy(x + row * cols, x + (row - 1) * cols, 4 * (size_t)cols);
            else
                memset(x + row * cols, 0, 4 * (size_t)cols);
    }
}

/* The row that a mirrored signal of n rows has at `row`. */
static int32_t mirrored(int32_t row, int32_t n)
{
    while (n > 1 && (row < 0 || row >= n))
        row = row < 0 ? -row : 2 * (n - 1) - row;
    return n > 1 ? row : 0;
}

static void reflect_rows(const cpu_run *r, const cpu_step *s, int slot, int32_t row0, int32_t row1,
                         int member)
{
    const int32_t left = s->op->u.reflect.left, lead = left + s->op->u.reflect.right;
    const int32_t n = place_rows(&s->in[0], r->n_t);
    const int64_t cols = s->in[0].cols;
    const float *x = place_row0(r, &s->in[0], slot);
    float *y = place_row0(r, &s->out[0], slot);
    (void)member;
    for (int32_t row = row0 == 0 ? -lead : row0; row < row1; row++)
        memcpy(y + row * cols, x + mirrored(row + lead - left, n) * cols, 4 * (size_t)cols);
}

void cpu_run_reflect(const cpu_run *r, const cpu_step *s)
{
    cpu_for_rows(r, s, reflect_rows, place_rows(&s->out[0], r->n_t), 0.2 * s->in[0].cols, false);
}

/* ---- Statistics over time ------------------------------------------------------------------- */

enum { POOL_COLS = 16 }; /* columns of one piece of work */

static void pool_piece(void *arg, int32_t item, int member)
{
    const cpu_run *r = ((const void *const *)arg)[0];
    const cpu_step *s = ((const void *const *)arg)[1];
    const int32_t cols = s->in[0].cols, rows = place_rows(&s->in[0], r->n_t);
    const int32_t pieces = (cols + POOL_COLS - 1) / POOL_COLS;
    const int slot = item / pieces;
    const int32_t c0 = item % pieces * POOL_COLS;
    const int32_t c1 = c0 + POOL_COLS < cols ? c0 + POOL_COLS : cols;
    const float *x = place_row0(r, &s->in[0], slot);
    const float *logits = s->has_in[1] ? place_row0(r, &s->in[1], slot) : NULL;
    float *y = place_row0(r, &s->out[0], slot);
    (void)member;
    for (int32_t c = c0; c < c1; c++) {
        double total = 0, mean = 0, square = 0;
        float max = logits ? logits[c] : 0.0f;
        for (int32_t t = 1; logits && t < rows; t++)
            max = fmaxf(max, logits[(int64_t)t * cols + c]);
        for (int32_t t = 0; t < rows; t++) {
            const int64_t at = (int64_t)t * cols + c;
            const double w = logits ? exp((double)logits[at] - (double)max) : 1.0;
            total += w;
            mean += w * (double)x[at];
        }
        mean /= total;
        for (int32_t t = 0; t < rows; t++) {
            const int64_t at = (int64_t)t * cols + c;
            const double w = logits ? exp((double)logits[at] - (double)max) : 1.0;
            square += w * ((double)x[at] - mean) * ((double)x[at] - mean);
        }
        y[c] = (float)mean;
        y[cols + c] = (float)sqrt(fmax(square / total, 1e-12));
    }
}

void cpu_run_pool(const cpu_run *r, const cpu_step *s)
{
    const void *arg[2] = {r, s};
    const int32_t pieces = (s->in[0].cols + POOL_COLS - 1) / POOL_COLS;
    ut_pool_run(r->b->pool, pool_piece, arg, pieces * r->e->n_slots, true);
}
