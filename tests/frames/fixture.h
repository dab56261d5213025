/* fixture.h - what the tests of frames have in common: checks, weights of random numbers, and
 * layers of a decoder in many shapes. */
#ifndef UT_TESTS_FRAMES_FIXTURE_H
#define UT_TESTS_FRAMES_FIXTURE_H

#include "backends/cuda/frame.h"
#include <stdbool.h>
#include <stdint.h>

/* Slots of a run, at most but in shapes; ids of every code; layers of every decoder. */
enum { SLOTS = 3, CODES = 40, LAYERS = 2, MAX_WEIGHTS = 8 * LAYERS + 16 };
enum { MOST_SLOTS = 8 };

extern int frames_passed, frames_failed;
void check(bool ok, const char *what, const char *more);
bool is_chosen(const char *name); /* to be compared? main.c */

typedef struct decoder {
    ut_state_set states;
    ut_plan *plan;
    ut_tid logits;
    ut_weight weights[MAX_WEIGHTS];
    int n_weights;
    ut_dtype type; /* of matrices */
} decoder;

extern uint32_t random_state; /* the next numbers follow from it */
float random_float(float scale);

/* A frame of `positions` new positions, by passes: the first has rows of them, the others one. */
typedef struct shape {
    const char *name;
    int32_t width; /* of the decoder; from 512 on, frames of bf16 are on tensor cores */
    int32_t gated; /* columns of a swiglu in every layer, or 0 */
    int32_t heads, kv_heads, dim, capacity, window, positions, rows;
    int32_t first; /* position of the first pass, where there is no state */
    bool state;    /* positions are pos[slot] + ... */
    int slots;
    int32_t pos[MOST_SLOTS];
} shape;

/* States of decoders in shapes, by index. */
enum { T_POS, T_COLUMN, T_CACHES };

/* Of random numbers; the decoder's, as d->type or another. */
const ut_weight *weight(decoder *d, int32_t rows, int32_t cols, ut_dtype type);
void free_decoder(decoder *d);
void layer_weights(decoder *d, const shape *s, const ut_weight *w[LAYERS][7]);
/* Layer i over x, whose first row stands at first_pos. */
ut_tid shaped_layer(decoder *d, const shape *s, const ut_weight *const w[7], ut_tid x,
                    int32_t first_pos, int i);

bool for_tensor_cores(const shape *s);
bool is_for(const shape *s, const ut_backend *b, ut_precision precision);
bool is_as_wanted(const shape *s, const cu_frame *f);

/* The tests. */
void test_decoders(void); /* decoder.c */
void test_shapes(void);   /* shapes.c */
void test_pairs(void);
void test_chains(void); /* chain.c */

#endif
