/* pth_writer.h - writes checkpoints as torch.save does: a zip of data.pkl (pickle protocol 2) and
 * one stored, 64-byte aligned entry per tensor. Values are produced piece by piece, so files may
 * be larger than memory. */
#ifndef UT_TOOLS_PTH_WRITER_H
#define UT_TOOLS_PTH_WRITER_H

#include "base/dtype.h"
#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>

typedef struct pth_tensor {
    const char *name;
    ut_dtype dtype;
    int n_dims;
    int64_t dim[8];
} pth_tensor;

typedef struct pth_options {
    const char *top;   /* top folder, e.g. "archive" */
    bool ordered_dict; /* as nn.Module.state_dict() gives: OrderedDict with _metadata */
    /* Elements [first, first + n) of tensor i, in its dtype, to out. */
    void (*fill)(void *user, int i, int64_t first, int64_t n, void *out);
    void (*progress)(void *user, uint64_t done, uint64_t total); /* bytes; may be NULL */
    void *user;
} pth_options;

utter_status pth_write(const char *path, const pth_tensor *tensors, int n, const pth_options *o,
                       ut_err *err);

#endif
