/* signal.cu - the beginning and the end of signals, and signals as a whole: histories of
 * convolutions, mirrored and trimmed ends, statistics over time. blockIdx.y is the slot. */
#include "backends/cuda/kernels/device.cuh"

/* Element j of the history becomes element j of what stands before x, then element j + n of history
 * and x together. A thread takes j = i, i + n, ...: it alone reads what it overwrites. */
UT_KERNEL(history, cu_history_args)
{
    const int64_t i = element();
    if (i >= a.n)
        return;
    const int64_t x = blockIdx.y * a.x_slot;
    float *state = a.state + blockIdx.y * a.state_slot;
    const bool repeat = a.unit && a.pos[blockIdx.y * a.pos_slot] == 0;
    const auto at = [&](int64_t j) { /* narrow numbers are f32, too */
                                     return load_element(a.x_type, a.x, (size_t)(x + j));
    };
    for (int64_t j = i; j < a.lead; j += a.n) {
        store_result(a.x_type, a.x, x + j - a.lead, repeat ? at(j % a.unit) : state[j]);
        if (j + a.n >= a.lead)
            state[j] = at(j + a.n - a.lead);
        else
            state[j] = repeat ? at((j + a.n) % a.unit) : state[j + a.n];
    }
}

/* Nobody writes the row that is repeated. */
UT_KERNEL(trim, cu_trim_args)
{
    const int64_t i = element(), row = i / a.cols;
    const int64_t count = a.count[blockIdx.y * a.count_slot];
    const int64_t kept = count <= 0 ? 0 : (count + a.unit - 1) / a.unit;
    float *x = a.x + blockIdx.y * a.x_slot;
    if (row >= kept && row < a.rows)
        x[i] = a.repeat && kept > 0 ? x[(kept - 1) * a.cols + i % a.cols] : 0.0f;
}

UT_KERNEL(reflect, cu_reflect_args)
{
    const int64_t i = element(), n = a.rows;
    int64_t row = i / a.cols - a.left;
    if (row >= n + a.right)
        return;
    while (n > 1 && (row < 0 || row >= n))
        row = row < 0 ? -row : 2 * (n - 1) - row;
    if (n == 1)
        row = 0;
    a.y[blockIdx.y * a.y_slot + i] = a.x[blockIdx.y * a.x_slot + row * a.cols + i % a.cols];
}

/* A block to a channel. */
UT_KERNEL(pool, cu_pool_args)
{
    UT_SHARED(double, scratch); /* [UT_WARPS] */
    const int c = blockIdx.x, slot = blockIdx.y;
    const float *x = a.x + slot * a.x_slot + c;
    const float *logits = a.logits ? a.logits + slot * a.logits_slot + c : NULL;
    float largest = -INFINITY;
    for (int t = threadIdx.x; logits && t < a.rows; t += CU_THREADS)
        largest = fmaxf(largest, logits[(int64_t)t * a.cols]);
    largest = block_max(largest, (float *)scratch);
    double total = 0.0, sum = 0.0, square = 0.0;
    for (int t = threadIdx.x; t < a.rows; t += CU_THREADS) {
        const int64_t at = (int64_t)t * a.cols;
        const double w = logits ? exp((double)logits[at] - (double)largest) : 1.0;
        total += w;
        sum += w * (double)x[at];
    }
    total = block_sum(total, scratch);
    const double mean = block_sum(sum, scratch) / total;
    for (int t = threadIdx.x; t < a.rows; t += CU_THREADS) {
        const int64_t at = (int64_t)t * a.cols;
        const double w = logits ? exp((double)logits[at] - (double)largest) : 1.0;
        square += w * ((double)x[at] - mean) * ((double)x[at] - mean);
    }
    square = block_sum(square, scratch) / total;
    if (threadIdx.x == 0) {
        a.y[slot * a.y_slot + c] = (float)mean;
        a.y[slot * a.y_slot + a.cols + c] = (float)sqrt(fmax(square, 1e-12));
    }
}
