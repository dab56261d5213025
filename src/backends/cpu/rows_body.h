/* rows_body.h - everything that works row by row or element by element, for one ISA: included once
 * by rows_scalar.c, rows_avx2.c and rows_avx512.c after simd_<isa>.h and simd_math.h. */

/* Four running sums, then one: the order depends on n only. */
static float sum_of_squares(const float *x, float mean, int32_t n)
{
    vf s[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
    const vf m = v_set(mean);
    int32_t i = 0;
    for (; i + 4 * VW <= n; i += 4 * VW)
        for (int j = 0; j < 4; j++) {
            const vf d = v_sub(v_load(x + i + j * VW), m);
            s[j] = v_fma(d, d, s[j]);
        }
    for (; i + VW <= n; i += VW) {
        const vf d = v_sub(v_load(x + i), m);
        s[0] = v_fma(d, d, s[0]);
    }
    float tail = 0;
    for (; i < n; i++)
        tail += (x[i] - mean) * (x[i] - mean);
    return v_sum(v_add(v_add(s[0], s[1]), v_add(s[2], s[3]))) + tail;
}

static float sum(const float *x, int32_t n)
{
    vf s[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
    int32_t i = 0;
    for (; i + 4 * VW <= n; i += 4 * VW)
        for (int j = 0; j < 4; j++)
            s[j] = v_add(s[j], v_load(x + i + j * VW));
    for (; i < n; i += VW)
        s[0] = v_add(s[0], v_load_n(x + i, n - i));
    return v_sum(v_add(v_add(s[0], s[1]), v_add(s[2], s[3])));
}

static void rms_norm(float *y, const float *x, const float *w, float eps, int32_t rows,
                     int32_t cols)
{
    for (int32_t r = 0; r < rows; r++, x += cols, y += cols) {
        const float mean_sq = sum_of_squares(x, 0.0f, cols) / (float)cols;
        const vf scale = v_set(1.0f / sqrtf(mean_sq + eps));
        for (int32_t i = 0; i < cols; i += VW) {
            const int32_t n = cols - i;
            const vf v = v_mul(v_load_n(x + i, n), scale);
            v_store_n(y + i, v_mul(v, v_load_n(w + i, n)), n);
        }
    }
}

static void layer_norm(float *y, const float *x, const float *w, const float *b, float eps,
                       int32_t rows, int32_t cols)
{
    for (int32_t r = 0; r < rows; r++, x += cols, y += cols) {
        const float mean = sum(x, cols) / (float)cols;
        const float var = sum_of_squares(x, mean, cols) / (float)cols;
        const vf m = v_set(mean), scale = v_set(1.0f / sqrtf(var + eps));
        for (int32_t i = 0; i < cols; i += VW) {
            const int32_t n = cols - i;
            const vf v = v_mul(v_sub(v_load_n(x + i, n), m), scale);
            v_store_n(y + i, v_fma(v, v_load_n(w + i, n), v_load_n(b + i, n)), n);
        }
    }
}

static void swiglu(float *y, const float *x, int32_t rows, int32_t n)
{
    for (int32_t r = 0; r < rows; r++, x += 2 * (int64_t)n, y += n)
        for (int32_t i = 0; i < n; i += VW) {
            const vf gate = v_silu(v_load_n(x + i, n - i));
            v_store_n(y + i, v_mul(gate, v_load_n(x + n + i, n - i)), n - i);
        }
}

static void snake(float *y, const float *x, const float *alpha, const float *inv_beta, int32_t rows,
                  int32_t cols)
{
    for (int32_t r = 0; r < rows; r++, x += cols, y += cols)
        for (int32_t i = 0; i < cols; i += VW) {
            const int32_t n = cols - i;
            const vf v =
                v_snake(v_load_n(x + i, n), v_load_n(alpha + i, n), v_load_n(inv_beta + i, n));
            v_store_n(y + i, v, n);
        }
}

static void activate(float *y, const float *x, ut_act act, int64_t n)
{
    for (int64_t i = 0; i < n; i += VW) {
        const int32_t left = n - i < VW ? (int32_t)(n - i) : VW;
        v_store_n(y + i, v_act(v_load_n(x + i, left), act), left);
    }
}

static void scale_rows(float *y, const float *x, const float *gain, const float *residual,
                       int32_t rows, int32_t cols)
{
    for (int32_t r = 0; r < rows; r++, x += cols, y += cols) {
        for (int32_t i = 0; i < cols; i += VW) {
            const int32_t n = cols - i;
            const vf add = residual ? v_load_n(residual + i, n) : v_zero();
            v_store_n(y + i, v_fma(v_load_n(x + i, n), v_load_n(gain + i, n), add), n);
        }
        residual = residual ? residual + cols : NULL;
    }
}

static void dwconv(float *y, const float *x, const float *w, const float *b, int32_t rows,
                   int32_t cols, int32_t taps)
{
    for (int32_t r = 0; r < rows; r++, x += cols, y += cols)
        for (int32_t i = 0; i < cols; i += VW) {
            const int32_t n = cols - i;
            vf v = v_zero();
            for (int32_t j = 0; j < taps; j++)
                v = v_fma(v_load_n(w + (int64_t)j * cols + i, n),
                          v_load_n(x + (int64_t)j * cols + i, n), v);
            v_store_n(y + i, v_add(v, v_load_n(b + i, n)), n);
        }
}

static void rotate_head(float *y, const float *x, const float *gain, float eps, const float *angles,
                        int32_t dim)
{
    float scale = 1.0f;
    if (gain)
        scale = 1.0f / sqrtf(sum_of_squares(x, 0.0f, dim) / (float)dim + eps);
#if VW > 1
    const vf s = v_set(scale);
    for (int32_t i = 0; i < dim; i += VW) {
        const int32_t n = dim - i;
        vf v = v_load_n(x + i, n);
        if (gain)
            v = v_mul(v_mul(v, s), v_load_n(gain + i, n));
        v_store_n(y + i, v_rotate(v, v_load_n(angles + i, n)), n);
    }
#else
    for (int32_t i = 0; i < dim; i += 2) {
        const float x0 = gain ? x[i] * scale * gain[i] : x[i];
        const float x1 = gain ? x[i + 1] * scale * gain[i + 1] : x[i + 1];
        const float c = angles[i], sn = angles[i + 1];
        y[i] = x0 * c - x1 * sn;
        y[i + 1] = x1 * c + x0 * sn;
    }
#endif
}

static void rotate_halves(float *y, const float *x, const float *gain, float eps,
                          const float *cos_sin, int32_t dim)
{
    const int32_t half = dim / 2;
    vf scale = v_set(1.0f);
    if (gain)
        scale = v_set(1.0f / sqrtf(sum_of_squares(x, 0.0f, dim) / (float)dim + eps));
    for (int32_t i = 0; i < half; i += VW) {
        const int32_t n = half - i;
        vf a = v_load_n(x + i, n), b = v_load_n(x + half + i, n);
        if (gain) {
            a = v_mul(v_mul(a, scale), v_load_n(gain + i, n));
            b = v_mul(v_mul(b, scale), v_load_n(gain + half + i, n));
        }
        const vf c = v_load_n(cos_sin + i, n), s = v_load_n(cos_sin + half + i, n);
        v_store_n(y + i, v_sub(v_mul(a, c), v_mul(b, s)), n);
        v_store_n(y + half + i, v_fma(a, s, v_mul(b, c)), n);
    }
}

static void to_bf16(uint16_t *y, const float *x, int32_t n)
{
    for (int32_t i = 0; i < n; i += VW)
        v_store_bf16_n(y + i, v_load_n(x + i, n - i), n - i);
}

static float largest(const float *x, int32_t n)
{
    if (n < VW) {
        float m = x[0];
        for (int32_t i = 1; i < n; i++)
            m = x[i] > m ? x[i] : m;
        return m;
    }
    vf m = v_load(x);
    for (int32_t i = VW; i + VW <= n; i += VW)
        m = v_max(v_load(x + i), m);
    return v_largest(v_max(v_load(x + n - VW), m)); /* the last lanes may be seen twice */
}

static float exp_sum(float *y, const float *x, float max, float scale, int32_t n)
{
    const vf m = v_set(max), f = v_set(scale);
    vf s = v_zero();
    int32_t i = 0;
    for (; i + VW <= n; i += VW) {
        const vf e = v_exp(v_mul(v_sub(v_load(x + i), m), f));
        v_store(y + i, e);
        s = v_add(s, e);
    }
    float tail = 0;
    if (i < n) {
        const vf e = v_exp(v_mul(v_sub(v_load_n(x + i, n - i), m), f));
        v_store_n(y + i, e, n - i);
        for (; i < n; i++)
            tail += y[i];
    }
    return v_sum(s) + tail;
}

static void fill_rows(ut_kernels *k)
{
    k->rms_norm = rms_norm;
    k->layer_norm = layer_norm;
    k->swiglu = swiglu;
    k->snake = snake;
    k->act = activate;
    k->scale = scale_rows;
    k->dwconv = dwconv;
    k->rotate_head = rotate_head;
    k->rotate_halves = rotate_halves;
    k->to_bf16 = to_bf16;
    k->max = largest;
    k->exp_sum = exp_sum;
}
