/* exec.h - the insides of the CPU backend: the opened device, states, and compiled plans as flat
 * lists of steps. compile.c makes the steps, steps_*.c run them, cpu.c is the backend's table. */
#ifndef UT_BACKENDS_CPU_EXEC_H
#define UT_BACKENDS_CPU_EXEC_H

#include "backends/backend.h"
#include "backends/cpu/kernels.h"
#include "backends/cpu/packed.h"
#include "backends/cpu/pool.h"

typedef struct cpu_backend {
    ut_backend head;
    ut_kernels k;
    ut_pool *pool;
    ut_precision precision;
    ut_packed_set packed;
} cpu_backend;

typedef struct cpu_state {
    ut_state head;
    char *memory;              /* all tensors of all slots */
    char *data[UT_STATE_MAX];  /* tensor i of slot 0 */
    size_t slot[UT_STATE_MAX]; /* bytes from one slot to the next */
} cpu_state;

typedef struct cpu_saved {
    ut_saved head;
    char *memory; /* the rows of one tensor after those of another */
} cpu_saved;

/* Where a tensor lies: [slots, lead + rows, cols] in the arena, or a state tensor. */
typedef struct cpu_place {
    char *base; /* first lead row of slot 0; NULL: state number `state` */
    int32_t state;
    int32_t rows_per_t, rows_fixed, cols;
    int64_t lead; /* elements before row 0 */
} cpu_place;

typedef struct cpu_run cpu_run;
typedef struct cpu_step cpu_step;
typedef void cpu_step_fn(const cpu_run *r, const cpu_step *s);

/* One op, ready to run: operands by address, weights in their packed form. */
struct cpu_step {
    cpu_step_fn *fn;
    const ut_op *op;
    cpu_place in[6], out[2];
    bool has_in[6], has_out[2];
    const ut_packed *w[5];
    const ut_packed *inverse; /* 1 / (beta + 1e-9) of a snake; -|row|^2 / 2 of a table */
    const float *table;       /* what compile() computed for the op: rope frequencies */
};

typedef struct cpu_exec {
    ut_exec head;
    int n_slots;
    int32_t max_t, last_t; /* last_t: of the last run */
    char *arena;
    size_t arena_bytes;
    cpu_step *steps; /* [n_steps] */
    int32_t n_steps;
    cpu_place *places;  /* [n_tensors] */
    ut_packed **packed; /* references to give back */
    size_t n_packed, cap_packed;
    float *tables;
    char *scratch; /* per member of the pool */
    size_t scratch_bytes;
    char *gathered; /* for outputs whose slots do not lie together */
} cpu_exec;

struct cpu_run {
    cpu_backend *b;
    cpu_exec *e;
    cpu_state *s;
    int first_slot;
    int32_t n_t;
};

/* Below SHARE_NS a job is not worth telling other threads about; above WAKE_NS it is worth waking
 * them. Guesses of cost are in nanoseconds of one thread. */
#define SHARE_NS 3000.0
#define WAKE_NS  30000.0

/* Query rows that one piece of an attention takes through the caches together. */
enum { CPU_ATTENTION_ROWS = 16 };

static inline int32_t place_rows(const cpu_place *p, int32_t n_t)
{
    return p->rows_per_t * n_t + p->rows_fixed;
}

/* Row 0 of a slot of the run. Elements of the arena have 4 bytes. */
static inline void *place_row0(const cpu_run *r, const cpu_place *p, int slot)
{
    if (!p->base)
        return r->s->data[p->state] + (size_t)(r->first_slot + slot) * r->s->slot[p->state];
    const int64_t stride = p->lead + (int64_t)place_rows(p, r->n_t) * p->cols;
    return p->base + 4 * (slot * stride + p->lead);
}

/* Do the rows of all slots lie one after another? */
static inline bool place_joined(const cpu_run *r, const cpu_place *p)
{
    return r->e->n_slots == 1 || (p->base && p->lead == 0);
}

static inline void *member_scratch(const cpu_run *r, int member)
{
    return r->e->scratch + (size_t)member * r->e->scratch_bytes;
}

/* The first position that a step's rows stand at: first_pos + the state, never negative. */
static inline int32_t first_position(const cpu_run *r, const cpu_step *s, int in, int slot,
                                     int32_t first_pos)
{
    int64_t pos = first_pos;
    if (s->has_in[in])
        pos += *(const int32_t *)place_row0(r, &s->in[in], slot);
    return pos < 0 ? 0 : pos > INT32_MAX / 2 ? INT32_MAX / 2 : (int32_t)pos;
}

/* Rows [row0, row1) of a slot; when slots were joined, of all slots as one. */
typedef void cpu_rows_fn(const cpu_run *r, const cpu_step *s, int slot, int32_t row0, int32_t row1,
                         int member);

/* Do the rows of a step's output, shared out among the threads when they cost enough. ns_per_row:
 * a guess. joined: rows of all slots may be counted through. */
void cpu_for_rows(const cpu_run *r, const cpu_step *s, cpu_rows_fn *fn, int32_t rows,
                  double ns_per_row, bool joined);

/* steps_*.c */
cpu_step_fn cpu_run_embed_sum, cpu_run_gather, cpu_run_gather_sum, cpu_run_copy_rows,
    cpu_run_copy_cols, cpu_run_token_code, cpu_run_ring_put, cpu_run_ring_get, cpu_run_advance,
    cpu_run_rope_angles;
cpu_step_fn cpu_run_conv_history, cpu_run_trim, cpu_run_reflect, cpu_run_pool;
cpu_step_fn cpu_run_linear, cpu_run_rms_norm, cpu_run_layer_norm, cpu_run_swiglu, cpu_run_snake,
    cpu_run_act, cpu_run_scale, cpu_run_dwconv;
cpu_step_fn cpu_run_qkv, cpu_run_attention;
cpu_step_fn cpu_run_nearest, cpu_run_sample;

/* compile.c */
utter_status cpu_compile(ut_backend *b, const ut_plan *plan, int n_slots, int32_t max_t,
                         ut_exec **out, ut_err *err);
void cpu_exec_free(ut_exec *e);

#endif
