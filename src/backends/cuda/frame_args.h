/* frame_args.h - a frame as a table that one kernel walks: phases, between which all blocks of the
 * grid wait for each other. Written by frame.c, read by kernels/frame.cu. */
#ifndef UT_BACKENDS_CUDA_FRAME_ARGS_H
#define UT_BACKENDS_CUDA_FRAME_ARGS_H

#include "backends/cuda/args.h"

/* A sum over K is cut into units of so many columns: within one, every lane of a warp adds its
 * columns in four chains, then a tree over the lanes; then the units are added in order. */
#define CU_UNIT 1024
/* Units that a warp works on at a time. */
#define CU_UNITS_AT_ONCE 4
/* Positions of the caches that a block attends to at a time; counted from position 0. */
#define CU_ATT_SPAN 64
/* Queries of one key head (rows * heads per key head) and their length, at most. */
#define CU_ATT_QUERIES 16
#define CU_ATT_DIM     128

typedef enum cu_phase_kind { CU_PHASE_LINEAR, CU_PHASE_ATTENTION, CU_PHASE_SLOTS } cu_phase_kind;

/* A number on its way from block to block, and the number of its frame: who needs it looks until it
 * is there, and nobody need wait for all. */
typedef struct cu_mail {
    float value;
    uint32_t frame;
} cu_mail;

/* y = residual + gamma * act(norm(x) W^T + bias), or with swiglu silu(gate) * up, where the rows of
 * W are gate, then up. Blocks share the outputs, warps of a block the units of theirs. */
typedef struct cu_frame_linear {
    cu_linear_args a; /* cols = k; taps and parts are not there; n_out: rows of W */
    UT_DEV(const float) gain;
    UT_DEV(const cu_mail) x_mail;
    UT_DEV(const cu_mail) residual_mail;
    UT_DEV(cu_mail) y_mail; /* or 0; [slots, rows, cols] */
    float eps;              /* of the norm of x, where gain is */
    int32_t swiglu;
    int32_t type, pad; /* of w */
} cu_frame_linear;

/* Rotation, caches and attention in one. Blocks share slots, key heads and spans of positions; the
 * last of a key head's blocks adds up what they found. */
typedef struct cu_frame_attention {
    cu_qkv_args qkv; /* y is not written */
    int32_t reach;
    float scale;
    UT_DEV(const cu_mail) x_mail;
    UT_DEV(cu_mail) y_mail; /* or 0 */
    UT_DEV(float) y;
    int64_t y_slot;
    UT_DEV(float) part;       /* [slots, kv_heads, spans, queries, 2 + dim]: max, sum, values */
    UT_DEV(uint32_t) arrived; /* [slots, kv_heads], 0 between runs */
    int32_t spans, group;     /* spans at most; heads per key head */
} cu_frame_attention;

/* Operations that concern a slot by itself: block s does them for slot s, one after another. */
typedef struct cu_frame_slots {
    int32_t first, count;
} cu_frame_slots;

typedef struct cu_frame_phase {
    int32_t kind;
    int32_t barrier; /* before it */
    int32_t pad[2];
    union {
        cu_frame_linear linear;
        cu_frame_attention attention;
        cu_frame_slots slots;
        int64_t whole[30]; /* a multiple of 16 bytes */
    } u;
} cu_frame_phase;

typedef enum cu_slot_op_kind {
    CU_SLOT_EMBED_SUM,
    CU_SLOT_GATHER,
    CU_SLOT_GATHER_SUM,
    CU_SLOT_COPY,
    CU_SLOT_NORM,
    CU_SLOT_ANGLES,
    CU_SLOT_TOKEN_CODE,
    CU_SLOT_RING_PUT,
    CU_SLOT_RING_GET,
    CU_SLOT_ADVANCE,
    CU_SLOT_SAMPLE
} cu_slot_op_kind;

typedef struct cu_slot_op {
    int32_t kind;
    int32_t pad[3];
    union {
        cu_embed_args embed_sum;
        cu_gather_args gather;
        cu_gather_sum_args gather_sum;
        cu_copy_args copy;
        cu_norm_args norm;
        cu_angles_args angles;
        cu_token_code_args token_code;
        cu_ring_args ring_put;
        cu_ring_get_args ring_get;
        cu_advance_args advance;
        cu_sample_args sample;
        int64_t whole[24]; /* a multiple of 16 bytes */
    } u;
} cu_slot_op;

/* Operations of one slot each, one after another, by a block: slot_ops.cu. */
#define CU_SLOT_OPS 8
typedef struct cu_slot_ops_args {
    int32_t n, slots;
    int64_t pad;
    cu_slot_op op[CU_SLOT_OPS];
} cu_slot_ops_args;

/* The matrix of a linear phase, for those who fetch ahead. */
typedef struct cu_frame_load {
    UT_DEV(const void) w;
    int32_t outputs, matrices, ld, type; /* rows of W: matrices * outputs */
    int32_t first, count; /* outputs of the block that reads this, which fills them in */
} cu_frame_load;

typedef struct cu_frame_args {
    UT_DEV(const cu_frame_phase) phases;
    UT_DEV(const cu_slot_op) ops;
    UT_DEV(const cu_frame_load) loads; /* of phases first .. first + count - 1 */
    UT_DEV(uint32_t) barrier;          /* of the grid; its high bit turns at every barrier */
    UT_DEV(uint32_t) frame;            /* frames so far */
    int32_t first, count, n_loads;
    int32_t ring;       /* units that a warp fetches ahead, a multiple of 2; 0: none */
    int32_t unit_bytes; /* of a place in the ring */
    int32_t sums;       /* floats for the units' sums, a multiple of 4 */
    int32_t x;          /* floats for x and what else a phase needs, a multiple of 4 */
    int32_t gains;      /* floats for a norm's gain, a multiple of 4 */
    int32_t slots;
    int32_t last;           /* is the last phase the frame's? */
    UT_DEV(uint64_t) trace; /* [count, CU_TRACE] times of block 0, or 0 */
} cu_frame_args;

/* Times of a phase: its start; a product: x is there, sums are there; its end; at the barrier. */
#define CU_TRACE 5

/* Rows of a product, over all slots, at most. */
#define CU_FRAME_ROWS 16
/* Shared memory of a block: two phases, an operation, the ring's barriers, squares, sums, x, gains,
 * the ring, loads. */
#define CU_FRAME_SHARED(ring, unit_bytes, floats, n_loads)                                         \
    (2 * sizeof(cu_frame_phase) + sizeof(cu_slot_op) + (CU_THREADS / 32) * 8 * (size_t)(ring) +    \
     (CU_THREADS / 32) * 4 * (size_t)CU_FRAME_ROWS + 4 * (size_t)(floats) +                        \
     (CU_THREADS / 32) * (size_t)(ring) * (size_t)(unit_bytes) +                                   \
     ((ring) ? (size_t)(n_loads) * sizeof(cu_frame_load) : 0))
/* Floats of x that attention needs: see att_layout. */
#define CU_ATT_SHARED(queries, rows, dim)                                                          \
    (((queries) + 3 * (rows) + 2) * (dim) + (queries) * ((dim) + CU_ATT_SPAN + 2) +                \
     2 * CU_THREADS * 4 + 4)

#endif
