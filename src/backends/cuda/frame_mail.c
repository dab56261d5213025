/* frame_mail.c - what goes from phase to phase of a frame as mail, who looks for it until it is
 * there, and where all blocks have to wait for each other. */
#include "backends/cuda/frame_fuse.h"
#include <string.h>

/* Is phase f a decision of one slot, whose logits can come by mail, and what follows from it alone,
 * by the same block? Then *looked_up is a tensor that it makes for others, or none. */
static bool decides(const fuser *x, const cu_fused *f, ut_tid *looked_up)
{
    bool ends = false; /* counters move, which others may read */
    *looked_up = UT_NONE;
    for (int32_t i = 0; i < f->count; i++) {
        const int32_t number = x->f->slot_ops[f->first + i];
        const ut_op *op = &x->p->ops[number];
        const bool end = op->kind == UT_OP_RING_PUT || op->kind == UT_OP_ADVANCE;
        const bool later = end || op->kind == UT_OP_TOKEN_CODE || op->kind == UT_OP_GATHER;
        if (x->e->n_slots > 1 || !(i == 0 ? op->kind == UT_OP_SAMPLE : later) ||
            x->f->apart[f->first + i])
            return false;
        ends = ends || end;
        if (op->kind != UT_OP_GATHER)
            continue;
        const ut_tid y = op->out[0];
        if (*looked_up != UT_NONE || x->p->tensors[op->in[0]].role != UT_STATE || !is_temp(x, y) ||
            x->p->tensors[y].rows_fixed != 1 || op->u.gather.n_cols != 1 ||
            (x->e->steps[number].w[0]->ld | x->p->tensors[y].cols) % 8 != 0 ||
            written_between(x, y, -1, number) || written_between(x, y, number, x->p->n_ops))
            return false;
        *looked_up = y;
    }
    return f->count > 0 && !(ends && *looked_up != UT_NONE);
}

/* What phase f makes: one tensor, or none that others could wait for by itself. */
static ut_tid made_by(const fuser *x, const cu_fused *f)
{
    const ut_op *ops = x->p->ops;
    ut_tid looked_up;
    if (f->kind == CU_PHASE_SLOTS)
        return decides(x, f, &looked_up) ? looked_up : UT_NONE;
    if (f->kind == CU_PHASE_LINEAR)
        return ops[f->swiglu >= 0 ? f->swiglu : f->linear].out[0];
    return f->kind == CU_PHASE_ATTENTION ? ops[f->attention].out[0] : UT_NONE;
}

/* What phase f takes from others: two tensors at most. */
static void taken_by(const fuser *x, const cu_fused *f, ut_tid t[2])
{
    const ut_op *ops = x->p->ops;
    ut_tid looked_up;
    t[0] = t[1] = UT_NONE;
    if (f->kind == CU_PHASE_SLOTS && decides(x, f, &looked_up))
        t[0] = ops[x->f->slot_ops[f->first]].in[0];
    if (f->kind == CU_PHASE_LINEAR) {
        t[0] = ops[f->norm >= 0 ? f->norm : f->linear].in[0];
        t[0] = x->source[t[0]] != UT_NONE ? x->source[t[0]] : t[0];
        t[1] = ops[f->linear].in[1];
    } else if (f->kind == CU_PHASE_ATTENTION) {
        t[0] = ops[f->qkv].in[0];
    }
}

/* Does a phase before number n make tensor t, or what t is a view of? */
static bool made_before(const fuser *x, int32_t n, ut_tid t)
{
    for (int32_t i = 0; i < n; i++) {
        const ut_tid made = made_by(x, &x->f->phases[i]);
        if (made != UT_NONE && root(x, made) == root(x, t))
            return true;
    }
    return false;
}

/* Does attention phase `second` take what needs all that attention phase `first` made? If not, it
 * may be at work while others still do the first, and their parts share memory. A product needs all
 * of its x, of a residual it needs its own outputs only. */
static bool follows_attention(const fuser *x, int32_t first, int32_t second)
{
    const cu_fused *phases = x->f->phases;
    ut_tid taken[2];
    memset(x->after, 0, (size_t)x->p->n_tensors * sizeof *x->after);
    x->after[root(x, made_by(x, &phases[first]))] = true;
    for (int32_t i = first + 1; i < second; i++) {
        if (phases[i].barrier)
            return true;
        taken_by(x, &phases[i], taken);
        const ut_tid made = made_by(x, &phases[i]);
        if (made != UT_NONE && taken[0] != UT_NONE && x->after[root(x, taken[0])])
            x->after[root(x, made)] = true;
    }
    taken_by(x, &phases[second], taken);
    return phases[second].barrier || x->after[root(x, taken[0])];
}

/* Does slot operation op take t, logits, as mail? */
static bool decides_by_mail(const fuser *x, const ut_op *op, ut_tid t)
{
    return op->kind == UT_OP_SAMPLE && x->e->n_slots == 1 && op->in[0] == t;
}

/* Does only mail carry t, what a phase made, to those who read it? */
static bool goes_by_mail(const fuser *x, ut_tid t)
{
    const cu_frame *f = x->f;
    if (!is_temp(x, root(x, t)) || f->mail[t] == SIZE_MAX)
        return false;
    for (int32_t i = 0; i < f->n_slot_ops; i++) {
        const ut_op *op = &x->p->ops[f->slot_ops[i]];
        if (reads(x, op, root(x, t)) && !decides_by_mail(x, op, t))
            return false;
    }
    for (int32_t i = 0; i < f->n_phases; i++) {
        ut_tid taken[2];
        taken_by(x, &f->phases[i], taken);
        for (int k = 0; k < 2; k++)
            if (taken[k] != UT_NONE && root(x, taken[k]) == root(x, t) &&
                f->mail[taken[k]] == SIZE_MAX)
                return false;
    }
    return true;
}

/* Does phase i take all of what the phase before it made, which is nowhere but in the mail? */
static bool follows_by_mail(const fuser *x, int32_t i)
{
    const cu_fused *phase = &x->f->phases[i];
    ut_tid taken[2];
    taken_by(x, phase, taken);
    return i > 0 && taken[0] != UT_NONE && taken[0] == made_by(x, phase - 1) &&
           goes_by_mail(x, taken[0]);
}

/* Products and attention send their results to those that read them, unless a view stands between
 * them, and so do decisions of one slot what they look up; all else is ordered by barriers. A
 * decision needs none either while each phase since the last barrier follows the one before by
 * mail: its logits are there when all blocks are done with those phases. */
void cu_arrange_mail(fuser *x)
{
    cu_frame *f = x->f;
    int32_t attention = -1; /* the phase before that was one */
    bool chain = true;      /* of phases since the last barrier */
    for (ut_tid t = 0; t < x->p->n_tensors; t++)
        f->mail[t] = SIZE_MAX;
    for (int32_t i = 0; i < f->n_phases; i++) {
        cu_fused *phase = &f->phases[i];
        const ut_tid made = made_by(x, phase);
        ut_tid taken[2];
        taken_by(x, phase, taken);
        chain = chain && (i == 0 || follows_by_mail(x, i));
        phase->barrier =
            i > 0 && !chain && (phase->kind == CU_PHASE_SLOTS || phase[-1].kind == CU_PHASE_SLOTS);
        for (int k = 0; k < 2; k++)
            if (taken[k] != UT_NONE && f->mail[taken[k]] == SIZE_MAX)
                phase->barrier = phase->barrier || made_before(x, i, taken[k]);
        if (phase->kind == CU_PHASE_ATTENTION) {
            phase->barrier =
                phase->barrier || (attention >= 0 && !follows_attention(x, attention, i));
            attention = i;
        }
        chain = chain || phase->barrier;
        if (made == UT_NONE || x->p->tensors[made].role == UT_VIEW)
            continue;
        const ut_tensor *m = &x->p->tensors[made];
        f->mail[made] = f->mail_bytes;
        f->mail_bytes +=
            (sizeof(cu_mail) * (size_t)m->rows_fixed * (size_t)m->cols * (size_t)x->e->n_slots +
             255) /
            256 * 256;
        for (ut_tid t = 0; t < x->p->n_tensors; t++)
            if (x->source[t] == made)
                f->mail[t] =
                    f->mail[made] + sizeof(cu_mail) * (size_t)(m->rows_fixed - 1) * (size_t)m->cols;
    }
    for (int32_t i = 0; i < f->n_phases; i++) {
        const ut_tid made = made_by(x, &f->phases[i]);
        f->phases[i].mail_only = made != UT_NONE && goes_by_mail(x, made);
    }
}
