/* decide.cu - choosing: nearest codebook entries, and the sampler. */
#include "backends/cuda/kernels/sampler.cuh"

/* ---- Nearest: a block to a row --------------------------------------------------------------- */

UT_KERNEL(nearest, cu_nearest_args)
{
    UT_SHARED(float, scratch); /* [2 UT_WARPS], then the row, scaled to length 1 unless euclid */
    float *unit = scratch + 2 * UT_WARPS;
    const int slot = blockIdx.x / a.rows, row = blockIdx.x % a.rows;
    const float *e = a.e + slot * a.e_slot + (int64_t)row * a.dim;
    float norm = 0.0f;
    for (int i = 0; !a.euclid && i < a.dim; i++)
        norm = fmaf(e[i], e[i], norm);
    norm = a.euclid ? 1.0f : sqrtf(norm);
    for (int i = threadIdx.x; i < a.dim; i += CU_THREADS)
        unit[i] = e[i] / (norm > 1e-12f ? norm : 1e-12f);
    __syncthreads();
    best_entry best = {-INFINITY, 0x7fffffff};
    for (int i = threadIdx.x; i < a.n; i += CU_THREADS) {
        const float *w = a.table + (size_t)i * a.ld;
        best_entry now = {0.0f, i};
        float square = 0.0f;
        for (int c = 0; c < a.dim; c++) {
            now.value = fmaf(unit[c], w[c], now.value);
            square = fmaf(w[c], w[c], square);
        }
        if (a.euclid)
            now.value -= 0.5f * square;
        best = better(best, now);
    }
    best = block_best(best, (best_entry *)scratch);
    if (threadIdx.x == 0)
        a.codes[slot * a.codes_slot + (int64_t)row * a.codes_cols + a.col] =
            best.index < a.n ? best.index : 0;
}

/* ---- Sampling: a block to a slot ------------------------------------------------------------- */

UT_KERNEL(sample, cu_sample_args)
{
    UT_SHARED(unsigned char, shared);
    sample_slot(a, blockIdx.x, shared);
}
