/* random_tensors.h - a list of tensors with random values, and the checkpoint file it becomes.
 * A value depends on the seed, the tensor's name and its index alone. */
#ifndef UT_TOOLS_RANDOM_TENSORS_H
#define UT_TOOLS_RANDOM_TENSORS_H

#include "pth_writer.h"

typedef enum random_kind {
    RANDOM_NORMAL,  /* mean a, standard deviation b */
    RANDOM_UNIFORM, /* between a and b */
    ROPE_TABLE      /* [positions, dim / 2, 2]: cos and sin of pos * a^(-2i/dim) */
} random_kind;

typedef struct random_tensor {
    pth_tensor t;
    random_kind kind;
    float a, b;
    int64_t loud_first, loud_end; /* rows whose deviation is loud_gain times b */
    float loud_gain;
} random_tensor;

typedef struct random_list {
    random_tensor *tensor; /* [n] */
    int n, cap;
    bool failed; /* out of memory; checked by random_list_write */
} random_list;

void random_list_free(random_list *l);

/* Append a tensor; the dimensions end with 0. The result may be refined until the next call; NULL
 * after a failure. */
random_tensor *random_list_add(random_list *l, ut_dtype dtype, random_kind kind, float a, float b,
                               const int64_t *dim, const char *name, ...) UT_PRINTF(7, 8);

/* As one safetensors file. */
utter_status random_list_write_safetensors(const random_list *l, const char *path, uint64_t seed,
                                           ut_err *err);
/* As torch.save does. */
utter_status random_list_write(const random_list *l, const char *path, bool ordered_dict,
                               uint64_t seed, ut_err *err);

#endif
