/* args.h - what kernels take: one struct each, passed by value, read by the host's C and by the
 * kernels. On the host a pointer of the device is a number of 64 bits.
 *
 * Tensors. Slot s, row r, column c of a tensor is p[s * slot + r * cols + c], where p is row 0 of
 * the first slot of the run and `slot` counts elements; rows in front of row 0 are its history. */
#ifndef UT_BACKENDS_CUDA_ARGS_H
#define UT_BACKENDS_CUDA_ARGS_H

#include <stdint.h>

#if defined(__CUDACC__) || defined(UT_CUDA_EMULATION)
#define UT_DEV(type) type *
#else
#define UT_DEV(type) uint64_t
#endif
#ifdef __cplusplus
#define UT_ALIGN(n) alignas(n)
#else
#define UT_ALIGN(n) _Alignas(n)
#endif

/* Threads of a block, of every kernel, and shared memory that each can have without asking. */
#define CU_THREADS       256
#define CU_SHARED_ALWAYS 49152

/* Sums over K are cut into parts of so many columns, the same for every number of rows: a part is
 * one chain from zero, then the parts are added in order. */
#define CU_K_PART 512
/* Rows of a matrix on the device are padded with zeros to a multiple of so many elements. */
#define CU_K_ALIGN 32
/* The tile of results that a block of the tile kernel makes. */
#define CU_TILE_M      64
#define CU_TILE_N      64
#define CU_TILE_K      16
#define CU_TILE_PITCH  (CU_TILE_M + 4)
#define CU_TILE_SHARED (2 * CU_TILE_K * CU_TILE_PITCH * 4)
/* Tensor cores: buffers of the tile kernels, and what they take of shared memory with tiles of n by
 * n; outputs of a block of the slot kernels, how their sums lie in shared memory, and all of it for
 * a part of so many columns of K. */
#define CU_MMA_STAGES       4
#define CU_MMA_SHARED(m, n) (CU_MMA_STAGES * ((m) + (n)) * 128)
#define CU_MMA_GATES        (CU_MMA_STAGES * 8) /* more, where tiles come as boxes */
/* linear_group.cu: the most buffers, and what is behind them in shared memory with tiles of n
 * outputs, of f16 or not. */
#define CU_GROUP_STAGES           8
#define CU_GROUP_COLUMNS(n, half) (4 * ((half) ? 6 * (n) : 2 * (n) + 16))
#define CU_GROUP_REST(n, half)    (CU_GROUP_COLUMNS(n, half) + 2 * CU_GROUP_STAGES * 8)
/* The same for a convolution whose rows of x stay: 128 of them, and `reach` more. The results pass
 * through it, too. */
#define CU_TAPS_X(channels, reach)         ((128 + (reach) + 7) / 8 * 8 * (channels)*2)
#define CU_TAPS_SHARED(n, channels, reach) (CU_TAPS_X(channels, reach) + CU_MMA_STAGES * (n)*128)
#define CU_TAPS_OUT(n)                     (128 * ((n) + 8) * 4)
#define CU_SLOTS_N                         64
#define CU_SLOTS_PITCH                     (CU_SLOTS_N + 4)
#define CU_SLOTS_MOST                      8   /* parts of a sum */
#define CU_SLOTS_COLUMNS                   256 /* of a part, and of each step of longer ones */
#define CU_SLOTS_WIDE                      384
/* from row to row of x: 16 bytes of 2 rows by 4 lanes cover all banks */
#define CU_SLOTS_X(columns) ((columns) + 32)
/* sent: rows that parts send to the block that adds them, over all parts */
#define CU_SLOTS_SHARED(rows, steps, columns, sent)                                                \
    ((rows) * ((steps)*CU_SLOTS_X(columns) * 2 + 2 * CU_SLOTS_PITCH * 4) +                         \
     (sent)*CU_SLOTS_PITCH * 4)
/* linear_unit.cu: rows of a block, the most channels, buffers of W, and shared memory where there
 * are so many channels and taps see `reach` rows further. With more channels a multiprocessor would
 * have room for one block only, and one is slower than two products. */
#define CU_UNIT_ROWS     128
#define CU_UNIT_CHANNELS 96
#define CU_UNIT_STAGES   4
#define CU_UNIT_SHARED(channels, reach)                                                            \
    (CU_UNIT_ROWS * (CU_UNIT_CHANNELS + 8) * 4 + CU_UNIT_STAGES * CU_UNIT_CHANNELS * 64 +          \
     (CU_UNIT_ROWS + (reach)) * ((channels) / 8 + 1) * 16)
/* The same of linear_unit_group.cu, which has both matrices there, and x of two teams. */
#define CU_UNIT_GROUP_SHARED(taps, span)                                                           \
    (((taps) + 1) * CU_UNIT_CHANNELS * CU_UNIT_CHANNELS * 2 + 2 * (span)*CU_UNIT_CHANNELS * 2 +    \
     2 * CU_GROUP_COLUMNS(CU_UNIT_CHANNELS, 1) + 3 * 8)
/* linear_one.cu: rows of a block, and shared memory where W has so many columns and x so many
 * channels, and taps see `reach` rows further. */
#define CU_ONE_ROWS                         (CU_THREADS / 4)
#define CU_ONE_SHARED(ldw, channels, reach) ((ldw)*4 + (CU_ONE_ROWS + (reach)) * (channels)*2)
/* Columns of x that the kernel for few rows keeps in shared memory at a time, per row. */
#define CU_FEW_K 2048
/* Shared memory of the sampler, the longest row of logits that it keeps there, too, and the
 * elements of that row with its padding: logits, and what each comes to. */
#define CU_SAMPLE_FIXED  (3 * 5 * 32 * 4 + (CU_THREADS / 32) * (2 * 8 + 4 * 4) + 32)
#define CU_SAMPLE_SHARED 5120
#define CU_SAMPLE_ROW(n) (((n) + 3) / 4 * 4)

/* Element types of matrices and caches. A matrix of CU_Q8 or CU_Q4 (plan/quant.h) has rows of ldw
 * numbers, + 128 a byte each or + 8 two to a byte, and behind all rows the scales, f16 [n_out, ldw
 * / block]. The 16 numbers of a block of q4 are 8 bytes, number i low and i + 8 high in byte i. */
typedef enum cu_type { CU_F32, CU_BF16, CU_F16, CU_Q8, CU_Q4 } cu_type;
#define CU_Q8_BLOCK 32
#define CU_Q4_BLOCK 16

/* ---- Linear: y = residual + gamma * act(x W^T + bias), see ut_op_linear ---------------------- */

typedef struct cu_linear_args {
    /* x(m, k): column k % seg of the row (k / seg) * seg_step rows after the first that row m sees;
     * x points at that of row 0 */
    UT_DEV(const float) x;
    int64_t x_slot;
    int32_t cols, seg, seg_step; /* seg_step in elements */
    UT_DEV(const void) w;        /* [n_out, ldw], columns k .. ldw - 1 are 0 */
    int32_t n_out, k, ldw;
    int32_t act; /* ut_act */
    UT_DEV(const float) bias;
    UT_DEV(const float) gamma;
    UT_DEV(const float) alpha;
    UT_DEV(const float) beta; /* [n_out] or 0; beta where alpha is */
    UT_DEV(const float) residual;
    int64_t residual_slot; /* [rows, n_out] or 0 */
    UT_DEV(float) y;
    int64_t y_slot;
    int32_t rows, slots; /* rows of a slot */
    int32_t vector;      /* rows of x are whole, aligned groups of 4 elements */
    UT_DEV(float) part;  /* [parts, slots * rows, n_out] when blocks make parts of sums, else 0 */
    /* linear_mma.cu, linear_slots.cuh: x as bf16 or f16 in rows of ldx elements, to which seg and
     * seg_step apply, too */
    UT_DEV(uint16_t) x16;
    int64_t x16_slot;
    UT_DEV(uint32_t)
    arrived; /* [tiles of results] blocks that have left their part; 0 again after */
    int32_t ldx, pad;
} cu_linear_args;

/* A linear of tiles on tensor cores. What only such linears read is kept in their type: y16 is y,
 * or with y_alpha snake(y), where y is seen as rows of y_cols columns. */
typedef struct cu_tile_args {
    cu_linear_args a; /* y or 0 */
    int32_t narrow;   /* CU_BF16 or CU_F16: of x16, y16 and W */
    int32_t y_cols;
    UT_DEV(uint16_t) y16; /* or 0 */
    int64_t y16_slot;
    UT_DEV(const float) y_alpha;
    UT_DEV(const float) y_beta; /* [y_cols] or 0 */
} cu_tile_args;

/* What copies of boxes of a tensor need to know, as the driver writes it, at an address that is a
 * multiple of 64. */
typedef struct cu_tensor_map {
    uint64_t opaque[16];
} cu_tensor_map;

/* The same with its tiles of x [slots, rows that are seen, ldx] and W as boxes. */
typedef struct cu_box_args {
    UT_ALIGN(64) cu_tensor_map x;
    cu_tensor_map w;
    cu_tile_args t;
} cu_box_args;

/* The same for linear_group.cu, W by groups of 16 rows. */
typedef struct cu_group_args {
    UT_ALIGN(64) cu_tensor_map x;
    cu_tensor_map w;
    cu_tile_args t;
    int32_t stages; /* buffers */
    int32_t span;   /* rows of x that stay, a multiple of 8 */
    int32_t x_rows; /* of a slot of x: whole tiles, or 8 .. of a tile's rows; or of all slots */
    int32_t pad;
} cu_group_args;

/* Two linears of as many channels: taps, f16 and a snake or the like, whose result only the second
 * reads, and that (one tap), which may have a residual and all else. dilation: rows from tap to
 * tap.
 */
typedef struct cu_unit_args {
    cu_tile_args first, second;
    int32_t taps, dilation;
} cu_unit_args;

/* The same for linear_unit_group.cu: boxes of 32 columns. */
typedef struct cu_unit_group_args {
    UT_ALIGN(64) cu_tensor_map x;
    cu_tensor_map w, w2;
    cu_unit_args unit;
    int32_t span, pad; /* rows of x that a tile sees, a multiple of 8 */
} cu_unit_group_args;

/* A linear of a decoding step, of all slots, and what stands around it: norm(x) in front, where
 * x16 is x * gain and `square` the sums of squares that the maker of x left, and swiglu or the next
 * norm behind. Row m counts those of all slots. */
typedef struct cu_slots_args {
    cu_linear_args a; /* x16 [m, ldx]; n_out: rows of W, with swiglu gate, then up; y or 0 */
    int32_t steps;    /* of a part of the sum, of as many columns as the kernel has */
    int32_t cluster;  /* are the blocks of a tile of outputs a cluster? */
    int32_t share, share_log2; /* rows that each block of a cluster finishes; else all */
    int32_t swiglu;
    float eps;
    UT_DEV(const float) square; /* [tiles, m] or 0; x has k columns */
    int32_t square_tiles, ldy;
    UT_DEV(uint16_t) y16; /* [m, ldy] or 0: y as bf16, times y_gain where that is */
    UT_DEV(const float) y_gain;
    UT_DEV(float) y_square; /* [n_out / CU_SLOTS_N, m] or 0 */
} cu_slots_args;

/* ---- Row by row ------------------------------------------------------------------------------ */

typedef struct cu_norm_args {
    UT_DEV(const float) x;
    UT_DEV(float) y;
    int64_t x_slot, y_slot;
    UT_DEV(const float) gain;
    UT_DEV(const float) bias; /* [cols]; bias of layer_norm only */
    int32_t rows, slots, cols;
    float eps;
    UT_DEV(uint16_t) y16; /* [rows of all slots, ldy]: y as bf16; or 0 */
    int32_t ldy;
    int32_t y_type; /* of y, a cu_type */
} cu_norm_args;

#define CU_SWIGLU_EACH 4 /* elements that a thread makes */
/* swiglu: cols of the result. snake: alpha, beta [cols]. activation: act, a ut_act. */
typedef struct cu_map_args {
    UT_DEV(const float) x;
    UT_DEV(float) y;
    int64_t x_slot, y_slot;
    UT_DEV(const float) alpha;
    UT_DEV(const float) beta;
    int32_t rows, slots, cols, act;
    int32_t y_type, pad; /* of y, a cu_type */
} cu_map_args;

typedef struct cu_scale_args {
    UT_DEV(const float) x;
    UT_DEV(const float) gain; /* [1, cols] of every slot */
    UT_DEV(const float) residual;
    UT_DEV(float) y;
    int64_t x_slot, gain_slot, residual_slot, y_slot; /* residual or 0 */
    int32_t rows, slots, cols;
} cu_scale_args;

typedef struct cu_dwconv_args {
    UT_DEV(const float) x; /* the oldest row that row 0 sees */
    UT_DEV(float) y;
    int64_t x_slot, y_slot;
    UT_DEV(const float) w; /* [taps, cols] */
    UT_DEV(const float) bias;
    int32_t rows, slots, cols, taps;
} cu_dwconv_args;

typedef struct cu_history_args {
    UT_DEV(float) x;
    UT_DEV(float) state;
    int64_t x_slot, state_slot;
    UT_DEV(const int32_t) pos; /* or 0 */
    int64_t pos_slot;
    int32_t n, lead, slots; /* elements of the rows, and of the history before them */
    int32_t unit;           /* elements of x that are the history while *pos is 0; 0: none are */
    int32_t x_type, pad;    /* of x, a cu_type */
} cu_history_args;

typedef struct cu_copy_args {
    UT_DEV(const uint32_t) src;
    UT_DEV(uint32_t) dst;
    int64_t src_slot, dst_slot;
    int32_t n, slots;          /* elements of a slot */
    UT_DEV(const int32_t) n_t; /* or 0; src begins that many times src_per_t elements later */
    int32_t src_per_t;
} cu_copy_args;

typedef struct cu_copy_cols_args {
    UT_DEV(const float) src; /* at the first column */
    UT_DEV(float) dst;
    int64_t src_slot, dst_slot;
    int32_t rows, slots, n_cols;
    int32_t src_cols, dst_cols; /* of a row; src_cols 0: one row for all */
    int32_t add;
} cu_copy_cols_args;

/* ---- Signals --------------------------------------------------------------------------------- */

typedef struct cu_trim_args {
    UT_DEV(float) x;
    int64_t x_slot;
    UT_DEV(const int32_t) count;
    int64_t count_slot;
    int32_t rows, slots, cols, unit, repeat;
} cu_trim_args;

typedef struct cu_reflect_args {
    UT_DEV(const float) x;
    UT_DEV(float) y; /* the first row before row 0 */
    int64_t x_slot, y_slot;
    int32_t rows, slots, cols, left, right;
} cu_reflect_args;

typedef struct cu_pool_args {
    UT_DEV(const float) x;
    UT_DEV(const float) logits;
    UT_DEV(float) y;
    int64_t x_slot, logits_slot, y_slot; /* logits or 0 */
    int32_t rows, slots, cols;
} cu_pool_args;

/* ---- Looking up ------------------------------------------------------------------------------ */

typedef struct cu_embed_args {
    UT_DEV(const int32_t) ids;
    int64_t ids_slot;
    UT_DEV(const void) e;
    UT_DEV(const void) ce; /* tables [rows, ld] of their types */
    int32_t e_type, e_rows, e_ld, ce_type, ce_rows, ce_ld;
    UT_DEV(float) y;
    int64_t y_slot;
    int32_t rows, slots, n_ids, dim;
    int32_t begin, end, codebook_size;
    float scale;
} cu_embed_args;

typedef struct cu_gather_args {
    UT_DEV(const int32_t) ids; /* at the first column */
    int64_t ids_slot;
    UT_DEV(const void) table;
    int32_t type, ld;
    UT_DEV(const int32_t) range; /* [n_cols][2]: first row of the column's table, its size */
    UT_DEV(float) y;             /* at the first row to write */
    int64_t y_slot;
    int32_t rows, slots, ids_cols, n_cols, dim;
    UT_DEV(uint16_t) y16; /* [rows of all slots, ldy]: y as bf16; or 0 */
    int32_t ldy, size;    /* rows of the first column's table */
} cu_gather_args;

typedef struct cu_gather_sum_args {
    UT_DEV(const int32_t) ids; /* at the first column */
    int64_t ids_slot;
    UT_DEV(const void) table;
    int32_t type, ld;
    UT_DEV(const int32_t) range; /* as in cu_gather_args */
    UT_DEV(const float) residual;
    UT_DEV(const float) extra; /* [rows, dim] and [1, dim], or 0 */
    UT_DEV(float) y;
    int64_t residual_slot, extra_slot, y_slot;
    int32_t rows, slots, ids_cols, n_cols, dim;
    float scale;
} cu_gather_sum_args;

/* ---- Attention ------------------------------------------------------------------------------- */

typedef struct cu_angles_args {
    UT_DEV(const int32_t) pos; /* of the first slot, or 0 */
    int64_t pos_slot;
    UT_DEV(const float) frequency; /* [dim / 2] */
    UT_DEV(float) y;
    int64_t y_slot;
    int32_t rows, slots, dim, first_pos, round_bf16;
} cu_angles_args;

typedef struct cu_qkv_args {
    UT_DEV(const float) x;
    UT_DEV(const float) angles;
    int64_t x_slot, angles_slot;
    UT_DEV(const int32_t) pos;
    int64_t pos_slot;
    UT_DEV(const float) q_gain;
    UT_DEV(const float) k_gain; /* [dim] or 0 */
    UT_DEV(void) cache_k;
    UT_DEV(void) cache_v;
    int64_t cache_slot; /* elements */
    UT_DEV(float) y;
    int64_t y_slot;
    int32_t rows, slots, heads, kv_heads, dim;
    int32_t first_pos, capacity, cache_type;
    int32_t halves; /* ut_rope: pairs are i and i + dim / 2 */
    float eps;
    UT_DEV(const int32_t) n_t; /* or 0; rows from that one on are not remembered */
} cu_qkv_args;

typedef struct cu_attention_args {
    UT_DEV(const float) q;
    int64_t q_slot;
    UT_DEV(const int32_t) pos;
    int64_t pos_slot;
    UT_DEV(const void) cache_k;
    UT_DEV(const void) cache_v;
    int64_t cache_slot;
    UT_DEV(float) y;
    int64_t y_slot;
    int32_t rows, slots, heads, kv_heads, dim;
    int32_t first_pos, capacity, cache_type, reach; /* positions seen at most */
    float scale;
    int32_t at_once; /* heads of a block, which share keys; of the kernels below */
    int32_t y_type;  /* of y, a cu_type; of attention_flash.cu */
    /* decoding: positions of a chunk, and what blocks leave to the last of a row and its
     * heads: part [slots * rows, heads, max_chunks, dim + 2], arrived [slots * rows, heads /
     * at_once], see cu_linear_args */
    int32_t chunk, max_chunks;
    UT_DEV(float) part;
    UT_DEV(uint32_t) arrived;
} cu_attention_args;

/* Decoding with rotation and caches in front: q is not read, the rows' own keys and values come
 * from qkv.x, and go to the caches, too. */
typedef struct cu_split_args {
    cu_attention_args a;
    cu_qkv_args qkv;      /* x 0: a.q and caches are ready */
    UT_DEV(uint16_t) y16; /* [rows of all slots, ldy]: y as bf16, instead of a.y; or 0 */
    int32_t ldy;
    int32_t early; /* position and caches are as they should be before the kernel in front ends */
} cu_split_args;

/* Blocks of so many heads that a multiprocessor has registers for. */
#define CU_SPLIT_BLOCKS(heads) ((heads) <= 2 ? 2 : 1)

/* qkv_slots.cu: positions that it sees at most; blocks of a cluster, which share the outputs of a
 * key head and parts of K; and shared memory where a cluster has so many blocks, each of them
 * `share` rows of `group` heads of d dimensions and a key head. */
#define CU_QKV_KEYS   16
#define CU_QKV_BLOCKS 16
#define CU_QKV_SHARED(rows, steps, blocks, share, group, d)                                        \
    (CU_SLOTS_SHARED(rows, steps, CU_SLOTS_COLUMNS, (blocks) * (share)) +                          \
     (share) * (((group) + 2) * (d)*4 + 2 * CU_QKV_KEYS * ((d) + 8) * 2))
typedef struct cu_qkv_slots_args {
    cu_slots_args
        s; /* of the product, whose y nobody reads; share: rows that a block attends for */
    cu_qkv_args qkv;      /* x and y are not used; of one row, at first_pos */
    UT_DEV(uint16_t) y16; /* [slots, ldy] */
    float scale;          /* of scores */
    int32_t ldy;
} cu_qkv_slots_args;

/* attention_slots.cu: positions of a tile and of a chunk, its threads, as many blocks as a
 * multiprocessor should have, and shared memory for so many heads of d dimensions. */
#define CU_STEP_KEYS    64
#define CU_STEP_CHUNK   256
#define CU_STEP_THREADS 128
#define CU_STEP_BLOCKS  2
#define CU_STEP_SHARED(d, heads)                                                                   \
    (2 * 2 * CU_STEP_KEYS * (d)*2 + (heads) * (CU_STEP_THREADS / 32 * ((d) + 2) * 4 + (d)*4))

/* attention_flash.cu: positions that a block takes at a time, its threads, and its shared memory
 * for heads of up to d dimensions. */
#define CU_FLASH_KEYS      64
#define CU_FLASH_THREADS   128
#define CU_FLASH_SHARED(d) (4 * CU_FLASH_KEYS * (d)*2)

/* ---- Deciding -------------------------------------------------------------------------------- */

typedef struct cu_nearest_args {
    UT_DEV(const float) e;
    int64_t e_slot;
    UT_DEV(const float) table; /* [n, ld], rows of length 1 unless euclid */
    UT_DEV(int32_t) codes;
    int64_t codes_slot;
    int32_t rows, slots, dim, n, ld, codes_cols, col, euclid;
} cu_nearest_args;

typedef struct cu_sample_args {
    UT_DEV(const float) logits;
    int64_t logits_slot;
    UT_DEV(const float) noise;
    int64_t noise_slot; /* or 0 */
    UT_DEV(float) probs;
    int64_t probs_slot; /* or 0 */
    UT_DEV(const float) params;
    int64_t params_slot;
    UT_DEV(const int32_t) rng;
    int64_t rng_slot;
    UT_DEV(const int32_t) frame;
    int64_t frame_slot;
    UT_DEV(int32_t) history;
    int64_t history_slot; /* or 0 */
    UT_DEV(int32_t) dst;
    int64_t dst_slot;
    UT_DEV(float) work; /* [slots, 2 CU_SAMPLE_ROW(n)] where shared memory is too small, else 0 */
    int32_t slots, n, history_cols, col, decision, penalty, penalty_col;
    int32_t id_first, n_range, id_extra, extra_from_frame;
    int32_t temper_first; /* ut_narrowing */
} cu_sample_args;

typedef struct cu_token_code_args {
    UT_DEV(int32_t) column;
    int64_t column_slot;
    int32_t slots, begin, n_codes;
} cu_token_code_args;

typedef struct cu_ring_args {
    UT_DEV(const int32_t) column;
    UT_DEV(const int32_t) frame;
    UT_DEV(int32_t) history;
    UT_DEV(int32_t) ring;
    int64_t column_slot, frame_slot, history_slot, ring_slot;
    /* the ring's copy in memory of the host: rows, and per row epoch << 32 | frame + 1 */
    UT_DEV(int32_t) mirror;
    UT_DEV(uint64_t) stamp;
    UT_DEV(const uint32_t) epoch; /* [slots] */
    int32_t slots, cols, ring_rows, history_rows;
} cu_ring_args;

typedef struct cu_ring_get_args {
    UT_DEV(const int32_t) ring;
    UT_DEV(const int32_t) counter;
    UT_DEV(int32_t) y;
    int64_t ring_slot, counter_slot, y_slot;
    int32_t slots, cols, ring_rows, offset, add;
} cu_ring_get_args;

typedef struct cu_advance_args {
    UT_DEV(int32_t) counter;
    int64_t counter_slot;
    int32_t slots;
    uint32_t by, per_t;
    UT_DEV(const int32_t) n_t; /* or 0; that many times per_t more */
} cu_advance_args;

/* ---- Loading --------------------------------------------------------------------------------- */

/* Rows of a checkpoint's tensor to rows of a matrix on the device. */
typedef struct cu_convert_args {
    UT_DEV(const void) src; /* [rows, cols], dense */
    UT_DEV(void) dst;       /* [rows, ld]: columns from cols on become 0 */
    int32_t src_type, dst_type, rows, cols, ld;
    UT_DEV(uint16_t) scale; /* at the first row's; of CU_Q8 and CU_Q4, else 0 */
} cu_convert_args;

/* A matrix of CU_Q8 or CU_Q4 as bf16 or f16. */
typedef struct cu_unpack_args {
    UT_DEV(const void) src; /* n numbers, a multiple of CU_K_ALIGN */
    UT_DEV(const uint16_t) scale;
    UT_DEV(uint16_t) dst;
    int64_t n;
    int32_t type, pad; /* CU_BF16 or CU_F16 */
} cu_unpack_args;
#define CU_UNPACK_EACH 16 /* numbers of a thread */

/* ---- All kernels ----------------------------------------------------------------------------- */

/* X(name, arguments, file): what kernels/FILE.cu has. */
#define CU_KERNELS(X)                                                                              \
    X(linear_few_f32_1, cu_linear_args, linear)                                                    \
    X(linear_few_f32_4, cu_linear_args, linear)                                                    \
    X(linear_few_bf16_1, cu_linear_args, linear)                                                   \
    X(linear_few_bf16_4, cu_linear_args, linear)                                                   \
    X(linear_few_f16_1, cu_linear_args, linear)                                                    \
    X(linear_few_f16_4, cu_linear_args, linear)                                                    \
    X(linear_tile_f32, cu_linear_args, linear)                                                     \
    X(linear_tile_bf16, cu_linear_args, linear)                                                    \
    X(linear_tile_f16, cu_linear_args, linear)                                                     \
    X(linear_finish, cu_linear_args, linear)                                                       \
    X(linear_few_q8_1, cu_linear_args, linear_packed)                                              \
    X(linear_few_q8_4, cu_linear_args, linear_packed)                                              \
    X(linear_few_q4_1, cu_linear_args, linear_packed)                                              \
    X(linear_few_q4_4, cu_linear_args, linear_packed)                                              \
    X(linear_tile_q8, cu_linear_args, linear_packed)                                               \
    X(linear_tile_q4, cu_linear_args, linear_packed)                                               \
    X(linear_pack, cu_tile_args, linear_mma)                                                       \
    X(linear_mma_128, cu_tile_args, linear_mma)                                                    \
    X(linear_mma_64, cu_tile_args, linear_mma)                                                     \
    X(linear_mma_128_f16, cu_tile_args, linear_mma)                                                \
    X(linear_mma_tall, cu_tile_args, linear_mma)                                                   \
    X(linear_mma_tall_f16, cu_tile_args, linear_mma)                                               \
    X(linear_mma_64_f16, cu_tile_args, linear_mma)                                                 \
    X(linear_mma_finish, cu_tile_args, linear_mma)                                                 \
    X(linear_one, cu_tile_args, linear_one)                                                        \
    X(linear_taps_128, cu_tile_args, linear_mma)                                                   \
    X(linear_taps_tall, cu_tile_args, linear_mma)                                                  \
    X(linear_box_128, cu_box_args, linear_mma)                                                     \
    X(linear_box_tall, cu_box_args, linear_mma)                                                    \
    X(linear_box_64, cu_box_args, linear_mma)                                                      \
    X(linear_box_128_f16, cu_box_args, linear_mma)                                                 \
    X(linear_box_tall_f16, cu_box_args, linear_mma)                                                \
    X(linear_box_64_f16, cu_box_args, linear_mma)                                                  \
    X(linear_box_taps_128, cu_box_args, linear_mma)                                                \
    X(linear_box_taps_tall, cu_box_args, linear_mma)                                               \
    X(linear_group_64, cu_group_args, linear_group)                                                \
    X(linear_group_tall, cu_group_args, linear_group)                                              \
    X(linear_group_128, cu_group_args, linear_group)                                               \
    X(linear_group_192, cu_group_args, linear_group)                                               \
    X(linear_group_64_f16, cu_group_args, linear_group)                                            \
    X(linear_group_96_f16, cu_group_args, linear_group)                                            \
    X(linear_group_192_f16, cu_group_args, linear_group)                                           \
    X(linear_group_taps_192, cu_group_args, linear_group)                                          \
    X(linear_unit_group, cu_unit_group_args, linear_unit_group)                                    \
    X(linear_unit, cu_unit_args, linear_unit)                                                      \
    X(linear_slots_8, cu_slots_args, linear_slots)                                                 \
    X(linear_slots_16, cu_slots_args, linear_slots)                                                \
    X(linear_slots_32, cu_slots_args, linear_slots)                                                \
    X(linear_slots_64, cu_slots_args, linear_slots)                                                \
    X(linear_slots_8_wide, cu_slots_args, linear_slots)                                            \
    X(linear_slots_16_wide, cu_slots_args, linear_slots)                                           \
    X(linear_slots_32_wide, cu_slots_args, linear_slots)                                           \
    X(linear_slots_64_wide, cu_slots_args, linear_slots)                                           \
    X(linear_slots_q8_8, cu_slots_args, linear_slots_packed)                                       \
    X(linear_slots_q8_16, cu_slots_args, linear_slots_packed)                                      \
    X(linear_slots_q8_32, cu_slots_args, linear_slots_packed)                                      \
    X(linear_slots_q8_64, cu_slots_args, linear_slots_packed)                                      \
    X(linear_slots_q8_8_wide, cu_slots_args, linear_slots_packed)                                  \
    X(linear_slots_q8_16_wide, cu_slots_args, linear_slots_packed)                                 \
    X(linear_slots_q8_32_wide, cu_slots_args, linear_slots_packed)                                 \
    X(linear_slots_q8_64_wide, cu_slots_args, linear_slots_packed)                                 \
    X(linear_slots_q4_8, cu_slots_args, linear_slots_packed)                                       \
    X(linear_slots_q4_16, cu_slots_args, linear_slots_packed)                                      \
    X(linear_slots_q4_32, cu_slots_args, linear_slots_packed)                                      \
    X(linear_slots_q4_64, cu_slots_args, linear_slots_packed)                                      \
    X(linear_slots_q4_8_wide, cu_slots_args, linear_slots_packed)                                  \
    X(linear_slots_q4_16_wide, cu_slots_args, linear_slots_packed)                                 \
    X(linear_slots_q4_32_wide, cu_slots_args, linear_slots_packed)                                 \
    X(linear_slots_q4_64_wide, cu_slots_args, linear_slots_packed)                                 \
    X(qkv_slots_64_8, cu_qkv_slots_args, qkv_slots)                                                \
    X(qkv_slots_64_32, cu_qkv_slots_args, qkv_slots)                                               \
    X(qkv_slots_128_8, cu_qkv_slots_args, qkv_slots)                                               \
    X(qkv_slots_128_32, cu_qkv_slots_args, qkv_slots)                                              \
    X(qkv_slots_q8_64_8, cu_qkv_slots_args, qkv_slots)                                             \
    X(qkv_slots_q8_64_32, cu_qkv_slots_args, qkv_slots)                                            \
    X(qkv_slots_q8_128_8, cu_qkv_slots_args, qkv_slots)                                            \
    X(qkv_slots_q8_128_32, cu_qkv_slots_args, qkv_slots)                                           \
    X(rms_norm, cu_norm_args, rows)                                                                \
    X(layer_norm, cu_norm_args, rows)                                                              \
    X(swiglu, cu_map_args, rows)                                                                   \
    X(snake, cu_map_args, rows)                                                                    \
    X(activation, cu_map_args, rows)                                                               \
    X(scale, cu_scale_args, rows)                                                                  \
    X(dwconv, cu_dwconv_args, rows)                                                                \
    X(history, cu_history_args, signal)                                                            \
    X(trim, cu_trim_args, signal)                                                                  \
    X(reflect, cu_reflect_args, signal)                                                            \
    X(pool, cu_pool_args, signal)                                                                  \
    X(copy, cu_copy_args, rows)                                                                    \
    X(copy_cols, cu_copy_cols_args, rows)                                                          \
    X(embed_sum, cu_embed_args, rows)                                                              \
    X(gather, cu_gather_args, rows)                                                                \
    X(gather_sum, cu_gather_sum_args, rows)                                                        \
    X(rope_angles, cu_angles_args, rows)                                                           \
    X(qkv, cu_qkv_args, attention)                                                                 \
    X(attention, cu_attention_args, attention)                                                     \
    X(attention_split_1, cu_split_args, attention_split)                                           \
    X(attention_split_2, cu_split_args, attention_split)                                           \
    X(attention_split_4, cu_split_args, attention_split)                                           \
    X(attention_split_8, cu_split_args, attention_split)                                           \
    X(attention_slots_64, cu_split_args, attention_slots)                                          \
    X(attention_slots_128, cu_split_args, attention_slots)                                         \
    X(flash_64, cu_attention_args, attention_flash)                                                \
    X(flash_128, cu_attention_args, attention_flash)                                               \
    X(nearest, cu_nearest_args, decide)                                                            \
    X(sample, cu_sample_args, decide)                                                              \
    X(token_code, cu_token_code_args, rows)                                                        \
    X(ring_put, cu_ring_args, rows)                                                                \
    X(ring_get, cu_ring_get_args, rows)                                                            \
    X(advance, cu_advance_args, rows)                                                              \
    X(convert, cu_convert_args, rows)                                                              \
    X(pack_q8, cu_convert_args, linear_packed)                                                     \
    X(pack_q4, cu_convert_args, linear_packed)                                                     \
    X(unpack_q8, cu_unpack_args, linear_packed)                                                    \
    X(unpack_q4, cu_unpack_args, linear_packed)                                                    \
    X(slot_ops, cu_slot_ops_args, slot_ops)                                                        \
    X(frame, cu_frame_args, frame)                                                                 \
    X(frame_bf16_64, cu_frame_args, frame_bf16)                                                    \
    X(frame_bf16_128, cu_frame_args, frame_bf16)

#endif
