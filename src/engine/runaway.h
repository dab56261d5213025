/* runaway.h - speech that has run away: nothing but the same codes again, or nothing but silence,
 * for longer than speech ever does. The model will not say that it is over; the engine does. */
#ifndef UT_ENGINE_RUNAWAY_H
#define UT_ENGINE_RUNAWAY_H

#include <stdbool.h>
#include <stdint.h>

enum { UT_RUNAWAY_PERIODS = 16 };

typedef struct ut_runaway {
    int32_t limit;                       /* frames that are too many; 0: there is no limit */
    int32_t repeats[UT_RUNAWAY_PERIODS]; /* [p - 1]: last frames whose first code is that of the
                                            frame p before */
    int32_t silent;                      /* last frames without sound */
} ut_runaway;

void ut_runaway_start(ut_runaway *r, int32_t limit);

/* The frames' first codes are codes[0], codes[n_codebooks], ...: is frame number `frame`, the next
 * one, the last of too many that repeat those of up to UT_RUNAWAY_PERIODS frames before? */
bool ut_runaway_repeats(ut_runaway *r, const int32_t *codes, int32_t n_codebooks, int32_t frame);

/* The next n frames' samples [n * hop]: how many frames there are up to the last of too many silent
 * ones; n + 1 while it is not so. */
int32_t ut_runaway_silence(ut_runaway *r, const float *pcm, int32_t n, int32_t hop);

#endif
