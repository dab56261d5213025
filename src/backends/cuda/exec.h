/* exec.h - the insides of the CUDA backend: the opened device, weights on it, states, and compiled
 * plans. device.c opens, allocates and waits; weights.c uploads; state.c keeps states; compile.c
 * makes steps, launch_*.c turn a step into kernel launches, run.c runs them; cuda.c is the
 * backend's table. */
#ifndef UT_BACKENDS_CUDA_EXEC_H
#define UT_BACKENDS_CUDA_EXEC_H

#include "backends/backend.h"
#include "backends/cuda/args.h"
#include "backends/cuda/driver.h"
#include "backends/cuda/fatbin.h"
#include "backends/cuda/frame_args.h"

/* Numbers of the kernels. */
enum {
#define X(name, args, file) CU_K_##name,
    CU_KERNELS(X)
#undef X
        CU_K_COUNT
};

/* ---- Weights on the device (weights.c) ------------------------------------------------------- */

typedef enum cu_form {
    CU_FORM_ROWS,   /* [rows, ld] in the backend's precision, for products */
    CU_FORM_HEARD,  /* the same of a plan that chooses no codes: see cu_weight_get */
    CU_FORM_TABLE,  /* the same in the stored type, for look-ups */
    CU_FORM_F32,    /* the same in f32 */
    CU_FORM_VECTOR, /* f32 [cols] */
    CU_FORM_UNIT,   /* f32 [rows, ld], every row scaled to length 1 */
    CU_FORM_TAPS    /* f32 [cols, rows]: the transposed matrix */
} cu_form;

typedef struct cu_weight {
    const ut_weight *w;
    cu_form form;
    cu_type type;
    int32_t ld; /* elements from one row to the next */
    cu_ptr data;
    size_t bytes;
    int refs;
} cu_weight;

typedef struct cu_weight_set {
    cu_weight **items; /* owned */
    size_t n, cap;
    size_t bytes;
} cu_weight_set;

/* Memory of the host through which everything is uploaded: two halves, one being filled while the
 * other is copied. */
typedef struct cu_staging {
    uint8_t *host[2]; /* pinned */
    cu_ptr device[2]; /* the same bytes on their way to a conversion */
    cu_event done[2];
    int next;
} cu_staging;

/* ---- The device (device.c) ------------------------------------------------------------------- */

/* How frames run, and what of a prompt follows its last row. The results of PHASES and WHOLE are
 * the same bits. */
typedef enum cu_frames {
    CU_FRAMES_AUTO,   /* the faster one of the last two, where the plan can be phases and its steps
                         are not faster by rule (compile.c: is_stepped) */
    CU_FRAMES_STEPS,  /* a captured graph of one kernel or two per operation */
    CU_FRAMES_PHASES, /* a captured graph of one kernel per phase */
    CU_FRAMES_WHOLE   /* one kernel for all */
} cu_frames;

typedef struct cu_arena cu_arena;
typedef struct cu_exec cu_exec;

typedef struct cu_backend {
    ut_backend head;
    cu_driver d;
    cu_device device;
    cu_context context;
    int ordinal, sm_count, cc; /* cc: 90 for 9.0 */
    size_t memory;             /* bytes of the device */
    size_t shared_limit;       /* bytes of shared memory that a block may have */
    cu_frames frames;          /* asked for */
    cu_frames chosen;          /* of one slot's frames, by AUTO, or AUTO: none were compiled */
    float frame_ms[2];         /* and why: a frame WHOLE and in PHASES, or 0: not by timing */
    int driver_version;        /* 13000 for 13.0 */
    char name[96];
    cu_module modules[CU_FATBINS];
    int n_modules;
    cu_function kernels[CU_K_COUNT];
    cu_stream stream; /* of uploads and of plans without states */
    ut_precision precision;
    ut_attention attention;
    bool mma;    /* the kernels of mma.cuh can be used */
    bool groups; /* linear_group.cu has code for this device */
    bool hopper; /* kernels were built for 9.0 or newer: they wait for the one in front themselves,
                    and blocks of a cluster read each other's shared memory */
    bool large_clusters; /* those of qkv_slots.cu */
    cu_weight_set weights;
    cu_arena *arenas;
    const cu_exec *last; /* whose run came last; NULL: nobody's who is left */
    cu_staging staging;
    uint64_t n_states; /* opened so far: their names in caches of graphs */
    double patience;   /* s, after which what is waited for is stuck */
    bool stuck;        /* it was: nothing is waited for any more */
    cu_result failed;  /* the first failure of a call that cannot report one */
    const char *failed_at;
} cu_backend;

utter_status cu_open(ut_backend **out, const ut_backend_params *params, ut_err *err);
void cu_close(ut_backend *backend);
bool cu_probe(int ordinal, char *text, size_t size);
int cu_count(void);

/* Make the backend's context the calling thread's. */
void cu_enter(cu_backend *b);
/* ERR_BACKEND: what failed, where; also remembers it. */
utter_status cu_fail(cu_backend *b, cu_result r, const char *what, ut_err *err);
/* For calls without a status: remember the first failure, which the next run reports. */
void cu_note(cu_backend *b, cu_result r, const char *what);
/* What cu_note remembered, as an error. */
utter_status cu_check(cu_backend *b, ut_err *err);

/* Memory of the device; ERR_NOMEM says what for, how much is free, and what to lower. */
utter_status cu_alloc(cu_backend *b, size_t bytes, cu_ptr *out, ut_err *err, const char *fmt, ...)
    UT_PRINTF(5, 6);
void cu_free(cu_backend *b, cu_ptr p); /* 0 is fine */
/* Memory of the host that the device can read and write; device may be NULL. */
utter_status cu_alloc_host(cu_backend *b, size_t bytes, void **out, cu_ptr *device, ut_err *err);
void cu_free_host(cu_backend *b, void *p); /* NULL is fine */

/* Wait for an event, at most so long that only a stuck kernel can be the reason for more. */
utter_status cu_wait(cu_backend *b, cu_event e, const char *what, ut_err *err);
/* The same for all that a stream has been asked for. */
cu_result cu_sync(cu_backend *b, cu_stream stream);
/* Once around a waiting loop that started at `since`: spins at first, then sleeps. ERR_BACKEND
 * after the longest wait: the backend has failed for good, and closing it and what belongs to it
 * gives back only what no kernel can be using. */
utter_status cu_wait_more(cu_backend *b, double since, const char *what, ut_err *err);

/* weights.c. What a plan that chooses no codes computes is heard, or compared with codebooks: where
 * tensor cores make products of bf16, its matrices and their x are f16 instead, which has 3 more
 * bits for as many bytes; and so they are beside matrices in blocks. */
utter_status cu_weight_get(cu_backend *b, const ut_weight *w, cu_form form, cu_weight **out,
                           ut_err *err);
void cu_weight_release(cu_backend *b, cu_weight *w); /* NULL is fine */
/* Are they in blocks of whole numbers? */
static inline bool cu_is_packed(cu_type t)
{
    return t == CU_Q8 || t == CU_Q4;
}
/* The type of w's rows in a plan that chooses codes; whether they are f16 in one that does not. */
cu_type cu_weight_rows_type(const cu_backend *b, const ut_weight *w);
bool cu_weight_is_narrowed(const cu_backend *b, const ut_weight *w);
void cu_weight_set_free(cu_backend *b);
/* Small things in one piece. */
utter_status cu_upload(cu_backend *b, cu_ptr dst, const void *src, size_t bytes, ut_err *err);

/* ---- States (state.c) ------------------------------------------------------------------------ */

/* The type in which a state tensor is kept: key and value caches are bf16 where matrices are or
 * have fewer bits. */
ut_dtype cu_state_dtype(const cu_backend *b, const ut_state_def *d);

typedef struct cu_state {
    ut_state head;
    uint64_t id;
    cu_stream stream; /* of all its runs */
    cu_ptr memory;
    size_t bytes;
    cu_ptr data[UT_STATE_MAX]; /* tensor i of slot 0 */
    size_t slot[UT_STATE_MAX]; /* bytes from one slot to the next */
    cu_ptr reset;              /* what a reset clears: [slots, reset_bytes] */
    size_t reset_bytes;
    cu_ptr epoch;     /* u32 [slots]: resets so far */
    uint32_t *epochs; /* [slots] the same, as the host knows it */
    /* i32 tensors of several rows may be rings: copies of them in the host's memory */
    uint8_t *mirror;
    cu_ptr mirror_device;
    size_t ring[UT_STATE_MAX];  /* offset of the rows [slots, rows, cols] in mirror */
    size_t stamp[UT_STATE_MAX]; /* offset of the stamps u64 [slots, rows] */
} cu_state;

utter_status cu_state_new(ut_backend *b, const ut_state_set *set, int n_slots, ut_state **out,
                          ut_err *err);
void cu_state_free(ut_state *s);
void cu_state_reset(ut_state *s, int slot);
void cu_state_write(ut_state *s, int index, int slot, int32_t row, int32_t n_rows, const void *src);
void cu_state_read(ut_state *s, int index, int slot, int32_t row, int32_t n_rows, void *dst);
cu_ptr cu_state_rows(const cu_state *s, int index, int slot, int32_t row);
/* Bytes of n rows as the device has them. */
size_t cu_rows_bytes(const cu_state *s, const ut_state_def *d, int32_t n_rows);
utter_status cu_ring_wait(ut_state *s, int index, int slot, int64_t frame, int32_t *dst,
                          ut_err *err);
bool cu_ring_ready(ut_state *s, int index, int slot, int64_t frame);

/* saved.c */
utter_status cu_save(ut_state *s, int slot, int first, int n, int32_t n_rows, ut_saved **out,
                     ut_err *err);
void cu_load(ut_state *s, int slot, ut_saved *saved);
void cu_saved_free(ut_saved *saved);

/* ---- Compiled plans -------------------------------------------------------------------------- */

/* Where a tensor lies: [slots, lead + rows, cols] in the arena, or a state tensor. */
typedef struct cu_place {
    bool set;
    int32_t state;  /* -1: in the arena */
    size_t offset;  /* of the first lead row */
    ut_dtype dtype; /* bf16 or f16 in the arena: only products on tensor cores read it (narrow.c) */
    int32_t rows_per_t, rows_fixed, cols;
    int64_t lead; /* elements before row 0 */
} cu_place;

typedef struct cu_run cu_run;
typedef struct cu_step cu_step;
typedef void cu_launch_fn(cu_run *r, const cu_step *s);

/* What a step of a decoding plan does beside its own operation (fuse.c), and what it hands on: rows
 * as bf16, for the products that read them, and sums of squares, for the norm in front of those. */
typedef struct cu_links {
    bool merged; /* another step does it */
    bool folded; /* a norm that is part of the products that read it, or angles that are known */
    int32_t swiglu, qkv;  /* a linear does this step, too; attention that one; -1: none */
    int32_t product;      /* attention does that one in front of qkv, too, or -1 */
    int32_t snake;        /* a linear's result goes through it, to what is narrow, or -1 */
    int32_t unit;         /* a linear's result is only for this one, and is made along, or -1 */
    int32_t norm;         /* whose squares and gain a linear's result is for, or -1 */
    int32_t group;        /* steps of slots in one launch, this one the first; 0: none */
    bool no_f32;          /* nobody reads the result as f32 */
    bool early;           /* attention: nothing in front of it in the run changes what it reads of
                             its caches and its position */
    float eps;            /* of the norm that is part of a linear */
    int32_t ldx, ldy;     /* elements of a row */
    int32_t square_tiles; /* of square, a maker's tiles of outputs */
    cu_ptr x16, square;   /* of a linear; 0: x is made bf16 by itself; there is no norm */
    cu_ptr y16, y_square; /* or 0 */
} cu_links;

/* One op: operands by place, weights on the device. */
struct cu_step {
    cu_launch_fn *launch;
    const ut_op *op;
    cu_place in[6], out[2];
    const cu_weight *w[5];
    cu_ptr table;  /* what compile computed: rope frequencies or angles, ranges of a gather */
    cu_ptr angles; /* of a qkv, where they are in a table, or 0 */
    cu_ptr work;   /* scratch of a sampler of many entries */
    cu_links links;
};

/* A captured run. */
typedef struct cu_captured {
    cu_graph_exec graph; /* NULL: seen once, captured at the next run */
    uint64_t state;      /* id; 0: none */
    int first_slot;
    int32_t n_t;
    uint64_t used; /* run number of the last use */
    cu_ptr tables; /* of phases; they stay when the entry is used for another run */
    bool ready;    /* they are this run's */
    cu_frame_args args;
} cu_captured;

enum { CU_GRAPHS = 24 };    /* per plan */
enum { CU_MAX_SLOTS = 64 }; /* of a plan */

/* An input's or output's memory of the host. */
typedef struct cu_host_copy {
    ut_tid tensor;
    uint8_t *data; /* pinned */
} cu_host_copy;

typedef struct cu_frame cu_frame;

/* Memory in which plans work, one run after another: that of all execs of a plan which fit into it
 * (arena.c). */
struct cu_arena {
    cu_arena *next; /* of the backend */
    const ut_plan *plan;
    cu_ptr memory;
    size_t bytes;
    int users;
    const cu_exec *last; /* whose run came last; NULL: nobody's who is left */
};

/* *added: bytes that are new. */
utter_status cu_arena_get(cu_exec *e, size_t bytes, size_t *added, ut_err *err);
void cu_arena_release(cu_exec *e); /* none is fine */

struct cu_exec {
    ut_exec head;
    int n_slots;
    int32_t max_t, last_t;
    cu_arena *arena;
    cu_ptr tables, part, work;
    size_t arena_bytes, table_bytes, part_bytes, work_bytes;
    cu_ptr
        n_t; /* i32, in tables: T of the run, where graphs are for more; 0: they are for their T */
    cu_ptr half,
        arrived; /* x of products as bf16; counters of blocks (last_block), 0 between them */
    cu_ptr wide; /* a matrix of blocks as tiles take it */
    size_t half_bytes, arrived_bytes, wide_bytes;
    cu_ptr side; /* what links point to */
    size_t side_bytes;
    cu_place *places; /* [n_tensors] */
    cu_step *steps;   /* [n_steps] */
    int32_t n_steps;
    cu_weight **weights; /* references to give back */
    size_t n_weights, cap_weights;
    cu_host_copy *inputs, *outputs;
    int n_inputs, n_outputs;
    cu_event copied;  /* inputs of the last run have left the host */
    cu_event done;    /* the last run */
    cu_stream stream; /* of the last run; NULL: none yet */
    cu_captured graphs[CU_GRAPHS];
    uint64_t n_runs;
    bool heard;      /* it chooses no codes */
    bool stepped;    /* it does, and runs as steps, whose products linear_slots.cuh makes */
    ut_kept *kept;   /* [n_tensors] and what is narrow: in the type of the products that read it */
    int32_t tail;    /* operations from here on could be phases: no memory is used for two of
                        their tensors */
    cu_frame *frame; /* they are; or NULL */
    cu_ptr trace;
    cu_frames frames; /* how they run */
};

/* A launch that was asked for. */
typedef struct cu_record {
    int kernel;
    uint8_t args[sizeof(cu_slot_op)];
} cu_record;

/* A run being turned into launches. */
struct cu_run {
    cu_backend *b;
    cu_exec *e;
    cu_state *s;
    int first_slot;
    int32_t n_t; /* of the launches: what was asked for, or the next length that has a graph */
    cu_stream stream;
    cu_result result;  /* the first failure */
    bool in_graph;     /* all that ran before has ended when the first launch begins */
    bool in_order;     /* the next launch begins when the one in front has ended, so that what comes
                          after it may read what that made before it waits: a kernel starts once
                          all blocks of the one in front have started */
    cu_record *record; /* not NULL: launches go here */
};

utter_status cu_compile(ut_backend *b, const ut_plan *plan, int n_slots, int32_t max_t,
                        ut_exec **out, ut_err *err);
void cu_exec_free(ut_exec *e);
size_t cu_exec_bytes(const ut_exec *e);

void *cu_input(ut_exec *e, ut_tid t, int32_t n_t);
utter_status cu_run_plan(ut_exec *e, ut_state *s, int first_slot, int32_t n_t, ut_err *err);
bool cu_done(ut_exec *e);
const void *cu_output(ut_exec *e, ut_tid t, ut_err *err);

/* For benchmarks: a run outside any graph with the device's clock read around every step; ms
 * [n_ops of the plan]. Waits for its end. */
utter_status cu_run_timed(ut_exec *e, ut_state *s, int first_slot, int32_t n_t, float *ms,
                          ut_err *err);

/* Free all captured runs. */
void cu_exec_forget(cu_exec *e);

/* ---- Narrow tensors (narrow.c) ----------------------------------------------------------------
 */

/* Find tensors that only products on tensor cores read, snakes that belong to the product in front
 * of them, residual units, and residuals whose place the result takes. As cu_fuse; fills e->kept.
 */
void cu_narrow(cu_exec *e, cu_backend *b, ut_op_time *when);
/* Is the step a product of tiles on tensor cores? */
bool cu_is_tile_linear(const cu_exec *e, const cu_backend *b, const cu_step *s);
/* Could linear_unit.cu do both? */
bool cu_is_unit(const cu_backend *b, const cu_step *first, const cu_step *second);
/* Does it, where each slot has so many rows? Not for few: they are two products. */
bool cu_unit_pays(const cu_backend *b, int32_t rows, int n_slots);

/* ---- Linked steps (fuse.c) -------------------------------------------------------------
 */

/* Find what steps of a decoding plan, or those that follow a prompt's last row, can do together;
 * when [n_ops]: where each operation reads and writes then. Steps have their operations and
 * weights, but no places. */
utter_status cu_fuse(cu_exec *e, cu_backend *b, ut_op_time *when, ut_err *err);

/* The first of a plan's operations of which all to its end are the same whatever T is. compile.c */
int32_t cu_fixed_from(const ut_plan *p);
/* Are they angles of positions that are the same in every run? A table has them. compile.c */
bool cu_angles_are_known(const ut_plan *p, const ut_op *op);
/* Launch step i, unless another one does what it is for. */
void cu_launch_step(cu_run *r, int32_t i);
/* What a step's launch hands its kernel, instead of launching it; the kernel, or -1. */
int cu_arguments_of(cu_run *r, const cu_step *s, void *args, size_t size);

/* ---- Frames in phases (frame.c) -------------------------------------------------------------- */

/* e->frame, or none where e->tail cannot be phases; then e->frames, by timing. */
utter_status cu_frame_new(cu_exec *e, cu_backend *b, ut_err *err);
utter_status cu_frame_choose(cu_exec *e, cu_backend *b, ut_err *err);
void cu_frame_free(cu_backend *b, cu_frame *f); /* NULL is fine */
/* Tables for the run's state and slots. */
utter_status cu_frame_prepare(cu_run *r, cu_captured *c, ut_err *err);
/* For benchmarks: a frame WHOLE, and when block 0 began each of its phases [n_phases], in ticks of
 * the device. Waits for its end. */
utter_status cu_frame_traced(ut_exec *exec, ut_state *s, uint64_t *times, ut_err *err);
void cu_frame_launch_whole(cu_run *r, const cu_captured *c);
void cu_frame_launch_phases(cu_run *r, const cu_captured *c);

/* ---- Launching ------------------------------------------------------------------------------- */

/* A tensor of a run: row 0 of its first slot, and elements from one slot to the next. */
typedef struct cu_view {
    cu_ptr p;
    int64_t slot;
    int32_t rows, cols;
} cu_view;

cu_view cu_view_of(const cu_run *r, const cu_place *p);
static inline int32_t cu_rows(const cu_place *p, int32_t n_t)
{
    return p->rows_per_t * n_t + p->rows_fixed;
}

void cu_launch(cu_run *r, int kernel, int64_t grid_x, int64_t grid_y, int64_t grid_z,
               size_t shared_bytes, const void *args);
/* The same with fewer threads to a block. */
void cu_launch_threads(cu_run *r, int kernel, int threads, int64_t grid_x, int64_t grid_y,
                       int64_t grid_z, size_t shared_bytes, const void *args);
/* The same, where blocks of one x and z are a cluster: for b->hopper only. */
void cu_launch_cluster(cu_run *r, int kernel, int64_t grid_x, int64_t grid_y, int64_t grid_z,
                       size_t shared_bytes, const void *args);

/* How many parts the sums of a linear are cut into for the grid, 1: none; and the most rows at
 * which there are parts. */
int32_t cu_linear_parts(const cu_backend *b, int64_t rows, int32_t n_out, int32_t ld);
int64_t cu_linear_most_rows(const cu_backend *b, int32_t n_out);

/* A linear as its kernels take it. */
cu_linear_args cu_linear_of(const cu_run *r, const cu_step *s);
/* Launch a linear whose matrix is in blocks without tensor cores (launch_packed.c); false: it is
 * not. */
bool cu_launch_linear_packed(cu_run *r, const cu_step *s, cu_linear_args *a);
/* Such a matrix to r->e->wide, as bf16 or f16. */
void cu_launch_unpack(cu_run *r, const cu_weight *w, cu_type narrow);
/* Scratch of one step, in bytes. */
typedef struct cu_scratch {
    size_t part, half, arrived, wide;
} cu_scratch;
/* launch_matmul.c: launch a linear on tensor cores; false: it is not one for them. */
bool cu_launch_linear_mma(cu_run *r, const cu_step *s, cu_linear_args *a);
cu_scratch cu_linear_mma_scratch(const cu_exec *e, const cu_backend *b, const cu_step *s);
/* launch_slots.c: is the step one of its products? Launch it. */
bool cu_is_slots_linear(const cu_exec *e, const cu_backend *b, const cu_step *s);
void cu_launch_slots(cu_run *r, const cu_step *s, cu_linear_args *a);
cu_scratch cu_slots_scratch(const cu_exec *e, const cu_backend *b, const cu_step *s);
/* Attention of few known positions with the product that makes its queries, keys and values, by
 * large clusters: can that be done, and do it. */
bool cu_is_qkv_slots(const cu_exec *e, const cu_backend *b, const cu_step *product,
                     const cu_step *attention);
void cu_launch_qkv_slots(cu_run *r, const cu_step *attention, const cu_qkv_args *qkv);
/* launch_attention.c */
cu_scratch cu_attention_scratch(const cu_exec *e, const cu_backend *b, const cu_step *s);
/* Can the fast kernels compute this attention? Where not, why: a few words. */
bool cu_attention_is_fast(const cu_backend *b, const ut_plan *p, const ut_op *op, const char **why);
cu_type cu_place_type(const cu_place *cache);

/* launch_group.c: a tensor [slots, rows, cols] of rows of ld elements of two bytes, of which a box
 * has so many columns, 32 or 64, and rows; false: there can be no map of it. */
typedef struct cu_rows_box {
    int32_t cols, slots, ld, box_cols, box_rows;
    int64_t rows, slot; /* elements from slot to slot, where there are more */
} cu_rows_box;
bool cu_map_rows(const cu_backend *b, int type, cu_ptr from, const cu_rows_box *x,
                 cu_tensor_map *map);
/* Products of x16, whose taps see `reach` rows further, in large or small tiles, by groups of
 * warps; false: this device or these sizes have none. */
bool cu_launch_group(cu_run *r, const cu_tile_args *t, int32_t reach, bool large, int32_t parts);
/* Both products of a residual unit; false: the same. */
bool cu_launch_unit_group(cu_run *r, const cu_unit_args *u);

/* launch_*.c: one per kind of op. */
cu_launch_fn cu_launch_linear, cu_launch_rms_norm, cu_launch_layer_norm, cu_launch_swiglu,
    cu_launch_snake, cu_launch_act, cu_launch_scale, cu_launch_dwconv;
cu_launch_fn cu_launch_embed_sum, cu_launch_gather, cu_launch_gather_sum, cu_launch_copy_rows,
    cu_launch_copy_cols, cu_launch_angles, cu_launch_token_code, cu_launch_ring_put,
    cu_launch_ring_get, cu_launch_advance;
cu_launch_fn cu_launch_history, cu_launch_trim, cu_launch_reflect, cu_launch_pool;
cu_launch_fn cu_launch_qkv, cu_launch_attention, cu_launch_nearest, cu_launch_sample;
cu_launch_fn cu_launch_slot_ops; /* the step and those of its group */

#endif
