/* arena.c - the memory that plans work in. What a plan is compiled for - slots and steps - may
 * differ from exec to exec, but their runs take turns: one that fits works in the memory of another
 * one. */
#include "backends/cuda/exec.h"
#include "base/alloc.h"

utter_status cu_arena_get(cu_exec *e, size_t bytes, size_t *added, ut_err *err)
{
    cu_backend *b = (cu_backend *)e->head.backend;
    const ut_plan *plan = e->head.plan;
    *added = 0;
    for (cu_arena *a = b->arenas; a; a = a->next)
        if (a->plan == plan && a->bytes >= bytes) {
            a->users++;
            e->arena = a;
            return UTTER_OK;
        }
    cu_arena *a = ut_calloc(1, sizeof *a);
    if (!a)
        return ut_fail(err, UTTER_ERR_NOMEM, "plan %s: no memory to compile it", plan->name);
    const utter_status st = cu_alloc(b, bytes, &a->memory, err, "plan %s for %d steps of %d slots",
                                     plan->name, (int)e->max_t, e->n_slots);
    if (st != UTTER_OK) {
        ut_free(a);
        return st;
    }
    a->plan = plan;
    a->bytes = *added = bytes;
    a->users = 1;
    a->next = b->arenas;
    b->arenas = e->arena = a;
    return UTTER_OK;
}

void cu_arena_release(cu_exec *e)
{
    cu_backend *b = (cu_backend *)e->head.backend;
    cu_arena *a = e->arena;
    if (!a)
        return;
    e->arena = NULL;
    if (a->last == e)
        a->last = NULL;
    if (--a->users > 0)
        return;
    cu_arena **at = &b->arenas;
    while (*at != a)
        at = &(*at)->next;
    *at = a->next;
    cu_free(b, a->memory);
    ut_free(a);
}
