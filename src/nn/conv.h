/* conv.h - causal convolutions, all of them one linear over a window of rows (see plan.h):
 *   stride 1, kernel k, dilation d   taps k over rows of C
 *   stride s, kernel k               taps ceil(k/s) over rows of s*C (s time steps in one row)
 *   transposed, stride s, kernel k   taps ceil(k/s) over rows of C, giving rows of s*C_out
 * Each keeps the history its window reaches back to in a state of its own, so a signal may come in
 * pieces of any size. */
#ifndef UT_NN_CONV_H
#define UT_NN_CONV_H

#include "nn/load.h"
#include "plan/plan.h"

typedef struct ut_conv {
    const ut_weight *w, *bias; /* [s_out * C_out, taps * s_in * C_in]; [1, s_out * C_out] */
    int32_t in_channels, out_channels, kernel;
    int32_t in_rows, out_rows; /* time steps that one row of the linear takes and gives */
    int32_t taps, dilation;
    int state; /* [(taps-1) * dilation, s_in * C_in]; -1 when taps is 1, or without states */
} ut_conv;

typedef enum ut_conv_kind { UT_CONV, UT_CONV_TRANSPOSED } ut_conv_kind;

/* Load "<prefix>.weight" [out, in, k] (transposed [in, out, k]), or its weight-norm pair under
 * either naming (parametrizations.weight.original0/1, weight_g/weight_v), and "<prefix>.bias".
 * Channels are checked, -1 takes what is stored; kernel size comes from the shape. Stride 0 means
 * "kernel / 2", the codec's convention. states NULL: the caller puts a history in front of what is
 * convolved. */
void ut_conv_load(ut_loader *l, ut_conv *c, ut_conv_kind kind, int32_t in_channels,
                  int32_t out_channels, int32_t stride, int32_t dilation, ut_state_set *states,
                  const char *prefix);
/* The same for a convolution that is stored without a bias. */
void ut_conv_load_unbiased(ut_loader *l, ut_conv *c, ut_conv_kind kind, int32_t in_channels,
                           int32_t out_channels, int32_t stride, int32_t dilation,
                           ut_state_set *states, const char *prefix);

/* Shape of the stored kernel under any naming: dim[3]; false when there is none. */
bool ut_conv_shape(const ut_loader *l, const char *prefix, int64_t dim[3]);

/* w = g * v / |v| over all dimensions but the first, or the plain weight: f32 [dim0, dim1 * k], the
 * loader's, until the next one; NULL after a failure. expect: dimensions, -1 for any. */
const float *ut_conv_kernel(ut_loader *l, const char *prefix, const int64_t expect[3],
                            int64_t dim[3]);

typedef struct ut_conv_args {
    ut_act act;
    const ut_weight *alpha, *beta; /* of UT_ACT_SNAKE; beta NULL: alpha */
    ut_tid residual;               /* added to the result, or UT_NONE */
    bool repeat_start; /* before its first step, while the state pos is 0, the signal had
                          that step's value; else zero */
    ut_tid pos;
} ut_conv_args;

/* x [rows, C_in] -> [rows * s_out / s_in, C_out]; a may be NULL. x is written to: its memory gets
 * the history in front (a copy is made where that cannot be). */
ut_tid ut_conv_emit(ut_plan *p, const ut_conv *c, ut_tid x, const ut_conv_args *a);

/* x, or a copy of x, with the state's rows of history in front. */
ut_tid ut_conv_with_history(ut_plan *p, ut_tid x, int state);

#endif
