/* build.h - what plan.c and ops.c share: appending to a plan under construction. */
#ifndef UT_PLAN_BUILD_H
#define UT_PLAN_BUILD_H

#include "plan/plan.h"

/* Keep the first failure; later ones are ignored. */
void ut_build_fail(ut_plan *p, const char *fmt, ...) UT_PRINTF(2, 3);

/* Append; UT_NONE or NULL when out of memory (recorded). A pointer into the plan is valid until
 * the next append. */
ut_tid ut_build_tensor(ut_plan *p, const ut_tensor *t);
ut_op *ut_build_op(ut_plan *p, ut_op_kind kind);

/* A temporary with the rows of another tensor. */
ut_tid ut_build_temp(ut_plan *p, ut_tid like_rows, ut_dtype dtype, int32_t cols);

/* An op of this kind that reads x and writes a new f32 tensor like x in rows. */
ut_op *ut_build_rowwise(ut_plan *p, ut_op_kind kind, ut_tid x, int32_t cols);

/* Checks; a failure is recorded as "OP: WHAT". */
bool ut_build_need(ut_plan *p, bool ok, const char *op, const char *what);
bool ut_build_same_rows(const ut_tensor *a, const ut_tensor *b);
/* A state of this type and width, of at least min_rows. */
bool ut_build_state_ok(ut_plan *p, ut_tid t, ut_dtype dtype, int32_t min_rows, int32_t cols,
                       const char *op);

/* The tensor, or NULL (recorded) for UT_NONE. */
const ut_tensor *ut_build_get(ut_plan *p, ut_tid t);

#endif
