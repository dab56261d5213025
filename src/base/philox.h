/* philox.h - Philox4x32-10 (Salmon et al., SC'11): random numbers as a pure function of a key and
 * a counter, the same on every backend. */
#ifndef UT_BASE_PHILOX_H
#define UT_BASE_PHILOX_H

#include <stdint.h>

/* out[4] = Philox4x32-10(counter[4], key[2]). */
void ut_philox4x32(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);

/* Uniform in (0, 1): the 23 high bits plus one half, over 2^23; exact, never 0 and never 1. */
static inline float ut_philox_uniform(uint32_t u)
{
    return ((float)(u >> 9) + 0.5f) * (1.0f / 8388608.0f);
}

#endif
