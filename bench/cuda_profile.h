/* cuda_profile.h - where the time of a plan goes: its operations, one by one on the device. */
#ifndef UT_BENCH_CUDA_PROFILE_H
#define UT_BENCH_CUDA_PROFILE_H

#include "backends/backend.h"

/* Run slot 0 of s twice at n_t steps, time the second run's operations each by itself, and print
 * them, those alike together, the slowest first. */
utter_status cuda_profile(const char *title, ut_exec *e, ut_state *s, int32_t n_t, ut_err *err);

/* The phases of a frame that runs as one kernel, the longest first; nothing where it does not. */
utter_status cuda_profile_phases(ut_exec *e, ut_state *s, ut_err *err);

#endif
