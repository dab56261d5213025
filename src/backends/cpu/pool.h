/* pool.h - a fixed team of threads that share out the items of one job after another. The calling
 * thread is a member. Nothing is allocated per job, and a member that the system has taken off its
 * core delays nobody unless it holds an item. */
#ifndef UT_BACKENDS_CPU_POOL_H
#define UT_BACKENDS_CPU_POOL_H

#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>

typedef struct ut_pool ut_pool;

/* Do item `item` (0 <= item < n_items) as member `member` (0 <= member < ut_pool_size). */
typedef void ut_pool_fn(void *arg, int32_t item, int member);

/* n_threads members, the caller included; the others stay on one core each. */
utter_status ut_pool_new(ut_pool **out, int n_threads, ut_err *err);
void ut_pool_free(ut_pool *p); /* NULL is fine */
int ut_pool_size(const ut_pool *p);

/* Run all items and return when they are done. One caller at a time. What the caller wrote before
 * is visible to every item, what items wrote is visible to the caller after. wake: get sleeping
 * members up for it; without, only those that are still watching for work help. */
void ut_pool_run(ut_pool *p, ut_pool_fn *fn, void *arg, int32_t n_items, bool wake);

#endif
