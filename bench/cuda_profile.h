/* cuda_profile.h - where the time of a plan goes: its operations, one by one on the device. */
#ifndef UT_BENCH_CUDA_PROFILE_H
#define UT_BENCH_CUDA_PROFILE_H

#include "backends/backend.h"

/* Run slot 0 of s twice at n_t steps, time the second run's operations each by itself, and print
 * them, those alike together, the slowest first. */
utter_status cuda_profile(const char *title, ut_exec *e, ut_state *s, int32_t n_t, ut_err *err);

/* Run a frame that is one kernel, and print its phases as one block sees them: ticks by what a
 * phase does. Nothing where frames run otherwise. */
utter_status cuda_trace_frame(ut_exec *exec, ut_state *s, ut_err *err);

#endif
