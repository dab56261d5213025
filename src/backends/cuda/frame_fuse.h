/* frame_fuse.h - what is known while a plan becomes phases: frame_fuse.c finds them, frame_mail.c
 * says what goes from one to the other by mail, and where all have to wait. */
#ifndef UT_BACKENDS_CUDA_FRAME_FUSE_H
#define UT_BACKENDS_CUDA_FRAME_FUSE_H

#include "backends/cuda/frame.h"

typedef struct fuser {
    const cu_exec *e;
    const ut_plan *p;
    cu_frame *f;
    int32_t *norm_of;  /* [n_tensors] the norm that made it and was left to its readers, or -1 */
    ut_tid *source;    /* [n_tensors] whose last row it is, where mail has both, or UT_NONE */
    bool *taken;       /* [n_ops] part of an earlier phase */
    bool *after;       /* [n_tensors] what follows_attention has met */
    int32_t n_waiting; /* the last slot_ops, not in a phase yet */
    int32_t plain_x;   /* floats of x that attention in plain arithmetic needs */
} fuser;

static inline ut_tid root(const fuser *x, ut_tid t)
{
    return t == UT_NONE ? UT_NONE : ut_plan_root(x->p, t);
}

static inline bool reads(const fuser *x, const ut_op *op, ut_tid t)
{
    for (int i = 0; i < 6; i++)
        if (op->in[i] != UT_NONE && root(x, op->in[i]) == t)
            return true;
    return false;
}

/* States among the operands may be written, too: caches, histories. */
static inline bool writes(const fuser *x, const ut_op *op, ut_tid t)
{
    for (int i = 0; i < 2; i++)
        if (op->out[i] != UT_NONE && root(x, op->out[i]) == t)
            return true;
    if (op->kind == UT_OP_QKV)
        return root(x, op->in[2]) == t || root(x, op->in[3]) == t;
    if (op->kind == UT_OP_SAMPLE)
        return root(x, op->in[4]) == t;
    return op->kind == UT_OP_RING_PUT && x->p->tensors[t].role == UT_STATE && reads(x, op, t);
}

static inline bool written_between(const fuser *x, ut_tid t, int32_t first, int32_t last)
{
    for (int32_t i = first + 1; i < last; i++)
        if (writes(x, &x->p->ops[i], root(x, t)))
            return true;
    return false;
}

static inline bool is_temp(const fuser *x, ut_tid t)
{
    return x->p->tensors[t].role == UT_TEMP;
}

/* Fills f->mail and what phases say of barriers and mail; all phases are there. frame_mail.c */
void cu_arrange_mail(fuser *x);

#endif
