/* frame_args.h - a frame as a table that one kernel walks, phase by phase. Written by frame.c, read
 * by kernels/frame_walk.cuh. */
#ifndef UT_BACKENDS_CUDA_FRAME_ARGS_H
#define UT_BACKENDS_CUDA_FRAME_ARGS_H

#include "backends/cuda/args.h"

/* Columns of a product that the threads of a block have at a time, four each. */
#define CU_UNIT (4 * CU_THREADS)
/* Rows of a block's matrix that come and are worked on together, at most, and at least where their
 * bytes are many; chunks on their way at most. */
#define CU_CHUNK        16
#define CU_CHUNK_LEAST  4
#define CU_CHUNKS_AHEAD 32
/* For products on tensor cores: elements between rows of x, which are in different banks; columns
 * of a matrix are a multiple of so many: each warp has whole lines of 64. */
#define CU_SLICE_GAP 32
#define CU_SLICES    (64 * CU_THREADS / 32)
/* Mail is left in so many places, each for a part of the blocks, when there is one slot: readers of
 * one place wait for each other. */
#define CU_MAIL_PLACES 4
/* Positions of the caches that a block attends to at a time; counted from position 0. */
#define CU_ATT_SPAN 64
/* Bytes of the ring for a span's rows of a cache, and what their address is a multiple of. */
#define CU_ATT_PIECE(dim) (CU_ATT_SPAN * 2 * (dim))
#define CU_PIECE_ALIGN    1024
/* Spans that are seen, at most, where a row sees `reach` positions. */
#define CU_ATT_SPANS(reach, rows) (((reach) + (rows)-1) / CU_ATT_SPAN + 2)
/* Queries of one key head (rows * heads per key head) and their length, at most. */
#define CU_ATT_QUERIES 16
#define CU_ATT_DIM     128
/* Scores that a warp has at a time. */
#define CU_ATT_SCORES 16
/* Positions and new rows up to which frame_brief.cuh does it. */
#define CU_ATT_BRIEF      16
#define CU_ATT_BRIEF_ROWS 2

typedef enum cu_phase_kind { CU_PHASE_LINEAR, CU_PHASE_ATTENTION, CU_PHASE_SLOTS } cu_phase_kind;

/* A number on its way from block to block: who needs it looks until it is there, and nobody need
 * wait for all. It is an f32 whose last bit is that of its frame's number: every place gets one
 * number in every frame, so that what is there is this frame's or that of the frame before. */
typedef struct cu_mail {
    uint32_t bits;
} cu_mail;
/* The same for what a span of attention found. Which spans there are is another matter in every
 * frame, so that their stamp has to be all of a number. */
typedef struct cu_part {
    float value;
    uint32_t stamp;
} cu_part;

/* What a phase of products is made of beside them, where there is one slot; frame_row.cuh says of
 * how many rows it does it. */
typedef enum cu_product_form {
    CU_PRODUCT_ANY,
    CU_PRODUCT_NORMED, /* x has a norm */
    CU_PRODUCT_GATED,  /* and there is a swiglu */
    CU_PRODUCT_ADDED   /* a residual, and no norm */
} cu_product_form;

/* The matrix of a phase of products and what of it is whose. What is of the block is written by the
 * block that reads the record (frame_fetch.cuh). */
typedef struct cu_frame_load {
    UT_DEV(const void) w;
    int32_t outputs, ld;        /* rows of W: matrices * outputs; elements from row to row */
    int32_t first, count, each; /* of the block: its outputs, and how many of them a warp sends */
    int16_t matrices, chunk;    /* chunk: rows of W that go together, over all matrices */
    int32_t side;               /* of the block's two places that which has the norm's gain */
    int32_t pad;
} cu_frame_load;

/* y = residual + gamma * act(norm(x) W^T + bias), or with two matrices silu(gate) * up, where the
 * rows of W are gate, then up. Blocks share the outputs, threads of a block the columns. */
typedef struct cu_frame_linear {
    cu_frame_load load;
    UT_DEV(const float) x; /* [rows, k] of each slot; or x_mail */
    int64_t x_slot;
    UT_DEV(const float) bias;
    UT_DEV(const float) gamma;
    UT_DEV(const float) alpha;
    UT_DEV(const float) beta; /* [outputs] or 0; beta where alpha is */
    UT_DEV(const float) residual;
    int64_t residual_slot; /* [rows, outputs] or 0 */
    UT_DEV(float) y;       /* or 0 */
    int64_t y_slot;
    UT_DEV(const float) gain;
    /* Mail is [slots, rows, cols], or 0; of the first two a block that has read the record sees the
     * place where it looks. */
    UT_DEV(const cu_mail) x_mail;
    UT_DEV(const cu_mail) residual_mail;
    UT_DEV(cu_mail) y_mail;
    int32_t k, rows, slots; /* columns of x; rows of a slot */
    int32_t act;            /* ut_act */
    float eps, inverse_k;   /* of the norm of x, where gain is */
    int32_t more;           /* is there bias, act or gamma? */
    int32_t type;           /* of w */
    int32_t form;           /* cu_product_form */
    int32_t pad;
} cu_frame_linear;

/* Rotation, caches and attention in one. Blocks share slots, key heads and spans of positions; one
 * of a key head's blocks adds up what they found. */
typedef struct cu_frame_attention {
    cu_qkv_args qkv; /* y is that of attention */
    int32_t reach;
    float scale;
    UT_DEV(const cu_mail) x_mail;
    UT_DEV(cu_mail) y_mail; /* or 0 */
    /* Of each slot [kv_heads, spans, queries, 2 + dim]: max, sum, values. All attention phases use
     * it, one after another, and stamp it with frame * numbers + number instead of the frame: who
     * writes has x, which needs what the phase before made of all parts of the slot. */
    UT_DEV(cu_part) part;
    int64_t part_slot;
    UT_DEV(const cu_tensor_map) maps;      /* of keys, then of values; or 0 */
    UT_DEV(const cu_tensor_map) next_maps; /* those of the next phase that has some, or 0 */
    UT_DEV(const void) next_k; /* or 0: caches of the next attention phase, if they are alike */
    UT_DEV(const void) next_v;
    int32_t spans, group; /* spans at most; heads per key head */
    int32_t number, numbers;
    int32_t brief; /* frame_brief.cuh does it, where frames are bf16 */
    int32_t added; /* has the frame added rows to these caches before? */
} cu_frame_attention;

/* Operations that concern a slot by itself: for slot s the block does them that has s behind it,
 * one after another; those that stand apart, if there are any, are another block's at the same
 * time, see cu_slot_op. */
typedef struct cu_frame_slots {
    int32_t first, count;
    int32_t apart; /* are there any? */
    int32_t pad;
} cu_frame_slots;

typedef enum cu_phase_end { CU_END_BARRIER = 1, CU_END_SLOTS = 2 } cu_phase_end;

typedef struct cu_frame_phase {
    int32_t kind;
    int32_t end; /* cu_phase_end: is there a barrier behind it, is the next one of slots? */
    int32_t way; /* the way that frame_row.cuh goes, or 0: written by the block, too */
    int32_t pad;
    union {
        cu_frame_linear linear;
        cu_frame_attention attention;
        cu_frame_slots slots;
        int64_t whole[32]; /* a multiple of 16 bytes */
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
    int32_t apart; /* another block does it: it has nothing to do with those that are not apart */
    UT_DEV(cu_mail) mail; /* of a decision, its logits; of a look-up, its result; or 0 */
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

typedef struct cu_frame_args {
    UT_DEV(const cu_frame_phase) phases;
    UT_DEV(const cu_slot_op) ops;
    UT_DEV(uint32_t) barrier; /* of the grid; its high bit turns at every barrier */
    UT_DEV(uint32_t) frame; /* frames so far, and blocks that are done with this one's last phase */
    int32_t first, count;   /* phases of this launch */
    int32_t ring;  /* bytes of matrices that are fetched ahead, a multiple of 128; 0: none */
    int32_t sums;  /* floats for the warps' sums of a phase, a multiple of 4 */
    int32_t x;     /* floats for x and what else a phase needs, a multiple of 4 */
    int32_t gains; /* floats for a norm's gain, a multiple of 4 */
    int32_t slots;
    int32_t last;                     /* is the last phase the frame's? */
    int32_t mail_places, mail_stride; /* numbers of mail from one place to the next */
    UT_DEV(uint64_t) trace;           /* [count] when block 0 begins a phase, in ticks; or 0 */
} cu_frame_args;

/* Rows of a product, over all slots, at most. */
#define CU_FRAME_ROWS 16
/* Operations of a phase of slots that a block fetches ahead. */
#define CU_OPS_AHEAD 6
/* Of a grid's blocks so many share products and attention. The last one decides and looks up, and
 * does nothing else, so that what it needs of the kernel stays in its multiprocessor's cache of
 * instructions. */
#define CU_FRAME_SHARERS(blocks) ((blocks) > 2 ? (blocks)-1 : (blocks))
/* Phases that a block knows: those that come are fetched while others are worked on. */
#define CU_FRAME_PHASES 8
/* Threads of a frame's block: those that work, and four warps, of which one fetches; registers go
 * from one to the other four warps at a time. */
#define CU_FRAME_THREADS (CU_THREADS + 128)
/* Floats for a row of x: plain, or as two of bf16 for each of the warps. */
#define CU_FRAME_X(columns) ((columns) + (CU_THREADS / 32) * CU_SLICE_GAP)
/* Shared memory of a block: the ring, phases, operations, gates (CU_GATES bytes), squares, sums and
 * gains of two phases, x. */
#define CU_GATES (8 * (2 * CU_CHUNKS_AHEAD + 2 * CU_FRAME_PHASES) + 4 * CU_CHUNKS_AHEAD)
#define CU_FRAME_SHARED(ring, sums, x, gains)                                                      \
    (CU_FRAME_PHASES * sizeof(cu_frame_phase) + CU_OPS_AHEAD * sizeof(cu_slot_op) + CU_GATES +     \
     2 * (CU_THREADS / 32) * 4 * (size_t)CU_FRAME_ROWS +                                           \
     4 * (2 * (size_t)(sums) + (size_t)(x) + 2 * (size_t)(gains)) + (size_t)(ring))
/* Floats of x that attention on tensor cores needs: span_shared, and brief_all. */
#define CU_ATT_HEADS(dim) (4 * (2 * (dim) + 64))
#define CU_ATT_SPAN_SHARED(dim)                                                                    \
    ((CU_ATT_HEADS(dim) + 2 * 4 * CU_ATT_SPAN + CU_THREADS / 32 * 4 * (2 * CU_ATT_SPAN + 32)) / 4)
#define CU_ATT_BRIEF_SHARED(dim) ((CU_ATT_HEADS(dim) + 2 * CU_ATT_BRIEF * 2 * (dim)) / 4)
/* And in plain arithmetic: see att_layout. */
#define CU_ATT_SHARED(queries, rows, dim)                                                          \
    (((queries) + 2 * (rows)) * (dim) + CU_THREADS / 32 * ((queries) * ((dim) + 2) + CU_ATT_SCORES))

#endif
