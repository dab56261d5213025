/* pool.c - the team of threads. A job's items are cut into one range per member. A range is one
 * atomic word, a ticket: its end in the high half, its next unclaimed item in the low half. Whoever
 * adds one to a ticket and gets a low half below the high half owns that item, and with it the
 * promise that the job's function and argument stay as they are: the caller publishes the next job
 * only when all items are done. Members start with their own range, so that the same part of one
 * job after another tends to meet the same core's caches, then help with the others' ranges. A
 * member that finds nothing watches its ticket for a while, then sleeps. */
#include "backends/cpu/pool.h"
#include "base/alloc.h"
#include "base/os.h"
#include <stdatomic.h>

enum {
    MAX_THREADS = 256,
    LINE = 64,           /* bytes of a cache line: words written by different threads lie apart */
    LOOKS_PER_CLOCK = 16 /* looks at the ticket between two looks at the clock */
};
/* How long an idle member watches before it sleeps. Longer than the serial parts inside a run,
 * shorter than what another program on the same core would notice. */
#define WATCH_SECONDS 60e-6

typedef struct member {
    ut_pool *pool;
    ut_thread *thread;
    int index;
} member;

typedef struct range {
    _Alignas(LINE) _Atomic uint64_t ticket;
} range;

struct ut_pool {
    _Alignas(LINE) _Atomic uint32_t n_done;
    _Alignas(LINE) ut_pool_fn *fn; /* of the published job */
    void *arg;
    uint32_t n_items;
    _Alignas(LINE) _Atomic int n_asleep; /* members, or the caller, waiting for the condition */
    _Atomic bool caller_asleep;
    _Atomic bool stop;
    ut_mutex *lock;
    ut_cond *work, *done; /* something was published; all items are done */
    int n_members;
    member *members; /* [n_members]; 0 is the caller */
    range *ranges;   /* [n_members] */
};

static bool has_items(uint64_t ticket)
{
    return (uint32_t)ticket < (uint32_t)(ticket >> 32);
}

/* Claim and do items of one range until it is empty, then report them. */
static void work_range(ut_pool *p, _Atomic uint64_t *ticket, int index)
{
    uint32_t n_mine = 0, n_items = 0;
    while (has_items(atomic_load_explicit(ticket, memory_order_relaxed))) {
        const uint64_t t = atomic_fetch_add_explicit(ticket, 1, memory_order_acquire);
        if (!has_items(t))
            break;
        n_items = p->n_items;
        p->fn(p->arg, (int32_t)(uint32_t)t, index);
        n_mine++;
    }
    if (n_mine == 0)
        return;
    const uint32_t before = atomic_fetch_add_explicit(&p->n_done, n_mine, memory_order_seq_cst);
    if (before + n_mine == n_items &&
        atomic_load_explicit(&p->caller_asleep, memory_order_seq_cst)) {
        ut_mutex_lock(p->lock);
        ut_cond_broadcast(p->done);
        ut_mutex_unlock(p->lock);
    }
}

static void work(ut_pool *p, int index)
{
    for (int i = index; i < p->n_members; i++)
        work_range(p, &p->ranges[i].ticket, index);
    for (int i = 0; i < index; i++)
        work_range(p, &p->ranges[i].ticket, index);
}

/* Watch the own ticket; true when there is something to claim or to stop for. */
static bool watch(ut_pool *p, int index)
{
    const double start = ut_time_now();
    do {
        for (int i = 0; i < LOOKS_PER_CLOCK; i++) {
            if (has_items(atomic_load_explicit(&p->ranges[index].ticket, memory_order_relaxed)) ||
                atomic_load_explicit(&p->stop, memory_order_relaxed))
                return true;
            ut_thread_pause();
        }
    } while (ut_time_now() - start < WATCH_SECONDS);
    return false;
}

static void sleep_for_work(ut_pool *p, int index)
{
    ut_mutex_lock(p->lock);
    atomic_fetch_add_explicit(&p->n_asleep, 1, memory_order_seq_cst);
    while (!has_items(atomic_load_explicit(&p->ranges[index].ticket, memory_order_seq_cst)) &&
           !atomic_load_explicit(&p->stop, memory_order_relaxed))
        ut_cond_wait(p->work, p->lock);
    atomic_fetch_sub_explicit(&p->n_asleep, 1, memory_order_seq_cst);
    ut_mutex_unlock(p->lock);
}

static void member_main(void *arg)
{
    member *m = arg;
    ut_pool *p = m->pool;
    while (!atomic_load_explicit(&p->stop, memory_order_relaxed)) {
        work(p, m->index);
        if (!watch(p, m->index))
            sleep_for_work(p, m->index);
    }
}

/* Wait until members have done their items: watching, then asleep, so that a member that shares
 * the caller's core can finish. */
static void wait_done(ut_pool *p, uint32_t n_items)
{
    const double start = ut_time_now();
    for (uint32_t i = 1;; i++) {
        if (atomic_load_explicit(&p->n_done, memory_order_acquire) == n_items)
            return;
        ut_thread_pause();
        if (i % LOOKS_PER_CLOCK == 0 && ut_time_now() - start > WATCH_SECONDS)
            break;
    }
    ut_mutex_lock(p->lock);
    atomic_store_explicit(&p->caller_asleep, true, memory_order_seq_cst);
    while (atomic_load_explicit(&p->n_done, memory_order_seq_cst) != n_items)
        ut_cond_wait(p->done, p->lock);
    atomic_store_explicit(&p->caller_asleep, false, memory_order_relaxed);
    ut_mutex_unlock(p->lock);
}

/* The caller's range is never empty. */
static uint64_t range_start(const ut_pool *p, int32_t n_items, int index)
{
    const uint64_t n = (uint64_t)p->n_members;
    return ((uint64_t)n_items * (uint64_t)index + n - 1) / n;
}

void ut_pool_run(ut_pool *p, ut_pool_fn *fn, void *arg, int32_t n_items, bool wake)
{
    if (n_items == 1 || p->n_members == 1) {
        for (int32_t i = 0; i < n_items; i++)
            fn(arg, i, 0);
        return;
    }
    p->fn = fn;
    p->arg = arg;
    p->n_items = (uint32_t)n_items;
    atomic_store_explicit(&p->n_done, 0, memory_order_relaxed);
    for (int i = p->n_members - 1; i >= 0; i--) {
        const uint64_t first = range_start(p, n_items, i), end = range_start(p, n_items, i + 1);
        atomic_store_explicit(&p->ranges[i].ticket, end << 32 | first, memory_order_seq_cst);
    }
    if (wake && atomic_load_explicit(&p->n_asleep, memory_order_seq_cst) > 0) {
        ut_mutex_lock(p->lock);
        ut_cond_broadcast(p->work);
        ut_mutex_unlock(p->lock);
    }
    work(p, 0);
    wait_done(p, (uint32_t)n_items);
}

int ut_pool_size(const ut_pool *p)
{
    return p->n_members;
}

utter_status ut_pool_new(ut_pool **out, int n_threads, ut_err *err)
{
    *out = NULL;
    if (n_threads < 1 || n_threads > MAX_THREADS)
        return ut_fail(err, UTTER_ERR_ARG, "threads is %d, expected 1..%d", n_threads,
                       (int)MAX_THREADS);
    ut_pool *p = ut_alloc_aligned(sizeof *p);
    if (!p)
        return ut_fail(err, UTTER_ERR_NOMEM, "thread pool: no memory");
    p->members = ut_calloc((size_t)n_threads, sizeof *p->members);
    p->ranges = ut_alloc_aligned((size_t)n_threads * sizeof *p->ranges);
    p->lock = ut_mutex_new();
    p->work = ut_cond_new();
    p->done = ut_cond_new();
    if (!p->members || !p->ranges || !p->lock || !p->work || !p->done) {
        ut_pool_free(p);
        return ut_fail(err, UTTER_ERR_NOMEM, "thread pool: no memory");
    }
    p->n_members = n_threads;
    for (int i = 1; i < n_threads; i++) {
        member *m = &p->members[i];
        m->pool = p;
        m->index = i;
        m->thread = ut_thread_start(member_main, m, i);
        if (!m->thread) {
            ut_pool_free(p);
            return ut_fail(err, UTTER_ERR_NOMEM, "thread pool: thread %d of %d does not start",
                           i + 1, n_threads);
        }
    }
    *out = p;
    return UTTER_OK;
}

void ut_pool_free(ut_pool *p)
{
    if (!p)
        return;
    if (p->n_members > 1) { /* the last thing that ut_pool_new sets before it starts threads */
        ut_mutex_lock(p->lock);
        atomic_store_explicit(&p->stop, true, memory_order_seq_cst);
        ut_cond_broadcast(p->work);
        ut_mutex_unlock(p->lock);
        for (int i = 1; i < p->n_members; i++)
            ut_thread_join(p->members[i].thread); /* NULL where it did not start */
    }
    ut_cond_free(p->done);
    ut_cond_free(p->work);
    ut_mutex_free(p->lock);
    ut_free_aligned(p->ranges);
    ut_free(p->members);
    ut_free_aligned(p);
}
